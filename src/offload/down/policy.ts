/**
 * Which packets the engine hands down, of those that programs could go on with. Handing one down is a system call of its own and one more way through the kernel's stack, which costs as much as some
 * nine look-ups of the engine; but what the engine changes while somebody holds it, such as the switch, it copies first, and programs do not. So long packets that are changed go down, and short ones
 * stay. And one that comes up again has cost both. It goes by what was seen of earlier packets of the flow that a packet falls to:
 *
 *      - how many look-ups the engine did from there on, when it went on itself, and whether it had to copy the packet;
 *      - whether packets came up again: then the next ones stay with the engine, each time twice as many of them;
 *      - while that is not known yet, only a packet of whose port nothing else is on its way up goes down: one that comes up again would be behind the others.
 *
 * Flows are told apart by tickets, numbers that packets bring back; two flows may have the same one, which then is a worse guess and nothing else.
 */

/** Nanoseconds of the engine (bench/down.ts): of a look-up with its actions, of a copy and of each byte of it; and what handing a packet down costs beyond sending it, with a margin. */
const LOOK_UP_NS = 240;
const COPY_NS = 100;
const COPIED_BYTE_NS = 0.4;
const DOWN_NS = 2200;
/** Packets that have gone down for good before others may be on their way up meanwhile. */
const TRUSTED = 8;
/** Of a flow whose packets go down, one in so many stays: what the engine does is learned anew. */
const LEARNED_ANEW = 250;
/** Packets that stay after one has come up again: the first time, and at most. */
const FIRST_REST = 8;
const MOST_REST = 8192;
const TICKETS = 1 << 16;
/** Beside the number of look-ups, of which there are no more. */
const IS_COPIED = 0x80;
const MOST_LOOK_UPS = 0x7f;

export class DownPolicy {
  /** Look-ups that follow, and {@link IS_COPIED}; 0 for nothing that is known. */
  readonly #follows = new Uint8Array(TICKETS);
  readonly #handed = new Uint8Array(TICKETS);
  readonly #rest = new Uint16Array(TICKETS);
  /** What the rest after the next packet that comes up again is. */
  readonly #nextRest = new Uint16Array(TICKETS).fill(FIRST_REST);

  /** The ticket of a flow by its slot: never 0. */
  ticketOf(slot: number): number {
    return 1 + (slot % (TICKETS - 1));
  }

  /** Whether it would cost the engine more to go on with a packet itself; {@link wants} decides about one that can go down. */
  pays(ticket: number, lengthBytes: number): boolean {
    const follows = this.#follows[ticket];
    if (follows === 0) return false;
    const copyNs = (follows & IS_COPIED) === 0 ? 0 : COPY_NS + lengthBytes * COPIED_BYTE_NS;
    return (follows & MOST_LOOK_UPS) * LOOK_UP_NS + copyNs > DOWN_NS;
  }

  /** Whether a packet for which it {@link pays} is to be handed down. @param isAlone whether nothing else of its port is on its way up */
  wants(ticket: number, isAlone: boolean): boolean {
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

  /** The engine went on itself. @param lookUps that it did, this flow's included; 0 when it found no flow in the end @param isCopied whether it copied the packet */
  wentOn(ticket: number, lookUps: number, isCopied: boolean): void {
    const follows = Math.min(lookUps, MOST_LOOK_UPS);
    this.#follows[ticket] = follows === 0 || !isCopied ? follows : follows | IS_COPIED;
  }

  /** A packet that was handed down has come up again. */
  cameBack(ticket: number): void {
    const rest = this.#nextRest[ticket];
    this.#rest[ticket] = rest;
    this.#nextRest[ticket] = Math.min(rest * 2, MOST_REST);
    this.#handed[ticket] = 0;
  }
}
