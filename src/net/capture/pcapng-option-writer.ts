/** OptionList: the options of one block in the making. For pcapng-writer.ts. What is undefined is left out. */
import { CaptureError } from './error.ts';
import type { Units } from './timestamp.ts';

const encoder = new TextEncoder();

/** Options in the order in which they were given. */
export class OptionList {
  readonly #parts: Uint8Array[] = [];
  readonly #littleEndian: boolean;
  #length = 0;

  constructor(littleEndian: boolean) {
    this.#littleEndian = littleEndian;
  }

  /** @throws CaptureError for more than 65,535 bytes */
  bytes(code: number, value: Uint8Array | undefined): void {
    if (value === undefined) return;
    if (value.length > 0xffff) throw new CaptureError(`option ${code} of ${value.length} bytes is longer than 65535`);
    const part = new Uint8Array(4 + ((value.length + 3) & ~3));
    const view = new DataView(part.buffer);
    view.setUint16(0, code, this.#littleEndian);
    view.setUint16(2, value.length, this.#littleEndian);
    part.set(value, 4);
    this.#parts.push(part);
    this.#length += part.length;
  }

  text(code: number, value: string | undefined): void {
    if (value !== undefined) this.bytes(code, encoder.encode(value));
  }

  u32(code: number, value: number | undefined): void {
    if (value === undefined) return;
    const view = new DataView(new ArrayBuffer(4));
    view.setUint32(0, value, this.#littleEndian);
    this.bytes(code, new Uint8Array(view.buffer));
  }

  u64(code: number, value: number | undefined): void {
    if (value === undefined) return;
    if (!Number.isSafeInteger(value) || value < 0) throw new CaptureError(`option ${code} cannot hold ${value}`);
    this.#integer64(code, value);
  }

  s64(code: number, value: number): void {
    if (!Number.isSafeInteger(value)) throw new CaptureError(`option ${code} cannot hold ${value}`);
    this.#integer64(code, value);
  }

  /** A time stamp: upper half first whatever the byte order. */
  halves(code: number, units: Units): void {
    const view = new DataView(new ArrayBuffer(8));
    view.setUint32(0, units.high, this.#littleEndian);
    view.setUint32(4, units.low, this.#littleEndian);
    this.bytes(code, new Uint8Array(view.buffer));
  }

  /** All options with their end; nothing when there are none. */
  finish(): Uint8Array {
    if (this.#length === 0) return new Uint8Array(0);
    const all = new Uint8Array(this.#length + 4);
    let at = 0;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  #integer64(code: number, value: number): void {
    const view = new DataView(new ArrayBuffer(8));
    view.setBigInt64(0, BigInt(value), this.#littleEndian);
    this.bytes(code, new Uint8Array(view.buffer));
  }
}
