/**
 * The masks of a table in the order in which look-ups try them: those that answer most come first. The order is set anew every
 * few thousand walks; the counts are halved then, so that it follows the traffic.
 */
import { KEY_WORDS } from '../key/layout.ts';
import type { HashSecret } from './hash.ts';
import { FlowMask } from './mask.ts';

/** Walks through the list between two orderings. */
const WALKS_PER_ORDERING = 4096;

export class MaskList {
  /** In the order of trial. */
  readonly ordered: FlowMask[] = [];
  /** By {@link FlowMask.id}; null where an id is free. */
  readonly byId: (FlowMask | null)[] = [];
  /** All bits that any mask looks at, and a number that grows when these change. */
  readonly union = new Uint32Array(KEY_WORDS);
  unionVersion = 0;
  readonly #secret: HashSecret;
  readonly #freeIds: number[] = [];
  #walks = 0;

  constructor(secret: HashSecret) {
    this.#secret = secret;
  }

  get count(): number {
    return this.ordered.length;
  }

  find(words: Uint32Array): FlowMask | null {
    for (const mask of this.ordered) if (mask.equals(words)) return mask;
    return null;
  }

  add(words: Uint32Array): FlowMask {
    const id = this.#freeIds.pop() ?? this.byId.length;
    const mask = new FlowMask(id, words, this.#secret);
    this.byId[id] = mask;
    this.ordered.push(mask);
    for (let word = 0; word < KEY_WORDS; word += 1) this.#look(word, this.union[word] | words[word]);
    return mask;
  }

  remove(mask: FlowMask): void {
    this.ordered.splice(this.ordered.indexOf(mask), 1);
    this.byId[mask.id] = null;
    this.#freeIds.push(mask.id);
    this.#unite();
  }

  clear(): void {
    this.ordered.length = 0;
    this.byId.length = 0;
    this.#freeIds.length = 0;
    this.#unite();
  }

  /** A mask has gone. */
  #unite(): void {
    const ordered = this.ordered;
    for (let word = 0; word < KEY_WORDS; word += 1) {
      let bits = 0;
      for (let i = 0; i < ordered.length; i += 1) bits |= ordered[i].words[word];
      this.#look(word, bits);
    }
  }

  /** All masks together look at these bits of a word. */
  #look(word: number, bits: number): void {
    if (bits >>> 0 === this.union[word]) return;
    this.union[word] = bits;
    this.unionVersion += 1;
  }

  /** To be called once for each walk through {@link ordered}. */
  walked(): void {
    this.#walks += 1;
    if (this.#walks < WALKS_PER_ORDERING) return;
    this.#walks = 0;
    const ordered = this.ordered;
    // Insertion sort: the list is nearly in order, and nothing is allocated.
    for (let i = 1; i < ordered.length; i += 1) {
      const mask = ordered[i];
      let j = i - 1;
      while (j >= 0 && ordered[j].hits < mask.hits) {
        ordered[j + 1] = ordered[j];
        j -= 1;
      }
      ordered[j + 1] = mask;
    }
    for (let i = 0; i < ordered.length; i += 1) ordered[i].hits = Math.floor(ordered[i].hits / 2);
  }
}
