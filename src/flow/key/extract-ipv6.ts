/** IPv6 for extraction: extension headers, fragments, ICMPv6 and neighbour discovery. Called by extract.ts alone. */
import { Fragment, Gso, Icmpv6Type, IpProtocol, isIpv6Extension, type Packet } from '../../net/index.ts';
import { readWord } from '../bytes.ts';
import { extractTransport, hasLyingEnd } from './extract-transport.ts';
import type { FlowKey } from './key.ts';
import { ExtensionHeader, Sound, Word } from './layout.ts';

/** What parsing the chain of extension headers found; reused, as only one packet is extracted at a time. */
let nextHeader = 0;
let transportAt = 0;
let fragment = 0;
/** Bits of {@link ExtensionHeader}. */
let found = 0;

/** Neighbour discovery: fixed part of solicitation and advertisement, and the two options with MAC addresses (RFC 4861). */
const ND_FIXED_BYTES = 24;
const ND_OPTION_SOURCE_MAC = 1;
const ND_OPTION_TARGET_MAC = 2;

/** @param at the IPv6 header, from the start of the frame */
export function extractIpv6(packet: Packet, key: FlowKey, at: number): void {
  const size = packet.length - at;
  if (size < 40) return;
  const bytes = packet.bytes;
  const ip = packet.offset + at;
  const totalLength = 40 + ((bytes[ip + 4] << 8) | bytes[ip + 5]);
  if (hasLyingEnd(size - totalLength)) return;
  const words = key.words;
  for (let i = 0; i < 8; i += 1) words[Word.IPV6_SOURCE + i] = readWord(bytes, ip + 8 + i * 4);
  const end = at + totalLength;
  nextHeader = bytes[ip + 6];
  transportAt = at + 40;
  fragment = packet.gsoType === Gso.UDP ? Fragment.FIRST : Fragment.NONE;
  found = 0;
  if (isIpv6Extension(nextHeader)) {
    // Of a packet that ends inside a header the addresses alone are known.
    if (!followExtensions(packet, end)) return;
  } else if (nextHeader === IpProtocol.NO_NEXT) {
    found = ExtensionHeader.NO_NEXT;
  } else if (nextHeader === IpProtocol.ESP) {
    found = ExtensionHeader.ESP;
  }
  words[Word.TCP_FLAGS] |= found;
  words[Word.IPV6_LABEL] = ((bytes[ip + 1] & 15) << 16) | (bytes[ip + 2] << 8) | bytes[ip + 3];
  const trafficClass = ((bytes[ip] & 15) << 4) | (bytes[ip + 1] >>> 4);
  words[Word.IP] = (nextHeader << 24) | (trafficClass << 16) | (bytes[ip + 7] << 8) | fragment;
  key.l3End = end;
  words[Word.ETH_TYPE] |= Sound.NETWORK;
  if (fragment === Fragment.LATER) return;
  key.l4Offset = transportAt;
  if (nextHeader === IpProtocol.ICMPV6) icmpv6(packet, key, transportAt, end);
  else extractTransport(packet, key, nextHeader, transportAt, end);
}

/**
 * Step over extension headers, from {@link transportAt} and {@link nextHeader} on, up to the transport header or a later fragment, whose
 * protocol is that of fragments. There is no limit but the packet's end: each header has at least 8 bytes.
 * The bits of {@link ExtensionHeader} follow the order that OpenFlow 1.5, section 7.2.3.8 and RFC 8200 give.
 * @param end one behind the IP packet, from the start of the frame
 * @returns false when the packet ends inside a header
 */
function followExtensions(packet: Packet, end: number): boolean {
  const bytes = packet.bytes;
  let destinations = 0;
  // As in Linux's ipv6_find_hdr: NO_NEXT and ESP end the chain.
  while (isIpv6Extension(nextHeader)) {
    if (end - transportAt < 8) return false;
    const header = packet.offset + transportAt;
    let headerLength = (bytes[header + 1] + 1) << 3;
    let bit: number;
    let mayPrecede: number = ExtensionHeader.HOP_BY_HOP | ExtensionHeader.DESTINATION;
    let isAgain = false;
    switch (nextHeader) {
      case IpProtocol.HOP_BY_HOP:
        bit = ExtensionHeader.HOP_BY_HOP;
        mayPrecede = 0;
        break;
      case IpProtocol.DESTINATION:
        destinations += 1;
        bit = ExtensionHeader.DESTINATION;
        // One before a routing header, and one before the transport header.
        isAgain = destinations > 2;
        mayPrecede = destinations === 1 ? ExtensionHeader.HOP_BY_HOP : ~ExtensionHeader.NO_NEXT;
        break;
      case IpProtocol.ROUTING:
        bit = ExtensionHeader.ROUTING;
        break;
      case IpProtocol.FRAGMENT:
        bit = ExtensionHeader.FRAGMENT;
        mayPrecede |= ExtensionHeader.ROUTING;
        headerLength = 8;
        break;
      default:
        bit = ExtensionHeader.AUTHENTICATION;
        mayPrecede |= ExtensionHeader.ROUTING | ExtensionHeader.FRAGMENT;
        headerLength = (bytes[header + 1] + 2) << 2;
    }
    if (bit !== ExtensionHeader.DESTINATION) isAgain = (found & bit) !== 0;
    if (isAgain) found |= ExtensionHeader.REPEATED;
    const flags = ExtensionHeader.REPEATED | ExtensionHeader.OUT_OF_ORDER;
    if ((found & ~flags & ~bit & ~mayPrecede) !== 0) found |= ExtensionHeader.OUT_OF_ORDER;
    found |= bit;
    if (headerLength > end - transportAt) return false;
    if (nextHeader === IpProtocol.FRAGMENT && isFragment(bytes, header)) return true;
    nextHeader = bytes[header];
    transportAt += headerLength;
  }
  if (nextHeader === IpProtocol.NO_NEXT) found |= ExtensionHeader.NO_NEXT;
  // ESP hides what comes behind it; it ends the chain like any transport.
  else if (nextHeader === IpProtocol.ESP) found |= ExtensionHeader.ESP;
  return true;
}

/**
 * Note what a fragment header says. An atomic fragment, first and last at once, is a whole packet (RFC 6946).
 * @returns whether what lies behind it is the middle of a payload
 */
function isFragment(bytes: Uint8Array, header: number): boolean {
  const offsetAndFlags = (bytes[header + 2] << 8) | bytes[header + 3];
  if (offsetAndFlags === 0) return false;
  if (offsetAndFlags >>> 3 === 0) {
    fragment = Fragment.FIRST;
    return false;
  }
  fragment = Fragment.LATER;
  return true;
}

function icmpv6(packet: Packet, key: FlowKey, at: number, end: number): void {
  let left = end - at;
  if (left < 8) return;
  const bytes = packet.bytes;
  const header = packet.offset + at;
  const words = key.words;
  const type = bytes[header];
  const code = bytes[header + 1];
  words[Word.ETH_TYPE] |= Sound.TRANSPORT;
  words[Word.PORTS] = (type << 16) | code;
  const hasTarget = type === Icmpv6Type.NEIGHBOR_SOLICITATION || type === Icmpv6Type.NEIGHBOR_ADVERTISEMENT;
  if (code !== 0 || !hasTarget || left < ND_FIXED_BYTES) return;
  for (let i = 0; i < 4; i += 1) words[Word.ND_TARGET + i] = readWord(bytes, header + 8 + i * 4);
  left -= ND_FIXED_BYTES;
  let option = header + ND_FIXED_BYTES;
  while (left >= 8) {
    const optionLength = bytes[option + 1] << 3;
    if (optionLength === 0 || optionLength > left) return;
    if (optionLength === 8) {
      const kind = bytes[option];
      if (kind === ND_OPTION_SOURCE_MAC || kind === ND_OPTION_TARGET_MAC) {
        if (!ndMac(bytes, option + 2, words, kind === ND_OPTION_TARGET_MAC)) {
          for (let i = Word.ND_TARGET; i <= Word.ND_MAC + 2; i += 1) words[i] = 0;
          return;
        }
      }
    }
    option += optionLength;
    left -= optionLength;
  }
}

/** @returns false when the packet has given this address before: then nothing of its neighbour discovery counts */
function ndMac(bytes: Uint8Array, at: number, words: Uint32Array, isTarget: boolean): boolean {
  const high = (bytes[at] << 8) | bytes[at + 1];
  if (isTarget) {
    if (words[Word.ND_MAC + 2] !== 0 || (words[Word.ND_MAC + 1] & 0xffff) !== 0) return false;
    words[Word.ND_MAC + 1] |= high;
    words[Word.ND_MAC + 2] = readWord(bytes, at + 2);
    return true;
  }
  if (words[Word.ND_MAC] !== 0 || words[Word.ND_MAC + 1] >>> 16 !== 0) return false;
  words[Word.ND_MAC] = readWord(bytes, at);
  words[Word.ND_MAC + 1] |= ((bytes[at + 4] << 8) | bytes[at + 5]) << 16;
  return true;
}
