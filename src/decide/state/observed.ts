/**
 * What decisions rest on. While a decision is made, everything observed that it reads is noted here; when its outcome is kept as a flow, the
 * flow hangs on all of it, and ends as soon as any of it changes. Outside of decisions reading notes nothing.
 * Neighbours: value.ts, table.ts, prefixes.ts, weighted.ts are what can be read.
 */

/** A kept outcome that can end. */
export interface Dependent {
  /** What it rests on has changed. Called before the call that changed it returns. */
  end(): void;
  /** Ends many at once for less than one by one; left out where nobody can. */
  readonly group?: DependentGroup;
  /** What was counted for it elsewhere until now is brought; left out where nothing is counted. */
  bring?(): void;
}

/** Where outcomes are kept. */
export interface DependentGroup {
  /** As {@link Dependent.end} of each of its own, which have all ended when it throws; one may be named more than once. @returns those of others */
  endMany(dependents: readonly Dependent[]): readonly Dependent[];
}

/** A place that outcomes hang on: a value, an entry, or that there is none. */
export class Anchor {
  /** Grows with each change. */
  version = 0;
  /** Internal: the last round of a reading that it was read in. */
  round = 0;
  #first: Tie | null = null;
  /** Readings that have it: what they lead to may hang on it yet. */
  #readings = 0;

  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
  }

  /** For people, such as `known[02:00:00:00:00:01]`. */
  get name(): string {
    return this.#name;
  }

  /** Note that the decision that is being made rests on this. @param detail what tells one reading from another, for {@link endWhere} */
  read(detail = 0): void {
    reading?.push(this, detail, null);
  }

  /** It has changed: whatever hangs on it ends, and hangs on it no longer. */
  changed(): void {
    this.version += 1;
    for (let tie = this.#first; tie !== null; tie = tie.next) {
      tie.isCut = true;
      endings.push(tie.dependent);
    }
    this.#first = null;
    finishEndings();
  }

  /** It has changed for some of those that read it. */
  endWhere(concerns: (detail: number) => boolean): void {
    this.version += 1;
    for (let tie = this.#first; tie !== null; tie = tie.next) if (concerns(tie.detail)) endings.push(tie.dependent);
    finishEndings();
  }

  /** Have brought what was counted elsewhere for outcomes that hang on it, one after the other. @param isEnough no more of it is wanted */
  bring(isEnough: () => boolean): void {
    for (let tie = this.#first; tie !== null && !isEnough(); tie = tie.next) tie.dependent.bring?.();
  }

  /** Internal: an outcome hangs on this. */
  tie(tie: Tie): void {
    tie.next = this.#first;
    if (this.#first !== null) this.#first.before = tie;
    this.#first = tie;
  }

  /** Internal. */
  untie(tie: Tie): void {
    if (!tie.isCut) {
      if (tie.before === null) this.#first = tie.next;
      else tie.before.next = tie.next;
      if (tie.next !== null) tie.next.before = tie.before;
    }
    this.forgetIfFree();
  }

  /** Internal: a reading has it, or has it no more. */
  heldBy(readings: 1 | -1): void {
    this.#readings += readings;
    this.forgetIfFree();
  }

  /** Internal: when nothing hangs on it, nor may, whoever keeps it need not. */
  forgetIfFree(): void {
    if (this.#first === null && this.#readings === 0) this.freed();
  }

  /** Nothing hangs on it. May be called again. */
  protected freed(): void {}
}

/** The part of all values of a field that an outcome is for: those that begin with these bits. */
export interface Scope {
  /** As FieldValue of field.ts. */
  readonly words: Int32Array;
  readonly bits: number;
}

/** That an outcome hangs on an anchor. */
export interface Tie {
  readonly anchor: Anchor;
  readonly dependent: Dependent;
  readonly detail: number;
  /** Of a field that was looked up; null where no field was. */
  readonly scope: Scope | null;
  /** Its anchor has changed and does not keep it any more. */
  isCut: boolean;
  /** Where its anchor keeps it, for anchors that have more than one place. */
  place: object | null;
  before: Tie | null;
  next: Tie | null;
  readonly nextOfDependent: Tie | null;
}

/** Whose turn it is to end: ends may change things in their turn. */
let endings: Dependent[] = [];
let isEnding = false;

/** So many end at once. */
const MANY = 256;

/** @throws what was thrown first by an end, when all have ended */
function finishEndings(): void {
  if (isEnding) return;
  isEnding = true;
  const failures: unknown[] = [];
  while (endings.length > 0) {
    const ending = endings;
    endings = [];
    if (ending.length >= MANY) endTogether(ending, failures);
    else for (const each of ending) endOne(each, failures);
  }
  isEnding = false;
  if (failures.length > 0) throw failures[0];
}

function endOne(dependent: Dependent, failures: unknown[]): void {
  try {
    dependent.end();
  } catch (error) {
    failures.push(error);
  }
}

/** Those of one group after the other. */
function endTogether(dependents: readonly Dependent[], failures: unknown[]): void {
  for (let rest = dependents; rest.length > 0; ) {
    const [{ group }] = rest;
    if (group !== undefined) rest = endGroup(group, rest, failures);
    else {
      for (const each of rest) if (each.group === undefined) endOne(each, failures);
      rest = rest.filter((each) => each.group !== undefined);
    }
  }
}

function endGroup(group: DependentGroup, dependents: readonly Dependent[], failures: unknown[]): readonly Dependent[] {
  try {
    return group.endMany(dependents);
  } catch (error) {
    failures.push(error);
    // Its own have ended all the same.
    return dependents.filter((dependent) => dependent.group !== group);
  }
}

/** Outcomes end. */
export function endAll(dependents: readonly Dependent[]): void {
  for (const each of dependents) endings.push(each);
  finishEndings();
}

/** A field that can be looked up: see Field. */
export interface LookedUp {
  readonly width: number;
  peek(): ArrayLike<number>;
  /** How many bits of it a mask looks at without a gap, from the highest on. */
  leadingBits(mask: Uint32Array): number;
}

/** One thing that was read. */
interface Read {
  readonly anchor: Anchor;
  readonly version: number;
  readonly detail: number;
  readonly field: LookedUp | null;
  readonly words: Int32Array | null;
}

/** What readings of all decisions have begun, one after the other. */
let rounds = 0;

/** What one decision has read. */
export class Reading {
  #reads: Read[] = [];
  #round = 0;

  /** Internal. */
  push(anchor: Anchor, detail: number, field: LookedUp | null): void {
    if (anchor.round === this.#round) {
      const isKnown = ({ anchor: other, detail: its, field: looked }: Read) =>
        other === anchor && its === detail && looked === field;
      if (this.#reads.some(isKnown)) return;
    }
    anchor.round = this.#round;
    const words =
      field === null ? null : Int32Array.from({ length: Math.ceil(field.width / 32) }, (_, i) => field.peek()[i]);
    this.#reads.push({ anchor, version: anchor.version, detail, field, words });
    anchor.heldBy(1);
  }

  clear(): void {
    rounds += 1;
    this.#round = rounds;
    const reads = this.#reads;
    this.#reads = [];
    for (const { anchor } of reads) anchor.heldBy(-1);
  }

  /** Whether anything that was read has changed since. */
  get isStale(): boolean {
    return this.#reads.some(({ anchor, version }) => anchor.version !== version);
  }

  /** The names of what was read. */
  names(): string[] {
    return [...new Set(this.#reads.map(({ anchor }) => anchor.name))];
  }

  /** Let an outcome hang on all of it. @param mask what it looks at @returns what {@link untieAll} takes */
  tieAll(dependent: Dependent, mask: Uint32Array): Tie | null {
    let first: Tie | null = null;
    for (const { anchor, detail, field, words } of this.#reads) {
      const scope = field === null || words === null ? null : { words, bits: field.leadingBits(mask) };
      first = tieOf(anchor, dependent, detail, scope, first);
      anchor.tie(first);
    }
    return first;
  }
}

function tieOf(
  anchor: Anchor,
  dependent: Dependent,
  detail: number,
  scope: Scope | null,
  nextOfDependent: Tie | null,
): Tie {
  return { anchor, dependent, detail, scope, isCut: false, place: null, before: null, next: null, nextOfDependent };
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

/** A field was looked up in something that keeps ties by what they are for. */
export function readBy(anchor: Anchor, detail: number, field: LookedUp): void {
  reading?.push(anchor, detail, field);
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
