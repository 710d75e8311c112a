/**
 * Which programs and tables there are. When flows ask for another mask or shape, or for more room, the next programs are made, and then put in the place
 * of the former, which go on until then:
 *
 *      at rest -- a change is due --> making -- other tables --> made -- larger ones --> filling -- all is copied --> put in place, at rest
 *                                        `-- the same tables ----------- or empty ones -----------------------------^
 *
 * Programs and maps are made in a workshop, mostly on another thread, and tables are filled some entries at a time, so that packets of this thread never
 * wait for either. Flows come and go all the while. Changes are gathered, and making programs takes a bounded part of the time.
 */
import type { Shape } from '../actions/shape.ts';
import type { ConnectionReferences } from '../connections/maps.ts';
import type { CopyMaps } from '../copies/layout.ts';
import type { HashSecrets } from '../layout/hash.ts';
import { MAXIMUM_KEY_WORDS, MAXIMUM_MASKS, MAXIMUM_PARAMETER_WORDS, MAXIMUM_SHAPES } from '../layout/limits.ts';
import { MappedTables } from '../layout/mapped-tables.ts';
import type { OffloadMaps } from '../layout/maps.ts';
import { TableSizes } from '../layout/sizes.ts';
import { LoadedProgram, type Refused } from '../program/load.ts';
import { type ProgramPlan, tracks } from '../program/plan.ts';
import { atOnce, discard, type Job, type Made, type ProgramDraft, type Workshop } from '../workshop/workshop.ts';
import type { FormerTables } from './former-tables.ts';
import type { HookState, MaskWords } from './hook-state.ts';
import type { Numbered, Numbers } from './numbers.ts';
import type { Placement } from './placement.ts';
import { TableCopy } from './table-copy.ts';

/** What is to be attached and pinned from now on. */
export interface Installation {
  /** Maps of all programs, and whether they are others than before: then both programs are new. */
  readonly maps: OffloadMaps;
  readonly newMaps: boolean;
  /** The program of each hook that is in use: all of them, changed or not. */
  readonly programs: readonly LoadedProgram[];
  /** Of these, the ones to be attached in the place of the former. */
  readonly changed: readonly LoadedProgram[];
}

export interface ProgramsOptions {
  readonly nowMs: () => number;
  /**
   * Put programs in the place of those before, on all ports. When it throws, the former stay in use.
   * @throws whatever went wrong; it comes out of FlowOffload.poll
   */
  install(installation: Installation): void;
  /** Whether tables may begin anew: nothing of a former process's flows is left in them. */
  mayBeginAnew(): boolean;
  /** Tables have begun anew: flows are to be put again. */
  begunAnew(): void;
  /** No program could be made for a hook: its ports have to run on the engine. */
  refused(refusal: Refused): void;
  /** The verifier takes programs, but not with a stage for copies: from now on they have none. */
  copiesRefused(refusal: Refused): void;
  /** Where programs and tables are made. */
  readonly workshop: Workshop;
  /** Entries that are copied in one step. */
  readonly stepEntries: number;
  readonly clock: ProgramPlan['clock'];
  readonly stages?: ProgramPlan['stages'];
  readonly observe?: ProgramPlan['observe'];
  /** Entries to begin with, and those that tables may have at most. */
  readonly initialEntries: number;
  readonly maximumEntries: number;
}

/** Changes are gathered this long, in milliseconds. */
const GATHER_MS = 2;
/** Making programs takes at most one part in so many of the time. */
const SHARE = 5;
/** How long nothing is made after something could not be, in milliseconds. */
const PAUSE_MS = 500;
/** How long former programs and tables are kept. */
const RETIRE_MS = 1000;
/** How often the order of masks is looked at. */
const ORDER_MS = 2000;
/** Tables of which less than one part in so many was used at so many looks in turn begin anew, smaller. */
const SPARE_SHARE = 16;
const SPARE_CHECKS = 5;
/**
 * Masks and shapes without entries stay in the program until they were found so this many times: flows often go together, and come again soon, and a
 * program costs more than a look-up that finds nothing.
 */
const IDLE_CHECKS = 5;
/** How often there is something to do while something is made or filled, in milliseconds, and entries of former tables that are looked at in one step. */
const STEP_MS = 1;
const STEP_ENTRIES = 1024;

/** The program of one hook in a change. */
interface Draft {
  readonly state: HookState;
  readonly order: readonly Numbered<MaskWords>[];
  readonly shapes: readonly Numbered<Shape>[];
  readonly draft: ProgramDraft;
}

/** Other programs, or other tables with programs over them. */
interface Change {
  readonly workshop: Workshop;
  readonly begunMs: number;
  /** How long it took to make and to install: tables are filled in the time between others. */
  tookMs: number;
  /** Of other tables; null for programs over the present ones. */
  readonly sizes: TableSizes | null;
  /** Nothing is copied: flows are put anew. */
  readonly beginsAnew: boolean;
  readonly drafts: readonly Draft[];
}

/** What is under way, by its state. */
type Work =
  | { readonly at: 'making'; readonly change: Change; readonly job: Job }
  | { readonly at: 'made'; readonly change: Change; readonly made: Made }
  | { readonly at: 'filling'; readonly change: Change; readonly made: Made; readonly copy: TableCopy };

/** Former programs and tables that may still be in use. */
interface Retired {
  readonly atMs: number;
  /** Close it, or the next part of it. @returns whether all is closed */
  readonly close: () => boolean;
  readonly tables: FormerTables | null;
}

export class Programs {
  /** Programs were changed; for those who show it. */
  installations = 0;
  /** Milliseconds that the last change took. */
  lastMs = 0;
  readonly #placement: Placement;
  readonly #states: readonly HookState[];
  readonly #secrets: HashSecrets;
  readonly #options: ProgramsOptions;
  #copies: CopyMaps | null = null;
  #connections: ConnectionReferences | null = null;
  #dirtySinceMs = -1;
  #notBeforeMs = 0;
  #orderAtMs = 0;
  /** At how many looks in turn tables were found much too large. */
  #spareChecks = 0;
  #work: Work | null = null;
  #retired: Retired[] = [];

  constructor(placement: Placement, states: readonly HookState[], secrets: HashSecrets, options: ProgramsOptions) {
    this.#placement = placement;
    this.#states = states;
    this.#secrets = secrets;
    this.#options = options;
  }

  /** The room that flows want and that there may be; null when tables are as large as wanted or as allowed. */
  #larger(): TableSizes | null {
    const { wanted, tables } = this.#placement;
    const { sizes } = tables.maps;
    const keyWords = wanted.keyWords > sizes.keyWords ? MAXIMUM_KEY_WORDS : sizes.keyWords;
    const parameterWords =
      wanted.parameterWords > sizes.parameterWords ? MAXIMUM_PARAMETER_WORDS : sizes.parameterWords;
    const entries =
      wanted.entries > sizes.entries
        ? Math.min(sizes.entries * (sizes.entries < 1 << 16 ? 4 : 2), this.#options.maximumEntries)
        : sizes.entries;
    Object.assign(wanted, { entries: 0, keyWords: 0, parameterWords: 0 });
    if (keyWords === sizes.keyWords && parameterWords === sizes.parameterWords && entries === sizes.entries)
      return null;
    return new TableSizes({ entries, keyWords, parameterWords, cpus: sizes.cpus });
  }

  /** The sizes that tables begin with again, now that few flows are left in large ones; null when they are used, or were until lately. */
  #smaller(): TableSizes | null {
    if (!this.#isSpare) return null;
    this.#spareChecks = 0;
    const { entries, maps } = this.#placement.tables;
    const { keyWords, parameterWords, cpus } = maps.sizes;
    let wanted = this.#options.initialEntries;
    while (wanted < entries.used * 4) wanted *= 2;
    return new TableSizes({ entries: wanted, keyWords, parameterWords, cpus });
  }

  get #isSpare(): boolean {
    return this.#spareChecks >= SPARE_CHECKS && this.#options.mayBeginAnew();
  }

  /** Whether other tables are being made or filled. */
  get isGrowing(): boolean {
    return this.#work !== null && this.#work.change.sizes !== null;
  }

  /** Whether flows could have more room than there is. */
  get canGrow(): boolean {
    return this.#placement.tables.maps.sizes.entries < this.#options.maximumEntries;
  }

  /**
   * Do what is due.
   * @returns whether programs were changed
   * @throws what `install` throws; Error, SystemError when something cannot be made
   */
  poll(): boolean {
    const nowMs = this.#options.nowMs();
    this.#retire(nowMs);
    if (nowMs >= this.#orderAtMs) this.#checkOrder(nowMs);
    const { entries } = this.#placement.tables;
    if (entries.isReclaiming) entries.reclaim(STEP_ENTRIES);
    const before = this.installations;
    if (this.#work === null && this.#isTime(nowMs)) this.#change();
    else this.#goOn();
    return this.installations !== before;
  }

  /** Whether something is to change, and now. */
  #isTime(nowMs: number): boolean {
    const { wanted } = this.#placement;
    const { sizes } = this.#placement.tables.maps;
    const wantsRoom =
      (wanted.entries > sizes.entries && this.canGrow) ||
      wanted.keyWords > sizes.keyWords ||
      wanted.parameterWords > sizes.parameterWords;
    if (!this.#states.some(isDue) && !wantsRoom && !this.#isSpare) {
      this.#dirtySinceMs = -1;
      return false;
    }
    if (this.#dirtySinceMs < 0) this.#dirtySinceMs = nowMs;
    if (nowMs < this.#dirtySinceMs + GATHER_MS || nowMs < this.#notBeforeMs) return false;
    this.#dirtySinceMs = -1;
    return true;
  }

  /**
   * Programs that make copies of what they carry, or that make none: the others are replaced at once, by this thread itself.
   * @returns whether all programs are so now
   * @throws what `install` throws; then it is tried again by {@link poll}
   */
  setCopies(copies: CopyMaps | null): boolean {
    if (this.#copies !== copies) {
      this.#copies = copies;
      for (const state of this.#states) state.dirty = true;
      this.complete();
    }
    const wanted = copies ?? undefined;
    const runs = this.#states.filter(({ ports, refused }) => ports > 0 && refused === null);
    return runs.every(({ loaded }) => loaded === null || loaded.plan.copies === wanted);
  }

  /** The table by which programs track packets, or null. */
  get connections(): ConnectionReferences | null {
    return this.#connections;
  }

  /** Programs that track packets by a table, or by none: others are made when it is time. @returns whether it is another than before */
  setConnections(connections: ConnectionReferences | null): boolean {
    if (this.#connections === connections) return false;
    this.#connections = connections;
    for (const state of this.#states) state.dirty ||= state.loaded !== null && tracks(state.loaded.plan);
    return true;
  }

  /** Have the programs at once that flows ask for, over the present tables. @returns whether programs were changed @throws as {@link poll} */
  complete(): boolean {
    const before = this.installations;
    this.#abandon();
    if (this.#states.some(isDue)) this.#make(atOnce, null, false);
    return this.installations !== before;
  }

  /** Milliseconds until {@link poll} has something to do, or -1. */
  get waitMs(): number {
    const nowMs = this.#options.nowMs();
    const waits: number[] = [];
    if (this.#work !== null) waits.push(STEP_MS);
    else if (this.#dirtySinceMs >= 0) waits.push(Math.max(this.#dirtySinceMs + GATHER_MS, this.#notBeforeMs) - nowMs);
    else if (this.#states.some(isDue)) waits.push(GATHER_MS);
    if (this.#placement.tables.entries.isReclaiming) waits.push(STEP_MS);
    if (this.#retired.length > 0) waits.push(this.#retired[0].atMs + RETIRE_MS - nowMs);
    return waits.length === 0 ? -1 : Math.max(0, Math.min(...waits));
  }

  /** Have what is due made. @throws as {@link poll} */
  #change(): void {
    const larger = this.#larger();
    const sizes = larger ?? this.#smaller();
    this.#make(this.#options.workshop, sizes, larger === null && sizes !== null);
  }

  /** @param sizes of other tables; null for programs over the present ones */
  #make(workshop: Workshop, sizes: TableSizes | null, beginsAnew: boolean): void {
    const { maps } = this.#placement.tables;
    const states = this.#states.filter(
      ({ ports, refused, dirty }) => ports > 0 && refused === null && (dirty || sizes !== null),
    );
    const drafts = states.map((state) => this.#draft(state));
    const change: Change = { workshop, begunMs: this.#options.nowMs(), tookMs: 0, sizes, beginsAnew, drafts };
    // What comes from now on makes them dirty again.
    for (const { state } of drafts) state.dirty = false;
    try {
      const job = workshop.begin({ maps, sizes, drafts: drafts.map(({ draft }) => draft) });
      this.#work = { at: 'making', change, job };
    } catch (error) {
      this.#fail(change);
      throw error;
    }
    this.#goOn();
  }

  /** Go on with what is under way, as far as it goes now. @throws as {@link poll} */
  #goOn(): void {
    const work = this.#work;
    if (work === null) return;
    if (work.at === 'making') this.#takeMade(work.change, work.job);
    else if (work.at === 'made') this.#beginFilling(work.change, work.made);
    else if (work.copy.step(this.#options.stepEntries)) {
      const { change, made, copy } = work;
      if (copy.finish()) this.#install(change, made, copy.to);
      else {
        discard(made, this.#placement.tables);
        this.#end(change, false);
      }
    }
    // Each state takes some of this thread's time. Who makes everything at once has no more of it later.
    const next = this.#work;
    if (next !== null && next.at !== work.at && next.change.workshop === atOnce) this.#goOn();
  }

  #takeMade(change: Change, job: Job): void {
    let made: Made | null;
    try {
      made = job.take();
    } catch (error) {
      this.#fail(change);
      throw error;
    }
    if (made === null) return;
    change.tookMs = this.#options.nowMs() - change.begunMs;
    if (this.#blame(change, made)) {
      discard(made, this.#placement.tables);
      this.#end(change, false);
      // Once more, with what is left: each time there is less.
      this.#make(change.workshop, change.sizes, change.beginsAnew);
      return;
    }
    if (change.sizes === null) {
      this.#install(change, made, null);
      return;
    }
    this.#work = { at: 'made', change, made };
  }

  #beginFilling(change: Change, made: Made): void {
    const tables = new MappedTables(made.maps, this.#secrets);
    if (change.beginsAnew) this.#install(change, made, tables);
    else {
      const copy = new TableCopy(this.#placement.tables, tables, this.#states);
      this.#work = { at: 'filling', change, made, copy };
    }
  }

  /** Leave out what the verifier has refused. @returns whether it has refused something */
  #blame({ drafts }: Change, { programs }: Made): boolean {
    let isRefused = false;
    for (const [i, { result, copiesRefused }] of programs.entries()) {
      if (copiesRefused !== null) {
        this.#copies = null;
        this.#options.copiesRefused(copiesRefused);
      }
      if (result instanceof LoadedProgram) continue;
      isRefused = true;
      const { state, order, shapes } = drafts[i];
      // What the program that runs does not have is to blame, shapes first.
      const newShapes = shapes.filter(({ running }) => !running);
      const blamed = newShapes.length > 0 ? newShapes : order.filter(({ running }) => !running);
      for (const { id } of blamed) state.bad.add(id);
      if (blamed.length === 0) state.refused = result;
      this.#options.refused(result);
    }
    return isRefused;
  }

  /** Put what was made in the place of the former. @param tables other ones, filled; null for the present ones */
  #install(change: Change, made: Made, tables: MappedTables | null): void {
    const placement = this.#placement;
    const former = placement.tables;
    const { maps } = made;
    const begunMs = this.#options.nowMs();
    const loaded = new Map<HookState, LoadedProgram>();
    for (const [i, { result }] of made.programs.entries()) {
      if (result instanceof LoadedProgram) loaded.set(change.drafts[i].state, result);
    }
    try {
      this.#describe(maps);
      const programs = this.#states.flatMap((state) => {
        // What is not new looks at the present tables, and is of no use with others.
        const present = tables === null && state.ports > 0 && state.refused === null ? state.loaded : null;
        const one = loaded.get(state) ?? present;
        return one === null ? [] : [one];
      });
      const changed = [...loaded.values()];
      if (changed.length > 0) this.#options.install({ maps, newMaps: tables !== null, programs, changed });
    } catch (error) {
      discard(made, former);
      this.#fail(change);
      throw error;
    }
    // It runs: whatever goes wrong from here on, it is not to be put there again.
    this.#work = null;
    if (change.beginsAnew) placement.forget(this.#states);
    const left = tables === null ? null : placement.switchTo(tables);
    if (left !== null) {
      for (const state of this.#states) if (!loaded.has(state)) this.#leave(state);
    }
    for (const { state, order } of change.drafts) this.#installed(state, loaded.get(state) ?? null, order);
    if (left !== null) this.#retireLater(() => former.maps.closeOne(), left);
    if (loaded.size > 0) {
      this.installations += 1;
      // Numbers that nobody has any more may mean something else before the next installation.
      this.#describe(maps);
    }
    change.tookMs += this.#options.nowMs() - begunMs;
    this.#end(change, true);
    if (change.beginsAnew) this.#options.begunAnew();
  }

  #installed(state: HookState, loaded: LoadedProgram | null, order: readonly Numbered<MaskWords>[]): void {
    if (loaded === null) return;
    this.#retireProgram(state);
    state.loaded = loaded;
    state.order = order;
    state.programs += 1;
    for (const mask of state.masks.all()) mask.running = false;
    for (const mask of order) mask.running = true;
    const numbers = new Set(loaded.plan.shapes.map(({ number }) => number));
    for (const shape of state.shapes.all()) shape.running = numbers.has(shape.number);
    state.masks.sweep();
    state.shapes.sweep();
    // Flows that have come meanwhile may have asked for just what it has.
    state.dirty = lacks(state.masks, state.bad) || lacks(state.shapes, state.bad);
    state.dirty ||= loaded.plan.copies !== (this.#copies ?? undefined);
  }

  /** The program of a hook goes with the tables that it looks at; when ports come to the hook again, it gets another. */
  #leave(state: HookState): void {
    if (state.loaded === null) return;
    this.#retireProgram(state);
    state.loaded = null;
    state.dirty = true;
    state.order = [];
    for (const numbers of [state.masks, state.shapes]) for (const one of numbers.all()) one.running = false;
  }

  #retireProgram({ loaded }: HookState): void {
    if (loaded === null) return;
    this.#retireLater(() => {
      loaded.close();
      return true;
    }, null);
  }

  #retireLater(close: () => boolean, tables: FormerTables | null): void {
    this.#retired.push({ atMs: this.#options.nowMs(), close, tables });
  }

  /** Nothing is under way any more. @param isDone otherwise it is still to be done */
  #end({ tookMs, drafts, sizes, beginsAnew }: Change, isDone: boolean): void {
    this.#work = null;
    if (!isDone) {
      for (const { state } of drafts) state.dirty = true;
      if (sizes !== null && !beginsAnew) this.#wantAgain(sizes);
    }
    this.lastMs = tookMs;
    this.#notBeforeMs = this.#options.nowMs() + Math.max(GATHER_MS, this.lastMs * (SHARE - 1));
  }

  /** Flows that ask for more room ask once. */
  #wantAgain(sizes: TableSizes): void {
    const { wanted } = this.#placement;
    wanted.entries = Math.max(wanted.entries, sizes.entries);
    wanted.keyWords = Math.max(wanted.keyWords, sizes.keyWords);
    wanted.parameterWords = Math.max(wanted.parameterWords, sizes.parameterWords);
  }

  /** Something went wrong that has nothing to do with what was to be made: it is tried again, later. */
  #fail(change: Change): void {
    this.#end(change, false);
    this.#notBeforeMs = this.#options.nowMs() + PAUSE_MS;
  }

  /** What is under way is wanted no more. */
  #abandon(): void {
    const work = this.#work;
    if (work === null) return;
    if (work.at === 'making') work.job.abandon();
    else {
      if (work.at === 'filling') work.copy.end();
      discard(work.made, this.#placement.tables);
    }
    this.#end(work.change, false);
  }

  /** The program that a hook is to have. */
  #draft(state: HookState): Draft {
    const order = inProgram(state.masks, MAXIMUM_MASKS, state.bad).sort(
      (a, b) => b.hits - a.hits || a.number - b.number,
    );
    const shapes = inProgram(state.shapes, MAXIMUM_SHAPES, state.bad);
    const { stages, observe, clock } = this.#options;
    const draft: ProgramDraft = {
      hook: state.hook,
      secrets: this.#secrets,
      masks: order.map(({ number, value }) => ({ number, index: value.index, values: value.values })),
      shapes: shapes.map(({ number, value }) => ({ number, shape: value })),
      clock,
      copies: this.#copies,
      ...(this.#connections === null ? {} : { connections: this.#connections }),
      ...(stages === undefined ? {} : { stages }),
      ...(observe === undefined ? {} : { observe }),
    };
    return { state, order, shapes, draft };
  }

  #describe(maps: OffloadMaps): void {
    maps.describe({
      secrets: [...this.#secrets.words],
      masks: this.#states.flatMap(({ hook, masks }) =>
        [...masks.all()].map(({ number, value }) => ({
          number,
          hook,
          words: value.index.map((word, i): [number, number] => [word, value.values[i]]),
        })),
      ),
      shapes: this.#states.flatMap(({ shapes }) =>
        [...shapes.all()].map(({ number, value }) => ({ number, shape: value })),
      ),
    });
  }

  /** Masks that are hit more often shall come first; a little disorder costs less than another program. */
  #checkOrder(nowMs: number): void {
    this.#orderAtMs = nowMs + ORDER_MS;
    const { entries, maps } = this.#placement.tables;
    const isSpare =
      maps.sizes.entries > this.#options.initialEntries && entries.used * SPARE_SHARE < maps.sizes.entries;
    this.#spareChecks = isSpare ? this.#spareChecks + 1 : 0;
    for (const state of this.#states) {
      const { order } = state;
      for (let i = 1; i < order.length; i += 1) {
        if (order[i].hits > order[i - 1].hits * 2 + 1000) state.dirty = true;
      }
      for (const numbers of [state.masks, state.shapes]) {
        for (const one of numbers.all()) {
          if (!one.running) continue;
          one.idle = one.entries > 0 ? 0 : one.idle + 1;
          if (one.idle >= IDLE_CHECKS) state.dirty = true;
        }
      }
      if (!state.dirty) for (const mask of order) mask.hits = Math.floor(mask.hits / 2);
    }
  }

  /** Former programs and tables go when nobody can use them any more, and what they have counted is known. */
  #retire(nowMs: number): void {
    while (this.#retired.length > 0 && this.#retired[0].atMs + RETIRE_MS <= nowMs) {
      const [first] = this.#retired;
      if (first.tables?.foldSome(STEP_ENTRIES) === false) return;
      // Closing takes several turns, and nothing may read them between.
      if (first.tables !== null) this.#placement.leave(first.tables);
      if (!first.close()) return;
      this.#retired.shift();
    }
  }

  /** Close programs and what is kept of former ones. */
  close(): void {
    this.#abandon();
    for (const { close } of this.#retired) while (!close());
    this.#retired = [];
    for (const state of this.#states) {
      state.loaded?.close();
      state.loaded = null;
    }
  }
}

/** What the next program has: all that entries name, and what was named a short time ago where there is room for it. */
function inProgram<T>(numbers: Numbers<T>, most: number, bad: ReadonlySet<string>): Numbered<T>[] {
  const named: Numbered<T>[] = [];
  const idle: Numbered<T>[] = [];
  for (const one of numbers.all()) {
    if (bad.has(one.id)) continue;
    if (one.entries > 0) named.push(one);
    else if (one.running && one.idle < IDLE_CHECKS) idle.push(one);
  }
  return [...named, ...idle.slice(0, Math.max(0, most - named.length))];
}

/** Whether some entry has what the program that runs does not. */
function lacks<T>(numbers: Numbers<T>, bad: ReadonlySet<string>): boolean {
  for (const { entries, running, id } of numbers.all()) if (entries > 0 && !running && !bad.has(id)) return true;
  return false;
}

/** Whether a hook wants another program and can have one. */
function isDue({ dirty, ports, refused }: HookState): boolean {
  return dirty && ports > 0 && refused === null;
}
