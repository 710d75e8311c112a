/**
 * Somebody who acts by what deciders answered, for many packets at once, and is told when any of these answers may be another. Of what changes with ports alone it hears itself. Neighbours:
 * observed.ts has the mechanism, ../decided-flows.ts gives the answers.
 */
import { type Anchor, type Dependent, type Reading, type Tie, untieAll } from './observed.ts';

/** Most places that answers rest on; when there are more, all are asked for again. */
const MOST = 4096;

export class Reliance implements Dependent {
  readonly #known = new Map<Anchor, Set<number>>();
  readonly #onEnd: () => void;
  #ties: Tie | null = null;

  /** @param onEnd called when anything has changed that was read; nothing is relied on any more then */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  /** Rely on what was read, too. @returns false when that cannot be: then the answer is good for one packet */
  add(reading: Reading): boolean {
    const ties = reading.tieMore(this, this.#known, this.#ties);
    if (ties === undefined) return false;
    this.#ties = ties;
    if (this.#known.size <= MOST) return true;
    this.end();
    return false;
  }

  end(): void {
    // One change may concern many of the ties.
    if (this.#ties === null) return;
    this.release();
    this.#onEnd();
  }

  /** Rely on nothing. */
  release(): void {
    untieAll(this.#ties);
    this.#ties = null;
    this.#known.clear();
  }
}
