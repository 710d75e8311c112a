/**
 * Reading a ring buffer where it lies: records are handed over as places in the mapped memory, none is copied.
 * Neighbours: map/ring.ts is the map, reader/event-ring.ts adds a layout and a count of what was lost.
 *
 *     page 0     consumer position, ours to write
 *     page 1     producer position, the kernel's
 *     page 2 on  the data, mapped twice in a row, so that no record is ever cut
 *
 *     record     length:30 discard:1 busy:1 | page offset:32 | data, padded to eight bytes
 */
import { type Mapping, Mmap, mmap, waitReadable } from '../../host/sys/index.ts';
import { ClosedError } from '../errors.ts';
import type { RingBufferMap } from '../map/ring.ts';
import { pageBytes } from '../sys/machine.ts';

const BUSY = 0x80000000;
const DISCARD = 0x40000000;
const LENGTH_MASK = 0x3fffffff;
const HEADER_BYTES = 8;
/** The position is given back to the kernel after so many bytes, for programs to have room while a long run of records is read. */
const RETURN_BYTES = 1 << 16;
/** Records that one call of read takes when it is not told otherwise. */
export const READ_LIMIT = 1 << 16;

/**
 * Takes a record. It lies in `bytes` from `offset` on, and stays as it is until the handler returns.
 * @returns false to stop reading behind this record
 */
export type RecordHandler = (bytes: Uint8Array, offset: number, lengthBytes: number) => unknown;

/** Reads a ring buffer. One reader at a time. */
export class RingBufferReader {
  /** The data, mapped twice in a row: what records are places in. Zeros once the reader is closed. */
  readonly bytes: Uint8Array;
  /** The same memory, for reading numbers. */
  readonly view: DataView;
  readonly #map: RingBufferMap;
  readonly #mappings: readonly Mapping[];
  readonly #words: Int32Array;
  readonly #producer: Int32Array;
  readonly #consumer: BigInt64Array;
  readonly #mask: number;
  /** Consumer position modulo 2^32. The ring is smaller than that. */
  #position: number;
  #wide: bigint;
  #closed = false;

  /** @throws ClosedError, SystemError */
  constructor(map: RingBufferMap) {
    const page = pageBytes();
    const size = map.sizeBytes;
    const doing = `map ring buffer "${map.name}"`;
    const first = mmap(map.fd, page, { doing });
    let others: Mapping;
    try {
      others = mmap(map.fd, page + 2 * size, { protection: Mmap.PROT_READ, offsetBytes: page, doing });
    } catch (error) {
      first.unmap();
      throw error;
    }
    const { buffer: consumer } = first;
    const { buffer: rest } = others;
    this.#map = map;
    this.#mappings = [first, others];
    this.#mask = size - 1;
    this.#consumer = new BigInt64Array(consumer, 0, 1);
    this.#producer = new Int32Array(rest, 0, 2);
    this.bytes = new Uint8Array(rest, page, 2 * size);
    this.view = new DataView(rest, page, 2 * size);
    this.#words = new Int32Array(rest, page, size / 2);
    this.#wide = Atomics.load(this.#consumer, 0);
    this.#position = Number(BigInt.asUintN(32, this.#wide));
  }

  /** For epoll or poll: readable when a record is there. It belongs to the map. */
  get fd(): number {
    return this.#map.fd;
  }

  /** Bytes of records that wait, headers included; 0 once the reader is closed. */
  get pendingBytes(): number {
    if (this.#closed) return 0;
    return (Atomics.load(this.#producer, 0) - this.#position) >>> 0;
  }

  /**
   * Hand over the records that were there when it was called: what is written meanwhile waits for the next call, so that it ends however fast
   * programs write.
   * @param limit the most to take; 65,536 by default
   * @returns how many were handed over; as many as the limit when there may be more
   * @throws ClosedError, and what the handler throws, after the record it threw at
   */
  read(handler: RecordHandler, limit = READ_LIMIT): number {
    if (this.#closed) throw new ClosedError(`reader of ring buffer "${this.#map.name}"`);
    const mask = this.#mask;
    const end = Atomics.load(this.#producer, 0) >>> 0;
    let position = this.#position;
    let taken = 0;
    let goesOn = true;
    try {
      while (goesOn && taken < limit && position !== end) {
        const start = position & mask;
        const header = Atomics.load(this.#words, start >>> 2);
        // A program is still writing it; those behind it have to wait as well.
        if ((header & BUSY) !== 0) break;
        const length = header & LENGTH_MASK;
        position = (position + ((length + HEADER_BYTES + 7) & ~7)) >>> 0;
        if ((header & DISCARD) === 0) {
          taken++;
          if (handler(this.bytes, start + HEADER_BYTES, length) === false) goesOn = false;
        }
        if ((position - this.#position) >>> 0 > RETURN_BYTES) this.#giveBack(position);
      }
    } finally {
      this.#giveBack(position);
    }
    return taken;
  }

  /** Tell the kernel how far we are. One 64-bit store: it must never see half a position. */
  #giveBack(position: number): void {
    const step = (position - this.#position) >>> 0;
    if (step === 0) return;
    this.#wide += BigInt(step);
    this.#position = position;
    Atomics.store(this.#consumer, 0, this.#wide);
  }

  /** Block this thread until a record may be there. @returns false when the time is over */
  wait(timeoutMs: number): boolean {
    return waitReadable(this.fd, timeoutMs);
  }

  /** Stop reading, and give the memory back. The map stays open; what is unread stays in it. Closing twice is harmless. */
  close(): void {
    this.#closed = true;
    for (const mapping of this.#mappings) mapping.unmap();
  }
}
