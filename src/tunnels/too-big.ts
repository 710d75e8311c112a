/**
 * The answer to a packet that is too big for a tunnel's path: ICMP "fragmentation needed" (RFC 1191) or ICMPv6 "packet too big" (RFC 8201), in the name of the address that it was sent to,
 * as Linux does for its tunnels (skb_tunnel_check_pmtu). So the sender learns of a path that neither end of the tunnel's own network knows.
 */
import {
  ETHERNET_BYTES,
  Fragment,
  finishSum,
  HeaderOffsets,
  Icmpv4Type,
  Icmpv6Type,
  IpProtocol,
  internetChecksum,
  type Packet,
  type PacketPool,
  pseudoHeaderSum6,
  sumBytes,
} from '../net/index.ts';

const IPV4_BYTES = 20;
const IPV6_BYTES = 40;
const ICMP_BYTES = 8;
const FRAGMENTATION_NEEDED = 4;
const DONT_FRAGMENT = 0x4000;
const TTL = 64;
/** What an answer may be long, its IP header included (RFC 1812, section 4.3.2.3; RFC 4443, section 2.4). */
const LONGEST_IPV4 = 576;
const LONGEST_IPV6 = 1280;
/** Least MTU that hosts listen to: that of Linux' min_pmtu, and that of IPv6. */
const LEAST_IPV4 = 552;
const LEAST_IPV6 = 1280;

const headers = new HeaderOffsets();

/**
 * Make the answer; the packet is only read.
 * @param packet that does not fit
 * @param l3Type its EtherType when it has no Ethernet header, and then the answer has none; else 0
 * @param mtuBytes the longest IP packet that fits
 * @param pool where the answer's memory comes from
 * @returns the answer with one reference, to be sent back to where the packet came from; null where there must be none: the packet may be fragmented, is a later fragment, an error itself, was sent
 * to many or by nobody, is not IP, or the MTU is less than hosts listen to; and when the pool is empty
 */
export function tooBigAnswer(packet: Packet, l3Type: number, mtuBytes: number, pool: PacketPool): Packet | null {
  if (l3Type === 0) headers.parse(packet);
  else headers.parseLayer3(packet, l3Type);
  const isIpv4 = headers.ipVersion === 4;
  if (headers.ipVersion === 0 || mtuBytes < (isIpv4 ? LEAST_IPV4 : LEAST_IPV6)) return null;
  const isToMany = l3Type === 0 && (packet.bytes[packet.offset] & 1) === 1;
  if (isToMany || headers.fragment === Fragment.LATER || !(isIpv4 ? mayAnswer4(packet) : mayAnswer6(packet)))
    return null;
  const quoted = Math.min(
    headers.l3End - headers.l3Offset,
    isIpv4 ? LONGEST_IPV4 - IPV4_BYTES - ICMP_BYTES : LONGEST_IPV6 - IPV6_BYTES - ICMP_BYTES,
  );
  const length = headers.l3Offset + (isIpv4 ? IPV4_BYTES : IPV6_BYTES) + ICMP_BYTES + quoted;
  const answer = length > pool.maxFrameBytes ? null : pool.allocate();
  if (answer === null) return null;
  answer.length = length;
  if (l3Type === 0) turnEthernet(packet, answer, headers.l3Offset);
  const ip = packet.offset + headers.l3Offset;
  const to = answer.offset + headers.l3Offset;
  const quote = to + length - headers.l3Offset - quoted;
  for (let i = 0; i < quoted; i += 1) answer.bytes[quote + i] = packet.bytes[ip + i];
  if (isIpv4) writeIpv4(packet, answer, ip, to, mtuBytes, quoted);
  else writeIpv6(packet, answer, ip, to, mtuBytes, quoted);
  return answer;
}

/** Errors are not answered, nor what may be fragmented, nor broadcast and multicast (RFC 1122, section 3.2.2). */
function mayAnswer4(packet: Packet): boolean {
  const { view } = packet.region;
  const ip = packet.offset + headers.l3Offset;
  const source = view.getUint32(ip + 12);
  const destination = view.getUint32(ip + 16);
  const isHost = source !== 0 && source < 0xe000_0000 && destination !== 0 && destination < 0xe000_0000;
  if (!isHost || (view.getUint16(ip + 6) & DONT_FRAGMENT) === 0) return false;
  if (headers.ipProtocol !== IpProtocol.ICMPV4) return true;
  return headers.icmpType === Icmpv4Type.ECHO_REQUEST || headers.icmpType === Icmpv4Type.ECHO_REPLY;
}

/** Errors are those below 128 (RFC 4443, section 2.1). What was sent to many would be answered by itself, but by an address that nobody has. */
function mayAnswer6(packet: Packet): boolean {
  const { bytes } = packet;
  const ip = packet.offset + headers.l3Offset;
  let any = 0;
  for (let i = 0; i < 16; i += 1) any |= bytes[ip + 8 + i];
  if (any === 0 || bytes[ip + 8] === 0xff || bytes[ip + 24] === 0xff) return false;
  return headers.ipProtocol !== IpProtocol.ICMPV6 || headers.icmpType >= 128;
}

/** The Ethernet header and tags of the packet, its addresses exchanged. */
function turnEthernet(packet: Packet, answer: Packet, l3Offset: number): void {
  const from = packet.offset;
  const to = answer.offset;
  for (let i = 0; i < 6; i += 1) {
    answer.bytes[to + i] = packet.bytes[from + 6 + i];
    answer.bytes[to + 6 + i] = packet.bytes[from + i];
  }
  for (let i = ETHERNET_BYTES - 2; i < l3Offset; i += 1) answer.bytes[to + i] = packet.bytes[from + i];
}

function writeIpv4(packet: Packet, answer: Packet, ip: number, to: number, mtuBytes: number, quoted: number): void {
  const { view } = answer.region;
  const old = packet.region.view;
  // The precedence of network control (RFC 1812, section 4.3.2.5).
  view.setUint16(to, 0x45c0);
  view.setUint16(to + 2, IPV4_BYTES + ICMP_BYTES + quoted);
  view.setUint16(to + 4, 0);
  view.setUint16(to + 6, DONT_FRAGMENT);
  view.setUint16(to + 8, (TTL << 8) | IpProtocol.ICMPV4);
  view.setUint16(to + 10, 0);
  view.setUint32(to + 12, old.getUint32(ip + 16));
  view.setUint32(to + 16, old.getUint32(ip + 12));
  view.setUint16(to + 10, internetChecksum(answer.bytes, to, IPV4_BYTES));
  const icmp = to + IPV4_BYTES;
  view.setUint16(icmp, (Icmpv4Type.UNREACHABLE << 8) | FRAGMENTATION_NEEDED);
  view.setUint16(icmp + 2, 0);
  view.setUint32(icmp + 4, Math.min(mtuBytes, 0xffff));
  view.setUint16(icmp + 2, internetChecksum(answer.bytes, icmp, ICMP_BYTES + quoted));
}

function writeIpv6(packet: Packet, answer: Packet, ip: number, to: number, mtuBytes: number, quoted: number): void {
  const { view } = answer.region;
  const old = packet.region.view;
  const length = ICMP_BYTES + quoted;
  view.setUint32(to, 0x6000_0000);
  view.setUint16(to + 4, length);
  view.setUint16(to + 6, (IpProtocol.ICMPV6 << 8) | TTL);
  for (let i = 0; i < 16; i += 4) {
    view.setUint32(to + 8 + i, old.getUint32(ip + 24 + i));
    view.setUint32(to + 24 + i, old.getUint32(ip + 8 + i));
  }
  const icmp = to + IPV6_BYTES;
  view.setUint32(icmp, Icmpv6Type.PACKET_TOO_BIG << 24);
  view.setUint32(icmp + 4, mtuBytes);
  const pseudo = pseudoHeaderSum6(answer.bytes, to + 8, IpProtocol.ICMPV6, length);
  view.setUint16(icmp + 2, finishSum(sumBytes(answer.bytes, icmp, length, pseudo)));
}
