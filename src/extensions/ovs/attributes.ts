/**
 * Attributes of requests, read with the leniency of the kernel towards Open vSwitch's families: unknown types are passed over, the
 * last of several counts, what is too short for its kind is ERANGE. netlink/'s policies are stricter, and make an object each.
 */
import type { MessageWriter } from '../../netlink/index.ts';
import { Errno, OvsError } from './errors.ts';

/** Where the attributes of one nest lie. */
export class Attributes {
  readonly bytes: Uint8Array;
  readonly #starts: Int32Array;
  readonly #ends: Int32Array;

  /** Walk the attributes from `start` to `end`; those above `maximumType` are passed over. */
  constructor(bytes: Uint8Array, start: number, end: number, maximumType: number) {
    this.bytes = bytes;
    this.#starts = new Int32Array(maximumType + 1).fill(-1);
    this.#ends = new Int32Array(maximumType + 1);
    eachAttribute(bytes, start, end, (type, from, to) => {
      if (type > maximumType) return;
      this.#starts[type] = from;
      this.#ends[type] = to;
    });
  }

  has(type: number): boolean {
    return this.#starts[type] >= 0;
  }

  /** The content as a view, or null. @throws OvsError ERANGE when it is shorter than that */
  content(type: number, minimumBytes = 0): Uint8Array | null {
    const start = this.#starts[type];
    if (start < 0) return null;
    if (this.#ends[type] - start < minimumBytes) {
      throw new OvsError(Errno.ERANGE, `attribute ${type} needs ${minimumBytes} bytes`);
    }
    return this.bytes.subarray(start, this.#ends[type]);
  }

  /** @throws OvsError EINVAL when it is missing, ERANGE when it is too short */
  required(type: number, minimumBytes = 0): Uint8Array {
    const content = this.content(type, minimumBytes);
    if (content === null) throw new OvsError(Errno.EINVAL, `attribute ${type} is missing`);
    return content;
  }

  /** @throws OvsError ERANGE when it is too short */
  u32(type: number): number | null {
    const content = this.content(type, 4);
    return content === null ? null : u32At(content, 0);
  }

  /** The content of an attribute that holds attributes, or null. @throws OvsError ERANGE when it is too short for one */
  nest(type: number): Uint8Array | null {
    const content = this.content(type);
    if (content !== null && content.length > 0 && content.length < 4) {
      throw new OvsError(Errno.ERANGE, `attribute ${type} holds no attribute`);
    }
    return content;
  }

  /**
   * A name that ends with a zero byte.
   * @param maximumBytes without that byte
   * @throws OvsError EINVAL when the zero is missing, ERANGE when the attribute is too long
   */
  name(type: number, maximumBytes: number): string | null {
    const content = this.content(type);
    if (content === null) return null;
    const end = content.indexOf(0);
    if (end < 0 || end > maximumBytes) throw new OvsError(Errno.EINVAL, `name in attribute ${type} does not end`);
    const length = content[content.length - 1] === 0 ? content.length - 1 : content.length;
    if (length > maximumBytes) throw new OvsError(Errno.ERANGE, `name in attribute ${type} is too long`);
    return new TextDecoder().decode(content.subarray(0, end));
  }
}

/**
 * Call back for every attribute.
 * @returns the bytes behind the last whole one
 */
export function eachAttribute(
  bytes: Uint8Array,
  start: number,
  end: number,
  visit: (type: number, from: number, to: number) => void,
): number {
  let at = start;
  while (end - at >= 4) {
    const length = bytes[at] | (bytes[at + 1] << 8);
    if (length < 4 || length > end - at) return end - at;
    visit((bytes[at + 2] | (bytes[at + 3] << 8)) & 0x3fff, at + 4, at + length);
    at += (length + 3) & ~3;
  }
  return Math.max(0, end - at);
}

/**
 * Begin an attribute that holds attributes. openvswitch.ko does not mark them as such (NLA_F_NESTED), and ovs-vswitchd compares
 * actions byte by byte.
 * @returns what the writer's endNested is to be given
 */
export function beginNest(writer: MessageWriter, type: number): number {
  return writer.beginNested(type, false);
}

/** A nest whose attributes must fill it: malformed ones are refused, as Open vSwitch's own parsers do. @throws OvsError EINVAL */
export function eachNested(content: Uint8Array, visit: (type: number, content: Uint8Array) => void): void {
  const rest = eachAttribute(content, 0, content.length, (type, from, to) => visit(type, content.subarray(from, to)));
  if (rest > 0) throw new OvsError(Errno.EINVAL, `${rest} bytes are no attribute`);
}

/** A number in the host's order, which is little-endian on every machine that Millrace runs on. */
export function u32At(bytes: Uint8Array, at: number): number {
  return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
}

export function u16At(bytes: Uint8Array, at: number): number {
  return bytes[at] | (bytes[at + 1] << 8);
}

/** Big-endian numbers. */
export function be32At(bytes: Uint8Array, at: number): number {
  return ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;
}

export function be16At(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 8) | bytes[at + 1];
}

/** Arrays by their number of counters, written again and again. */
const COUNTERS = Array.from({ length: 9 }, (_, count) => new Uint32Array(count * 2));
const COUNTER_BYTES = COUNTERS.map((words) => new Uint8Array(words.buffer));

/**
 * Words of numbers that are small enough for a double, as 64 bits each in host order: struct ovs_flow_stats and the like.
 * @param values at most 8
 * @returns an array that the next call with as many values overwrites
 */
export function counters(...values: number[]): Uint8Array {
  const words = COUNTERS[values.length];
  for (let i = 0; i < values.length; i += 1) {
    words[i * 2] = values[i];
    words[i * 2 + 1] = Math.floor(values[i] / 0x1_0000_0000);
  }
  return COUNTER_BYTES[values.length];
}
