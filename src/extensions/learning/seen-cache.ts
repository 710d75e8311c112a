/**
 * What was done about packets like one already, so that packets of flows that come up all the same (their port is not offloaded, or
 * they wait for their turn) cost a few compares. Direct-mapped; a wrong guess costs time alone. Eight words an entry:
 *
 *     0: first two bytes of the source MAC 16 | of the destination MAC 16     1, 2: the other bytes of both
 *     3: source port 16 | EtherType 16     4: tags 2 | TCI of the outer tag, or -1     5: an outcome
 *     6: what it holds for     7: the moment in which it holds
 */
import type { ForwardingContext } from '../../switch/index.ts';

const SHIFT = 3;

/** Outcomes other than the slot of a flow. */
export const Seen = {
  /** Nothing is known. */
  NOTHING: -1,
  /** No flow may hold such packets. */
  REFUSED: -2,
  /** What decides lies deeper than what is compared here. */
  DEEP: -3,
} as const;

/** How the last of those packets ended of which deeper headers decide: the stamp of {@link Seen.DEEP}. */
export const Deep = { FORWARDED: 1, DROPPED: 2 } as const;

export class SeenCache {
  readonly #words: Int32Array;
  readonly #lastEntry: number;
  /** Index of the entry that the last {@link find} looked at, and what to write there. */
  #at = 0;
  readonly #probe = new Int32Array(5);

  /** @param entries a power of two; each takes 32 bytes */
  constructor(entries: number) {
    this.#words = new Int32Array(entries << SHIFT);
    this.#lastEntry = entries - 1;
  }

  /** The outcome for packets like this one; {@link stamp} tells what it holds for. */
  find(bytes: Uint8Array, at: number, context: ForwardingContext): number {
    const probe = this.#probe;
    const words = this.#words;
    const sourceLow = (bytes[at + 8] << 24) | (bytes[at + 9] << 16) | (bytes[at + 10] << 8) | bytes[at + 11];
    const low = (bytes[at + 2] << 24) | (bytes[at + 3] << 16) | (bytes[at + 4] << 8) | bytes[at + 5];
    probe[0] = (bytes[at + 6] << 24) | (bytes[at + 7] << 16) | (bytes[at] << 8) | bytes[at + 1];
    probe[1] = sourceLow;
    probe[2] = low;
    probe[3] = (context.sourcePortId << 16) | context.etherType;
    probe[4] = context.tagTci === -1 ? -1 : (context.tagCount << 16) | context.tagTci;
    let hash =
      Math.imul(sourceLow, 0x9e37_79b1) ^ Math.imul(low ^ probe[4], 0x85eb_ca6b) ^ Math.imul(probe[3], 0xc2b2_ae35);
    hash ^= hash >>> 15;
    const entry = ((hash ^ (hash >>> 8)) & this.#lastEntry) << SHIFT;
    this.#at = entry;
    for (let i = 0; i < 5; i += 1) if (words[entry + i] !== probe[i]) return Seen.NOTHING;
    return words[entry + 6] === 0 ? Seen.NOTHING : words[entry + 5];
  }

  /** The stamp of what was found. */
  get stamp(): number {
    return this.#words[this.#at + 6];
  }

  /** The moment in which it holds, as it was noted. */
  get moment(): number {
    return this.#words[this.#at + 7];
  }

  /** Note the outcome for the packet that was looked for last. @param stamp what it holds for; not 0 */
  note(outcome: number, stamp: number, moment = 0): void {
    const words = this.#words;
    words.set(this.#probe, this.#at);
    words[this.#at + 5] = outcome;
    words[this.#at + 6] = stamp;
    words[this.#at + 7] = moment;
  }

  clear(): void {
    this.#words.fill(0);
  }
}
