import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BtfTypes } from '../btf/types.ts';
import { LayoutError } from '../errors.ts';
import { array, bytes, count64, type Layout, s8, s16, s32, s64, u8, u16, u16be, u32, u32be, u64 } from './layout.ts';
import { prefixKey } from './lpm-trie.ts';
import { struct } from './struct.ts';

const runs = Number(process.env.MILLRACE_FUZZ ?? 1) * 200;

function survives<T>(layout: Layout<T>, values: fc.Arbitrary<T>): void {
  fc.assert(
    fc.property(values, fc.nat(16), (value, offset) => {
      const view = new DataView(new ArrayBuffer(layout.sizeBytes + 32));
      layout.write(view, offset, value);
      expect(layout.read(view, offset)).toEqual(value);
      // Nothing outside its bytes is touched.
      const all = new Uint8Array(view.buffer);
      expect(all.subarray(0, offset).every((byte) => byte === 0)).toBe(true);
      expect(all.subarray(offset + layout.sizeBytes).every((byte) => byte === 0)).toBe(true);
    }),
    { numRuns: runs },
  );
}

test('every layout reads what it wrote, and writes nothing beside', () => {
  const whole = (min: number, max: number) => fc.integer({ min, max });
  survives(u8, whole(0, 255));
  survives(s8, whole(-128, 127));
  survives(u16, whole(0, 65535));
  survives(u16be, whole(0, 65535));
  survives(s16, whole(-32768, 32767));
  survives(u32, whole(0, 0xffffffff));
  survives(u32be, whole(0, 0xffffffff));
  survives(s32, whole(-0x80000000, 0x7fffffff));
  survives(u64, fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }));
  survives(s64, fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }));
  survives(count64, fc.maxSafeNat());
  survives(bytes(6), fc.uint8Array({ minLength: 6, maxLength: 6 }));
  survives(array(u16, 3), fc.array(whole(0, 65535), { minLength: 3, maxLength: 3 }));
  survives(
    struct({ a: u8, b: u64, c: bytes(3), d: struct({ e: u16, f: s8 }) }),
    fc.record({
      a: whole(0, 255),
      b: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
      c: fc.uint8Array({ minLength: 3, maxLength: 3 }),
      d: fc.record({ e: whole(0, 65535), f: whole(-128, 127) }),
    }),
  );
  survives(prefixKey(4), fc.record({ length: whole(0, 32), address: fc.uint8Array({ minLength: 4, maxLength: 4 }) }));
});

test('values of the wrong kind or size are refused, and nothing is written', () => {
  const view = new DataView(new ArrayBuffer(16));
  const refused: readonly (() => void)[] = [
    () => u8.write(view, 0, 256),
    () => u8.write(view, 0, -1),
    () => u8.write(view, 0, 1.5),
    () => s16.write(view, 0, 40_000),
    () => u32.write(view, 0, Number.NaN),
    () => u64.write(view, 0, 1n << 64n),
    () => s64.write(view, 0, 1n << 63n),
    () => count64.write(view, 0, -1),
    () => count64.write(view, 0, 2 ** 53),
    () => bytes(4).write(view, 0, new Uint8Array(5)),
    () => array(u8, 2).write(view, 0, [1, 2, 3]),
    () => struct({ a: u8 }).write(view, 0, {} as { a: number }),
  ];
  for (const write of refused) expect(write).toThrow(LayoutError);
  expect(new Uint8Array(view.buffer).every((byte) => byte === 0)).toBe(true);
  view.setBigUint64(0, 1n << 60n, true);
  expect(() => count64.read(view, 0)).toThrow(LayoutError);
});

test('structures lie as a C compiler would lay them', () => {
  const mixed = struct({ a: u8, b: u32, c: u8, d: u64, e: u16be }, 'mixed');
  expect([mixed.offsetOf('a'), mixed.offsetOf('b'), mixed.offsetOf('c'), mixed.offsetOf('d')]).toEqual([0, 4, 8, 16]);
  expect([mixed.sizeBytes, mixed.alignBytes]).toEqual([32, 8]);
  expect(() => mixed.offsetOf('z' as 'a')).toThrow('struct "mixed" has no field "z"');
  const view = new DataView(new ArrayBuffer(32));
  new Uint8Array(view.buffer).fill(0xff);
  mixed.write(view, 0, { a: 1, b: 2, c: 3, d: 4n, e: 0x1234 });
  expect(Buffer.from(view.buffer).toString('hex')).toBe(
    '0100000002000000030000000000000004000000000000001234000000000000',
  );
});

test('a layout describes itself in BTF', () => {
  const types = new BtfTypes();
  struct({ a: u8, list: array(u32, 4), mac: bytes(6) }, 'a value!').describe(types);
  const encoded = Buffer.from(types.encode());
  expect(encoded.readUInt16LE(0)).toBe(0xeb9f);
  const strings = encoded.subarray(24 + encoded.readUInt32LE(16)).toString();
  expect(strings.split('\0').filter(Boolean).sort()).toEqual(['a', 'a_value_', 'list', 'mac', 'u32', 'u8'].sort());
});
