import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
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
import { internetChecksum, pseudoHeaderSum4 } from '../checksum.ts';
import { Gso } from '../packet.ts';
import { PacketPool } from '../pool.ts';
import { segment } from '../segment.ts';
import { SegmentResult } from '../segment-result.ts';
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
  const adapter = new PcapAdapter({
    name: 'p1',
    input: openFileSource(fixture),
    openOutput: () => openFileSink(path),
    nowMs,
  });
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
  const adapter = new PcapAdapter({ name: 'p', openOutput: () => output });
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

test('a pipe that nobody writes yet, or writes slowly, never blocks; its end is the end of the recording', () => {
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  let nowMs = 1_000;
  const adapter = new PcapAdapter({ name: 'p', input: openFileSource(pipe), nowMs: () => nowMs });
  const batch = new Batch();
  expect([adapter.receive(batch, 64), adapter.finished]).toEqual([0, false]);
  const writer = openSync(pipe, 'w');
  const bytes = recording([1, 2, 3]);
  // Half a frame waits for the other half.
  for (const [part, frames] of [
    [bytes.subarray(0, 24), 0],
    [bytes.subarray(24, 140), 1],
    [bytes.subarray(140), 2],
  ] as const) {
    writeSync(writer, part);
    expect(adapter.nextDueMs).toBeGreaterThan(nowMs);
    expect(adapter.receive(batch, 64)).toBe(0);
    nowMs += 10;
    expect(adapter.receive(batch, 64)).toBe(frames);
  }
  closeSync(writer);
  nowMs += 10;
  expect([adapter.receive(batch, 64), adapter.finished, adapter.failure]).toEqual([0, true, null]);
  batch.releaseAll();
});

test('what is neither file nor pipe is not read, and only files are written', () => {
  const pipe = join(folder, 'pipe-out');
  execFileSync('mkfifo', [pipe]);
  expect(() => openFileSource('/dev/zero')).toThrow('it is a device');
  expect(() => openFileSource(folder)).toThrow('it is a directory');
  expect(() => openFileSink('/dev/full')).toThrow('it is a device');
  // Without a reader the pipe cannot be opened at all, with one it is refused.
  expect(() => openFileSink(pipe)).toThrow('a named pipe that nobody reads');
  const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
  expect(() => openFileSink(pipe)).toThrow('it is a named pipe');
  closeSync(reader);
});

test('times that are no pause are not waited for', () => {
  let nowMs = 0;
  const day = 86_400_000;
  // 1970, then a clock that is set, a short pause, a step back of an hour, frames slightly out of order, and the end of time.
  const times = [0, 20 * day, 20 * day + 40, 19 * day, 19 * day + 10, 19 * day + 5, 19 * day + 20, 40_000 * day];
  const adapter = new PcapAdapter({ name: 'p', input: sourceOf(recording(times)), speed: 1, nowMs: () => nowMs });
  const batch = new Batch();
  const came: number[] = [];
  for (; nowMs < 1_000; nowMs += 1) for (let i = adapter.receive(batch, 64); i > 0; i -= 1) came.push(nowMs);
  expect(came).toEqual([0, 0, 40, 40, 50, 50, 60, 60]);
  batch.releaseAll();
});

test('packets without a time come with the packet before', () => {
  let nowMs = 0;
  const timed = (ms: number): Buffer => block(6, [0, 0, ms * 1000, 60, 60], 60);
  const simple = block(3, [60], 60);
  const bytes = Buffer.concat([
    block(0x0a0d0d0a, [0x1a2b3c4d, 1, 0xffff_ffff, 0xffff_ffff], 0),
    block(1, [1, 0], 0),
    ...[simple, simple, timed(7_000), simple, timed(7_100), simple],
  ]);
  const adapter = new PcapAdapter({ name: 'p', input: sourceOf(bytes), speed: 1, nowMs: () => nowMs });
  const batch = new Batch();
  const came: number[] = [];
  for (; nowMs < 1_000; nowMs += 1) for (let i = adapter.receive(batch, 64); i > 0; i -= 1) came.push(nowMs);
  expect(came).toEqual([0, 0, 0, 0, 100, 100]);
  expect(adapter.failure).toBeNull();
  batch.releaseAll();
});

/** A block of pcapng: words in little endian, then so many zero bytes. */
function block(type: number, words: number[], bytes: number): Buffer {
  const made = Buffer.alloc(12 + words.length * 4 + bytes);
  [type, made.length, ...words].forEach((word, i) => void made.writeUInt32LE(word, i * 4));
  made.writeUInt32LE(made.length, made.length - 4);
  return made;
}

test('a file that has no frames for long holds nobody up', () => {
  const filler = block(0x0bad, [], 1 << 20);
  const head = [block(0x0a0d0d0a, [0x1a2b3c4d, 1, 0xffff_ffff, 0xffff_ffff], 0), block(1, [1, 0], 0)];
  const bytes = Buffer.concat([...head, ...Array(20).fill(filler), block(3, [60], 60)]);
  let reads = 0;
  const source = sourceOf(bytes);
  const read = (into: Uint8Array): number => {
    reads += 1;
    return source.read(into);
  };
  const input = { read, close: () => source.close() };
  const adapter = new PcapAdapter({ name: 'p', input });
  const batch = new Batch();
  let most = reads;
  let calls = 0;
  for (; batch.count === 0 && calls < 1_000; calls += 1) {
    const before = reads;
    adapter.receive(batch, 64);
    most = Math.max(most, reads - before);
  }
  expect(batch.count).toBe(1);
  expect(most).toBeLessThanOrEqual(16);
  expect(adapter.nextDueMs).toBeNull();
  batch.releaseAll();
});

test('a TCP packet beyond the MTU comes in as the super-packet that it was', () => {
  const frame = Buffer.alloc(54);
  Buffer.from('020000000002020000000001080045000000000140004006', 'hex').copy(frame);
  frame[46] = 0x50;
  const payload = Buffer.alloc(20_000, 7);
  const whole = Buffer.concat([frame, payload]);
  whole.writeUInt16BE(whole.length - 14, 16);
  const chunks: Uint8Array[] = [];
  const writer = new PcapWriter((chunk) => chunks.push(chunk), { linkType: 1 });
  writer.packet({ seconds: 1, nanoseconds: 0, data: whole });
  writer.flush();
  const input = (): ByteSource => sourceOf(new Uint8Array(Buffer.concat(chunks)));
  const batch = new Batch();
  for (const [mtuBytes, gsoType, gsoSizeBytes] of [
    [1500, Gso.TCPV4, 1460],
    [9000, Gso.TCPV4, 8960],
    [20_040, Gso.NONE, 0],
  ] as const) {
    const adapter = new PcapAdapter({ name: 'p', input: input(), mtuBytes });
    expect(adapter.receive(batch, 64)).toBe(1);
    expect(batch.packets[0]).toMatchObject({ gsoType, gsoSizeBytes, length: 20_054 });
    if (gsoType !== Gso.NONE) {
      const pool = new PacketPool({ packets: 32, bufferBytes: 10_000 });
      const cut = new Batch();
      expect(segment(batch.packets[0], pool, cut)).toBe(SegmentResult.DONE);
      expect(cut.count).toBe(Math.ceil(20_000 / gsoSizeBytes));
      for (const packet of cut.packets.slice(0, cut.count)) {
        const length = packet.length - 34;
        const sum = pseudoHeaderSum4(packet.bytes, packet.offset + 26, 6, length);
        expect(internetChecksum(packet.bytes, packet.offset + 34, length, sum)).toBe(0);
      }
      cut.releaseAll();
    }
    batch.releaseAll();
  }
});

/** Send frames of these lengths into a file, as a port that is made for it and closed again. */
function record(path: string, ...lengths: number[]): void {
  const frames = Buffer.concat([recording([]), ...lengths.map((length) => recording([1], length).subarray(24))]);
  const adapter = new PcapAdapter({ name: 'p', input: sourceOf(frames), openOutput: () => openFileSink(path) });
  const batch = new Batch();
  adapter.receive(batch, 64);
  for (const packet of batch.packets.slice(0, batch.count)) adapter.transmit(packet, TagAction.KEEP);
  adapter.close();
  batch.releaseAll();
}

const lengthsIn = (path: string) => packetsOf(path).map((packet) => packet.data.length);

test('a port that is made anew goes on at the end of its file', () => {
  const path = join(folder, 'again.pcapng');
  record(path, 60, 61);
  record(path);
  record(path, 62);
  expect(lengthsIn(path)).toEqual([60, 61, 62]);
});

test('a packet of which a killed writer has left a part is cut off before the file is gone on with', () => {
  const whole = join(folder, 'whole.pcapng');
  record(whole, 60, 61, 62, 1_000);
  const bytes = readFileSync(whole);
  for (const missing of [1, 3, 4, 8, 500, 1_030]) {
    const path = join(folder, `torn-${missing}.pcapng`);
    writeFileSync(path, bytes.subarray(0, bytes.length - missing));
    record(path, 63);
    expect(lengthsIn(path), `${missing} bytes are missing`).toEqual([60, 61, 62, 63]);
  }
});

test('a file that cannot be gone on with is refused and stays as it is', () => {
  const path = join(folder, 'notes');
  const big = Buffer.concat([readFileSync(fixture), Buffer.alloc(600_000)]);
  for (const content of [Buffer.from('not a capture at all'), Buffer.from('x'), recording([1, 2]), big]) {
    writeFileSync(path, content);
    expect(() => openFileSink(path)).toThrow('it is not a whole pcapng');
    expect(readFileSync(path).equals(content)).toBe(true);
  }
});

test('nothing is opened for writing before the capture that is to be read has been found good', () => {
  const openOutput = () => {
    throw new Error('the output was opened');
  };
  const input = sourceOf(Buffer.from('no capture, and long enough to see that'));
  expect(() => new PcapAdapter({ name: 'p', input, openOutput })).toThrow(CaptureError);
});
