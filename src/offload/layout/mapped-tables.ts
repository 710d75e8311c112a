/**
 * The tables of flows: index, entries and counters together, with what TypeScript keeps of each entry. Larger tables are made beside these
 * and filled from them; these then rest until no program reads them. table/ decides what is in them.
 */

import { EntryTable } from './entry-table.ts';
import type { HashSecrets } from './hash.ts';
import { IndexTable } from './index-table.ts';
import type { OffloadMaps } from './maps.ts';
import { COUNTER_BYTES, CounterByte, EntryWord } from './sizes.ts';

/** What was counted since the last reading. One object is used again for every reading. */
export class CountDelta {
  packets = 0;
  bytes = 0;
  tcpFlags = 0;
  /** Milliseconds of CLOCK_MONOTONIC; 0 for never. */
  usedMs = 0;
}

export class MappedTables {
  readonly maps: OffloadMaps;
  readonly index: IndexTable;
  readonly entries: EntryTable;
  readonly secrets: HashSecrets;
  /** Of each entry: the flow's slot in the flow table, and the slot's generation. */
  readonly slots: Int32Array;
  readonly generations: Int32Array;
  /** Hash of its masked key, and length of that key. */
  readonly hashes: Int32Array;
  readonly keyLengths: Uint8Array;
  /** What was read of the counters. */
  readonly #packets: Float64Array;
  readonly #bytes: Float64Array;
  readonly #hashOf = (entry: number): number => this.hashes[entry];

  constructor(maps: OffloadMaps, secrets: HashSecrets) {
    this.maps = maps;
    this.secrets = secrets;
    const { sizes } = maps;
    this.index = new IndexTable(maps.index, sizes.indexPlaces);
    this.entries = new EntryTable(maps);
    this.slots = new Int32Array(sizes.entries).fill(-1);
    this.generations = new Int32Array(sizes.entries);
    this.hashes = new Int32Array(sizes.entries);
    this.keyLengths = new Uint8Array(sizes.entries);
    this.#packets = new Float64Array(sizes.entries);
    this.#bytes = new Float64Array(sizes.entries);
  }

  /** Publish an entry that is written. @returns false when the index has no place for it */
  publish(entry: number, hash: number): boolean {
    this.hashes[entry] = hash;
    return this.index.insert(hash, entry, this.#hashOf);
  }

  /** Whether an entry is in use. */
  isLive(entry: number): boolean {
    return this.entries.maskOf(entry) !== -1;
  }

  /** The entry with exactly this masked key under a mask's number, or 0. */
  find(mask: number, hash: number, key: ArrayLike<number>): number {
    const { words } = this.entries;
    return this.index.search(hash, (entry) => {
      if (this.entries.maskOf(entry) !== mask) return false;
      const at = this.entries.at(entry);
      for (let i = 0; i < key.length; i += 1) if (words[at + EntryWord.KEY + i] !== key[i] >>> 0) return false;
      return true;
    });
  }

  /** Whether an entry has these actions. */
  hasActions(entry: number, shape: number, parameters: Uint32Array): boolean {
    if (this.entries.shapeOf(entry) !== shape) return false;
    const there = this.entries.parametersOf(entry, parameters.length);
    return parameters.every((parameter, i) => there[i] === parameter);
  }

  /** Its counters are 0; for entries that no program can find. */
  clearCounters(entry: number): void {
    const { sizes, counters } = this.maps;
    for (let cpu = 0; cpu < sizes.cpus; cpu += 1) {
      const word = sizes.counterAt(entry, cpu) / 4;
      counters.u32.fill(0, word, word + COUNTER_BYTES / 4);
    }
    this.#packets[entry] = 0;
    this.#bytes[entry] = 0;
  }

  /**
   * What was counted for an entry since it was last asked.
   * @returns false when nothing was
   */
  read(entry: number, delta: CountDelta): boolean {
    const { sizes, counters } = this.maps;
    const words = counters.u32;
    let packets = 0;
    for (let cpu = 0; cpu < sizes.cpus; cpu += 1) {
      packets += counters.count(sizes.counterAt(entry, cpu) + CounterByte.PACKETS);
    }
    if (packets === this.#packets[entry]) return false;
    let bytes = 0;
    let usedMs = 0;
    let tcpFlags = 0;
    for (let cpu = 0; cpu < sizes.cpus; cpu += 1) {
      const at = sizes.counterAt(entry, cpu);
      bytes += counters.count(at + CounterByte.BYTES);
      usedMs = Math.max(usedMs, counters.count(at + CounterByte.USED) / 1e6);
      tcpFlags |= words[(at + CounterByte.TCP_FLAGS) >>> 2];
    }
    delta.packets = packets - this.#packets[entry];
    delta.bytes = bytes - this.#bytes[entry];
    delta.usedMs = usedMs;
    delta.tcpFlags = tcpFlags;
    this.#packets[entry] = packets;
    this.#bytes[entry] = bytes;
    return true;
  }

  /** Packets of an entry as they were last read. */
  packetsOf(entry: number): number {
    return this.#packets[entry];
  }
}
