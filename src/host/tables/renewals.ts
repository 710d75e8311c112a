/** Paths that are to be asked for again, each at once as long as the allowance lasts, and then in turn. */
import { Allowance } from './allowance.ts';
import type { CachedPath } from './path.ts';
import type { TablesLoop } from './socket.ts';

/** A question takes some twenty microseconds: so all have no more than some hundredths of the thread's time, and a millisecond at once. */
const ASKED_PER_SECOND = 2000;
const ASKED_AT_ONCE = 64;
const TURN_MS = 5;

export class Renewals {
  /** How many had to wait for their turn. */
  deferred = 0;
  readonly #loop: TablesLoop;
  readonly #nowMs: () => number;
  readonly #allowance: Allowance;
  readonly #ask: (path: CachedPath) => void;
  readonly #isDue: (path: CachedPath) => boolean;
  #queue: CachedPath[] = [];
  #isTimed = false;
  #isClosed = false;

  /**
   * @param ask about a path
   * @param isDue whether a path that has waited for its turn is still to be asked for
   */
  constructor(
    loop: TablesLoop,
    nowMs: () => number,
    ask: (path: CachedPath) => void,
    isDue: (path: CachedPath) => boolean,
  ) {
    this.#loop = loop;
    this.#nowMs = nowMs;
    this.#ask = ask;
    this.#isDue = isDue;
    this.#allowance = new Allowance(ASKED_PER_SECOND, ASKED_AT_ONCE, nowMs());
  }

  /** Somebody sends by it now. */
  now(path: CachedPath): void {
    if (path.isAsking || path.isQueued || this.#isClosed) return;
    if (this.#allowance.take(this.#nowMs())) this.#ask(path);
    else this.inTurn(path);
  }

  /** Have it asked for when there is time. */
  inTurn(path: CachedPath): void {
    if (path.isQueued || this.#isClosed) return;
    path.isQueued = true;
    this.deferred += 1;
    this.#queue.push(path);
    this.#time();
  }

  #time(): void {
    if (this.#isTimed || this.#queue.length === 0) return;
    this.#isTimed = true;
    this.#loop.timers.once(TURN_MS, { onTimer: () => this.#work() }, this.#nowMs());
  }

  #work(): void {
    this.#isTimed = false;
    if (this.#isClosed) return;
    const queue = this.#queue;
    this.#queue = [];
    let at = 0;
    for (; at < queue.length; at += 1) {
      const path = queue[at];
      const isDue = !path.isAsking && this.#isDue(path);
      if (isDue && !this.#allowance.take(this.#nowMs())) break;
      path.isQueued = false;
      if (isDue) this.#ask(path);
    }
    this.#queue = [...queue.slice(at), ...this.#queue];
    this.#time();
  }

  close(): void {
    this.#isClosed = true;
    this.#queue = [];
  }
}
