import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TagAction } from '../adapter.ts';
import { Batch } from '../batch.ts';
import { CaptureError } from '../capture/error.ts';
import { type ByteSource, chunksOf, openFileSink, openFileSource } from '../capture/file.ts';
import { PcapWriter } from '../capture/pcap-writer.ts';
import { readCapture } from '../capture/reader.ts';
import type { CapturePacket } from '../capture/types.ts';
import { PacketPool } from '../pool.ts';
import { PcapAdapter } from './pcap.ts';

const fixture = fileURLToPath(new URL('../capture/fixtures/dumpcap-two-interfaces.pcapng', import.meta.url));
let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-pcap-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function sourceOf(bytes: Uint8Array): ByteSource & { closed: number } {
  let at = 0;
  return {
    closed: 0,
    read(into) {
      const part = bytes.subarray(at, at + into.length);
      into.set(part);
      at += part.length;
      return part.length;
    },
    close() {
      this.closed += 1;
    },
  };
}

/** A pcap whose frames begin at these times. */
function recording(timesMs: number[], lengthBytes = 60, linkType = 1): Uint8Array {
  const chunks: Uint8Array[] = [];
  const writer = new PcapWriter((chunk) => chunks.push(chunk), { linkType });
  for (const timeMs of timesMs) {
    const seconds = Math.floor(timeMs / 1000);
    writer.packet({ seconds, nanoseconds: (timeMs % 1000) * 1e6, data: new Uint8Array(lengthBytes) });
  }
  writer.flush();
  return new Uint8Array(Buffer.concat(chunks));
}

function packetsOf(path: string): CapturePacket[] {
  const source = openFileSource(path);
  const list = [...readCapture(chunksOf(source, 100))].flatMap((one) => (one.kind === 'packet' ? [one.packet] : []));
  source.close();
  return list;
}

test('a capture comes in as fast as it is asked for, and what goes out can be read again', () => {
  const path = join(folder, 'out.pcapng');
  const nowMs = (): number => 1_700_000_000_250.5;
  const adapter = new PcapAdapter({ name: 'p1', input: openFileSource(fixture), output: openFileSink(path), nowMs });
  const batch = new Batch();
  expect(adapter.receive(batch, 5)).toBe(5);
  expect(adapter.receive(batch, 64)).toBe(2);
  expect(adapter.finished).toBe(true);
  expect(adapter.failure).toBeNull();
  expect(batch.packets[0].timestampNanoseconds).toBe(565108871);
  for (const packet of batch.packets) adapter.transmit(packet, TagAction.KEEP);
  adapter.transmit(batch.packets[6], TagAction.PUSH | 9);
  adapter.flush();
  adapter.close();
  adapter.close();
  const out = packetsOf(path);
  expect(out).toHaveLength(8);
  expect(out[0]).toMatchObject({
    seconds: 1_700_000_000,
    nanoseconds: 250_500_000,
    flags: 2,
    interface: { name: 'p1' },
  });
  expect(out.slice(0, 7).map((one) => Buffer.from(one.data).toString('hex'))).toEqual(
    batch.packets.map((packet) => Buffer.from(packet.frame()).toString('hex')),
  );
  expect([...out[7].data.subarray(12, 16)]).toEqual([0x81, 0, 0, 9]);
  batch.releaseAll();
  expect(adapter.counters).toMatchObject({ receivedPackets: 7, transmittedPackets: 8, transmitDropped: 0 });
});

test('at the speed of the recording frames come when they are due', () => {
  let nowMs = 5000;
  const input = sourceOf(recording([100_000, 100_010, 100_010, 100_500]));
  const adapter = new PcapAdapter({ name: 'p', input, speed: 2, nowMs: () => nowMs });
  const batch = new Batch();
  expect(adapter.nextDueMs).toBe(0);
  expect(adapter.receive(batch, 64)).toBe(1);
  expect(adapter.nextDueMs).toBe(5005);
  nowMs = 5004;
  expect(adapter.receive(batch, 64)).toBe(0);
  nowMs = 5005;
  expect(adapter.receive(batch, 64)).toBe(2);
  expect(adapter.nextDueMs).toBe(5250);
  nowMs = 9000;
  expect(adapter.receive(batch, 64)).toBe(1);
  expect(adapter.nextDueMs).toBeNull();
  expect(input.closed).toBe(1);
  batch.releaseAll();
});

test('frames wait when every buffer is in use, and none is lost', () => {
  const input = sourceOf(recording([1, 2, 3, 4, 5]));
  const adapter = new PcapAdapter({ name: 'p', input, poolPackets: 2 });
  const batch = new Batch();
  let total = 0;
  for (let i = 0; i < 4; i += 1) {
    total += adapter.receive(batch, 64);
    expect(batch.count).toBeLessThanOrEqual(2);
    batch.releaseAll();
  }
  expect(total).toBe(5);
});

test('frames longer than any buffer are counted and passed over', () => {
  const bytes = Buffer.concat([
    recording([1], 60),
    recording([2], 70_000).subarray(24),
    recording([3], 60).subarray(24),
  ]);
  const adapter = new PcapAdapter({ name: 'p', input: sourceOf(bytes) });
  const batch = new Batch();
  expect(adapter.receive(batch, 64)).toBe(2);
  expect(adapter.counters.receiveDropped).toBe(1);
  batch.releaseAll();
});

test('a file that is no capture, and one that is not of Ethernet, do not open', () => {
  const text = join(folder, 'text');
  writeFileSync(text, 'this is no capture');
  expect(() => new PcapAdapter({ name: 'p', input: openFileSource(text) })).toThrow(CaptureError);
  const input = sourceOf(recording([1], 60, 101));
  expect(() => new PcapAdapter({ name: 'p', input })).toThrow("the capture's link type is 101");
  expect(input.closed).toBe(1);
  expect(() => new PcapAdapter({ name: 'p', speed: -1 })).toThrow(RangeError);
  expect(() => openFileSource(join(folder, 'missing'))).toThrow('ENOENT');
});

test('a capture that breaks off gives its whole frames, and then the reason', () => {
  const bytes = readFileSync(fixture).subarray(0, 800);
  const adapter = new PcapAdapter({ name: 'p', input: sourceOf(bytes) });
  const batch = new Batch();
  expect(adapter.receive(batch, 64)).toBe(3);
  batch.releaseAll();
  expect(adapter.finished).toBe(true);
  expect(adapter.failure?.message).toContain('truncated');
  adapter.transmit(batch.packets[0], TagAction.KEEP);
  expect(adapter.counters).toMatchObject({ transmittedPackets: 1, transmitDropped: 0 });
});

test('a disk that is full ends the output with counted drops and no exception', () => {
  let room = 300;
  const output = {
    closed: 0,
    write(chunk: Uint8Array) {
      room -= chunk.length;
      if (room < 0) throw new Error('ENOSPC: no space left on device');
    },
    close() {
      this.closed += 1;
    },
  };
  const adapter = new PcapAdapter({ name: 'p', output });
  const packet = new PacketPool({ packets: 1, bufferBytes: 1024 }).allocate();
  if (packet === null) throw new Error('a fresh pool is empty');
  packet.length = 200;
  adapter.transmit(packet, 0);
  adapter.flush();
  expect(adapter.failure?.message).toContain('ENOSPC');
  adapter.transmit(packet, 0);
  adapter.flush();
  expect(adapter.counters).toMatchObject({ transmittedPackets: 1, transmitDropped: 1 });
  expect(output.closed).toBe(1);
  packet.length = 1600;
  adapter.transmit(packet, 0);
  expect(adapter.counters.transmitDropped).toBe(2);
});
