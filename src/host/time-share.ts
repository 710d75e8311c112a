/**
 * How many packets of a port are worked off at a time, by what its packets have cost lately: ports share the time of the datapath thread, not its
 * packets, so that one whose packets each take long costs the others no more than one whose packets are quick.
 */

/**
 * A batch that took less than is thought lowers the cost by one part in so many of the difference, and one that took more raises it by one part in so
 * many of itself: a batch in which another process had the processor says little of its packets.
 */
const LESS_PART = 4;
const MORE_PART = 8;
/** No packet costs less, in milliseconds. */
const LEAST_COST_MS = 0.0002;

export class TimeShare {
  readonly #budgetMs: number;
  readonly #least: number;
  readonly #most: number;
  /** Time of a packet, in milliseconds. */
  #costMs = LEAST_COST_MS;

  /**
   * @param budgetMs time for the packets that are taken at once
   * @param least packets that are taken whatever they cost
   * @param most packets that are taken however little they cost
   */
  constructor(budgetMs: number, least: number, most: number) {
    this.#budgetMs = budgetMs;
    this.#least = least;
    this.#most = most;
  }

  /** So many packets took so long. */
  spent(packets: number, tookMs: number): void {
    const costMs = Math.max(tookMs / packets, LEAST_COST_MS);
    if (costMs < this.#costMs) this.#costMs -= (this.#costMs - costMs) / LESS_PART;
    else this.#costMs = Math.min(costMs, this.#costMs * (1 + 1 / MORE_PART));
  }

  /** Packets that may be taken at once. */
  get packets(): number {
    const fitting = Math.floor(this.#budgetMs / this.#costMs);
    return fitting < this.#most ? Math.max(fitting, this.#least) : this.#most;
  }
}
