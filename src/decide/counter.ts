/** Counters that decisions move: with each packet that a decision is for, wherever it runs. */

/** Packets and bytes of the decisions that count into it. */
export class FlowCounter {
  readonly name: string;
  #packets = 0;
  #bytes = 0;
  readonly #settle: () => void;

  /** @param settle called before it is read: what was counted elsewhere until now is brought */
  constructor(name: string, settle: () => void) {
    this.name = name;
    this.#settle = settle;
  }

  get packets(): number {
    this.#settle();
    return this.#packets;
  }

  /** Bytes of the frames as they came in. */
  get bytes(): number {
    this.#settle();
    return this.#bytes;
  }

  /**
   * Count more.
   * @param _usedMs when the last of them came, by the clock of the flows; left out: now
   */
  add(packets: number, bytes: number, _usedMs?: number): void {
    this.#packets += packets;
    this.#bytes += bytes;
  }

  /** Begin anew. What is counted elsewhere and not brought yet counts from here on. */
  reset(): void {
    this.#packets = 0;
    this.#bytes = 0;
  }
}
