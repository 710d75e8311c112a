/**
 * The watchdog: looks at the pulse of the datapath thread a few times a second and tells when its loop does not come round any more, and which
 * extension it has been in meanwhile. Time counts only as far as it was watched: a process that was stopped, or a machine that was suspended,
 * is not stuck.
 */
import type { PulseReading } from '../thread/pulse.ts';

/** How often it looks. */
export const LOOK_MS = 100;
/** More than this between two looks says that the watchdog itself was not run. */
const LONGEST_STEP_MS = 3 * LOOK_MS;

/** The loop does not come round. */
export interface Stuck {
  /** Number in the pulse of the extension that it has been in for most of the time; 0 for none. */
  readonly entered: number;
  /** How long the loop has stood still. */
  readonly forMs: number;
}

/** Sums up what is seen of one turn of the loop. */
export class Watchdog {
  #turns = -1;
  #lastMs = Number.NaN;
  #stillMs = 0;
  /** How long the loop was seen inside of each extension, by number, in this turn. */
  readonly #inside = new Map<number, number>();

  /**
   * Look.
   * @param nowMs of a monotonic clock
   * @returns what is seen of a turn that has not ended; null while the loop goes round, or sleeps
   */
  look({ turns, asleep, entered }: PulseReading, nowMs: number): Stuck | null {
    const stepMs = Math.min(LONGEST_STEP_MS, Math.max(0, nowMs - this.#lastMs));
    this.#lastMs = nowMs;
    if (asleep || turns !== this.#turns || Number.isNaN(stepMs)) {
      this.#turns = turns;
      this.#stillMs = 0;
      this.#inside.clear();
      return null;
    }
    this.#stillMs += stepMs;
    this.#inside.set(entered, (this.#inside.get(entered) ?? 0) + stepMs);
    let most = 0;
    for (const [number, ms] of this.#inside) if (ms > (this.#inside.get(most) ?? 0)) most = number;
    return { entered: most, forMs: this.#stillMs };
  }
}
