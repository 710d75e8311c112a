/**
 * What the control thread can see of the datapath thread at any time, in memory that both share:
 *
 *      word 0   entered: number of the innermost extension that has not returned; 0 for none; negative while its module is loaded
 *      word 1   turns of the event loop, wrapping
 *      word 2   1 while the loop sleeps in epoll_wait
 *
 * The datapath thread stores plain words: each is written by one thread and looked at a few times a second by the other.
 */
import type { EntryRecord } from '../../switch/index.ts';
import { SharedObjects } from './shared-objects.ts';

const WORDS = 3;
const ENTERED = 0;
const TURNS = 1;
const ASLEEP = 2;

/** Memory for a pulse. */
export function newPulse(): SharedArrayBuffer {
  return new SharedArrayBuffer(WORDS * 4);
}

/** The pulse at one moment. */
export interface PulseReading {
  entered: number;
  turns: number;
  asleep: boolean;
}

/** Read it. */
export function readPulse(memory: SharedArrayBuffer): PulseReading {
  const words = new Int32Array(memory);
  return {
    entered: Atomics.load(words, ENTERED),
    turns: Atomics.load(words, TURNS),
    asleep: Atomics.load(words, ASLEEP) === 1,
  };
}

/** The datapath thread's end: it numbers extensions by name, and tells the control thread the names. */
export class Pulse implements EntryRecord {
  readonly record: Int32Array;
  readonly #numbers = new Map<string, number>();
  readonly #announce: (number: number, name: string) => void;
  /** Made when the first module of a user's comes: nothing is looked at before. */
  #shared: SharedObjects | null = null;

  /** @param announce told of each new number before anything runs under it */
  constructor(memory: SharedArrayBuffer, announce: (number: number, name: string) => void) {
    this.record = new Int32Array(memory);
    this.#announce = announce;
  }

  numberOf(name: string): number {
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    const number = this.#numbers.size + 1;
    this.#numbers.set(name, number);
    this.#announce(number, name);
    return number;
  }

  spoilt(): string | null {
    return this.#shared === null ? null : this.#shared.spoilt();
  }

  /** Load code of a user's under the name of its extension. @throws what it throws; Error when it has changed what all code shares */
  load<T>(name: string, load: () => T): T {
    this.#shared ??= new SharedObjects();
    const before = this.record[ENTERED];
    this.record[ENTERED] = -this.numberOf(name);
    let spoilt: string | null = null;
    let loaded: T;
    try {
      loaded = load();
    } finally {
      this.record[ENTERED] = before;
      spoilt = this.#shared.repair();
    }
    if (spoilt !== null) throw new Error(spoilt);
    return loaded;
  }

  /** A turn of the loop begins. */
  turn(): void {
    this.record[TURNS] += 1;
  }

  /** The loop goes to sleep, or wakes up. */
  sleeps(asleep: boolean): void {
    this.record[ASLEEP] = asleep ? 1 : 0;
  }
}
