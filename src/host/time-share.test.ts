import { expect, test } from 'vitest';
import { TimeShare } from './time-share.ts';

test('as many packets are taken as take the time that there is, between the least and the most', () => {
  const share = new TimeShare(1, 4, 64);
  expect(share.packets).toBe(64);
  for (let i = 0; i < 100; i += 1) share.spent(64, 64 * 0.05);
  expect(share.packets).toBeGreaterThanOrEqual(19);
  expect(share.packets).toBeLessThanOrEqual(20);
  // One batch in which something else ran says little.
  share.spent(1, 100);
  expect(share.packets).toBeGreaterThanOrEqual(16);
  for (let i = 0; i < 100; i += 1) share.spent(4, 40);
  expect(share.packets).toBe(4);
  for (let i = 0; i < 50; i += 1) share.spent(4, 0.004);
  expect(share.packets).toBe(64);
});
