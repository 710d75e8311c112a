import { expect, test } from 'vitest';
import { DaemonNotRunning, Failure } from '../daemon/client.ts';
import { CliError, endingOf, formatEnding } from './exit.ts';
import { bytes, clock, count, duration, scaled } from './format.ts';
import { pairs, printable, table } from './table.ts';

test('a table has aligned columns, no frame, and no trailing blanks', () => {
  const text = table(
    [{ head: 'PORT' }, { head: 'PACKETS', align: 'right' }, { head: 'WHY' }],
    [
      ['web', '1', ''],
      ['uplink', '22,000', 'no carrier'],
    ],
    false,
  );
  expect(text).toBe('PORT    PACKETS  WHY\nweb           1\nuplink   22,000  no carrier\n');
});

test('only a table for a terminal has colours', () => {
  const colour = '\u001b[';
  expect(table([{ head: 'A' }], [['b']], false)).not.toContain(colour);
  expect(table([{ head: 'A' }], [['b']], true)).toContain(colour);
});

test('control characters from outside never reach the terminal', () => {
  expect(printable('a\u001b[31mb\u0007\u009b')).toBe('a\ufffd[31mb\ufffd\ufffd');
  expect(table([{ head: 'A' }], [['\u001b]0;x\u0007']], false)).not.toContain('\u001b');
  expect(pairs([['name', 'x\ry']])).toBe('name  x\ufffdy\n');
});

test('figures are short and have their unit', () => {
  expect(scaled(999, 'pps')).toBe('999 pps');
  expect(scaled(1_234_567, 'pps')).toBe('1.23 Mpps');
  expect(scaled(16.24e9, 'bit/s')).toBe('16.2 Gbit/s');
  expect(scaled(0, '')).toBe('0');
  expect(bytes(1500)).toBe('1.50 kB');
  expect(count(1234567)).toBe('1,234,567');
});

test('lengths of time are told in their two largest units', () => {
  expect([5, 65, 3_700, 200_000].map(duration)).toEqual(['5 s', '1 min 5 s', '1 h 1 min', '2 d 7 h']);
});

test('the time of day has milliseconds', () => {
  expect(clock(new Date(2026, 0, 2, 3, 4, 5, 6).getTime())).toBe('03:04:05.006');
});

test('each way to fail has its exit code', () => {
  const code = (error: unknown) => endingOf(error).exitCode;
  expect(code(new DaemonNotRunning('/x'))).toBe(3);
  expect(code(new Failure('not-found', 'x'))).toBe(4);
  expect(code(new Failure('exists', 'x'))).toBe(4);
  expect(code(new Failure('refused', 'x'))).toBe(4);
  expect(code(new Failure('privilege', 'x'))).toBe(5);
  expect(code(new Failure('invalid-params', 'x'))).toBe(2);
  expect(code(new Failure('failed', 'x'))).toBe(1);
  expect(code(new CliError('USAGE', 'x'))).toBe(2);
  expect(code(new TypeError('a fault of ours'))).toBe(1);
});

test('an ending is a sentence and what to do; configuration issues stand alone', () => {
  expect(formatEnding(endingOf(new Failure('not-found', 'there is no port "x"', 'there are: a')))).toBe(
    'millrace: there is no port "x"\n  there are: a\n',
  );
  expect(formatEnding(endingOf(new Failure('config', 'f.yaml:1:1: bad')))).toBe('f.yaml:1:1: bad\n');
});
