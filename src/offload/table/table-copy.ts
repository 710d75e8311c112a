/**
 * Tables that are filled from others, which stay in use meanwhile: entry by entry, some at a time, as a thread that packets wait for has no time to copy
 * tens of thousands at once. What changes meanwhile is noted, and copied again; what is left of that at the end is little, and is copied in the moment in
 * which the new tables take the place. No program knows these before. Neighbour: programs.ts makes the tables, and says when.
 */
import type { MappedTables } from '../layout/mapped-tables.ts';
import type { HookState } from './hook-state.ts';

export class TableCopy {
  readonly to: MappedTables;
  readonly #from: MappedTables;
  readonly #states: readonly HookState[];
  readonly #changes: Set<number>;
  /** The next entry that was not looked at. */
  #next = 1;
  #copied = 0;
  /** An entry has found no place in the new index. */
  #isFull = false;

  /** @param to empty, and at least as large */
  constructor(from: MappedTables, to: MappedTables, states: readonly HookState[]) {
    this.#from = from;
    this.to = to;
    this.#states = states;
    this.#changes = from.entries.noteChanges();
  }

  /**
   * Copy some more.
   * @param most entries that are looked at
   * @returns whether no more are left than so many, for {@link finish}
   */
  step(most: number): boolean {
    const end = Math.min(this.#from.maps.sizes.entries, this.#next + most);
    const isThrough = this.#next >= end;
    for (; this.#next < end; this.#next += 1) this.#copy(this.#next);
    if (!isThrough) return false;
    if (this.#changes.size > most) this.#catchUp(most);
    return this.#changes.size <= most;
  }

  /**
   * Copy what is left.
   * @returns whether each entry has found a place in the index
   */
  finish(): boolean {
    this.#catchUp(Number.POSITIVE_INFINITY);
    this.end();
    this.to.entries.adopt(this.#copied, this.#from.maps.sizes.entries);
    return !this.#isFull;
  }

  /** Nothing more is copied. */
  end(): void {
    this.#from.entries.forgetChanges();
  }

  #catchUp(most: number): void {
    let count = 0;
    for (const entry of this.#changes) {
      if (count >= most) return;
      count += 1;
      this.#changes.delete(entry);
      this.#remove(entry);
      this.#copy(entry);
    }
  }

  #remove(entry: number): void {
    const { to } = this;
    if (!to.isLive(entry)) return;
    to.index.remove(to.hashes[entry], entry);
    to.entries.kill(entry);
    to.slots[entry] = -1;
    to.keyLengths[entry] = 0;
    this.#copied -= 1;
  }

  /** An entry keeps its number; its counters begin at 0. */
  #copy(entry: number): void {
    const { to } = this;
    const from = this.#from;
    const mask = from.entries.maskOf(entry);
    if (mask === -1) return;
    const state = this.#states.find(({ masks }) => masks.byNumber(mask) !== undefined);
    const shape = state?.shapes.byNumber(from.entries.shapeOf(entry));
    if (shape === undefined) return;
    to.entries.copy(entry, from.entries, from.keyLengths[entry], shape.value.parameterWords);
    to.slots[entry] = from.slots[entry];
    to.generations[entry] = from.generations[entry];
    to.keyLengths[entry] = from.keyLengths[entry];
    this.#copied += 1;
    if (!to.publish(entry, from.hashes[entry])) this.#isFull = true;
  }
}
