import { expect, expectTypeOf, test } from 'vitest';
import { z } from 'zod';
import { type CallsOf, checkedBy, command, runCommand } from './commands.ts';

interface Counter {
  value: number;
}

const NONE = z.strictObject({});

const COMMANDS = {
  add: command(z.strictObject({ by: z.int().default(1) }), (counter: Counter, { by }) => {
    counter.value += by;
    return { value: counter.value };
  }),
  show: command(NONE, (counter: Counter) => counter.value),
  clear: command(NONE, (counter: Counter) => {
    counter.value = 0;
    return null;
  }),
};

test('a command gets checked arguments with what was left out filled in', () => {
  const counter = { value: 3 };
  expect(runCommand(COMMANDS, counter, 'add', { by: 4 })).toEqual({ value: 7 });
  expect(runCommand(COMMANDS, counter, 'add', {})).toEqual({ value: 8 });
  expect(runCommand(COMMANDS, counter, 'show', null)).toBe(8);
});

test('a command that is not there is answered with those that are', () => {
  for (const name of ['remove', 'toString', '__proto__'])
    expect(() => runCommand(COMMANDS, { value: 0 }, name, null)).toThrow(
      `there is no command "${name}"; there are add, show and clear`,
    );
});

test('arguments that are wrong are named by their fields, and nothing is done', () => {
  const counter = { value: 3 };
  expect(() => runCommand(COMMANDS, counter, 'add', { by: 'x' })).toThrow(/^by: /);
  expect(() => runCommand(COMMANDS, counter, 'add', { by: 1, to: 2 })).toThrow('to');
  expect(counter.value).toBe(3);
});

test('every finding of a schema has a line of its own', () => {
  const schema = z.strictObject({
    a: z.strictObject({ b: z.array(z.int()) }),
    c: z.string({ error: 'must be a text' }),
  });
  const findings = () => checkedBy(schema, { a: { b: [1, 'x'] }, c: 5 });
  expect(findings).toThrow(/^a\.b\.1: .*\nc: must be a text$/);
});

test('the type of a table tells what callers give and get', () => {
  type Calls = CallsOf<typeof COMMANDS>;
  expectTypeOf<Calls['add']>().toEqualTypeOf<{ args: { by?: number | undefined }; result: { value: number } }>();
  expectTypeOf<Calls['show']>().toEqualTypeOf<{ args: Record<string, never>; result: number }>();
});
