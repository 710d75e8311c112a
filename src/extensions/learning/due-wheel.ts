/** When each flow is to be looked at again: a wheel of seconds. */

/** Slots with their generations, by the second in which they are due. */
export class DueWheel {
  readonly #seconds: number[][];
  #last: number;

  /** @param span most seconds ahead that {@link add} is asked for */
  constructor(span: number, nowSeconds: number) {
    this.#seconds = Array.from({ length: span + 2 }, () => []);
    this.#last = nowSeconds;
  }

  /** The second up to which everything has been taken. */
  get last(): number {
    return this.#last;
  }

  /** @param second when it is due; brought into what the wheel spans */
  add(slot: number, generation: number, second: number): void {
    const size = this.#seconds.length;
    const due = Math.max(this.#last + 1, Math.min(second, this.#last + size - 1));
    this.#seconds[due % size].push(slot, generation);
  }

  /** Take out everything that is due, and tell of it. What `look` adds is due in a later second than now. */
  advance(nowSeconds: number, look: (slot: number, generation: number) => void): void {
    const size = this.#seconds.length;
    const due: number[][] = [];
    for (let second = Math.max(this.#last + 1, nowSeconds - size + 1); second <= nowSeconds; second += 1) {
      const list = this.#seconds[second % size];
      if (list.length === 0) continue;
      due.push(list);
      this.#seconds[second % size] = [];
    }
    this.#last = nowSeconds;
    for (const list of due) for (let i = 0; i < list.length; i += 2) look(list[i], list[i + 1]);
  }

  clear(): void {
    for (const list of this.#seconds) list.length = 0;
  }
}
