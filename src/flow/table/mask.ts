/**
 * A mask with the table of the flows under it. Masks are sparse, so a mask keeps the list of its non-zero words: hashing and
 * comparing touch only these, and a flow stores only these. The table is open addressing with linear probing over one array:
 *
 *     entry:  hash | flow slot + 1 (0 empty, -1 deleted) | the flow's masked words, in the order of the mask's list
 */
import { type KeyPort, toKeyPort } from '../../net/index.ts';
import { KEY_WORDS, Word } from '../key/layout.ts';
import { type HashSecret, hashMasked } from './hash.ts';
import type { FlowSlots } from './slots.ts';

/** Words of an entry before the key. */
const ENTRY_HEAD = 2;

const INITIAL_CAPACITY = 16;
const EMPTY = 0;
const DELETED = -1;

/** In the place of an input port, which is any other 32-bit number: the mask does not look at the whole of it. */
export const NO_PORT = -1;

export class FlowMask {
  /** Number of the mask in its table; free for another mask when the last flow is gone. */
  readonly id: number;
  /** The whole mask. */
  readonly words: Uint32Array;
  /** Indexes of the words that are not 0, ascending: the first and the last bound the range of the key that counts. */
  readonly index: Int32Array;
  /** The mask's words at these indexes. */
  readonly values: Int32Array;
  readonly count: number;
  /** Flows under this mask. */
  flows = 0;
  /** Look-ups that this mask answered; halved whenever the order of a list that it is in is set. */
  hits = 0;
  /** Whether its flows may be for several input ports each: it does not look at the whole of the port. */
  readonly isOpen: boolean;

  /** Where the input port lies in {@link index}. */
  readonly #portPlace: number;
  readonly #secret: HashSecret;
  readonly #stride: number;
  #entries: Int32Array;
  #capacity = INITIAL_CAPACITY;
  /** Entries that are not empty, deleted ones included. */
  #occupied = 0;

  constructor(id: number, words: Uint32Array, secret: HashSecret) {
    this.id = id;
    this.words = words.slice();
    const index: number[] = [];
    for (let i = 0; i < KEY_WORDS; i += 1) if (words[i] !== 0) index.push(i);
    this.index = Int32Array.from(index);
    this.values = Int32Array.from(index, (i) => words[i]);
    this.count = index.length;
    this.isOpen = words[Word.IN_PORT] !== 0xffff_ffff;
    this.#portPlace = index.indexOf(Word.IN_PORT);
    this.#secret = secret;
    this.#stride = ENTRY_HEAD + this.count;
    this.#entries = new Int32Array(this.#capacity * this.#stride);
  }

  /** First and last word of a key that this mask looks at; -1 for the mask that looks at nothing. */
  get firstWord(): number {
    return this.count === 0 ? -1 : this.index[0];
  }

  get lastWord(): number {
    return this.count === 0 ? -1 : this.index[this.count - 1];
  }

  /** Bytes of the table. */
  get tableBytes(): number {
    return this.#entries.byteLength;
  }

  /** The flow that a key falls to under this mask, as its slot, or -1. */
  find(key: Uint32Array): number {
    const hash = hashMasked(key, this.index, this.values, this.count, this.#secret);
    const entries = this.#entries;
    const limit = this.#capacity - 1;
    let position = hash & limit;
    for (;;) {
      const at = position * this.#stride;
      const slot = entries[at + 1];
      if (slot === EMPTY) return -1;
      if (entries[at] === hash && slot !== DELETED && this.matches(position, key)) return slot - 1;
      position = (position + 1) & limit;
    }
  }

  /** Whether a key falls to the flow whose entry is at this position. */
  matches(position: number, key: Uint32Array): boolean {
    const entries = this.#entries;
    const index = this.index;
    const values = this.values;
    const count = this.count;
    const at = position * this.#stride + ENTRY_HEAD;
    for (let i = 0; i < count; i += 1) {
      if ((key[index[i]] & values[i]) !== entries[at + i]) return false;
    }
    return true;
  }

  /** Add a flow whose masked key is not there yet; it and all that move are told to `slots`. */
  insert(key: Uint32Array, slot: number, slots: FlowSlots): void {
    if ((this.#occupied + 1) * 4 > this.#capacity * 3) this.#rebuild(slots);
    const hash = hashMasked(key, this.index, this.values, this.count, this.#secret);
    const position = this.#freePosition(hash);
    const at = position * this.#stride;
    this.#entries[at] = hash;
    this.#entries[at + 1] = slot + 1;
    for (let i = 0; i < this.count; i += 1) this.#entries[at + ENTRY_HEAD + i] = key[this.index[i]] & this.values[i];
    this.#occupied += 1;
    this.flows += 1;
    slots.moved(slot, position);
  }

  remove(position: number): void {
    const limit = this.#capacity - 1;
    const next = ((position + 1) & limit) * this.#stride;
    // Nothing probes past an entry whose neighbour is empty, so no mark need stay behind.
    if (this.#entries[next + 1] === EMPTY) {
      this.#entries[position * this.#stride + 1] = EMPTY;
      this.#occupied -= 1;
    } else {
      this.#entries[position * this.#stride + 1] = DELETED;
    }
    this.flows -= 1;
  }

  /** The one input port of the flow at a position; NO_PORT when the mask is open. */
  portOf(position: number): KeyPort | -1 {
    return this.isOpen ? NO_PORT : toKeyPort(this.#entries[position * this.#stride + ENTRY_HEAD + this.#portPlace]);
  }

  /** Write a flow's masked key; words that the mask leaves out become 0. */
  readKey(position: number, into: Uint32Array): void {
    into.fill(0);
    const at = position * this.#stride + ENTRY_HEAD;
    for (let i = 0; i < this.count; i += 1) into[this.index[i]] = this.#entries[at + i];
  }

  /** Whether another mask has the same words. */
  equals(words: Uint32Array): boolean {
    for (let i = 0; i < KEY_WORDS; i += 1) if (this.words[i] !== words[i]) return false;
    return true;
  }

  #freePosition(hash: number): number {
    const limit = this.#capacity - 1;
    let position = hash & limit;
    while (this.#entries[position * this.#stride + 1] !== EMPTY) position = (position + 1) & limit;
    return position;
  }

  /** Give back what the table has grown by beyond what it needs; what moves is told to `slots`. */
  shrink(slots: FlowSlots): void {
    if (this.#capacity > INITIAL_CAPACITY && (this.flows + 1) * 8 <= this.#capacity) {
      this.#rebuild(slots, INITIAL_CAPACITY);
    }
  }

  /**
   * A table with room for growth and without the marks of deleted entries.
   * @param least its capacity, if that is enough
   */
  #rebuild(slots: FlowSlots, least = this.#capacity): void {
    const old = this.#entries;
    const oldCapacity = this.#capacity;
    const stride = this.#stride;
    this.#capacity = least;
    while ((this.flows + 1) * 2 > this.#capacity) this.#capacity *= 2;
    this.#entries = new Int32Array(this.#capacity * stride);
    this.#occupied = this.flows;
    for (let position = 0; position < oldCapacity; position += 1) {
      const at = position * stride;
      if (old[at + 1] === EMPTY || old[at + 1] === DELETED) continue;
      const to = this.#freePosition(old[at]);
      for (let i = 0; i < stride; i += 1) this.#entries[to * stride + i] = old[at + i];
      slots.moved(old[at + 1] - 1, to);
    }
  }
}
