/**
 * The core: the state that packets pass through, admission of packets from NICs, and the end of a burst of work, when
 * NICs are flushed and packets complete. ingress.ts, egress.ts and completion.ts hold the steps in between; stack/stack.ts and
 * control/port-control.ts change the state.
 */
import { Batch, type Packet } from '../../net/index.ts';
import type { SwitchEvent } from '../api.ts';
import type { Nic } from '../control/nic.ts';
import { Port } from '../control/port.ts';
import { slotsDecidedAlong, stackedDecider } from '../decider/along.ts';
import type { StackedDecider } from '../decider/placed.ts';
import { DropReason, DropReasons } from '../drop-reason.ts';
import { RuleError } from '../errors.ts';
import type { HostServices } from '../extension.ts';
import { PortPolicies } from '../policies/port-policies.ts';
import { PrivateVlans } from '../policies/vlan.ts';
import type { Slot } from '../stack/slot.ts';
import { errorOf } from '../thrown.ts';
import { judgeSource, readFrame } from './classify.ts';
import { completePackets } from './completion.ts';
import { ContextFlag, ContextPool, type ForwardingContext } from './context.ts';
import { egressFrom } from './egress.ts';
import { isWritableBatch } from './handoff.ts';
import { ingressFrom } from './ingress.ts';
import { Keeping } from './keeping.ts';
import { MacTable } from './mac-table.ts';
import type { RefusedFrames } from './refused.ts';
import { type PacketConnections, packetConnections } from './tracking.ts';

/** What the core is told when it is made; see SwitchOptions. */
export interface DatapathOptions {
  readonly host: HostServices;
  readonly maxContexts: number;
  readonly macTableCapacity: number;
  readonly macAgeingSeconds: number;
  readonly forwardLinkLocal: boolean;
  readonly hybridForwarding: boolean;
  readonly verifyData: boolean;
}

/** Looks at packets that end on their way down. */
export type DropWatcher = (packet: Packet) => void;

/** One switch's core. Fields are for the switch room; extensions see their handle. */
export class SwitchCore {
  readonly options: DatapathOptions;
  readonly host: HostServices;
  readonly contexts: ContextPool;
  readonly reasons = new DropReasons();
  readonly macTable: MacTable;
  privateVlans = new PrivateVlans();
  /** Index 0: the default port, which also collects drops that belong to no port. */
  readonly ports: (Port | null)[] = [new Port(0, 'default', 'internal')];
  /** Ports with a connected NIC: what a flood goes to. */
  reachablePorts: Port[] = [];

  /** Capturing and filtering extensions with onIngress, from the top; with onEgress, from the bottom. */
  ingressSlots: Slot[] = [];
  egressSlots: Slot[] = [];
  forwardingSlot: Slot | null = null;
  /** Deciders that the forwarding extension decides along, from the top. */
  decidedAlong: readonly StackedDecider[] = [];
  /** An extension that nobody vouches for runs, or has run. */
  hasForeign = false;
  /** Those with onIngressComplete, from the bottom; with onEgressReturn, from the top. */
  completeSlots: Slot[] = [];
  returnSlots: Slot[] = [];

  /** Whether any port has such a policy; recomputed when one changes. */
  anyIngressPolicy = false;
  anyEgressPolicy = false;
  anyMonitor = false;
  /** A port allows that others send with the addresses of its NICs. */
  anyTeam = false;
  monitorPorts: Port[] = [];
  anyExternal = false;
  /** Extensions have all packets tracked; ports that want it for theirs say so in their policies. */
  tracksAll = false;
  #chain: readonly Slot[] = [];
  #connections: PacketConnections | null = null;

  /** Traffic is let in. */
  active = false;
  paused = false;

  /** Read once per burst. */
  nowMs = 0;
  nowSeconds = 0;

  received = 0;
  originated = 0;
  delivered = 0;
  dropped = 0;
  consumed = 0;
  copiesDelivered = 0;
  copiesDropped = 0;

  /** NICs with queued frames, and packets that are done. */
  readonly touched: Nic[] = [];
  done = new Batch();
  spareDone = new Batch();
  /** How deep work on packets nests. */
  depth = 0;
  readonly #batches: Batch[] = [];

  /** Its first word is the number of the extension that runs, 0 for none; see HostServices.entered. */
  readonly entered: Int32Array;
  readonly #spoilt: ((by: number) => string | null) | null;
  /** What an extension that has not returned yet has changed of what all code shares. */
  #damage: { readonly by: number; readonly what: string } | null = null;

  /** Set by the stack: an extension threw. */
  onFailure: (slot: Slot, error: unknown, where: string) => void = ignoreFailure;
  /** Set by the switch: somebody waits for packets to complete; cleared when nobody does. */
  waiters: (() => void) | null = null;
  /** Set by the stack: a slot keeps as many packets as it may. */
  onFull: (slot: Slot, packets: number) => void = ignoreFailure;
  /** Set by the stack: the enabled slot with an id. */
  slotOf: (id: number) => Slot | null = noSlot;
  readonly #keeping = new Keeping(this);
  onEvent: (event: SwitchEvent) => void = ignoreEvent;
  /** Told when a packet may be treated differently from one like it that came before; see shortcut.ts. */
  readonly pathWatchers = new Set<(portId: number, alsoOut: boolean) => void>();
  /** Bring what was counted elsewhere of what deciders and rules have decided. */
  readonly settlers = new Set<() => void>();
  /** Told of packets that another than the forwarding extension drops on their way down; see Shortcuts.watchDrops. */
  readonly dropWatchers = new Set<DropWatcher>();

  #policies: PortPolicies | null = null;

  constructor(options: DatapathOptions) {
    this.options = options;
    this.host = options.host;
    const { entered } = options.host;
    this.entered = entered?.record ?? new Int32Array(1);
    this.#spoilt = entered?.spoilt === undefined ? null : (by) => entered.spoilt?.(by) ?? null;
    this.contexts = new ContextPool(options.maxContexts);
    this.macTable = new MacTable({ capacity: options.macTableCapacity, ageingSeconds: options.macAgeingSeconds });
  }

  /** What ports do to packets, for whoever decides about packets that are carried elsewhere. */
  get policies(): PortPolicies {
    this.#policies ??= new PortPolicies(this);
    return this.#policies;
  }

  /** The connections of packets. */
  get connections(): PacketConnections {
    this.#connections ??= packetConnections(this.host);
    return this.#connections;
  }

  /** Whether packets of some port, or all, are tracked. */
  get tracks(): boolean {
    return this.tracksAll || this.ports.some((port) => port?.policy.tracks === true);
  }

  /** Extensions may have changed their minds about whether packets are tracked. */
  refreshTracking(): void {
    const tracksAll = this.#chain.some(({ tracks }) => tracks);
    if (tracksAll === this.tracksAll) return;
    this.tracksAll = tracksAll;
    this.stackChanged();
  }

  /** Counters of deciders or rules are about to be read: what was counted elsewhere is brought. */
  settle(): void {
    for (const settle of this.settlers) settle();
  }

  /** The port a packet is accounted to: its source. */
  portOf(context: ForwardingContext): Port {
    return context.sourcePort ?? (this.ports[0] as Port);
  }

  /** Count a drop of a whole packet. */
  countDrop(port: Port, reason: number): void {
    port.drops[reason] += 1;
  }

  /** Tell of a packet that has just ended on its way down. */
  tellDrop(packet: Packet): void {
    for (const watcher of this.dropWatchers) watcher(packet);
  }

  /** End a packet that nobody will see again on its way: it completes at the end of the burst. */
  dropPacket(packet: Packet, context: ForwardingContext, port: Port, reason: number): void {
    port.drops[reason] += 1;
    this.dropped += 1;
    context.holder = 0;
    this.done.push(packet);
  }

  /** Packets from a NIC; see VirtualSwitch.receive. */
  receive(portId: number, nicIndex: number, batch: Batch): void {
    const count = batch.count;
    if (count === 0) return;
    const port = this.ports[portId] ?? null;
    const nic = port === null ? null : (port.nics[nicIndex] ?? null);
    this.received += count;
    if (port === null || nic === null || (!nic.connected && nic.state !== 'created')) {
      const reason = port === null || nic === null ? DropReason.UNKNOWN_PORT : DropReason.NIC_NOT_CONNECTED;
      this.#refuse(port ?? (this.ports[0] as Port), reason, batch);
      return;
    }
    if (this.paused || !this.active) {
      this.#refuse(port, DropReason.STACK_PAUSED, batch);
      return;
    }
    this.enter();
    const packets = batch.packets;
    const policy = port.policy;
    let kept = 0;
    let bytes = 0;
    for (let i = 0; i < count; i += 1) {
      const packet = packets[i];
      bytes += packet.length;
      const context = this.contexts.attach(packet);
      if (context === null) {
        this.#refuseOne(port, DropReason.NO_CONTEXT, packet);
        continue;
      }
      const reason = readFrame(context, packet);
      if (reason !== DropReason.NONE) {
        this.contexts.detach(context);
        this.#refuseOne(port, reason, packet);
        continue;
      }
      context.sourcePortId = port.portId;
      context.sourceNicIndex = nicIndex;
      context.sourcePort = port;
      context.flags = ContextFlag.SOURCE_SET;
      judgeSource(context, packet, policy, nic, this.privateVlans);
      if (context.verdict === DropReason.MAC_SPOOFED && policy.macs.learn(packet)) {
        judgeSource(context, packet, policy, nic, this.privateVlans);
        this.host.log('info', `port ${port.name} belongs to ${policy.macs.list(nic)[0]}, which sent first`);
      }
      // A packet with the address of another is not to move that one's connections.
      if ((this.tracksAll || policy.tracks) && context.verdict === DropReason.NONE)
        this.connections.track(packet, context);
      packets[kept] = packet;
      kept += 1;
    }
    port.receivedPackets += count;
    port.receivedBytes += bytes;
    port.pins += kept;
    batch.count = kept;
    if (kept !== 0) ingressFrom(this, 0, batch, 1);
    batch.count = 0;
    this.leave();
  }

  #refuse(port: Port, reason: number, batch: Batch): void {
    port.drops[reason] += batch.count;
    this.dropped += batch.count;
    batch.releaseAll();
  }

  #refuseOne(port: Port, reason: number, packet: Packet): void {
    port.drops[reason] += 1;
    this.dropped += 1;
    packet.release();
  }

  /** Begin work on packets. Work may nest; the outermost {@link leave} ends the burst. */
  enter(): void {
    if (this.#spoilt !== null) this.#lookForDamage(this.#spoilt);
    if (this.depth === 0) this.readClock();
    this.depth += 1;
  }

  readClock(): void {
    this.nowMs = this.host.nowMs();
    const second = Math.floor(this.nowMs / 1000);
    if (second !== this.nowSeconds) {
      this.nowSeconds = second;
      this.macTable.sweep(second);
    }
  }

  /** End work on packets: flush the NICs that were sent to, then complete what is done. */
  leave(): void {
    if (this.depth === 1) {
      for (;;) {
        this.#flush();
        if (this.done.count === 0) {
          if (!this.#keeping.isConcerned || !this.#keeping.settle()) break;
          continue;
        }
        const done = this.done;
        this.done = this.spareDone;
        this.spareDone = done;
        completePackets(this, done);
        done.count = 0;
      }
      this.#connections?.settle();
    }
    this.depth -= 1;
    if (this.depth === 0 && this.waiters !== null) this.waiters();
  }

  #flush(): void {
    const touched = this.touched;
    for (let i = 0; i < touched.length; i += 1) {
      const nic = touched[i];
      nic.touched = false;
      try {
        nic.backend.flush();
      } catch (error) {
        this.nicFailed(nic, error);
      }
      const { refused } = nic.backend;
      if (refused !== undefined && refused.frames !== 0) this.#takeBack(nic.port, refused);
    }
    touched.length = 0;
  }

  /** A call into an extension has returned. Damage to what all code shares is its failure. */
  returned(slot: Slot, where: string): void {
    if (this.#spoilt === null) return;
    let what = this.#spoilt(slot.entry);
    if (what === null && this.#damage?.by === slot.entry) {
      what = this.#damage.what;
      this.#damage = null;
    }
    if (what !== null) this.onFailure(slot, new Error(what), where);
  }

  /** Whoever runs when damage is found has done it: it is looked for whenever one calls. When nobody does, that is told by whoever looks. */
  #lookForDamage(spoilt: (by: number) => string | null): void {
    const by = this.entered[0];
    const what = spoilt(by);
    if (what !== null && by !== 0) this.#damage = { by, what };
  }

  /** A call has ended in an error: work is as deep as it was before. */
  unwind(depth: number): void {
    this.depth = depth;
  }

  /** Frames that were counted as sent were not. One that left in segments counts once, whatever became of them. */
  #takeBack(port: Port, refused: RefusedFrames): void {
    const frames = Math.min(refused.frames, port.transmittedPackets);
    port.transmittedPackets -= frames;
    port.transmittedBytes = Math.max(0, port.transmittedBytes - refused.bytes);
    this.copiesDelivered -= frames;
    this.copiesDropped += refused.frames;
    for (const [reason, count] of refused.reasons) port.countUnsent(reason, count);
    refused.clear();
  }

  nicFailed(nic: Nic, error: unknown): void {
    this.onEvent({ type: 'nic-failed', portId: nic.port.portId, nicIndex: nic.nicIndex, error: errorOf(error) });
  }

  /** A scratch batch; give it back empty. */
  takeBatch(): Batch {
    return this.#batches.pop() ?? new Batch();
  }

  giveBatch(batch: Batch): void {
    batch.count = 0;
    this.#batches.push(batch);
  }

  /** Have packets go on past a slot. */
  passBy(slot: Slot, batch: Batch, egress: boolean): void {
    if (egress) egressFrom(this, slot.egressNext, batch, 0);
    else ingressFrom(this, slot.ingressNext, batch, 0);
  }

  /** A list of its own for code that nobody vouches for, with the packets of another, which is empty then. */
  lend(batch: Batch): Batch {
    const lent = this.takeBatch();
    for (let i = 0; i < batch.count; i += 1) lent.push(batch.packets[i]);
    batch.count = 0;
    return lent;
  }

  /** A scratch batch comes back from an extension. One that cannot be written to any more is its failure, and not used again. */
  takeBack(batch: Batch, slot: Slot, where: string): void {
    if (isWritableBatch(batch)) this.giveBatch(batch);
    else this.onFailure(slot, new RuleError(44, `${slot.name} froze a batch`), where);
  }

  /** Contexts of the packets that a slot holds. Looks at every context: not for hot code. */
  heldBy(slotId: number): ForwardingContext[] {
    return this.contexts.all.filter((context) => !context.free && context.holder === slotId && context.packet !== null);
  }

  /** The stack, or which packets may go past an extension, has changed. What ports do to packets is as it was, and so is what rests on that. */
  stackChanged(portId = 0): void {
    this.#tellPath(portId, true);
  }

  /**
   * What ports do to packets has changed.
   * @param portId the port, when it concerns only what comes in or goes out there; 0: all
   * @param alsoOut false: only what comes in
   */
  pathChanged(portId: number, alsoOut = true): void {
    // A learned address that is no longer bound ends by itself what rests on it.
    if (alsoOut) this.#policies?.changed(portId);
    this.#tellPath(portId, alsoOut);
  }

  #tellPath(portId: number, alsoOut: boolean): void {
    for (const watcher of this.pathWatchers) watcher(portId, alsoOut);
  }

  /** Recompute the arrays that hot code walks, from all flowing slots in order from the top. */
  setChain(slots: readonly Slot[]): void {
    this.#chain = slots;
    this.tracksAll = slots.some(({ tracks }) => tracks);
    const along = slotsDecidedAlong(slots);
    this.decidedAlong = along.map((slot) => stackedDecider(this, slot));
    this.ingressSlots = slots.filter((slot) => slot.hasIngress && !slot.forwarding && !along.includes(slot));
    this.egressSlots = slots.filter((slot) => slot.hasEgress && !slot.forwarding && !along.includes(slot)).reverse();
    this.forwardingSlot = slots.find((slot) => slot.forwarding) ?? null;
    this.completeSlots = slots.filter((slot) => slot.hasComplete).reverse();
    this.returnSlots = slots.filter((slot) => slot.hasReturn);
    for (const slot of slots) {
      if (slot.isForeign) this.hasForeign = true;
      slot.ingressNext = this.ingressSlots.filter((other) => other.rank <= slot.rank).length;
      slot.egressNext = this.egressSlots.filter((other) => other.rank >= slot.rank).length;
    }
    this.stackChanged();
  }

  /**
   * Recompute what depends on all ports, after a port, a NIC or a property changed.
   * @param portId the port that was changed, when that changes nothing for packets between others; 0: it may
   */
  refreshPorts(portId: number): void {
    const hadMonitor = this.anyMonitor;
    const hadTeam = this.anyTeam;
    this.anyTeam = false;
    this.reachablePorts = [];
    this.monitorPorts = [];
    this.anyIngressPolicy = false;
    this.anyEgressPolicy = false;
    this.anyMonitor = false;
    this.anyExternal = false;
    for (const port of this.ports) {
      if (!port || port.portId === 0) continue;
      port.refreshNics();
      if (port.reachable) this.reachablePorts.push(port);
      if (port.policy.hasIngressPolicy) this.anyIngressPolicy = true;
      if (port.policy.hasEgressPolicy) this.anyEgressPolicy = true;
      if (port.policy.monitorDestination && port.reachable) this.monitorPorts.push(port);
      if (port.policy.monitorSource) this.anyMonitor = true;
      if (port.policy.allowTeaming) this.anyTeam = true;
      if (port.external) this.anyExternal = true;
    }
    if (this.monitorPorts.length === 0) this.anyMonitor = false;
    this.#policies?.portsChanged();
    // A team is more than one port's affair. A mirror is for those who ask which packets may go past it; it decides nothing.
    const concerned = hadTeam || this.anyTeam ? 0 : portId;
    this.#policies?.changed(concerned);
    this.#tellPath(hadMonitor === this.anyMonitor ? concerned : 0, true);
  }
}

function ignoreFailure(): void {}
function ignoreEvent(): void {}
function noSlot(): null {
  return null;
}
