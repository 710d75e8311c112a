/**
 * Which programs and tables there are. When flows ask for another mask or shape, or for more room, the next programs are made, and then put in the place
 * of the former, which go on until then. Flows come and go all the while. Changes are gathered, and making programs takes a bounded part of the time.
 * Neighbours: hook-program.ts says what programs have, sizing.ts how large tables are, change.ts is what is under way, retired.ts what was replaced.
 */
import type { ConnectionReferences } from '../connections/maps.ts';
import type { CopyMaps } from '../copies/layout.ts';
import type { HashSecrets } from '../layout/hash.ts';
import type { MappedTables } from '../layout/mapped-tables.ts';
import type { OffloadMaps } from '../layout/maps.ts';
import { LoadedProgram, type Refused } from '../program/load.ts';
import { type ProgramPlan, tracks } from '../program/plan.ts';
import { atOnce, discard, type Made, type ProgramDraft, type Workshop } from '../workshop/workshop.ts';
import { describe } from './adopt.ts';
import { Change, type ChangeOrder, type Outcome } from './change.ts';
import {
  type HookProgram,
  isDue,
  isUsed,
  leaveOut,
  nextProgram,
  programBegins,
  programEnds,
  reviewProgram,
} from './hook-program.ts';
import type { HookState } from './hook-state.ts';
import type { Placement } from './placement.ts';
import { Retired } from './retired.ts';
import { type Resizing, Sizing, type SizingOptions } from './sizing.ts';

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

export interface ProgramsOptions extends SizingOptions {
  readonly nowMs: () => number;
  /**
   * Put programs in the place of those before, on all ports. When it throws, the former stay in use.
   * @throws whatever went wrong; it comes out of FlowOffload.poll
   */
  install(installation: Installation): void;
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
}

/** Changes are gathered this long, in milliseconds. */
const GATHER_MS = 2;
/** Making programs takes at most one part in so many of the time. */
const SHARE = 5;
/** How long nothing is made after something could not be, in milliseconds. */
const PAUSE_MS = 500;
/** How often it is looked at whether other programs, or smaller tables, would be better. */
const REVIEW_MS = 2000;
/** How often there is something to do while something is made or filled, in milliseconds. */
const STEP_MS = 1;
/** Numbers of entries that are taken back in one step. */
const RECLAIMED_ENTRIES = 1024;

export class Programs {
  readonly #placement: Placement;
  readonly #states: readonly HookState[];
  readonly #secrets: HashSecrets;
  readonly #options: ProgramsOptions;
  readonly #sizing: Sizing;
  readonly #retired: Retired;
  #copies: CopyMaps | null = null;
  #connections: ConnectionReferences | null = null;
  /** Programs were changed. */
  #installations = 0;
  #dirtySinceMs = -1;
  #notBeforeMs = 0;
  #reviewAtMs = 0;
  #change: Change | null = null;

  constructor(placement: Placement, states: readonly HookState[], secrets: HashSecrets, options: ProgramsOptions) {
    this.#placement = placement;
    this.#states = states;
    this.#secrets = secrets;
    this.#options = options;
    this.#sizing = new Sizing(placement, options);
    this.#retired = new Retired(placement, options.nowMs);
  }

  /** Whether other tables are being made or filled. */
  get isGrowing(): boolean {
    return this.#change !== null && this.#change.order.resizing !== null;
  }

  /** Whether flows could have more room than there is. */
  get canGrow(): boolean {
    return this.#sizing.canGrow;
  }

  /**
   * Do what is due.
   * @returns whether programs were changed
   * @throws what `install` throws; Error, SystemError when something cannot be made
   */
  poll(): boolean {
    const nowMs = this.#options.nowMs();
    this.#retired.poll(nowMs);
    if (nowMs >= this.#reviewAtMs) {
      this.#reviewAtMs = nowMs + REVIEW_MS;
      this.#sizing.look();
      for (const state of this.#states) reviewProgram(state);
    }
    const { entries } = this.#placement.tables;
    if (entries.isReclaiming) entries.reclaim(RECLAIMED_ENTRIES);
    const before = this.#installations;
    if (this.#change === null && this.#isTime(nowMs)) this.#make(this.#options.workshop, this.#sizing.take());
    else this.#goOn();
    return this.#installations !== before;
  }

  /** Whether something is to change, and now. */
  #isTime(nowMs: number): boolean {
    if (!this.#states.some(isDue) && !this.#sizing.isWanted) {
      this.#dirtySinceMs = -1;
      return false;
    }
    if (this.#dirtySinceMs < 0) this.#dirtySinceMs = nowMs;
    if (nowMs < this.#dirtySinceMs + GATHER_MS || nowMs < this.#notBeforeMs) return false;
    this.#dirtySinceMs = -1;
    return true;
  }

  /** Milliseconds until {@link poll} has something to do, or -1. */
  get waitMs(): number {
    const nowMs = this.#options.nowMs();
    const waits: number[] = [this.#retired.waitMs(nowMs)];
    if (this.#change !== null) waits.push(STEP_MS);
    else if (this.#dirtySinceMs >= 0) waits.push(Math.max(this.#dirtySinceMs + GATHER_MS, this.#notBeforeMs) - nowMs);
    else if (this.#states.some(isDue)) waits.push(GATHER_MS);
    if (this.#placement.tables.entries.isReclaiming) waits.push(STEP_MS);
    const waitMs = Math.min(...waits);
    return waitMs === Number.POSITIVE_INFINITY ? -1 : Math.max(0, waitMs);
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
    return this.#states.filter(isUsed).every(({ loaded }) => loaded === null || loaded.plan.copies === wanted);
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
    const before = this.#installations;
    if (this.#change !== null) {
      this.#change.abandon();
      this.#end(this.#change.order, this.#change.madeMs, false);
    }
    if (this.#states.some(isDue)) this.#make(atOnce, null);
    return this.#installations !== before;
  }

  /** @param resizing null for programs over the present tables */
  #make(workshop: Workshop, resizing: Resizing | null): void {
    const states = this.#states.filter((state) => isUsed(state) && (state.dirty || resizing !== null));
    const programs = states.map(nextProgram);
    const order: ChangeOrder = { workshop, resizing, programs, drafts: programs.map((one) => this.#draft(one)) };
    // What comes from now on makes them dirty again.
    for (const state of states) state.dirty = false;
    try {
      this.#change = new Change(order, {
        placement: this.#placement,
        states: this.#states,
        secrets: this.#secrets,
        stepEntries: this.#options.stepEntries,
        nowMs: this.#options.nowMs,
      });
    } catch (error) {
      this.#fail(order, 0);
      throw error;
    }
    this.#goOn();
  }

  #draft({ state, order, shapes }: HookProgram): ProgramDraft {
    const { stages, observe, clock } = this.#options;
    return {
      hook: state.hook,
      secrets: this.#secrets,
      masks: order.map(({ number, value }) => ({ number, index: value.index, values: value.values })),
      shapes: shapes.map(({ number, value }) => ({ number, shape: value })),
      clock,
      copies: this.#copies,
      handsDown: state.handsDown === true,
      ...(this.#connections === null ? {} : { connections: this.#connections }),
      ...(stages === undefined ? {} : { stages }),
      ...(observe === undefined ? {} : { observe }),
    };
  }

  /** Go on with what is under way. @throws as {@link poll} */
  #goOn(): void {
    const change = this.#change;
    if (change === null) return;
    const { order } = change;
    let outcome: Outcome | null;
    try {
      outcome = change.step();
    } catch (error) {
      this.#fail(order, change.madeMs);
      throw error;
    }
    if (outcome === null) return;
    if (change.copiesRefused !== null) {
      this.#copies = null;
      this.#options.copiesRefused(change.copiesRefused);
    }
    if (outcome.kind === 'ready') {
      for (const [i, { refusesHandingDown }] of outcome.made.programs.entries()) {
        if (refusesHandingDown) order.programs[i].state.handsDown = null;
      }
      this.#install(change, outcome.made, outcome.tables);
      return;
    }
    for (const { program, refusal } of outcome.kind === 'refused' ? outcome.programs : []) {
      leaveOut(program, refusal);
      this.#options.refused(refusal);
    }
    this.#end(order, change.madeMs, false);
    // Once more, with what is left: each time there is less.
    if (outcome.kind === 'refused') this.#make(order.workshop, order.resizing);
  }

  /** Put what was made in the place of the former. @param tables other ones, filled; null for the present ones */
  #install({ order, madeMs }: Change, made: Made, tables: MappedTables | null): void {
    const placement = this.#placement;
    const former = placement.tables;
    const { maps } = made;
    const begunMs = this.#options.nowMs();
    const loaded = new Map<HookState, LoadedProgram>();
    for (const [i, { result }] of made.programs.entries()) {
      if (result instanceof LoadedProgram) loaded.set(order.programs[i].state, result);
    }
    try {
      maps.describe(describe(this.#states, this.#secrets));
      const programs = this.#states.flatMap((state) => {
        // What is not new looks at the present tables, and is of no use with others.
        const present = tables === null && isUsed(state) ? state.loaded : null;
        const one = loaded.get(state) ?? present;
        return one === null ? [] : [one];
      });
      const changed = [...loaded.values()];
      if (changed.length > 0) this.#options.install({ maps, newMaps: tables !== null, programs, changed });
    } catch (error) {
      discard(made, former);
      this.#fail(order, madeMs);
      throw error;
    }
    // It runs: whatever goes wrong from here on, it is not to be put there again.
    this.#change = null;
    const beginsAnew = order.resizing?.beginsAnew === true;
    if (beginsAnew) placement.forget(this.#states);
    const left = tables === null ? null : placement.switchTo(tables);
    for (const program of order.programs) {
      const one = loaded.get(program.state);
      if (one !== undefined) this.#begin(program, one);
    }
    if (left !== null) {
      // The program of a hook goes with the tables that it looks at.
      for (const state of this.#states) if (!loaded.has(state)) this.#leave(state);
      this.#retired.addTables(former.maps, left);
    }
    if (loaded.size > 0) {
      this.#installations += 1;
      // Numbers that nobody has any more may mean something else before the next installation.
      maps.describe(describe(this.#states, this.#secrets));
    }
    this.#end(order, madeMs + this.#options.nowMs() - begunMs, true);
    if (beginsAnew) this.#options.begunAnew();
  }

  #begin(program: HookProgram, loaded: LoadedProgram): void {
    const { state } = program;
    if (state.loaded !== null) this.#retired.addProgram(state.loaded);
    programBegins(program, loaded);
    // What has been asked for meanwhile.
    const handsDown = state.handsDown === true && loaded.plan.handsDown !== true;
    state.dirty ||= handsDown || loaded.plan.copies !== (this.#copies ?? undefined);
  }

  #leave(state: HookState): void {
    if (state.loaded === null) return;
    this.#retired.addProgram(state.loaded);
    programEnds(state);
  }

  /** Nothing is under way any more. @param isDone otherwise it is still to be done */
  #end({ programs, resizing }: ChangeOrder, tookMs: number, isDone: boolean): void {
    this.#change = null;
    if (!isDone) {
      for (const { state } of programs) state.dirty = true;
      if (resizing !== null) this.#sizing.giveBack(resizing);
    }
    this.#notBeforeMs = this.#options.nowMs() + Math.max(GATHER_MS, tookMs * (SHARE - 1));
  }

  /** Something went wrong that has nothing to do with what was to be made: it is tried again, later. */
  #fail(order: ChangeOrder, tookMs: number): void {
    this.#end(order, tookMs, false);
    this.#notBeforeMs = this.#options.nowMs() + PAUSE_MS;
  }

  /** Close programs and what is kept of former ones. */
  close(): void {
    this.#change?.abandon();
    this.#change = null;
    this.#retired.close();
    for (const state of this.#states) {
      state.loaded?.close();
      state.loaded = null;
    }
  }
}
