/**
 * Several frames for one program in one datagram, since each datagram costs a system call on both sides. connection.ts fills
 * bundles with the answers to one datagram, and with upcalls of one batch of packets; the shim takes them apart.
 *
 *     Frame.BUNDLE | length 32, frame, padding to four bytes | length 32, frame, padding | ...
 */
import { Frame } from '../abi.ts';

/** Longest bundle. */
export const BUNDLE_MAXIMUM_BYTES = 32 * 1024;

const KIND_BYTES = 4;
const LENGTH_BYTES = 4;

export class Bundle {
  readonly #bytes: Uint8Array;
  #length = KIND_BYTES;
  #count = 0;

  /** @param maximumBytes its length at most */
  constructor(maximumBytes = BUNDLE_MAXIMUM_BYTES) {
    this.#bytes = new Uint8Array(maximumBytes);
    this.#bytes[0] = Frame.BUNDLE;
  }

  /** Frames in it. */
  get count(): number {
    return this.#count;
  }

  /** Copy a frame in. @returns false when there is no room for it */
  add(frame: Uint8Array): boolean {
    const bytes = this.#bytes;
    const from = this.#length + LENGTH_BYTES;
    const to = from + frame.length;
    const end = (to + 3) & ~3;
    if (end > bytes.length) return false;
    bytes[this.#length] = frame.length;
    bytes[this.#length + 1] = frame.length >>> 8;
    bytes[this.#length + 2] = frame.length >>> 16;
    bytes[this.#length + 3] = 0;
    bytes.set(frame, from);
    for (let at = to; at < end; at += 1) bytes[at] = 0;
    this.#length = end;
    this.#count += 1;
    return true;
  }

  /** What to send, a view that the next {@link add} overwrites: the frame itself when it is the only one. */
  view(): Uint8Array {
    if (this.#count !== 1) return this.#bytes.subarray(0, this.#length);
    const bytes = this.#bytes;
    const length = bytes[KIND_BYTES] | (bytes[KIND_BYTES + 1] << 8) | (bytes[KIND_BYTES + 2] << 16);
    return bytes.subarray(KIND_BYTES + LENGTH_BYTES, KIND_BYTES + LENGTH_BYTES + length);
  }

  reset(): void {
    this.#length = KIND_BYTES;
    this.#count = 0;
  }
}
