/** Says what happens often seldom: at once when it happens first, then how many times it has happened in each while. */
export class Seldom {
  readonly #say: (times: number) => void;
  readonly #later: (delayMs: number, call: () => void) => void;
  #isQuiet = false;
  #times = 0;

  /**
   * @param say given how often it has happened since it said so last
   * @param later calls back after a delay; by default on Node's own event loop, which that does not keep alive
   */
  constructor(
    say: (times: number) => void,
    later: (delayMs: number, call: () => void) => void = (delayMs, call) => void setTimeout(call, delayMs).unref(),
  ) {
    this.#say = say;
    this.#later = later;
  }

  /** @param times how many there were at once */
  happened(times = 1): void {
    this.#times += times;
    if (!this.#isQuiet) this.#sayNow();
  }

  #sayNow(): void {
    const times = this.#times;
    this.#times = 0;
    this.#isQuiet = times > 0;
    if (!this.#isQuiet) return;
    this.#later(WHILE_MS, () => this.#sayNow());
    this.#say(times);
  }
}

const WHILE_MS = 60_000;
