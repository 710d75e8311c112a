import { expect, test } from 'vitest';
import { LOOK_MS, type Stuck, Watchdog } from './watchdog.ts';

/** Look at a pulse for some time. @returns what was seen last */
function watch(
  dog: Watchdog,
  looks: number,
  reading: { turns: number; entered?: number; asleep?: boolean },
): Stuck | null {
  let seen: Stuck | null = null;
  for (let i = 0; i < looks; i += 1) {
    nowMs += LOOK_MS;
    seen = dog.look({ entered: 0, asleep: false, ...reading }, nowMs);
  }
  return seen;
}
let nowMs = 0;

test('a loop that goes round or sleeps is not stuck, however long', () => {
  const dog = new Watchdog();
  for (let turns = 0; turns < 100; turns += 1) expect(watch(dog, 1, { turns, entered: 3 })).toBeNull();
  expect(watch(dog, 100, { turns: 100, asleep: true })).toBeNull();
});

test('a loop that stands still is, with the extension that it was in for most of the time', () => {
  const dog = new Watchdog();
  watch(dog, 1, { turns: 7 });
  expect(watch(dog, 4, { turns: 7, entered: 1 })).toEqual({ entered: 1, forMs: 400 });
  expect(watch(dog, 16, { turns: 7, entered: 2 })).toEqual({ entered: 2, forMs: 2_000 });
  expect(watch(dog, 1, { turns: 8, entered: 2 })).toBeNull();
});

test('time in which the watchdog itself was not run does not count', () => {
  const dog = new Watchdog();
  watch(dog, 1, { turns: 7 });
  nowMs += 60_000;
  expect(watch(dog, 1, { turns: 7 })?.forMs).toBe(300);
});
