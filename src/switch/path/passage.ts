/** What extensions can ask about packets that are carried elsewhere, and count for them. shortcut.ts and carried.ts answer. */
import type { ObservedPorts, PacketView } from '../../decide/index.ts';
import type { Packet, PortId } from '../../net/index.ts';
import type { StackedDecider } from '../decider/placed.ts';
import type { DropReasonCode } from '../drop-reason.ts';

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

/** Shortcuts, as one extension sees them. */
export interface Shortcuts {
  /**
   * Forwarding: be told of packets that another extension or a policy drops on their way down. They have their contexts still; nothing may be
   * done with them but to look. While there is no listener, drops cost nothing more.
   * @returns call to stop
   */
  watchDrops(listener: (packet: Packet) => void): () => void;
  /**
   * Whether what comes in or goes out through a port may be carried elsewhere: no other extension has to see it but such whose decisions are known
   * ({@link decidersOfCarried}), and no mirror shows it. The answer holds until {@link watch} tells.
   */
  isOpen(portId: PortId): boolean;
  /** Whether nobody has a say about what comes in or goes out through ports but who forwards, and what it decides along: no port has a policy, no decider stands by itself. Until {@link watch} tells. */
  isPlain(): boolean;
  /**
   * Forwarding: all that have a say about packets which it forwards by ports that are open, each from the top of the stack. Until {@link watch} tells.
   */
  decidersOfCarried(): DecidersOfCarried;
  /** Ports that something is connected to, as the policies of ports know them: for decisions that rest on them. */
  readonly ports: ObservedPorts;
  /** For decisions that go by VLANs. */
  readonly domains: PacketDomains;
  /**
   * Counters of deciders and of rules are about to be read: whoever counts elsewhere what was decided is to bring it.
   * @returns call to stop
   */
  settledBy(settle: () => void): () => void;
  /** Have everybody who counts elsewhere bring it. */
  settle(): void;
  /** Forwarding, with `decidesAlong`: the deciders right above, from the top, whose decisions are to be made with its own. */
  decidersAbove(): readonly StackedDecider[];
  /** Filtering, a decider: the name of the forwarding extension that decides along what it decides; null when it gets packets itself. */
  decidedBy(): string | null;
  /**
   * Be told at once when answers may no longer hold.
   * @param listener gets the port, when it concerns only packets that come in or go out there, and 0 for all; and whether it concerns those that go out
   * @returns call to stop
   */
  watch(listener: (portId: number, alsoOut: boolean) => void): () => void;
  /**
   * Have the connections of all IP packets of the switch tracked, or no longer for this extension: what is known stands in `connection` of a packet that is decided about. It ends with the
   * extension.
   */
  trackConnections(isWanted: boolean): void;
  /** Whether packets are tracked, of some port or all. */
  isTracking(): boolean;
  /** Forwarding: what is known of the connection of a packet that comes in, as in the key of a flow. It is tracked if it was not. */
  connectionOf(packet: Packet): number;
  /** Count copies that left, of packets that are counted. */
  carriedCopies(portId: PortId, packets: number, bytes: number): void;
  /** Count packets that came in elsewhere; their end is counted by {@link delivered} or {@link dropped}. */
  arrived(portId: PortId, packets: number, bytes: number): void;
  /** Count the end of packets that arrived: they were sent to ports. Where a port's link is down its copies are counted as dropped. */
  delivered(portIds: readonly PortId[], packets: number, bytes: number): void;
  /** Count the end of packets that arrived: they were dropped. @param portId where they came in; 0 when that is not known */
  dropped(portId: PortId, reason: DropReasonCode, packets: number): void;
  /** Count packets that arrived and go on here: what is made of them is originated, or dropped as {@link droppedCopies}. */
  takenUp(packets: number): void;
  /** Count copies that were dropped, of packets that are counted. @param portId where these came in; 0 when that is not known */
  droppedCopies(portId: PortId, reason: DropReasonCode, packets: number): void;
  /**
   * Of an extension with `passByPort`: what it has answered no longer holds.
   * @param portId the port, when that concerns only packets that come in or go out there; left out: all
   */
  changed(portId?: number): void;
}
