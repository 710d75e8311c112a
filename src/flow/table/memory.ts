/** Giving back memory that the flows that are left in a table do not need. */
import type { FlowCache } from './flow-cache.ts';
import { collectSoon } from './garbage.ts';
import type { TableParts } from './records.ts';
import { INFO_SHIFT, INITIAL_SLOTS, Info } from './slots.ts';

/** Memory for so many flows is never given back. */
const SMALL_TABLE = 4096;
/** Memory is given back when less than one part in so many is used. */
const SPARE_SHARE = 16;
/** How often that is looked at: after so many removals for each flow that there is room for. Looking costs a walk through all slots. */
const REMOVALS_PER_SLOT = 1 / 16;

export class TableMemory {
  readonly #parts: TableParts;
  readonly #cache: FlowCache;
  /** Removals since it was last looked at whether memory can be given back. */
  #removals = 0;

  constructor(parts: TableParts, cache: FlowCache) {
    this.#parts = parts;
    this.#cache = cache;
  }

  /** Bytes that the table takes, flow cache and spare room included. */
  get bytes(): number {
    const { slots, ufids, heap, masks } = this.#parts;
    let bytes = this.#cache.entries.byteLength + slots.info.byteLength + ufids.bytes + heap.words.byteLength;
    for (const mask of masks.all) bytes += mask.tableBytes;
    return bytes;
  }

  /** Flows are gone; {@link giveBack} may be worthwhile. */
  removed(flows: number): void {
    this.#removals += flows;
  }

  /** Give memory back, if that is worthwhile. @param size flows that are left */
  giveBack(size: number): void {
    const { capacity } = this.#parts.slots;
    if (capacity <= SMALL_TABLE || this.#removals === 0) return;
    if (size === 0 || this.#removals >= capacity * REMOVALS_PER_SLOT) this.#shrink(size);
  }

  /** All flows are gone at once. */
  flushed(): void {
    if (this.#parts.slots.capacity > SMALL_TABLE) this.#shrink(0);
  }

  /**
   * While an action list runs, a later removal does it. Slots stay what they are, so room for them is given back as far as the last ones are free: all of it when
   * no flow is left.
   */
  #shrink(size: number): void {
    const { slots, masks, ufids, heap } = this.#parts;
    if (heap.isRead) return;
    this.#removals = 0;
    if (size * SPARE_SHARE > slots.capacity && heap.usedWords * SPARE_SHARE > heap.words.length) return;
    const before = this.bytes;
    if (size === 0) slots.highest = 0;
    if (heap.usedWords * SPARE_SHARE <= heap.words.length) heap.renew((former) => this.#moveContents(former));
    for (const mask of masks.all) mask.shrink(slots);
    slots.trim();
    let capacity = INITIAL_SLOTS;
    while (capacity < slots.highest) capacity *= 2;
    if (capacity * SPARE_SHARE <= slots.capacity) {
      // The cache, and whoever remembers flows until masks change, may name slots that are no more.
      this.#cache.clear();
      masks.renew();
      slots.shrink(capacity);
      ufids.resize(capacity);
    }
    ufids.shrink();
    collectSoon(before - this.bytes);
  }

  #moveContents(former: Int32Array): void {
    const { slots, heap } = this.#parts;
    const { info } = slots;
    const end = slots.highest << INFO_SHIFT;
    for (let at = 0; at < end; at += 1 << INFO_SHIFT) {
      if (info[at + Info.MASK] === -1) continue;
      if (info[at + Info.ACTIONS] !== 0) info[at + Info.ACTIONS] = heap.storeFrom(former, info[at + Info.ACTIONS]);
      if (info[at + Info.KEY] !== 0) info[at + Info.KEY] = heap.storeFrom(former, info[at + Info.KEY]);
    }
  }
}
