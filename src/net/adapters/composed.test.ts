import { expect, test } from 'vitest';
import { TagAction } from '../adapter.ts';
import { Batch } from '../batch.ts';
import type { Packet } from '../packet.ts';
import { PacketPool } from '../pool.ts';
import { FaultInjector, type FaultRates } from './fault-injector.ts';
import { MemoryAdapter, Sink } from './memory.ts';
import { TracerAdapter } from './tracer.ts';

const pool = new PacketPool({ packets: 64, bufferBytes: 512 });

function packetOf(number: number): Packet {
  const packet = pool.allocate();
  if (packet === null) throw new Error('the test holds too many packets');
  packet.length = 60;
  packet.frame().fill(0);
  packet.bytes[packet.offset] = number;
  return packet;
}

function faulty(options: { seed?: number; receive?: FaultRates; transmit?: FaultRates }) {
  const inner = new MemoryAdapter({ name: 'inner', sink: Sink.KEEP, poolPackets: 600 });
  return { inner, faults: new FaultInjector(inner, { seed: options.seed ?? 1, ...options }) };
}

/** Send numbered frames in flushes of eight; gives the numbers that came out. */
function sendThrough(faults: FaultInjector, inner: MemoryAdapter, count: number): number[] {
  for (let i = 0; i < count; i += 1) {
    const packet = packetOf(i);
    faults.transmit(packet, TagAction.KEEP);
    if (i % 8 === 7) faults.flush();
    packet.release();
  }
  faults.flush();
  return inner.takeTransmitted().map(({ frame }) => frame[0]);
}

function receiveThrough(faults: FaultInjector, inner: MemoryAdapter, count: number): Uint8Array[] {
  for (let i = 0; i < count; i += 1) inner.inject(new Uint8Array(60).fill(i, 0, 1));
  const frames: Uint8Array[] = [];
  const batch = new Batch();
  for (let calls = 0; calls < count + 10; calls += 1) {
    expect(faults.receive(batch, 8)).toBeLessThanOrEqual(8);
    for (let i = 0; i < batch.count; i += 1) frames.push(batch.packets[i].frame().slice());
    batch.releaseAll();
  }
  return frames;
}

test('without rates a fault injector changes nothing', () => {
  const { inner, faults } = faulty({});
  expect(sendThrough(faults, inner, 50)).toEqual([...Array(50).keys()]);
  expect(receiveThrough(faults, inner, 50).map((frame) => frame[0])).toEqual([...Array(50).keys()]);
});

test('lost frames are gone and counted, in both directions', () => {
  const { inner, faults } = faulty({ transmit: { loss: 0.5 }, receive: { loss: 0.5 } });
  const sent = sendThrough(faults, inner, 200);
  expect(sent.length + faults.transmitted.lost).toBe(200);
  expect(faults.transmitted.lost).toBeGreaterThan(50);
  const received = receiveThrough(faults, inner, 200);
  expect(received.length + faults.received.lost).toBe(200);
  expect(faults.received.lost).toBeGreaterThan(50);
  expect(inner.freeBuffers).toBe(600);
});

test('doubled frames come twice', () => {
  const { inner, faults } = faulty({ transmit: { duplication: 1 }, receive: { duplication: 1 } });
  expect(sendThrough(faults, inner, 3)).toEqual([0, 0, 1, 1, 2, 2]);
  const received = receiveThrough(faults, inner, 20).map((frame) => frame[0]);
  expect(received.sort((a, b) => a - b)).toEqual([...Array(40).keys()].map((i) => i >> 1));
});

test('delayed frames are overtaken and none is lost', () => {
  const { inner, faults } = faulty({ transmit: { reordering: 0.3 }, receive: { reordering: 0.3 } });
  const sent = sendThrough(faults, inner, 100);
  expect(sent).not.toEqual([...Array(100).keys()]);
  expect(sent.sort((a, b) => a - b)).toEqual([...Array(100).keys()]);
  const received = receiveThrough(faults, inner, 100).map((frame) => frame[0]);
  expect(received).not.toEqual([...Array(100).keys()]);
  expect(received.sort((a, b) => a - b)).toEqual([...Array(100).keys()]);
  expect(inner.freeBuffers).toBe(600);
});

test('a corrupted frame differs in one bit, and the frame that was handed over is not touched', () => {
  const { inner, faults } = faulty({ transmit: { corruption: 1 }, receive: { corruption: 1 } });
  const packet = packetOf(0);
  faults.transmit(packet, 0);
  faults.flush();
  const ones = (frame: Uint8Array): number =>
    frame.reduce((sum, byte) => sum + [...byte.toString(2)].filter((bit) => bit === '1').length, 0);
  expect(ones(inner.takeTransmitted()[0].frame)).toBe(1);
  expect(ones(packet.frame())).toBe(0);
  packet.release();
  inner.inject(new Uint8Array(60));
  const batch = new Batch();
  faults.receive(batch, 1);
  expect(ones(batch.packets[0].frame())).toBe(1);
  batch.releaseAll();
});

test('the same seed gives the same faults, another seed others', () => {
  const rates = { loss: 0.2, duplication: 0.2, reordering: 0.2 };
  const run = (seed: number): number[] => {
    const { inner, faults } = faulty({ seed, transmit: rates });
    return sendThrough(faults, inner, 64);
  };
  expect(run(5)).toEqual(run(5));
  expect(run(5)).not.toEqual(run(6));
  expect(() => faulty({ transmit: { loss: 1.5 } })).toThrow('loss of 1.5 is no probability');
});

test('closing gives every held packet back', () => {
  const { inner, faults } = faulty({ transmit: { reordering: 1 }, receive: { reordering: 1 } });
  for (let i = 0; i < 8; i += 1) inner.inject(new Uint8Array(60));
  const batch = new Batch();
  expect(faults.receive(batch, 8)).toBe(0);
  const packet = packetOf(1);
  faults.transmit(packet, 0);
  packet.release();
  faults.close();
  expect(inner.freeBuffers).toBe(600);
  expect(pool.available).toBe(64);
});

test('a tracer shows every frame once and passes all on', () => {
  const inner = new MemoryAdapter({ name: 'inner', sink: Sink.KEEP });
  const seen: string[] = [];
  const tracer = new TracerAdapter(inner, {
    received: (packet) => seen.push(`in ${packet.length}`),
    transmitted: (packet, tag) => seen.push(`out ${packet.length} ${tag}`),
  });
  inner.inject(new Uint8Array(60));
  inner.inject(new Uint8Array(70));
  const batch = new Batch();
  expect(tracer.receive(batch, 8)).toBe(2);
  tracer.transmit(batch.packets[1], TagAction.STRIP);
  tracer.flush();
  batch.releaseAll();
  expect(seen).toEqual(['in 60', 'in 70', 'out 70 65536']);
  expect(inner.takeTransmitted()).toHaveLength(1);
  expect(tracer.name).toBe('inner');
});
