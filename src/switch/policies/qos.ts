/** Bandwidth limit towards a port: a token bucket. Part of the built-in egress policy (builtin.ts). */

/** A token bucket in bytes, on a clock in milliseconds. */
export class RateLimiter {
  readonly #bytesPerMs: number;
  readonly #burstBytes: number;
  #tokens: number;
  #lastMs = 0;
  #started = false;

  /**
   * @param rateBps bits a second
   * @param burstBytes what may go at once; at least one frame must fit or nothing ever passes
   */
  constructor(rateBps: number, burstBytes: number) {
    this.#bytesPerMs = rateBps / 8000;
    this.#burstBytes = burstBytes;
    this.#tokens = burstBytes;
  }

  /** Whether the frame may go now; if so it is paid for. */
  take(lengthBytes: number, nowMs: number): boolean {
    if (!this.#started) {
      this.#started = true;
      this.#lastMs = nowMs;
    } else if (nowMs > this.#lastMs) {
      const filled = this.#tokens + (nowMs - this.#lastMs) * this.#bytesPerMs;
      this.#tokens = Math.min(filled, this.#burstBytes);
      this.#lastMs = nowMs;
    }
    // A super-packet may exceed the whole burst: it passes on a full bucket and leaves a debt.
    if (this.#tokens < lengthBytes && this.#tokens < this.#burstBytes) return false;
    this.#tokens -= lengthBytes;
    return true;
  }

  /** Whether a frame would be let through, without paying. */
  would(lengthBytes: number): boolean {
    return this.#tokens >= lengthBytes || this.#tokens >= this.#burstBytes;
  }
}
