/**
 * Extraction: from a packet's bytes straight into a key, for every packet, with nothing allocated. The rules for what is
 * truncated or malformed are those of ovs-vswitchd's own parser (miniflow_extract in its lib/flow.c): a header that cannot be read
 * leaves its fields 0 and the packet goes on. Where an IP length contradicts the frame nothing of layers 3 and 4 is read, and what
 * lies behind the end that the IP header names is padding. A parser that reads more than ovs-vswitchd gives flows of a packet that
 * lies to sound packets. Only a frame without an Ethernet header and a broken NSH header refuse the packet.
 * extract-ipv6.ts holds IPv6; net/'s own header parser is stricter and serves other users.
 */
import { EtherType, Fragment, Gso, IpProtocol, type Packet } from '../../net/index.ts';
import { readWord } from '../bytes.ts';
import { extractIpv6 } from './extract-ipv6.ts';
import { extractTransport, hasLyingEnd } from './extract-transport.ts';
import type { FlowKey } from './key.ts';
import { FlowEtherType, IPV4_END, L3_MARKER, MPLS_DEPTH, Sound, TAG_PRESENT, Word } from './layout.ts';

/** What extraction says of a packet. */
export const Extraction = {
  DONE: 0,
  /** Shorter than an Ethernet header. */
  ETHERNET_TRUNCATED: 1,
  /** An NSH header that is cut off, of another version, or of no known metadata type. */
  NSH_MALFORMED: 2,
  /** A packet without an Ethernet header that claims to be a VLAN tag. */
  TAG_WITHOUT_ETHERNET: 3,
} as const;

/** Bytes of the base header and of a header with metadata type 1 (RFC 8300). */
const NSH_BASE_BYTES = 8;
const NSH_MD1_BYTES = 24;

/** The control field of unnumbered information, the only one that SNAP is read behind. */
const LLC_UNNUMBERED = 3;

/**
 * Fill in layers 2 to 4 of a key, and where their headers are; metadata, connection tracking and tunnel stay as they are.
 * A packet without an Ethernet header is told by {@link FlowKey.l3Type}.
 * @returns one of {@link Extraction}; on anything but DONE layers 2 to 4 of the key are of no use
 */
export function extract(packet: Packet, key: FlowKey): number {
  const words = key.words;
  // Actions may have written where extraction has not.
  const end = key.stale ? Word.TUNNEL : key.extractedEnd;
  for (let i = Word.VLAN; i < end; i += 1) words[i] = 0;
  key.extractedEnd = Word.TUNNEL;
  key.l4Offset = -1;
  key.l3End = -1;
  key.stale = false;
  if (key.l3Type !== 0) {
    const type = key.l3Type;
    if (type === EtherType.VLAN || type === EtherType.SERVICE_VLAN) return Extraction.TAG_WITHOUT_ETHERNET;
    words[Word.ETH_TYPE] = (type << 16) | L3_MARKER;
    for (let i = 0; i < 3; i += 1) words[Word.MAC + i] = 0;
    key.l3Offset = 0;
    return network(packet, key, type, 0);
  }

  const length = packet.length;
  if (length < 14) return Extraction.ETHERNET_TRUNCATED;
  const bytes = packet.bytes;
  const start = packet.offset;
  words[Word.MAC] = (bytes[start] << 24) | (bytes[start + 1] << 16) | (bytes[start + 2] << 8) | bytes[start + 3];
  words[Word.MAC + 1] =
    (bytes[start + 4] << 24) | (bytes[start + 5] << 16) | (bytes[start + 6] << 8) | bytes[start + 7];
  words[Word.MAC + 2] =
    (bytes[start + 8] << 24) | (bytes[start + 9] << 16) | (bytes[start + 10] << 8) | bytes[start + 11];
  let at = 12;
  let type = (bytes[start + 12] << 8) | bytes[start + 13];
  for (let tag = 0; tag < 2; tag += 1) {
    if (type !== EtherType.VLAN && type !== EtherType.SERVICE_VLAN) break;
    if (length < at + 6) break;
    const tci = (bytes[start + at + 2] << 8) | bytes[start + at + 3] | TAG_PRESENT;
    words[Word.VLAN + tag] = (type << 16) | tci;
    at += 4;
    type = (bytes[start + at] << 8) | bytes[start + at + 1];
  }
  at += 2;
  if (type < 0x0600) {
    type = EtherType.LLC;
    const llc = start + at;
    if (
      length >= at + 8 &&
      bytes[llc] === 0xaa &&
      bytes[llc + 1] === 0xaa &&
      bytes[llc + 2] === LLC_UNNUMBERED &&
      (bytes[llc + 3] | bytes[llc + 4] | bytes[llc + 5]) === 0
    ) {
      const snapType = (bytes[llc + 6] << 8) | bytes[llc + 7];
      if (snapType >= 0x0600) type = snapType;
      at += 8;
    }
  }
  words[Word.ETH_TYPE] = type << 16;
  key.l3Offset = at;
  return network(packet, key, type, at);
}

function network(packet: Packet, key: FlowKey, type: number, at: number): number {
  switch (type) {
    case EtherType.IPV4:
      ipv4(packet, key, at);
      key.extractedEnd = IPV4_END;
      return Extraction.DONE;
    case EtherType.IPV6:
      extractIpv6(packet, key, at);
      return Extraction.DONE;
    case EtherType.ARP:
    case FlowEtherType.REVERSE_ARP:
      arp(packet, key, at);
      return Extraction.DONE;
    case EtherType.MPLS:
    case EtherType.MPLS_MULTICAST:
      mpls(packet, key, at);
      return Extraction.DONE;
    case FlowEtherType.NSH:
      return nsh(packet, key, at);
    default:
      return Extraction.DONE;
  }
}

/**
 * Version and checksum are for the end host to judge. A header length or a total length that contradicts the frame leaves layer 3 out
 * of the key.
 */
function ipv4(packet: Packet, key: FlowKey, at: number): void {
  const size = packet.length - at;
  if (size < 20) return;
  const bytes = packet.bytes;
  const ip = packet.offset + at;
  const headerLength = (bytes[ip] & 15) << 2;
  const totalLength = (bytes[ip + 2] << 8) | bytes[ip + 3];
  if (headerLength < 20 || headerLength > totalLength || hasLyingEnd(size - totalLength)) return;
  const words = key.words;
  words[Word.IPV4_SOURCE] = (bytes[ip + 12] << 24) | (bytes[ip + 13] << 16) | (bytes[ip + 14] << 8) | bytes[ip + 15];
  words[Word.IPV4_DESTINATION] =
    (bytes[ip + 16] << 24) | (bytes[ip + 17] << 16) | (bytes[ip + 18] << 8) | bytes[ip + 19];
  const protocol = bytes[ip + 9];
  const fragmentWord = (bytes[ip + 6] << 8) | bytes[ip + 7];
  let fragment: number = Fragment.NONE;
  if ((fragmentWord & 0x1fff) !== 0) fragment = Fragment.LATER;
  else if ((fragmentWord & 0x2000) !== 0 || packet.gsoType === Gso.UDP) fragment = Fragment.FIRST;
  words[Word.IP] = (protocol << 24) | (bytes[ip + 1] << 16) | (bytes[ip + 8] << 8) | fragment;
  const end = at + totalLength;
  key.l3End = end;
  words[Word.ETH_TYPE] |= Sound.NETWORK;
  if (fragment === Fragment.LATER) return;
  key.l4Offset = at + headerLength;
  if (protocol === IpProtocol.ICMPV4) icmp(packet, key, at + headerLength, end);
  else extractTransport(packet, key, protocol, at + headerLength, end);
}

function icmp(packet: Packet, key: FlowKey, at: number, end: number): void {
  if (end - at < 8) return;
  const header = packet.offset + at;
  key.words[Word.ETH_TYPE] |= Sound.TRANSPORT;
  key.words[Word.PORTS] = (packet.bytes[header] << 16) | packet.bytes[header + 1];
}

/** ARP and reverse ARP for IPv4 over Ethernet; anything else leaves its fields 0. */
function arp(packet: Packet, key: FlowKey, at: number): void {
  if (packet.length - at < 28) return;
  const bytes = packet.bytes;
  const header = packet.offset + at;
  const hardware = (bytes[header] << 8) | bytes[header + 1];
  const protocol = (bytes[header + 2] << 8) | bytes[header + 3];
  if (hardware !== 1 || protocol !== EtherType.IPV4 || bytes[header + 4] !== 6 || bytes[header + 5] !== 4) return;
  const words = key.words;
  words[Word.ETH_TYPE] |= Sound.NETWORK;
  // Only operations that fit the 8 bits of nw_proto can be told apart.
  if (bytes[header + 6] === 0) words[Word.IP] = bytes[header + 7] << 24;
  words[Word.IPV4_SOURCE] = readWord(bytes, header + 14);
  words[Word.IPV4_DESTINATION] = readWord(bytes, header + 24);
  words[Word.ARP_MAC] = readWord(bytes, header + 8);
  words[Word.ARP_MAC + 1] =
    (bytes[header + 12] << 24) | (bytes[header + 13] << 16) | (bytes[header + 18] << 8) | bytes[header + 19];
  words[Word.ARP_MAC + 2] = readWord(bytes, header + 20);
}

/** Entries up to the bottom of the stack. A stack that is cut off before its bottom keeps what was read but counts no labels. */
function mpls(packet: Packet, key: FlowKey, at: number): void {
  const bytes = packet.bytes;
  const words = key.words;
  const end = packet.offset + packet.length;
  let entry = packet.offset + at;
  let count = 0;
  while (entry + 4 <= end) {
    if (count < MPLS_DEPTH) words[Word.MPLS + count] = readWord(bytes, entry);
    count += 1;
    if ((bytes[entry + 2] & 1) === 1) {
      words[Word.MPLS_LABELS] = (1 << Math.min(count, MPLS_DEPTH)) - 1;
      return;
    }
    entry += 4;
  }
}

function nsh(packet: Packet, key: FlowKey, at: number): number {
  const length = packet.length - at;
  if (length < NSH_BASE_BYTES) return Extraction.NSH_MALFORMED;
  const bytes = packet.bytes;
  const header = packet.offset + at;
  const head = (bytes[header] << 8) | bytes[header + 1];
  const headerLength = (head & 0x3f) << 2;
  if (head >>> 14 !== 0 || headerLength < NSH_BASE_BYTES || headerLength > length) return Extraction.NSH_MALFORMED;
  // With reserved bits set it is no type that ovs-vswitchd knows.
  const metadataType = bytes[header + 2];
  if (metadataType !== 1 && metadataType !== 2) return Extraction.NSH_MALFORMED;
  if (metadataType === 1 && headerLength !== NSH_MD1_BYTES) return Extraction.NSH_MALFORMED;
  const words = key.words;
  // Version 2 bits, flags 2, TTL 6, length 6.
  words[Word.NSH_BASE] =
    (((head >>> 12) & 3) << 24) | (((head >>> 6) & 0x3f) << 16) | (metadataType << 8) | bytes[header + 3];
  words[Word.NSH_PATH] = readWord(bytes, header + 4);
  if (metadataType === 1) {
    for (let i = 0; i < 4; i += 1) words[Word.NSH_CONTEXT + i] = readWord(bytes, header + 8 + i * 4);
  }
  return Extraction.DONE;
}
