/**
 * The forwarding context: what the switch knows about a packet beyond its bytes. It hangs on `packet.attachment` from
 * admission to completion and is pooled. Extensions read it; they write through their handle (extension.ts) alone.
 *
 * Destinations are three parallel arrays. Committed ones are [0, numDestinations); the room behind them, up to
 * numDestinations + numAvailable, is for filling.
 */
import type { Packet, PortId } from '../../net/index.ts';
import type { Port } from '../control/port.ts';
import { DEFAULT_PORT_ID } from '../oid/oid.ts';

/** Bits of a destination. */
export const DestinationFlag = {
  /** Not delivered there. Set once, never cleared. */
  EXCLUDED: 1,
  /** The frame keeps its VLAN tag, as the port's VLAN policy wants it; without it the VLAN is removed. */
  PRESERVE_VLAN: 2,
  /** The priority bits stay; without it they are cleared or, for an untagged frame, not sent. */
  PRESERVE_PRIORITY: 4,
  /** Added by the miniport edge for a monitor port: the frame goes out as it came in. */
  MIRROR: 8,
} as const;

/** Both preserve bits: what trunks want. */
export const PRESERVE_TAG = 6;

/** Flags of a list of packets. */
export const PacketFlag = {
  NONE: 0,
  /** All packets have the same source port and NIC. */
  SINGLE_SOURCE: 1,
  /** All packets have one destination, the same. */
  DESTINATION_GROUP: 2,
} as const;

/** Bits of {@link ForwardingContext.flags}. */
export const ContextFlag = {
  /** The switch decides the destinations (NVGRE from the external port). */
  NATIVE_FORWARDING: 1,
  /** The data is the extension's own copy: it may be written. */
  PACKET_DATA_SAFE: 2,
  /** Reported as filtered: it must be completed, not forwarded. */
  REPORTED: 4,
  /** Clones were made of it. */
  CLONED: 8,
  /** On the egress path. */
  EGRESS: 16,
  /** The source has been set. */
  SOURCE_SET: 32,
  /** Completed, but waiting for its clones. */
  COMPLETED: 64,
  /** At least one copy was handed to a NIC. */
  DELIVERED: 128,
  /** The bytes were shared with a parent when it was made. */
  CLONE: 256,
  /** The frame does not parse; traced or dropped, never forwarded. */
  MALFORMED: 512,
} as const;

/** How the source port takes part in a private VLAN. */
export const PrivateRole = { NONE: 0, ISOLATED: 1, COMMUNITY: 2, PROMISCUOUS: 3 } as const;

const FIRST_DESTINATIONS = 4;
const NO_BYTES = new Uint8Array(0);

/** Below the lowest rank of any slot. */
export const NO_RANK = 0x3fff_ffff;

/** A pooled forwarding context. */
export class ForwardingContext {
  packet: Packet | null = null;

  /** 0 is the default port: trusted, bypasses policies. */
  sourcePortId: PortId = DEFAULT_PORT_ID;
  sourceNicIndex = 0;
  /** Bits of {@link ContextFlag}. */
  flags = 0;

  /**
   * The forwarding domain: the VLAN (0: none) or, from 4096 on, a virtual subnet. Addresses are learned within it. For a
   * private VLAN this is the primary.
   */
  vlan = 0;
  /** The secondary VLAN of a private VLAN, or 0. */
  secondaryVlan = 0;
  /** One of `PrivateRole`. */
  privateRole = 0;
  /** 802.1p priority, 0 to 7, after the source port's policy. */
  priority = 0;
  /** TCI of the outermost tag in the frame, or -1 when it is untagged. */
  tagTci = -1;
  /** Stacked tags in the frame. */
  tagCount = 0;
  /** EtherType behind all tags; below 1536 it is an 802.3 length. */
  etherType = 0;
  /** Offset of the payload behind EtherType, from the start of the frame. */
  payloadOffset = 14;
  /** What the standard policies of the source port say: a DropReason, NONE to pass. */
  verdict = 0;
  /** What is known of its connection, as in the key of a flow (connectionWord of decide/); 0 while it was not tracked. */
  connection = 0;

  numDestinations = 0;
  numAvailable = FIRST_DESTINATIONS;
  destinationPorts = new Uint16Array(FIRST_DESTINATIONS);
  destinationNics = new Uint8Array(FIRST_DESTINATIONS);
  destinationFlags = new Uint8Array(FIRST_DESTINATIONS);

  /** Internal: the memory that the packet came with; its frame never lies outside of it. */
  bytes: Uint8Array = NO_BYTES;
  memoryStart = 0;
  memoryEnd = 0;

  /** Internal: the source port, null for the default port before classification. */
  sourcePort: Port | null = null;
  /** Internal: id of the slot that holds the packet; 0: the switch. */
  holder = 0;
  /** Internal: id of the slot that originated it; 0 when a NIC did. */
  origin = 0;
  /**
   * Internal: which slots are told of completion, by rank (0 is the top of the stack). Ingress: from ingressTop down to, but
   * without, ingressBottom; egress: from egressBottom up to, but without, egressTop. Nobody at first.
   */
  ingressTop = 0;
  ingressBottom = -1;
  egressTop = NO_RANK;
  egressBottom = NO_RANK;
  /** Internal: of a packet that was reported as filtered by its source port: why; 0 when by another port. */
  reported = 0;
  /** Internal: hash of the frame when data is verified. */
  dataHash = 0;
  /** Internal: the packet that this one is a clone of, and how many clones wait for this one to stay. */
  parent: Packet | null = null;
  liveClones = 0;
  /** Internal: contexts of extensions, by slot id; null until the first is set. */
  extensionContexts: (object | null)[] | null = null;
  /** Internal: who held it when held packets were last looked at, and since when, in seconds. */
  seenHolder = 0;
  seenSeconds = 0;
  /** Internal: whether it was kept beyond its burst, and has memory of the switch's own since. */
  isKept = false;
  /** Internal: whether the pool has it. */
  free = true;

  constructor() {
    Object.seal(this);
  }

  /** The port of a destination. */
  destinationPort(index: number): PortId {
    return this.destinationPorts[index] as PortId;
  }

  isExcluded(index: number): boolean {
    return (this.destinationFlags[index] & DestinationFlag.EXCLUDED) !== 0;
  }

  get nativeForwardingRequired(): boolean {
    return (this.flags & ContextFlag.NATIVE_FORWARDING) !== 0;
  }

  get isPacketDataSafe(): boolean {
    return (this.flags & ContextFlag.PACKET_DATA_SAFE) !== 0;
  }

  /** Internal: make room for `count` more destinations than there is room for now. */
  grow(count: number): void {
    const size = this.numDestinations + this.numAvailable + count;
    if (size > this.destinationPorts.length) {
      const room = Math.max(size, this.destinationPorts.length * 2);
      const ports = new Uint16Array(room);
      const nics = new Uint8Array(room);
      const flags = new Uint8Array(room);
      ports.set(this.destinationPorts);
      nics.set(this.destinationNics);
      flags.set(this.destinationFlags);
      this.destinationPorts = ports;
      this.destinationNics = nics;
      this.destinationFlags = flags;
    }
    this.numAvailable = this.destinationPorts.length - this.numDestinations;
  }
}

/** The forwarding context of a packet that has one. Unchecked, for hot code; see the handle for the checked way. */
export function contextOf(packet: Packet): ForwardingContext {
  return packet.attachment as ForwardingContext;
}

/** All contexts of one switch. Their number bounds how many packets can be inside it, held ones included. */
export class ContextPool {
  /** Every context ever made: scanned when an extension fails or pauses, never per packet. */
  readonly all: ForwardingContext[] = [];
  readonly #free: ForwardingContext[] = [];
  #available = 0;
  readonly #maximum: number;

  constructor(maximum: number) {
    this.#maximum = maximum;
  }

  /** Contexts that are attached to packets. */
  get inUse(): number {
    return this.all.length - this.#available;
  }

  /** The context of a packet whose attachment was overwritten. Looks at every context: not for hot code. @throws Error when it has none */
  of(packet: Packet): ForwardingContext {
    const found = this.all.find((context) => !context.free && context.packet === packet);
    if (found === undefined) throw new Error('a packet without a context is in the switch');
    return found;
  }

  /** Attach a context with source "default port" to a packet; null when the maximum is reached. */
  attach(packet: Packet): ForwardingContext | null {
    let context: ForwardingContext;
    if (this.#available > 0) {
      this.#available -= 1;
      context = this.#free[this.#available];
    } else {
      if (this.all.length === this.#maximum) return null;
      context = new ForwardingContext();
      this.all.push(context);
    }
    context.free = false;
    context.packet = packet;
    context.bytes = packet.bytes;
    context.memoryStart = packet.headroomStart;
    context.memoryEnd = packet.limit;
    packet.attachment = context;
    return context;
  }

  /** Never use a context again, which somebody has frozen. One that is free is none. */
  giveUp(context: ForwardingContext): void {
    const index = context.free ? -1 : this.all.indexOf(context);
    if (index !== -1) this.all.splice(index, 1);
  }

  /** Take a context off its packet. */
  detach(context: ForwardingContext): void {
    const packet = context.packet;
    if (packet !== null) packet.attachment = null;
    context.packet = null;
    context.bytes = NO_BYTES;
    context.seenHolder = 0;
    context.isKept = false;
    context.free = true;
    context.sourcePortId = DEFAULT_PORT_ID;
    context.sourceNicIndex = 0;
    context.flags = 0;
    context.vlan = 0;
    context.secondaryVlan = 0;
    context.privateRole = 0;
    context.priority = 0;
    context.tagTci = -1;
    context.verdict = 0;
    context.connection = 0;
    context.numDestinations = 0;
    context.numAvailable = context.destinationPorts.length;
    context.sourcePort = null;
    context.holder = 0;
    context.origin = 0;
    context.ingressTop = 0;
    context.ingressBottom = -1;
    context.egressTop = NO_RANK;
    context.egressBottom = NO_RANK;
    context.parent = null;
    context.liveClones = 0;
    if (context.extensionContexts !== null) context.extensionContexts.fill(null);
    this.#free[this.#available] = context;
    this.#available += 1;
  }
}
