/**
 * The hash of masked key words: multilinear hashing with secret multipliers, which is strongly universal, so that nobody outside can
 * make keys that collide (Lemire and Kaser, "Strongly universal string hashing is fast"):
 *
 *     (seed + word[0] * multiplier[0] + word[1] * multiplier[1] + ...) mod 2^64, its upper 32 bits
 *
 * Keys that count up make sums that count up, in whatever step, and would lie side by side in the index: the bits are mixed once more.
 * The multiplier belongs to the place of the word in the flow key, the seed to the mask. program/lookup.ts writes the same as
 * eBPF: three instructions a word, none of which waits for the one before. Here it is done in halves, as there are no 64-bit integers.
 */
import { randomFillSync } from 'node:crypto';
import { MASK_NUMBERS } from './limits.ts';

/** Words of the key that can have a multiplier: all but tunnel words. */
const MULTIPLIERS = 45;

/** Seed of the hash over all words that any mask looks at, for the cache; masks have the seeds of their numbers. */
export const CACHE_SEED = MASK_NUMBERS;

/** Odd, so that mixing is a permutation. */
export const MIX = 0x45d9f3b;

/** Secret numbers, each 64 bits in two halves. */
export class HashSecrets {
  /** Multipliers, then seeds: low half, high half. */
  readonly words: Uint32Array;

  /** @param words of another instance's; random when left out */
  constructor(words?: Uint32Array) {
    const length = (MULTIPLIERS + MASK_NUMBERS + 1) * 2;
    if (words !== undefined && words.length !== length) throw new RangeError(`secrets have ${length} words`);
    this.words = words?.slice() ?? randomFillSync(new Uint32Array(length));
  }

  /** The multiplier of a word of the key. */
  multiplier(word: number): bigint {
    return this.#wide(word);
  }

  /** The seed of a mask's number, or of {@link CACHE_SEED}. */
  seed(number: number): bigint {
    return this.#wide(MULTIPLIERS + number);
  }

  #wide(at: number): bigint {
    return (BigInt(this.words[at * 2 + 1]) << 32n) | BigInt(this.words[at * 2]);
  }

  /**
   * The hash of some words.
   * @param number of the mask
   * @param index places of the words in the key
   * @param masked the words, in the order of `index`
   */
  hash(number: number, index: ArrayLike<number>, masked: ArrayLike<number>): number {
    const secret = this.words;
    const seedAt = (MULTIPLIERS + number) * 2;
    let low = secret[seedAt];
    let high = secret[seedAt + 1];
    for (let i = 0; i < index.length; i += 1) {
      const word = masked[i] >>> 0;
      const at = index[i] * 2;
      const multiplier = secret[at];
      // 32 x 32 bits in pieces of 16, so that no number leaves the 53 bits that are exact.
      const wordLow = word & 0xffff;
      const wordHigh = word >>> 16;
      const multiplierLow = multiplier & 0xffff;
      const multiplierHigh = multiplier >>> 16;
      const first = wordLow * multiplierLow;
      const second = wordHigh * multiplierLow + (first >>> 16);
      const third = wordLow * multiplierHigh + (second & 0xffff);
      const carried = wordHigh * multiplierHigh + Math.floor(second / 65536) + Math.floor(third / 65536);
      low += (((third & 0xffff) << 16) | (first & 0xffff)) >>> 0;
      high += carried + (Math.imul(word, secret[at + 1]) >>> 0);
      if (low > 0xffff_ffff) {
        low -= 0x1_0000_0000;
        high += 1;
      }
      high %= 0x1_0000_0000;
    }
    high = Math.imul(high ^ (high >>> 16), MIX);
    return (high ^ (high >>> 15)) >>> 0;
  }
}
