/**
 * Timers of the event loop (loop.ts): a binary heap by deadline. There are few of them (ageing, statistics), so what
 * counts is that asking for the next deadline costs nothing. One that is cancelled stays in the heap until it is met, or
 * until such ones are the greater part of it.
 */

/** Told when its time has come. */
export interface TimerHandler {
  onTimer(nowMs: number): void;
}

/** A timer that was set; keep it to cancel it. */
export class Timer {
  /** On the clock of performance.now(). */
  deadlineMs: number;
  readonly periodMs: number;
  readonly handler: TimerHandler;
  readonly #onCancel: () => void;
  #cancelled = false;

  constructor(deadlineMs: number, periodMs: number, handler: TimerHandler, onCancel: () => void) {
    this.deadlineMs = deadlineMs;
    this.periodMs = periodMs;
    this.handler = handler;
    this.#onCancel = onCancel;
  }

  get cancelled(): boolean {
    return this.#cancelled;
  }

  /** It will not fire any more, not even if it is due already. */
  cancel(): void {
    if (this.#cancelled) return;
    this.#cancelled = true;
    this.#onCancel();
  }
}

/** So many in the heap are worth no rebuilding of it. */
const FEW = 64;

/** The timers of one loop. */
export class Timers {
  #heap: Timer[] = [];
  /** Timers that were cancelled since the heap was rid of such. */
  #cancelled = 0;
  readonly #onCancel = () => {
    this.#cancelled += 1;
    if (this.#cancelled > FEW && this.#cancelled > this.#heap.length / 2) this.#forgetCancelled();
  };

  /** How many are set, cancelled ones that are still in the heap included. */
  get size(): number {
    return this.#heap.length;
  }

  /** Fire once, `delayMs` from `nowMs`. */
  once(delayMs: number, handler: TimerHandler, nowMs = performance.now()): Timer {
    return this.#insert(new Timer(nowMs + Math.max(0, delayMs), 0, handler, this.#onCancel));
  }

  /** Fire every `periodMs`, first one period from `nowMs`. Periods that were missed are not made up for. */
  every(periodMs: number, handler: TimerHandler, nowMs = performance.now()): Timer {
    if (!(periodMs > 0)) throw new RangeError(`a period of ${periodMs} ms`);
    return this.#insert(new Timer(nowMs + periodMs, periodMs, handler, this.#onCancel));
  }

  /** Time until the next one is due: 0 when one is, Infinity when none is set. */
  untilNextMs(nowMs: number): number {
    while (this.#heap.length > 0 && this.#heap[0].cancelled) this.#removeFirst();
    return this.#heap.length === 0 ? Number.POSITIVE_INFINITY : Math.max(0, this.#heap[0].deadlineMs - nowMs);
  }

  /** Fire those that are due, each once. @returns how many fired */
  run(nowMs: number): number {
    let fired = 0;
    while (this.#heap.length > 0 && (this.#heap[0].cancelled || this.#heap[0].deadlineMs <= nowMs)) {
      const timer = this.#removeFirst();
      if (timer.cancelled) continue;
      if (timer.periodMs > 0) {
        const missed = Math.floor((nowMs - timer.deadlineMs) / timer.periodMs);
        timer.deadlineMs += (missed + 1) * timer.periodMs;
        this.#insert(timer);
      }
      fired += 1;
      timer.handler.onTimer(nowMs);
    }
    return fired;
  }

  #forgetCancelled(): void {
    this.#cancelled = 0;
    // In order of their deadlines they are a heap.
    this.#heap = this.#heap.filter((timer) => !timer.cancelled).sort((a, b) => a.deadlineMs - b.deadlineMs);
  }

  #insert(timer: Timer): Timer {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(timer);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (heap[parent].deadlineMs <= timer.deadlineMs) break;
      heap[index] = heap[parent];
      index = parent;
    }
    heap[index] = timer;
    return timer;
  }

  #removeFirst(): Timer {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap[heap.length - 1];
    heap.length -= 1;
    if (heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1].deadlineMs < heap[child].deadlineMs) child += 1;
      if (heap[child].deadlineMs >= last.deadlineMs) break;
      heap[index] = heap[child];
      index = child;
    }
    heap[index] = last;
    return first;
  }
}
