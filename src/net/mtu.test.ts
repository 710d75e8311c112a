import { expect, test } from 'vitest';
import { exceedsMtu } from './mtu.ts';
import { Gso, type Packet } from './packet.ts';
import { PacketPool } from './pool.ts';

const pool = new PacketPool({ packets: 1, bufferBytes: 4096 });

/** A frame with these tags that is as long as said. */
function framed(length: number, ...tpids: number[]): Packet {
  const packet = pool.allocate();
  if (packet === null) throw new Error('a test kept its packet');
  packet.bytes.fill(0, packet.offset, packet.offset + length);
  [...tpids, 0x0800].forEach((type, i) => {
    packet.bytes[packet.offset + 12 + i * 4] = type >> 8;
    packet.bytes[packet.offset + 13 + i * 4] = type & 0xff;
  });
  packet.length = length;
  return packet;
}

test.each([
  ['an untagged frame', 1518, []],
  ['a frame with a customer tag', 1522, [0x8100]],
  ['a frame with a service tag', 1522, [0x88a8]],
  ['a full-size QinQ frame', 1522, [0x88a8, 0x8100]],
  ['three tags of which two count', 1522, [0x88a8, 0x8100, 0x8100]],
])('%s fits an MTU of 1500 up to %i bytes, as in the Linux bridge', (_, longest, tpids) => {
  for (const [length, isTooLong] of [
    [longest, false],
    [longest + 1, true],
  ] as const) {
    const packet = framed(length, ...tpids);
    expect(exceedsMtu(packet, 1500)).toBe(isTooLong);
    packet.release();
  }
});

test('a super-packet is never too long: it is cut later', () => {
  const packet = framed(3000);
  packet.gsoType = Gso.TCPV4;
  expect(exceedsMtu(packet, 1500)).toBe(false);
  packet.release();
});
