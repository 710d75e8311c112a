import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AssemblyError } from '../errors.ts';
import { Assembler } from './assembler.ts';
import { disassemble } from './disassemble.ts';
import { decode, encode } from './encode.ts';
import type { Instruction } from './instruction.ts';
import { at, R0, R10 } from './operands.ts';
import { instruction } from './testing-instructions.ts';

const runs = Number(process.env.MILLRACE_FUZZ ?? 1) * 300;

const fields = ({ opcode, dst, src, offset, imm, immHigh }: Instruction) => ({
  opcode,
  dst,
  src,
  offset,
  imm,
  immHigh,
});

test('every instruction survives the way to bytes and back, and prints the same there', () => {
  fc.assert(
    fc.property(fc.array(instruction, { minLength: 1, maxLength: 20 }), (writes) => {
      const a = new Assembler('round trip', { recordSites: false });
      for (const write of writes) write(a);
      a.exit();
      const encoded = encode(a.instructions);
      const decoded = decode(encoded);
      expect(encode(decoded)).toEqual(encoded);
      const unlabelled = (text: string) => text.replace(/map\[(m|fd:\d+)\]/g, 'map');
      expect(unlabelled(disassemble(decoded))).toBe(unlabelled(disassemble(a.instructions)));
    }),
    { numRuns: runs },
  );
});

test('bytes from anywhere decode to instructions that encode to the same bytes, or are refused', () => {
  const slot = fc.uint8Array({ minLength: 8, maxLength: 8 }).map((bytes) => {
    // Registers and reserved halves are mostly legal, or nothing would get past the first check.
    bytes[1] = ((bytes[1] ?? 0) & 0x77) % 0xaa;
    return bytes;
  });
  let accepted = 0;
  fc.assert(
    fc.property(
      fc.array(fc.oneof({ weight: 9, arbitrary: slot }, { weight: 1, arbitrary: fc.uint8Array({ maxLength: 9 }) })),
      (slots) => {
        const bytes = Uint8Array.from(slots.flatMap((part) => [...part]));
        let decoded: Instruction[];
        try {
          decoded = decode(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(AssemblyError);
          return;
        }
        accepted++;
        expect(encode(decoded)).toEqual(bytes);
        expect(disassemble(decoded)).not.toContain('undefined');
        expect(decode(encode(decoded)).map(fields)).toEqual(decoded.map(fields));
      },
    ),
    { numRuns: runs * 4 },
  );
  expect(accepted).toBeGreaterThan(0);
});

test('what is no program is refused with the slot that is wrong', () => {
  const slots = (...values: number[][]) => Uint8Array.from(values.flat());
  expect(() => decode(new Uint8Array(7))).toThrow('7 bytes are no whole number of instructions');
  expect(() => decode(slots([0xff, 0, 0, 0, 0, 0, 0, 0]))).toThrow('slot 0: opcode 0xff');
  expect(() => decode(slots([0xb7, 0x0b, 0, 0, 0, 0, 0, 0]))).toThrow('slot 0: there is no register above r10');
  expect(() => decode(slots([0x18, 0, 0, 0, 0, 0, 0, 0]))).toThrow('slot 0: ld_imm64 is cut short');
  expect(() => decode(slots([0x18, 0, 0, 0, 0, 0, 0, 0], [0xb7, 0, 0, 0, 0, 0, 0, 0]))).toThrow(
    'slot 1 is not the second half',
  );
});

test('distances count slots, of which ld_imm64 takes two', () => {
  const a = new Assembler('distances');
  const [ahead, behind] = [a.label(), a.label()];
  a.place(behind);
  a.jumpIf(R0, '==', 1, ahead);
  a.load64(R0, 1n);
  a.load64(R0, 2n);
  a.jumpIf(R0, '==', 2, behind);
  a.place(ahead);
  a.exit();
  expect(disassemble(a.instructions)).toBe(
    [
      '   0: (15) if r0 == 0x1 goto pc+5',
      '   1: (18) r0 = 0x1',
      '   3: (18) r0 = 0x2',
      '   5: (15) if r0 == 0x2 goto pc-6',
      '   6: (95) exit',
    ].join('\n'),
  );
});

test('labels that are never placed, maps that are closed and jumps that are too far are refused', () => {
  const unplaced = new Assembler('unplaced');
  unplaced.jumpIf(R0, '==', 0, unplaced.label('nowhere'));
  unplaced.exit();
  expect(() => encode(unplaced.instructions)).toThrow('label "nowhere" is used but never placed');
  const closed = new Assembler('closed');
  closed.loadMap(R0, { fd: -1, name: 'gone' });
  expect(() => encode(closed.instructions)).toThrow('map "gone" is closed');
  const far = new Assembler('far', { recordSites: false });
  const end = far.label('end');
  far.jumpIf(R0, '==', 0, end);
  for (let turn = 0; turn < 33_000; turn++) far.add(R0, 1);
  far.place(end);
  far.exit();
  expect(() => encode(far.instructions)).toThrow(/jump to "end" spans 33000 slots/);
});

test('operands that do not fit are refused where they are written', () => {
  const a = new Assembler('operands');
  const refused: readonly (readonly [() => void, RegExp])[] = [
    [() => a.mov(R0, 0x80000000), /does not fit the 32 signed bits/],
    [() => a.mov32(R0, 0x100000000), /does not fit 32 bits/],
    [() => a.add(R0, 1.5), /does not fit/],
    [() => a.shl(R0, 64), /outside 0 to 63/],
    [() => a.shr32(R0, 32), /outside 0 to 31/],
    [() => a.div(R0, 0), /constant zero/],
    [() => a.load(R0, 'u8', at(R10, 40_000)), /offset 40000/],
    [() => a.store('u8', at(R10, -1), 256), /does not fit a u8/],
    [() => a.store('u16', at(R10, -2), -40_000), /does not fit a u16/],
    [() => a.load64(R0, 1n << 64n), /does not fit 64 bits/],
  ];
  for (const [write, message] of refused) expect(write).toThrow(message);
  expect(a.instructions).toHaveLength(0);
});
