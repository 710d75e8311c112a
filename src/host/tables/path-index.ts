/**
 * Finds the path of a query: a hash table with chains, keys in one array of words. It holds a fixed number of paths. When all places are taken, one goes for a new one, of those
 * that are not needed the one that was used longest ago: of the asker's own if it has a quarter of all, else of askers that have as much, else of any.
 *
 *      key: destination 4 words | source 4 words | version, traffic class, protocol | mark | interface | port
 */
import { randomInt } from 'node:crypto';
import type { PathQuery } from '../../net/index.ts';
import type { CachedPath } from './path.ts';

const KEY_WORDS = 12;
const ASKER_SHARE = 4;
/** Bits of a traffic class that are not ECN's. */
const DSCP_BITS = 0xfc;

export class PathIndex {
  readonly capacity: number;
  readonly #heads: Int32Array;
  readonly #next: Int32Array;
  readonly #keys: Int32Array;
  readonly #paths: (CachedPath | null)[];
  readonly #free: number[] = [];
  readonly #byAsker = new Map<number, number>();
  readonly #shift: number;
  readonly #secret = randomInt(2 ** 32) | 0;
  readonly #wanted = new Int32Array(KEY_WORDS);

  /** @param capacity a power of two */
  constructor(capacity: number) {
    this.capacity = capacity;
    const buckets = capacity * 2;
    this.#shift = 32 - Math.log2(buckets);
    this.#heads = new Int32Array(buckets).fill(-1);
    this.#next = new Int32Array(capacity);
    this.#keys = new Int32Array(capacity * KEY_WORDS);
    this.#paths = new Array<CachedPath | null>(capacity).fill(null);
    for (let slot = capacity - 1; slot >= 0; slot -= 1) this.#free.push(slot);
  }

  get size(): number {
    return this.capacity - this.#free.length;
  }

  find(query: PathQuery): CachedPath | null {
    const bucket = this.#look(query);
    const keys = this.#keys;
    const wanted = this.#wanted;
    for (let slot = this.#heads[bucket]; slot >= 0; slot = this.#next[slot]) {
      const at = slot * KEY_WORDS;
      let i = 0;
      while (i < KEY_WORDS && keys[at + i] === wanted[i]) i += 1;
      if (i === KEY_WORDS) return this.#paths[slot];
    }
    return null;
  }

  /** Write the key of a query, and hash it. @returns its bucket */
  #look(query: PathQuery): number {
    const { isIpv6, destination, source } = query;
    const wanted = this.#wanted;
    wanted[0] = destination[0];
    wanted[4] = source[0];
    if (isIpv6) {
      for (let i = 1; i < 4; i += 1) {
        wanted[i] = destination[i];
        wanted[4 + i] = source[i];
      }
    } else {
      for (let i = 1; i < 4; i += 1) {
        wanted[i] = 0;
        wanted[4 + i] = 0;
      }
    }
    wanted[8] = (isIpv6 ? 1 : 0) | ((query.trafficClass & DSCP_BITS) << 8) | ((query.protocol & 0xff) << 16);
    wanted[9] = query.mark;
    wanted[10] = query.interfaceIndex;
    wanted[11] = query.destinationPort;
    let hash = this.#secret;
    for (let i = 0; i < KEY_WORDS; i += 1) {
      hash = Math.imul(hash ^ wanted[i], 0x85eb_ca6b);
      hash ^= hash >>> 15;
    }
    return Math.imul(hash, 0x9e37_79b1) >>> this.#shift;
  }

  /**
   * Put a path in, for a query that has none.
   * @returns the path that had to go for it, which is out already; null for none; undefined when there is no room, as all are needed
   */
  insert(path: CachedPath): CachedPath | null | undefined {
    const { asker } = path.query;
    let gone: CachedPath | null = null;
    if (this.#free.length === 0) {
      gone = this.#hasMuch(asker)
        ? this.#oldest((other) => other === asker)
        : (this.#oldest((other) => this.#hasMuch(other)) ?? this.#oldest(() => true));
      if (gone === null) return undefined;
      this.remove(gone);
    }
    const slot = this.#free.pop();
    if (slot === undefined) return undefined;
    const bucket = this.#look(path.query);
    this.#keys.set(this.#wanted, slot * KEY_WORDS);
    this.#next[slot] = this.#heads[bucket];
    this.#heads[bucket] = slot;
    this.#paths[slot] = path;
    path.slot = slot;
    this.#byAsker.set(asker, (this.#byAsker.get(asker) ?? 0) + 1);
    return gone;
  }

  remove(path: CachedPath): void {
    const bucket = this.#look(path.query);
    const next = this.#next;
    const { slot } = path;
    if (this.#heads[bucket] === slot) {
      this.#heads[bucket] = next[slot];
    } else {
      let before = this.#heads[bucket];
      while (next[before] !== slot) before = next[before];
      next[before] = next[slot];
    }
    this.#paths[slot] = null;
    this.#free.push(slot);
    path.slot = -1;
    path.isGone = true;
    const { asker } = path.query;
    const left = (this.#byAsker.get(asker) ?? 1) - 1;
    if (left === 0) this.#byAsker.delete(asker);
    else this.#byAsker.set(asker, left);
  }

  /** All paths, those that are put in meanwhile perhaps. */
  *all(): Generator<CachedPath, void, undefined> {
    for (const path of this.#paths) if (path !== null) yield path;
  }

  #hasMuch(asker: number): boolean {
    return (this.#byAsker.get(asker) ?? 0) >= this.capacity / ASKER_SHARE;
  }

  /** The path that was used longest ago and is not needed, of some askers. */
  #oldest(isMeant: (asker: number) => boolean): CachedPath | null {
    let oldest: CachedPath | null = null;
    for (const path of this.#paths) {
      if (path === null || path.isNeeded || !isMeant(path.query.asker)) continue;
      if (oldest === null || path.usedTick < oldest.usedTick) oldest = path;
    }
    return oldest;
  }
}
