/** Going through a table some records at a time. */
import { expect, test } from 'vitest';
import { ConnectionCursor } from './cursor.ts';
import { Removal } from './table.ts';
import { end, udp } from './testing/frames.ts';
import { Lab } from './testing/lab.ts';

function world(): Lab {
  const lab = new Lab(256);
  for (let i = 0; i < 100; i += 1)
    lab.send(udp(end('10.0.0.1', i), end('10.0.0.2', 9)), { commit: true, zone: i % 10 });
  return lab;
}

/** All that a cursor meets, and how often it stopped with nothing. */
function gather(cursor: ConnectionCursor, steps: number): { met: number[]; pauses: number } {
  const met: number[] = [];
  let pauses = 0;
  for (;;) {
    cursor.allow(steps);
    for (let record = cursor.take(); record !== 0; record = cursor.take()) met.push(record);
    if (cursor.next === 0) return { met, pauses };
    pauses += 1;
  }
}

test('what is wanted is met once, however small the steps', () => {
  const { table } = world();
  const isWanted = (record: number) => table.records[table.at(record)] >>> 16 === 7;
  const wanted = [8, 18, 28, 38, 48, 58, 68, 78, 88, 98];
  for (const steps of [1, 7, 99, 100, 1000]) {
    const { met, pauses } = gather(new ConnectionCursor(table, isWanted), steps);
    expect([met, pauses]).toEqual([wanted, Math.ceil(100 / steps) - 1]);
  }
});

test('another cursor goes on where one has stopped', () => {
  const { table } = world();
  const first = new ConnectionCursor(table, () => true);
  first.allow(40);
  while (first.take() !== 0);
  expect(first.next).toBe(41);
  expect(gather(new ConnectionCursor(table, () => true, { from: first.next }), 9).met.length).toBe(60);
});

test('what ends meanwhile is not met, and what has expired only where it is wanted', () => {
  const lab = world();
  const cursor = new ConnectionCursor(lab.table, () => true);
  cursor.allow(10);
  expect(cursor.take()).toBe(1);
  lab.table.remove(2, Removal.FLUSHED);
  expect(cursor.take()).toBe(3);
  lab.nowMs += 31_000;
  expect(gather(new ConnectionCursor(lab.table, () => true), 50).met).toEqual([]);
  expect(gather(new ConnectionCursor(lab.table, () => true, { withExpired: true }), 50).met.length).toBe(99);
});

test('an empty table is over at once', () => {
  const cursor = new ConnectionCursor(new Lab().table, () => true);
  cursor.allow(10);
  expect([cursor.take(), cursor.next]).toEqual([0, 0]);
});
