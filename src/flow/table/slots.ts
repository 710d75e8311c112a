/**
 * What the table keeps of each flow besides its masked key: 64 bytes that a packet touches together, seen as integers and as
 * floating-point counters by two views of one buffer. Slots are numbered from 0 and used again; a slot's generation tells its
 * flows apart, also of those that had its number before slots were given up and came again.
 *
 *     bytes 0 to 27: integers of Info; 32 to 55: counters of Stats
 */

/** Words of a flow in {@link FlowSlots.info}, as a shift. */
export const INFO_SHIFT = 4;
export const Info = {
  /** Id of the flow's mask, or -1 for a free slot. */
  MASK: 0,
  /** Where its entry lies in the mask's table. */
  POSITION: 1,
  /** Heap offset of its action list; 0 for the empty list. */
  ACTIONS: 2,
  /** Heap offset of the key as it was given, in sparse form; 0 for flows with an identifier. */
  KEY: 3,
  /** All TCP flags seen. */
  TCP_FLAGS: 4,
  /** Grows each time the slot is used for another flow. */
  GENERATION: 5,
  /** Of a free slot: the next free one, or -1. */
  NEXT: 6,
} as const;

/** Slots that a table begins with, and always has. */
export const INITIAL_SLOTS = 64;

/** Numbers of a flow in {@link FlowSlots.stats}, as a shift. */
export const STATS_SHIFT = 3;
export const Stats = {
  PACKETS: 4,
  BYTES: 5,
  /** Milliseconds of the caller's monotonic clock; 0 for never. */
  USED_MS: 6,
} as const;

export class FlowSlots {
  info: Int32Array;
  stats: Float64Array;
  capacity: number;
  /** Slots at and above this one have never been used. */
  highest = 0;
  #free = 0;
  /** No slot has had a flow of a later generation. */
  #latest = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.info = new Int32Array(capacity << INFO_SHIFT);
    this.stats = new Float64Array(this.info.buffer);
    this.#linkFree(0);
  }

  /** A slot with everything 0; -1 when all are in use: then {@link grow}. */
  take(): number {
    const slot = this.#free;
    if (slot === -1) return -1;
    const at = slot << INFO_SHIFT;
    this.#free = this.info[at + Info.NEXT];
    const generation = (this.info[at + Info.GENERATION] + 1) | 0;
    this.info.fill(0, at, at + (1 << INFO_SHIFT));
    this.info[at + Info.GENERATION] = generation;
    if (generation > this.#latest) this.#latest = generation;
    if (slot >= this.highest) this.highest = slot + 1;
    return slot;
  }

  release(slot: number): void {
    const at = slot << INFO_SHIFT;
    this.info[at + Info.MASK] = -1;
    this.info[at + Info.NEXT] = this.#free;
    this.#free = slot;
  }

  /** The entry of a flow lies elsewhere in its mask's table. */
  moved(slot: number, position: number): void {
    this.info[(slot << INFO_SHIFT) + Info.POSITION] = position;
  }

  /** The last slots that are free count as never used. */
  trim(): void {
    while (this.highest > 0 && this.info[((this.highest - 1) << INFO_SHIFT) + Info.MASK] === -1) this.highest -= 1;
  }

  grow(capacity: number): void {
    const before = this.capacity;
    const info = new Int32Array(capacity << INFO_SHIFT);
    info.set(this.info);
    this.info = info;
    this.stats = new Float64Array(info.buffer);
    this.capacity = capacity;
    this.#linkFree(before);
  }

  /** Give up the slots from `capacity` on, which are all free. */
  shrink(capacity: number): void {
    this.info = this.info.slice(0, capacity << INFO_SHIFT);
    this.stats = new Float64Array(this.info.buffer);
    this.capacity = capacity;
    this.#free = -1;
    for (let slot = capacity - 1; slot >= 0; slot -= 1) {
      if (this.info[(slot << INFO_SHIFT) + Info.MASK] === -1) this.release(slot);
    }
  }

  #linkFree(from: number): void {
    for (let slot = from; slot < this.capacity; slot += 1) {
      const at = slot << INFO_SHIFT;
      this.info[at + Info.MASK] = -1;
      this.info[at + Info.GENERATION] = this.#latest;
      this.info[at + Info.NEXT] = slot + 1 < this.capacity ? slot + 1 : -1;
    }
    this.#free = from;
  }
}
