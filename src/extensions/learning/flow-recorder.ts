/**
 * Writes what becomes of packets into a flow table, for whoever runs flows elsewhere, such as in the kernel: unicast packets between two
 * known addresses, and packets that a rule drops, become flows while they are in use, and flows go as soon as anything changes that they
 * rest on. It exists only where the surroundings have a registry of flows. flow-terms.ts says what a flow looks like, flow-records.ts
 * keeps what the table does not, flow-allowance.ts how many there may be, seen-cache.ts makes packets that come up all the same cheap.
 */
import {
  Extraction,
  extract,
  FlowError,
  FlowKey,
  type FlowRegistration,
  type FlowRegistry,
  type FlowSource,
  FlowTable,
  KEY_WORDS,
  PutMode,
  type RecalledFlow,
} from '../../flow/index.ts';
import { EtherType, type Packet, PacketPool } from '../../net/index.ts';
import {
  DropReason,
  type DropReasonCode,
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
import { RECALLED_BYTES, recalledFrame } from './recalled-frame.ts';
import { Seen, SeenCache } from './seen-cache.ts';

/** Packets that may become flows in a second: whoever floods with new addresses is not to make every packet cost a flow. */
const CONSIDERATIONS_PER_SECOND = 20_000;
/** The same for packets that are dropped: a flood is to cost little more than dropping it. */
const DROP_CONSIDERATIONS_PER_SECOND = 5000;
/** Flows that drop, as a part of those that forward. */
const DROPS_PART = 4;
/** Where drops have spent theirs, one in so many packets is considered that may well be dropped on their way up. A power of two. */
const SAMPLING = 16;
/** Of our own look-ups there are few. */
const CACHE_ENTRIES = 1024;
const SEEN_ENTRIES = 8192;
const SEEN_DROP_ENTRIES = 2048;

/** How packets ended of which deeper headers decide: the stamp of Seen.DEEP. */
const Deep = { FORWARDED: 1, DROPPED: 2 } as const;

/** How many flows, and for how long. */
export interface FlowSettings {
  /** Most flows that forward; 0 for none at all. Those that drop come on top, a quarter of it at most. */
  readonly maximum: number;
  /** Flows that are not used for this time go. */
  readonly idleSeconds: number;
}

export class FlowRecorder implements FlowSource {
  readonly name: string;
  readonly table: FlowTable;
  readonly #handle: ExtensionHandle;
  readonly #database: ForwardingDatabase;
  readonly #settings: FlowSettings;
  readonly #records = new FlowRecords();
  readonly #forwards: FlowAllowance;
  readonly #drops: FlowAllowance;
  readonly #wheel: DueWheel;
  readonly #registration: FlowRegistration;
  /** Flows may go by IP headers. */
  readonly #goesDeep: boolean;
  readonly #stopWatching: (() => void)[];
  readonly #key = new FlowKey();
  readonly #masked = new Uint32Array(KEY_WORDS);
  #timer: TimerHandle | null = null;
  /** For packets that are imagined. */
  #pool: PacketPool | null = null;
  /** Packets that were not considered since one was; see SAMPLING. */
  #skipped = 0;
  /** Grows whenever all flows go. */
  #era = 0;
  /** Calls of {@link carried} under way, and whether all flows are to go behind them. */
  #telling = 0;
  #flushLater = false;

  constructor(handle: ExtensionHandle, database: ForwardingDatabase, registry: FlowRegistry, settings: FlowSettings) {
    this.name = handle.name;
    this.#handle = handle;
    this.#database = database;
    this.#settings = settings;
    const most = settings.maximum;
    const mostDrops = Math.floor(most / DROPS_PART);
    this.#forwards = new FlowAllowance(most, CONSIDERATIONS_PER_SECOND, new SeenCache(SEEN_ENTRIES));
    this.#drops = new FlowAllowance(mostDrops, DROP_CONSIDERATIONS_PER_SECOND, new SeenCache(SEEN_DROP_ENTRIES));
    this.table = new FlowTable({ maximumFlows: most + mostDrops, cacheEntries: CACHE_ENTRIES });
    this.#wheel = new DueWheel(settings.idleSeconds, this.#nowSeconds());
    this.#stopWatching = [
      handle.shortcuts.watch(() => this.flush()),
      handle.shortcuts.watchDrops((packet, context, now) => this.offerDrop(packet, context, 0, DropReason.NONE, now)),
    ];
    database.onGone = (domain, high, low) => this.#addressGone(domain, high, low);
    this.#goesDeep = registry.strict === true;
    this.#registration = registry.register(this);
  }

  #nowSeconds(): number {
    return Math.floor(this.#handle.host.nowMs() / 1000);
  }

  /** Flows end; nothing more is recorded. */
  close(): void {
    this.flush();
    for (const stop of this.#stopWatching) stop();
    this.#database.onGone = null;
    this.#registration.close();
    this.#timer?.cancel();
    this.#timer = null;
  }

  portIdOf(number: number): number {
    return this.#database.hasPort(number) ? number : -1;
  }

  numberOf(portId: number): number {
    return this.#database.hasPort(portId) ? portId : -1;
  }

  portsChanged(): void {
    this.#registration.portsChanged();
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

  /**
   * A flow from before a restart still runs: its addresses are where they were, or its packets would have come up. When packets like these
   * would become the same flow again, they do. Of what was dropped only the part that rests on no addresses.
   */
  recall({ portId, outputPortIds, key }: RecalledFlow): void {
    if (outputPortIds.length > 1) return;
    this.#pool ??= new PacketPool({ packets: 1, bufferBytes: RECALLED_BYTES, headroomBytes: 0 });
    const packet = this.#pool.allocate();
    if (packet === null) return;
    const frame = recalledFrame(key);
    packet.bytes.set(frame, packet.offset);
    packet.length = frame.length;
    try {
      this.#handle.shortcuts.imagine(packet, portId, (context) =>
        this.#recallPacket(packet, context, outputPortIds[0] ?? 0),
      );
    } finally {
      packet.release();
    }
  }

  /** @param portId where it went; 0 when it was dropped */
  #recallPacket(packet: Packet, context: ForwardingContext, portId: number): void {
    const nowSeconds = this.#nowSeconds();
    const { shortcuts } = this.#handle;
    if (portId === 0) {
      const shortcut = shortcuts.considerDrop(packet, DropReason.NONE);
      if (this.#isRecordable(shortcut)) this.#record(packet, context, shortcut, 0, this.#drops.seen, nowSeconds);
      return;
    }
    const { table } = this.#database;
    const path = pathOf(packet, context, portId);
    const { domain } = path;
    if (((path.high | path.sourceHigh) & 0x0100) !== 0) return;
    // What has come up since the restart is younger.
    if (this.#database.learnsOn(portId) && table.lookup(domain, path.high, path.low, nowSeconds) === 0) {
      table.learn(domain, path.high, path.low, portId, 0, nowSeconds);
    }
    const { sourcePortId, sourceHigh, sourceLow } = path;
    if (this.#database.learnsOn(sourcePortId) && table.lookup(domain, sourceHigh, sourceLow, nowSeconds) === 0) {
      table.learn(domain, sourceHigh, sourceLow, sourcePortId, 0, nowSeconds);
    }
    if (!this.#isSettled(packet, context, portId, nowSeconds)) return;
    const shortcut = shortcuts.consider(packet, portId);
    if (this.#isRecordable(shortcut)) this.#record(packet, context, shortcut, portId, this.#forwards.seen, nowSeconds);
  }

  /** Whether there may be a flow, and another of its kind. */
  #isRecordable(shortcut: Shortcut | null): shortcut is Shortcut {
    if (shortcut === null || (shortcut.fields !== 0 && !this.#goesDeep)) return false;
    return !this.#allowanceOf(shortcut).isFull;
  }

  #allowanceOf({ drop }: Shortcut): FlowAllowance {
    return drop === DropReason.NONE ? this.#forwards : this.#drops;
  }

  /** Ask for everything that was carried until now. */
  refresh(): void {
    if (this.table.size !== 0) this.table.refreshCounts(-1);
  }

  /** A packet has its destinations. When it goes to one known address, packets like it may become a flow. */
  offer(packet: Packet, context: ForwardingContext, nowSeconds: number): void {
    if (context.numDestinations !== 1 || (packet.bytes[packet.offset] & 1) !== 0) return;
    const portId = context.destinationPorts[0];
    if (this.#flushLater) this.flush();
    const allowance = this.#forwards;
    const { seen } = allowance;
    const outcome = seen.find(packet.bytes, packet.offset, context);
    if (this.#isKnown(packet, context, seen, outcome, portId, nowSeconds)) return;
    if (allowance.isSpent) return;
    if (outcome === Seen.DEEP && seen.stamp === Deep.DROPPED && this.#drops.isSpent) {
      this.#skipped = (this.#skipped + 1) & (SAMPLING - 1);
      if (this.#skipped !== 0) return;
    }
    if (!this.#isSettled(packet, context, portId, nowSeconds)) return;
    const era = this.#era;
    const shortcut = this.#handle.shortcuts.consider(packet, portId);
    const isDrop = shortcut !== null && shortcut.drop !== DropReason.NONE && this.#drops.considerationsLeft > 0;
    (isDrop ? this.#drops : allowance).considerationsLeft -= 1;
    // Whoever was asked may have changed something.
    if (era === this.#era) this.#conclude(packet, context, shortcut, portId, seen, outcome, portId, nowSeconds);
  }

  /**
   * A packet ends on its way down. Packets like it may become a flow.
   * @param portId the port behind which both addresses are, or 0 when it did not come as far as to be asked for
   * @param reason why the learning extension drops it; NONE when somebody before it did
   */
  offerDrop(
    packet: Packet,
    context: ForwardingContext,
    portId: number,
    reason: DropReasonCode,
    nowSeconds: number,
  ): void {
    if (this.#flushLater) this.flush();
    if (nowSeconds > this.#wheel.last) this.advance(nowSeconds);
    const allowance = this.#drops;
    // A flood of which much is dropped in vain costs no more than this.
    if (allowance.isSpent || context.sourcePortId === 0 || context.sourceNicIndex !== 0) return;
    const { seen } = allowance;
    const outcome = seen.find(packet.bytes, packet.offset, context);
    // To look a flow up costs half as much as to make one.
    if (outcome === Seen.DEEP) allowance.considerationsLeft -= 1;
    const stamp = reason + 1;
    if (this.#isKnown(packet, context, seen, outcome, stamp, nowSeconds) || allowance.isSpent) return;
    if (portId !== 0 && !this.#isSettled(packet, context, portId, nowSeconds)) return;
    allowance.considerationsLeft -= 1;
    const era = this.#era;
    const shortcut = this.#handle.shortcuts.considerDrop(packet, reason);
    if (era === this.#era) this.#conclude(packet, context, shortcut, portId, seen, outcome, stamp, nowSeconds);
  }

  /**
   * Whether all is done about a packet.
   * @param outcome what was found in `seen`
   * @param stamp that of a refusal that would hold for this packet
   */
  #isKnown(
    packet: Packet,
    context: ForwardingContext,
    seen: SeenCache,
    outcome: number,
    stamp: number,
    nowSeconds: number,
  ): boolean {
    if (outcome >= 0) {
      if (!this.#is(outcome, seen.stamp)) return false;
      this.#records.use(outcome, nowSeconds);
      return true;
    }
    if (outcome === Seen.REFUSED) return seen.stamp === stamp && seen.moment === momentOf(packet, context, nowSeconds);
    return outcome === Seen.DEEP && this.#hasFlow(packet, context, nowSeconds);
  }

  /** Record what was found out about a packet, or note that there is nothing to record. */
  #conclude(
    packet: Packet,
    context: ForwardingContext,
    shortcut: Shortcut | null,
    portId: number,
    seen: SeenCache,
    outcome: number,
    stamp: number,
    nowSeconds: number,
  ): void {
    if (this.#isRecordable(shortcut)) this.#record(packet, context, shortcut, portId, seen, nowSeconds);
    else if (outcome !== Seen.DEEP) seen.note(Seen.REFUSED, stamp, momentOf(packet, context, nowSeconds));
  }

  /** Whether the next packet like this one would go to the same port, and teach nothing new. */
  #isSettled(packet: Packet, context: ForwardingContext, portId: number, nowSeconds: number): boolean {
    const { table } = this.#database;
    const path = pathOf(packet, context, portId);
    const isFlood = table.lookup(path.domain, path.high, path.low, nowSeconds) !== portId;
    if (isFlood || context.sourcePortId === 0 || context.sourceNicIndex !== 0) return false;
    if (!this.#database.learnsOn(path.sourcePortId)) return true;
    return table.lookup(path.domain, path.sourceHigh, path.sourceLow, nowSeconds) === path.sourcePortId;
  }

  /** Whether there is a flow for a packet of which more counts than the cache compares. */
  #hasFlow(packet: Packet, context: ForwardingContext, nowSeconds: number): boolean {
    const key = this.#key;
    key.begin(context.sourcePortId);
    if (extract(packet, key) !== Extraction.DONE) return false;
    const slot = this.table.match(key.words);
    if (slot !== -1) this.#records.use(slot, nowSeconds);
    return slot !== -1;
  }

  /** @param seen where to note it */
  #record(
    packet: Packet,
    context: ForwardingContext,
    shortcut: Shortcut,
    portId: number,
    seen: SeenCache,
    nowSeconds: number,
  ): void {
    const { table } = this;
    const key = this.#key;
    key.begin(context.sourcePortId);
    if (extract(packet, key) !== Extraction.DONE) return;
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
    this.#allowanceOf(shortcut).size += 1;
    this.#records.add(slot, pathOf(packet, context, portId), shortcut, nowSeconds);
    this.#look(slot, table.generationOf(slot), nowSeconds);
    this.#timer ??= this.#nextSecond();
  }

  #nextSecond(): TimerHandle {
    const { host } = this.#handle;
    return this.#handle.setTimer(1000 - (host.nowMs() % 1000), () => {
      this.#timer = null;
      this.advance(this.#nowSeconds());
      if (this.table.size !== 0) this.#timer = this.#nextSecond();
    });
  }

  /** Time has passed: flows that are idle go, and those of addresses that have aged. */
  advance(nowSeconds: number): void {
    if (this.#flushLater) this.flush();
    if (nowSeconds === this.#wheel.last) return;
    this.#forwards.renew();
    this.#drops.renew();
    this.#wheel.advance(nowSeconds, (slot, generation) => this.#look(slot, generation, nowSeconds));
  }

  /** Whether a flow may stay, and until when. */
  #look(slot: number, generation: number, nowSeconds: number): void {
    const { table } = this;
    if (!this.#is(slot, generation)) return;
    table.refreshCounts(slot);
    const last = this.#lastSecondOfPath(this.#records.pathOf(slot), nowSeconds);
    // Told of what was carried, somebody may have changed something.
    if (!this.#is(slot, generation)) return;
    const due = Math.min(this.#records.usedOf(slot) + this.#settings.idleSeconds, last + 1);
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

  #is(slot: number, generation: number): boolean {
    return this.table.has(slot) && this.table.generationOf(slot) === generation;
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
    if (shortcut !== null) this.#allowanceOf(shortcut).size -= 1;
    // Whoever ran it tells now what it carried at last.
    this.table.remove(slot);
    this.#records.remove(slot);
  }

  /** All flows go. */
  flush(): void {
    this.#era += 1;
    this.#forwards.seen.clear();
    this.#drops.seen.clear();
    // The table is being read or changed while it is told what was carried.
    this.#flushLater = this.#telling !== 0;
    if (this.#flushLater || this.table.size === 0) return;
    this.table.flush();
    this.#forwards.clear();
    this.#drops.clear();
    this.#records.clear();
    this.#wheel.clear();
  }
}

/**
 * How long a refusal holds: always, or for IP, of which deeper headers may be the reason, for a second and one protocol. What is
 * behind extension headers need not be told apart.
 */
function momentOf(packet: Packet, context: ForwardingContext, nowSeconds: number): number {
  const protocolAt = context.etherType === EtherType.IPV4 ? 9 : context.etherType === EtherType.IPV6 ? 6 : 0;
  const at = context.payloadOffset + protocolAt;
  if (protocolAt === 0 || at >= packet.length) return 0;
  return (nowSeconds << 8) | packet.bytes[packet.offset + at];
}

function pathOf(packet: Packet, context: ForwardingContext, portId: number): FlowPath {
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
