/** Says what happens often seldom: at once when it happens first, then with the number of times, at most once in a while. */
export class Seldom {
  readonly #say: (times: number) => void;
  readonly #everyMs: number;
  readonly #nowMs: () => number;
  #saidMs = Number.NEGATIVE_INFINITY;
  #times = 0;

  /** @param say given how often it has happened since it said so last, this time included */
  constructor(say: (times: number) => void, everyMs = 60_000, nowMs = () => performance.now()) {
    this.#say = say;
    this.#everyMs = everyMs;
    this.#nowMs = nowMs;
  }

  happened(): void {
    this.#times += 1;
    const nowMs = this.#nowMs();
    if (nowMs - this.#saidMs < this.#everyMs) return;
    this.#saidMs = nowMs;
    const times = this.#times;
    this.#times = 0;
    this.#say(times);
  }
}
