/**
 * What bindings are learned from: the messages of DHCP and DHCPv6 (RFC 2131, 8415), as clients behind the port ask and servers elsewhere answer, and neighbour
 * advertisements by which somebody objects. Neighbour: address-binding.ts keeps what is learned.
 */
import { Fragment, type HeaderOffsets, Icmpv6Type, IpProtocol, type Packet } from '../../net/index.ts';
import type { ForwardingContext } from '../path/context.ts';
import { type AddressBinding, holdingAt } from './address-binding.ts';
import { GuardedPort } from './hidden.ts';

/** BOOTP, RFC 951 and 2131: offsets in the message. */
const Bootp = { XID: 4, CIADDR: 12, YIADDR: 16, GIADDR: 24, CHADDR: 28, MAGIC: 236, OPTIONS: 240 } as const;
const MAGIC = 0x63825363;
const BootpOption = { REQUESTED: 50, LEASE: 51, TYPE: 53 } as const;
const BootpType = { DECLINE: 4, ACK: 5, RELEASE: 7 } as const;
const Dhcpv6Type = { REPLY: 7, RELEASE: 8, DECLINE: 9 } as const;
/** Options with addresses: identity associations, and the address in them. */
const Dhcpv6Option = { IA_NA: 3, IA_TA: 4, IAADDR: 5 } as const;
const FOREVER = 0xffff_ffff;

/** What of a client's message counts. */
export interface ClientMessage {
  readonly transaction: number;
  /** Where the client's MAC address lies; of DHCPv6, the frame's source. */
  readonly clientMacAt: number;
  /** Where the address lies that the client says it has; of DHCPv6, -1. */
  readonly clientAddressAt: number;
  /** It claims to come from a relay: the server would answer there. */
  readonly isRelayed: boolean;
  /** It gives an address back. */
  readonly ends: boolean;
}

/** Read the message of a client; null for what is none. */
export function dhcpClientMessage(packet: Packet, headers: HeaderOffsets): ClientMessage | null {
  const view = viewOf(packet);
  const start = packet.offset + headers.payloadOffset;
  const end = packet.offset + headers.l3End;
  if (headers.ipVersion === 6) {
    if (end - start < 4) return null;
    const type = view.getUint8(start);
    const ends = type === Dhcpv6Type.RELEASE || type === Dhcpv6Type.DECLINE;
    const transaction = view.getUint32(start) & 0xff_ffff;
    return { transaction, clientMacAt: packet.offset + 6, clientAddressAt: -1, isRelayed: false, ends };
  }
  if (!isBootp(view, start, end, 1)) return null;
  const typeAt = bootpOption(view, start, end, BootpOption.TYPE, 1);
  const type = typeAt === -1 ? 0 : view.getUint8(typeAt);
  const ends = type === BootpType.RELEASE || type === BootpType.DECLINE;
  return {
    transaction: view.getUint32(start + Bootp.XID),
    clientMacAt: start + Bootp.CHADDR,
    clientAddressAt: start + Bootp.CIADDR,
    isRelayed: view.getUint32(start + Bootp.GIADDR) !== 0,
    ends,
  };
}

/** A client gives addresses back, and only its own. */
export function releaseBy(
  packet: Packet,
  headers: HeaderOffsets,
  { clientMacAt }: ClientMessage,
  binding: AddressBinding,
  vlan: number,
): void {
  const view = viewOf(packet);
  const start = packet.offset + headers.payloadOffset;
  const end = packet.offset + headers.l3End;
  const release = (at: number, version: number) =>
    binding.giveBack(holdingAt(packet.bytes, at, version, vlan, clientMacAt));
  if (headers.ipVersion === 6) {
    addressesOf(view, start + 4, end, (at) => release(at, 6));
    return;
  }
  const declined = bootpOption(view, start, end, BootpOption.REQUESTED, 4);
  release(declined === -1 ? start + Bootp.CIADDR : declined, 4);
}

/**
 * Look at a packet on its way to a bound port: an answer of a server binds what it gives, and an advertisement voids a claim.
 * @param headers of this packet, just parsed and sound
 */
export function observe(packet: Packet, headers: HeaderOffsets, binding: AddressBinding, nowMs: number): void {
  const { ipVersion, ipProtocol, sourcePort, destinationPort } = headers;
  const { sourcePort: from, vlan } = packet.attachment as ForwardingContext;
  if (headers.fragment !== Fragment.NONE || headers.payloadOffset === -1) return;
  if (ipVersion === 6 && ipProtocol === IpProtocol.ICMPV6) {
    const target = packet.offset + headers.l4Offset + 8;
    const isWhole = target + 16 <= packet.offset + headers.l3End;
    const isAdvertisement = headers.icmpType === Icmpv6Type.NEIGHBOR_ADVERTISEMENT;
    if (isAdvertisement && isWhole) binding.object(packet.bytes, target, vlan, nowMs);
    return;
  }
  if (!binding.learnsDhcp || ipProtocol !== IpProtocol.UDP) return;
  // What comes from a port that is guarded, or bound itself, is no server's.
  if (from === null || from.policy.dhcpGuard || from.policy.binding !== null) return;
  if (ipVersion === 4 && sourcePort === GuardedPort.DHCPV4_SERVER && destinationPort === GuardedPort.DHCPV4_CLIENT) {
    leaseOfBootp(packet, headers, binding, vlan, nowMs);
  } else if (sourcePort === GuardedPort.DHCPV6_SERVER && destinationPort === GuardedPort.DHCPV6_CLIENT) {
    leasesOfDhcpv6(packet, headers, binding, vlan, nowMs);
  }
}

function leaseOfBootp(
  packet: Packet,
  headers: HeaderOffsets,
  binding: AddressBinding,
  vlan: number,
  nowMs: number,
): void {
  const view = viewOf(packet);
  const start = packet.offset + headers.payloadOffset;
  const end = packet.offset + headers.l3End;
  if (!isBootp(view, start, end, 2)) return;
  const typeAt = bootpOption(view, start, end, BootpOption.TYPE, 1);
  const leaseAt = bootpOption(view, start, end, BootpOption.LEASE, 4);
  if (typeAt === -1 || view.getUint8(typeAt) !== BootpType.ACK || leaseAt === -1) return;
  const mac = binding.exchanges.find(view.getUint32(start + Bootp.XID), vlan, nowMs);
  if (mac === null || !mac.every((byte, i) => byte === packet.bytes[start + Bootp.CHADDR + i])) return;
  if (view.getUint32(start + Bootp.YIADDR) === 0) return;
  const holding = holdingAt(packet.bytes, start + Bootp.YIADDR, 4, vlan, start + Bootp.CHADDR);
  binding.lease(holding, 4, milliseconds(view.getUint32(leaseAt)), nowMs);
}

function leasesOfDhcpv6(
  packet: Packet,
  headers: HeaderOffsets,
  binding: AddressBinding,
  vlan: number,
  nowMs: number,
): void {
  const view = viewOf(packet);
  const start = packet.offset + headers.payloadOffset;
  const end = packet.offset + headers.l3End;
  if (end - start < 4 || view.getUint8(start) !== Dhcpv6Type.REPLY) return;
  const mac = binding.exchanges.find(view.getUint32(start) & 0xff_ffff, vlan, nowMs);
  if (mac === null) return;
  addressesOf(view, start + 4, end, (at, validSeconds) => {
    const address = packet.bytes.slice(at, at + 16);
    const macHigh = (mac[0] << 8) | mac[1];
    const macLow = (mac[2] << 24) | (mac[3] << 16) | (mac[4] << 8) | mac[5];
    binding.lease({ address, vlan, macHigh, macLow }, 6, milliseconds(validSeconds), nowMs);
  });
}

function milliseconds(seconds: number): number {
  return seconds === FOREVER ? Number.POSITIVE_INFINITY : seconds * 1000;
}

function viewOf({ bytes }: Packet): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Whether a whole BOOTP message of Ethernet is there. @param operation 1: of a client, 2: of a server */
function isBootp(view: DataView, start: number, end: number, operation: number): boolean {
  if (end - start < Bootp.OPTIONS || view.getUint8(start) !== operation) return false;
  const isEthernet = view.getUint8(start + 1) === 1 && view.getUint8(start + 2) === 6;
  return isEthernet && view.getUint32(start + Bootp.MAGIC) === MAGIC;
}

/** Where the value of an option of at least some bytes lies; -1 when it is not there. */
function bootpOption(view: DataView, start: number, end: number, wanted: number, bytes: number): number {
  let at = start + Bootp.OPTIONS;
  while (at < end) {
    const code = view.getUint8(at);
    if (code === 255) return -1;
    if (code === 0) {
      at += 1;
      continue;
    }
    if (at + 2 > end) return -1;
    const length = view.getUint8(at + 1);
    if (at + 2 + length > end) return -1;
    if (code === wanted) return length >= bytes ? at + 2 : -1;
    at += 2 + length;
  }
  return -1;
}

/** Tell of every address in the identity associations of a DHCPv6 message: where it lies, and for how many seconds it is valid. */
function addressesOf(
  view: DataView,
  from: number,
  end: number,
  tell: (at: number, validSeconds: number) => void,
): void {
  for (let at = from; at + 4 <= end; ) {
    const code = view.getUint16(at);
    const next = at + 4 + view.getUint16(at + 2);
    if (next > end) return;
    if (code === Dhcpv6Option.IA_NA) addressesOf(view, at + 16, next, tell);
    else if (code === Dhcpv6Option.IA_TA) addressesOf(view, at + 8, next, tell);
    else if (code === Dhcpv6Option.IAADDR && next - at >= 28) tell(at + 4, view.getUint32(at + 24));
    at = next;
  }
}
