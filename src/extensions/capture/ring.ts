/**
 * A ring of captured frames in shared memory, with one writer (the datapath) and one reader (any thread). When it is full the
 * frame is counted as lost: the writer never waits. Neighbours: session.ts writes; the daemon reads.
 *
 *     control: head | tail                      32 bits each, counting bytes; they run over, positions are their low bits
 *     record:  size | captured | original | seconds | nanoseconds | port, nic, flags | lost before | -      eight 32-bit words
 *              frame bytes, padded to 8
 *
 * A record is never split: a size of 0 says that the next one starts at the beginning of the ring.
 */

import type { Packet } from '../../net/index.ts';
import { copyBytes, Region, TagAction } from '../../net/index.ts';

const HEADER_BYTES = 32;
const CONTROL_BYTES = 64;
const HEAD = 0;
const TAIL = 1;

/** Bits of {@link CapturedFrame.flags}. */
export const CaptureFlag = {
  /** Delivered to the port; otherwise the port sent it into the switch. */
  OUT: 1,
  /** The transport checksum in the frame is still to be completed, as for frames of a local sender. */
  CHECKSUM_PARTIAL: 2,
  /** A super-packet, which leaves in segments. */
  SUPER_PACKET: 4,
} as const;

/** One captured frame. The reader's object is used again for the next one. */
export class CapturedFrame {
  /** Arrival in the switch, since 1970. */
  timestampSeconds = 0;
  timestampNanoseconds = 0;
  portId = 0;
  nicIndex = 0;
  /** Bits of {@link CaptureFlag}. */
  flags = 0;
  /** Length of the frame on the wire; {@link lengthBytes} may be less. */
  originalBytes = 0;
  /** Frames of this session that were lost between the record before and this one. */
  lostBefore = 0;
  /** Where the captured bytes are: valid until the next record is read. */
  bytes: Uint8Array;
  offset = 0;
  lengthBytes = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** The captured bytes as a view (no copy). */
  frame(): Uint8Array {
    return this.bytes.subarray(this.offset, this.offset + this.lengthBytes);
  }
}

/** Smallest and largest ring. The smallest holds one super-packet. */
export const MINIMUM_RING_BYTES = 131_072;
export const MAXIMUM_RING_BYTES = 1_073_741_824;

/** Memory for a ring, zeroed. @param capacityBytes rounded up to a power of two */
export function newRingBuffer(capacityBytes: number): SharedArrayBuffer {
  let size = MINIMUM_RING_BYTES;
  while (size < capacityBytes) size *= 2;
  return new SharedArrayBuffer(CONTROL_BYTES + size);
}

/** Both ends of a ring; use either the writing or the reading ones of its methods. */
export class CaptureRing {
  readonly buffer: SharedArrayBuffer;
  readonly capacityBytes: number;
  readonly #control: Int32Array;
  readonly #region: Region;
  readonly #record: CapturedFrame;
  #lost = 0;

  /** @param buffer of {@link newRingBuffer}; the other end may be in another thread */
  constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer;
    this.capacityBytes = buffer.byteLength - CONTROL_BYTES;
    this.#control = new Int32Array(buffer, 0, CONTROL_BYTES / 4);
    this.#region = new Region(buffer);
    this.#record = new CapturedFrame(this.#region.bytes);
  }

  /** Bytes of records that wait to be read. */
  get pendingBytes(): number {
    return (Atomics.load(this.#control, HEAD) - Atomics.load(this.#control, TAIL)) >>> 0;
  }

  /**
   * Writer: append a frame, as it is once a tag action has been carried out.
   * @param snapLengthBytes most bytes to keep, 64 or more
   * @param seconds and nanoseconds: when
   * @param missingBytes of the frame, behind those that the packet has
   * @returns false when there is no room; the next record says how many were lost
   */
  write(
    packet: Packet,
    tagAction: number,
    snapLengthBytes: number,
    seconds: number,
    nanoseconds: number,
    portId: number,
    nicIndex: number,
    flags: number,
    missingBytes = 0,
  ): boolean {
    const isTagged = tagAction !== TagAction.KEEP && isFrameTagged(packet);
    const skip = isTagged && (tagAction & TagAction.STRIP) !== 0 ? 4 : 0;
    const insert = (tagAction & TagAction.PUSH) !== 0 && packet.length >= 14 ? 4 : 0;
    const original = packet.length - skip + insert;
    const captured = Math.min(original, snapLengthBytes);
    const at = this.#reserve((HEADER_BYTES + captured + 7) & ~7);
    if (at < 0) {
      this.#lost += 1;
      return false;
    }
    const view = this.#region.view;
    view.setUint32(at + 4, captured, true);
    view.setUint32(at + 8, original + missingBytes, true);
    view.setUint32(at + 12, seconds, true);
    view.setUint32(at + 16, nanoseconds, true);
    view.setUint16(at + 20, portId, true);
    view.setUint8(at + 22, nicIndex);
    view.setUint8(at + 23, flags);
    view.setUint32(at + 24, this.#lost, true);
    this.#lost = 0;
    const start = at + HEADER_BYTES;
    if (skip === 0 && insert === 0) {
      copyBytes(packet.region, packet.offset, this.#region, start, captured);
    } else {
      copyBytes(packet.region, packet.offset, this.#region, start, 12);
      if (insert !== 0) view.setUint32(start + 12, 0x8100_0000 + (tagAction & 0xffff));
      copyBytes(packet.region, packet.offset + 12 + skip, this.#region, start + 12 + insert, captured - 12 - insert);
    }
    Atomics.store(this.#control, HEAD, this.#reservedHead);
    return true;
  }

  /** Writer: frames were lost before they came here; the next record says so. */
  lose(frames: number): void {
    this.#lost += frames;
  }

  /** Head once the reserved record is published. */
  #reservedHead = 0;

  /** Room for a record in one piece, its size noted. @returns where it starts in the region; -1 when there is none */
  #reserve(size: number): number {
    const capacity = this.capacityBytes;
    const view = this.#region.view;
    const head = Atomics.load(this.#control, HEAD);
    const used = (head - Atomics.load(this.#control, TAIL)) >>> 0;
    const position = head & (capacity - 1);
    const left = capacity - position;
    if (size <= left) {
      if (used + size > capacity) return -1;
      view.setUint32(CONTROL_BYTES + position, size, true);
      this.#reservedHead = (head + size) | 0;
      return CONTROL_BYTES + position;
    }
    if (used + left + size > capacity) return -1;
    view.setUint32(CONTROL_BYTES + position, 0, true);
    view.setUint32(CONTROL_BYTES, size, true);
    this.#reservedHead = (head + left + size) | 0;
    return CONTROL_BYTES;
  }

  /**
   * Reader: take records out, oldest first.
   * @param limit most records
   * @param consumer called with each; the record and its bytes are valid during the call. What it throws leaves that record taken.
   * @returns how many were taken
   */
  take(limit: number, consumer: (record: CapturedFrame) => void): number {
    let taken = 0;
    while (taken < limit) {
      const tail = Atomics.load(this.#control, TAIL);
      if (tail === Atomics.load(this.#control, HEAD)) break;
      const next = this.#read(tail);
      taken += 1;
      try {
        consumer(this.#record);
      } finally {
        Atomics.store(this.#control, TAIL, next);
      }
    }
    return taken;
  }

  /** Load the record at the tail. @returns the tail behind it */
  #read(tail: number): number {
    const view = this.#region.view;
    const record = this.#record;
    const position = tail & (this.capacityBytes - 1);
    let at = CONTROL_BYTES + position;
    let next = tail;
    if (view.getUint32(at, true) === 0) {
      next += this.capacityBytes - position;
      at = CONTROL_BYTES;
    }
    next += view.getUint32(at, true);
    record.lengthBytes = view.getUint32(at + 4, true);
    record.originalBytes = view.getUint32(at + 8, true);
    record.timestampSeconds = view.getUint32(at + 12, true);
    record.timestampNanoseconds = view.getUint32(at + 16, true);
    record.portId = view.getUint16(at + 20, true);
    record.nicIndex = view.getUint8(at + 22);
    record.flags = view.getUint8(at + 23);
    record.lostBefore = view.getUint32(at + 24, true);
    record.offset = at + HEADER_BYTES;
    return next | 0;
  }
}

function isFrameTagged(packet: Packet): boolean {
  if (packet.length < 18) return false;
  const type = (packet.bytes[packet.offset + 12] << 8) | packet.bytes[packet.offset + 13];
  return type === 0x8100 || type === 0x88a8;
}
