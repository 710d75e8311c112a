import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { GracePeriods, GraceWaiter, newGracePeriods } from './grace-periods.ts';

test('a mark is past once a grace period has begun and ended after it was given', async () => {
  const memory = newGracePeriods();
  const waiter = new GraceWaiter(memory);
  const periods = new GracePeriods(memory, () => waiter.wait());
  const first = periods.mark();
  // It shares the period after the one that has begun.
  const second = periods.mark();
  expect([first, second].map((mark) => periods.isPast(mark))).toEqual([false, false]);
  let onlyFirst = false;
  while (!periods.isPast(second)) {
    onlyFirst ||= periods.isPast(first);
    // A turn of the loop lies between the ends of two.
    await turn();
  }
  expect([onlyFirst, periods.isPast(first)]).toEqual([true, true]);
});

test('numbers wrap', async () => {
  const memory = newGracePeriods();
  new Int32Array(memory).fill(0x7fff_fffe);
  const waiter = new GraceWaiter(memory);
  const periods = new GracePeriods(memory, () => waiter.wait());
  for (let round = 0; round < 3; round += 1) {
    const mark = periods.mark();
    expect(periods.isPast(mark)).toBe(false);
    while (!periods.isPast(mark)) await sleep(1);
  }
});
