/**
 * A field of a packet as deciders see it: each question marks no more bits than its answer needs. Addresses and ports are such fields; numbers
 * that are always wanted whole are plain numbers of packet-view.ts.
 */
import { formatIpv4, formatIpv6, formatMac, parseIpv4Into, parseIpv6Into, parseMacInto } from '../net/index.ts';
import { DecisionError, shown } from './errors.ts';
import type { PacketState } from './packet-state.ts';

/** What values of a field look like. */
export type FieldKind = 'mac' | 'ipv4' | 'ipv6' | 'port';

export const FIELD_KINDS: readonly FieldKind[] = ['mac', 'ipv4', 'ipv6', 'port'];

/** A part of a field: consecutive bits of a word of the key. */
export interface FieldPart {
  readonly word: number;
  readonly bits: number;
}

/** A value of a field: whole words, bits of each part in their places, as the field's parts have them; for a prefix, its length. */
export interface FieldValue {
  /** From the highest bit on, 32 to a word, zeros behind the end. */
  readonly words: readonly number[];
  readonly bits: number;
}

export const WIDTHS: Readonly<Record<FieldKind, number>> = { mac: 48, ipv4: 32, ipv6: 128, port: 16 };

/** Constants that were read already. A decider has few, unless it makes them: then they are read each time. */
const MOST_CONSTANTS = 4096;
const constants = new Map<FieldKind, Map<string, FieldValue>>();

/**
 * A value or a prefix from text, bytes, or for ports a number.
 * @param kind of the field
 * @param value such as `10.0.0.0/8`, `02:00:00:00:00:01`, `443`, or the bytes of an address
 * @throws DecisionError for what is no such value
 */
export function fieldValue(kind: FieldKind, value: string | number | Uint8Array): FieldValue {
  if (typeof value !== 'string') return readValue(kind, value);
  let known = constants.get(kind);
  if (known === undefined) {
    known = new Map();
    constants.set(kind, known);
  }
  let found = known.get(value);
  if (found === undefined) {
    found = readValue(kind, value);
    if (known.size < MOST_CONSTANTS) known.set(value, found);
  }
  return found;
}

function readValue(kind: FieldKind, value: string | number | Uint8Array): FieldValue {
  const width = WIDTHS[kind];
  const bytes = new Uint8Array(width >> 3);
  let bits = width;
  let isRead = false;
  if (typeof value === 'number') {
    isRead = kind === 'port' && Number.isInteger(value) && value >= 0 && value <= 0xffff;
    bytes[0] = value >> 8;
    bytes[1] = value;
  } else if (typeof value !== 'string') {
    isRead = value instanceof Uint8Array && value.length === bytes.length;
    if (isRead) bytes.set(value);
  } else {
    const slash = value.indexOf('/');
    const text = slash === -1 ? value : value.slice(0, slash);
    if (slash !== -1) bits = /^\d{1,3}$/.test(value.slice(slash + 1)) ? Number(value.slice(slash + 1)) : -1;
    isRead = bits >= 0 && bits <= width && readText(kind, text, bytes);
  }
  if (!isRead) throw new DecisionError(`${typeof value === 'string' ? value : shown(value)} is no ${NAMES[kind]}`);
  const words: number[] = [];
  for (let i = 0; i < bits; i += 32) {
    const at = i >> 3;
    const word =
      ((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0);
    words.push(word & topBits(bits - i));
  }
  return { words, bits };
}

const NAMES: Readonly<Record<FieldKind, string>> = {
  mac: 'MAC address',
  ipv4: 'IPv4 address or prefix',
  ipv6: 'IPv6 address or prefix',
  port: 'port number',
};

/** What values of a field are, for people. */
export function kindName(kind: FieldKind): string {
  return NAMES[kind];
}

function readText(kind: FieldKind, text: string, into: Uint8Array): boolean {
  if (kind === 'mac') return parseMacInto(text, into, 0);
  if (kind === 'ipv4') return parseIpv4Into(text, into, 0);
  if (kind === 'ipv6') return parseIpv6Into(text, into, 0);
  if (!/^\d{1,5}$/.test(text) || Number(text) > 0xffff) return false;
  into[0] = Number(text) >> 8;
  into[1] = Number(text);
  return true;
}

/** A word whose highest bits are 1. @param count 0 or less for none, 32 or more for all */
export function topBits(count: number): number {
  if (count <= 0) return 0;
  return count >= 32 ? -1 : (-1 << (32 - count)) | 0;
}

/** One bit of a value, 0 being the highest. */
export function bitOf(words: ArrayLike<number>, index: number): number {
  return ((words[index >>> 5] ?? 0) >>> (31 - (index & 31))) & 1;
}

/** A field of the packet that is being decided about. */
export class Field {
  readonly kind: FieldKind;
  readonly name: string;
  readonly width: number;
  readonly #state: PacketState;
  readonly #parts: readonly {
    readonly word: number;
    readonly bits: number;
    readonly above: number;
    readonly size: number;
  }[];
  readonly #words = new Int32Array(4);

  constructor(state: PacketState, kind: FieldKind, name: string, parts: readonly FieldPart[]) {
    this.#state = state;
    this.kind = kind;
    this.name = name;
    this.#parts = parts.map(({ word, bits }) => {
      const above = Math.clz32(bits);
      return { word, bits, above, size: 32 - above - trailingZeros(bits) };
    });
    this.width = WIDTHS[kind];
  }

  /** Where it lies in a flow key. */
  get parts(): readonly FieldPart[] {
    return this.#parts;
  }

  /** Mark this many bits, from the highest on. */
  mark(count: number): void {
    this.#state.marks.note(this.name, count, this.width);
    let left = count;
    for (const { word, bits, above, size } of this.#parts) {
      if (left <= 0) return;
      this.#state.look(word, bits & topBits(above + left));
      left -= size;
    }
  }

  /** The value as it is, as in {@link FieldValue}, until the next call. It marks nothing: who asks marks. */
  peek(): ArrayLike<number> {
    const words = this.#words;
    words.fill(0);
    let filled = 0;
    for (const { word, bits, above, size } of this.#parts) {
      const part = (this.#state.words[word] & bits) >>> (32 - above - size);
      const beyond = (filled & 31) + size - 32;
      const at = filled >>> 5;
      if (beyond <= 0) words[at] |= part << -beyond;
      else {
        words[at] |= part >>> beyond;
        words[at + 1] |= part << (32 - beyond);
      }
      filled += size;
    }
    return words;
  }

  /** How many bits of it a mask looks at without a gap, from the highest on. */
  leadingBits(mask: Uint32Array): number {
    let bits = 0;
    for (const { word, bits: own, above, size } of this.#parts) {
      const missing = own & ~mask[word];
      if (missing !== 0) return bits + Math.clz32(missing) - above;
      bits += size;
    }
    return bits;
  }

  #error(text: string): DecisionError {
    return new DecisionError(`${this.#state.marks.by}: ${text}`);
  }

  #value(value: string | number | Uint8Array): FieldValue {
    try {
      return fieldValue(this.kind, value);
    } catch (error) {
      throw error instanceof DecisionError ? this.#error(error.message) : error;
    }
  }

  /** Set it. @throws DecisionError for what is no value of it */
  set(value: string | number | Uint8Array): void {
    const wanted = this.#value(value);
    if (wanted.bits !== this.width) throw this.#error(`${this.name} cannot be set to a prefix`);
    let taken = 0;
    for (const { word, bits, above, size } of this.#parts) {
      const beyond = (taken & 31) + size - 32;
      const first = wanted.words[taken >>> 5] ?? 0;
      const part =
        beyond <= 0
          ? first >>> -beyond
          : (first << beyond) | ((wanted.words[(taken >>> 5) + 1] ?? 0) >>> (32 - beyond));
      this.#state.set(word, bits, part << (32 - above - size));
      taken += size;
    }
  }

  /** Whether it has this value; `within` for prefixes. Marks it whole, or up to the first bit that differs. */
  is(value: string | number | Uint8Array): boolean {
    const wanted = this.#value(value);
    if (wanted.bits !== this.width) throw this.#error(`${value} is a prefix: ask whether ${this.name} is within it`);
    return this.#begins(wanted);
  }

  /** Whether it lies in a prefix such as `10.0.0.0/8`. Marks the prefix, or up to the first bit that differs. */
  within(prefix: string): boolean {
    return this.#begins(this.#value(prefix));
  }

  #begins(wanted: FieldValue): boolean {
    const words = this.peek();
    for (let i = 0; i << 5 < wanted.bits; i += 1) {
      const differing = (words[i] ^ wanted.words[i]) & topBits(wanted.bits - (i << 5));
      if (differing !== 0) {
        this.mark((i << 5) + Math.clz32(differing) + 1);
        return false;
      }
    }
    this.mark(wanted.bits);
    return true;
  }

  /** Whether it lies between two values, both included. Marks the high bits that settle it. */
  between(lowest: string | number | Uint8Array, highest: string | number | Uint8Array): boolean {
    const low = this.#value(lowest);
    const high = this.#value(highest);
    const words = this.peek();
    // As long as all bits are those of a bound, the next bit decides whether it is beyond it; not where the rest of the bound lets everything in.
    const lowEnd = lastBitOf(low.words, this.width, 1) + 1;
    const highEnd = lastBitOf(high.words, this.width, 0) + 1;
    let isAtLow = true;
    let isAtHigh = true;
    for (let bit = 0; bit < this.width; bit += 1) {
      if ((!isAtLow || bit >= lowEnd) && (!isAtHigh || bit >= highEnd)) {
        this.mark(bit);
        return true;
      }
      const own = bitOf(words, bit);
      const ofLow = bitOf(low.words, bit);
      const ofHigh = bitOf(high.words, bit);
      if ((isAtLow && own < ofLow) || (isAtHigh && own > ofHigh)) {
        this.mark(bit + 1);
        return false;
      }
      if (own !== ofLow) isAtLow = false;
      if (own !== ofHigh) isAtHigh = false;
    }
    this.mark(this.width);
    return true;
  }

  /** As people write it. Marks it whole. */
  get text(): string {
    const { bytes } = this;
    if (this.kind === 'mac') return formatMac(bytes);
    if (this.kind === 'ipv4') return formatIpv4(bytes, 0);
    if (this.kind === 'ipv6') return formatIpv6(bytes, 0);
    return String(this.number);
  }

  toString(): string {
    return this.text;
  }

  /** The bytes of it, in a new array. Marks it whole. */
  get bytes(): Uint8Array {
    this.mark(this.width);
    const words = this.peek();
    return Uint8Array.from({ length: this.width >> 3 }, (_, i) => words[i >> 2] >>> (24 - ((i & 3) << 3)));
  }

  /** The highest 32 bits as a number: all of a port or an IPv4 address. Marks it whole. */
  get number(): number {
    this.mark(this.width);
    return this.peek()[0] >>> Math.max(0, 32 - this.width);
  }
}

/** The last bit of a value that is so; -1 when there is none. */
function lastBitOf(words: readonly number[], width: number, wanted: number): number {
  for (let bit = width - 1; bit >= 0; bit -= 1) if (bitOf(words, bit) === wanted) return bit;
  return -1;
}

function trailingZeros(word: number): number {
  return 31 - Math.clz32(word & -word);
}
