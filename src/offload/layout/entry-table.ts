/**
 * Entries as TypeScript writes them. An entry is written whole before the index names it, and stays as it is until it is dead; its
 * number is used again only after a rest that is far longer than any program runs, so that no program sees half an entry.
 */
import type { OffloadMaps } from './maps.ts';
import { EntryWord, MASK_BITS, NEAR_WORDS, type TableSizes } from './sizes.ts';

/** How long a number rests, in milliseconds. */
export const REST_MS = 1000;

export class EntryTable {
  readonly words: Uint32Array;
  readonly sizes: TableSizes;
  readonly #far: Uint32Array;
  readonly #stride: number;
  /** Numbers that may be used at once, as a stack. */
  readonly #free: Int32Array;
  #freeCount = 0;
  /** Numbers that rest, as a ring, and since when. */
  readonly #resting: Int32Array;
  readonly #since: Float64Array;
  #restStart = 0;
  #restCount = 0;

  constructor({ entries, far, sizes }: Pick<OffloadMaps, 'entries' | 'far' | 'sizes'>) {
    this.words = entries;
    this.#far = far;
    this.sizes = sizes;
    this.#stride = sizes.strideBytes / 4;
    this.#free = new Int32Array(sizes.entries);
    this.#resting = new Int32Array(sizes.entries);
    this.#since = new Float64Array(sizes.entries);
    for (let entry = sizes.entries - 1; entry > 0; entry -= 1) this.#free[this.#freeCount++] = entry;
  }

  /** Entries in use. */
  get used(): number {
    return this.sizes.entries - 1 - this.#freeCount - this.#restCount;
  }

  /** Numbers that wait until they may be used again. */
  get resting(): number {
    return this.#restCount;
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
    if (this.#freeCount === 0) this.#wake(nowMs);
    if (this.#freeCount === 0) return 0;
    this.#freeCount -= 1;
    return this.#free[this.#freeCount];
  }

  /** Entries are in use that were not taken here. @param isUsed tells them */
  adopt(isUsed: (entry: number) => boolean): void {
    this.#freeCount = 0;
    for (let entry = this.sizes.entries - 1; entry > 0; entry -= 1) {
      if (!isUsed(entry)) this.#free[this.#freeCount++] = entry;
    }
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
    return Atomics.compareExchange(this.words, this.at(entry) + EntryWord.ORDER, seen, order) === seen;
  }

  /** From now on no program takes the entry for one of its mask. */
  kill(entry: number): void {
    Atomics.store(this.words, this.at(entry) + EntryWord.KIND, 0);
  }

  /** The number of a killed entry rests. */
  release(entry: number, nowMs: number): void {
    const place = (this.#restStart + this.#restCount) % this.#resting.length;
    this.#resting[place] = entry;
    this.#since[place] = nowMs;
    this.#restCount += 1;
  }

  /** The number of an entry that no program could find is free at once. */
  giveBack(entry: number): void {
    this.#free[this.#freeCount++] = entry;
  }

  #wake(nowMs: number): void {
    while (this.#restCount > 0 && this.#since[this.#restStart] + REST_MS <= nowMs) {
      this.#free[this.#freeCount++] = this.#resting[this.#restStart];
      this.#restStart = (this.#restStart + 1) % this.#resting.length;
      this.#restCount -= 1;
    }
  }
}
