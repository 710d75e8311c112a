/**
 * Putting one flow into the tables of one hook, changing it there, and taking it out. Nothing here makes a system call. What a flow needs
 * beyond what programs and tables have is asked for, and got by programs.ts.
 */
import type { FlowMask, OfferedFlows } from '../../flow/index.ts';
import type { InterfaceIndex } from '../../net/index.ts';
import { compileActions } from '../actions/compile.ts';
import type { CompileContext } from '../actions/contract.ts';
import type { Shape } from '../actions/shape.ts';
import { MAXIMUM_MASKS, MAXIMUM_SHAPES } from '../layout/limits.ts';
import { CountDelta, type MappedTables } from '../layout/mapped-tables.ts';
import type { PortTable } from '../layout/port-table.ts';
import { Order } from '../layout/sizes.ts';
import { type Absence, never, noRoom, WAITS_FOR_TABLES } from './absence.ts';
import type { OrderOptions } from './endings.ts';
import { FormerTables } from './former-tables.ts';
import { HookState, type MaskWords } from './hook-state.ts';
import type { MaskPlan } from './mask-plan.ts';
import type { Numbered } from './numbers.ts';
import { FlowOrder } from './order.ts';

/** Larger tables, if any number is above what there is. */
export interface WantedRoom {
  entries: number;
  keyWords: number;
  parameterWords: number;
}

/** A flow on its way into the tables. */
export interface FlowToPlace {
  readonly slot: number;
  readonly mask: FlowMask;
  readonly plan: MaskPlan;
  /** Bits outside the mask are 0. */
  readonly maskedKey: Uint32Array;
  readonly actions: Int32Array;
  /** Interface of the one port that the flow is for; 0 when it is for several. */
  readonly ifindex: InterfaceIndex | 0;
}

/** How long after it was replaced an entry is read once more, in milliseconds. */
const LATE_MS = 10;

export interface PlacementOptions extends OrderOptions {
  readonly table: OfferedFlows;
  carried?(slot: number, packets: number, bytes: number): void;
}

export class Placement {
  tables: MappedTables;
  readonly ports: PortTable;
  /** What flows have asked for. */
  readonly wanted: WantedRoom = { entries: 0, keyWords: 0, parameterWords: 0 };
  readonly order: FlowOrder;
  readonly #options: PlacementOptions;
  readonly #delta = new CountDelta();
  readonly #words: number[] = [];
  /** Entries that were replaced, whose last packets are still to be counted: entry, slot, generation. */
  #late: [number, number, number][] = [];
  #lateNext: [number, number, number][] = [];
  readonly #former = new Set<FormerTables>();

  constructor(tables: MappedTables, ports: PortTable, options: PlacementOptions) {
    this.tables = tables;
    this.ports = ports;
    this.#options = options;
    this.order = new FlowOrder(tables.entries, ports, options);
  }

  /**
   * Put a flow, or change it.
   * @returns null when it is in the tables now, else why not: then it is not there
   */
  place(state: HookState, flow: FlowToPlace, context: CompileContext): Absence | null {
    state.waiting.delete(flow.slot);
    const absence = this.#place(state, flow, context);
    if (absence !== null) this.#takeOut(state, flow.slot);
    return absence;
  }

  #place(state: HookState, flow: FlowToPlace, context: CompileContext): Absence | null {
    const { plan, slot } = flow;
    const { sizes } = this.tables.maps;
    const compiled = compileActions(flow.actions, flow.maskedKey, flow.mask.words, context);
    if ('reason' in compiled) return never(compiled.reason);
    const { shape, parameters } = compiled;
    if (plan.index.length > sizes.keyWords || parameters.length > sizes.parameterWords) {
      this.wanted.keyWords = Math.max(this.wanted.keyWords, plan.index.length);
      this.wanted.parameterWords = Math.max(this.wanted.parameterWords, parameters.length);
      return WAITS_FOR_TABLES;
    }
    if (state.bad.has(plan.id) || state.bad.has(shape.id)) return never('the verifier does not take its program');
    const mask = this.#mask(state, slot, plan);
    if ('lasts' in mask) return mask;
    const numbered = this.#shape(state, shape);
    if ('lasts' in numbered) return numbered;

    const key = this.#words;
    key.length = plan.index.length;
    for (let i = 0; i < key.length; i += 1) key[i] = (flow.maskedKey[plan.index[i]] & plan.values[i]) >>> 0;
    const { tables } = this;
    const hash = tables.secrets.hash(mask.number, plan.index, key) | 0;
    const current = state.entryOf(slot);
    const there = tables.find(mask.number, hash, key);
    if (there !== 0 && there !== current) {
      if (current !== 0 || tables.slots[there] !== -1) return noRoom('the same packets fall to another flow');
      this.#claim(state, there, slot);
      return this.#change(state, flow, there, mask, numbered, hash, parameters);
    }
    if (current !== 0) {
      if (there === current) return this.#change(state, flow, current, mask, numbered, hash, parameters);
      this.#takeOut(state, slot);
    }
    return this.#add(state, flow, mask, numbered, hash, parameters);
  }

  #mask(state: HookState, slot: number, plan: MaskPlan): Numbered<MaskWords> | Absence {
    const there = state.masks.get(plan.id);
    const isLeaving = state.leaving.has(plan.id);
    if (there !== undefined && there.entries > 0 && !isLeaving) return there;
    const used = HookState.used(state.masks);
    const hasRoom = used < MAXIMUM_MASKS && !isLeaving;
    if (!hasRoom || state.admission?.admits(plan.id, this.#options.table.portOf(slot)) === false) {
      state.isContended = true;
      state.waiting.set(slot, plan.id);
      return noRoom(`${Math.max(used, MAXIMUM_MASKS) + 1} masks, at most ${MAXIMUM_MASKS}`);
    }
    const { index, values } = plan;
    return there ?? state.masks.add(plan.id, { index, values }) ?? noRoom('masks change faster than programs');
  }

  #shape(state: HookState, shape: Shape): Numbered<Shape> | Absence {
    const there = state.shapes.get(shape.id);
    if (there !== undefined && there.entries > 0) return there;
    const used = HookState.used(state.shapes);
    if (used >= MAXIMUM_SHAPES) return noRoom(`${used + 1} kinds of action lists, at most ${MAXIMUM_SHAPES}`);
    return there ?? state.shapes.add(shape.id, shape) ?? noRoom('action lists change faster than programs');
  }

  #use(state: HookState, mask: Numbered<MaskWords>, shape: Numbered<Shape>): void {
    mask.entries += 1;
    shape.entries += 1;
    if (!mask.running || !shape.running) state.dirty = true;
  }

  /** A number for an entry, or 0 with a reason why there is none. */
  #take(): number {
    const { entries } = this.tables;
    const entry = entries.take(this.#options.nowMs());
    if (entry === 0) this.wanted.entries = Math.max(this.wanted.entries, entries.sizes.entries * 2);
    return entry;
  }

  #add(
    state: HookState,
    flow: FlowToPlace,
    mask: Numbered<MaskWords>,
    shape: Numbered<Shape>,
    hash: number,
    parameters: Uint32Array,
  ): Absence | null {
    const { tables } = this;
    const entry = this.#take();
    if (entry === 0) return WAITS_FOR_TABLES;
    const { slot, ifindex } = flow;
    tables.clearCounters(entry);
    tables.entries.write(entry, mask.number, shape.number, Order.WAITS, this.#words, parameters);
    this.#note(entry, slot, hash);
    if (!tables.publish(entry, hash)) {
      tables.entries.kill(entry);
      tables.slots[entry] = -1;
      tables.entries.giveBack(entry);
      this.wanted.entries = Math.max(this.wanted.entries, tables.maps.sizes.entries * 2);
      return WAITS_FOR_TABLES;
    }
    this.order.add(entry, state.hook, ifindex, mask, shape);
    state.setEntry(slot, entry);
    this.#use(state, mask, shape);
    return null;
  }

  #note(entry: number, slot: number, hash: number): void {
    const { tables } = this;
    tables.slots[entry] = slot;
    tables.generations[entry] = this.#options.table.generationOf(slot);
    tables.hashes[entry] = hash;
    tables.keyLengths[entry] = this.#words.length;
  }

  #claim(state: HookState, entry: number, slot: number): void {
    this.tables.slots[entry] = slot;
    this.tables.generations[entry] = this.#options.table.generationOf(slot);
    this.tables.entries.noteChange(entry);
    state.setEntry(slot, entry);
  }

  /** Other actions for an entry: another entry in its place. */
  #change(
    state: HookState,
    { slot, ifindex }: FlowToPlace,
    current: number,
    mask: Numbered<MaskWords>,
    shape: Numbered<Shape>,
    hash: number,
    parameters: Uint32Array,
  ): Absence | null {
    const { tables } = this;
    if (tables.hasActions(current, shape.number, parameters)) return null;
    const entry = this.#take();
    if (entry === 0) return WAITS_FOR_TABLES;
    tables.clearCounters(entry);
    // What was carried goes on being carried, unless programs that run hand it up because they do not know how.
    const isSettled = tables.entries.orderOf(current) === 0 && shape.running;
    tables.entries.write(entry, mask.number, shape.number, isSettled ? 0 : Order.WAITS, this.#words, parameters);
    this.#note(entry, slot, hash);
    tables.index.exchange(hash, current, entry);
    if (!isSettled) this.order.add(entry, state.hook, ifindex, mask, shape);
    this.#use(state, mask, shape);
    this.#lateNext.push([current, slot, tables.generations[entry]]);
    this.#drop(state, current, slot);
    state.setEntry(slot, entry);
    return null;
  }

  /** Take a flow out that stays in the flow table; what was counted goes there first, and what programs count that have just found it a little later. No entry is no error. */
  remove(state: HookState, slot: number): void {
    state.waiting.delete(slot);
    this.#takeOut(state, slot);
  }

  #takeOut(state: HookState, slot: number): void {
    const entry = state.entryOf(slot);
    if (entry === 0) return;
    this.#lateNext.push([entry, slot, this.tables.generations[entry]]);
    this.removeEntry(state, entry, slot);
  }

  /** Take a flow out that is about to leave the flow table: nobody is there later to be counted for. */
  removeGone(state: HookState, slot: number): void {
    state.waiting.delete(slot);
    const entry = state.entryOf(slot);
    if (entry !== 0) this.removeEntry(state, entry, slot);
  }

  /** @param slot -1 for an entry of no flow */
  removeEntry(state: HookState, entry: number, slot: number): void {
    const { tables } = this;
    tables.index.remove(tables.hashes[entry], entry);
    this.#drop(state, entry, slot);
    if (slot !== -1) state.setEntry(slot, 0);
  }

  /** An entry that the index does not name any more. */
  #drop(state: HookState, entry: number, slot: number): void {
    const { tables } = this;
    const mask = state.masks.byNumber(tables.entries.maskOf(entry));
    const shape = state.shapes.byNumber(tables.entries.shapeOf(entry));
    tables.entries.kill(entry);
    this.order.remove(entry);
    if (slot !== -1) this.#fold(state, entry, slot, mask);
    tables.slots[entry] = -1;
    tables.keyLengths[entry] = 0;
    tables.entries.release(entry, this.#options.nowMs());
    if (mask !== undefined) mask.entries -= 1;
    if (shape !== undefined) shape.entries -= 1;
  }

  #fold(state: HookState, entry: number, slot: number, mask?: Numbered<MaskWords>): void {
    const delta = this.#count(this.tables, entry, slot);
    if (delta === null) return;
    const { entries } = this.tables;
    const counted = mask ?? state.masks.byNumber(entries.maskOf(entry));
    if (counted === undefined) return;
    counted.hits += delta.packets;
    counted.packets += delta.packets;
  }

  /** Bring what was counted for an entry to its flow. @returns null when nothing was */
  #count(tables: MappedTables, entry: number, slot: number): CountDelta | null {
    const delta = this.#delta;
    if (!tables.read(entry, delta)) return null;
    const { packets, bytes, tcpFlags, usedMs } = delta;
    this.#options.table.addCounts(slot, packets, bytes, tcpFlags, usedMs);
    this.#options.carried?.(slot, packets, bytes);
    return delta;
  }

  /** A flow is about to leave the flow table, or to be told of: what programs still count for it in tables that were left is its own, too. */
  foldFormerOf(slot: number): void {
    for (const former of this.#former) former.foldFlow(slot);
  }

  /** Bring the counters of one flow. */
  syncFlow(state: HookState, slot: number): void {
    const entry = state.entryOf(slot);
    if (entry !== 0) this.#fold(state, entry, slot);
  }

  /** Entries need not look any more whether packets of their flow are in the engine; the last packets of replaced ones are counted. */
  poll(): void {
    this.order.poll();
    this.#countLate();
    this.#late = this.#lateNext;
    this.#lateNext = [];
  }

  #countLate(): void {
    const { tables } = this;
    const { table } = this.#options;
    for (const [entry, slot, generation] of this.#late) {
      if (table.has(slot) && table.generationOf(slot) === generation) this.#count(tables, entry, slot);
    }
  }

  /** Milliseconds until {@link poll} has something to do, or -1. */
  get waitMs(): number {
    const { waitMs } = this.order;
    return this.#late.length + this.#lateNext.length === 0 ? waitMs : Math.min(LATE_MS, waitMs < 0 ? LATE_MS : waitMs);
  }

  /** No flow has an entry any more, for tables that begin anew: each is to be put again. What is counted until then comes by {@link foldFormer}. */
  forget(states: readonly HookState[]): void {
    const { tables } = this;
    for (let entry = 1; entry < tables.maps.sizes.entries; entry += 1) {
      const slot = tables.slots[entry];
      if (slot === -1) continue;
      // It is a number of these tables, and means something else in others.
      this.order.remove(entry);
      const mask = tables.entries.maskOf(entry);
      const state = states.find(({ masks }) => masks.byNumber(mask) !== undefined);
      const numbered = state?.masks.byNumber(mask);
      const shape = state?.shapes.byNumber(tables.entries.shapeOf(entry));
      if (state === undefined || numbered === undefined || shape === undefined) continue;
      state.setEntry(slot, 0);
      numbered.entries -= 1;
      shape.entries -= 1;
    }
  }

  /**
   * Work with a copy, or with tables that begin anew, from now on.
   * @returns the former tables, which are counted until {@link leave}
   */
  switchTo(tables: MappedTables): FormerTables {
    const { table } = this.#options;
    const former = new FormerTables(this.tables, table, (of, entry, slot) => this.#count(of, entry, slot));
    this.#former.add(former);
    this.#countLate();
    this.#late = this.#lateNext;
    this.#countLate();
    this.#late = [];
    this.#lateNext = [];
    this.tables = tables;
    this.order.switchTo(tables.entries);
    return former;
  }

  /** Count what tables that were left still count. */
  foldFormer(): void {
    for (const former of this.#former) former.fold();
  }

  /** Nobody can use former tables any more, and what they have counted is known. */
  leave(former: FormerTables): void {
    this.#former.delete(former);
  }
}
