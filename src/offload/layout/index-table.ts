/**
 * The index as TypeScript writes it: from the hash of a masked key to an entry's number, open addressing with linear probing over at most
 * PROBES places. Programs read it at the same time, so that every change is one store of a word. A place that is given up stays
 * marked as deleted where others were put behind it, for a program stops at the first empty place.
 */
import { PROBES } from './limits.ts';
import { DELETED, ENTRY_MASK, TAG_MASK } from './sizes.ts';

export class IndexTable {
  readonly words: Int32Array;
  readonly #limit: number;

  /** @param words mapped memory of `places` words and PROBES more */
  constructor(words: Int32Array, places: number) {
    this.words = words;
    this.#limit = places - 1;
  }

  /** Where programs begin to look for a hash. */
  home(hash: number): number {
    return hash & this.#limit;
  }

  /** The word for an entry. */
  static word(hash: number, entry: number): number {
    return (hash & TAG_MASK) | entry;
  }

  /** The place where the entry stands, or -1. */
  find(hash: number, entry: number): number {
    const wanted = IndexTable.word(hash, entry);
    const home = this.home(hash);
    for (let place = home; place < home + PROBES; place += 1) {
      const word = this.words[place];
      if (word === wanted) return place;
      if (word === 0) return -1;
    }
    return -1;
  }

  /**
   * The entry with a hash of which `isIt` says so, or 0.
   * @param isIt compares the whole key
   */
  search(hash: number, isIt: (entry: number) => boolean): number {
    const home = this.home(hash);
    for (let place = home; place < home + PROBES; place += 1) {
      const word = this.words[place];
      if (word === 0) return 0;
      if ((word & TAG_MASK) === (hash & TAG_MASK) && (word & ENTRY_MASK) !== 0 && isIt(word & ENTRY_MASK)) {
        return word & ENTRY_MASK;
      }
    }
    return 0;
  }

  /**
   * Publish an entry that is written. Where all places that programs try for it are taken, others move further from their homes
   * (hopscotch hashing): each is at its new place before it leaves the old one.
   * @param hashOf the hash of an entry that is here
   * @returns false when no place could be made free
   */
  insert(hash: number, entry: number, hashOf: (entry: number) => number): boolean {
    const { words } = this;
    const home = this.home(hash);
    let place = home;
    while (place < words.length && (words[place] & ENTRY_MASK) !== 0) place += 1;
    while (place >= home + PROBES) {
      place = this.#hop(place, hashOf);
      if (place === -1) return false;
    }
    if (place >= words.length) return false;
    Atomics.store(words, place, IndexTable.word(hash, entry));
    return true;
  }

  /** Fill a free place from one before it. @returns the place that became free, or -1 */
  #hop(free: number, hashOf: (entry: number) => number): number {
    const { words } = this;
    if (free >= words.length) return -1;
    for (let place = Math.max(0, free - PROBES + 1); place < free; place += 1) {
      const entry = words[place] & ENTRY_MASK;
      if (entry === 0 || this.home(hashOf(entry)) + PROBES <= free) continue;
      Atomics.store(words, free, words[place]);
      Atomics.store(words, place, DELETED | 0);
      return place;
    }
    return -1;
  }

  /** Put another entry in the place of one that has the same hash. @returns false when that one is not there */
  exchange(hash: number, from: number, to: number): boolean {
    const place = this.find(hash, from);
    if (place === -1) return false;
    Atomics.store(this.words, place, IndexTable.word(hash, to));
    return true;
  }

  /** Take an entry out. */
  remove(hash: number, entry: number): void {
    let place = this.find(hash, entry);
    if (place === -1) return;
    if (this.words[place + 1] !== 0) {
      Atomics.store(this.words, place, DELETED | 0);
      return;
    }
    // Nothing stands behind: this place becomes empty, and so do deleted ones before it.
    Atomics.store(this.words, place, 0);
    for (place -= 1; place >= 0 && this.words[place] === (DELETED | 0); place -= 1) Atomics.store(this.words, place, 0);
  }
}
