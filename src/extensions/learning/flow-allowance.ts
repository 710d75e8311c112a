/**
 * What one kind of flow may take: so many flows in the table, and so many packets in a second that are looked at closely for one. Flows that
 * forward and flows that drop have one each, so that a flood of the one kind takes nothing from the other.
 */
import type { SeenCache } from './seen-cache.ts';

export class FlowAllowance {
  /** What was done about packets like one already. */
  readonly seen: SeenCache;
  /** Most flows. */
  readonly maximum: number;
  /** Flows there are. */
  size = 0;
  /** Packets that may still be considered in this second. */
  considerationsLeft: number;
  readonly #considerationsPerSecond: number;

  constructor(maximum: number, considerationsPerSecond: number, seen: SeenCache) {
    this.maximum = maximum;
    this.#considerationsPerSecond = considerationsPerSecond;
    this.considerationsLeft = considerationsPerSecond;
    this.seen = seen;
  }

  get isFull(): boolean {
    return this.size >= this.maximum;
  }

  /** Nothing more may be considered for now. */
  get isSpent(): boolean {
    return this.considerationsLeft === 0 || this.isFull;
  }

  /** Another second has begun. */
  renew(): void {
    this.considerationsLeft = this.#considerationsPerSecond;
  }

  /** All flows are gone. */
  clear(): void {
    this.size = 0;
    this.seen.clear();
  }
}
