/** The difference of two clocks stays as it is until one of them is set, however unlucky they are read. */
import { expect, test } from 'vitest';
import { ClockOffset, type ReadableClock } from './clock-offset.ts';

class Time {
  nowNs = 5_999_999_000;
  /** Time that passes with each reading. */
  readonly delaysNs: number[] = [];

  clock(aheadNs: () => number): ReadableClock {
    const reading = { seconds: 0, nanoseconds: 0 };
    return Object.assign(reading, {
      read: () => {
        this.nowNs += this.delaysNs.shift() ?? 300;
        const ns = this.nowNs + aheadNs();
        reading.seconds = Math.floor(ns / 1e9);
        reading.nanoseconds = ns % 1e9;
      },
    });
  }
}

const inNs = ({ seconds, nanoseconds }: ClockOffset) => seconds * 1e9 + nanoseconds;

function both(ahead: { ns: number }) {
  const time = new Time();
  const offset = new ClockOffset(
    time.clock(() => ahead.ns),
    time.clock(() => 0),
  );
  return { time, offset };
}

test('it is exact, also across a full second, and stays the same', () => {
  const ahead = { ns: 1_700_000_000_250 };
  const { time, offset } = both(ahead);
  offset.refresh();
  const first = inNs(offset);
  expect(Math.abs(first - ahead.ns)).toBeLessThanOrEqual(300);
  expect(offset.nanoseconds).toBeGreaterThanOrEqual(0);
  expect(offset.nanoseconds).toBeLessThan(1e9);
  for (let i = 0; i < 1000; i += 1) {
    time.nowNs += 7_654_321;
    offset.refresh();
    expect(inNs(offset)).toBe(first);
  }
});

test('a thread that loses its processor between two readings is not taken in', () => {
  const ahead = { ns: 1e12 };
  const { time, offset } = both(ahead);
  time.delaysNs.push(300, 4_000_000, 300, 300, 300, 7_000_000);
  offset.refresh();
  expect(Math.abs(inNs(offset) - ahead.ns)).toBeLessThanOrEqual(300);
  const first = inNs(offset);
  // Each attempt is disturbed.
  time.delaysNs.push(...Array.from({ length: 15 }, (_, i) => (i % 3 === 1 ? 3_000_000 : 300)));
  offset.refresh();
  expect(inNs(offset)).toBe(first);
});

test('a clock that is set is followed at once', () => {
  const ahead = { ns: 1e13 };
  const { offset } = both(ahead);
  offset.refresh();
  for (const byNs of [1e6, -3600e9]) {
    ahead.ns += byNs;
    offset.refresh();
    expect(Math.abs(inNs(offset) - ahead.ns)).toBeLessThanOrEqual(300);
  }
});
