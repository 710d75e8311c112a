/**
 * Decisions that are kept: each record becomes a flow, which ends when what it rests on changes, when its time is over, or when it has not been used for a
 * while. Whoever runs flows, the engine or the kernel, does so from the same table; counters of decisions follow what was counted there.
 *
 * What is kept has bounds. Flows: when there are too many that forward, or that drop, the port with the most of them gives up the one that it has used least lately, so that
 * no port takes the place of others. New ones: a port has so many in a second, and what comes beyond is decided about packet by packet. Masks: each costs a look-up for packets that are looked up the long way, so that there is a limit; when it is reached, a port that has
 * fewer than others gets the place of the least used mask of the port that has most, and packets of the others are decided about one by one. Both are counted.
 */
import { FlowError, type FlowKey, FlowTable, KEY_WORDS, PutMode } from '../flow/index.ts';
import type { PortId } from '../net/index.ts';
import type { PlacedDecider } from './decider.ts';
import { Pass, PassKind } from './pass.ts';
import { byKind, Kind, type MaskFlows, PortFlows } from './port-flows.ts';
import { portIn, sourceIn } from './port-number.ts';
import type { DecisionRecord } from './record.ts';
import { type Dependent, type DependentGroup, type Tie, untieAll } from './state/observed.ts';
import type { ObservedPorts } from './state/ports.ts';

/** Bounds of what is kept. */
export interface DecidedFlowsLimits {
  /** Most flows that forward, 100,000 when left out; those that drop have a quarter of it on top. */
  readonly maximumFlows?: number;
  /** Most new flows of a port that forward in a second, and for those that drop a quarter of it; when left out, as many as come. */
  readonly newPerSecond?: number;
  /** Most masks; 64 when left out. */
  readonly maximumMasks?: number;
  /** Flows that are not used for this time go; 10 seconds when left out. */
  readonly idleMs?: number;
}

export interface DecidedFlowsOptions extends DecidedFlowsLimits {
  readonly ports: ObservedPorts;
  /** From the top of the stack. */
  readonly deciders: () => readonly PlacedDecider[];
  /** Milliseconds of the clock that the table's times are of. */
  readonly nowMs: () => number;
  /** Whether packets whose connections decisions ask for are tracked where flows run, and looked up again. Left out: they are not. */
  readonly tracks?: () => boolean;
  /** Reads what every decision about packets of a port rests on, whoever makes it. Left out: nothing. */
  readonly restsOn?: (inPort: PortId) => void;
}

/** What was decided, and why some of it is not kept. */
export interface DecidedFlowsCounters {
  /** Passes through the deciders. */
  decisions: number;
  /** Packets that were decided about one by one: at the wish of a decider, as there are too many masks, as there is no room, and as their port has had its share of new flows. */
  everyPacket: number;
  tooManyMasks: number;
  full: number;
  overShare: number;
  /** Flows that ended because something changed, because their time was over or nobody used them, and to make room. */
  changed: number;
  ended: number;
  exchanged: number;
}

const MAXIMUM_FLOWS = 100_000;
const IDLE_MS = 10_000;

/** Masks that are given up for one. */
const MASK_TRIES = 4;

/** Flows that are looked at in one turn. */
const LOOKED_AT = 1024;

/** Reasons of deciders that are counted apart. */
const MOST_REASONS = 64;

/** Flows that have ended and are cleared away in one turn, and with each new flow. */
const CLEARED_AT_ONCE = 4096;
const CLEARED_FOR_ONE = 4;

/** What is kept of a record besides the flow. */
export type KeptDecision = Pick<DecisionRecord, 'drop' | 'excluded' | 'counters' | 'deciders' | 'tracks'>;

/** What is known of a flow without looking at it. Bits. */
const Kept = { COUNTS: 1, EXCLUDES: 2 } as const;

class KeptFlow implements Dependent, KeptDecision {
  readonly drop: DecisionRecord['drop'];
  readonly excluded: DecisionRecord['excluded'];
  readonly counters: DecisionRecord['counters'];
  readonly deciders: DecisionRecord['deciders'];
  readonly tracks: boolean;
  readonly slot: number;
  readonly port: PortFlows;
  readonly ofMask: MaskFlows;
  readonly kind: 0 | 1;
  readonly madeMs: number;
  readonly dueMs: number;
  tie: Tie | null = null;
  hasEnded = false;
  /** What its counters have been told. */
  packets = 0;
  bytes = 0;
  readonly group: DecidedFlows;

  constructor(
    owner: DecidedFlows,
    record: DecisionRecord,
    slot: number,
    port: PortFlows,
    ofMask: MaskFlows,
    nowMs: number,
  ) {
    this.group = owner;
    this.drop = record.drop;
    this.excluded = record.excluded;
    this.counters = record.counters;
    this.deciders = record.deciders;
    this.tracks = record.tracks;
    this.slot = slot;
    this.port = port;
    this.ofMask = ofMask;
    this.kind = kindOf(record);
    this.madeMs = nowMs;
    this.dueMs = nowMs + record.endsInMs;
  }

  end(): void {
    this.group.endChanged(this);
  }

  bring(): void {
    this.group.bring(this);
  }
}

export class DecidedFlows implements DependentGroup {
  readonly table: FlowTable;
  readonly counters: DecidedFlowsCounters = {
    decisions: 0,
    everyPacket: 0,
    tooManyMasks: 0,
    full: 0,
    overShare: 0,
    changed: 0,
    ended: 0,
    exchanged: 0,
  };
  /** The record of the packet that is decided about by itself. */
  onlyRecord: DecisionRecord | null = null;
  readonly #options: DecidedFlowsOptions;
  readonly #pass: Pass;
  readonly #maximumMasks: number;
  readonly #newPerSecond: readonly [number, number] | null;
  #idleMs = 0;
  /** Most flows, and how many there are, by kind. */
  #maximumFlows: readonly [number, number] = [0, 0];
  readonly #sizes: [number, number] = [0, 0];
  /** By slot. */
  readonly #flows: (KeptFlow | undefined)[] = [];
  /** By slot: bits of {@link Kept}. */
  #kinds = new Uint8Array(1024);
  readonly #ports = new Map<PortId, PortFlows>();
  /** Flows that have ended, and still hang on what they rested on: nothing comes of it any more, and clearing it away can wait. */
  readonly #ended: KeptFlow[] = [];
  readonly #masked = new Uint32Array(KEY_WORDS);
  readonly #reasons = new Map<string, number>();
  #sweepAt = 0;

  constructor(options: DecidedFlowsOptions) {
    this.#options = options;
    this.#maximumMasks = options.maximumMasks ?? 64;
    this.#newPerSecond = options.newPerSecond === undefined ? null : byKind(options.newPerSecond);
    this.limit(options);
    this.table = new FlowTable();
    this.#pass = new Pass(options.ports, options.tracks, options.restsOn);
    this.table.observe({
      flowAdded: () => {},
      flowModified: () => {},
      flowRemoved: (slot) => {
        if ((this.#kinds[slot] & Kept.COUNTS) !== 0) this.#settle(this.#flows[slot]);
      },
      flowsFlushed: () => this.settle(),
    });
  }

  /** Other bounds from now on. Flows that are there stay for as long as they are used. */
  limit({ maximumFlows = MAXIMUM_FLOWS, idleMs = IDLE_MS }: Pick<DecidedFlowsLimits, 'maximumFlows' | 'idleMs'>): void {
    this.#maximumFlows = byKind(maximumFlows);
    this.#idleMs = idleMs;
  }

  /**
   * Decide about a packet that no flow matches.
   * @param frame gives its bytes
   * @returns the slot of its flow, or the actions for it alone: then {@link onlyRecord} says the rest
   * @throws what a decider throws, and DecisionError
   */
  decide(key: FlowKey, frame: (() => Uint8Array) | null): number | Int32Array {
    const record = this.#run(key.words, PassKind.TRANSLATE, frame);
    const slot = this.#keep(key.words, record);
    if (slot !== -1) return slot;
    this.onlyRecord = record;
    for (const counter of record.counters) counter.add(1, frame?.().length ?? 0);
    return record.actions;
  }

  /**
   * Decide about packets with this key without doing anything because of them, and keep it: those that were decided about elsewhere, or before a restart.
   * @param within keep it only when no more is looked at than these bits of a key; null: in any case
   * @param ranTo where they went before a restart, when that is why; else null
   * @returns the slot of the flow; -1 when it is not kept
   */
  recall(key: Uint32Array, within: Uint32Array | null = null, ranTo: readonly PortId[] | null = null): number {
    const record = this.#run(key, PassKind.RECALL, null, ranTo);
    if (within !== null && record.mask.some((bits, word) => (bits & ~within[word]) !== 0)) return -1;
    return this.#keep(key, record);
  }

  /** Decide about a packet for somebody who wants to know. Nothing is kept or done. */
  trace(key: Uint32Array, frame: (() => Uint8Array) | null): DecisionRecord {
    return this.#run(key, PassKind.TRACE, frame);
  }

  #run(
    key: Uint32Array,
    kind: number,
    frame: (() => Uint8Array) | null,
    ranTo: readonly PortId[] | null = null,
  ): DecisionRecord {
    this.counters.decisions += 1;
    return this.#pass.run(key, this.#options.deciders(), kind, frame, ranTo);
  }

  /** Whether copies of packets of a flow do not leave: its record tells which. */
  hasExcluded(slot: number): boolean {
    return (this.#kinds[slot] & Kept.EXCLUDES) !== 0;
  }

  /** What is kept of the flow in a slot. */
  recordOf(slot: number): KeptDecision | null {
    return this.#flows[slot] ?? null;
  }

  /** Packets that are decided about one by one, by the reason that a decider gives. */
  get everyPacketReasons(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#reasons);
  }

  #noteReason(reason: string): void {
    if (this.#reasons.size === MOST_REASONS && !this.#reasons.has(reason)) return;
    this.#reasons.set(reason, (this.#reasons.get(reason) ?? 0) + 1);
  }

  #keep(key: Uint32Array, record: DecisionRecord): number {
    const { counters, table } = this;
    if (record.everyPacket !== null) {
      counters.everyPacket += 1;
      this.#noteReason(record.everyPacket);
      return -1;
    }
    const port = this.#portOf(portIn(sourceIn(key)));
    const kind = kindOf(record);
    const nowMs = this.#options.nowMs();
    if (this.#newPerSecond !== null && !port.takeTurn(kind, nowMs, this.#newPerSecond)) {
      counters.overShare += 1;
      return -1;
    }
    if (!this.#hasRoomForMask(record.mask, port)) {
      counters.tooManyMasks += 1;
      return -1;
    }
    if (!this.#hasRoom(kind)) {
      counters.full += 1;
      return -1;
    }
    const masked = this.#masked;
    const { mask, actions } = record;
    for (let i = 0; i < KEY_WORDS; i += 1) masked[i] = key[i] & mask[i];
    const slot = table.put({ key: masked, mask, actions, ufid: null, mode: PutMode.CREATE, mayOverlap: true });
    if (slot === FlowError.FULL) {
      counters.full += 1;
      return -1;
    }
    if (slot < 0) return -1;
    // Whoever made room may have had the last flow of the port.
    this.#ports.set(port.portId, port);
    const ofMask = port.under(table.maskOf(slot));
    const flow = new KeptFlow(this, record, slot, port, ofMask, nowMs);
    flow.tie = this.#pass.reading.tieAll(flow, mask);
    this.#flows[slot] = flow;
    if (slot >= this.#kinds.length) this.#growKinds(slot);
    this.#kinds[slot] =
      (flow.counters.length === 0 ? 0 : Kept.COUNTS) | (flow.excluded.length === 0 ? 0 : Kept.EXCLUDES);
    port.sizes[kind] += 1;
    this.#sizes[kind] += 1;
    ofMask.size += 1;
    this.#clear(CLEARED_FOR_ONE);
    return slot;
  }

  #growKinds(slot: number): void {
    const larger = new Uint8Array(Math.max(slot + 1, this.#kinds.length * 2));
    larger.set(this.#kinds);
    this.#kinds = larger;
  }

  #portOf(portId: PortId): PortFlows {
    let port = this.#ports.get(portId);
    if (port === undefined) {
      port = new PortFlows(portId);
      this.#ports.set(portId, port);
    }
    return port;
  }

  /** Whether flows of this mask may be kept; if need be, at the cost of a port that has more masks than this one would have. */
  #hasRoomForMask(words: Uint32Array, forPort: PortFlows): boolean {
    const { table } = this;
    if (table.masks.length < this.#maximumMasks || table.masks.some((mask) => mask.equals(words))) return true;
    const own = forPort.masks.size;
    // A mask that others share stays when one of them gives it up.
    for (let tries = 0; tries < MASK_TRIES && table.masks.length >= this.#maximumMasks; tries += 1) {
      let most = own + 1;
      let largest: PortFlows | null = null;
      for (const port of this.#ports.values()) {
        if (port.masks.size > most) {
          most = port.masks.size;
          largest = port;
        }
      }
      if (largest === null) return false;
      this.#giveUpMask(largest);
    }
    return table.masks.length < this.#maximumMasks;
  }

  /** The flows of a port end that are of its least used mask. */
  #giveUpMask(port: PortFlows): void {
    let least: MaskFlows | null = null;
    for (const each of port.masks.values()) if (least === null || each.mask.hits < least.mask.hits) least = each;
    for (const flow of this.#flows) {
      if (flow === undefined || flow.ofMask !== least) continue;
      this.counters.exchanged += 1;
      this.#remove(flow);
    }
  }

  /** Whether a flow of this kind may be kept; if need be, the port with the most of them has one less. */
  #hasRoom(kind: 0 | 1): boolean {
    if (this.#sizes[kind] >= this.#maximumFlows[kind]) this.#makeRoom(kind);
    return this.#sizes[kind] < this.#maximumFlows[kind];
  }

  #makeRoom(kind: 0 | 1): void {
    let largest: PortFlows | null = null;
    for (const port of this.#ports.values())
      if (largest === null || port.sizes[kind] > largest.sizes[kind]) largest = port;
    let oldest: KeptFlow | null = null;
    let usedMs = Number.POSITIVE_INFINITY;
    // Some are enough to find one that is old: looking at all would cost more than a decision.
    let looked = 0;
    for (let slot = this.#next(); slot !== -1 && looked < LOOKED_AT; slot = this.#next(), looked += 1) {
      const flow = this.#flows[slot];
      if (flow === undefined || flow.port !== largest || flow.kind !== kind) continue;
      const used = this.#usedMsOf(flow);
      if (used < usedMs) {
        usedMs = used;
        oldest = flow;
      }
      if (oldest !== null && looked >= LOOKED_AT / 16) break;
    }
    if (oldest === null) return;
    this.counters.exchanged += 1;
    this.#remove(oldest);
  }

  /** The next flow in turn; each call goes on where the last one stopped. */
  #next(): number {
    let slot = this.table.next(this.#sweepAt);
    if (slot === -1) slot = this.table.next(0);
    this.#sweepAt = slot + 1;
    return slot;
  }

  /** Time has passed: flows go that are over or idle. Looks at a part of them; to be called a few times a second. */
  advance(): void {
    this.#clear(CLEARED_AT_ONCE);
    this.table.giveBack();
    const now = this.#options.nowMs();
    const most = Math.min(this.table.size, Math.max(LOOKED_AT, this.table.size >> 3));
    for (let i = 0; i < most; i += 1) {
      const slot = this.#next();
      if (slot === -1) return;
      const flow = this.#flows[slot];
      if (flow === undefined) continue;
      let isOver = flow.dueMs <= now;
      if (!isOver && this.#usedMsOf(flow) + this.#idleMs <= now) {
        this.table.refreshCounts(slot);
        isOver = this.#flows[slot] === flow && this.#usedMsOf(flow) + this.#idleMs <= now;
      }
      // Whoever goes by when packets were counted learns of it in turn.
      this.#settle(this.#flows[slot]);
      if (!isOver || this.#flows[slot] !== flow) continue;
      this.counters.ended += 1;
      this.#remove(flow);
    }
  }

  /** When a flow was last used, or made. */
  #usedMsOf({ slot, madeMs }: KeptFlow): number {
    return Math.max(this.table.usedMsOf(slot), madeMs);
  }

  /** Internal: called by a flow: what was counted for it elsewhere is wanted. */
  bring(flow: KeptFlow): void {
    if (this.#flows[flow.slot] !== flow) return;
    this.table.refreshCounts(flow.slot);
    this.#settle(this.#flows[flow.slot]);
  }

  /** Internal: called by a flow when what it rests on has changed. */
  endChanged(flow: KeptFlow): void {
    if (flow.hasEnded || this.#flows[flow.slot] !== flow) return;
    this.counters.changed += 1;
    this.#remove(flow);
  }

  /** As {@link endChanged}, of many. */
  endMany(dependents: readonly Dependent[]): readonly Dependent[] {
    const others: Dependent[] = [];
    const slots: number[] = [];
    // Each is looked at once: where there are many, most of the time goes by waiting for memory.
    for (const flow of dependents) {
      if (!(flow instanceof KeptFlow) || flow.group !== this) others.push(flow);
      else if (!flow.hasEnded && this.#flows[flow.slot] === flow) {
        slots.push(flow.slot);
        this.#leave(flow);
      }
    }
    this.counters.changed += slots.length;
    try {
      this.table.removeMany(slots);
    } finally {
      for (const slot of slots) this.#flows[slot] = undefined;
    }
    return others;
  }

  /** Flows end of which that is so. */
  endWhere(concerns: (slot: number, kept: KeptDecision) => boolean): void {
    const ending: KeptFlow[] = [];
    for (const flow of this.#flows) if (flow !== undefined && concerns(flow.slot, flow)) ending.push(flow);
    if (ending.length === this.table.size) this.flush();
    else this.endMany(ending);
  }

  #remove(flow: KeptFlow): void {
    try {
      this.table.remove(flow.slot);
    } finally {
      this.#forget(flow);
    }
  }

  #forget(flow: KeptFlow): void {
    this.#flows[flow.slot] = undefined;
    this.#leave(flow);
  }

  /** It counts no longer. */
  #leave(flow: KeptFlow): void {
    const { port, ofMask, kind } = flow;
    flow.hasEnded = true;
    port.sizes[kind] -= 1;
    this.#sizes[kind] -= 1;
    ofMask.size -= 1;
    if (ofMask.size === 0) port.masks.delete(ofMask.mask);
    if (port.size === 0) this.#ports.delete(port.portId);
    if (flow.tie !== null) this.#ended.push(flow);
  }

  /** Clear away what hangs around of flows that have ended. @param most how many of them */
  #clear(most: number): void {
    const ended = this.#ended;
    for (let i = 0; i < most; i += 1) {
      const flow = ended.pop();
      if (flow === undefined) return;
      untieAll(flow.tie);
      flow.tie = null;
    }
  }

  /** All flows end. */
  flush(): void {
    this.#clear(this.#ended.length);
    if (this.table.size === 0) return;
    this.table.flush();
    for (const flow of this.#flows) if (flow !== undefined) this.#forget(flow);
    this.#flows.length = 0;
    this.#clear(this.#ended.length);
  }

  /** All flows end, and no more are decided about. */
  close(): void {
    this.flush();
    this.#pass.reading.clear();
  }

  /** Tell the counters of decisions what was counted until now. @param slot of one flow; left out, of all */
  settle(slot?: number): void {
    if (slot !== undefined) this.#settle(this.#flows[slot]);
    else for (const flow of this.#flows) this.#settle(flow);
  }

  #settle(flow: KeptFlow | undefined): void {
    if (flow === undefined || flow.counters.length === 0) return;
    const packets = this.table.packetsOf(flow.slot);
    if (packets === flow.packets) return;
    const bytes = this.table.bytesOf(flow.slot);
    const usedMs = this.table.usedMsOf(flow.slot);
    for (const counter of flow.counters) counter.add(packets - flow.packets, bytes - flow.bytes, usedMs);
    flow.packets = packets;
    flow.bytes = bytes;
  }
}

function kindOf({ actions }: Pick<DecisionRecord, 'actions'>): 0 | 1 {
  return actions.length === 0 ? Kind.DROPS : Kind.FORWARDS;
}
