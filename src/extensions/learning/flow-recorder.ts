/**
 * Writes what becomes of packets into a flow table, for whoever runs flows elsewhere, such as in the kernel: unicast packets between two
 * known addresses, and packets that a rule drops, become flows while they are in use, and flows go as soon as anything changes that they
 * rest on. It exists only where the surroundings have a registry of flows. flow-book.ts keeps the flows, seen-cache.ts makes packets cheap
 * that come up all the same.
 */
import type { FlowRegistration, FlowRegistry, FlowSource, FlowTable, RecalledFlow } from '../../flow/index.ts';
import { EtherType, type Packet, PacketPool } from '../../net/index.ts';
import {
  DropReason,
  type DropReasonCode,
  type ExtensionHandle,
  type ForwardingContext,
  type Shortcut,
} from '../../switch/index.ts';
import { FlowBook, type FlowSettings, pathOf } from './flow-book.ts';
import type { ForwardingDatabase } from './forwarding-database.ts';
import { RECALLED_BYTES, recalledFrame } from './recalled-frame.ts';
import { Deep, Seen, type SeenCache } from './seen-cache.ts';

/** Where drops have spent theirs, one in so many packets is looked at closely that may well be dropped on their way up. A power of two. */
const SAMPLING = 64;

export class FlowRecorder implements FlowSource {
  readonly name: string;
  readonly table: FlowTable;
  readonly #handle: ExtensionHandle;
  readonly #database: ForwardingDatabase;
  readonly #book: FlowBook;
  readonly #registration: FlowRegistration;
  /** Flows may go by IP headers. */
  readonly #goesDeep: boolean;
  readonly #stopWatching: (() => void)[];
  /** For packets that are imagined. */
  #pool: PacketPool | null = null;
  /** Packets that were not looked at since one was; see SAMPLING. */
  #skipped = 0;

  constructor(handle: ExtensionHandle, database: ForwardingDatabase, registry: FlowRegistry, settings: FlowSettings) {
    this.name = handle.name;
    this.#handle = handle;
    this.#database = database;
    this.#book = new FlowBook(handle, database, settings);
    this.table = this.#book.table;
    this.#stopWatching = [
      handle.shortcuts.watch((portId, alsoOut) => (portId === 0 ? this.flush() : this.flushPort(portId, alsoOut))),
      handle.shortcuts.watchDrops((packet, context, now) => this.offerDrop(packet, context, 0, DropReason.NONE, now)),
    ];
    this.#goesDeep = registry.strict === true;
    this.#registration = registry.register(this);
  }

  /** Flows end; nothing more is recorded. */
  close(): void {
    for (const stop of this.#stopWatching) stop();
    this.#book.close();
    this.#registration.close();
  }

  /** All flows go. */
  flush(): void {
    this.#book.flush();
  }

  /** The flows of what comes in through a port go. @param alsoOut and those of what goes out there */
  flushPort(portId: number, alsoOut: boolean): void {
    this.#book.flushPort(portId, alsoOut);
  }

  /** Time has passed: flows that are idle go, and those of addresses that have aged. */
  advance(nowSeconds: number): void {
    this.#book.advance(nowSeconds);
  }

  /** See FlowBook.carried. */
  carried(slot: number, packets: number, bytes: number): void {
    this.#book.carried(slot, packets, bytes);
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
    const nowSeconds = this.#book.nowSeconds();
    const { shortcuts } = this.#handle;
    if (portId === 0) {
      const shortcut = shortcuts.considerDrop(packet, DropReason.NONE);
      if (this.#isFlow(shortcut)) this.#book.add(packet, context, shortcut, 0, this.#book.drops.seen, nowSeconds);
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
    if (this.#isFlow(shortcut)) this.#book.add(packet, context, shortcut, portId, this.#book.forwards.seen, nowSeconds);
  }

  /** Whether what was found out can be said by a flow. */
  #isFlow(shortcut: Shortcut | null): shortcut is Shortcut {
    return shortcut !== null && (shortcut.fields === 0 || this.#goesDeep);
  }

  /** Ask for everything that was carried until now. */
  refresh(): void {
    if (this.table.size !== 0) this.table.refreshCounts(-1);
  }

  /** A packet has its destinations. When it goes to one known address, packets like it may become a flow. */
  offer(packet: Packet, context: ForwardingContext, nowSeconds: number): void {
    if (context.numDestinations !== 1 || (packet.bytes[packet.offset] & 1) !== 0) return;
    const portId = context.destinationPorts[0];
    this.#book.settle();
    const allowance = this.#book.forwards;
    const { seen } = allowance;
    const outcome = seen.find(packet.bytes, packet.offset, context);
    if (outcome === Seen.DEEP && seen.stamp === Deep.DROPPED && !this.#mayLookDeeper()) return;
    if (this.#isKnown(packet, context, seen, outcome, portId, nowSeconds)) return;
    if (allowance.isSpent) return;
    if (!this.#isSettled(packet, context, portId, nowSeconds)) return;
    const era = this.#book.era;
    const shortcut = this.#handle.shortcuts.consider(packet, portId);
    const isDrop = shortcut !== null && shortcut.drop !== DropReason.NONE && this.#book.drops.considerationsLeft > 0;
    (isDrop ? this.#book.drops : allowance).considerationsLeft -= 1;
    // Whoever was asked may have changed something.
    if (era === this.#book.era) this.#conclude(packet, context, shortcut, portId, seen, outcome, portId, nowSeconds);
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
    this.#book.advance(nowSeconds);
    const allowance = this.#book.drops;
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
    const era = this.#book.era;
    const shortcut = this.#handle.shortcuts.considerDrop(packet, reason);
    if (era === this.#book.era) this.#conclude(packet, context, shortcut, portId, seen, outcome, stamp, nowSeconds);
  }

  /** Whether to look closely at a packet that may well be dropped on its way up: a flood of such packets is no reason to look at each. */
  #mayLookDeeper(): boolean {
    const { drops } = this.#book;
    if (!drops.isSpent) {
      drops.considerationsLeft -= 1;
      return true;
    }
    this.#skipped = (this.#skipped + 1) & (SAMPLING - 1);
    return this.#skipped === 0;
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
      if (!this.#book.is(outcome, seen.stamp)) return false;
      this.#book.use(outcome, nowSeconds);
      return true;
    }
    if (outcome === Seen.REFUSED) return seen.stamp === stamp && seen.moment === momentOf(packet, context, nowSeconds);
    return outcome === Seen.DEEP && this.#book.hasFlow(packet, context, nowSeconds);
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
    const isFlow = this.#isFlow(shortcut);
    if (isFlow && !this.#book.allowanceOf(shortcut).isFull)
      this.#book.add(packet, context, shortcut, portId, seen, nowSeconds);
    // There is no room for another drop; other packets with this Ethernet header may go on.
    else if (isFlow && shortcut.fields !== 0) seen.note(Seen.DEEP, Deep.DROPPED);
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
