/** From a unique flow identifier (UFID, 1 to 16 bytes) to a flow's slot: open addressing with linear probing, no marks left behind. */
import { type HashSecret, hashWords } from './hash.ts';

/** Longest identifier in bytes (linux/openvswitch.h, MAX_UFID_LENGTH), and the words that it fills. */
export const UFID_MAXIMUM_BYTES = 16;
const UFID_WORDS = 4;
const INITIAL_LENGTH = 16;

export class UfidIndex {
  /** Four words a flow slot. */
  #ids: Uint32Array;
  /** Length in bytes of each flow's identifier, 0 for a flow that has none. */
  #lengths: Uint8Array;
  /** Flow slots + 1; 0 for empty. */
  #table = new Int32Array(INITIAL_LENGTH);
  #count = 0;
  readonly #secret: HashSecret;
  readonly #wanted = new Uint32Array(UFID_WORDS);

  constructor(slots: number, secret: HashSecret) {
    this.#ids = new Uint32Array(slots * UFID_WORDS);
    this.#lengths = new Uint8Array(slots);
    this.#secret = secret;
  }

  get bytes(): number {
    return this.#ids.byteLength + this.#lengths.byteLength + this.#table.byteLength;
  }

  /** Make room for more flow slots, or give up those at the end, which have no identifiers. */
  resize(slots: number): void {
    const ids = new Uint32Array(slots * UFID_WORDS);
    ids.set(this.#ids.subarray(0, ids.length));
    this.#ids = ids;
    const lengths = new Uint8Array(slots);
    lengths.set(this.#lengths.subarray(0, slots));
    this.#lengths = lengths;
  }

  /** Give back what the table has grown by beyond what it needs. */
  shrink(): void {
    let length = INITIAL_LENGTH;
    while (length < (this.#count + 1) * 2) length *= 2;
    if (length < this.#table.length) this.#rebuild(length);
  }

  /** @returns the flow's slot, or -1 */
  find(ufid: Uint8Array): number {
    this.#load(ufid);
    const limit = this.#table.length - 1;
    let position = hashWords(this.#wanted, 0, UFID_WORDS, this.#secret) & limit;
    for (;;) {
      const slot = this.#table[position] - 1;
      if (slot === -1) return -1;
      if (this.#lengths[slot] === ufid.length && this.#same(slot)) return slot;
      position = (position + 1) & limit;
    }
  }

  /** Give a slot an identifier of 1 to 16 bytes that no other flow has. */
  insert(ufid: Uint8Array, slot: number): void {
    if ((this.#count + 1) * 2 > this.#table.length) this.#rebuild(this.#table.length * 2);
    this.#load(ufid);
    this.#ids.set(this.#wanted, slot * UFID_WORDS);
    this.#lengths[slot] = ufid.length;
    this.#place(slot);
    this.#count += 1;
  }

  /** Forget a slot's identifier, if it has one. */
  remove(slot: number): void {
    if (this.#lengths[slot] === 0) return;
    const limit = this.#table.length - 1;
    let hole = this.#home(slot);
    while (this.#table[hole] !== slot + 1) hole = (hole + 1) & limit;
    // Close the gap: whatever probed across it moves up.
    let position = (hole + 1) & limit;
    while (this.#table[position] !== 0) {
      const home = this.#home(this.#table[position] - 1);
      if (((position - home) & limit) >= ((position - hole) & limit)) {
        this.#table[hole] = this.#table[position];
        hole = position;
      }
      position = (position + 1) & limit;
    }
    this.#table[hole] = 0;
    this.#lengths[slot] = 0;
    this.#count -= 1;
  }

  /** Length in bytes of a slot's identifier, 0 for none. */
  lengthOf(slot: number): number {
    return this.#lengths[slot];
  }

  /** A slot's identifier, in a new array; null when it has none. */
  read(slot: number): Uint8Array | null {
    const length = this.#lengths[slot];
    if (length === 0) return null;
    const ufid = new Uint8Array(length);
    for (let i = 0; i < length; i += 1) ufid[i] = this.#ids[slot * UFID_WORDS + (i >>> 2)] >>> (24 - ((i & 3) << 3));
    return ufid;
  }

  clear(): void {
    this.#table.fill(0);
    this.#lengths.fill(0);
    this.#count = 0;
  }

  #load(ufid: Uint8Array): void {
    this.#wanted.fill(0);
    for (let i = 0; i < ufid.length; i += 1) this.#wanted[i >>> 2] |= ufid[i] << (24 - ((i & 3) << 3));
  }

  #same(slot: number): boolean {
    for (let i = 0; i < UFID_WORDS; i += 1) if (this.#ids[slot * UFID_WORDS + i] !== this.#wanted[i]) return false;
    return true;
  }

  #home(slot: number): number {
    return hashWords(this.#ids, slot * UFID_WORDS, UFID_WORDS, this.#secret) & (this.#table.length - 1);
  }

  #place(slot: number): void {
    const limit = this.#table.length - 1;
    let position = this.#home(slot);
    while (this.#table[position] !== 0) position = (position + 1) & limit;
    this.#table[position] = slot + 1;
  }

  #rebuild(length: number): void {
    const old = this.#table;
    this.#table = new Int32Array(length);
    for (const entry of old) if (entry !== 0) this.#place(entry - 1);
  }
}
