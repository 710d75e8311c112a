/**
 * The kinds of attribute content, for the policies of policy.ts. Lengths and ranges are checked both ways and with the kernel's
 * errnos: ERANGE for a length or value outside the policy, EINVAL for what is malformed.
 *
 * 64-bit integers: `u64` and `be64` are bigint; `counter64` is a number, for counts and byte totals.
 */
import { AttributeCursor } from './attribute.ts';
import { readBe16, readBe32, readBe64, readCounter64, readS32, readU16, readU32, readU64 } from './bytes.ts';
import { Errno, NetlinkError } from './error.ts';
import type { Field, Policy, PolicyShape, Values } from './policy.ts';
import type { MessageWriter } from './writer.ts';

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
const encoder = new TextEncoder();

/** Inclusive limits of an integer. */
export interface Range<T> {
  min?: T;
  max?: T;
}

function integer<T extends number | bigint>(
  name: string,
  lengthBytes: number,
  range: Range<T>,
  readAt: (bytes: Uint8Array, at: number) => T,
  write: (writer: MessageWriter, type: number, value: T) => void,
): Field<T> {
  const { min, max } = range;
  const outside = (value: T): boolean => (min !== undefined && value < min) || (max !== undefined && value > max);
  const limits = `${name} allows ${min ?? ''}..${max ?? ''}`;
  return {
    nested: false,
    read(input, start, end) {
      const length = end - start;
      if (length < lengthBytes) input.fail(`${length} bytes are too few for ${name}`, start, Errno.ERANGE);
      if (input.strict && length !== lengthBytes) input.fail(`${length} bytes are too many for ${name}`, start);
      const value = readAt(input.bytes, start);
      if (outside(value)) input.fail(`${value} is out of range: ${limits}`, start, Errno.ERANGE);
      return value;
    },
    write(writer, type, value) {
      if (outside(value)) throw new NetlinkError(`${value} is out of range: ${limits}`, { errno: Errno.ERANGE });
      write(writer, type, value);
    },
  };
}

export const u8 = (range: Range<number> = {}): Field<number> =>
  integer(
    'u8',
    1,
    range,
    (b, at) => b[at],
    (w, type, value) => w.u8(type, value),
  );
export const u16 = (range: Range<number> = {}): Field<number> =>
  integer('u16', 2, range, readU16, (w, type, value) => w.u16(type, value));
export const u32 = (range: Range<number> = {}): Field<number> =>
  integer('u32', 4, range, readU32, (w, type, value) => w.u32(type, value));
export const s32 = (range: Range<number> = {}): Field<number> =>
  integer('s32', 4, range, readS32, (w, type, value) => w.s32(type, value));
export const u64 = (range: Range<bigint> = {}): Field<bigint> =>
  integer('u64', 8, range, readU64, (w, type, value) => w.u64(type, value));
export const be16 = (range: Range<number> = {}): Field<number> =>
  integer('be16', 2, range, readBe16, (w, type, value) => w.be16(type, value));
export const be32 = (range: Range<number> = {}): Field<number> =>
  integer('be32', 4, range, readBe32, (w, type, value) => w.be32(type, value));
export const be64 = (range: Range<bigint> = {}): Field<bigint> =>
  integer('be64', 8, range, readBe64, (w, type, value) => w.be64(type, value));

/** A u64 as a number: exact to 2^53 - 1, rounded above when read, and refused above when written. */
export const counter64 = (range: Range<number> = {}): Field<number> =>
  integer('u64', 8, range, readCounter64, (writer, type, value) => {
    if (!Number.isSafeInteger(value)) {
      throw new NetlinkError(`a counter cannot hold ${value}`, { errno: Errno.ERANGE });
    }
    writer.u64(type, BigInt(value));
  });

/**
 * A string, which ends at its first zero byte or with the attribute. Bytes that are not UTF-8 read as U+FFFD,
 * so that one oddly named object cannot spoil a whole dump.
 * @param options.maxBytes longest content without the terminating zero
 * @param options.terminated refuse a string without terminating zero (NLA_NUL_STRING)
 */
export function string(options: { maxBytes?: number; terminated?: boolean } = {}): Field<string> {
  const maxBytes = options.maxBytes ?? 0xffff;
  const terminated = options.terminated ?? false;
  return {
    nested: false,
    read(input, start, end) {
      const zero = input.bytes.indexOf(0, start);
      const stop = zero >= 0 && zero < end ? zero : end;
      if (terminated && stop === end) input.fail('string has no terminating zero', start);
      if (input.strict && end === start) input.fail('string is empty', start, Errno.ERANGE);
      if (stop - start > maxBytes) {
        input.fail(`string of ${stop - start} bytes is longer than ${maxBytes}`, start, Errno.ERANGE);
      }
      return decoder.decode(input.bytes.subarray(start, stop));
    },
    write(writer, type, value) {
      if (encoder.encode(value).length > maxBytes) {
        throw new NetlinkError(`${JSON.stringify(value)} is longer than ${maxBytes} bytes`, { errno: Errno.ERANGE });
      }
      writer.string(type, value);
    },
  };
}

/**
 * Bytes without further meaning here, such as addresses.
 * @param options.view give a view into the message instead of a copy: cheaper, but it lives as long as the receive buffer's content
 */
export function binary(options: { minBytes?: number; maxBytes?: number; view?: boolean } = {}): Field<Uint8Array> {
  const minBytes = options.minBytes ?? 0;
  const maxBytes = options.maxBytes ?? 0xffff;
  const view = options.view ?? false;
  const fault = (length: number): string | null => {
    if (length < minBytes) return `${length} bytes are fewer than ${minBytes}`;
    if (length > maxBytes) return `${length} bytes are more than ${maxBytes}`;
    return null;
  };
  return {
    nested: false,
    read(input, start, end) {
      const wrong = fault(end - start);
      if (wrong !== null) input.fail(wrong, start, Errno.ERANGE);
      return view ? input.bytes.subarray(start, end) : input.bytes.slice(start, end);
    },
    write(writer, type, value) {
      const wrong = fault(value.length);
      if (wrong !== null) throw new NetlinkError(wrong, { errno: Errno.ERANGE });
      writer.bytes(type, value);
    },
  };
}

/** An attribute without content. Reads as true; false is written as absence. */
export function flag(): Field<boolean> {
  return {
    nested: false,
    read(input, start, end) {
      if (end !== start) input.fail(`flag with ${end - start} bytes of content`, start, Errno.ERANGE);
      return true;
    },
    write(writer, type, value) {
      if (value) writer.flag(type);
    },
  };
}

/** A fixed C structure. A longer one is read up to what is known, unless decoding is strict. */
export function struct<T>(
  name: string,
  lengthBytes: number,
  readAt: (bytes: Uint8Array, at: number) => T,
  fill: (bytes: Uint8Array, value: T) => void,
): Field<T> {
  return {
    nested: false,
    read(input, start, end) {
      const length = end - start;
      if (length < lengthBytes) {
        input.fail(`${length} bytes are too few for ${name}, which needs ${lengthBytes}`, start, Errno.ERANGE);
      }
      if (input.strict && length !== lengthBytes) input.fail(`${length} bytes are too many for ${name}`, start);
      return readAt(input.bytes, start);
    },
    write(writer, type, value) {
      const bytes = new Uint8Array(lengthBytes);
      fill(bytes, value);
      writer.bytes(type, bytes);
    },
  };
}

/**
 * Attributes inside an attribute.
 * @param options.flagged write NLA_F_NESTED and, when strict, demand it; false for the families that never set it
 */
export function nested<Shape extends PolicyShape>(
  inner: Policy<Shape>,
  options: { flagged?: boolean } = {},
): Field<Values<Shape>> {
  const flagged = options.flagged ?? true;
  return {
    nested: flagged,
    read(input, start, end) {
      return inner.decodeNest(input, start, end);
    },
    write(writer, type, value) {
      const nest = writer.beginNested(type, flagged);
      inner.encode(writer, value);
      writer.endNested(nest);
    },
  };
}

/**
 * A list in an attribute of its own: each element is an attribute numbered from 1 (NLA_NESTED_ARRAY).
 * @param options.flagged as in {@link nested}
 */
export function array<T>(element: Field<T>, options: { flagged?: boolean } = {}): Field<T[]> {
  const flagged = options.flagged ?? true;
  return {
    nested: flagged,
    read(input, start, end) {
      const values: T[] = [];
      const cursor = new AttributeCursor(input.bytes, start, end);
      while (input.step(cursor)) {
        input.path.push(String(values.length));
        values.push(element.read(input, cursor.start, cursor.end, undefined));
        input.path.pop();
      }
      return values;
    },
    write(writer, type, value) {
      const nest = writer.beginNested(type, flagged);
      for (let i = 0; i < value.length; i += 1) element.write(writer, i + 1, value[i]);
      writer.endNested(nest);
    },
  };
}

/** A list as the same attribute several times in one nest. */
export function repeated<T>(element: Field<T>): Field<T[]> {
  return {
    nested: element.nested,
    read(input, start, end, previous) {
      const values = previous ?? [];
      values.push(element.read(input, start, end, undefined));
      return values;
    },
    write(writer, type, value) {
      for (const one of value) element.write(writer, type, one);
    },
  };
}

/** A list of u32 without headers between, such as upcall port ids. */
export function u32List(): Field<number[]> {
  return {
    nested: false,
    read(input, start, end) {
      const length = end - start;
      if (length % 4 !== 0) input.fail(`${length} bytes are no list of u32`, start, Errno.EINVAL);
      const values: number[] = [];
      for (let at = start; at < end; at += 4) values.push(readU32(input.bytes, at));
      return values;
    },
    write(writer, type, value) {
      const words = new Uint8Array(value.length * 4);
      for (let i = 0; i < value.length; i += 1) {
        const word = value[i];
        if (!Number.isInteger(word) || word < 0 || word > 0xffff_ffff) {
          throw new NetlinkError(`u32 cannot hold ${word}`, { errno: Errno.ERANGE });
        }
        words.set([word & 0xff, (word >>> 8) & 0xff, (word >>> 16) & 0xff, word >>> 24], i * 4);
      }
      writer.bytes(type, words);
    },
  };
}

/** An attribute that may not be there, with the reason that the sender is told (NLA_REJECT). */
export function rejected(reason: string): Field<never> {
  return {
    nested: false,
    read(input, start) {
      return input.fail(reason, start);
    },
    write() {
      throw new NetlinkError(reason);
    },
  };
}
