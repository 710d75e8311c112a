import { expect, test } from 'vitest';
import { AssemblyError } from '../errors.ts';
import { ProgramBuilder } from './builder.ts';
import { disassemble } from './disassemble.ts';
import { at, R0, R1, R2, R3, R6, R10 } from './operands.ts';

function listing(write: (b: ProgramBuilder) => void): string[] {
  const b = new ProgramBuilder('listing');
  write(b);
  b.checkComplete();
  return disassemble(b.instructions)
    .split('\n')
    .map((line) => line.replace(/^ *\d+: \([0-9a-f]+\) /, ''));
}

test('an if is one jump over its body, and no jump follows a body that has ended', () => {
  expect(
    listing((b) => {
      b.if(
        R1,
        '==',
        6,
        () => b.return(1),
        () => b.mov(R0, 2),
      );
      b.exit();
    }),
  ).toEqual(['if r1 != 0x6 goto pc+2', 'r0 = 1', 'exit', 'r0 = 2', 'exit']);
});

test('code that nothing reaches is refused where it is written', () => {
  const b = new ProgramBuilder('unreachable');
  b.return(0);
  expect(() => b.mov(R0, 1)).toThrow(/nothing reaches this instruction/);
  const both = new ProgramBuilder('both');
  both.if(
    R1,
    '>',
    1,
    () => both.return(0),
    () => both.return(1),
  );
  expect(both.reachable).toBe(false);
});

test('a program must end, must not be empty, and must not fall into a function', () => {
  const open = new ProgramBuilder('open');
  open.mov(R0, 0);
  expect(() => open.checkComplete()).toThrow('program "open" ends in neither exit nor jump');
  expect(() => new ProgramBuilder('empty').checkComplete()).toThrow('program "empty" is empty');
  const falls = new ProgramBuilder('falls');
  const target = falls.function('target', () => falls.return(0));
  falls.callLocal(target);
  expect(() => falls.checkComplete()).toThrow('the code before function "target"');
});

test('the stack has 512 bytes, and scopes give theirs back', () => {
  const b = new ProgramBuilder('stack');
  b.scope(() => b.stack(500));
  expect(b.stack(8).offset).toBe(-8);
  expect(b.stack(1).offset).toBe(-9);
  expect(b.stack(4).offset).toBe(-16);
  expect(() => b.stack(500)).toThrow(/no room for 500 bytes on the stack: 16 of 512/);
  expect(() => b.stack(0)).toThrow(AssemblyError);
  expect(() => b.stack(4).at(4)).toThrow('byte 4 is outside a stack slot of 4 bytes');
});

test('arguments are put in their registers, unless one would be overwritten before it is used', () => {
  expect(
    listing((b) => {
      b.call('map_update_elem', R6, at(R10, -8), at(R3, 4), 0n);
      b.exit();
    }).slice(0, 5),
  ).toEqual(['r1 = r6', 'r2 = r10', 'r2 += -8', 'r3 += 4', 'r4 = 0']);
  const b = new ProgramBuilder('conflict');
  expect(() => b.call('redirect', R3, R1)).toThrow('argument 2 lies in r1, which argument 1 has taken by then');
  expect(() => b.call('redirect', 1, 2, 3, 4, 5, 6)).toThrow('at most 5 arguments');
});

test('constants take two slots only when they need them', () => {
  expect(
    listing((b) => {
      b.set(R0, -1);
      b.set(R0, 0xffffffff);
      b.set(R0, 1n << 40n);
      b.exit();
    }),
  ).toEqual(['r0 = -1', 'r0 = 0xffffffff', 'r0 = 0x10000000000', 'exit']);
  const b = new ProgramBuilder('half');
  expect(() => b.set(R0, 0.5)).toThrow('0.5 is no whole number');
});

test('a case that comes twice is refused', () => {
  const b = new ProgramBuilder('switch');
  expect(() =>
    b.switch(R1, [
      [4, () => undefined],
      [4, () => undefined],
    ]),
  ).toThrow('case 4 comes twice');
});

test('every instruction knows the line that wanted it, through as many layers of the builder as there are', () => {
  const b = new ProgramBuilder('sites');
  const tooShort = () => b.return(0); // here
  b.needBytes(R1, R2, 14, R3, tooShort);
  b.return(2); // and here
  const lines = b.instructions.map((instruction) => instruction.site?.resolve());
  expect(lines.every((line) => line?.file === 'src/bpf/asm/builder.test.ts')).toBe(true);
  expect(lines.map((line) => line?.text)).toEqual([
    ...Array(3).fill('b.needBytes(R1, R2, 14, R3, tooShort);'),
    ...Array(2).fill('const tooShort = () => b.return(0); // here'),
    ...Array(2).fill('b.return(2); // and here'),
  ]);
  const quick = new ProgramBuilder('quick', { recordSites: false });
  quick.return(0);
  expect(quick.instructions[0]?.site).toBeUndefined();
});
