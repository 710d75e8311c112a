/**
 * Which flows an address is part of: lists of flow slots by address, threaded through arrays by slot, so that a flow costs eight
 * bytes and nothing is allocated for one. Neighbour: flow-recorder.ts, which has one index for sources and one for destinations.
 */

const BUCKETS = 65_536;
const NONE = -1;

export class AddressIndex {
  readonly #heads = new Int32Array(BUCKETS).fill(NONE);
  #next = new Int32Array(0);
  #before = new Int32Array(0);
  /** Nobody outside can make addresses that share a list. */
  readonly #seed = Math.floor(Math.random() * 0x7fff_ffff);

  /** Make room for slots below this one. */
  reach(slots: number): void {
    this.#next = grown(this.#next, slots);
    this.#before = grown(this.#before, slots);
  }

  /** The first slot of the list in which an address is, among others; -1 when it is empty. */
  first(domain: number, macHigh: number, macLow: number): number {
    return this.#heads[this.#bucket(domain, macHigh, macLow)];
  }

  /** The slot behind this one, or -1. */
  next(slot: number): number {
    return this.#next[slot];
  }

  add(slot: number, domain: number, macHigh: number, macLow: number): void {
    const bucket = this.#bucket(domain, macHigh, macLow);
    const first = this.#heads[bucket];
    this.#next[slot] = first;
    // Before the first of a list is its bucket, as a complement.
    this.#before[slot] = ~bucket;
    if (first !== NONE) this.#before[first] = slot;
    this.#heads[bucket] = slot;
  }

  remove(slot: number): void {
    const next = this.#next[slot];
    const before = this.#before[slot];
    if (next !== NONE) this.#before[next] = before;
    if (before >= 0) this.#next[before] = next;
    else this.#heads[~before] = next;
  }

  clear(): void {
    this.#heads.fill(NONE);
  }

  #bucket(domain: number, macHigh: number, macLow: number): number {
    let hash =
      Math.imul(macLow ^ this.#seed, 0x9e37_79b1) ^ Math.imul(((domain << 16) | macHigh) + this.#seed, 0x85eb_ca6b);
    hash ^= hash >>> 15;
    hash = Math.imul(hash, 0x2c1b_3c6d);
    return (hash ^ (hash >>> 13)) & (BUCKETS - 1);
  }
}

/** An array of at least this length with the same beginning. */
export function grown(array: Int32Array<ArrayBuffer>, length: number): Int32Array<ArrayBuffer> {
  if (length <= array.length) return array;
  const larger = new Int32Array(Math.max(length, array.length * 2, 64));
  larger.set(array);
  return larger;
}
