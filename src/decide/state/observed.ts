/**
 * What decisions rest on. While a decision is made, everything observed that it reads is noted here; when its outcome is kept as a flow, the
 * flow hangs on all of it, and ends as soon as any of it changes. Outside of decisions reading notes nothing.
 * Neighbours: value.ts, table.ts, prefixes.ts, weighted.ts are what can be read.
 */

/** A kept outcome that can end. */
export interface Dependent {
  /** What it rests on has changed. Called once, before the call that changed it returns. */
  end(): void;
}

/** A place that outcomes hang on: a value, an entry, or that there is none. */
export class Anchor {
  /** Grows with each change. */
  version = 0;
  /** For people, such as `denied[10.0.0.0/8]`. */
  readonly name: string;
  #first: Tie | null = null;

  constructor(name: string) {
    this.name = name;
  }

  get isFree(): boolean {
    return this.#first === null;
  }

  /** Note that the decision that is being made rests on this. @param detail what tells one reading from another, for {@link endWhere} */
  read(detail = 0, side = 0): void {
    reading?.push(this, detail, side);
  }

  /** It has changed: whatever hangs on it ends. */
  changed(): void {
    this.endWhere(everything);
  }

  /** It has changed for some of those that read it. */
  endWhere(concerns: (detail: number, side: number) => boolean): void {
    this.version += 1;
    for (let tie = this.#first; tie !== null; ) {
      const next: Tie | null = tie.next;
      if (concerns(tie.detail, tie.side)) endings.push(tie.dependent);
      tie = next;
    }
    finishEndings();
  }

  /** Internal: let an outcome hang on this. */
  tie(dependent: Dependent, detail: number, side: number, nextOfDependent: Tie | null): Tie {
    const tie: Tie = { anchor: this, dependent, detail, side, before: null, next: this.#first, nextOfDependent };
    if (this.#first !== null) this.#first.before = tie;
    this.#first = tie;
    return tie;
  }

  /** Internal. */
  untie(tie: Tie): void {
    if (tie.before === null) this.#first = tie.next;
    else tie.before.next = tie.next;
    if (tie.next !== null) tie.next.before = tie.before;
    this.forgetIfFree();
  }

  /** Internal: when nothing hangs on it, whoever keeps it need not. */
  forgetIfFree(): void {
    if (this.#first === null) this.freed();
  }

  /** Nothing hangs on it. May be called again. */
  protected freed(): void {}
}

/** That an outcome hangs on an anchor. */
export interface Tie {
  readonly anchor: Anchor;
  readonly dependent: Dependent;
  readonly detail: number;
  readonly side: number;
  before: Tie | null;
  next: Tie | null;
  readonly nextOfDependent: Tie | null;
}

function everything(): boolean {
  return true;
}

/** Whose turn it is to end: ends may change things in their turn. */
const endings: Dependent[] = [];
let isEnding = false;

function finishEndings(): void {
  if (isEnding) return;
  isEnding = true;
  try {
    for (let i = 0; i < endings.length; i += 1) endings[i].end();
  } finally {
    endings.length = 0;
    isEnding = false;
  }
}

/** What one decision has read. */
export class Reading {
  readonly #anchors: Anchor[] = [];
  readonly #details: number[] = [];
  readonly #sides: number[] = [];
  readonly #versions: number[] = [];

  get size(): number {
    return this.#anchors.length;
  }

  /** Internal. */
  push(anchor: Anchor, detail: number, side: number): void {
    for (let i = 0; i < this.#anchors.length; i += 1)
      if (this.#anchors[i] === anchor && this.#details[i] === detail && this.#sides[i] === side) return;
    this.#anchors.push(anchor);
    this.#details.push(detail);
    this.#sides.push(side);
    this.#versions.push(anchor.version);
  }

  clear(): void {
    for (const anchor of this.#anchors) anchor.forgetIfFree();
    this.#anchors.length = 0;
    this.#details.length = 0;
    this.#sides.length = 0;
    this.#versions.length = 0;
  }

  /** Whether anything that was read has changed since. */
  get isStale(): boolean {
    for (let i = 0; i < this.#anchors.length; i += 1) if (this.#anchors[i].version !== this.#versions[i]) return true;
    return false;
  }

  /** The names of what was read. */
  names(): string[] {
    return [...new Set(this.#anchors.map(({ name }) => name))];
  }

  /** Let an outcome hang on all of it. @returns what {@link untieAll} takes */
  tieAll(dependent: Dependent): Tie | null {
    let first: Tie | null = null;
    for (let i = 0; i < this.#anchors.length; i += 1)
      first = this.#anchors[i].tie(dependent, this.#details[i], this.#sides[i], first);
    return first;
  }
}

/** An outcome is gone: nothing has to end it any more. */
export function untieAll(first: Tie | null): void {
  for (let tie = first; tie !== null; tie = tie.nextOfDependent) tie.anchor.untie(tie);
}

let reading: Reading | null = null;

/** Whether a decision is being made: what is read now it rests on. */
export function isReading(): boolean {
  return reading !== null;
}

/** Note in `into` what is read while `decide` runs. */
export function whileReading(into: Reading, decide: () => void): void {
  const before = reading;
  reading = into;
  try {
    decide();
  } finally {
    reading = before;
  }
}

/** Run something that is none of the decision's reading, such as an effect. */
export function withoutReading<T>(run: () => T): T {
  const before = reading;
  reading = null;
  try {
    return run();
  } finally {
    reading = before;
  }
}
