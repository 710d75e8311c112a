/**
 * How far sequence numbers are shifted on connections in which a helper has changed the length of data. The numbers lie in the control array, for a connection that outlives its
 * process needs them.
 *
 *     row: record, its id, then for each direction: from which sequence number on, shift before it, shift behind it
 */
import { ADJUSTMENT_WORDS, ADJUSTMENTS, ControlWord, RecordWord, Status } from '../layout.ts';
import type { ConnectionTable } from '../table.ts';

const Row = { RECORD: 0, ID: 1, DIRECTIONS: 2, POSITION: 0, BEFORE: 1, BEHIND: 2, WORDS: 3 } as const;

export class Adjustments {
  readonly #table: ConnectionTable;
  readonly #control: Int32Array;
  /** First word of a record's row. */
  readonly #rows = new Map<number, number>();

  /** Take over the rows of connections that are there, and empty all others. */
  constructor(table: ConnectionTable) {
    this.#table = table;
    this.#control = table.control;
    for (let row = 0; row < ADJUSTMENTS; row += 1) {
      const at = ControlWord.ADJUSTMENTS + row * ADJUSTMENT_WORDS;
      const record = this.#control[at + Row.RECORD];
      if (this.#isOf(at, record) && !this.#rows.has(record)) this.#rows.set(record, at);
      else this.#control.fill(0, at, at + ADJUSTMENT_WORDS);
    }
  }

  #isOf(at: number, record: number): boolean {
    if (!this.#table.isLive(record)) return false;
    const { records } = this.#table;
    const first = this.#table.at(record);
    const isAdjusted = (records[first + RecordWord.STATUS] & Status.SEQUENCE_ADJUSTED) !== 0;
    return isAdjusted && records[first + RecordWord.ID] === this.#control[at + Row.ID];
  }

  /** Connections with a row. */
  get size(): number {
    return this.#rows.size;
  }

  /**
   * What a direction sends behind a sequence number is longer by so many bytes from now on.
   * @returns false when there is no row left
   */
  add(record: number, direction: number, sequence: number, bytes: number): boolean {
    const at = this.#rows.get(record) ?? this.#take(record);
    if (at === -1) return false;
    const side = at + Row.DIRECTIONS + direction * Row.WORDS;
    const control = this.#control;
    const isFirst = control[side + Row.BEFORE] === control[side + Row.BEHIND];
    // A segment that is sent again changes nothing: it was counted.
    if (!isFirst && ((control[side + Row.POSITION] - sequence) | 0) >= 0) return true;
    control[side + Row.POSITION] = sequence;
    control[side + Row.BEFORE] = control[side + Row.BEHIND];
    control[side + Row.BEHIND] += bytes;
    return true;
  }

  /** Shift of a sequence number that a direction sends. */
  ofSequence(record: number, direction: number, sequence: number): number {
    const at = this.#rows.get(record);
    if (at === undefined) return 0;
    const side = at + Row.DIRECTIONS + direction * Row.WORDS;
    const isBehind = ((sequence - this.#control[side + Row.POSITION]) | 0) > 0;
    return this.#control[side + (isBehind ? Row.BEHIND : Row.BEFORE)];
  }

  /** Shift that is in an acknowledgment of what the other direction has sent: to be taken off. */
  ofAcknowledgment(record: number, direction: number, acknowledgment: number): number {
    const at = this.#rows.get(record);
    if (at === undefined) return 0;
    const side = at + Row.DIRECTIONS + (1 - direction) * Row.WORDS;
    const control = this.#control;
    const isBehind = ((acknowledgment - control[side + Row.BEFORE] - control[side + Row.POSITION]) | 0) > 0;
    return control[side + (isBehind ? Row.BEHIND : Row.BEFORE)];
  }

  /** The connection is gone. */
  drop(record: number): void {
    const at = this.#rows.get(record);
    if (at === undefined) return;
    this.#rows.delete(record);
    this.#control.fill(0, at, at + ADJUSTMENT_WORDS);
  }

  #take(record: number): number {
    for (let row = 0; row < ADJUSTMENTS; row += 1) {
      const at = ControlWord.ADJUSTMENTS + row * ADJUSTMENT_WORDS;
      if (this.#control[at + Row.RECORD] !== 0) continue;
      this.#control[at + Row.ID] = this.#table.records[this.#table.at(record) + RecordWord.ID];
      this.#control[at + Row.RECORD] = record;
      this.#rows.set(record, at);
      return at;
    }
    return -1;
  }
}
