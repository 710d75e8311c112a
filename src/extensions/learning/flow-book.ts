/**
 * The flows that the learning extension offers: table, records and allowances together, and how long each flow may stay. Neighbours:
 * flow-recorder.ts decides what becomes a flow, flow-terms.ts says what one looks like, flow-records.ts keeps what the table does not.
 */
import { Extraction, extract, FlowError, FlowKey, FlowTable, KEY_WORDS, PutMode } from '../../flow/index.ts';
import type { Packet } from '../../net/index.ts';
import {
  DropReason,
  type ExtensionHandle,
  type ForwardingContext,
  type Shortcut,
  type TimerHandle,
} from '../../switch/index.ts';
import { DueWheel } from './due-wheel.ts';
import { FlowAllowance } from './flow-allowance.ts';
import { type FlowPath, FlowRecords } from './flow-records.ts';
import { flowActions, flowMask } from './flow-terms.ts';
import type { ForwardingDatabase } from './forwarding-database.ts';
import { Deep, Seen, SeenCache } from './seen-cache.ts';

/** Packets that may become flows in a second: whoever floods with new addresses is not to make every packet cost a flow. */
const CONSIDERATIONS_PER_SECOND = 20_000;
/** The same for packets that are dropped: a flood is to cost little more than dropping it. */
const DROP_CONSIDERATIONS_PER_SECOND = 5000;
/** Flows that drop, as a part of those that forward. */
const DROPS_PART = 4;
/** Of our own look-ups there are few. */
const CACHE_ENTRIES = 1024;
const SEEN_ENTRIES = 8192;
const SEEN_DROP_ENTRIES = 2048;

/** How many flows, and for how long. */
export interface FlowSettings {
  /** Most flows that forward; 0 for none at all. Those that drop come on top, a quarter of it at most. */
  readonly maximum: number;
  /** Flows that are not used for this time go. */
  readonly idleSeconds: number;
}

export class FlowBook {
  readonly table: FlowTable;
  readonly forwards: FlowAllowance;
  readonly drops: FlowAllowance;
  /** Grows whenever all flows go, or all of a port. */
  era = 0;
  readonly #handle: ExtensionHandle;
  readonly #database: ForwardingDatabase;
  readonly #idleSeconds: number;
  readonly #records = new FlowRecords();
  readonly #wheel: DueWheel;
  readonly #key = new FlowKey();
  readonly #masked = new Uint32Array(KEY_WORDS);
  #timer: TimerHandle | null = null;
  /** Calls of {@link carried} under way, and which flows are to go behind them: all, or those of ports. */
  #telling = 0;
  #flushLater = false;
  readonly #portsLater = new Map<number, boolean>();

  constructor(handle: ExtensionHandle, database: ForwardingDatabase, { maximum, idleSeconds }: FlowSettings) {
    this.#handle = handle;
    this.#database = database;
    this.#idleSeconds = idleSeconds;
    const mostDrops = Math.floor(maximum / DROPS_PART);
    this.forwards = new FlowAllowance(maximum, CONSIDERATIONS_PER_SECOND, new SeenCache(SEEN_ENTRIES));
    this.drops = new FlowAllowance(mostDrops, DROP_CONSIDERATIONS_PER_SECOND, new SeenCache(SEEN_DROP_ENTRIES));
    this.table = new FlowTable({ maximumFlows: maximum + mostDrops, cacheEntries: CACHE_ENTRIES });
    this.#wheel = new DueWheel(idleSeconds, this.nowSeconds());
    database.onGone = (domain, high, low) => this.#addressGone(domain, high, low);
  }

  nowSeconds(): number {
    return Math.floor(this.#handle.host.nowMs() / 1000);
  }

  /** All flows go, and nothing is looked after any more. */
  close(): void {
    this.flush();
    this.#database.onGone = null;
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** What flows of one kind may take. */
  allowanceOf({ drop }: Shortcut): FlowAllowance {
    return drop === DropReason.NONE ? this.forwards : this.drops;
  }

  /**
   * Told by whoever ran a flow, behind the counts that it added to the table: counters of ports and policies follow, and the
   * source is as young as its last packet.
   */
  carried(slot: number, packets: number, bytes: number): void {
    const shortcut = this.#records.shortcuts[slot] ?? null;
    if (shortcut === null || packets === 0) return;
    const path = this.#records.pathOf(slot);
    // Clocks of others may be a little ahead.
    const second = Math.floor(Math.min(this.table.usedMsOf(slot), this.#handle.host.nowMs()) / 1000);
    this.#records.use(slot, second);
    if (path.portId !== 0 && this.#database.learnsOn(path.sourcePortId)) {
      this.#database.table.renew(path.domain, path.sourceHigh, path.sourceLow, path.sourcePortId, second);
    }
    this.#telling += 1;
    this.#handle.shortcuts.carried(shortcut, path.sourcePortId, path.portId, packets, bytes);
    this.#telling -= 1;
  }

  /** Whether there is a flow for a packet of which more counts than the cache compares. */
  hasFlow(packet: Packet, context: ForwardingContext, nowSeconds: number): boolean {
    const key = this.#key;
    key.begin(context.sourcePortId);
    if (extract(packet, key) !== Extraction.DONE) return false;
    const slot = this.table.match(key.words);
    if (slot !== -1) this.#records.use(slot, nowSeconds);
    return slot !== -1;
  }

  /** Whether this is the flow that had the slot when it was of this generation. */
  is(slot: number, generation: number): boolean {
    return this.table.has(slot) && this.table.generationOf(slot) === generation;
  }

  /** A flow was seen to be used. */
  use(slot: number, nowSeconds: number): void {
    this.#records.use(slot, nowSeconds);
  }

  /**
   * Put a flow for packets like this one, if there is none yet and room for another of its kind.
   * @param portId where they go; for drops where they were to go, or 0 when they rest on no address
   * @param seen where to note it
   */
  add(
    packet: Packet,
    context: ForwardingContext,
    shortcut: Shortcut,
    portId: number,
    seen: SeenCache,
    nowSeconds: number,
  ): void {
    const { table } = this;
    const allowance = this.allowanceOf(shortcut);
    const key = this.#key;
    key.begin(context.sourcePortId);
    if (allowance.isFull || extract(packet, key) !== Extraction.DONE) return;
    const mask = flowMask(shortcut.fields, context.etherType);
    const masked = this.#masked;
    for (let i = 0; i < KEY_WORDS; i += 1) masked[i] = key.words[i] & mask[i];
    const actions = flowActions(shortcut, portId);
    const put = table.put({ key: masked, mask, actions, ufid: null, mode: PutMode.CREATE });
    // What matches already came from a packet like this one.
    const slot = put === FlowError.EXISTS ? table.match(masked) : put;
    if (slot < 0) return;
    if (shortcut.fields === 0) seen.note(slot, table.generationOf(slot));
    else seen.note(Seen.DEEP, shortcut.drop === DropReason.NONE ? Deep.FORWARDED : Deep.DROPPED);
    if (put === FlowError.EXISTS) return;
    allowance.size += 1;
    this.#records.add(slot, pathOf(packet, context, portId), shortcut, nowSeconds);
    this.#look(slot, table.generationOf(slot), nowSeconds);
    this.#timer ??= this.#nextSecond();
  }

  #nextSecond(): TimerHandle {
    const { host } = this.#handle;
    return this.#handle.setTimer(1000 - (host.nowMs() % 1000), () => {
      this.#timer = null;
      this.advance(this.nowSeconds());
      if (this.table.size !== 0) this.#timer = this.#nextSecond();
    });
  }

  /** Time has passed: flows that are idle go, and those of addresses that have aged. */
  advance(nowSeconds: number): void {
    this.settle();
    if (nowSeconds <= this.#wheel.last) return;
    this.forwards.renew();
    this.drops.renew();
    this.#wheel.advance(nowSeconds, (slot, generation) => this.#look(slot, generation, nowSeconds));
  }

  /** Whether a flow may stay, and until when. */
  #look(slot: number, generation: number, nowSeconds: number): void {
    const { table } = this;
    if (!this.is(slot, generation)) return;
    table.refreshCounts(slot);
    const last = this.#lastSecondOfPath(this.#records.pathOf(slot), nowSeconds);
    // Told of what was carried, somebody may have changed something.
    if (!this.is(slot, generation)) return;
    const due = Math.min(this.#records.usedOf(slot) + this.#idleSeconds, last + 1);
    if (due <= nowSeconds) this.#remove(slot);
    else this.#wheel.add(slot, generation, due);
  }

  /** The last second in which all addresses count on which a flow rests. */
  #lastSecondOfPath(path: FlowPath, nowSeconds: number): number {
    if (path.portId === 0) return Number.POSITIVE_INFINITY;
    const last = this.#lastSecondOf(path.domain, path.high, path.low, nowSeconds);
    if (!this.#database.learnsOn(path.sourcePortId)) return last;
    return Math.min(last, this.#lastSecondOf(path.domain, path.sourceHigh, path.sourceLow, nowSeconds));
  }

  /** The last second in which an address counts, with all that was carried from it until now. */
  #lastSecondOf(domain: number, macHigh: number, macLow: number, nowSeconds: number): number {
    const last = this.#database.table.validUntil(domain, macHigh, macLow);
    if (last === -1 || last >= nowSeconds) return last;
    for (const slot of this.#records.from(domain, macHigh, macLow)) {
      if (this.table.has(slot)) this.table.refreshCounts(slot);
    }
    return this.#database.table.validUntil(domain, macHigh, macLow);
  }

  #addressGone(domain: number, macHigh: number, macLow: number): void {
    if (this.table.size === 0) return;
    for (const slot of this.#records.from(domain, macHigh, macLow)) this.#remove(slot);
    for (const slot of this.#records.to(domain, macHigh, macLow)) this.#remove(slot);
  }

  #remove(slot: number): void {
    if (!this.table.has(slot)) return;
    const shortcut = this.#records.shortcuts[slot] ?? null;
    if (shortcut !== null) this.allowanceOf(shortcut).size -= 1;
    // Whoever ran it tells now what it carried at last.
    this.table.remove(slot);
    this.#records.remove(slot);
  }

  /** Do what had to wait while somebody was told what was carried. */
  settle(): void {
    if (this.#telling !== 0) return;
    if (this.#flushLater) this.flush();
    if (this.#portsLater.size === 0) return;
    const ports = [...this.#portsLater];
    this.#portsLater.clear();
    for (const [portId, alsoOut] of ports) this.flushPort(portId, alsoOut);
  }

  /** The flows of what comes in through a port go. @param alsoOut and those of what goes out there */
  flushPort(portId: number, alsoOut: boolean): void {
    this.era += 1;
    // What was refused there may be a flow from now on.
    this.forwards.seen.clear();
    this.drops.seen.clear();
    // The table is being read or changed while it is told what was carried.
    if (this.#telling !== 0) {
      this.#portsLater.set(portId, alsoOut || this.#portsLater.get(portId) === true);
      return;
    }
    for (const slot of this.#records.ofPort(portId, alsoOut)) this.#remove(slot);
  }

  /** All flows go. */
  flush(): void {
    this.era += 1;
    this.forwards.seen.clear();
    this.drops.seen.clear();
    // The table is being read or changed while it is told what was carried.
    this.#flushLater = this.#telling !== 0;
    if (!this.#flushLater) this.#portsLater.clear();
    if (this.#flushLater || this.table.size === 0) return;
    this.table.flush();
    this.forwards.clear();
    this.drops.clear();
    this.#records.clear();
    this.#wheel.clear();
  }
}

/** Who sends to whom by a packet. */
export function pathOf(packet: Packet, context: ForwardingContext, portId: number): FlowPath {
  const { bytes, offset: at } = packet;
  return {
    sourcePortId: context.sourcePortId,
    portId,
    domain: context.vlan,
    sourceHigh: (bytes[at + 6] << 8) | bytes[at + 7],
    sourceLow: (bytes[at + 8] << 24) | (bytes[at + 9] << 16) | (bytes[at + 10] << 8) | bytes[at + 11],
    high: (bytes[at] << 8) | bytes[at + 1],
    low: (bytes[at + 2] << 24) | (bytes[at + 3] << 16) | (bytes[at + 4] << 8) | bytes[at + 5],
  };
}
