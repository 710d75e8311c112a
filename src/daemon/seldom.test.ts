import { expect, test } from 'vitest';
import { Seldom } from './seldom.ts';

test('the first time is said at once, the others in one sentence after a while', () => {
  const said: number[] = [];
  let nowMs = 5;
  const seldom = new Seldom(
    (times) => said.push(times),
    100,
    () => nowMs,
  );
  for (let i = 0; i < 10; i += 1) seldom.happened();
  expect(said).toEqual([1]);
  nowMs = 105;
  seldom.happened();
  seldom.happened();
  expect(said).toEqual([1, 10]);
});
