import { expect, test } from 'vitest';
import { milliseconds } from './seconds.ts';

test('seconds are taken within their bounds, and nothing else', () => {
  expect([milliseconds('1', 'a timeout', 1), milliseconds('0.1', 'an interval', 0.1)]).toEqual([1000, 100]);
  for (const text of ['', '0.5', '-1', '3601', 'Infinity', 'NaN', 'soon', '2s', '1,5'])
    expect(() => milliseconds(text, 'a timeout', 1), text).toThrow(`"${text}" is not a timeout`);
});
