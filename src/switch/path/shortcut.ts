/**
 * Shortcuts, as one extension has them: which packets may go past the switch, because somebody outside (the kernel) does to them what would be done here, who decides what that is, and
 * counting them as if they had come through. Neighbour: core.ts tells when answers are void.
 */
import type { ObservedPorts, PacketView } from '../../decide/index.ts';
import type { Packet, PortId } from '../../net/index.ts';
import type { Nic } from '../control/nic.ts';
import type { Port } from '../control/port.ts';
import { stackedDecider } from '../decider/along.ts';
import type { StackedDecider } from '../decider/placed.ts';
import { DropReason, type DropReasonCode } from '../drop-reason.ts';
import { RuleError } from '../errors.ts';
import { isLookedAt } from '../policies/port-policies.ts';
import type { Slot } from '../stack/slot.ts';
import { contextOf } from './context.ts';
import type { DropWatcher, SwitchCore } from './core.ts';
import { guarded } from './guard.ts';

/** Who has a say about packets that are carried elsewhere. */
export interface DecidersOfCarried {
  /** Those that stand by themselves: what they change comes to the others as another packet. */
  readonly standing: readonly StackedDecider[];
  /** Below them: the policies of ports, then deciders that the asking extension decides along. */
  readonly below: readonly StackedDecider[];
}

/** Forwarding domains of packets that are decided about. */
export interface PacketDomains {
  /** The VLAN that a packet is in, by the policies of its port. */
  vlanOf(packet: PacketView): number;
  /** Whether it may leave by a port, as far as VLANs, private VLANs and isolation go. */
  leavesBy(packet: PacketView, portId: number): boolean;
}

export class Shortcuts {
  readonly #core: SwitchCore;
  readonly #slot: Slot;

  constructor(core: SwitchCore, slot: Slot) {
    this.#core = core;
    this.#slot = slot;
  }

  // Which packets, and who decides.

  /**
   * Whether what comes in or goes out through a port may be carried elsewhere: no other extension has to see it but such whose decisions are known
   * ({@link decidersOfCarried}), and no mirror shows it. The answer holds until {@link watch} tells.
   */
  isOpen(portId: PortId): boolean {
    const core = this.#core;
    const port = core.ports[portId];
    // While the stack changes its answers stand: whoever joins it is asked before it runs.
    if (!core.active || !port?.reachable || onlyNic(port) === null) return false;
    if (core.anyMonitor && port.policy.monitorSource) return false;
    return this.#others().every((slot) => isDecider(slot) || passesPort(core, slot, portId));
  }

  /**
   * Ports of which others have a say about what comes in or goes out there than who forwards, and what it decides along: they have policies. Until {@link watch} tells.
   * @returns null for all: a decider stands by itself, or the packets of all are tracked
   */
  judgedPorts(): readonly PortId[] | null {
    // What is tracked is decided about in two steps, in a table of decisions.
    if (this.#core.tracksAll || this.#others().some(isDecider)) return null;
    return this.#core.ports.flatMap((port) => (port !== null && isLookedAt(port) ? [port.portId] : []));
  }

  /** Forwarding: all that have a say about packets which it forwards by ports that are open, each from the top of the stack. Until {@link watch} tells. */
  decidersOfCarried(): DecidersOfCarried {
    const core = this.#core;
    if (!this.#slot.forwarding) return { standing: [], below: [] };
    // Packets come to those that stand by themselves before the policies of ports, and to those that are decided along after them.
    const standing = this.#others()
      .filter(isDecider)
      .sort((a, b) => a.rank - b.rank)
      .map((slot) => stackedDecider(core, slot));
    return { standing, below: [core.policies, ...core.decidedAlong] };
  }

  /** The other extensions that are handed packets. */
  #others(): Slot[] {
    const { ingressSlots, egressSlots, completeSlots, returnSlots } = this.#core;
    const slots = new Set([...ingressSlots, ...egressSlots, ...completeSlots, ...returnSlots]);
    slots.delete(this.#slot);
    return [...slots];
  }

  /** Forwarding, with `decidesAlong`: the deciders right above, from the top, whose decisions are to be made with its own. */
  decidersAbove(): readonly StackedDecider[] {
    return this.#slot.forwarding ? this.#core.decidedAlong : [];
  }

  /** Filtering, a decider: the name of the forwarding extension that decides along what it decides; null when it gets packets itself. */
  decidedBy(): string | null {
    const { decidedAlong, forwardingSlot } = this.#core;
    const { stacked } = this.#slot;
    return stacked !== null && decidedAlong.includes(stacked) ? (forwardingSlot?.name ?? null) : null;
  }

  /** Ports that something is connected to, as the policies of ports know them: for decisions that rest on them. */
  get ports(): ObservedPorts {
    return this.#core.policies.ports;
  }

  /** For decisions that go by VLANs. */
  get domains(): PacketDomains {
    return this.#core.policies;
  }

  /**
   * Have the connections of all IP packets of the switch tracked, or no longer for this extension: what is known stands in `connection` of a packet that is decided about. It ends with the
   * extension.
   */
  trackConnections(isWanted: boolean): void {
    this.#slot.tracks = isWanted;
    this.#core.refreshTracking();
  }

  /** Whether packets are tracked, of some port or all. */
  isTracking(): boolean {
    return this.#core.tracks;
  }

  /** Forwarding: what is known of the connection of a packet that comes in, as in the key of a flow. It is tracked if it was not. */
  connectionOf(packet: Packet): number {
    const context = contextOf(packet);
    if (context.connection === 0) this.#core.connections.track(packet, context);
    return context.connection;
  }

  // Being told.

  /**
   * Forwarding: be told of packets that another extension or a policy drops on their way down. They have their contexts still; nothing may be
   * done with them but to look. While there is no listener, drops cost nothing more.
   * @returns call to stop
   */
  watchDrops(listener: DropWatcher): () => void {
    const core = this.#core;
    const slot = this.#slot;
    if (!slot.forwarding) throw new RuleError(3, `${slot.name} watches what others drop`);
    return added(core.dropWatchers, (packet) => guarded(core, slot, 'watchDrops', () => listener(packet)));
  }

  /**
   * Be told at once when answers may no longer hold.
   * @param listener gets the port, when it concerns only packets that come in or go out there, and 0 for all; and whether it concerns those that go out
   * @returns call to stop
   */
  watch(listener: (portId: number, alsoOut: boolean) => void): () => void {
    const core = this.#core;
    const slot = this.#slot;
    return added(core.pathWatchers, (portId, alsoOut) => {
      if (!slot.failed) guarded(core, slot, 'watch', () => listener(portId, alsoOut));
    });
  }

  /**
   * Of an extension with `passByPort`: what it has answered no longer holds.
   * @param portId the port, when that concerns only packets that come in or go out there; left out: all
   */
  changed(portId = 0): void {
    this.#core.stackChanged(portId);
  }

  /**
   * Counters of deciders and of rules are about to be read: whoever counts elsewhere what was decided is to bring it.
   * @returns call to stop
   */
  settledBy(settle: () => void): () => void {
    const core = this.#core;
    const slot = this.#slot;
    return added(core.settlers, () => {
      if (!slot.failed) guarded(core, slot, 'settle', settle);
    });
  }

  /** Have everybody who counts elsewhere bring it. */
  settle(): void {
    this.#core.settle();
  }

  // Counting.

  /** Count packets that came in elsewhere; their end is counted by {@link delivered} or {@link dropped}. */
  arrived(portId: PortId, packets: number, bytes: number): void {
    const source = this.#core.ports[portId];
    if (source) {
      source.receivedPackets += packets;
      source.receivedBytes += bytes;
    }
    this.#core.received += packets;
  }

  /** Count packets that arrived and go on here: what is made of them is originated, or dropped as {@link droppedCopies}. Fewer than none: packets that come to an end here and go on elsewhere. */
  takenUp(packets: number): void {
    this.#core.consumed += packets;
  }

  /** Count the end of packets that arrived: they were sent to ports. Where a port's link is down its copies are counted as dropped. */
  delivered(portIds: readonly PortId[], packets: number, bytes: number): void {
    const core = this.#core;
    let copies = 0;
    for (const portId of portIds) if (this.#leaves(portId, packets, bytes)) copies += packets;
    core.copiesDelivered += copies;
    if (copies > 0) {
      core.delivered += packets;
      return;
    }
    // One copy stands for the packet, as in deliver of egress.ts.
    core.dropped += packets;
    core.copiesDropped -= packets;
  }

  /** Count copies that left, of packets that are counted. */
  carriedCopies(portId: PortId, packets: number, bytes: number): void {
    if (this.#leaves(portId, packets, bytes)) this.#core.copiesDelivered += packets;
  }

  /** @returns whether they have left: there is such a port, and its link is not down */
  #leaves(portId: PortId, packets: number, bytes: number): boolean {
    const core = this.#core;
    const target = core.ports[portId];
    if (target && target.nics[0]?.isDown !== true) {
      target.transmittedPackets += packets;
      target.transmittedBytes += bytes;
      return true;
    }
    if (target) target.countUnsent(DropReason.NIC_DOWN, packets);
    else (core.ports[0] as Port).countUnsent(DropReason.NIC_NOT_CONNECTED, packets);
    core.copiesDropped += packets;
    return false;
  }

  /** Count the end of packets that arrived: they were dropped. @param portId where they came in; 0 when that is not known */
  dropped(portId: PortId, reason: DropReasonCode, packets: number): void {
    this.#dropsOf(portId, reason)[reason] += packets;
    this.#core.dropped += packets;
  }

  /** Count copies that were dropped, of packets that are counted. @param portId where these came in; 0 when that is not known */
  droppedCopies(portId: PortId, reason: DropReasonCode, packets: number): void {
    this.#dropsOf(portId, reason)[reason] += packets;
    this.#core.copiesDropped += packets;
  }

  /** Those of a port, or where it is gone those that belong to none. @throws RuleError 16 */
  #dropsOf(portId: PortId, reason: number): Float64Array {
    const { ports, reasons } = this.#core;
    if (!reasons.has(reason)) throw new RuleError(16, `drop reason ${reason} is not registered`);
    return (ports[portId] ?? (ports[0] as Port)).drops;
  }
}

/** @returns call to take it out again */
function added<Listener>(listeners: Set<Listener>, listener: Listener): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/** Whether what an extension does to packets is what it decides. */
function isDecider(slot: Slot): boolean {
  return slot.extension.decider !== undefined;
}

/** Whether an extension lets everything of a port go past it. */
function passesPort(core: SwitchCore, slot: Slot, portId: number): boolean {
  return guarded(core, slot, 'passByPort', () => slot.extension.passByPort?.(portId)) === true;
}

/** The NIC of a port that has no other than the one with index 0. */
function onlyNic(port: Port): Nic | null {
  for (let index = 1; index < port.nics.length; index += 1) if (port.nics[index]) return null;
  return port.nics[0] ?? null;
}
