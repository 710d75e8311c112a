/**
 * What a port with address bindings may send: source addresses that are bound, and claims about them in ARP and neighbour discovery (dynamic ARP inspection, source
 * address validation). Neighbours: address-binding.ts holds the bindings, binding-learn.ts is told of what they are learned from.
 */
import { EtherType, Fragment, type HeaderOffsets, Icmpv6Type, IpProtocol, type Packet } from '../../net/index.ts';
import { DropReason } from '../drop-reason.ts';
import type { ForwardingContext } from '../path/context.ts';
import type { AddressBinding } from './address-binding.ts';
import { dhcpClientMessage, releaseBy } from './binding-learn.ts';
import { GuardedPort } from './hidden.ts';

/** Multicast listener discovery, RFC 2710 and 3810. */
export const MLD: ReadonlySet<number> = new Set([
  Icmpv6Type.LISTENER_QUERY,
  Icmpv6Type.LISTENER_REPORT,
  Icmpv6Type.LISTENER_DONE,
  Icmpv6Type.LISTENER_REPORT_V2,
]);
/** ff02::1:ff00:0, without its last three bytes. */
const SOLICITED_NODE: readonly number[] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];
/** Of the IPv6 header. */
const HOP_LIMIT = 7;
export const REVERSE_ARP = 0x8035;
const ARP_BYTES = 28;

/**
 * Whether the bindings of its port let a packet in.
 * @param headers of this packet, just parsed, and nothing hides in it
 * @param commit false only looks
 * @returns a DropReason; NONE lets it in
 */
export function bindingVerdict(
  packet: Packet,
  headers: HeaderOffsets,
  binding: AddressBinding,
  nowMs: number,
  commit: boolean,
): number {
  const { etherType, ipVersion } = headers;
  if (etherType === EtherType.ARP || etherType === REVERSE_ARP) return arpVerdict(packet, headers, binding, nowMs);
  if (ipVersion === 4) return ipv4Verdict(packet, headers, binding, nowMs, commit);
  if (ipVersion === 6) return ipv6Verdict(packet, headers, binding, nowMs, commit);
  return DropReason.NONE;
}

function vlanOf(packet: Packet): number {
  return (packet.attachment as ForwardingContext).vlan;
}

/** RFC 826: the sender is who sends the frame, and has the address; RFC 5227: or asks whether somebody has it. */
function arpVerdict(packet: Packet, headers: HeaderOffsets, binding: AddressBinding, nowMs: number): number {
  const bytes = packet.bytes;
  const arp = packet.offset + headers.l3Offset;
  if (headers.l3End - headers.l3Offset < ARP_BYTES) return DropReason.NOT_JUDGEABLE;
  const isKnown = bytes[arp] === 0 && bytes[arp + 1] === 1 && bytes[arp + 2] === 8 && bytes[arp + 3] === 0;
  if (!isKnown || bytes[arp + 4] !== 6 || bytes[arp + 5] !== 4) return DropReason.NOT_JUDGEABLE;
  const mac = packet.offset + 6;
  if (!equal(bytes, arp + 8, mac, 6)) return DropReason.CLAIM_NOT_BOUND;
  if (isZero(bytes, arp + 14, 4)) return DropReason.NONE;
  const isBound = binding.allows(bytes, arp + 14, 4, vlanOf(packet), mac, nowMs);
  return isBound ? DropReason.NONE : DropReason.CLAIM_NOT_BOUND;
}

function ipv4Verdict(
  packet: Packet,
  headers: HeaderOffsets,
  binding: AddressBinding,
  nowMs: number,
  commit: boolean,
): number {
  const bytes = packet.bytes;
  const source = packet.offset + headers.l3Offset + 12;
  const mac = packet.offset + 6;
  if (isToServer(headers, GuardedPort.DHCPV4_CLIENT, GuardedPort.DHCPV4_SERVER)) {
    if (headers.fragment !== Fragment.NONE) return DropReason.NOT_JUDGEABLE;
    const message = dhcpClientMessage(packet, headers);
    if (message === null) return DropReason.NOT_JUDGEABLE;
    if (!equal(bytes, message.clientMacAt, mac, 6)) return DropReason.CLAIM_NOT_BOUND;
    if (message.isRelayed) return DropReason.CLAIM_NOT_BOUND;
    // Who has lost his binding renews it by the address that he believes to have, and names it in the message.
    if (!message.ends) {
      const isNamed = isZero(bytes, source, 4) || equal(bytes, source, message.clientAddressAt, 4);
      if (!isNamed) return DropReason.SOURCE_NOT_BOUND;
      if (commit) binding.exchanges.note(message.transaction, bytes, mac, vlanOf(packet), nowMs);
      return DropReason.NONE;
    }
    const reason = sourceVerdict(bytes, source, 4, packet, binding, nowMs);
    if (reason === DropReason.NONE && commit) releaseBy(packet, headers, message, binding, vlanOf(packet));
    return reason;
  }
  if (isZero(bytes, source, 4)) {
    const isToGroup = (bytes[source + 4] & 0xf0) === 0xe0;
    return headers.ipProtocol === IpProtocol.IGMP && isToGroup ? DropReason.NONE : DropReason.SOURCE_NOT_BOUND;
  }
  return sourceVerdict(bytes, source, 4, packet, binding, nowMs);
}

function ipv6Verdict(
  packet: Packet,
  headers: HeaderOffsets,
  binding: AddressBinding,
  nowMs: number,
  commit: boolean,
): number {
  const bytes = packet.bytes;
  const source = packet.offset + headers.l3Offset + 8;
  const isUnspecified = isZero(bytes, source, 16);
  const isIcmp = headers.ipProtocol === IpProtocol.ICMPV6 && headers.payloadOffset !== -1;
  const type = isIcmp ? headers.icmpType : -1;
  if (isUnspecified) {
    const isAllowed =
      type === Icmpv6Type.NEIGHBOR_SOLICITATION || type === Icmpv6Type.ROUTER_SOLICITATION || MLD.has(type);
    if (!isAllowed) return DropReason.SOURCE_NOT_BOUND;
  } else {
    const reason = sourceVerdict(bytes, source, 6, packet, binding, nowMs);
    if (reason !== DropReason.NONE) return reason;
  }
  if (type >= Icmpv6Type.ROUTER_SOLICITATION && type <= Icmpv6Type.REDIRECT) {
    // RFC 6980: neighbour discovery is not fragmented.
    if (headers.fragmentOffset !== -1) return DropReason.NOT_JUDGEABLE;
    return discoveryVerdict(packet, headers, binding, isUnspecified, nowMs, commit);
  }
  if (isToServer(headers, GuardedPort.DHCPV6_CLIENT, GuardedPort.DHCPV6_SERVER)) {
    if (headers.fragment !== Fragment.NONE) return DropReason.NOT_JUDGEABLE;
    const message = dhcpClientMessage(packet, headers);
    if (message === null) return DropReason.NOT_JUDGEABLE;
    if (commit && message.ends) releaseBy(packet, headers, message, binding, vlanOf(packet));
    else if (commit) binding.exchanges.note(message.transaction, bytes, packet.offset + 6, vlanOf(packet), nowMs);
  }
  return DropReason.NONE;
}

/** RFC 4861: the target of an advertisement, and of a test for duplicates, and the link-layer addresses in options. */
function discoveryVerdict(
  packet: Packet,
  headers: HeaderOffsets,
  binding: AddressBinding,
  isUnspecified: boolean,
  nowMs: number,
  commit: boolean,
): number {
  const bytes = packet.bytes;
  const type = headers.icmpType;
  const start = packet.offset + headers.l4Offset;
  const end = packet.offset + headers.l3End;
  const mac = packet.offset + 6;
  const hasTarget = type === Icmpv6Type.NEIGHBOR_SOLICITATION || type === Icmpv6Type.NEIGHBOR_ADVERTISEMENT;
  const options =
    start +
    (type === Icmpv6Type.ROUTER_SOLICITATION ? 8 : type === Icmpv6Type.ROUTER_ADVERTISEMENT ? 16 : hasTarget ? 24 : 40);
  if (options > end) return DropReason.NOT_JUDGEABLE;
  // RFC 4861: a router has let it through, so that nobody believes it.
  if (bytes[packet.offset + headers.l3Offset + HOP_LIMIT] !== 255) return DropReason.CLAIM_NOT_BOUND;
  if (type === Icmpv6Type.NEIGHBOR_ADVERTISEMENT || (type === Icmpv6Type.NEIGHBOR_SOLICITATION && isUnspecified)) {
    const target = start + 8;
    const vlan = vlanOf(packet);
    if (!binding.allows(bytes, target, 6, vlan, mac, nowMs)) {
      const mayClaim =
        type === Icmpv6Type.NEIGHBOR_SOLICITATION &&
        isHeardByHolder(packet, headers, target) &&
        binding.claim(bytes, target, vlan, mac, nowMs, commit);
      if (!mayClaim) return DropReason.CLAIM_NOT_BOUND;
    }
  }
  // Source link-layer address (1) of solicitations and router advertisements, target link-layer address (2) of advertisements.
  const ownOption = type === Icmpv6Type.NEIGHBOR_ADVERTISEMENT ? 2 : 1;
  for (let at = options; at < end; at += bytes[at + 1] * 8) {
    if (end - at < 8 || bytes[at + 1] === 0 || bytes[at + 1] * 8 > end - at) return DropReason.NOT_JUDGEABLE;
    if (type !== Icmpv6Type.REDIRECT && bytes[at] === ownOption && !equal(bytes, at + 2, mac, 6))
      return DropReason.CLAIM_NOT_BOUND;
  }
  return DropReason.NONE;
}

/**
 * RFC 4862: a test for duplicates goes to the solicited-node group of the address, ff02::1:ffXX:XXXX. Sent anywhere else, nobody who has the address
 * would hear it and object.
 */
function isHeardByHolder({ bytes, offset }: Packet, { l3Offset }: HeaderOffsets, target: number): boolean {
  const group = offset + l3Offset + 24;
  for (let i = 0; i < SOLICITED_NODE.length; i += 1) if (bytes[group + i] !== SOLICITED_NODE[i]) return false;
  const isGroup = equal(bytes, group + 13, target + 13, 3);
  const isFrame = bytes[offset] === 0x33 && bytes[offset + 1] === 0x33 && equal(bytes, offset + 2, group + 12, 4);
  return isGroup && isFrame;
}

function sourceVerdict(
  bytes: Uint8Array,
  source: number,
  version: number,
  packet: Packet,
  binding: AddressBinding,
  nowMs: number,
): number {
  const isBound = binding.allows(bytes, source, version, vlanOf(packet), packet.offset + 6, nowMs);
  return isBound ? DropReason.NONE : DropReason.SOURCE_NOT_BOUND;
}

function isToServer(
  { ipProtocol, sourcePort, destinationPort }: HeaderOffsets,
  client: number,
  server: number,
): boolean {
  return ipProtocol === IpProtocol.UDP && sourcePort === client && destinationPort === server;
}

function equal(bytes: Uint8Array, a: number, b: number, length: number): boolean {
  for (let i = 0; i < length; i += 1) if (bytes[a + i] !== bytes[b + i]) return false;
  return true;
}

function isZero(bytes: Uint8Array, at: number, length: number): boolean {
  for (let i = 0; i < length; i += 1) if (bytes[at + i] !== 0) return false;
  return true;
}
