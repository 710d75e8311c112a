/**
 * Layouts: how a key or a value lies in memory. One description reads and writes it from TypeScript, gives the builder its field
 * offsets, and tells the kernel (BTF) its fields. Neighbours: map/struct.ts composes, map/table.ts uses.
 *
 * Numbers are in the machine's order unless the name ends in `be`, which is network order. A field of 64 bits is a bigint; `count64` holds
 * one as a number.
 */
import type { BtfTypes } from '../btf/types.ts';
import { LayoutError } from '../errors.ts';

/** A description of some bytes that stand for a `T`. */
export interface Layout<T> {
  readonly sizeBytes: number;
  /** 1, 2, 4 or 8. */
  readonly alignBytes: number;
  /** Read a value. @param offset of its first byte */
  read(view: DataView, offset: number): T;
  /** Write a value. @throws LayoutError when it does not fit */
  write(view: DataView, offset: number, value: T): void;
  /** Add the type to a BTF set. @returns its id */
  describe(types: BtfTypes): number;
}

/** The value type of a layout. */
export type ValueOf<L> = L extends Layout<infer T> ? T : never;

function whole(value: number, low: number, high: number, name: string): number {
  if (Number.isInteger(value) && value >= low && value <= high) return value;
  throw new LayoutError(`${value} is no ${name}: it must be a whole number from ${low} to ${high}`);
}

function wide(value: bigint, low: bigint, high: bigint, name: string): bigint {
  if (typeof value === 'bigint' && value >= low && value <= high) return value;
  throw new LayoutError(`${value} is no ${name}: it must be a bigint from ${low} to ${high}`);
}

type Getter = (view: DataView, offset: number) => number;
type Setter = (view: DataView, offset: number, value: number) => void;

function integer(name: string, sizeBytes: 1 | 2 | 4, isSigned: boolean, get: Getter, set: Setter): Layout<number> {
  const high = 2 ** (sizeBytes * 8 - (isSigned ? 1 : 0)) - 1;
  const low = isSigned ? -high - 1 : 0;
  return {
    sizeBytes,
    alignBytes: sizeBytes,
    read: get,
    write: (view, offset, value) => set(view, offset, whole(value, low, high, name)),
    describe: (types) => types.integer(sizeBytes, isSigned),
  };
}

/** Unsigned, 8 bits. */
export const u8 = integer(
  'u8',
  1,
  false,
  (v, o) => v.getUint8(o),
  (v, o, n) => v.setUint8(o, n),
);
/** Signed, 8 bits. */
export const s8 = integer(
  's8',
  1,
  true,
  (v, o) => v.getInt8(o),
  (v, o, n) => v.setInt8(o, n),
);
/** Unsigned, 16 bits. */
export const u16 = integer(
  'u16',
  2,
  false,
  (v, o) => v.getUint16(o, true),
  (v, o, n) => v.setUint16(o, n, true),
);
/** Signed, 16 bits. */
export const s16 = integer(
  's16',
  2,
  true,
  (v, o) => v.getInt16(o, true),
  (v, o, n) => v.setInt16(o, n, true),
);
/** Unsigned, 32 bits. */
export const u32 = integer(
  'u32',
  4,
  false,
  (v, o) => v.getUint32(o, true),
  (v, o, n) => v.setUint32(o, n, true),
);
/** Signed, 32 bits. */
export const s32 = integer(
  's32',
  4,
  true,
  (v, o) => v.getInt32(o, true),
  (v, o, n) => v.setInt32(o, n, true),
);
/** Unsigned, 16 bits in network order. */
export const u16be = integer(
  'u16be',
  2,
  false,
  (v, o) => v.getUint16(o),
  (v, o, n) => v.setUint16(o, n),
);
/** Unsigned, 32 bits in network order. */
export const u32be = integer(
  'u32be',
  4,
  false,
  (v, o) => v.getUint32(o),
  (v, o, n) => v.setUint32(o, n),
);

const U64_MAX = (1n << 64n) - 1n;
const S64_MAX = (1n << 63n) - 1n;

/** Unsigned, 64 bits. */
export const u64: Layout<bigint> = {
  sizeBytes: 8,
  alignBytes: 8,
  read: (view, offset) => view.getBigUint64(offset, true),
  write: (view, offset, value) => view.setBigUint64(offset, wide(value, 0n, U64_MAX, 'u64'), true),
  describe: (types) => types.integer(8),
};

/** Signed, 64 bits. */
export const s64: Layout<bigint> = {
  sizeBytes: 8,
  alignBytes: 8,
  read: (view, offset) => view.getBigInt64(offset, true),
  write: (view, offset, value) => view.setBigInt64(offset, wide(value, -S64_MAX - 1n, S64_MAX, 's64'), true),
  describe: (types) => types.integer(8, true),
};

/**
 * Unsigned, 64 bits, as a plain number: for counters, which stay below 2^53 for centuries.
 * A value that does not is a LayoutError when read.
 */
export const count64: Layout<number> = {
  sizeBytes: 8,
  alignBytes: 8,
  read(view, offset) {
    const value = view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 0x100000000;
    return whole(value, 0, Number.MAX_SAFE_INTEGER, 'count64');
  },
  write(view, offset, value) {
    whole(value, 0, Number.MAX_SAFE_INTEGER, 'count64');
    view.setUint32(offset, value % 0x100000000, true);
    view.setUint32(offset + 4, Math.floor(value / 0x100000000), true);
  },
  describe: (types) => types.integer(8),
};

/** Bytes as they are: addresses, packets, names. Read gives a copy. */
export function bytes(lengthBytes: number): Layout<Uint8Array> {
  return {
    sizeBytes: lengthBytes,
    alignBytes: 1,
    read: (view, offset) => new Uint8Array(view.buffer, view.byteOffset + offset, lengthBytes).slice(),
    write(view, offset, value) {
      if (value.length !== lengthBytes)
        throw new LayoutError(`${value.length} bytes given where ${lengthBytes} belong`);
      new Uint8Array(view.buffer, view.byteOffset + offset, lengthBytes).set(value);
    },
    describe: (types) => types.array(types.integer(1), lengthBytes),
  };
}

/** A number of elements of one layout. */
export function array<T>(element: Layout<T>, length: number): Layout<T[]> {
  const strideBytes = roundUp(element.sizeBytes, element.alignBytes);
  return {
    sizeBytes: strideBytes * length,
    alignBytes: element.alignBytes,
    read: (view, offset) => Array.from({ length }, (_, index) => element.read(view, offset + index * strideBytes)),
    write(view, offset, value) {
      if (value.length !== length) throw new LayoutError(`${value.length} elements given where ${length} belong`);
      value.forEach((item, index) => {
        element.write(view, offset + index * strideBytes, item);
      });
    },
    describe: (types) => types.array(element.describe(types), length),
  };
}

/** The next multiple of a power of two. */
export function roundUp(value: number, alignBytes: number): number {
  return Math.ceil(value / alignBytes) * alignBytes;
}
