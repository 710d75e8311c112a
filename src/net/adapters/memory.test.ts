import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Offload, TagAction } from '../adapter.ts';
import { Batch } from '../batch.ts';
import { Checksum, Gso } from '../packet.ts';
import { PacketPool } from '../pool.ts';
import { GeneratorAdapter } from './generator.ts';
import { MemoryAdapter, Sink } from './memory.ts';

function frameOf(length: number, fill = 7): Uint8Array {
  const frame = new Uint8Array(length).fill(fill);
  frame.set([8, 0], 12);
  return frame;
}

/** A packet of a pool of its own. */
function packetOf(frame: Uint8Array) {
  const pool = new PacketPool({ packets: 1, bufferBytes: 70_000 });
  const packet = pool.allocate();
  if (packet === null) throw new Error('a fresh pool is empty');
  packet.bytes.set(frame, packet.offset);
  packet.length = frame.length;
  return packet;
}

function takeFrames(adapter: MemoryAdapter, limit = 1000): Uint8Array[] {
  const batch = new Batch();
  adapter.receive(batch, limit);
  const frames = batch.packets.slice(0, batch.count).map((packet) => packet.frame().slice());
  batch.releaseAll();
  return frames;
}

test('what one end of a cable transmits the other receives, after the flush, in order and whole', () => {
  const [left, right] = MemoryAdapter.pair({ name: 'left' }, { name: 'right', poolPackets: 64 });
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ minLength: 14, maxLength: 1514 }), { maxLength: 40 }), (frames) => {
      for (const frame of frames) left.transmit(packetOf(frame), TagAction.KEEP);
      expect(right.waiting).toBe(0);
      left.flush();
      expect(takeFrames(right)).toEqual(frames);
      expect(right.freeBuffers).toBe(64);
    }),
    { numRuns: 30 },
  );
  expect(left.counters.transmittedBytes).toBe(right.counters.receivedBytes);
  expect(left.counters.transmitDropped).toBe(0);
});

test('a super-packet and its metadata travel whole', () => {
  const [left, right] = MemoryAdapter.pair({ name: 'left' }, { name: 'right' });
  const packet = packetOf(frameOf(65_550));
  Object.assign(packet, { gsoType: Gso.TCPV4, gsoSizeBytes: 1448, checksum: Checksum.PARTIAL, checksumStart: 34 });
  packet.timestampSeconds = 12;
  left.transmit(packet, 0);
  left.flush();
  const batch = new Batch();
  expect(right.receive(batch, 8)).toBe(1);
  expect(batch.packets[0]).toMatchObject({
    length: 65_550,
    gsoType: Gso.TCPV4,
    gsoSizeBytes: 1448,
    checksum: Checksum.PARTIAL,
    checksumStart: 34,
    timestampSeconds: 12,
  });
  batch.releaseAll();
});

test('tag actions change the copy and not the frame that was handed over', () => {
  const [left, right] = MemoryAdapter.pair({ name: 'left' }, { name: 'right' });
  const packet = packetOf(frameOf(60));
  left.transmit(packet, TagAction.PUSH | 42);
  left.transmit(packet, TagAction.KEEP);
  left.flush();
  const [tagged, plain] = takeFrames(right);
  expect([...tagged.subarray(12, 18)]).toEqual([0x81, 0, 0, 42, 8, 0]);
  expect(tagged.length).toBe(64);
  expect(plain).toEqual(frameOf(60));
  expect(packet.length).toBe(60);
});

test('frames beyond the MTU, a full queue, an empty pool and a closed peer are counted drops', () => {
  const [left, right] = MemoryAdapter.pair({ name: 'left' }, { name: 'right', queuePackets: 4, poolPackets: 3 });
  left.transmit(packetOf(frameOf(1519)), 0);
  expect(left.counters.transmitDropped).toBe(1);
  left.transmit(packetOf(frameOf(1514)), TagAction.PUSH | 1);
  for (let i = 0; i < 3; i += 1) left.transmit(packetOf(frameOf(60)), 0);
  expect(left.counters).toMatchObject({ transmittedPackets: 3, transmitDropped: 2 });
  left.flush();
  right.close();
  right.close();
  expect(right.freeBuffers).toBe(3);
  left.transmit(packetOf(frameOf(60)), 0);
  expect(left.counters.transmitDropped).toBe(3);
  expect(takeFrames(right)).toEqual([]);
});

test('a frame of any length, from none to longer than every buffer, is taken or counted', () => {
  const adapter = new MemoryAdapter({ name: 'port', offloads: 0 });
  expect(adapter.inject(new Uint8Array(0))).toBe(true);
  expect(adapter.inject(frameOf(70_000))).toBe(false);
  expect(adapter.counters.receiveDropped).toBe(1);
  expect(takeFrames(adapter)).toEqual([new Uint8Array(0)]);
  adapter.sink = Sink.KEEP;
  adapter.transmit(packetOf(new Uint8Array(3)), TagAction.PUSH | 1);
  adapter.transmit(packetOf(frameOf(69_000)), 0);
  expect(adapter.counters.transmitDropped).toBe(2);
});

test('an injected packet is received as the very same descriptor', () => {
  const adapter = new MemoryAdapter({ name: 'port', queuePackets: 2 });
  const packet = packetOf(frameOf(60));
  expect(adapter.injectPacket(packet)).toBe(true);
  const batch = new Batch();
  adapter.receive(batch, 1);
  expect(batch.packets[0]).toBe(packet);
  expect(packet.references).toBe(1);
});

test('a sink keeps, counts or refuses', () => {
  const adapter = new MemoryAdapter({ name: 'port', sink: Sink.KEEP });
  const packet = packetOf(frameOf(60));
  packet.checksum = Checksum.VALID;
  adapter.transmit(packet, TagAction.PUSH | 5);
  expect(adapter.takeTransmitted()).toEqual([]);
  adapter.flush();
  const [kept] = adapter.takeTransmitted();
  expect(kept.frame.length).toBe(64);
  expect(kept.checksum).toBe(Checksum.VALID);
  adapter.sink = Sink.COUNT;
  adapter.transmit(packet, 0);
  adapter.sink = Sink.REFUSE;
  adapter.transmit(packet, 0);
  adapter.flush();
  expect(adapter.takeTransmitted()).toEqual([]);
  expect(adapter.counters).toMatchObject({ transmittedPackets: 2, transmitDropped: 1 });
});

test('adapters have unicast, local addresses that differ by name and not by run', () => {
  const one = new MemoryAdapter({ name: 'one' });
  const two = new MemoryAdapter({ name: 'two' });
  expect(one.macAddress[0] & 3).toBe(2);
  expect(one.macAddress).not.toEqual(two.macAddress);
  expect(new MemoryAdapter({ name: 'one' }).macAddress).toEqual(one.macAddress);
  expect(one.offloads).toBe(Offload.ALL);
});

test('a generator hands out its frames for ever and takes descriptors back', () => {
  const frames = [frameOf(60, 1), frameOf(100, 2)];
  const generator = new GeneratorAdapter({ name: 'source', frames, packets: 8 });
  const batch = new Batch();
  expect(generator.receive(batch, 64)).toBe(8);
  expect(generator.receive(batch, 64)).toBe(0);
  const lengths = batch.packets.slice(0, 8).map((packet) => packet.length);
  expect(lengths.filter((length) => length === 60)).toHaveLength(4);
  batch.packets[0].offset -= 4;
  batch.packets[0].checksum = Checksum.PARTIAL;
  for (const packet of batch.packets) generator.transmit(packet, 0);
  batch.releaseAll();
  expect(generator.available).toBe(8);
  generator.receive(batch, 8);
  for (const packet of batch.packets) {
    expect([1, 2]).toContain(packet.bytes[packet.offset]);
    expect(packet.checksum).toBe(0);
  }
  batch.releaseAll();
  expect(generator.counters).toMatchObject({ receivedPackets: 16, transmittedPackets: 8, transmittedBytes: 640 });
  expect(() => new GeneratorAdapter({ name: 'none', frames: [] })).toThrow(RangeError);
});

test('a generator stops after its total, and when it is closed', () => {
  const generator = new GeneratorAdapter({ name: 'source', frames: [frameOf(60)], total: 5 });
  const batch = new Batch();
  expect(generator.receive(batch, 3)).toBe(3);
  expect(generator.receive(batch, 3)).toBe(2);
  expect(generator.receive(batch, 3)).toBe(0);
});
