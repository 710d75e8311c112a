/** Turns in which a decider in the stack looks after what time ends. They come by a timer, and where there is none, or it is late, with packets. */
import type { ExtensionHandle, TimerHandle } from '../extension.ts';

/** How often, in milliseconds. Turns begin at multiples of it by the clock, so that one comes with each second. */
const TURN_MS = 250;

export class Turns {
  readonly #handle: ExtensionHandle;
  readonly #run: (nowMs: number) => void;
  #timer: TimerHandle | null = null;
  #dueMs = 0;

  /** @param run looks after it, at a time of the host's clock */
  constructor(handle: ExtensionHandle, run: (nowMs: number) => void) {
    this.#handle = handle;
    this.#run = run;
  }

  start(): void {
    const { host } = this.#handle;
    if (this.#timer !== null || host.setTimer === undefined) return;
    this.#timer = this.#handle.setTimer(TURN_MS - (host.nowMs() % TURN_MS), () => {
      this.#timer = null;
      this.#turn(host.nowMs());
      this.start();
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** Packets have come: a turn that is due is not waited for. */
  passed(nowMs: number): void {
    if (nowMs >= this.#dueMs) this.#turn(nowMs);
  }

  #turn(nowMs: number): void {
    this.#dueMs = (Math.floor(nowMs / TURN_MS) + 1) * TURN_MS;
    this.#run(nowMs);
  }
}
