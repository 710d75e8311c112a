/**
 * What is known of each flow of a table, read by slot, and what is counted of it. table.ts finds flows, puts them and removes them; slots.ts has statistics,
 * heap.ts actions and keys, mask.ts masked keys.
 */
import type { KeyPort } from '../../net/index.ts';
import type { WordHeap } from './heap.ts';
import type { FlowMask } from './mask.ts';
import type { MaskList } from './mask-list.ts';
import { type FlowSlots, INFO_SHIFT, Info, STATS_SHIFT, Stats } from './slots.ts';
import { unpackSparse } from './sparse.ts';
import type { UfidIndex } from './ufid-index.ts';

/** What a table is made of. */
export interface TableParts {
  readonly slots: FlowSlots;
  readonly masks: MaskList;
  readonly ufids: UfidIndex;
  readonly heap: WordHeap;
}

export class FlowRecords {
  readonly #slots: FlowSlots;
  readonly #masks: MaskList;
  readonly #ufids: UfidIndex;
  readonly #heap: WordHeap;

  constructor({ slots, masks, ufids, heap }: TableParts) {
    this.#slots = slots;
    this.#masks = masks;
    this.#ufids = ufids;
    this.#heap = heap;
  }

  /**
   * For dumps: the first flow at or behind a slot, or -1 when there is none before `end`. A dump that takes {@link slotEnd} once,
   * at its beginning, ends whatever is added meanwhile; a flow that is there all the time is met exactly once, and one that
   * comes meanwhile may be met or not.
   */
  next(slot: number, end: number = this.#slots.highest): number {
    const { info, highest } = this.#slots;
    const last = Math.min(end, highest);
    for (let i = slot; i < last; i += 1) if (info[(i << INFO_SHIFT) + Info.MASK] !== -1) return i;
    return -1;
  }

  /** One behind the highest slot ever used: the end for {@link next}. */
  get slotEnd(): number {
    return this.#slots.highest;
  }

  /** Whether a slot holds a flow. */
  has(slot: number): boolean {
    return slot >= 0 && slot < this.#slots.highest && this.#slots.info[(slot << INFO_SHIFT) + Info.MASK] !== -1;
  }

  /** Tells the flows that use one slot in turn from each other. */
  generationOf(slot: number): number {
    return this.#slots.info[(slot << INFO_SHIFT) + Info.GENERATION];
  }

  /** Whether a slot holds the flow that it held when its generation was that. */
  isStill(slot: number, generation: number): boolean {
    const at = slot << INFO_SHIFT;
    const info = this.#slots.info;
    return info[at + Info.GENERATION] === generation && info[at + Info.MASK] !== -1;
  }

  /** Heap offset of a flow's action list, and 0 for the empty list; its length is the heap's lengthAt. */
  actionsOffset(slot: number): number {
    return this.#slots.info[(slot << INFO_SHIFT) + Info.ACTIONS];
  }

  /** Whether there are any: a flow without is to drop. */
  hasActions(slot: number): boolean {
    return this.actionsOffset(slot) !== 0;
  }

  /** A copy of a flow's action list. */
  actionsOf(slot: number): Int32Array {
    const offset = this.actionsOffset(slot);
    return offset === 0 ? new Int32Array(0) : this.#heap.words.slice(offset, offset + this.#heap.lengthAt(offset));
  }

  maskOf(slot: number): FlowMask {
    const mask = this.#masks.byId[this.#slots.info[(slot << INFO_SHIFT) + Info.MASK]];
    if (mask === null || mask === undefined) throw new RangeError(`slot ${slot} holds no flow`);
    return mask;
  }

  /** The one input port whose packets fall to a flow; NO_PORT of mask.ts when its mask does not look at the whole of the port. */
  portOf(slot: number): KeyPort | -1 {
    return this.maskOf(slot).portOf(this.#slots.info[(slot << INFO_SHIFT) + Info.POSITION]);
  }

  /** Write a flow's key: as it was given for flows without an identifier, else with the bits outside the mask 0. */
  readKey(slot: number, into: Uint32Array): void {
    const offset = this.#slots.info[(slot << INFO_SHIFT) + Info.KEY];
    if (offset === 0) this.maskOf(slot).readKey(this.#slots.info[(slot << INFO_SHIFT) + Info.POSITION], into);
    else unpackSparse(this.#heap.words, offset, into);
  }

  /** A flow's identifier in a new array, or null. */
  ufidOf(slot: number): Uint8Array | null {
    return this.#ufids.read(slot);
  }

  packetsOf(slot: number): number {
    return this.#slots.stats[(slot << STATS_SHIFT) + Stats.PACKETS];
  }

  bytesOf(slot: number): number {
    return this.#slots.stats[(slot << STATS_SHIFT) + Stats.BYTES];
  }

  /** When a packet last fell to the flow, in milliseconds of the caller's monotonic clock; 0 for never. */
  usedMsOf(slot: number): number {
    return this.#slots.stats[(slot << STATS_SHIFT) + Stats.USED_MS];
  }

  tcpFlagsOf(slot: number): number {
    return this.#slots.info[(slot << INFO_SHIFT) + Info.TCP_FLAGS];
  }

  /** Count a packet that a flow was found for. */
  count(slot: number, lengthBytes: number, tcpFlags: number, nowMs: number): void {
    const stats = this.#slots.stats;
    const at = slot << STATS_SHIFT;
    stats[at + Stats.PACKETS] += 1;
    stats[at + Stats.BYTES] += lengthBytes;
    stats[at + Stats.USED_MS] = nowMs;
    if (tcpFlags === 0) return;
    const flags = (slot << INFO_SHIFT) + Info.TCP_FLAGS;
    const info = this.#slots.info;
    if ((info[flags] | tcpFlags) !== info[flags]) info[flags] |= tcpFlags;
  }

  /** Set packets, bytes, time and TCP flags back to none. */
  clearCounts(slot: number): void {
    const at = slot << STATS_SHIFT;
    this.#slots.stats.fill(0, at + Stats.PACKETS, at + Stats.USED_MS + 1);
    this.#slots.info[(slot << INFO_SHIFT) + Info.TCP_FLAGS] = 0;
  }
}
