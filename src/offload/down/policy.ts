/**
 * Which packets the engine hands down, of those that programs could go on with. Handing one down is a system call of its own and one more way through the kernel's stack, for which the
 * engine would do several look-ups, so it pays only where many more follow; and a packet that comes up again has cost both. So it goes by what was seen of earlier packets of the flow that
 * it falls to:
 *
 *      - how many look-ups the engine did from there on, when it went on itself: at least {@link LEAST_LOOK_UPS};
 *      - whether packets came up again: then the next ones stay with the engine, each time twice as many of them;
 *      - while that is not known yet, only a packet of whose port nothing else is on its way up goes down: one that comes up again would be behind the others.
 *
 * Flows are told apart by tickets, numbers that packets bring back; two flows may have the same one, which then is a worse guess and nothing else.
 */

/**
 * Look-ups of the engine from which on it pays: measured with `node bench/down.ts`.
 */
export const LEAST_LOOK_UPS = 3;
/** Packets that have gone down for good before others may be on their way up meanwhile. */
const TRUSTED = 8;
/** Of a flow whose packets go down, one in so many stays: what the engine does is learned anew. */
const LEARNED_ANEW = 250;
/** Packets that stay after one has come up again: the first time, and at most. */
const FIRST_REST = 8;
const MOST_REST = 8192;
const TICKETS = 1 << 16;

export class DownPolicy {
  readonly #lookUps = new Uint8Array(TICKETS);
  readonly #handed = new Uint8Array(TICKETS);
  readonly #rest = new Uint16Array(TICKETS);
  /** What the rest after the next packet that comes up again is. */
  readonly #nextRest = new Uint16Array(TICKETS).fill(FIRST_REST);

  /** The ticket of a flow by its slot: never 0. */
  ticketOf(slot: number): number {
    return 1 + (slot % (TICKETS - 1));
  }

  /** Whether so many look-ups follow that it would pay; {@link wants} decides about a packet. */
  mayPay(ticket: number): boolean {
    return this.#lookUps[ticket] >= LEAST_LOOK_UPS;
  }

  /** Whether a packet is to be handed down, which can be. @param isAlone whether nothing else of its port is on its way up */
  wants(ticket: number, isAlone: boolean): boolean {
    if (!this.mayPay(ticket)) return false;
    if (this.#rest[ticket] > 0) {
      this.#rest[ticket] -= 1;
      return false;
    }
    const handed = this.#handed[ticket];
    if (handed < TRUSTED && !isAlone) return false;
    if (handed === LEARNED_ANEW) {
      this.#handed[ticket] = TRUSTED;
      return false;
    }
    if (handed === TRUSTED) this.#nextRest[ticket] = FIRST_REST;
    this.#handed[ticket] = handed + 1;
    return true;
  }

  /** The engine went on itself. @param lookUps that it did, this flow's included; 0 when it found no flow in the end */
  wentOn(ticket: number, lookUps: number): void {
    this.#lookUps[ticket] = Math.min(lookUps, 255);
  }

  /** A packet that was handed down has come up again. */
  cameBack(ticket: number): void {
    const rest = this.#nextRest[ticket];
    this.#rest[ticket] = rest;
    this.#nextRest[ticket] = Math.min(rest * 2, MOST_REST);
    this.#handed[ticket] = 0;
  }
}
