/**
 * Classification: what a frame is, judged by its bytes and its source port. Fills the forwarding context with tag, EtherType,
 * forwarding domain and priority, and with the verdict of the standard policies of the source port. Runs whenever the
 * source of a packet is set.
 */
import { Checksum, Gso, MAXIMUM_TAGS, macHighAt, macLowAt, type Packet } from '../../net/index.ts';
import type { Nic } from '../control/nic.ts';
import { DropReason } from '../drop-reason.ts';
import type { PortPolicy } from '../policies/port-policy.ts';
import { assignVlan, type PrivateVlans } from '../policies/vlan.ts';
import { ContextFlag, type ForwardingContext } from './context.ts';

const TYPE_VLAN = 0x8100;
const TYPE_SERVICE_VLAN = 0x88a8;
/** Below: an 802.3 length (up to 1500) or nothing that is defined. */
const FIRST_ETHERTYPE = 0x0600;

/**
 * Read tags and EtherType.
 * @returns a DropReason for a frame that does not hold what it says, NONE otherwise
 */
export function readFrame(context: ForwardingContext, packet: Packet): number {
  const bytes = packet.bytes;
  const start = packet.offset;
  const length = packet.length;
  if (length < 14) return DropReason.RUNT_FRAME;
  if (start < packet.headroomStart || start + length > packet.limit || packet.limit > bytes.length) {
    return DropReason.BAD_LENGTH;
  }
  let type = (bytes[start + 12] << 8) | bytes[start + 13];
  let at = 14;
  context.tagTci = -1;
  context.tagCount = 0;
  while (type === TYPE_VLAN || type === TYPE_SERVICE_VLAN) {
    // What lies behind so many tags is for nobody here to read: policies that want to know refuse the frame.
    if (context.tagCount === MAXIMUM_TAGS) break;
    if (length < at + 4) return DropReason.RUNT_FRAME;
    if (context.tagCount === 0) context.tagTci = (bytes[start + at] << 8) | bytes[start + at + 1];
    context.tagCount += 1;
    type = (bytes[start + at + 2] << 8) | bytes[start + at + 3];
    at += 4;
  }
  context.etherType = type;
  context.payloadOffset = at;
  if (type < FIRST_ETHERTYPE && type > length - at) return DropReason.BAD_LENGTH;
  return offloadVerdict(packet, at);
}

/** Whether the offloads that are asked for fit the frame: a DropReason, or NONE. @param payloadOffset of the network header in the frame */
export function offloadVerdict(packet: Packet, payloadOffset: number): number {
  if (packet.checksum === Checksum.PARTIAL) {
    const { checksumStart, checksumOffset } = packet;
    const fits =
      checksumStart >= payloadOffset && checksumOffset >= 0 && checksumStart + checksumOffset + 2 <= packet.length;
    if (!fits) return DropReason.BAD_OFFLOAD;
  }
  if (packet.gsoType !== Gso.NONE) {
    const kind = packet.gsoType & ~Gso.ECN;
    const known = kind === Gso.TCPV4 || kind === Gso.TCPV6 || kind === Gso.UDP || kind === Gso.UDP_L4;
    if (!known || !(packet.gsoSizeBytes > 0)) return DropReason.BAD_OFFLOAD;
  }
  return DropReason.NONE;
}

/**
 * Judge a frame that {@link readFrame} accepted by the standard policies of its source port.
 * Sets vlan, secondaryVlan, privateRole, priority and verdict.
 */
export function judgeSource(
  context: ForwardingContext,
  packet: Packet,
  policy: PortPolicy,
  nic: Nic,
  privateVlans: PrivateVlans,
): void {
  context.priority = context.tagTci === -1 || policy.clearPriority ? 0 : context.tagTci >> 13;
  let verdict = assignVlan(context, policy, privateVlans);
  if (policy.checkSourceMac && verdict === DropReason.NONE) {
    const bytes = packet.bytes;
    const at = packet.offset;
    const high = macHighAt(bytes, at + 6);
    const low = macLowAt(bytes, at + 6);
    const own = policy.macs.owns(nic, high, low) && (high | low) !== 0;
    if (!own && !(policy.allowTeaming && policy.isTeamMac(high, low))) verdict = DropReason.MAC_SPOOFED;
  }
  context.verdict = verdict;
}

/** Packets of the default port are trusted: the VLAN is the one of their tag, and nothing is judged. */
export function judgeTrusted(context: ForwardingContext): void {
  context.vlan = context.tagTci === -1 ? 0 : context.tagTci & 0xfff;
  context.priority = context.tagTci === -1 ? 0 : context.tagTci >> 13;
  context.secondaryVlan = 0;
  context.privateRole = 0;
  context.verdict = DropReason.NONE;
}

/** Mark a packet whose frame does not parse, so that nothing relies on its classification. */
export function markMalformed(context: ForwardingContext, reason: number): void {
  context.flags |= ContextFlag.MALFORMED;
  context.verdict = reason;
  context.vlan = 0;
}
