/**
 * Programs and tables in whose place others are: kept until nobody can use them any more, and what they have counted is known. Neighbours:
 * former-tables.ts counts what tables that were left count, programs.ts leaves both.
 */
import type { OffloadMaps } from '../layout/maps.ts';
import type { LoadedProgram } from '../program/load.ts';
import type { FormerTables } from './former-tables.ts';
import type { Placement } from './placement.ts';

/** How long they are kept, in milliseconds. */
const KEPT_MS = 1000;
/** Entries that are counted for the last time in one step. */
const STEP_ENTRIES = 1024;

interface One {
  readonly atMs: number;
  /** Close it, or the next part of it. @returns whether all is closed */
  readonly close: () => boolean;
  readonly tables: FormerTables | null;
}

export class Retired {
  readonly #placement: Placement;
  readonly #nowMs: () => number;
  #all: One[] = [];

  /** @param placement told when it has nothing more to count of tables */
  constructor(placement: Placement, nowMs: () => number) {
    this.#placement = placement;
    this.#nowMs = nowMs;
  }

  addProgram(program: LoadedProgram): void {
    const close = () => {
      program.close();
      return true;
    };
    this.#all.push({ atMs: this.#nowMs(), close, tables: null });
  }

  addTables(maps: OffloadMaps, tables: FormerTables): void {
    this.#all.push({ atMs: this.#nowMs(), close: () => maps.closeOne(), tables });
  }

  /** Close what it is time for, or some of it. */
  poll(nowMs: number): void {
    while (this.#all.length > 0 && this.#all[0].atMs + KEPT_MS <= nowMs) {
      const [first] = this.#all;
      if (first.tables?.foldSome(STEP_ENTRIES) === false) return;
      // Closing takes several turns, and nothing may read them between.
      if (first.tables !== null) this.#placement.leave(first.tables);
      if (!first.close()) return;
      this.#all.shift();
    }
  }

  /** Milliseconds until {@link poll} has something to do, below 0 for some that are over; infinite for nothing. */
  waitMs(nowMs: number): number {
    return this.#all.length === 0 ? Number.POSITIVE_INFINITY : this.#all[0].atMs + KEPT_MS - nowMs;
  }

  /** Close all of it now. */
  close(): void {
    for (const { close } of this.#all) while (!close());
    this.#all = [];
  }
}
