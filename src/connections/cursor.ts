/**
 * Goes through the connections of a table some records at a time, so that a dump or a flush of millions stops nobody. Connections that begin and end in between
 * may be met or not; what is there all the time is met once.
 */
import { Kind, RECORD_WORDS } from './layout.ts';
import type { ConnectionTable } from './table.ts';

export class ConnectionCursor {
  readonly #table: ConnectionTable;
  readonly #isWanted: (record: number) => boolean;
  readonly #withExpired: boolean;
  #next: number;
  #steps = 0;
  #now = 0;

  /**
   * @param isWanted whether to stop at a connection
   * @param from {@link next} of a cursor before, to go on behind it
   * @param withExpired whether it meets those, too, that have expired and are not freed yet
   */
  constructor(
    table: ConnectionTable,
    isWanted: (record: number) => boolean,
    { from = 1, withExpired = false }: { readonly from?: number; readonly withExpired?: boolean } = {},
  ) {
    this.#table = table;
    this.#isWanted = isWanted;
    this.#withExpired = withExpired;
    this.#next = from;
  }

  /** The record that is looked at next; 0 when all were. */
  get next(): number {
    return this.#next < this.#table.fresh ? this.#next : 0;
  }

  /** A 32-bit time in milliseconds: what {@link take} holds for now. */
  get now(): number {
    return this.#now;
  }

  /** Let {@link take} look at so many records. */
  allow(steps: number): void {
    this.#steps = steps;
    this.#now = this.#table.nowMs() | 0;
  }

  /** @returns the next connection that is wanted; 0 when the steps are used up, or at the end */
  take(): number {
    const table = this.#table;
    const { records } = table;
    while (this.#steps > 0 && this.#next < table.fresh) {
      const record = this.#next;
      this.#next += 1;
      this.#steps -= 1;
      if ((records[record * RECORD_WORDS] & Kind.LIVE) === 0) continue;
      if (!this.#withExpired && table.isExpired(record, this.#now)) continue;
      if (this.#isWanted(record)) return record;
    }
    return 0;
  }
}
