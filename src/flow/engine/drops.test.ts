/** Reasons of drops and what they are called. */
import { expect, test } from 'vitest';
import { Drop, dropName, dropText } from './drops.ts';

test('each reason has a name and a sentence of its own, which is more than its name', () => {
  const texts = Object.values(Drop).map((reason) => dropText(reason));
  expect(new Set(texts).size).toBe(texts.length);
  for (const [index, reason] of Object.values(Drop).entries()) {
    expect(texts[index]).toMatch(/^[A-Z`].*[.]$/);
    expect(texts[index].toLowerCase()).not.toBe(`${dropName(reason).replaceAll('-', ' ')}.`);
  }
  expect(dropText(Drop.CONNECTION_ZONE_LIMIT)).toContain('millrace connections limits');
  expect(dropText(9999)).toBe('It was dropped: drop-9999.');
});
