/**
 * One change of programs, and of tables with them, from the order to the workshop until all is there that is to be put in place:
 *
 *      making -- other tables --> made -- larger ones --> filling -- all is copied --> ready
 *         `-- the same tables ----------- or empty ones ---------------------------------^
 *
 * Making is the workshop's, mostly on another thread, and tables are filled some entries at a time: no step takes long. Neighbours: programs.ts takes the
 * steps and puts in place what comes of them, table-copy.ts fills tables.
 */
import type { HashSecrets } from '../layout/hash.ts';
import { MappedTables } from '../layout/mapped-tables.ts';
import { LoadedProgram, type Refused } from '../program/load.ts';
import { atOnce, discard, type Job, type Made, type ProgramDraft, type Workshop } from '../workshop/workshop.ts';
import type { HookProgram } from './hook-program.ts';
import type { HookState } from './hook-state.ts';
import type { Placement } from './placement.ts';
import type { Resizing } from './sizing.ts';
import { TableCopy } from './table-copy.ts';

/** What is to change. */
export interface ChangeOrder {
  readonly workshop: Workshop;
  /** Of other tables; null for programs over the present ones. */
  readonly resizing: Resizing | null;
  readonly programs: readonly HookProgram[];
  /** The same, as the workshop wants them. */
  readonly drafts: readonly ProgramDraft[];
}

/** What changes are made from. */
export interface ChangeSurroundings {
  readonly placement: Placement;
  readonly states: readonly HookState[];
  readonly secrets: HashSecrets;
  /** Entries that are copied in one step. */
  readonly stepEntries: number;
  readonly nowMs: () => number;
}

/** A program that the verifier does not take. */
export interface RefusedProgram {
  readonly program: HookProgram;
  readonly refusal: Refused;
}

/** What came of a change. */
export type Outcome =
  /** It is there, and the caller's. `tables` are other ones, filled; null for the present ones. */
  | { readonly kind: 'ready'; readonly made: Made; readonly tables: MappedTables | null }
  /** The verifier does not take some of the programs; nothing is left of the others. */
  | { readonly kind: 'refused'; readonly programs: readonly RefusedProgram[] }
  /** Flows that came meanwhile have found no place in the new tables; nothing is left of them. */
  | { readonly kind: 'full' };

type Work =
  | { readonly at: 'making'; readonly job: Job }
  | { readonly at: 'made'; readonly made: Made; readonly resizing: Resizing }
  | { readonly at: 'filling'; readonly made: Made; readonly copy: TableCopy }
  | { readonly at: 'over' };

const OVER: Work = { at: 'over' };

export class Change {
  readonly order: ChangeOrder;
  /** Milliseconds that it took to make: tables are filled in the time between others. */
  madeMs = 0;
  /** Why programs make no copies, though they were to: with them the verifier does not take some. Known when all is made. */
  copiesRefused: Refused | null = null;
  readonly #from: ChangeSurroundings;
  readonly #begunMs: number;
  #work: Work;

  /** @throws Error, SystemError when it is known at once that something cannot be made */
  constructor(order: ChangeOrder, from: ChangeSurroundings) {
    this.order = order;
    this.#from = from;
    this.#begunMs = from.nowMs();
    const { workshop, resizing, drafts } = order;
    const job = workshop.begin({ maps: from.placement.tables.maps, sizes: resizing?.sizes ?? null, drafts });
    this.#work = { at: 'making', job };
  }

  /**
   * Go on, as far as it goes now.
   * @returns null while it is under way
   * @throws Error, SystemError when something cannot be made; then nothing is left of it
   */
  step(): Outcome | null {
    const { at } = this.#work;
    const outcome = this.#step();
    // Each state takes some of this thread's time. Who makes everything at once has no more of it later.
    const goesOn = outcome === null && this.#work.at !== at && this.order.workshop === atOnce;
    return goesOn ? this.step() : outcome;
  }

  #step(): Outcome | null {
    const work = this.#work;
    switch (work.at) {
      case 'making':
        return this.#take(work.job);
      case 'made':
        return this.#fill(work.made, work.resizing);
      case 'filling':
        if (!work.copy.step(this.#from.stepEntries)) return null;
        if (work.copy.finish()) return this.#ready(work.made, work.copy.to);
        this.#discard(work.made);
        return { kind: 'full' };
      case 'over':
        return null;
    }
  }

  #take(job: Job): Outcome | null {
    let made: Made | null;
    try {
      made = job.take();
    } catch (error) {
      this.#work = OVER;
      throw error;
    }
    if (made === null) return null;
    this.madeMs = this.#from.nowMs() - this.#begunMs;
    for (const { copiesRefused } of made.programs) this.copiesRefused ??= copiesRefused;
    const programs = made.programs.flatMap(({ result }, i) =>
      result instanceof LoadedProgram ? [] : [{ program: this.order.programs[i], refusal: result }],
    );
    if (programs.length > 0) {
      this.#discard(made);
      return { kind: 'refused', programs };
    }
    const { resizing } = this.order;
    if (resizing === null) return this.#ready(made, null);
    this.#work = { at: 'made', made, resizing };
    return null;
  }

  #fill(made: Made, { beginsAnew }: Resizing): Outcome | null {
    const { placement, secrets, states } = this.#from;
    const tables = new MappedTables(made.maps, secrets);
    if (beginsAnew) return this.#ready(made, tables);
    this.#work = { at: 'filling', made, copy: new TableCopy(placement.tables, tables, states) };
    return null;
  }

  #ready(made: Made, tables: MappedTables | null): Outcome {
    this.#work = OVER;
    return { kind: 'ready', made, tables };
  }

  #discard(made: Made): void {
    this.#work = OVER;
    discard(made, this.#from.placement.tables);
  }

  /** It is wanted no more. */
  abandon(): void {
    const work = this.#work;
    this.#work = OVER;
    if (work.at === 'making') work.job.abandon();
    if (work.at === 'filling') work.copy.end();
    if (work.at === 'made' || work.at === 'filling') discard(work.made, this.#from.placement.tables);
  }
}
