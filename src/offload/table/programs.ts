/**
 * Which programs and tables there are: when flows ask for another mask or shape, or for more room, the next programs are made and handed over to be
 * put in the place of the former, while these go on. Changes are gathered, and making programs takes a bounded part of the time.
 */
import type { CopyMaps } from '../copies/layout.ts';
import type { HashSecrets } from '../layout/hash.ts';
import { MAXIMUM_KEY_WORDS, MAXIMUM_MASKS, MAXIMUM_PARAMETER_WORDS, MAXIMUM_SHAPES } from '../layout/limits.ts';
import { OffloadMaps } from '../layout/maps.ts';
import { TableSizes } from '../layout/sizes.ts';
import { FlowTables } from '../layout/tables.ts';
import { LoadedProgram, loadPlan, type Refused } from '../program/load.ts';
import type { ProgramPlan } from '../program/plan.ts';
import type { HookState, MaskWords } from './hook-state.ts';
import type { Numbered, Numbers } from './numbers.ts';
import type { Placement } from './placement.ts';

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
  #dirtySinceMs = -1;
  #notBeforeMs = 0;
  #orderAtMs = 0;
  /** At how many looks in turn tables were found much too large. */
  #spareChecks = 0;
  #retired: { readonly atMs: number; readonly close: () => void; readonly tables: FlowTables | null }[] = [];

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

  /** Whether flows could have more room than there is. */
  get canGrow(): boolean {
    return this.#placement.tables.maps.sizes.entries < this.#options.maximumEntries;
  }

  /**
   * Do what is due.
   * @returns whether programs were changed
   * @throws what `install` throws; SystemError when there is no memory
   */
  poll(): boolean {
    const nowMs = this.#options.nowMs();
    this.#retire(nowMs);
    if (nowMs >= this.#orderAtMs) this.#checkOrder(nowMs);
    const { wanted } = this.#placement;
    const isDirty = this.#states.some(isDue);
    const { sizes } = this.#placement.tables.maps;
    const wantsRoom =
      (wanted.entries > sizes.entries && this.canGrow) ||
      wanted.keyWords > sizes.keyWords ||
      wanted.parameterWords > sizes.parameterWords;
    if (!isDirty && !wantsRoom && !this.#isSpare) {
      this.#dirtySinceMs = -1;
      return false;
    }
    if (this.#dirtySinceMs < 0) this.#dirtySinceMs = nowMs;
    if (nowMs < this.#dirtySinceMs + GATHER_MS || nowMs < this.#notBeforeMs) return false;
    this.#dirtySinceMs = -1;
    try {
      this.#change();
    } finally {
      this.lastMs = this.#options.nowMs() - nowMs;
      this.#notBeforeMs = this.#options.nowMs() + Math.max(GATHER_MS, this.lastMs * (SHARE - 1));
    }
    return true;
  }

  /**
   * Programs that make copies of what they carry, or that make none: the others are replaced at once.
   * @returns whether all programs are so now
   * @throws what `install` throws; then it is tried again by {@link poll}
   */
  setCopies(copies: CopyMaps | null): boolean {
    if (this.#copies !== copies) {
      this.#copies = copies;
      for (const state of this.#states) state.dirty = true;
      if (this.#states.some(isDue)) this.#change();
    }
    const wanted = copies ?? undefined;
    const runs = this.#states.filter(({ ports, refused }) => ports > 0 && refused === null);
    return runs.every(({ loaded }) => loaded === null || loaded.plan.copies === wanted);
  }

  /** Milliseconds until {@link poll} has something to do, or -1. */
  get waitMs(): number {
    const nowMs = this.#options.nowMs();
    const waits: number[] = [];
    if (this.#dirtySinceMs >= 0) waits.push(Math.max(this.#dirtySinceMs + GATHER_MS, this.#notBeforeMs) - nowMs);
    else if (this.#states.some(isDue)) waits.push(GATHER_MS);
    if (this.#retired.length > 0) waits.push(this.#retired[0].atMs + RETIRE_MS - nowMs);
    return waits.length === 0 ? -1 : Math.max(0, Math.min(...waits));
  }

  #change(): void {
    const placement = this.#placement;
    const former = placement.tables;
    const larger = this.#larger();
    const sizes = larger ?? this.#smaller();
    const beginsAnew = larger === null && sizes !== null;
    const used = this.#states.filter(({ ports, refused }) => ports > 0 && refused === null);
    let maps = former.maps;
    let tables: FlowTables | null = null;
    if (sizes !== null) {
      maps = OffloadMaps.create(sizes, former.maps);
      tables = new FlowTables(maps, this.#secrets);
    }
    const made: { state: HookState; loaded: LoadedProgram; order: Numbered<MaskWords>[] }[] = [];
    const drop = () => {
      for (const { loaded } of made) loaded.close();
      if (tables !== null) maps.close(former.maps);
    };
    try {
      for (const state of used) {
        if (!state.dirty && tables === null) continue;
        const result = this.#load(state, maps);
        if (result === null) continue;
        made.push({ state, ...result });
      }
      if (tables !== null && made.length < used.length) {
        drop();
        return;
      }
      if (tables !== null && !beginsAnew && !placement.copyTo(tables, this.#states)) {
        drop();
        return;
      }
      this.#describe(maps);
      const programs = used.flatMap((state) => {
        const loaded = made.find((each) => each.state === state)?.loaded ?? state.loaded;
        return loaded === null ? [] : [loaded];
      });
      const changed = made.map(({ loaded }) => loaded);
      if (changed.length > 0) this.#options.install({ maps, newMaps: tables !== null, programs, changed });
      if (beginsAnew) placement.forget(this.#states);
      if (tables !== null) placement.switchTo(tables);
    } catch (error) {
      drop();
      throw error;
    }
    this.#installed(made, tables === null ? null : former, maps);
    if (beginsAnew) this.#options.begunAnew();
  }

  #installed(
    made: readonly { state: HookState; loaded: LoadedProgram; order: Numbered<MaskWords>[] }[],
    former: FlowTables | null,
    maps: OffloadMaps,
  ): void {
    const atMs = this.#options.nowMs();
    for (const { state, loaded, order } of made) {
      const { loaded: before } = state;
      if (before !== null) this.#retired.push({ atMs, close: () => before.close(), tables: null });
      state.loaded = loaded;
      state.order = order;
      state.refused = null;
      state.dirty = false;
      state.programs += 1;
      for (const mask of state.masks.all()) mask.running = false;
      for (const mask of order) mask.running = true;
      const numbers = new Set(loaded.plan.shapes.map(({ number }) => number));
      for (const shape of state.shapes.all()) shape.running = numbers.has(shape.number);
      state.masks.sweep();
      state.shapes.sweep();
    }
    if (former !== null) this.#retired.push({ atMs, close: () => former.maps.close(maps), tables: former });
    if (made.length === 0) return;
    this.installations += 1;
    // Numbers that nobody has any more may mean something else before the next installation.
    this.#describe(maps);
  }

  /** Make the program of a hook. What the verifier refuses is left out; @returns null when nothing can be left out */
  #load(state: HookState, maps: OffloadMaps): { loaded: LoadedProgram; order: Numbered<MaskWords>[] } | null {
    for (;;) {
      const order = inProgram(state.masks, MAXIMUM_MASKS, state.bad).sort(
        (a, b) => b.hits - a.hits || a.number - b.number,
      );
      const shapes = inProgram(state.shapes, MAXIMUM_SHAPES, state.bad);
      const { stages, observe, clock } = this.#options;
      const plan: ProgramPlan = {
        hook: state.hook,
        maps,
        secrets: this.#secrets,
        masks: order.map(({ number, value }) => ({ number, index: value.index, values: value.values })),
        shapes: shapes.map(({ number, value }) => ({ number, shape: value })),
        clock,
        ...(stages === undefined ? {} : { stages }),
        ...(observe === undefined ? {} : { observe }),
      };
      const result = this.#loadWithCopies(plan);
      if (result instanceof LoadedProgram) return { loaded: result, order };
      // What the program that runs does not have is to blame, shapes first.
      const newShapes = shapes.filter(({ running }) => !running);
      const blamed = newShapes.length > 0 ? newShapes : order.filter(({ running }) => !running);
      for (const { id } of blamed) state.bad.add(id);
      if (blamed.length === 0) {
        state.refused = result;
        state.dirty = false;
      }
      this.#options.refused(result);
      if (blamed.length === 0) return null;
    }
  }

  /** The program of a plan. Copies are what can be left out first. */
  #loadWithCopies(plan: ProgramPlan): LoadedProgram | Refused {
    const copies = this.#copies;
    if (copies === null) return loadPlan(plan);
    const result = loadPlan({ ...plan, copies });
    if (result instanceof LoadedProgram) return result;
    const without = loadPlan(plan);
    if (without instanceof LoadedProgram) {
      this.#copies = null;
      this.#options.copiesRefused(result);
    }
    return without;
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

  #retire(nowMs: number): void {
    while (this.#retired.length > 0 && this.#retired[0].atMs + RETIRE_MS <= nowMs) {
      const { close, tables } = this.#retired[0];
      if (tables !== null) this.#placement.foldFormer(tables);
      close();
      this.#retired.shift();
    }
  }

  /** Count what former tables still count. */
  foldFormer(): void {
    for (const { tables } of this.#retired) if (tables !== null) this.#placement.foldFormer(tables);
  }

  /** Close programs and what is kept of former ones. */
  close(): void {
    for (const { close } of this.#retired) close();
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

/** Whether a hook wants another program and can have one. */
function isDue({ dirty, ports, refused }: HookState): boolean {
  return dirty && ports > 0 && refused === null;
}
