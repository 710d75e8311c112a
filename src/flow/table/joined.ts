/**
 * Two tables as one, for whoever runs flows elsewhere: those flows of the first that may run as they are, and all of the second, whose ports have other numbers. A flow of the first may be held
 * back and be offered again while it is there; packets of no other flow notice. That no packet falls to flows of both is the affair of who joins them.
 */
import { type KeyPort, toKeyPort } from '../../net/index.ts';
import { Action } from '../actions/encoding.ts';
import { everyAction } from '../actions/table.ts';
import { KEY_WORDS, Word } from '../key/layout.ts';
import type { FlowObserver } from './contract.ts';
import type { FlowMask } from './mask.ts';
import type { OfferedFlows } from './offered.ts';

/** Where a flow of the joined table comes from. */
const Origin = { OWN: 0, OTHER: 1 } as const;
type Origin = (typeof Origin)[keyof typeof Origin];

const INITIAL_SLOTS = 1024;

export interface JoinedFlowsOptions {
  /** The joined table has its port numbers. */
  readonly own: OfferedFlows;
  /** Whether a flow of it may run as it is; asked when it is put or changed, and by {@link JoinedFlows.look}. */
  mayRun(slot: number): boolean;
  readonly other: OfferedFlows;
  /** The first table's number for a port of the second; -1 for none. */
  numberOf(port: KeyPort): KeyPort | -1;
  /** The second table's number for a port of the first; -1 for none. */
  otherNumberOf(port: KeyPort): KeyPort | -1;
}

/** The slots of one of the two tables. */
class Part {
  readonly table: OfferedFlows;
  /** By its slot: the slot in the joined table, counted from 1; 0 for none. */
  #joined = new Int32Array(INITIAL_SLOTS);

  constructor(table: OfferedFlows) {
    this.table = table;
  }

  /** @returns -1 for none */
  joinedOf(slot: number): number {
    return slot < this.#joined.length ? this.#joined[slot] - 1 : -1;
  }

  /** @param joined -1 for none */
  set(slot: number, joined: number): void {
    if (slot >= this.#joined.length) this.#joined = larger(this.#joined, slot);
    this.#joined[slot] = joined + 1;
  }

  clear(): void {
    this.#joined = new Int32Array(INITIAL_SLOTS);
  }
}

export class JoinedFlows implements OfferedFlows {
  readonly #options: JoinedFlowsOptions;
  readonly #parts: readonly [Part, Part];
  readonly #observers: FlowObserver[] = [];
  /** By slot: the slot in its own table, and twice over which table that is; -1 for none. */
  #sources = new Int32Array(INITIAL_SLOTS).fill(-1);
  #generations = new Int32Array(INITIAL_SLOTS);
  /** By slot: 1 while it is offered. One that is held back keeps its slot, as it may still be counted. */
  #offered = new Uint8Array(INITIAL_SLOTS);
  #end = 0;
  #size = 0;
  readonly #free: number[] = [];
  readonly #asOther = new Uint32Array(KEY_WORDS);
  readonly #stopObserving: readonly (() => void)[];

  constructor(options: JoinedFlowsOptions) {
    const { own, other } = options;
    this.#options = options;
    this.#parts = [new Part(own), new Part(other)];
    const stopOwn = own.observe({
      flowAdded: (slot) => this.look(slot),
      flowModified: (slot) => this.#ownModified(slot),
      flowRemoved: (slot) => this.#removed(Origin.OWN, slot),
      flowsFlushed: () => this.#flushed(Origin.OWN),
      statisticsWanted: (slot) => this.#wanted(Origin.OWN, slot),
    });
    const stopOther = other.observe({
      flowAdded: (slot) => this.#offer(Origin.OTHER, slot),
      flowModified: (slot) => this.#tellModified(this.#parts[Origin.OTHER].joinedOf(slot)),
      flowRemoved: (slot) => this.#removed(Origin.OTHER, slot),
      flowsFlushed: () => this.#flushed(Origin.OTHER),
      statisticsWanted: (slot) => this.#wanted(Origin.OTHER, slot),
    });
    this.#stopObserving = [stopOwn, stopOther];
    for (let slot = own.next(0); slot !== -1; slot = own.next(slot + 1)) this.look(slot);
    for (let slot = other.next(0); slot !== -1; slot = other.next(slot + 1)) this.#offer(Origin.OTHER, slot);
  }

  /** Nobody is told of the two tables any more. */
  close(): void {
    for (const stop of this.#stopObserving) stop();
  }

  // What is told to those who run flows.

  /** Whether a flow of the first table may run may be another answer now. */
  look(slot: number): void {
    const joined = this.#parts[Origin.OWN].joinedOf(slot);
    const isOffered = joined !== -1 && this.#offered[joined] === 1;
    const mayRun = this.#options.mayRun(slot);
    if (mayRun && !isOffered) this.#offer(Origin.OWN, slot);
    if (!mayRun && isOffered) this.#holdBack(joined);
  }

  /** Whether a flow of the first table is offered. */
  offers(slot: number): boolean {
    return this.offeredAs(slot) !== -1;
  }

  /** The slot in the joined table of a flow of the first; -1 while it is not offered. */
  offeredAs(slot: number): number {
    const joined = this.#parts[Origin.OWN].joinedOf(slot);
    return joined !== -1 && this.#offered[joined] === 1 ? joined : -1;
  }

  #ownModified(slot: number): void {
    const wasOffered = this.offers(slot);
    this.look(slot);
    if (wasOffered && this.offers(slot)) this.#tellModified(this.#parts[Origin.OWN].joinedOf(slot));
  }

  #tellModified(joined: number): void {
    for (const observer of this.#observers) observer.flowModified(joined);
  }

  #offer(origin: Origin, slot: number): void {
    const part = this.#parts[origin];
    let joined = part.joinedOf(slot);
    if (joined === -1) {
      joined = this.#take();
      this.#sources[joined] = slot * 2 + origin;
      part.set(slot, joined);
    }
    this.#offered[joined] = 1;
    this.#size += 1;
    for (const observer of this.#observers) observer.flowAdded(joined);
  }

  #holdBack(joined: number): void {
    this.#offered[joined] = 0;
    this.#size -= 1;
    for (const observer of this.#observers) {
      if (observer.flowWithdrawn === undefined) observer.flowRemoved(joined);
      else observer.flowWithdrawn(joined);
    }
  }

  #removed(origin: Origin, slot: number): void {
    const joined = this.#parts[origin].joinedOf(slot);
    if (joined === -1) return;
    try {
      if (this.#offered[joined] === 1) for (const observer of this.#observers) observer.flowRemoved(joined);
    } finally {
      this.#parts[origin].set(slot, -1);
      this.#giveUp(joined);
    }
  }

  #flushed(origin: Origin): void {
    const { table } = this.#parts[origin];
    const others = this.#parts[1 - origin].table;
    if (others.size > 0) {
      for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1)) this.#removed(origin, slot);
      return;
    }
    try {
      for (const observer of this.#observers) observer.flowsFlushed();
    } finally {
      for (const part of this.#parts) part.clear();
      this.#free.length = 0;
      for (let joined = this.#end - 1; joined >= 0; joined -= 1) this.#giveUp(joined);
    }
  }

  #wanted(origin: Origin, slot: number): void {
    const joined = slot === -1 ? -1 : this.#parts[origin].joinedOf(slot);
    if (slot !== -1 && joined === -1) return;
    for (const observer of this.#observers) observer.statisticsWanted?.(joined);
  }

  #take(): number {
    const joined = this.#free.pop() ?? this.#end;
    if (joined < this.#end) return joined;
    this.#end += 1;
    if (joined >= this.#sources.length) {
      const before = this.#sources.length;
      this.#sources = larger(this.#sources, joined).fill(-1, before);
      this.#generations = larger(this.#generations, joined);
      const offered = new Uint8Array(this.#sources.length);
      offered.set(this.#offered);
      this.#offered = offered;
    }
    return joined;
  }

  #giveUp(joined: number): void {
    if (this.#offered[joined] === 1) this.#size -= 1;
    this.#offered[joined] = 0;
    this.#sources[joined] = -1;
    this.#generations[joined] += 1;
    this.#free.push(joined);
  }

  // The table that both are.

  get size(): number {
    return this.#size;
  }

  get slotEnd(): number {
    return this.#end;
  }

  next(slot: number, end: number = this.#end): number {
    const last = Math.min(end, this.#end);
    for (let i = slot; i < last; i += 1) if (this.#offered[i] === 1) return i;
    return -1;
  }

  has(slot: number): boolean {
    return slot >= 0 && slot < this.#end && this.#sources[slot] !== -1;
  }

  generationOf(slot: number): number {
    return this.#generations[slot];
  }

  /** Whether a flow is one of the second table. */
  isOther(slot: number): boolean {
    return (this.#sources[slot] & 1) === Origin.OTHER;
  }

  /** The slot of a flow in its own table. */
  slotIn(slot: number): number {
    return this.#sources[slot] >> 1;
  }

  #tableOf(slot: number): OfferedFlows {
    return this.#parts[this.isOther(slot) ? Origin.OTHER : Origin.OWN].table;
  }

  portOf(slot: number): KeyPort | -1 {
    const port = this.#tableOf(slot).portOf(this.slotIn(slot));
    return this.isOther(slot) && port !== -1 ? this.#options.numberOf(port) : port;
  }

  maskOf(slot: number): FlowMask {
    return this.#tableOf(slot).maskOf(this.slotIn(slot));
  }

  readKey(slot: number, into: Uint32Array): void {
    this.#tableOf(slot).readKey(this.slotIn(slot), into);
    if (this.isOther(slot)) into[Word.IN_PORT] = this.#options.numberOf(toKeyPort(into[Word.IN_PORT]));
  }

  actionsOf(slot: number): Int32Array {
    const actions = this.#tableOf(slot).actionsOf(this.slotIn(slot));
    if (!this.isOther(slot)) return actions;
    everyAction(actions, 0, actions.length, ({ type }, at) => {
      if (type === Action.OUTPUT) actions[at + 1] = this.#options.numberOf(toKeyPort(actions[at + 1]));
    });
    return actions;
  }

  hasActions(slot: number): boolean {
    return this.#tableOf(slot).hasActions(this.slotIn(slot));
  }

  packetsOf(slot: number): number {
    return this.#tableOf(slot).packetsOf(this.slotIn(slot));
  }

  bytesOf(slot: number): number {
    return this.#tableOf(slot).bytesOf(this.slotIn(slot));
  }

  match(key: Uint32Array): number {
    const { own, other, otherNumberOf } = this.#options;
    const slot = own.match(key);
    if (slot !== -1 && this.offers(slot)) return this.#parts[Origin.OWN].joinedOf(slot);
    const asOther = this.#asOther;
    asOther.set(key);
    asOther[Word.IN_PORT] = otherNumberOf(toKeyPort(key[Word.IN_PORT]));
    const found = other.match(asOther);
    return found === -1 ? -1 : this.#parts[Origin.OTHER].joinedOf(found);
  }

  addCounts(slot: number, packets: number, bytes: number, tcpFlags: number, usedMs: number): void {
    this.#tableOf(slot).addCounts(this.slotIn(slot), packets, bytes, tcpFlags, usedMs);
  }

  refreshCounts(slot = -1): void {
    for (const observer of this.#observers) observer.statisticsWanted?.(slot);
  }

  observe(observer: FlowObserver): () => void {
    this.#observers.push(observer);
    return () => this.unobserve(observer);
  }

  unobserve(observer: FlowObserver): void {
    const at = this.#observers.indexOf(observer);
    if (at !== -1) this.#observers.splice(at, 1);
  }
}

/** A copy with room for one more place. */
function larger(array: Int32Array, place: number): Int32Array<ArrayBuffer> {
  const grown = new Int32Array(Math.max(place + 1, array.length * 2));
  grown.set(array);
  return grown;
}
