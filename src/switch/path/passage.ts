/**
 * The terms of shortcuts: what of a packet must be looked at where it does not come through the switch, and what a forwarding
 * extension can ask. shortcut.ts answers.
 */
import type { ObservedPorts } from '../../decide/index.ts';
import type { Packet } from '../../net/index.ts';
import type { StackedDecider } from '../decider/placed.ts';
import type { DropReasonCode } from '../drop-reason.ts';
import type { ForwardingContext } from './context.ts';

/** What of an IP packet is looked at beyond source port, Ethernet header, tags and EtherType. Bits. */
export const HeaderField = {
  /** The IP protocol behind extension headers, and that it is no fragment. */
  PROTOCOL: 1,
  /** Ports of TCP, UDP and SCTP. */
  PORTS: 2,
  /** Source and destination address. */
  ADDRESSES: 4,
  TCP_FLAGS: 8,
  /** The destination port of TCP, UDP and SCTP. */
  DESTINATION_PORT: 16,
} as const;

/** What somebody who sees packets says about those that are like one. */
export interface Passage {
  /** Bits of {@link HeaderField}: packets that agree in these are treated alike. */
  readonly fields: number;
  /** They go no further, for this reason; left out, they pass. */
  readonly drop?: DropReasonCode;
  /** Told how many of them went past, for counters; also after the answer has ceased to hold. */
  carried?(packets: number, bytes: number): void;
}

/** How packets may go past the switch. They agree in source port, Ethernet header, tags, EtherType and {@link fields}. */
export interface Shortcut {
  /** Why they are to arrive nowhere; DropReason.NONE when they are to arrive. */
  readonly drop: DropReasonCode;
  /** What happens to the tag: a TagAction of net/ with the TCI in its low bits; never STRIP and PUSH together. */
  readonly tagAction: number;
  /** Bits of {@link HeaderField}. */
  readonly fields: number;
  /** Who wants to be told of what was carried. */
  readonly passages: readonly Passage[];
}

/** Who has a say about packets that are carried elsewhere. */
export interface DecidersOfCarried {
  /** Those that stand by themselves: what they change comes to the others as another packet. */
  readonly standing: readonly StackedDecider[];
  /** Below them: the policies of ports, then deciders that the asking extension decides along. */
  readonly below: readonly StackedDecider[];
}

/** Shortcuts, as one extension sees them. */
export interface Shortcuts {
  /**
   * Forwarding: may packets like this one, which goes to this port alone, go to its NIC 0 without coming through the
   * switch? Or, where something excludes that port on their way up: may they end without coming? The answer holds until
   * {@link watch} tells.
   * @returns null when they must come
   */
  consider(packet: Packet, portId: number): Shortcut | null;
  /**
   * Forwarding: may packets like this one, which ends on its way down, end without coming through the switch? The answer holds until
   * {@link watch} tells.
   * @param reason why the asking extension drops it; NONE when it ends before, see {@link watchDrops}
   * @returns null when they must come
   */
  considerDrop(packet: Packet, reason: DropReasonCode): Shortcut | null;
  /**
   * Forwarding: be told of packets that another extension or a policy drops on their way down. They have their contexts still; nothing may be
   * done with them but to look. While there is no listener, drops cost nothing more.
   * @returns call to stop
   */
  watchDrops(listener: (packet: Packet, context: ForwardingContext, nowSeconds: number) => void): () => void;
  /**
   * Look at a packet as if it had come in through NIC 0 of a port: within `look` it has its context, and {@link consider} answers.
   * Nothing is forwarded, learned or counted.
   * @returns false when it would not come as far as forwarding
   */
  imagine(packet: Packet, portId: number, look: (context: ForwardingContext) => void): boolean;
  /**
   * Whether what comes in or goes out through a port may be carried elsewhere: no other extension has to see it but such whose decisions are known
   * ({@link decidersOfCarried}), and no mirror shows it. The answer holds until {@link watch} tells.
   */
  isOpen(portId: number): boolean;
  /** Whether nobody looks at what comes in or goes out through the ports that are open: no policy, no decider. Until {@link watch} tells. */
  isPlain(): boolean;
  /**
   * Forwarding: all that have a say about packets which it forwards by ports that are open, each from the top of the stack. Until {@link watch} tells.
   */
  decidersOfCarried(): DecidersOfCarried;
  /** Ports that something is connected to, as the policies of ports know them: for decisions that rest on them. */
  readonly ports: ObservedPorts;
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
   * Count packets that took a shortcut, as if they had come through. Bytes are those of the frames as they came in.
   * @param portId where they went or, when they are dropped on their way up, were to go; for drops on their way down the source port, or 0
   */
  carried(shortcut: Shortcut, sourcePortId: number, portId: number, packets: number, bytes: number): void;
  /** Count copies beyond the first of packets that {@link carried} counted. */
  carriedCopies(portId: number, packets: number, bytes: number): void;
  /** Count packets that came in elsewhere; their end is counted by {@link delivered} or {@link dropped}. */
  arrived(portId: number, packets: number, bytes: number): void;
  /** Count the end of packets that arrived: they were sent to ports. Where a port's link is down its copies are counted as dropped. */
  delivered(portIds: readonly number[], packets: number, bytes: number): void;
  /** Count the end of packets that arrived: they were dropped. @param portId where they came in; 0 when that is not known */
  dropped(portId: number, reason: DropReasonCode, packets: number): void;
  /** Count packets that arrived and go on here: what is made of them is originated, or dropped as {@link droppedCopies}. */
  takenUp(packets: number): void;
  /** Count copies that were dropped, of packets that are counted. @param portId where these came in; 0 when that is not known */
  droppedCopies(portId: number, reason: DropReasonCode, packets: number): void;
  /**
   * Of an extension with `passBy` or `passIngress`: what it has answered no longer holds.
   * @param portId the port, when that concerns only packets that come in or go out there; left out: all
   */
  changed(portId?: number): void;
}
