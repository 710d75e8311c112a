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
import { followContinuations } from './continuations.ts';
import { ownClasses } from './modules/rooms.ts';
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
  /**
   * Told of damage that was done outside of every call.
   * @param name of the extension that has done it; null when that is not known
   * @returns number of the extension that must have done it; 0 when that is not known
   */
  onOutside: (what: string, name: string | null) => number = () => 0;
  /** Damage that was found when Node's turn ended, and whose it is. */
  #found: { readonly by: number; readonly what: string } | null = null;
  /** What cannot be put back, and which extension has done it: the thread ends with its next turn. */
  #fatal: { readonly by: number; readonly what: string } | null = null;
  /** Made when the first module of a user's comes: nothing is looked at before. */
  #shared: SharedObjects | null = null;
  #lastContinued: () => number = () => 0;

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

  /** The extension with a number; null for none. */
  nameOf(number: number): string | null {
    for (const [name, known] of this.#numbers) if (known === Math.abs(number)) return name;
    return null;
  }

  /** The extension that has thrown what nobody has caught, outside of every call; null when that is not known. */
  get thrower(): string | null {
    return this.nameOf(this.record[ENTERED] || this.#lastContinued());
  }

  spoilt(by: number): string | null {
    return this.#shared === null ? null : this.#judge(this.#shared.spoilt(), by);
  }

  /** Node's turn is over, in which an extension has gone on. What it has changed is put back before anything else runs. */
  #lookAfter(by: number): void {
    try {
      const what = this.#shared?.repair() ?? null;
      if (what !== null) this.#found = { by, what };
      if (what !== null && this.#shared?.lasts === true) this.#fatal ??= { by, what };
    } catch {
      // It is looked at again with the next turn of the switch.
    }
  }

  /** Look at all that is shared, now and then. */
  look(): void {
    if (this.#shared !== null) this.#judge(this.#shared.repair(), 0);
  }

  #judge(what: string | null, by: number): string | null {
    if (what === null) return null;
    const culprit = by === 0 ? this.onOutside(what, null) : Math.abs(by);
    if (culprit !== 0 && this.#shared?.lasts === true) this.#fatal ??= { by: culprit, what };
    return what;
  }

  /** Load code of a user's under the name of its extension. @throws what it throws; Error when it has changed what all code shares */
  load<T>(name: string, load: () => T): T {
    if (this.#shared === null) {
      this.#shared = new SharedObjects(ownClasses());
      this.#lastContinued = followContinuations(this.record, (by) => this.#lookAfter(by));
    }
    // What is found now others have done.
    this.look();
    const number = this.numberOf(name);
    const before = this.record[ENTERED];
    this.record[ENTERED] = -number;
    let spoilt: string | null = null;
    let loaded: T;
    try {
      loaded = load();
    } finally {
      this.record[ENTERED] = before;
      spoilt = this.#judge(this.#shared.repair(), number);
    }
    if (spoilt !== null) throw new Error(spoilt);
    return loaded;
  }

  /** A turn of the loop begins. @throws Error for damage that cannot be put back: whoever is in then is to blame */
  turn(): void {
    this.record[TURNS] += 1;
    // Nothing is entered between two turns, whatever has thrown.
    this.record[ENTERED] = 0;
    if (this.#found !== null) {
      const { by, what } = this.#found;
      this.#found = null;
      this.onOutside(what, this.nameOf(by));
    }
    if (this.#fatal !== null) throw this.causeOf(new Error(this.#fatal.what));
  }

  /** Why the thread ends: by what cannot be put back, when there is such a thing, whatever has thrown over it. Who has done it is in then. */
  causeOf(error: unknown): unknown {
    if (this.#fatal === null) return error;
    this.record[ENTERED] = this.#fatal.by;
    return new Error(this.#fatal.what);
  }

  /** The loop goes to sleep, or wakes up. */
  sleeps(asleep: boolean): void {
    this.record[ASLEEP] = asleep ? 1 : 0;
  }
}
