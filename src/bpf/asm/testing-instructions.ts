/** Any instruction, for property tests. */
import fc from 'fast-check';
import type { Assembler } from './assembler.ts';
import { at, type Condition, R0, registerOf } from './operands.ts';

const register = fc.integer({ min: 0, max: 10 }).map((index) => registerOf(index) ?? R0);
const s16 = fc.integer({ min: -0x8000, max: 0x7fff });
const s32 = fc.integer({ min: -0x80000000, max: 0x7fffffff });
const operand = fc.oneof(register, s32);
const width = fc.constantFrom('u8', 'u16', 'u32', 'u64', 's8', 's16', 's32');
const storeWidth = fc.constantFrom('u8', 'u16', 'u32', 'u64');
const condition: fc.Arbitrary<Condition> = fc.constantFrom(
  '==',
  '!=',
  '>',
  '>=',
  '<',
  '<=',
  's>',
  's>=',
  's<',
  's<=',
  '&',
);
const bits = fc.constantFrom(16, 32, 64);
const atomic = fc.constantFrom(
  ...(['add', 'or', 'and', 'xor', 'fetch_add', 'fetch_or', 'fetch_and', 'fetch_xor', 'xchg', 'cmpxchg'] as const),
);

/** Writes an instruction. */
export type Write = (a: Assembler) => void;
const plain = fc.constantFrom(
  ...([
    'mov',
    'mov32',
    'add',
    'add32',
    'sub',
    'sub32',
    'mul',
    'mul32',
    'or',
    'or32',
    'and',
    'and32',
    'xor',
    'xor32',
  ] as const),
);
const division = fc.constantFrom(
  ...(['div', 'div32', 'divSigned', 'divSigned32', 'mod', 'mod32', 'modSigned', 'modSigned32'] as const),
);
const shift = fc.constantFrom(...(['shl', 'shr', 'sar', 'shl32', 'shr32', 'sar32'] as const));

/** Any instruction of any class, but those that end a path. */
export const instruction: fc.Arbitrary<Write> = fc.oneof(
  fc.tuple(plain, register, operand).map(
    ([name, dst, value]): Write =>
      (a) =>
        a[name](dst, value),
  ),
  fc.tuple(division, register, operand).map(
    ([name, dst, value]): Write =>
      (a) =>
        a[name](dst, value === 0 ? 1 : value),
  ),
  fc.tuple(shift, register, fc.oneof(register, fc.integer({ min: 0, max: 31 }))).map(
    ([name, dst, value]): Write =>
      (a) =>
        a[name](dst, value),
  ),
  fc.tuple(register, register, fc.constantFrom(8, 16, 32)).map(
    ([dst, src, from]): Write =>
      (a) =>
        a.movSigned(dst, src, from),
  ),
  fc.tuple(register, register, fc.constantFrom(8, 16)).map(
    ([dst, src, from]): Write =>
      (a) =>
        a.movSigned32(dst, src, from),
  ),
  register.map(
    (dst): Write =>
      (a) =>
        a.neg(dst),
  ),
  register.map(
    (dst): Write =>
      (a) =>
        a.neg32(dst),
  ),
  fc.tuple(fc.constantFrom('toBigEndian', 'toLittleEndian', 'swapBytes'), register, bits).map(
    ([name, dst, count]): Write =>
      (a) =>
        a[name as 'swapBytes'](dst, count as 16),
  ),
  fc.tuple(register, width, register, s16).map(
    ([dst, size, base, offset]): Write =>
      (a) =>
        a.load(dst, size as 'u8', at(base, offset)),
  ),
  fc.tuple(storeWidth, register, s16, fc.oneof(register, fc.integer({ min: -128, max: 127 }))).map(
    ([size, base, offset, value]): Write =>
      (a) =>
        a.store(size as 'u8', at(base, offset), value),
  ),
  fc.tuple(atomic, fc.constantFrom('u32', 'u64'), register, s16, register).map(
    ([operation, size, base, offset, src]): Write =>
      (a) =>
        a.atomic(operation, size as 'u32', at(base, offset), src),
  ),
  fc.tuple(register, storeWidth, register, s16).map(
    ([dst, size, base, offset]): Write =>
      (a) =>
        a.loadAcquire(dst, size as 'u8', at(base, offset)),
  ),
  fc.tuple(storeWidth, register, s16, register).map(
    ([size, base, offset, src]): Write =>
      (a) =>
        a.storeRelease(size as 'u8', at(base, offset), src),
  ),
  fc.tuple(register, fc.bigInt({ min: -(1n << 63n), max: (1n << 64n) - 1n })).map(
    ([dst, value]): Write =>
      (a) =>
        a.load64(dst, value),
  ),
  fc.tuple(register, fc.nat(1000), s32).map(
    ([dst, fd, offset]): Write =>
      (a) =>
        a.loadMapValue(dst, { fd, name: 'm' }, offset),
  ),
  fc.tuple(register, fc.nat(1000)).map(
    ([dst, fd]): Write =>
      (a) =>
        a.loadMap(dst, { fd, name: 'm' }),
  ),
  fc.tuple(register, fc.nat()).map(
    ([dst, id]): Write =>
      (a) =>
        a.loadKernelSymbol(dst, id),
  ),
  fc.integer({ min: 1, max: 211 }).map(
    (id): Write =>
      (a) =>
        a.callHelper(id),
  ),
  fc.nat().map(
    (id): Write =>
      (a) =>
        a.callKfunc(id),
  ),
  s32.map(
    (offset): Write =>
      (a) =>
        a.loadPacket('u32', offset),
  ),
  fc.tuple(register, s32).map(
    ([index, offset]): Write =>
      (a) =>
        a.loadPacketAt('u16', index, offset),
  ),
  fc.tuple(register, condition, operand, fc.boolean()).map(
    ([left, how, right, half]): Write =>
      (a) => {
        const label = a.label();
        if (half) a.jumpIf32(left, how, right, label);
        else a.jumpIf(left, how, right, label);
        a.add(R0, 1);
        a.place(label);
      },
  ),
  fc.constantFrom('jump', 'jumpLong', 'mayGoto').map(
    (name): Write =>
      (a) => {
        const label = a.label();
        a[name as 'jump'](label);
        a.place(label);
        a.add(R0, 1);
      },
  ),
  fc.constant<Write>((a) => {
    const [over, called] = [a.label(), a.label('called')];
    a.callFunction(called);
    a.loadFunction(R0, called);
    a.jump(over);
    a.startFunction('called', called);
    a.exit();
    a.place(over);
  }),
);
