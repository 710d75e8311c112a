/** The table by itself: what is found, what expires, what is full, and what a process finds that comes after another. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Admission } from './admission.ts';
import { hashTuple } from './hash.ts';
import {
  CONTROL_WORDS,
  type ConnectionMemory,
  ControlWord,
  LAYOUT_VERSION,
  memorySizes,
  POLICY_WORDS,
  plainMemory,
  RECORD_WORDS,
  RecordWord,
  Status,
  TIMEOUT_SHIFT,
} from './layout.ts';
import { ConnectionTable, LayoutError, Removal } from './table.ts';
import { TcpState } from './tcp-state.ts';
import { LONGEST_MS, TimeOut } from './time-outs.ts';
import { Tuple } from './tuple.ts';

const UDP = 17;
const SECRET = [0x0f1e_2d3c, 0x4b5a_6978] as const;

class Clock {
  nowMs = 5000;
}

function make(capacity: number, restMs = 0) {
  const clock = new Clock();
  const memory = plainMemory(capacity);
  const table = ConnectionTable.format(memory, capacity, SECRET, { nowMs: () => clock.nowMs, restMs });
  return { clock, memory, table };
}

function tupleOf(number: number, zone = 0): Tuple {
  const tuple = new Tuple();
  tuple.begin(zone, UDP, false);
  tuple.words[1] = 0x0a00_0000 | number;
  tuple.words[5] = 0x0b00_0001;
  tuple.sourcePort = 1000;
  tuple.destinationPort = 53;
  return tuple;
}

const inverse = new Tuple();

/** A connection of UDP that nobody has answered; it lasts 30 seconds. */
function put(table: ConnectionTable, tuple: Tuple, port = 0, record = table.take(table.nowMs() | 0)): number {
  if (record === 0) return 0;
  const at = table.at(record);
  inverse.invert(tuple);
  table.records.set(tuple.words, at + RecordWord.ORIGINAL);
  table.records.set(inverse.words, at + RecordWord.REPLY);
  table.records[at + RecordWord.STATUS] = Status.CONFIRMED;
  table.records[at + RecordWord.PORT] = port;
  table.records[at + RecordWord.STATE] = TimeOut.UDP_UNREPLIED << TIMEOUT_SHIFT;
  table.records[at + RecordWord.LAST_SEEN] = table.nowMs() | 0;
  return table.publish(record, tuple.kind) ? record : 0;
}

test('a connection takes at most 192 bytes, index entries of both directions included', () => {
  for (const capacity of [1000, 65_536, 1_000_000, 4_000_000]) {
    const { index, records } = memorySizes(capacity);
    expect(((index + records) * 4) / capacity).toBeLessThanOrEqual(192 + 192 / capacity);
  }
});

test('capacities that an index word cannot name are refused', () => {
  for (const capacity of [0, -1, 1.5, 2 ** 22]) expect(() => memorySizes(capacity)).toThrow(RangeError);
  const memory = plainMemory(10);
  expect(() => ConnectionTable.format(memory, 100, SECRET, { nowMs: () => 0 })).toThrow(/need .* words of index/);
});

test('whatever comes and goes, the table finds what a plain map finds', () => {
  const step = fc.record({
    kind: fc.constantFrom('put', 'put', 'put', 'remove', 'wait', 'sweep'),
    number: fc.integer({ min: 0, max: 90 }),
    zone: fc.constantFrom(0, 1),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), fc.constantFrom(0, 500), (steps, restMs) => {
      const { table, clock, memory } = make(64, restMs);
      const model = new Map<string, { record: number; endsMs: number }>();
      const alive = (name: string) => {
        const there = model.get(name);
        return there !== undefined && there.endsMs > clock.nowMs ? there : undefined;
      };
      for (const { kind, number, zone } of steps) {
        const tuple = tupleOf(number, zone);
        const name = `${zone}/${number}`;
        const there = alive(name);
        const found = table.find(tuple, clock.nowMs | 0);
        expect(found).toBe(there === undefined ? 0 : there.record << 1);
        if (kind === 'put' && there === undefined) {
          const record = put(table, tuple);
          if (record === 0) expect(table.free === 0 || restMs > 0).toBe(true);
          else model.set(name, { record, endsMs: clock.nowMs + 30_000 });
        } else if (kind === 'remove' && there !== undefined) {
          inverse.invert(tuple);
          expect(table.find(inverse, clock.nowMs | 0)).toBe((there.record << 1) | 1);
          table.remove(there.record, Removal.FLUSHED);
          model.delete(name);
        } else if (kind === 'wait') clock.nowMs += number * 100;
        else if (kind === 'sweep') table.sweep(number);
      }
      table.sweep(200);
      expect(table.size).toBe([...model.keys()].filter((name) => alive(name) !== undefined).length);
      clock.nowMs += 30_000;
      table.sweep(200);
      expect([table.size, table.free, [...table.zones.counts()]]).toEqual([0, 64, []]);
      expect(memory.index.every((word) => word === 0)).toBe(true);
      clock.nowMs += 500;
      for (let number = 0; number < 64; number += 1) expect(put(table, tupleOf(number))).not.toBe(0);
      expect(put(table, tupleOf(64))).toBe(0);
    }),
    { numRuns: 60 },
  );
});

test('a full table has found a place in the index for every connection', () => {
  const { table } = make(20_000);
  for (let number = 0; number < 20_000; number += 1) expect(put(table, tupleOf(number))).not.toBe(0);
  expect(table.counters.refusedIndex).toBe(0);
  for (let number = 0; number < 20_000; number += 1) expect(table.find(tupleOf(number), 5000)).not.toBe(0);
});

test('a freed record rests while programs may still read it', () => {
  const { table, clock } = make(1, 1000);
  table.remove(put(table, tupleOf(1)), Removal.FLUSHED);
  expect(put(table, tupleOf(2))).toBe(0);
  clock.nowMs += 1000;
  expect(put(table, tupleOf(2))).not.toBe(0);
});

test('a freed record that nobody has wanted for half a turn of the 32-bit clock, or longer, can be taken', () => {
  for (const restMs of [0, 1000]) {
    for (const awayMs of [2 ** 31 - 1, 2 ** 31 + 1, 2 ** 32 - 1]) {
      const { table, clock } = make(1, restMs);
      table.remove(put(table, tupleOf(1)), Removal.FLUSHED);
      clock.nowMs += 5000;
      table.sweep(1);
      clock.nowMs += awayMs;
      expect(put(table, tupleOf(2)), `${restMs}, ${awayMs}`).not.toBe(0);
    }
  }
});

test('a record rests from the time that its remover names, and where none rests it can be taken in the same call', () => {
  const resting = make(1, 1000);
  const now = resting.clock.nowMs;
  const record = put(resting.table, tupleOf(1));
  resting.clock.nowMs += 3;
  resting.table.remove(record, Removal.FLUSHED, now);
  expect([resting.table.take(now + 999), resting.table.take(now + 1000)]).toEqual([0, record]);
  const { table, clock } = make(1);
  const other = put(table, tupleOf(1));
  clock.nowMs += 3;
  table.remove(other, Removal.FLUSHED);
  expect(table.take(clock.nowMs - 3)).toBe(other);
});

test('freed records that rest one behind the other are taken in the order in which they were freed', () => {
  const { table, clock } = make(100, 1000);
  const records = Array.from({ length: 100 }, (_, number) => put(table, tupleOf(number)));
  for (const record of records) {
    table.remove(record, Removal.FLUSHED);
    clock.nowMs += 10;
  }
  expect(table.hasUsable(clock.nowMs)).toBe(true);
  expect([table.take(clock.nowMs), table.take(clock.nowMs), table.hasUsable(clock.nowMs)]).toEqual([1, 0, false]);
  clock.nowMs += 1000;
  for (const record of records.slice(1)) expect(table.take(clock.nowMs)).toBe(record);
  expect([table.free, table.take(clock.nowMs)]).toEqual([0, 0]);
});

test('the clock of 32 bits may turn over', () => {
  const { table, clock } = make(4);
  clock.nowMs = 2 ** 32 - 10_000;
  put(table, tupleOf(1));
  clock.nowMs = 2 ** 32 + 19_999;
  expect(table.find(tupleOf(1), clock.nowMs | 0)).not.toBe(0);
  clock.nowMs += 1;
  expect(table.find(tupleOf(1), clock.nowMs | 0)).toBe(0);
  expect(table.counters.removed[Removal.EXPIRED]).toBe(1);
});

test('a walk in pieces sees every connection once, and a flush ends those of a zone', () => {
  const { table } = make(500);
  for (let number = 0; number < 300; number += 1) put(table, tupleOf(number, number % 3));
  const seen: number[] = [];
  for (let from = 1; from !== 0; ) from = table.walk(from, 7, (record) => seen.push(record));
  expect([seen.length, new Set(seen).size]).toEqual([300, 300]);
  expect(table.flush((record) => table.records[table.at(record)] >>> 16 === 1)).toBe(100);
  expect([...table.zones.counts()]).toEqual([
    [0, 100],
    [2, 100],
  ]);
});

test('the hash is HalfSipHash', () => {
  // Against a slow one with rotations written out.
  const rotate = (value: number, by: number) => (value << by) | (value >>> (32 - by));
  const slow = (k0: number, k1: number, message: number[]) => {
    const v = [k0, k1, 0x6c796765 ^ k0, 0x74656462 ^ k1];
    const round = () => {
      v[0] = (v[0] + v[1]) | 0;
      v[1] = rotate(v[1], 5) ^ v[0];
      v[0] = rotate(v[0], 16);
      v[2] = (v[2] + v[3]) | 0;
      v[3] = rotate(v[3], 8) ^ v[2];
      v[0] = (v[0] + v[3]) | 0;
      v[3] = rotate(v[3], 7) ^ v[0];
      v[2] = (v[2] + v[1]) | 0;
      v[1] = rotate(v[1], 13) ^ v[2];
      v[2] = rotate(v[2], 16);
    };
    for (const word of message) {
      v[3] ^= word;
      round();
      v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (let i = 0; i < 3; i += 1) round();
    return v[1] ^ v[3];
  };
  const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
  const nine = fc.array(word, { minLength: 9, maxLength: 9 });
  fc.assert(
    fc.property(word, word, word, nine, (k0, k1, kind, words) => {
      expect(hashTuple(k0, k1, kind, Int32Array.from(words), 0, true)).toBe(slow(k0, k1, [...words, kind]));
      const short = [words[0], words[1], words[5], kind];
      expect(hashTuple(k0, k1, kind, Int32Array.from(words), 0, false)).toBe(slow(k0, k1, short));
    }),
  );
});

test('another secret makes other hashes, so that collisions found in one table are of no use in another', () => {
  const one = make(10).table;
  const other = ConnectionTable.format(plainMemory(10), 10, [1, 2], { nowMs: () => 0 });
  const same = Array.from({ length: 100 }, (_, i) => tupleOf(i)).filter((t) => one.hash(t) === other.hash(t));
  expect(same.length).toBeLessThan(2);
});

function copyOf(memory: ConnectionMemory): ConnectionMemory {
  return { control: memory.control.slice(), index: memory.index.slice(), records: memory.records.slice() };
}

test('who comes after another process finds the same connections, and nothing to repair', () => {
  const { table, memory, clock } = make(200);
  const records = Array.from({ length: 150 }, (_, number) => put(table, tupleOf(number), number % 4));
  for (let number = 0; number < 150; number += 3) table.remove(records[number], Removal.CLOSED);
  clock.nowMs += 1000;
  table.sweep(1);
  const adopted = ConnectionTable.adopt(copyOf(memory), { nowMs: () => clock.nowMs });
  expect(adopted.report).toEqual({ connections: 100, unsound: 0, repaired: 0 });
  expect(adopted.table.size).toBe(100);
  expect([...adopted.table.ports.counts()].sort()).toEqual([...table.ports.counts()].sort());
  for (let number = 0; number < 150; number += 1) {
    expect(adopted.table.find(tupleOf(number), clock.nowMs | 0)).toBe(number % 3 === 0 ? 0 : records[number] << 1);
  }
  for (let number = 1000; number < 1100; number += 1) expect(put(adopted.table, tupleOf(number))).not.toBe(0);
  expect(put(adopted.table, tupleOf(2000))).toBe(0);
});

test('connections expire in the time in which nobody is there, and those of a machine before its restart are none', () => {
  const { table, memory, clock } = make(10);
  put(table, tupleOf(1));
  table.sweep(1);
  const later = ConnectionTable.adopt(copyOf(memory), { nowMs: () => clock.nowMs + 30_000 });
  expect(later.table.find(tupleOf(1), (clock.nowMs + 30_000) | 0)).toBe(0);
  for (const nowMs of [clock.nowMs - 1, clock.nowMs + 2 ** 31]) {
    const other = ConnectionTable.adopt(copyOf(memory), { nowMs: () => nowMs });
    expect(other.report).toEqual({ connections: 0, unsound: 1, repaired: 2 });
    expect(other.table.size).toBe(0);
  }
});

test('a process may die between any two of its stores: what is half done is completed or taken back', () => {
  const { table, memory, clock } = make(10);
  const record = put(table, tupleOf(1));
  put(table, tupleOf(2));
  table.sweep(1);
  const places = [...memory.index.keys()].filter((place) => memory.index[place] >>> 1 !== 0);
  for (const place of places) {
    const half = copyOf(memory);
    half.index[place] = 0;
    const { report } = ConnectionTable.adopt(half, { nowMs: () => clock.nowMs });
    expect(report).toEqual({ connections: 2, unsound: 0, repaired: 1 });
  }
  const gone = copyOf(memory);
  gone.records[record * RECORD_WORDS] = 0;
  const { report } = ConnectionTable.adopt(gone, { nowMs: () => clock.nowMs });
  expect(report).toEqual({ connections: 1, unsound: 0, repaired: 2 });
});

test('a connection that was seen later than now is not sound', () => {
  const { table, memory, clock } = make(10);
  const records = [1, 2, 3].map((number) => put(table, tupleOf(number)));
  table.sweep(1);
  const seen = (record: number, aheadMs: number) => {
    memory.records[record * RECORD_WORDS + RecordWord.LAST_SEEN] = (clock.nowMs + aheadMs) | 0;
  };
  // Programs write the word while the table is adopted.
  seen(records[0], 1);
  seen(records[1], 60_000);
  seen(records[2], 2 ** 31);
  const adopted = ConnectionTable.adopt(memory, { nowMs: () => clock.nowMs });
  expect(adopted.report).toEqual({ connections: 1, unsound: 2, repaired: 4 });
  expect(adopted.table.isLive(records[0])).toBe(true);
});

test('time-outs of the memory that are too long or negative are cut when it is adopted', () => {
  const { table, memory, clock } = make(10);
  const policy = table.timeOuts.define('mine', {});
  table.sweep(1);
  const { control } = memory;
  control[ControlWord.POLICIES + TimeOut.UDP_UNREPLIED] = 2 ** 31 - 1;
  control[ControlWord.POLICIES + policy * POLICY_WORDS + TimeOut.ICMP] = -1;
  control[ControlWord.POLICIES + policy * POLICY_WORDS + TimeOut.GENERIC] = LONGEST_MS + 1;
  const { timeOuts } = ConnectionTable.adopt(memory, { nowMs: () => clock.nowMs }).table;
  expect(timeOuts.get(0, TimeOut.UDP_UNREPLIED)).toBe(LONGEST_MS);
  expect([timeOuts.get(policy, TimeOut.ICMP), timeOuts.get(policy, TimeOut.GENERIC)]).toEqual([0, LONGEST_MS]);
  expect([timeOuts.names(), timeOuts.get(policy, TimeOut.UDP_REPLIED)]).toEqual([['mine'], 120_000]);
});

test('memory that is no table, or one of another version, is not adopted', () => {
  const { memory, clock } = make(10);
  const settings = { nowMs: () => clock.nowMs };
  expect(() => ConnectionTable.adopt(plainMemory(10), settings)).toThrow(LayoutError);
  for (const [word, value] of [
    [ControlWord.VERSION, LAYOUT_VERSION + 1],
    [ControlWord.CAPACITY, 0],
    [ControlWord.CAPACITY, 11],
    [ControlWord.BUCKETS, 1_000_000],
    [ControlWord.FRESH, 12],
    [ControlWord.FRESH, -1],
  ]) {
    const wrong = copyOf(memory);
    wrong.control[word] = value;
    expect(() => ConnectionTable.adopt(wrong, settings), `word ${word} = ${value}`).toThrow(LayoutError);
  }
});

test('whatever stands in the memory, a table that is adopted works and finds no connection twice', () => {
  const change = fc.record({
    array: fc.constantFrom('index', 'records', 'control'),
    place: fc.nat(),
    value: fc.oneof(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), fc.nat(100), fc.constant(0)),
  });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
      const { table, memory, clock } = make(40);
      for (let number = 0; number < 30; number += 1) put(table, tupleOf(number));
      table.sweep(1);
      for (const { array, place, value } of changes) {
        // Of the control array only time-outs: sizes are checked by themselves, and the secret makes another table.
        const first = array === 'control' ? ControlWord.POLICIES : 0;
        const last = array === 'control' ? CONTROL_WORDS : memory[array].length;
        memory[array][first + (place % (last - first))] = value;
      }
      const adopted = ConnectionTable.adopt(memory, { nowMs: () => clock.nowMs }).table;
      const found = new Set<number>();
      for (let number = 0; number < 30; number += 1) {
        const entry = adopted.lookUp(tupleOf(number));
        if (entry === 0) continue;
        expect(found.has(entry)).toBe(false);
        found.add(entry);
      }
      for (let number = 100; number < 140; number += 1) put(adopted, tupleOf(number));
      expect(adopted.flush()).toBeGreaterThanOrEqual(0);
      expect([adopted.size, [...adopted.zones.counts()], [...adopted.ports.counts()]]).toEqual([0, [], []]);
      expect(memory.index.every((word) => word === 0)).toBe(true);
      for (let number = 0; number < 40; number += 1) expect(put(adopted, tupleOf(number))).not.toBe(0);
    }),
    { numRuns: 200 },
  );
});

function takeFor(admission: Admission, table: ConnectionTable, tuple: Tuple, port = 0): number {
  return put(table, tuple, port, admission.take(tuple.zone, port, table.nowMs() | 0));
}

/** A connection that was answered; an established one when both sides have shown that they want it. */
function answer(table: ConnectionTable, record: number, isEstablished = false): void {
  if (record === 0) return;
  table.setReplied(record);
  if (isEstablished) table.records[table.at(record) + RecordWord.STATUS] |= Status.ASSURED;
}

test('a flood of connections that nobody answers goes round in circles, and those that were answered stay', () => {
  const { table } = make(256);
  const admission = new Admission(table);
  const answered = Array.from({ length: 100 }, (_, number) => takeFor(admission, table, tupleOf(number)));
  for (const record of answered) answer(table, record);
  for (let number = 1000; number < 3000; number += 1) expect(takeFor(admission, table, tupleOf(number))).not.toBe(0);
  for (let number = 0; number < 100; number += 1)
    expect(table.find(tupleOf(number), 5000) >>> 1).toBe(answered[number]);
  // All but the last sixteenth, which is for others.
  expect([table.size, table.counters.removed[Removal.EVICTED]]).toEqual([240, 2100 - 240]);
  expect([...admission.pressure.losses()]).toEqual([{ zone: 0, port: 0, evicted: 2100 - 240, refused: 0 }]);
});

test.each([0, 20])(
  'a flood that a server answers goes round in circles, too, and takes nothing from others: rest %s ms',
  (restMs) => {
    const { table, clock } = make(640, restMs);
    const admission = new Admission(table);
    const honest = (number: number, port: number, zone = 0) => takeFor(admission, table, tupleOf(number, zone), port);
    const established = Array.from({ length: 100 }, (_, number) => honest(number, 1));
    for (const record of established) answer(table, record, true);
    let admitted = 0;
    for (let number = 1000; number < 5000; number += 1) {
      const record = honest(number, 1);
      answer(table, record);
      if (record !== 0) admitted += 1;
      if (number % 10 === 0) clock.nowMs += restMs;
    }
    expect(admitted).toBe(4000);
    for (let number = 0; number < 100; number += 1) {
      expect(table.lookUp(tupleOf(number)) >>> 1, `established ${number}`).toBe(established[number]);
    }
    expect(table.size).toBe(600);
    // The flooding port, another one, and another zone.
    expect([honest(9001, 1), honest(9002, 2), honest(9003, 1, 5)]).not.toContain(0);
  },
);

test('questions with one answer each, faster than freed records rest, leave half of the reserve to others', () => {
  const { table } = make(640, 1000);
  const admission = new Admission(table);
  for (let number = 0; number < 5000; number += 1) answer(table, takeFor(admission, table, tupleOf(number), 1));
  const others = Array.from({ length: 20 }, (_, i) => takeFor(admission, table, tupleOf(9000 + i), 2 + (i % 2)));
  expect(others).not.toContain(0);
  expect(takeFor(admission, table, tupleOf(9100), 1)).toBe(0);
});

test('an owner of all the established connections there are leaves the last sixteenth to others, and is refused', () => {
  const { table } = make(64);
  const admission = new Admission(table);
  for (let number = 0; number < 64; number += 1) {
    answer(table, takeFor(admission, table, tupleOf(number), 1), true);
  }
  expect([table.size, table.counters.refusedFull]).toEqual([60, 4]);
  expect(takeFor(admission, table, tupleOf(100), 2)).not.toBe(0);
  expect(takeFor(admission, table, tupleOf(101, 1), 1)).not.toBe(0);
  expect([takeFor(admission, table, tupleOf(102), 1), table.size]).toEqual([0, 62]);
  // By its port alone, or by its zone alone, nobody gets the other half.
  expect([takeFor(admission, table, tupleOf(103), 2), takeFor(admission, table, tupleOf(104, 1), 1)]).toEqual([0, 0]);
  expect(takeFor(admission, table, tupleOf(105, 1), 2)).not.toBe(0);
});

test('before a connection that closes goes one on which the two sides have not agreed yet, and before that one that nobody has answered', () => {
  const { table } = make(32);
  const admission = new Admission(table);
  const records = Array.from({ length: 30 }, (_, number) => takeFor(admission, table, tupleOf(number)));
  for (const [number, record] of records.entries()) if (number !== 9) answer(table, record, number !== 7);
  const closing = new Tuple();
  closing.copy(tupleOf(3));
  closing.begin(0, 6, false);
  table.remove(records[3], Removal.FLUSHED);
  const record = put(table, closing);
  answer(table, record, true);
  table.records[table.at(record) + RecordWord.STATE] = TcpState.FIN_WAIT | (TcpState.FIN_WAIT << TIMEOUT_SHIFT);
  const left = () => [tupleOf(9), tupleOf(7), closing].map((tuple) => table.lookUp(tuple) !== 0);
  const begin = (number: number) => answer(table, takeFor(admission, table, tupleOf(number)), true);
  expect(left()).toEqual([true, true, true]);
  begin(100);
  expect(left()).toEqual([false, true, true]);
  begin(101);
  expect(left()).toEqual([false, false, true]);
  begin(102);
  expect(left()).toEqual([false, false, false]);
});

test('where freed records rest, no connection goes for one that is not let in', () => {
  for (const zones of [1, 2]) {
    const { table, clock } = make(64, 1000);
    const admission = new Admission(table);
    let admitted = 0;
    const flood = (from: number, to: number) => {
      for (let number = from; number < to; number += 1) {
        if (takeFor(admission, table, tupleOf(number, number % zones)) !== 0) admitted += 1;
      }
    };
    flood(0, 1000);
    // Of the sixteenth that is kept ahead, four records, half is for others; the rest begins to rest as it is used up.
    expect([admitted, table.size, table.counters.removed[Removal.EVICTED]]).toEqual([62, 60, 2]);
    flood(1000, 2000);
    expect([admitted, table.size]).toEqual([62, 60]);
    clock.nowMs += 1000;
    flood(2000, 3000);
    expect([admitted, table.size, table.counters.removed[Removal.EVICTED]]).toEqual([64, 60, 4]);
    expect(table.counters.refusedFull).toBe(3000 - 64);
  }
});

test('a zone that fills the table takes no room of another one, even with connections that are established', () => {
  const { table } = make(320);
  const admission = new Admission(table);
  expect(takeFor(admission, table, tupleOf(0, 2))).not.toBe(0);
  for (let number = 0; number < 1000; number += 1) answer(table, takeFor(admission, table, tupleOf(number, 1)), true);
  // The last sixteenth is for those with less than their share.
  expect(table.zones.count(1)).toBe(300 - 1);
  for (let number = 1; number <= 20; number += 1) expect(takeFor(admission, table, tupleOf(number, 2))).not.toBe(0);
});

test('zones that all have their share at one port leave the last sixteenth to others', () => {
  const { table } = make(320);
  const admission = new Admission(table);
  for (let number = 0; number < 2000; number += 1) {
    answer(table, takeFor(admission, table, tupleOf(number, number % 6), 1), true);
  }
  expect(table.size).toBe(300);
  const others = (port: number) =>
    Array.from({ length: 10 }, (_, i) => takeFor(admission, table, tupleOf(100 * port + i, 9), port));
  expect(others(1)).not.toContain(0);
  expect(others(2)).not.toContain(0);
});

test('a port that floods takes its own connections, not those of another port in the same zone', () => {
  const { table } = make(320);
  const admission = new Admission(table);
  for (let number = 0; number < 90; number += 1) takeFor(admission, table, tupleOf(number), 7);
  for (let number = 1000; number < 5000; number += 1) {
    expect(takeFor(admission, table, tupleOf(number), 8)).not.toBe(0);
  }
  // Nor does one with few connections of its own.
  for (let number = 6000; number < 6090; number += 1) {
    expect(takeFor(admission, table, tupleOf(number), 9)).not.toBe(0);
  }
  expect([table.ports.count(7), table.ports.count(9)]).toEqual([90, 90]);
  expect([...admission.pressure.losses()]).toEqual([{ zone: 0, port: 8, evicted: expect.any(Number), refused: 0 }]);
});
