/**
 * Bringing what programs have counted to the flow table: at once, or some flows at a time. Neighbour: placement.ts reads the counts of one flow.
 */
import type { OfferedFlows } from '../../flow/index.ts';
import type { HookState } from './hook-state.ts';
import type { Placement } from './placement.ts';

/** Reading all counts takes at most one part in so many of the time, however often somebody asks. */
const SHARE = 8;
/** With more flows counts are read some at a time, so many in one call of poll. */
const AT_ONCE = 4096;
const SOME_FLOWS = 512;

export class CountSync {
  readonly #table: OfferedFlows;
  readonly #placement: Placement;
  readonly #states: readonly HookState[];
  readonly #nowMs: () => number;
  /** When all counts were last read, and how long that took. */
  #readMs = Number.NEGATIVE_INFINITY;
  #tookMs = 0;
  /** The next flow whose counts are to be read by {@link poll}; -1 for none. */
  #next = -1;

  constructor(table: OfferedFlows, placement: Placement, states: readonly HookState[], nowMs: () => number) {
    this.#table = table;
    this.#placement = placement;
    this.#states = states;
    this.#nowMs = nowMs;
  }

  /** Packets, bytes, time and TCP flags of all flows. */
  all(): void {
    const begunMs = this.#nowMs();
    this.#placement.foldFormer();
    for (let slot = this.#table.next(0); slot !== -1; slot = this.#table.next(slot + 1)) this.#flow(slot);
    this.#readMs = this.#nowMs();
    this.#tookMs = this.#readMs - begunMs;
  }

  /** The same, little by little: {@link poll} reads some each time. */
  soon(): void {
    if (this.#next === -1) this.#next = 0;
  }

  /** For those who ask again and again: with many flows the counts are then as old as a few readings take. */
  often(): void {
    if (this.#table.size > AT_ONCE) this.soon();
    else if (this.#nowMs() >= this.#readMs + this.#tookMs * SHARE) this.all();
  }

  /** Those of one flow. */
  one(slot: number): void {
    this.#placement.foldFormerOf(slot);
    this.#flow(slot);
  }

  #flow(slot: number): void {
    for (const state of this.#states) this.#placement.syncFlow(state, slot);
  }

  /** Read some, if that was begun. */
  poll(): void {
    for (let count = 0; this.#next !== -1 && count < SOME_FLOWS; count += 1) {
      const slot = this.#table.next(this.#next);
      if (slot !== -1) this.#flow(slot);
      this.#next = slot === -1 ? -1 : slot + 1;
    }
  }

  /** Whether {@link poll} has something to do. */
  get isUnderWay(): boolean {
    return this.#next !== -1;
  }
}
