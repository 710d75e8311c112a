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
