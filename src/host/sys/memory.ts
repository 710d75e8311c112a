/**
 * Memory that the kernel reads or fills by address: control structures (iovec, msghdr, epoll_event) laid out by hand.
 * A block is one ArrayBuffer with all the views that callers write fields through; its address never changes.
 */
import { addressOf } from './libc.ts';

/** A zeroed block of memory with a stable address. Keep the block referenced as long as the kernel may touch it. */
export class NativeBlock {
  readonly bytes: Uint8Array;
  readonly u16: Uint16Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly view: DataView;
  /** Start in this process's address space, a plain number below 2^47. */
  readonly address: number;

  /** @param lengthBytes size, rounded up to eight bytes */
  constructor(lengthBytes: number) {
    // Small typed arrays of their own may sit inside the JavaScript heap and move; a view of a buffer never does.
    const buffer = new ArrayBuffer(Math.max(64, (lengthBytes + 7) & ~7));
    this.bytes = new Uint8Array(buffer);
    this.u16 = new Uint16Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.view = new DataView(buffer);
    this.address = addressOf(this.bytes);
  }

  /** Store an address (or any whole number below 2^53) as 64 bits in host order. @param offset in bytes, a multiple of 4 */
  setAddress(offset: number, address: number): void {
    const word = offset >>> 2;
    this.u32[word + lowWord] = address >>> 0;
    this.u32[word + highWord] = Math.floor(address / 4294967296);
  }

  /** A C string, cut to fit `room` bytes with its terminating zero. */
  setString(offset: number, room: number, text: string): void {
    const bytes = Buffer.from(text, 'utf8');
    const length = Math.min(bytes.length, room - 1);
    this.bytes.fill(0, offset, offset + room);
    this.bytes.set(bytes.subarray(0, length), offset);
  }

  /** The C string at an offset, at most `room` bytes. */
  getString(offset: number, room: number): string {
    const end = this.bytes.indexOf(0, offset);
    return Buffer.from(this.bytes.buffer, offset, Math.min(end < 0 ? room : end - offset, room)).toString('utf8');
  }
}

const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
const lowWord = littleEndian ? 0 : 1;
const highWord = littleEndian ? 1 : 0;

/** Swap the bytes of a 16-bit number into network order as the host would store it. */
export function hostToNetwork16(value: number): number {
  return littleEndian ? ((value & 0xff) << 8) | ((value >>> 8) & 0xff) : value & 0xffff;
}
