import { expect, test } from 'vitest';
import {
  Checksum,
  Gso,
  internetChecksum,
  MemoryAdapter,
  type Packet,
  PacketPool,
  pseudoHeaderSum4,
  Refusal,
  Sink,
  TagAction,
} from '../../net/index.ts';
import { DropReason } from '../../switch/index.ts';
import { PortBackend } from './backend.ts';

const HEADERS = 54;

/** A TCP packet over IPv4 whose checksum is still to be completed; with a segment size it is a super-packet. */
function tcpPacket(pool: PacketPool, payloadBytes: number, segmentBytes: number): Packet {
  const packet = pool.allocate();
  if (packet === null) throw new Error('the pool is empty');
  const frame = Buffer.alloc(HEADERS + payloadBytes, 0x61);
  frame.write('0200000000020200000000010800', 'hex');
  frame.write('45000000000140004006000', 14, 'hex');
  frame.writeUInt16BE(40 + payloadBytes, 16);
  frame.writeUInt16BE(0, 24);
  frame.write('0a0000010a000002', 26, 'hex');
  frame.writeUInt16BE(internetChecksum(frame, 14, 20), 24);
  frame.write('13880050000000010000000250100100', 34, 'hex');
  frame.writeUInt32BE(0, 50);
  const pseudo = pseudoHeaderSum4(frame, 26, 6, 20 + payloadBytes);
  frame.writeUInt16BE((pseudo & 0xffff) + (pseudo >>> 16), 50);
  packet.bytes.set(frame, packet.offset);
  packet.length = frame.length;
  packet.checksum = Checksum.PARTIAL;
  packet.checksumStart = 34;
  packet.checksumOffset = 16;
  if (segmentBytes > 0) {
    packet.gsoType = Gso.TCPV4;
    packet.gsoSizeBytes = segmentBytes;
    packet.headerLengthBytes = HEADERS;
  }
  return packet;
}

/** Whether the TCP checksum of a frame is right. */
function isSummed(frame: Uint8Array): boolean {
  const bytes = frame.slice();
  const claimed = (bytes[50] << 8) | bytes[51];
  bytes.fill(0, 50, 52);
  const length = bytes.length - 34;
  const whole = new Uint8Array(12 + length);
  whole.set(bytes.subarray(26, 34));
  whole[9] = 6;
  whole[10] = length >> 8;
  whole[11] = length;
  whole.set(bytes.subarray(34), 12);
  return internetChecksum(whole, 0, whole.length) === claimed;
}

function setUp(offloads: number) {
  const adapter = new MemoryAdapter({ name: 'm', offloads, sink: Sink.KEEP });
  const backend = new PortBackend();
  backend.adapter = adapter;
  return { adapter, backend, pool: new PacketPool({ packets: 8, bufferBytes: 66_000 }) };
}

test('an adapter that takes everything gets packets as they are', () => {
  const { adapter, backend, pool } = setUp(15);
  const packet = tcpPacket(pool, 5000, 1000);
  backend.transmit(packet, TagAction.KEEP);
  backend.flush();
  expect(adapter.takeTransmitted()).toMatchObject([{ gsoType: Gso.TCPV4, checksum: Checksum.PARTIAL }]);
  packet.release();
});

test('a super-packet leaves in segments with whole checksums where the adapter cannot cut it', () => {
  const { adapter, backend, pool } = setUp(0);
  const packet = tcpPacket(pool, 5000, 1000);
  backend.transmit(packet, TagAction.KEEP);
  backend.flush();
  const frames = adapter.takeTransmitted();
  expect(frames).toHaveLength(5);
  expect(
    frames.every(({ frame, gsoType }) => gsoType === Gso.NONE && frame.length === HEADERS + 1000 && isSummed(frame)),
  ).toBe(true);
  expect(packet.gsoType).toBe(Gso.TCPV4);
  packet.release();
});

test('a checksum is completed in a copy: the packet may be on its way to others', () => {
  const { adapter, backend, pool } = setUp(0);
  const packet = tcpPacket(pool, 100, 0);
  const before = Buffer.from(packet.frame()).toString('hex');
  backend.transmit(packet, TagAction.KEEP);
  backend.flush();
  const [sent] = adapter.takeTransmitted();
  expect(sent.checksum).toBe(Checksum.UNKNOWN);
  expect(isSummed(sent.frame)).toBe(true);
  expect(Buffer.from(packet.frame()).toString('hex')).toBe(before);
  packet.release();
});

test('more segments than there are buffers for go out in turns, and buffers come back', () => {
  const { adapter, backend, pool } = setUp(0);
  let sent = 0;
  for (let round = 0; round < 5; round += 1) {
    const packets = Array.from({ length: 4 }, () => tcpPacket(pool, 60_000, 400));
    for (const packet of packets) backend.transmit(packet, TagAction.KEEP);
    backend.flush();
    for (const packet of packets) packet.release();
    sent += adapter.takeTransmitted().length;
  }
  expect(sent).toBe(5 * 4 * 150);
  expect(backend.refused.frames).toBe(0);
});

test('what cannot be finished, or finds no adapter, is counted', () => {
  const { adapter, backend, pool } = setUp(0);
  const packet = tcpPacket(pool, 5000, 1000);
  packet.checksumStart = 20;
  backend.transmit(packet, TagAction.KEEP);
  backend.flush();
  expect(adapter.takeTransmitted()).toHaveLength(0);
  expect(backend.refused.frames).toBe(1);
  backend.adapter = null;
  backend.transmit(packet, TagAction.KEEP);
  backend.flush();
  expect(backend.refused.frames).toBe(2);
  expect([...backend.refused.reasons]).toEqual([
    [DropReason.BAD_OFFLOAD, 1],
    [DropReason.NIC_NOT_CONNECTED, 1],
  ]);
  packet.release();
});

test.each([
  [Refusal.DOWN, DropReason.NIC_DOWN],
  [Refusal.TOO_LONG, DropReason.EXCEEDS_MTU],
  [Refusal.QUEUE_FULL, DropReason.NIC_QUEUE_FULL],
  [Refusal.REJECTED, DropReason.NIC_FAILED],
])('what an adapter refuses (%d) has a reason of the switch, and another adapter begins anew', (refusal, reason) => {
  const { adapter, backend } = setUp(0);
  adapter.onRefused?.(refusal, 3, 300);
  expect([backend.refused.frames, backend.refused.bytes, backend.refused.reasons.get(reason)]).toEqual([3, 300, 3]);
  backend.adapter = null;
  expect(adapter.onRefused).toBe(null);
});
