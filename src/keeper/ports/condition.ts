/**
 * A condition that must hold for something, as it is seen from time to time: once broken it counts as broken at once, and as met again only when it has
 * been met for a while, so that what changes all the time does not take programs with it each time.
 */

/** How long a condition that was broken must be met until it counts. */
export const STEADY_MS = 2_000;

export class Condition {
  #reason: string | null = null;
  #brokenMs = 0;

  /** Why it is not met; null when it is. */
  get reason(): string | null {
    return this.#reason;
  }

  /**
   * It was looked at.
   * @param reason why it is not met now; null when it is
   * @param nowMs of any clock that only goes forward
   * @returns whether {@link reason} is another now
   */
  see(reason: string | null, nowMs: number): boolean {
    if (reason !== null) this.#brokenMs = nowMs;
    else if (this.#reason !== null && nowMs < this.#brokenMs + STEADY_MS) return false;
    const isOther = reason !== this.#reason;
    this.#reason = reason;
    return isOther;
  }
}
