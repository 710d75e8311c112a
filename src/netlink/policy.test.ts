import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Errno, NetlinkError } from './error.ts';
import {
  array,
  be16,
  be32,
  be64,
  binary,
  counter64,
  flag,
  nested,
  rejected,
  repeated,
  s32,
  string,
  u8,
  u16,
  u32,
  u32List,
  u64,
} from './fields.ts';
import { type Policy, type PolicyShape, policy, required } from './policy.ts';
import { MessageWriter } from './writer.ts';

const inner = policy({ id: [1, u16({ min: 1, max: 4095 })], name: [2, string({ maxBytes: 15 })] });
const everything = policy({
  a8: [1, u8()],
  a16: [2, u16()],
  a32: [3, u32()],
  signed: [4, s32()],
  a64: [5, u64()],
  count: [6, counter64()],
  net16: [7, be16()],
  net32: [8, be32()],
  net64: [9, be64()],
  text: [10, string({ terminated: true })],
  bytes: [11, binary({ maxBytes: 64 })],
  yes: [12, flag()],
  nest: [13, nested(inner)],
  list: [14, array(nested(inner))],
  again: [15, repeated(u16())],
  words: [16, u32List()],
});

function encode<Shape extends PolicyShape>(
  p: Policy<Shape>,
  values: Parameters<Policy<Shape>['encode']>[1],
): Uint8Array {
  const writer = new MessageWriter();
  p.encode(writer, values);
  return writer.take();
}

/** Attributes by hand: type, then content. */
function raw(...attributes: [type: number, content: number[]][]): Uint8Array {
  const bytes: number[] = [];
  for (const [type, content] of attributes) {
    const length = content.length + 4;
    bytes.push(length & 0xff, length >> 8, type & 0xff, type >> 8, ...content);
    while (bytes.length % 4 !== 0) bytes.push(0);
  }
  return new Uint8Array(bytes);
}

function failure(action: () => unknown): NetlinkError {
  try {
    action();
  } catch (error) {
    if (error instanceof NetlinkError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined, freq: 4 });
const text = fc.string({ unit: 'grapheme', maxLength: 12 }).filter((value) => !value.includes('\0'));
const innerValues = fc.record({
  id: maybe(fc.integer({ min: 1, max: 4095 })),
  name: maybe(fc.string({ minLength: 1, maxLength: 15, unit: 'grapheme-ascii' })),
});
const values = fc.record({
  a8: maybe(fc.nat(0xff)),
  a16: maybe(fc.nat(0xffff)),
  a32: maybe(fc.nat(0xffff_ffff)),
  signed: maybe(fc.integer()),
  a64: maybe(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
  count: maybe(fc.maxSafeNat()),
  net16: maybe(fc.nat(0xffff)),
  net32: maybe(fc.nat(0xffff_ffff)),
  net64: maybe(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
  text: maybe(text),
  bytes: maybe(fc.uint8Array({ maxLength: 64 })),
  yes: maybe(fc.constant(true)),
  nest: maybe(innerValues),
  list: maybe(fc.array(innerValues, { maxLength: 4 })),
  again: maybe(fc.array(fc.nat(0xffff), { minLength: 1, maxLength: 4 })),
  words: maybe(fc.array(fc.nat(0xffff_ffff), { maxLength: 4 })),
});

test('every kind of attribute is read back as it was written, strictly', () => {
  fc.assert(
    fc.property(values, (written) => {
      const present = JSON.parse(JSON.stringify(written, replaceBigints));
      const read = everything.decode(encode(everything, written), 0, { strict: true });
      expect(JSON.parse(JSON.stringify(read, replaceBigints))).toEqual(present);
    }),
  );
});

function replaceBigints(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}n` : value;
}

test('integers are little-endian, be16 to be64 big-endian, and lengths exclude the padding', () => {
  expect(encode(everything, { a16: 0x1234 })).toEqual(new Uint8Array([6, 0, 2, 0, 0x34, 0x12, 0, 0]));
  expect(encode(everything, { net32: 0x0102_0304 })).toEqual(new Uint8Array([8, 0, 8, 0, 1, 2, 3, 4]));
  expect(encode(everything, { nest: { id: 2 } })).toEqual(new Uint8Array([12, 0, 13, 0x80, 6, 0, 1, 0, 2, 0, 0, 0]));
});

test('a fault is told with byte offset, attribute path and errno', () => {
  const bytes = raw([1, [5]], [13 | 0x8000, [...raw([1, [0xff, 0xff]])]]);
  const error = failure(() => everything.decode(bytes, 0));
  expect(error).toMatchObject({ offset: 12, path: ['nest', 'id'], errno: Errno.ERANGE });
  expect(error.message).toBe('netlink: 65535 is out of range: u16 allows 1..4095 in attribute nest.id at byte 12');
  const inList = raw([14 | 0x8000, [...raw([1, [...raw([1, [1, 0]])]], [2, [...raw([1, [0, 0]])]])]]);
  expect(failure(() => everything.decode(inList, 0)).path).toEqual(['list', '1', 'id']);
});

test('attributes that lie about their length are refused, inside nests too', () => {
  expect(failure(() => everything.decode(new Uint8Array([3, 0, 1, 0]), 0))).toMatchObject({ offset: 0, path: [] });
  expect(failure(() => everything.decode(new Uint8Array([9, 0, 1, 0, 1, 0, 0, 0]), 0)).reason).toContain(
    'only 8 are left',
  );
  const nest = raw([13 | 0x8000, [200, 0, 1, 0]]);
  expect(failure(() => everything.decode(nest, 0))).toMatchObject({ offset: 4, path: ['nest'] });
});

test('liberal decoding passes over what a newer peer adds; strict decoding refuses it', () => {
  const cases: [Uint8Array, string][] = [
    [raw([99, [1, 2]]), 'unknown attribute type 99'],
    [raw([3, [1, 0, 0, 0, 9, 9]]), '6 bytes are too many for u32'.replace('6 bytes', '6 bytes')],
    [raw([13, [...raw([1, [1, 0]])]]), 'NLA_F_NESTED is missing'],
    [raw([1 | 0x8000, [1]]), 'NLA_F_NESTED not expected'],
    [new Uint8Array([...raw([1, [1]]), 0, 0]), '2 bytes left behind the last attribute'],
  ];
  for (const [bytes, reason] of cases) {
    expect(() => everything.decode(bytes, 0)).not.toThrow();
    expect(failure(() => everything.decode(bytes, 0, { strict: true })).reason).toBe(reason);
  }
});

test('lengths and values outside the policy are refused both ways', () => {
  expect(failure(() => everything.decode(raw([3, [1, 2, 3]]), 0)).errno).toBe(Errno.ERANGE);
  expect(failure(() => everything.decode(raw([10, [65]]), 0)).reason).toBe('string has no terminating zero');
  expect(failure(() => everything.decode(raw([11, new Array<number>(65).fill(0)]), 0)).errno).toBe(Errno.ERANGE);
  expect(failure(() => everything.decode(raw([12, [1]]), 0)).errno).toBe(Errno.ERANGE);
  expect(failure(() => everything.decode(raw([16, [1, 2]]), 0)).errno).toBe(Errno.EINVAL);
  expect(failure(() => encode(everything, { nest: { id: 5000 } })).errno).toBe(Errno.ERANGE);
  expect(failure(() => encode(everything, { nest: { name: 'sixteen bytes...' } })).errno).toBe(Errno.ERANGE);
  expect(failure(() => encode(everything, { count: 2 ** 53 })).errno).toBe(Errno.ERANGE);
  expect(failure(() => encode(everything, { words: [-1] })).errno).toBe(Errno.ERANGE);
  const closed = policy({ gone: [1, rejected('may not be set')] });
  expect(failure(() => closed.decode(raw([1, []]), 0)).reason).toBe('may not be set');
});

test('of an attribute that comes twice the last counts, unless it is a repeated one', () => {
  expect(everything.decode(raw([1, [1]], [1, [2]]), 0)).toEqual({ a8: 2 });
  expect(everything.decode(raw([15, [1, 0]], [1, [9]], [15, [2, 0]]), 0)).toEqual({ a8: 9, again: [1, 2] });
});

test('bytes that are no UTF-8 do not spoil the message', () => {
  expect(everything.decode(raw([10, [0xff, 65, 0]]), 0).text).toBe('\ufffdA');
});

test('a missing attribute that is required is named', () => {
  expect(required({ name: 'x' }, 'name')).toBe('x');
  const decoded = inner.decode(new Uint8Array(0), 0);
  expect(failure(() => required(decoded, 'name')).path).toEqual(['name']);
});
