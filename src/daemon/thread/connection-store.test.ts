/** Where the table of connections lies: how long its records rest. The rest needs a kernel (test/). */
import { expect, test } from 'vitest';
import { restMsOf } from './connection-store.ts';

test('the larger a table, the longer a freed record rests, up to where nothing can stall a program for as long', () => {
  expect([1000, 65_536, 131_072, 1_000_000].map(restMsOf)).toEqual([20, 64, 128, 200]);
  // At 64,000 new connections a second.
  for (const capacity of [20_480, 65_536, 1_000_000]) {
    expect(64 * restMsOf(capacity)).toBeLessThanOrEqual(capacity / 16 + 64);
  }
});
