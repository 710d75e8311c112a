/** Events from programs to user space: ring buffer and perf buffer, in order, without copies, with what was lost. */
import { afterAll, expect, test } from 'vitest';
import {
  at,
  ClosedError,
  EventRing,
  loadProgram,
  PerfBufferReader,
  PerfEventArrayMap,
  type Program,
  ProgramBuilder,
  R0,
  R1,
  R2,
  R3,
  R6,
  R7,
  RingBufferMap,
  RingBufferReader,
  struct,
  u16,
  u32,
  u64,
  XDP,
} from '../src/bpf/index.ts';
import { Epoll, EpollEvent } from '../src/host/sys/index.ts';

const cleanups: (() => void)[] = [];
afterAll(() => {
  for (const cleanup of cleanups.reverse()) cleanup();
});
function own<T extends { close(): void }>(resource: T): T {
  cleanups.push(() => resource.close());
  return resource;
}

const packet = Uint8Array.from({ length: 64 }, (_, index) => index);

function xdp(name: string, write: (b: ProgramBuilder) => void): Program {
  const b = new ProgramBuilder(name);
  write(b);
  return own(loadProgram({ type: 'xdp', code: b }));
}

/** A program that sends the packet's first four bytes as a record of a ring. */
function sender(ring: RingBufferMap): Program {
  return xdp('send', (b) => {
    b.packetOfXdp(R1, R6, R7);
    b.needBytes(R6, R7, 14, R0, () => b.return(XDP.ABORTED));
    b.load(R7, 'u32', at(R6));
    b.call('ringbuf_reserve', ring, 4, 0);
    b.if(R0, '==', 0, () => b.return(XDP.DROP));
    b.store('u32', at(R0), R7);
    b.mov(R1, R0);
    b.if(
      R7,
      '==',
      0xdead,
      () => b.call('ringbuf_discard', R1, 0),
      () => b.call('ringbuf_submit', R1, 0),
    );
    b.return(XDP.PASS);
  });
}

function numbered(value: number): Uint8Array {
  const data = new Uint8Array(64);
  new DataView(data.buffer).setUint32(0, value, true);
  return data;
}

test('records come in order, as places in mapped memory; discarded ones do not', () => {
  const ring = own(RingBufferMap.create({ name: 'ring', sizeBytes: 4096 }));
  const reader = own(new RingBufferReader(ring));
  const program = sender(ring);
  const seen: number[] = [];
  const take = () =>
    reader.read((bytes, offset, length) => {
      expect(length).toBe(4);
      expect(bytes).toBe(reader.bytes);
      seen.push(reader.view.getUint32(offset, true));
    });
  // Round the ring many times, so that records lie over its end.
  const sent: number[] = [];
  for (let turn = 0; turn < 3000; turn++) {
    program.run({ data: numbered(turn) });
    sent.push(turn);
    if (turn % 7 === 0) program.run({ data: numbered(0xdead) });
    if (turn % 100 === 0) take();
  }
  take();
  expect(seen).toEqual(sent);
  expect(reader.pendingBytes).toBe(0);
});

test('a full ring refuses, and takes again once it was read', () => {
  const ring = own(RingBufferMap.create({ name: 'full', sizeBytes: 4096 }));
  const reader = own(new RingBufferReader(ring));
  const program = sender(ring);
  let taken = 0;
  while (program.run({ data: packet }).result === XDP.PASS) taken++;
  // The kernel never fills the last byte.
  expect(taken).toBe(4096 / 16 - 1);
  expect(reader.read(() => undefined, 10)).toBe(10);
  expect(program.run({ data: packet }).result).toBe(XDP.PASS);
  expect(reader.read(() => false)).toBe(1);
  expect(reader.read(() => undefined)).toBe(taken + 1 - 11);
});

test('a reading ends however fast programs write, and at its limit', () => {
  const ring = own(RingBufferMap.create({ name: 'endless', sizeBytes: 4096 }));
  const reader = own(new RingBufferReader(ring));
  const program = sender(ring);
  for (const value of [1, 2, 3]) program.run({ data: numbered(value) });
  let calls = 0;
  const answer = () => {
    calls += 1;
    if (calls > 1000) throw new Error('the reading does not end');
    return program.run({ data: numbered(calls) });
  };
  expect(reader.read(answer)).toBe(3);
  expect(reader.read(answer, 2)).toBe(2);
  expect(reader.read(() => undefined)).toBe(3);

  const events = own(EventRing.create({ name: 'endless', sizeBytes: 4096, event: u64 }));
  const event = xdp('event', (b) => {
    const slot = b.stack(8);
    b.store('u64', slot, 7);
    events.send(b, slot);
    b.return(XDP.PASS);
  });
  event.run({ data: packet, repeat: 20 });
  expect(events.read(() => undefined, 5)).toBe(5);
  expect(events.read(() => event.run({ data: packet }))).toBe(15);

  const map = own(PerfEventArrayMap.create({ name: 'endless' }));
  const perf = own(new PerfBufferReader(map, { bytesPerCpu: 4096 }));
  const sample = perfSender(map);
  sample.run({ data: packet, repeat: 10 });
  expect(perf.read(() => undefined, 4)).toBe(4);
  // A sample goes to the buffer of the CPU that the program runs on: one that comes later in the turn is read in it.
  calls = 0;
  perf.read(() => {
    calls += 1;
    if (calls > 1000) throw new Error('the reading does not end');
    sample.run({ data: packet });
  });
  expect(calls).toBeGreaterThanOrEqual(6);
});

test('a handler that throws loses its record only', () => {
  const ring = own(RingBufferMap.create({ name: 'throws', sizeBytes: 4096 }));
  const reader = own(new RingBufferReader(ring));
  const program = sender(ring);
  for (const value of [1, 2, 3]) program.run({ data: numbered(value) });
  expect(() =>
    reader.read(() => {
      throw new Error('handler');
    }),
  ).toThrow('handler');
  const rest: number[] = [];
  reader.read((_, offset) => rest.push(reader.view.getUint32(offset, true)));
  expect(rest).toEqual([2, 3]);
  reader.close();
  expect(() => reader.read(() => undefined)).toThrow(ClosedError);
});

test('epoll wakes for a record in a ring', () => {
  const ring = own(RingBufferMap.create({ name: 'poll', sizeBytes: 4096 }));
  const reader = own(new RingBufferReader(ring));
  const epoll = own(new Epoll());
  epoll.add(reader.fd, EpollEvent.IN);
  expect(epoll.wait(0)).toBe(0);
  sender(ring).run({ data: packet });
  expect(epoll.wait(1000)).toBe(1);
  expect(reader.wait(0)).toBe(true);
  reader.read(() => undefined);
  expect(epoll.wait(0)).toBe(0);
});

test('an event ring carries typed events and counts those that found no room', () => {
  const event = struct({ at: u64, port: u16, size: u32 });
  const events = own(EventRing.create({ name: 'events', sizeBytes: 4096, event }));
  const program = xdp('event', (b) => {
    const slot = b.stack(event.sizeBytes);
    b.zero(slot);
    b.call('ktime_get_ns');
    b.store('u64', slot.at(event.offsetOf('at')), R0);
    b.store('u16', slot.at(event.offsetOf('port')), 443);
    b.store('u32', slot.at(event.offsetOf('size')), 1500);
    events.send(b, slot);
    b.return(XDP.PASS);
  });
  program.run({ data: packet, repeat: 200 });
  const room = 4096 / (16 + 8);
  expect(events.lost).toBe(200 - Math.floor(room));
  let before = 0n;
  const count = events.read(({ at: time, port, size }) => {
    expect([port, size]).toEqual([443, 1500]);
    expect(time).toBeGreaterThanOrEqual(before);
    before = time;
  });
  expect(count).toBe(Math.floor(room));
});

/** A program that sends the packet itself, with four bytes of metadata before it. */
function perfSender(map: PerfEventArrayMap): Program {
  return xdp('perf', (b) => {
    const meta = b.stack(4);
    b.mov(R6, R1);
    b.packetOfXdp(R6, R2, R3);
    b.needBytes(R2, R3, 14, R0, () => b.return(XDP.ABORTED));
    b.load(R7, 'u32', at(R2));
    b.store('u32', meta, R7);
    b.sub(R3, R2);
    // Flags: the current CPU in the lower half, bytes of the packet to add in the upper.
    b.shl(R3, 32);
    b.set(R1, 0xffffffff);
    b.or(R3, R1);
    b.call('perf_event_output', R6, map, R3, meta, 4);
    b.return(XDP.PASS);
  });
}

test('perf samples come whole over the end of their buffer, and lost ones are counted', () => {
  const map = own(PerfEventArrayMap.create({ name: 'perf' }));
  const reader = own(new PerfBufferReader(map, { bytesPerCpu: 4096 }));
  const program = perfSender(map);
  const sent: number[] = [];
  const seen: number[] = [];
  const take = () =>
    reader.read((bytes, offset, length) => {
      expect(length).toBeGreaterThanOrEqual(4 + 64);
      const view = new DataView(bytes.buffer, bytes.byteOffset + offset, length);
      const value = view.getUint32(0, true);
      expect(view.getUint32(4, true)).toBe(value);
      expect(view.getUint8(4 + 63)).toBe(0);
      seen.push(value);
    });
  expect(reader.wait(0)).toBe(false);
  for (let turn = 0; turn < 500; turn++) {
    program.run({ data: numbered(turn) });
    sent.push(turn);
    if (turn % 20 === 0) {
      expect(reader.wait(1000)).toBe(true);
      take();
    }
  }
  take();
  expect(seen.sort((a, b) => a - b)).toEqual(sent);
  expect(reader.lost).toBe(0);
  seen.length = 0;
  let total = 500;
  program.run({ data: numbered(1), repeat: 500 });
  take();
  // The kernel tells of a loss with the next sample on the same CPU, and we may be moved to another.
  for (let tries = 0; tries < 500 && seen.length + reader.lost < total; tries++) {
    program.run({ data: numbered(2), repeat: 10 });
    total += 10;
    take();
  }
  expect(reader.lost).toBeGreaterThan(0);
  expect(seen.length + reader.lost).toBe(total);
});
