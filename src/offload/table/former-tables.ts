/**
 * Tables that were left for others. Programs that look at them run a little longer and count there, so that what they have counted is brought to the flow
 * table until nobody can use them any more: all of it when counts are asked for, some entries at a time before they are closed, and that of one flow
 * when the flow goes, as afterwards there is nobody to count it for. Neighbours: placement.ts leaves tables, programs.ts says when they are closed.
 */
import type { OfferedFlows } from '../../flow/index.ts';
import type { MappedTables } from '../layout/mapped-tables.ts';

/** Brings what was counted for an entry of a flow since it was last asked. */
export type CountEntry = (tables: MappedTables, entry: number, slot: number) => void;

export class FormerTables {
  readonly #tables: MappedTables;
  readonly #flows: OfferedFlows;
  readonly #count: CountEntry;
  /** Of each slot the last entry of its flow, and of each entry the one before it of the same flow; 0 for none. Made when it is first wanted. */
  #lastOf: Int32Array | null = null;
  #before = new Int32Array(0);
  /** The next entry for {@link foldSome}. */
  #next = 1;

  constructor(tables: MappedTables, flows: OfferedFlows, count: CountEntry) {
    this.#tables = tables;
    this.#flows = flows;
    this.#count = count;
  }

  /** Count all. */
  fold(): void {
    this.#foldUpTo(1, this.#tables.maps.sizes.entries);
  }

  /** Count some for the last time. @returns whether these were the last ones */
  foldSome(most: number): boolean {
    const { entries } = this.#tables.maps.sizes;
    const end = Math.min(entries, this.#next + most);
    this.#foldUpTo(this.#next, end);
    this.#next = end;
    return end === entries;
  }

  /** Count what is a flow's, which is still in the flow table. */
  foldFlow(slot: number): void {
    const lastOf = this.#lastOf ?? this.#index();
    if (slot >= lastOf.length) return;
    for (let entry = lastOf[slot]; entry !== 0; entry = this.#before[entry]) this.#foldEntry(entry);
  }

  #foldUpTo(from: number, end: number): void {
    for (let entry = from; entry < end; entry += 1) this.#foldEntry(entry);
  }

  #foldEntry(entry: number): void {
    const { slots, generations } = this.#tables;
    const slot = slots[entry];
    if (slot === -1 || !this.#flows.has(slot) || this.#flows.generationOf(slot) !== generations[entry]) return;
    this.#count(this.#tables, entry, slot);
  }

  #index(): Int32Array {
    const { slots } = this.#tables;
    let largest = -1;
    for (const slot of slots) largest = Math.max(largest, slot);
    const lastOf = new Int32Array(largest + 1);
    const before = new Int32Array(slots.length);
    for (let entry = 1; entry < slots.length; entry += 1) {
      const slot = slots[entry];
      if (slot === -1) continue;
      before[entry] = lastOf[slot];
      lastOf[slot] = entry;
    }
    this.#before = before;
    this.#lastOf = lastOf;
    return lastOf;
  }
}
