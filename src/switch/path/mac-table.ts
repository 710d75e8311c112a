/**
 * The MAC address table: which port an address was last seen behind, per forwarding domain. Open addressing in one typed
 * array, four words an entry:
 *
 *      0: domain << 16 | first two MAC bytes     1: last four MAC bytes
 *      2: 0 free, else USED | STATIC | nic << 16 | port     3: second of the last sighting
 *
 * Beside it, each port's learned entries are threaded in the order in which they were seen.
 *
 * Ageing costs nothing per packet: look-ups ignore old entries, and {@link MacTable.sweep} frees a part of the table a
 * second. When the table is full, a new address takes the place of another: the port that has most gives up the one that it has not seen
 * for the longest time. So whoever fills the table with addresses pushes out its own, and who speaks is always learned. Used by
 * native-forwarding.ts and by the learning extension.
 */
import type { PortNumber } from '../../decide/index.ts';
import { macBytes, type PortId, toPortId } from '../../net/index.ts';

const USED = 0x4000_0000;
const STATIC = 0x0100_0000;
const WORDS = 4;
const NONE = -1;
/** Whole table swept in as many calls. */
const SWEEP_PARTS = 8;

/** What {@link MacTable.learn} did. */
export const Learned = {
  /** Known here; its age is renewed. */
  KNOWN: 0,
  NEW: 1,
  /** Known behind another port until now. */
  MOVED: 2,
  /** Refused: the port has reached its limit. */
  LIMIT: 3,
  /** Refused: the table is full of static entries. */
  FULL: 4,
  /** Refused: a static entry says that it is behind another port. */
  STATIC_ELSEWHERE: 5,
  /** New; the table was full, and another address has made room: see {@link MacTable.gaveUp}. */
  EXCHANGED: 6,
} as const;

/** One entry, for people and programs. */
export interface MacEntry {
  /** The forwarding domain: VLAN, or from 4096 on a virtual subnet. */
  readonly vlan: number;
  /** Six bytes. */
  readonly macAddress: Uint8Array;
  readonly portId: number;
  readonly nicIndex: number;
  readonly isStatic: boolean;
  /** Seconds since the last sighting; 0 for static entries. */
  readonly ageSeconds: number;
}

/** A table of fixed capacity. Addresses are passed as two integers: the first two bytes and the last four. */
export class MacTable {
  readonly capacity: number;
  /** Seconds after which an address that was not seen is forgotten; 0: never. */
  ageingSeconds: number;
  /** After {@link learn} said MOVED: the port that the address was behind before. */
  movedFrom = 0;
  /** Addresses that made room for others as the table was full. */
  exchanged = 0;
  /** The port that gave up the last of them. */
  gaveUp = 0;
  /**
   * Told of an address that is elsewhere from now on, or nowhere: new, moved, aged, removed. It may renew addresses, and not change the table otherwise.
   * @param portId where it was; 0 for one that is new
   */
  onChanged: (domain: number, macHigh: number, macLow: number, portId: number) => void = ignore;
  readonly #mask: number;
  readonly #table: Int32Array;
  readonly #seed: number;
  #perPort = new Int32Array(64);
  #limits = new Int32Array(64);
  /** By slot: the learned entry of the same port that was seen before, and after. */
  readonly #before: Int32Array;
  readonly #after: Int32Array;
  /** By port: the slots of the learned entries that were seen first and last. */
  #first = new Int32Array(64).fill(NONE);
  #last = new Int32Array(64).fill(NONE);
  /** No port has more learned entries. */
  #highest = 0;
  #count = 0;
  #sweepAt = 0;
  #sweptSecond = -1;

  /**
   * @param options.capacity most entries; the table takes 48 to 96 bytes for each
   * @param options.ageingSeconds see {@link ageingSeconds}
   * @param options.seed makes collisions unpredictable; left out: random
   */
  constructor(options: { capacity: number; ageingSeconds: number; seed?: number }) {
    if (!Number.isInteger(options.capacity) || options.capacity < 1 || options.capacity > 1 << 22) {
      throw new RangeError(`MAC table capacity ${options.capacity} is not between 1 and ${1 << 22}`);
    }
    this.capacity = options.capacity;
    this.ageingSeconds = options.ageingSeconds;
    let slots = 8;
    while (slots < options.capacity * 2) slots *= 2;
    this.#mask = slots - 1;
    this.#table = new Int32Array(slots * WORDS);
    this.#before = new Int32Array(slots);
    this.#after = new Int32Array(slots);
    this.#seed = options.seed ?? Math.floor(Math.random() * 0x7fff_ffff);
  }

  /** Entries, those included that are old and not swept yet. */
  get count(): number {
    return this.#count;
  }

  /** Entries of one port. */
  countOf(portId: number): number {
    return portId < this.#perPort.length ? this.#perPort[portId] : 0;
  }

  /** Set the most dynamic entries that a port may have; 0: no limit. Entries that are there stay. */
  setLimit(portId: number, limit: number): void {
    this.#reachPort(portId);
    this.#limits[portId] = limit;
  }

  /**
   * Where an address is.
   * @returns port and NIC; 0 when it is not known
   */
  lookup(vlan: number, macHigh: number, macLow: number, nowSeconds: number): PortNumber | 0 {
    const at = this.#find((vlan << 16) | macHigh, macLow);
    if (at < 0) return 0;
    const value = this.#table[at + 2];
    if ((value & STATIC) === 0 && this.#expired(this.#table[at + 3], nowSeconds)) return 0;
    return (value & 0xff_ffff) as PortNumber;
  }

  /**
   * Note that an address was seen as a source.
   * @returns one of {@link Learned}
   */
  learn(vlan: number, macHigh: number, macLow: number, portId: number, nicIndex: number, nowSeconds: number): number {
    const table = this.#table;
    const key = (vlan << 16) | macHigh;
    const at = this.#find(key, macLow);
    const place = (nicIndex << 16) | portId;
    if (at >= 0) {
      const value = table[at + 2];
      if ((value & 0xff_ffff) === place) {
        // The order within a second does not count, so that most packets change nothing.
        if (table[at + 3] === nowSeconds) return Learned.KNOWN;
        const expired = this.#expired(table[at + 3], nowSeconds);
        table[at + 3] = nowSeconds;
        if ((value & STATIC) !== 0) return Learned.KNOWN;
        this.#seen(at >> 2, portId);
        if (!expired) return Learned.KNOWN;
        // Whoever has looked since it aged has not found it.
        this.onChanged(vlan, macHigh, macLow, portId);
        return Learned.NEW;
      }
      if ((value & STATIC) !== 0) return (value & 0xffff) === portId ? Learned.KNOWN : Learned.STATIC_ELSEWHERE;
      const from = value & 0xffff;
      if (from === portId) {
        this.#seen(at >> 2, portId);
      } else {
        if (this.#limited(portId)) return Learned.LIMIT;
        this.#unthread(at >> 2, from);
        this.#reachPort(portId);
        this.#thread(at >> 2, portId);
      }
      const expired = this.#expired(table[at + 3], nowSeconds);
      table[at + 2] = USED | place;
      table[at + 3] = nowSeconds;
      this.onChanged(vlan, macHigh, macLow, from);
      if (expired) return Learned.NEW;
      if (from === portId) return Learned.KNOWN;
      this.movedFrom = from;
      return Learned.MOVED;
    }
    if (this.#limited(portId)) return Learned.LIMIT;
    if (this.#count < this.capacity) {
      this.#insert(~at, key, macLow, USED | place, nowSeconds);
      return Learned.NEW;
    }
    if (!this.#makeRoom(portId)) return Learned.FULL;
    this.#insert(~this.#find(key, macLow), key, macLow, USED | place, nowSeconds);
    return Learned.EXCHANGED;
  }

  /** A full table loses the learned address that the port that has most has not seen for the longest time. @returns false when there is none */
  #makeRoom(portId: number): boolean {
    const giver = this.#giver(portId);
    if (giver === NONE) return false;
    this.#removeAt(this.#first[giver] * WORDS);
    this.exchanged += 1;
    this.gaveUp = giver;
    return true;
  }

  /** The port that has most when a new address of this one is counted in; of several this one. */
  #giver(portId: number): number {
    const perPort = this.#perPort;
    const own = this.countOf(portId);
    if (own > 0 && own + 1 >= this.#highest) return portId;
    let giver = own > 0 ? portId : NONE;
    let most = own > 0 ? own + 1 : 0;
    this.#highest = own;
    for (let port = 0; port < perPort.length; port += 1) {
      if (perPort[port] > this.#highest) this.#highest = perPort[port];
      if (perPort[port] <= most) continue;
      most = perPort[port];
      giver = port;
    }
    return giver;
  }

  /** The port that has most learned addresses; 0 when there are none. */
  get fullestPort(): PortId {
    let fullest = 0;
    for (let port = 1; port < this.#perPort.length; port += 1) {
      if (this.#perPort[port] > this.countOf(fullest)) fullest = port;
    }
    return toPortId(fullest);
  }

  /** Note that an address was seen at a port some time ago, if it is known there. */
  renew(vlan: number, macHigh: number, macLow: number, portId: number, second: number): void {
    const at = this.#find((vlan << 16) | macHigh, macLow);
    if (at < 0 || (this.#table[at + 2] & 0xffff) !== portId || this.#table[at + 3] >= second) return;
    this.#table[at + 3] = second;
    if ((this.#table[at + 2] & STATIC) === 0) this.#seen(at >> 2, portId);
  }

  /** The last second in which an address counts if it is not seen again; -1 when it is not known. */
  validUntil(vlan: number, macHigh: number, macLow: number): number {
    const at = this.#find((vlan << 16) | macHigh, macLow);
    if (at < 0) return -1;
    if (this.ageingSeconds === 0 || (this.#table[at + 2] & STATIC) !== 0) return Number.POSITIVE_INFINITY;
    return this.#table[at + 3] + this.ageingSeconds;
  }

  /** What {@link learn} would return, changing nothing. */
  wouldLearn(vlan: number, macHigh: number, macLow: number, portId: number, nowSeconds: number): number {
    const at = this.#find((vlan << 16) | macHigh, macLow);
    if (at >= 0) {
      const value = this.#table[at + 2];
      if ((value & 0xffff) === portId) return Learned.KNOWN;
      if ((value & STATIC) !== 0) return Learned.STATIC_ELSEWHERE;
      if (this.#limited(portId)) return Learned.LIMIT;
      return this.#expired(this.#table[at + 3], nowSeconds) ? Learned.NEW : Learned.MOVED;
    }
    if (this.#limited(portId)) return Learned.LIMIT;
    if (this.#count < this.capacity) return Learned.NEW;
    return this.#giver(portId) === NONE ? Learned.FULL : Learned.EXCHANGED;
  }

  /** Enter an address for good; replaces what was there, and a learned one when the table is full. @returns false when all are static */
  addStatic(vlan: number, macHigh: number, macLow: number, portId: number, nicIndex: number): boolean {
    const key = (vlan << 16) | macHigh;
    const at = this.#find(key, macLow);
    if (at >= 0) this.#removeAt(at);
    if (this.#count === this.capacity && !this.#makeRoom(portId)) return false;
    this.#insert(~this.#find(key, macLow), key, macLow, USED | STATIC | (nicIndex << 16) | portId, 0);
    return true;
  }

  /** Forget one address, static or not. @returns whether it was there */
  remove(vlan: number, macHigh: number, macLow: number): boolean {
    const at = this.#find((vlan << 16) | macHigh, macLow);
    if (at < 0) return false;
    this.#removeAt(at);
    return true;
  }

  /**
   * Forget addresses.
   * @param filter.vlan only of this domain
   * @param filter.portId only behind this port
   * @param filter.includeStatic static entries too
   * @returns how many
   */
  flush(filter: { readonly vlan?: number; readonly portId?: number; readonly includeStatic?: boolean } = {}): number {
    const table = this.#table;
    let removed = 0;
    // Removing shifts entries back, some of them past the end to the start; so go on until a round finds nothing.
    for (let again = true; again; ) {
      again = false;
      for (let at = 0; at < table.length; at += WORDS) {
        while (this.#flushes(at, filter)) {
          this.#removeAt(at);
          removed += 1;
          again = true;
        }
      }
    }
    return removed;
  }

  #flushes(at: number, filter: { readonly vlan?: number; readonly portId?: number; readonly includeStatic?: boolean }) {
    const value = this.#table[at + 2];
    if (value === 0) return false;
    if ((value & STATIC) !== 0 && filter.includeStatic !== true) return false;
    if (filter.vlan !== undefined && this.#table[at] >>> 16 !== filter.vlan) return false;
    return filter.portId === undefined || (value & 0xffff) === filter.portId;
  }

  /** Free old entries in a part of the table; call about once a second, more often does nothing. */
  sweep(nowSeconds: number): void {
    if (nowSeconds === this.#sweptSecond || this.ageingSeconds === 0) return;
    this.#sweptSecond = nowSeconds;
    const table = this.#table;
    const part = Math.max(WORDS, table.length / SWEEP_PARTS);
    const end = this.#sweepAt + part;
    for (let at = this.#sweepAt; at < end; at += WORDS) {
      while (table[at + 2] !== 0 && (table[at + 2] & STATIC) === 0 && this.#expired(table[at + 3], nowSeconds)) {
        this.#removeAt(at);
      }
    }
    this.#sweepAt = end >= table.length ? 0 : end;
  }

  /** Live entries, in no order. Allocates. */
  entries(nowSeconds: number): MacEntry[] {
    const table = this.#table;
    const found: MacEntry[] = [];
    for (let at = 0; at < table.length; at += WORDS) {
      const value = table[at + 2];
      if (value === 0) continue;
      const isStatic = (value & STATIC) !== 0;
      if (!isStatic && this.#expired(table[at + 3], nowSeconds)) continue;
      found.push({
        vlan: table[at] >>> 16,
        macAddress: macBytes(table[at] & 0xffff, table[at + 1]),
        portId: value & 0xffff,
        nicIndex: (value >> 16) & 0xff,
        isStatic,
        ageSeconds: isStatic ? 0 : Math.max(0, nowSeconds - table[at + 3]),
      });
    }
    return found;
  }

  #expired(stamp: number, nowSeconds: number): boolean {
    return this.ageingSeconds !== 0 && nowSeconds - stamp > this.ageingSeconds;
  }

  #limited(portId: number): boolean {
    return portId < this.#limits.length && this.#limits[portId] !== 0 && this.#perPort[portId] >= this.#limits[portId];
  }

  /** Index of the first word of the entry, or the complement of where it would go. */
  #find(key: number, macLow: number): number {
    const table = this.#table;
    const mask = this.#mask;
    let slot = this.#home(key, macLow);
    for (;;) {
      const at = slot << 2;
      if (table[at + 2] === 0) return ~at;
      if (table[at + 1] === macLow && table[at] === key) return at;
      slot = (slot + 1) & mask;
    }
  }

  #home(key: number, macLow: number): number {
    let hash = Math.imul(macLow ^ this.#seed, 0x9e37_79b1) ^ Math.imul(key + this.#seed, 0x85eb_ca6b);
    hash ^= hash >>> 15;
    hash = Math.imul(hash, 0x2c1b_3c6d);
    return (hash ^ (hash >>> 13)) & this.#mask;
  }

  #insert(at: number, key: number, macLow: number, value: number, nowSeconds: number): void {
    const table = this.#table;
    const portId = value & 0xffff;
    this.#reachPort(portId);
    table[at] = key;
    table[at + 1] = macLow;
    table[at + 2] = value;
    table[at + 3] = nowSeconds;
    this.#count += 1;
    if ((value & STATIC) === 0) this.#thread(at >> 2, portId);
    this.onChanged(key >>> 16, key & 0xffff, macLow, 0);
  }

  /** An entry joins those of a port, as the one that was seen last. */
  #thread(slot: number, portId: number): void {
    const last = this.#last[portId];
    this.#before[slot] = last;
    this.#after[slot] = NONE;
    if (last === NONE) this.#first[portId] = slot;
    else this.#after[last] = slot;
    this.#last[portId] = slot;
    this.#perPort[portId] += 1;
    if (this.#perPort[portId] > this.#highest) this.#highest = this.#perPort[portId];
  }

  #unthread(slot: number, portId: number): void {
    const before = this.#before[slot];
    const after = this.#after[slot];
    if (before === NONE) this.#first[portId] = after;
    else this.#after[before] = after;
    if (after === NONE) this.#last[portId] = before;
    else this.#before[after] = before;
    this.#perPort[portId] -= 1;
  }

  #seen(slot: number, portId: number): void {
    if (this.#last[portId] === slot) return;
    this.#unthread(slot, portId);
    this.#thread(slot, portId);
  }

  /** An entry has moved to another slot. */
  #rethread(from: number, to: number): void {
    const value = this.#table[(to << 2) + 2];
    if ((value & STATIC) !== 0) return;
    const before = this.#before[from];
    const after = this.#after[from];
    this.#before[to] = before;
    this.#after[to] = after;
    if (before === NONE) this.#first[value & 0xffff] = to;
    else this.#after[before] = to;
    if (after === NONE) this.#last[value & 0xffff] = to;
    else this.#before[after] = to;
  }

  /** Remove and close the gap, so that no tombstones slow later look-ups. */
  #removeAt(at: number): void {
    const table = this.#table;
    const mask = this.#mask;
    const key = table[at];
    const macLow = table[at + 1];
    const portId = table[at + 2] & 0xffff;
    if ((table[at + 2] & STATIC) === 0) this.#unthread(at >> 2, portId);
    this.#count -= 1;
    let hole = at >> 2;
    let slot = hole;
    for (;;) {
      slot = (slot + 1) & mask;
      const next = slot << 2;
      if (table[next + 2] === 0) break;
      const home = this.#home(table[next], table[next + 1]);
      // The entry may fill the hole unless its home lies cyclically behind the hole, up to where it is now.
      if (((slot - home) & mask) >= ((slot - hole) & mask)) {
        table.copyWithin(hole << 2, next, next + WORDS);
        this.#rethread(slot, hole);
        hole = slot;
      }
    }
    table[(hole << 2) + 2] = 0;
    this.onChanged(key >>> 16, key & 0xffff, macLow, portId);
  }

  #reachPort(portId: number): void {
    if (portId < this.#perPort.length) return;
    const size = Math.max(portId + 1, this.#perPort.length * 2);
    this.#perPort = larger(this.#perPort, size, 0);
    this.#limits = larger(this.#limits, size, 0);
    this.#first = larger(this.#first, size, NONE);
    this.#last = larger(this.#last, size, NONE);
  }
}

function larger(array: Int32Array<ArrayBuffer>, size: number, rest: number): Int32Array<ArrayBuffer> {
  const copy = new Int32Array(size).fill(rest);
  copy.set(array);
  return copy;
}

function ignore(): void {}
