/**
 * MessageWriter: builds netlink messages, several to a datagram where wanted, in a buffer that is reused and grows.
 * Values are checked against the width of their field: nothing is cut silently.
 */
import { align4, readU16, writeBe16, writeBe32, writeBe64, writeU16, writeU32, writeU64 } from './bytes.ts';
import { ATTRIBUTE_HEADER_BYTES, MESSAGE_HEADER_BYTES, NLA_F_NESTED } from './constants.ts';
import { Errno, NetlinkError } from './error.ts';

/** Most that nla_len can say. */
const MAX_ATTRIBUTE_BYTES = 0xffff;
const encoder = new TextEncoder();

/** A reusable builder. Calls come in the order of the bytes: begin, family header, attributes, end, begin, ... */
export class MessageWriter {
  #bytes: Uint8Array;
  #length = 0;
  #messageStart = -1;
  readonly #maximumBytes: number;

  /**
   * @param options.initialBytes first size of the buffer
   * @param options.maximumBytes where it stops growing
   */
  constructor(options: { initialBytes?: number; maximumBytes?: number } = {}) {
    this.#maximumBytes = options.maximumBytes ?? 16 * 1024 * 1024;
    this.#bytes = new Uint8Array(Math.min(this.#maximumBytes, options.initialBytes ?? 1024));
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#length;
  }

  /** What was written: a view that the next call may overwrite. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  /** What was written, as a copy of its own. */
  take(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  /** Start over, keeping the buffer. */
  reset(): void {
    this.#length = 0;
    this.#messageStart = -1;
  }

  /**
   * Drop what was written behind a point, such as an object that did not fit into this datagram.
   * @param length an earlier value of `length`, taken between messages
   */
  truncate(length: number): void {
    if (length < 0 || length > this.#length) {
      throw new NetlinkError(`cannot truncate ${this.#length} written bytes to ${length}`);
    }
    this.#length = length;
    if (this.#messageStart >= length) this.#messageStart = -1;
  }

  /**
   * Begin a message; its length is filled in by {@link end}.
   * @throws NetlinkError when the message before was not ended, or when the buffer may not grow further
   */
  begin(type: number, flags: number, sequence: number, port = 0): void {
    if (this.#messageStart >= 0) throw new NetlinkError('begin of a message inside another');
    const at = this.#append(MESSAGE_HEADER_BYTES);
    writeU16(this.#bytes, at + 4, checkUnsigned('message type', type, 0xffff));
    writeU16(this.#bytes, at + 6, checkUnsigned('message flags', flags, 0xffff));
    writeU32(this.#bytes, at + 8, checkUnsigned('sequence number', sequence, 0xffff_ffff));
    writeU32(this.#bytes, at + 12, checkUnsigned('port id', port, 0xffff_ffff));
    this.#messageStart = at;
  }

  /** End the message that {@link begin} began. */
  end(): void {
    if (this.#messageStart < 0) throw new NetlinkError('end without begin of a message');
    writeU32(this.#bytes, this.#messageStart, this.#length - this.#messageStart);
    this.#messageStart = -1;
  }

  /** Append bytes that are no attribute, padded with zeros to four: a family's header, a quoted request. */
  raw(content: Uint8Array): void {
    const at = this.#append(content.length);
    this.#bytes.set(content, at);
  }

  /** Fill in a length that stands in a structure written before. */
  patchU16(at: number, value: number): void {
    if (at < 0 || at + 2 > this.#length) throw new NetlinkError(`byte ${at} has not been written yet`);
    writeU16(this.#bytes, at, checkUnsigned('u16', value, 0xffff));
  }

  /** An attribute with these bytes. */
  bytes(type: number, content: Uint8Array): void {
    const at = this.#attribute(type, content.length);
    this.#bytes.set(content, at);
  }

  /** An attribute without content, whose presence says yes. */
  flag(type: number): void {
    this.#attribute(type, 0);
  }

  u8(type: number, value: number): void {
    const checked = checkUnsigned('u8', value, 0xff);
    const at = this.#attribute(type, 1);
    this.#bytes[at] = checked;
  }

  u16(type: number, value: number): void {
    const checked = checkUnsigned('u16', value, 0xffff);
    const at = this.#attribute(type, 2);
    writeU16(this.#bytes, at, checked);
  }

  u32(type: number, value: number): void {
    const checked = checkUnsigned('u32', value, 0xffff_ffff);
    const at = this.#attribute(type, 4);
    writeU32(this.#bytes, at, checked);
  }

  s32(type: number, value: number): void {
    if ((value | 0) !== value) throw new NetlinkError(`s32 cannot hold ${value}`, { errno: Errno.ERANGE });
    const at = this.#attribute(type, 4);
    writeU32(this.#bytes, at, value);
  }

  u64(type: number, value: bigint): void {
    const checked = checkU64('u64', value);
    const at = this.#attribute(type, 8);
    writeU64(this.#bytes, at, checked);
  }

  be16(type: number, value: number): void {
    const checked = checkUnsigned('be16', value, 0xffff);
    const at = this.#attribute(type, 2);
    writeBe16(this.#bytes, at, checked);
  }

  be32(type: number, value: number): void {
    const checked = checkUnsigned('be32', value, 0xffff_ffff);
    const at = this.#attribute(type, 4);
    writeBe32(this.#bytes, at, checked);
  }

  be64(type: number, value: bigint): void {
    const checked = checkU64('be64', value);
    const at = this.#attribute(type, 8);
    writeBe64(this.#bytes, at, checked);
  }

  /** A string with its terminating zero. Zeros inside are refused: the reader would see a shorter string. */
  string(type: number, value: string): void {
    if (value.includes('\0')) throw new NetlinkError(`string ${JSON.stringify(value)} holds a zero byte`);
    const content = encoder.encode(value);
    const at = this.#attribute(type, content.length + 1);
    this.#bytes.set(content, at);
    this.#bytes[at + content.length] = 0;
  }

  /**
   * Begin an attribute that holds attributes.
   * @param flagged whether to set NLA_F_NESTED; a few old families must not see it
   * @returns what {@link endNested} wants
   */
  beginNested(type: number, flagged = true): number {
    return this.#attribute(flagged ? type | NLA_F_NESTED : type, 0) - ATTRIBUTE_HEADER_BYTES;
  }

  /** @throws NetlinkError when the content is too long for an attribute */
  endNested(start: number): void {
    const length = this.#length - start;
    if (length > MAX_ATTRIBUTE_BYTES) throw tooLong(readU16(this.#bytes, start + 2), length);
    writeU16(this.#bytes, start, length);
  }

  /** Reserve an attribute; returns where its content starts. */
  #attribute(type: number, contentBytes: number): number {
    const length = ATTRIBUTE_HEADER_BYTES + contentBytes;
    if (length > MAX_ATTRIBUTE_BYTES) throw tooLong(type, length);
    checkUnsigned('attribute type', type, 0xffff);
    const at = this.#append(length);
    writeU16(this.#bytes, at, length);
    writeU16(this.#bytes, at + 2, type);
    return at + ATTRIBUTE_HEADER_BYTES;
  }

  /** Reserve bytes and their padding, which is zeroed; returns where they start. */
  #append(lengthBytes: number): number {
    const at = this.#length;
    const padded = align4(lengthBytes);
    const end = at + padded;
    if (end > this.#bytes.length) this.#grow(end);
    for (let i = at + lengthBytes; i < end; i += 1) this.#bytes[i] = 0;
    this.#length = end;
    return at;
  }

  #grow(neededBytes: number): void {
    if (neededBytes > this.#maximumBytes) {
      throw new NetlinkError(`message would need ${neededBytes} bytes, more than ${this.#maximumBytes}`, {
        errno: Errno.EMSGSIZE,
      });
    }
    const bytes = new Uint8Array(Math.min(this.#maximumBytes, Math.max(neededBytes, this.#bytes.length * 2)));
    bytes.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = bytes;
  }
}

function tooLong(type: number, length: number): NetlinkError {
  return new NetlinkError(`attribute ${type & 0x3fff} of ${length} bytes exceeds ${MAX_ATTRIBUTE_BYTES}`, {
    errno: Errno.EMSGSIZE,
  });
}

/**
 * @returns the value
 * @throws NetlinkError when it is no whole number from 0 to the maximum
 */
export function checkUnsigned(what: string, value: number, maximum: number): number {
  if (!Number.isInteger(value) || value < 0 || value > maximum) {
    throw new NetlinkError(`${what} cannot hold ${value}`, { errno: Errno.ERANGE });
  }
  return value;
}

function checkU64(what: string, value: bigint): bigint {
  if (value < 0n || value > 0xffff_ffff_ffff_ffffn) {
    throw new NetlinkError(`${what} cannot hold ${value}`, { errno: Errno.ERANGE });
  }
  return value;
}
