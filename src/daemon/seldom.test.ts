import { expect, test } from 'vitest';
import { Seldom } from './seldom.ts';

test('the first time is said at once, the others in one sentence after a while, and nothing when there were none', () => {
  const said: number[] = [];
  const waiting: (() => void)[] = [];
  const seldom = new Seldom(
    (times) => said.push(times),
    (_, call) => waiting.push(call),
  );
  for (let i = 0; i < 10; i += 1) seldom.happened();
  expect(said).toEqual([1]);
  waiting.shift()?.();
  expect(said).toEqual([1, 9]);
  waiting.shift()?.();
  expect([said, waiting]).toEqual([[1, 9], []]);
  seldom.happened();
  expect(said).toEqual([1, 9, 1]);
});
