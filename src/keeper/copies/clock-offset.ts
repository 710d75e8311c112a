/**
 * How far one clock is ahead of another, such as the wall clock of the kernel's time since boot. Neighbour: copies.ts dates copies by it.
 */

/** A clock that can be read, as Clock of host/. */
export interface ReadableClock {
  readonly seconds: number;
  readonly nanoseconds: number;
  read(): void;
}

/** Readings of both clocks that are taken for the same moment. A thread that loses its processor in between would be milliseconds off. */
const SAME_MOMENT_NS = 5000;
const ATTEMPTS = 5;
/** Less than this is the inaccuracy of reading: both clocks run at one speed, and one of them is set now and then. */
const SET_NS = 50_000;

export class ClockOffset {
  readonly #ahead: ReadableClock;
  readonly #behind: ReadableClock;
  #seconds = 0;
  #nanoseconds = 0;
  #isKnown = false;

  constructor(ahead: ReadableClock, behind: ReadableClock) {
    this.#ahead = ahead;
    this.#behind = behind;
  }

  /** Whole seconds of the difference, rounded down; {@link nanoseconds} are to be added. */
  get seconds(): number {
    return this.#seconds;
  }

  /** Below 10^9. */
  get nanoseconds(): number {
    return this.#nanoseconds;
  }

  /** Read both clocks. The difference changes only when one of them was set, so that times by it keep their order. */
  refresh(): void {
    let shortestNs = Number.POSITIVE_INFINITY;
    let seconds = 0;
    let nanoseconds = 0;
    for (let i = 0; i < ATTEMPTS && shortestNs > SAME_MOMENT_NS; i += 1) {
      this.#behind.read();
      const { seconds: fromSeconds, nanoseconds: fromNanoseconds } = this.#behind;
      this.#ahead.read();
      this.#behind.read();
      const tookNs = (this.#behind.seconds - fromSeconds) * 1e9 + this.#behind.nanoseconds - fromNanoseconds;
      if (tookNs >= shortestNs) continue;
      shortestNs = tookNs;
      seconds = this.#ahead.seconds - fromSeconds;
      nanoseconds = this.#ahead.nanoseconds - fromNanoseconds - Math.floor(tookNs / 2);
    }
    const changeNs = (seconds - this.#seconds) * 1e9 + nanoseconds - this.#nanoseconds;
    if (this.#isKnown && Math.abs(changeNs) <= SET_NS + shortestNs) return;
    this.#isKnown = true;
    const carried = Math.floor(nanoseconds / 1e9);
    this.#seconds = seconds + carried;
    this.#nanoseconds = nanoseconds - carried * 1e9;
  }
}
