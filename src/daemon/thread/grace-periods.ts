/**
 * Grace periods of the kernel, which the datapath thread asks for and the control thread waits for, in memory that both share:
 *
 *      word 0   marks that were given, wrapping
 *      word 1   the last of them that is past: a grace period has begun and ended after it was given
 *
 * Waiting may take 10 ms and more, which packets cannot. Whoever waits for a mark looks now and then.
 */
import { gracePeriod } from '../../host/index.ts';
import type { Marks } from '../../offload/index.ts';

const WORDS = 2;
const GIVEN = 0;
const PAST = 1;
/** Where the kernel does not tell when programs have ended: far longer than any runs. */
const LONG_MS = 1000;

/** Memory for them. */
export function newGracePeriods(): SharedArrayBuffer {
  return new SharedArrayBuffer(WORDS * 4);
}

/** The datapath thread's end. */
export class GracePeriods implements Marks {
  readonly #words: Int32Array;
  readonly #ask: () => void;

  /** @param ask have the control thread wait for one */
  constructor(memory: SharedArrayBuffer, ask: () => void) {
    this.#words = new Int32Array(memory);
    this.#ask = ask;
  }

  mark(): number {
    const mark = (Atomics.add(this.#words, GIVEN, 1) + 1) | 0;
    this.#ask();
    return mark;
  }

  isPast(mark: number): boolean {
    return ((Atomics.load(this.#words, PAST) - mark) | 0) >= 0;
  }
}

/** The control thread's end. */
export class GraceWaiter {
  readonly #words: Int32Array;
  #waits = false;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
  }

  /** Wait for a grace period on a thread aside. Those who ask meanwhile share the next. */
  wait(): void {
    const given = Atomics.load(this.#words, GIVEN);
    if (this.#waits || given === Atomics.load(this.#words, PAST)) return;
    this.#waits = true;
    const past = () => {
      Atomics.store(this.#words, PAST, given);
      this.#waits = false;
      this.wait();
    };
    gracePeriod((isTold) => {
      if (isTold) past();
      else setTimeout(past, LONG_MS).unref();
    });
  }
}
