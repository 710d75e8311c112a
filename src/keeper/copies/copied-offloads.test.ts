import { expect, test } from 'vitest';
import {
  Checksum,
  Gso,
  HeaderOffsets,
  IpProtocol,
  Packet,
  pseudoHeaderSum4,
  pseudoHeaderSum6,
  Region,
} from '../../net/index.ts';
import { randomFrame } from '../../net/match/testing.ts';
import { fuzzRounds, randomNumbers } from '../../net/wire/testing.ts';
import { noteOffloads } from './copied-offloads.ts';

function packetOf(bytes: Uint8Array): Packet {
  const packet = new Packet({ recycle() {} }, new Region(bytes.slice().buffer), 0);
  packet.length = bytes.length;
  return packet;
}

/** A segment of TCP or a datagram of UDP, with the checksum that is yet to be completed. */
function partial(version: 4 | 6, protocol: number, payloadBytes: number): Uint8Array {
  const transport = version === 4 ? 34 : 54;
  const transportBytes = (protocol === IpProtocol.TCP ? 20 : 8) + payloadBytes;
  const bytes = new Uint8Array(transport + transportBytes);
  bytes.set(version === 4 ? [8, 0, 0x45] : [0x86, 0xdd, 0x60], 12);
  const total = version === 4 ? transportBytes + 20 : transportBytes;
  bytes.set([total >> 8, total & 0xff], version === 4 ? 16 : 18);
  bytes[version === 4 ? 23 : 20] = protocol;
  bytes.set([10, 0, 0, 1, 10, 0, 0, 2], version === 4 ? 26 : 22);
  if (protocol === IpProtocol.TCP) bytes[transport + 12] = 0x50;
  else bytes.set([transportBytes >> 8, transportBytes & 0xff], transport + 4);
  const sum =
    version === 4
      ? pseudoHeaderSum4(bytes, 26, protocol, transportBytes)
      : pseudoHeaderSum6(bytes, 22, protocol, transportBytes);
  bytes.set([sum >> 8, sum & 0xff], transport + (protocol === IpProtocol.TCP ? 16 : 6));
  return bytes;
}

test.each([
  [4, IpProtocol.TCP, Gso.TCPV4],
  [6, IpProtocol.TCP, Gso.TCPV6],
  [4, IpProtocol.UDP, Gso.UDP_L4],
  [6, IpProtocol.UDP, Gso.UDP_L4],
] as const)('of IPv%i, protocol %i: a partial checksum is known by what is in its place', (version, protocol, gso) => {
  const bytes = partial(version, protocol, 100);
  const packet = packetOf(bytes);
  noteOffloads(packet, false);
  const checksumOffset = protocol === IpProtocol.TCP ? 16 : 6;
  const checksumStart = version === 4 ? 34 : 54;
  expect(packet).toMatchObject({ checksum: Checksum.PARTIAL, checksumStart, checksumOffset, gsoType: Gso.NONE });
  noteOffloads(packet, true);
  expect(packet).toMatchObject({ checksum: Checksum.PARTIAL, gsoType: gso });
  packet.bytes[checksumStart + checksumOffset] ^= 1;
  noteOffloads(packet, false);
  expect(packet).toMatchObject({ checksum: Checksum.UNKNOWN, gsoType: Gso.NONE });
  const cut = packetOf(bytes.subarray(0, checksumStart + 30));
  noteOffloads(cut, true);
  expect(cut.checksum).toBe(Checksum.UNKNOWN);
  expect(cut.gsoType).not.toBe(Gso.NONE);
});

test('whatever the bytes are, what is said of them lies within them', () => {
  const random = randomNumbers(3);
  const rounds = fuzzRounds(3000);
  const headers = new HeaderOffsets();
  for (let round = 0; round < rounds; round += 1) {
    const frame = randomFrame(random);
    const packet = packetOf(frame.subarray(0, random(frame.length + 1)));
    noteOffloads(packet, round % 2 === 0);
    expect(packet.gsoType !== Gso.NONE).toBe(round % 2 === 0);
    if (packet.checksum !== Checksum.PARTIAL) continue;
    headers.parse(packet);
    expect(packet.checksumStart).toBe(headers.l4Offset);
    expect(packet.checksumStart + packet.checksumOffset + 2).toBeLessThanOrEqual(packet.length);
  }
});
