import { expect, test } from 'vitest';
import { CliError } from '../exit.ts';
import { amount, milliseconds, whole } from './traffic.ts';

test('amounts are whole numbers, with decimal prefixes', () => {
  expect(['7', '250k', '1.5M', '2g'].map((text) => amount(text, 'rate'))).toEqual([
    7, 250_000, 1_500_000, 2_000_000_000,
  ]);
  for (const text of ['', '0', '-1', '1.5.2', '10kk', 'many', '1e400', '0x10']) {
    expect(() => amount(text, 'rate'), text).toThrow(CliError);
  }
});

test('times are in seconds unless they say otherwise', () => {
  expect(['10', '10s', '500ms', '2m', '0.5s'].map(milliseconds)).toEqual([10_000, 10_000, 500, 120_000, 500]);
  for (const text of ['', '0', '-1s', '1h', 'soon']) expect(() => milliseconds(text), text).toThrow(CliError);
});

test('numbers within bounds are taken, others refused with the bounds', () => {
  expect(whole('60', 'frame size', 60, 100)).toBe(60);
  for (const text of ['59', '101', '6e1', '', ' 70'])
    expect(() => whole(text, 'frame size', 60, 100)).toThrow(CliError);
});
