import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Timers } from './timers.ts';

const recorder = (log: string[], name: string) => ({ onTimer: (nowMs: number) => void log.push(`${name}@${nowMs}`) });

test('timers fire in the order of their deadlines, each once', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 1000 }), { maxLength: 50 }), (delays) => {
      const timers = new Timers();
      const fired: number[] = [];
      for (const delay of delays) timers.once(delay, { onTimer: () => void fired.push(delay) }, 0);
      for (let now = 0; now <= 1000; now += 100) {
        timers.run(now);
        expect(timers.untilNextMs(now)).toBeGreaterThan(0);
      }
      expect(fired).toEqual([...delays].sort((a, b) => a - b));
      expect(timers.size).toBe(0);
    }),
  );
});

test('the timers that are left fire in order, whichever are cancelled', () => {
  const delays = fc.array(fc.tuple(fc.integer({ min: 1, max: 1000 }), fc.boolean()), { maxLength: 500, size: 'max' });
  fc.assert(
    fc.property(delays, (set) => {
      const timers = new Timers();
      const fired: number[] = [];
      const all = set.map(([delay]) => timers.once(delay, { onTimer: () => void fired.push(delay) }, 0));
      for (const [index, [, isCancelled]] of set.entries()) if (isCancelled) all[index].cancel();
      const left = set.flatMap(([delay, isCancelled]) => (isCancelled ? [] : [delay])).sort((a, b) => a - b);
      expect(timers.untilNextMs(0)).toBe(left[0] ?? Number.POSITIVE_INFINITY);
      expect(timers.run(1000)).toBe(left.length);
      expect(fired).toEqual(left);
    }),
  );
});

test('timers that are set and cancelled for ever take no more memory than those that are left', () => {
  const timers = new Timers();
  for (let round = 0; round < 10_000; round += 1) {
    timers.once(3_600_000, recorder([], ''), round).cancel();
    if (round % 100 === 0) timers.once(3_600_000, recorder([], ''), round);
    expect(timers.size).toBeLessThan(400);
  }
});

test('a timer that has fired may be cancelled, again and again', () => {
  const timers = new Timers();
  const log: string[] = [];
  const timer = timers.once(1, recorder(log, 'one'), 0);
  timers.run(1);
  timers.once(2, recorder(log, 'two'), 0);
  for (let round = 0; round < 1_000; round += 1) timer.cancel();
  timers.run(2);
  expect(log).toEqual(['one@1', 'two@2']);
});

test('a periodic timer fires once a period and makes up for nothing', () => {
  const timers = new Timers();
  const log: string[] = [];
  const timer = timers.every(10, recorder(log, 'tick'), 0);
  timers.run(9);
  timers.run(10);
  timers.run(57);
  expect(timers.untilNextMs(57)).toBe(3);
  timers.run(60);
  expect(log).toEqual(['tick@10', 'tick@57', 'tick@60']);
  timer.cancel();
  timers.run(100);
  expect(log).toHaveLength(3);
  expect(timers.untilNextMs(100)).toBe(Number.POSITIVE_INFINITY);
});

test('a timer may cancel another that is due, and set new ones', () => {
  const timers = new Timers();
  const log: string[] = [];
  const second = timers.once(2, recorder(log, 'second'), 0);
  timers.once(
    1,
    {
      onTimer: (nowMs) => {
        second.cancel();
        timers.once(0, recorder(log, 'third'), nowMs);
      },
    },
    0,
  );
  expect(timers.run(5)).toBe(2);
  expect(log).toEqual(['third@5']);
});

test('a period of nothing is refused', () => {
  expect(() => new Timers().every(0, recorder([], ''))).toThrow(RangeError);
});
