/** How many questions a second may be asked, so that packets go on whatever changes: a bucket that fills evenly. */
export class Allowance {
  readonly #perMs: number;
  readonly #burst: number;
  #left: number;
  #filledMs: number;

  /**
   * @param perSecond how many in the long run
   * @param burst how many at once
   */
  constructor(perSecond: number, burst: number, nowMs: number) {
    this.#perMs = perSecond / 1000;
    this.#burst = burst;
    this.#left = burst;
    this.#filledMs = nowMs;
  }

  /** Take one. @returns false when there is none now */
  take(nowMs: number): boolean {
    this.#left = Math.min(this.#burst, this.#left + (nowMs - this.#filledMs) * this.#perMs);
    this.#filledMs = nowMs;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
