import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Condition, STEADY_MS } from './condition.ts';

test('a condition is broken at once, and met again when it has been met for a while', () => {
  const condition = new Condition();
  expect(condition.see(null, 0)).toBe(false);
  expect(condition.see('no GRO', 10)).toBe(true);
  expect(condition.reason).toBe('no GRO');
  expect(condition.see('no GRO', 20)).toBe(false);
  expect(condition.see(null, 30)).toBe(false);
  expect(condition.reason).toBe('no GRO');
  expect(condition.see(null, 19 + STEADY_MS)).toBe(false);
  expect(condition.see(null, 20 + STEADY_MS)).toBe(true);
  expect(condition.reason).toBeNull();
});

test('what changes all the time is met as seldom as once in the while', () => {
  const looks = fc.array(fc.record({ broken: fc.boolean(), laterMs: fc.integer({ min: 1, max: STEADY_MS }) }));
  fc.assert(
    fc.property(looks, (all) => {
      const condition = new Condition();
      let nowMs = 0;
      let brokenMs = Number.NEGATIVE_INFINITY;
      for (const { broken, laterMs } of all) {
        nowMs += laterMs;
        if (broken) brokenMs = nowMs;
        condition.see(broken ? 'broken' : null, nowMs);
        expect(condition.reason === null).toBe(nowMs >= brokenMs + STEADY_MS);
      }
    }),
  );
});
