/**
 * The index: from a tuple's hash to a record and a direction. Buckets of eight words, of which a tuple has two to be in. Each change is a store of one
 * word, so that programs may read at any time; what is not in one of two buckets is not there, and no place is ever marked as deleted.
 */
import { firstBucket, secondBucket } from './hash.ts';
import { BUCKET_WORDS, ENTRY_MASK, TAG_SHIFT } from './layout.ts';

/** What the index has to know of records. */
export interface IndexedRecords {
  /** The hash of the tuple that an entry (record and direction) stands for. */
  hashOf(entry: number): number;
}

export class IndexTable {
  readonly #words: Int32Array;
  readonly #buckets: number;
  readonly #records: IndexedRecords;

  constructor(words: Int32Array, buckets: number, records: IndexedRecords) {
    this.#words = words;
    this.#buckets = buckets;
    this.#records = records;
  }

  /** First word of the first bucket for a hash. */
  firstPlace(hash: number): number {
    return firstBucket(hash, this.#buckets) * BUCKET_WORDS;
  }

  /** First word of the second. */
  secondPlace(hash: number): number {
    return secondBucket(hash, this.#buckets) * BUCKET_WORDS;
  }

  /** The place of an entry, or -1. */
  placeOf(hash: number, entry: number): number {
    const word = wordFor(hash, entry);
    const place = this.#search(this.firstPlace(hash), word);
    return place !== -1 ? place : this.#search(this.secondPlace(hash), word);
  }

  /**
   * Put an entry in. In a full bucket an entry that has another bucket to go to makes room; it is there before it leaves.
   * @returns false when there is no room for it
   */
  insert(hash: number, entry: number): boolean {
    const first = this.firstPlace(hash);
    const second = this.secondPlace(hash);
    let place = this.#search(first, 0);
    if (place === -1) place = this.#search(second, 0);
    if (place === -1) place = this.#makeRoom(first);
    if (place === -1) place = this.#makeRoom(second);
    if (place === -1) return false;
    Atomics.store(this.#words, place, wordFor(hash, entry));
    return true;
  }

  /** Take an entry out. @returns whether it was there */
  remove(hash: number, entry: number): boolean {
    const place = this.placeOf(hash, entry);
    if (place === -1) return false;
    Atomics.store(this.#words, place, 0);
    return true;
  }

  /**
   * Empty all places whose entry is not where it ought to be.
   * @param isLive whether an entry is one of a connection
   * @returns how many places were emptied
   */
  clean(isLive: (entry: number) => boolean): number {
    let emptied = 0;
    for (let place = 0; place < this.#buckets * BUCKET_WORDS; place += 1) {
      const word = this.#words[place];
      if (word === 0) continue;
      const entry = word & ENTRY_MASK;
      if (isLive(entry) && this.placeOf(this.#records.hashOf(entry), entry) === place) continue;
      Atomics.store(this.#words, place, 0);
      emptied += 1;
    }
    return emptied;
  }

  #search(bucket: number, word: number): number {
    const words = this.#words;
    for (let place = bucket; place < bucket + BUCKET_WORDS; place += 1) if (words[place] === word) return place;
    return -1;
  }

  /** Only from its first bucket to its second does an entry move: programs read them in this order, and so miss none that moves. */
  #makeRoom(bucket: number): number {
    const words = this.#words;
    for (let place = bucket; place < bucket + BUCKET_WORDS; place += 1) {
      const word = words[place];
      const hash = this.#records.hashOf(word & ENTRY_MASK);
      if (this.firstPlace(hash) !== bucket) continue;
      const free = this.#search(this.secondPlace(hash), 0);
      if (free === -1) continue;
      Atomics.store(words, free, word);
      Atomics.store(words, place, 0);
      return place;
    }
    return -1;
  }
}

/** The index word of an entry. */
export function wordFor(hash: number, entry: number): number {
  return (hash << TAG_SHIFT) | entry;
}
