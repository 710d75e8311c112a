/** What the options that pick connections take. */
import { expect, test } from 'vitest';
import { CliError } from '../exit.ts';
import { filterOf } from './connection-filter.ts';

test('a mark is a value, or a value with a mask that covers it', () => {
  const whole = 0xffff_ffff;
  expect(filterOf({ mark: '5' })).toEqual({ mark: { value: 5, mask: whole } });
  expect(filterOf({ mark: '0x10/0xf0' })).toEqual({ mark: { value: 0x10, mask: 0xf0 } });
  expect(filterOf({ mark: '0x80000000/0x80000000' })).toEqual({ mark: { value: 0x8000_0000, mask: 0x8000_0000 } });
});

test.each(['1/2/3', '1/1/', '1/2', '0x80000000/0x7fffffff', '1/', '/1', '', 'x', '4294967296'])(
  'the mark "%s" is refused',
  (mark) => {
    expect(() => filterOf({ mark })).toThrow(CliError);
  },
);
