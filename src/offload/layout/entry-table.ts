/**
 * Entries as TypeScript writes them. An entry is written whole before the index names it, and stays as it is until it is dead; its
 * number is used again only after a rest that is far longer than any program runs, so that no program sees half an entry.
 */
import type { OffloadMaps } from './maps.ts';
import { EntryWord, MASK_BITS, NEAR_WORDS, type TableSizes } from './sizes.ts';

/** How long a number rests, in milliseconds. */
export const REST_MS = 1000;
/** Numbers of a former table that are looked at in one step. */
export const RECLAIMED = 1024;

export class EntryTable {
  readonly words: Uint32Array;
  readonly sizes: TableSizes;
  readonly #far: Uint32Array;
  readonly #stride: number;
  /** Numbers that may be used at once, as a stack. */
  readonly #free: Int32Array;
  #freeCount = 0;
  /** Numbers from here on were never used. */
  #fresh = 1;
  /** Numbers of a former table that are to be looked at, from here on up to `reclaimEnd`: which are not in use may be used. */
  #reclaimAt = 0;
  #reclaimEnd = 0;
  /** Of these, the ones that rest. */
  readonly #reclaimed = new Set<number>();
  #used = 0;
  /** Numbers that rest, as a ring, and since when. */
  readonly #resting: Int32Array;
  readonly #since: Float64Array;
  #restStart = 0;
  #restCount = 0;
  /** Entries that have changed since {@link noteChanges}; null while nobody wants to know. */
  #changes: Set<number> | null = null;

  constructor({ entries, far, sizes }: Pick<OffloadMaps, 'entries' | 'far' | 'sizes'>) {
    this.words = entries;
    this.#far = far;
    this.sizes = sizes;
    this.#stride = sizes.strideBytes / 4;
    this.#free = new Int32Array(sizes.entries);
    this.#resting = new Int32Array(sizes.entries);
    this.#since = new Float64Array(sizes.entries);
  }

  /** Entries in use. */
  get used(): number {
    return this.#used;
  }

  /** Numbers that wait until they may be used again. */
  get resting(): number {
    return this.#restCount;
  }

  /** From now on note which entries change here. @returns what has changed so far, to be emptied by the caller */
  noteChanges(): Set<number> {
    this.#changes = new Set();
    return this.#changes;
  }

  /** Something that belongs to an entry is changed elsewhere. */
  noteChange(entry: number): void {
    this.#changes?.add(entry);
  }

  /** Nobody wants to know any more. */
  forgetChanges(): void {
    this.#changes = null;
  }

  /** First word of an entry. */
  at(entry: number): number {
    return entry * this.#stride;
  }

  /** The number of an entry's mask; -1 for an entry that is dead. */
  maskOf(entry: number): number {
    return (this.words[this.at(entry) + EntryWord.KIND] & ((1 << MASK_BITS) - 1)) - 1;
  }

  /** The number of its shape. */
  shapeOf(entry: number): number {
    return this.words[this.at(entry) + EntryWord.KIND] >>> MASK_BITS;
  }

  /** First word of its masked key. */
  keyAt(entry: number): number {
    return this.at(entry) + EntryWord.KEY;
  }

  /** A view of its masked key. */
  keyOf(entry: number, length: number): Uint32Array {
    const at = this.keyAt(entry);
    return this.words.subarray(at, at + length);
  }

  /** A view of its parameters. */
  parametersOf(entry: number, length: number): Uint32Array {
    const near = this.at(entry) + EntryWord.NEAR;
    if (length <= NEAR_WORDS) return this.words.subarray(near, near + length);
    const far = entry * this.sizes.parameterWords;
    return this.#far.subarray(far, far + length);
  }

  /** A number for an entry, or 0 when there is none now. */
  take(nowMs: number): number {
    const entry = this.#next(nowMs);
    if (entry !== 0) this.#used += 1;
    return entry;
  }

  #next(nowMs: number): number {
    if (this.#freeCount === 0 && this.#fresh < this.sizes.entries) {
      this.#fresh += 1;
      return this.#fresh - 1;
    }
    while (this.#freeCount === 0 && this.isReclaiming) this.reclaim(RECLAIMED);
    if (this.#freeCount === 0) this.#wake(nowMs);
    if (this.#freeCount === 0) return 0;
    this.#freeCount -= 1;
    return this.#free[this.#freeCount];
  }

  /**
   * Entries are in use that were not taken here.
   * @param used how many
   * @param end all of them are below it. Which numbers below it are free is found out by {@link reclaim}
   */
  adopt(used: number, end: number): void {
    this.#used = used;
    this.#freeCount = 0;
    this.#fresh = end;
    this.#reclaimAt = 1;
    this.#reclaimEnd = end;
  }

  /** Whether there are numbers to be looked at by {@link reclaim}. */
  get isReclaiming(): boolean {
    return this.#reclaimAt < this.#reclaimEnd;
  }

  /** Look at some of the numbers of a former table. @param most how many */
  reclaim(most: number): void {
    const end = Math.min(this.#reclaimEnd, this.#reclaimAt + most);
    for (let entry = this.#reclaimAt; entry < end; entry += 1) {
      if (!this.#reclaimed.delete(entry) && this.maskOf(entry) === -1) this.#free[this.#freeCount++] = entry;
    }
    this.#reclaimAt = end;
  }

  /** Write an entry that no program can find yet. */
  write(
    entry: number,
    mask: number,
    shape: number,
    order: number,
    key: ArrayLike<number>,
    parameters: ArrayLike<number>,
  ): void {
    const at = this.at(entry);
    const { words } = this;
    for (let i = 0; i < key.length; i += 1) words[at + EntryWord.KEY + i] = key[i];
    const isNear = parameters.length <= NEAR_WORDS;
    const into = isNear ? words : this.#far;
    const parametersAt = isNear ? at + EntryWord.NEAR : entry * this.sizes.parameterWords;
    for (let i = 0; i < parameters.length; i += 1) into[parametersAt + i] = parameters[i];
    words[at + EntryWord.ORDER] = order;
    this.#changes?.add(entry);
    // Last, as a cache may still name the number.
    Atomics.store(words, at + EntryWord.KIND, (shape << MASK_BITS) | (mask + 1));
  }

  /** Write an entry that another table holds under the same number; its counters stay as they are. */
  copy(entry: number, from: EntryTable, keyLength: number, parameterLength: number): void {
    const { words } = this;
    const at = this.at(entry);
    const source = from.at(entry);
    for (let i = 1; i < EntryWord.KEY + keyLength; i += 1) words[at + i] = from.words[source + i];
    if (parameterLength > NEAR_WORDS) {
      const [to, there] = [entry * this.sizes.parameterWords, entry * from.sizes.parameterWords];
      for (let i = 0; i < parameterLength; i += 1) this.#far[to + i] = from.#far[there + i];
    }
    words[at] = from.words[source];
  }

  /** The word for order of an entry. */
  orderOf(entry: number): number {
    return Atomics.load(this.words, this.at(entry) + EntryWord.ORDER);
  }

  /** Give an entry another word for order, if it still has the one that was seen. @returns whether it had */
  changeOrder(entry: number, seen: number, order: number): boolean {
    this.#changes?.add(entry);
    return Atomics.compareExchange(this.words, this.at(entry) + EntryWord.ORDER, seen, order) === seen;
  }

  /** From now on no program takes the entry for one of its mask. */
  kill(entry: number): void {
    this.#changes?.add(entry);
    Atomics.store(this.words, this.at(entry) + EntryWord.KIND, 0);
  }

  /** The number of a killed entry rests. */
  release(entry: number, nowMs: number): void {
    const place = (this.#restStart + this.#restCount) % this.#resting.length;
    this.#resting[place] = entry;
    this.#since[place] = nowMs;
    this.#restCount += 1;
    this.#used -= 1;
    if (entry >= this.#reclaimAt && entry < this.#reclaimEnd) this.#reclaimed.add(entry);
  }

  /** The number of an entry that no program could find is free at once. */
  giveBack(entry: number): void {
    this.#free[this.#freeCount++] = entry;
    this.#used -= 1;
    if (entry >= this.#reclaimAt && entry < this.#reclaimEnd) this.#reclaimed.add(entry);
  }

  #wake(nowMs: number): void {
    while (this.#restCount > 0 && this.#since[this.#restStart] + REST_MS <= nowMs) {
      this.#free[this.#freeCount++] = this.#resting[this.#restStart];
      this.#restStart = (this.#restStart + 1) % this.#resting.length;
      this.#restCount -= 1;
    }
  }
}
