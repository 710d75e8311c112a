/**
 * Writes what the learning extension decides into a flow table, for whoever runs flows elsewhere, such as in the kernel: unicast
 * packets between two known addresses become flows while they are in use, and flows go as soon as anything changes that they rest
 * on. It exists only where the surroundings have a registry of flows. flow-terms.ts says what a flow looks like, flow-records.ts
 * keeps what the table does not, seen-cache.ts makes packets that come up all the same cheap.
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
import type { ExtensionHandle, ForwardingContext, Shortcut, TimerHandle } from '../../switch/index.ts';
import { DueWheel } from './due-wheel.ts';
import { type FlowPath, FlowRecords } from './flow-records.ts';
import { flowActions, flowMask } from './flow-terms.ts';
import type { ForwardingDatabase } from './forwarding-database.ts';
import { RECALLED_BYTES, recalledFrame } from './recalled-frame.ts';
import { Seen, SeenCache } from './seen-cache.ts';

/** Packets that may become flows in a second: whoever floods with new addresses is not to make every packet cost a flow. */
const CONSIDERATIONS_PER_SECOND = 20_000;
/** Of our own look-ups there are few. */
const CACHE_ENTRIES = 1024;

/** How many flows, and for how long. */
export interface FlowSettings {
  /** Most flows; 0 for none. */
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
  readonly #seen = new SeenCache();
  readonly #wheel: DueWheel;
  readonly #registration: FlowRegistration;
  /** Flows may go by IP headers. */
  readonly #goesDeep: boolean;
  readonly #stopWatching: () => void;
  readonly #key = new FlowKey();
  readonly #masked = new Uint32Array(KEY_WORDS);
  #timer: TimerHandle | null = null;
  /** For packets that are imagined. */
  #pool: PacketPool | null = null;
  #considerationsLeft = CONSIDERATIONS_PER_SECOND;
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
    this.table = new FlowTable({ maximumFlows: settings.maximum, cacheEntries: CACHE_ENTRIES });
    this.#wheel = new DueWheel(settings.idleSeconds, this.#nowSeconds());
    this.#stopWatching = handle.shortcuts.watch(() => this.flush());
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
    this.#stopWatching();
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
    if (this.#database.learnsOn(path.sourcePortId)) {
      this.#database.table.renew(path.domain, path.sourceHigh, path.sourceLow, path.sourcePortId, second);
    }
    this.#telling += 1;
    this.#handle.shortcuts.carried(shortcut, path.sourcePortId, path.portId, packets, bytes);
    this.#telling -= 1;
  }

  /**
   * A flow from before a restart still runs: its addresses are where they were, or its packets would have come up. When packets like these
   * would become the same flow again, they do.
   */
  recall({ portId, outputPortIds, key }: RecalledFlow): void {
    if (outputPortIds.length !== 1) return;
    this.#pool ??= new PacketPool({ packets: 1, bufferBytes: RECALLED_BYTES, headroomBytes: 0 });
    const packet = this.#pool.allocate();
    if (packet === null) return;
    const frame = recalledFrame(key);
    packet.bytes.set(frame, packet.offset);
    packet.length = frame.length;
    try {
      this.#handle.shortcuts.imagine(packet, portId, (context) =>
        this.#recallPacket(packet, context, outputPortIds[0]),
      );
    } finally {
      packet.release();
    }
  }

  #recallPacket(packet: Packet, context: ForwardingContext, portId: number): void {
    const nowSeconds = this.#nowSeconds();
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
    if (this.table.size >= this.#settings.maximum || !this.#isSettled(packet, context, portId, nowSeconds)) return;
    const shortcut = this.#handle.shortcuts.consider(packet, portId);
    if (shortcut !== null && (shortcut.fields === 0 || this.#goesDeep))
      this.#record(packet, context, shortcut, portId, nowSeconds);
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
    const seen = this.#seen.find(packet.bytes, packet.offset, context);
    if (seen >= 0) {
      if (this.table.has(seen) && this.table.generationOf(seen) === this.#seen.stamp) {
        this.#records.use(seen, nowSeconds);
        return;
      }
    } else if (seen === Seen.REFUSED) {
      const { stamp, moment } = this.#seen;
      if (stamp === portId && moment === momentOf(packet, context, nowSeconds)) return;
    } else if (seen === Seen.DEEP && this.#hasFlow(packet, context, nowSeconds)) {
      return;
    }
    if (this.#considerationsLeft === 0 || this.table.size >= this.#settings.maximum) return;
    if (!this.#isSettled(packet, context, portId, nowSeconds)) return;
    this.#considerationsLeft -= 1;
    const era = this.#era;
    const shortcut = this.#handle.shortcuts.consider(packet, portId);
    // Whoever was asked may have changed something.
    if (era !== this.#era) return;
    if (shortcut !== null && (shortcut.fields === 0 || this.#goesDeep))
      this.#record(packet, context, shortcut, portId, nowSeconds);
    else if (seen !== Seen.DEEP) this.#seen.note(Seen.REFUSED, portId, momentOf(packet, context, nowSeconds));
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

  #record(packet: Packet, context: ForwardingContext, shortcut: Shortcut, portId: number, nowSeconds: number): void {
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
    if (shortcut.fields === 0) this.#seen.note(slot, table.generationOf(slot));
    else this.#seen.note(Seen.DEEP, 1);
    if (put === FlowError.EXISTS) return;
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
    this.#considerationsLeft = CONSIDERATIONS_PER_SECOND;
    this.#wheel.advance(nowSeconds, (slot, generation) => this.#look(slot, generation, nowSeconds));
  }

  /** Whether a flow may stay, and until when. */
  #look(slot: number, generation: number, nowSeconds: number): void {
    const { table } = this;
    if (!this.#is(slot, generation)) return;
    table.refreshCounts(slot);
    const path = this.#records.pathOf(slot);
    let last = this.#lastSecondOf(path.domain, path.high, path.low, nowSeconds);
    if (this.#database.learnsOn(path.sourcePortId)) {
      last = Math.min(last, this.#lastSecondOf(path.domain, path.sourceHigh, path.sourceLow, nowSeconds));
    }
    // Told of what was carried, somebody may have changed something.
    if (!this.#is(slot, generation)) return;
    const due = Math.min(this.#records.usedOf(slot) + this.#settings.idleSeconds, last + 1);
    if (due <= nowSeconds) this.#remove(slot);
    else this.#wheel.add(slot, generation, due);
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
    // Whoever ran it tells now what it carried at last.
    this.table.remove(slot);
    this.#records.remove(slot);
  }

  /** All flows go. */
  flush(): void {
    this.#era += 1;
    this.#seen.clear();
    // The table is being read or changed while it is told what was carried.
    this.#flushLater = this.#telling !== 0;
    if (this.#flushLater || this.table.size === 0) return;
    this.table.flush();
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
