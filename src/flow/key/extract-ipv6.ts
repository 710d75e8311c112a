/** IPv6 for extraction: extension headers, fragments, ICMPv6 and neighbour discovery. Called by extract.ts alone. */
import { Fragment, Gso, IpProtocol, type Packet } from '../../net/index.ts';
import { readWord } from '../bytes.ts';
import { extractTransport } from './extract-transport.ts';
import type { FlowKey } from './key.ts';
import { ExtensionHeader, Word } from './layout.ts';

/** What parsing the chain of extension headers found; reused, as only one packet is extracted at a time. */
let nextHeader = 0;
let transportAt = 0;
let isFragment = false;

/** Extension headers that are followed before a packet counts as malformed: hostile ones chain a thousand. */
const MAXIMUM_EXTENSIONS = 32;

/** Neighbour discovery: fixed part of solicitation and advertisement, and the two options with MAC addresses (RFC 4861). */
const ND_SOLICITATION = 135;
const ND_ADVERTISEMENT = 136;
const ND_FIXED_BYTES = 24;
const ND_OPTION_SOURCE_MAC = 1;
const ND_OPTION_TARGET_MAC = 2;

/** @param at the IPv6 header, from the start of the frame */
export function extractIpv6(packet: Packet, key: FlowKey, at: number): void {
  if (packet.length - at < 40) return;
  const bytes = packet.bytes;
  const ip = packet.offset + at;
  const words = key.words;
  for (let i = 0; i < 8; i += 1) words[Word.IPV6_SOURCE + i] = readWord(bytes, ip + 8 + i * 4);
  words[Word.IPV6_LABEL] = ((bytes[ip + 1] & 15) << 16) | (bytes[ip + 2] << 8) | bytes[ip + 3];
  const trafficClass = ((bytes[ip] & 15) << 4) | (bytes[ip + 1] >>> 4);
  const tosTtl = (trafficClass << 16) | (bytes[ip + 7] << 8);
  nextHeader = bytes[ip + 6];
  let sound = true;
  isFragment = false;
  transportAt = at + 40;
  let fragmentOffset = 0;
  if (isExtension(nextHeader)) {
    words[Word.TCP_FLAGS] |= extensionHeaders(bytes, ip + 40, packet.offset + packet.length, nextHeader);
    fragmentOffset = followExtensions(packet);
    sound = fragmentOffset >= 0;
  } else if (nextHeader === IpProtocol.NO_NEXT) {
    words[Word.TCP_FLAGS] |= ExtensionHeader.NO_NEXT;
  }
  if (isFragment && fragmentOffset > 0) {
    words[Word.IP] = (IpProtocol.FRAGMENT << 24) | tosTtl | Fragment.LATER;
    return;
  }
  const fragment = isFragment || packet.gsoType === Gso.UDP ? Fragment.FIRST : Fragment.NONE;
  if (!sound) {
    words[Word.IP] = (IpProtocol.NO_NEXT << 24) | tosTtl | fragment;
    return;
  }
  words[Word.IP] = (nextHeader << 24) | tosTtl | fragment;
  key.l4Offset = transportAt;
  if (nextHeader === IpProtocol.ICMPV6) icmpv6(packet, key, transportAt);
  else extractTransport(packet, key, nextHeader, transportAt);
}

/**
 * Step over extension headers, from {@link transportAt} and {@link nextHeader} on.
 * @returns the fragment offset in units of 8 bytes, or -1 when the packet ends inside a header
 */
function followExtensions(packet: Packet): number {
  const bytes = packet.bytes;
  const length = packet.length;
  for (let count = 0; count < MAXIMUM_EXTENSIONS; count += 1) {
    if (!isExtension(nextHeader)) return 0;
    if (length - transportAt < 8) return -1;
    const header = packet.offset + transportAt;
    let headerLength = 8;
    if (nextHeader === IpProtocol.FRAGMENT) {
      isFragment = true;
      const offset = ((bytes[header + 2] << 8) | bytes[header + 3]) >>> 3;
      if (offset !== 0) return offset;
    } else if (nextHeader === IpProtocol.AUTHENTICATION) {
      headerLength = (bytes[header + 1] + 2) << 2;
    } else {
      headerLength = (bytes[header + 1] + 1) << 3;
    }
    nextHeader = bytes[header];
    transportAt += headerLength;
  }
  return -1;
}

/** The bits of {@link ExtensionHeader} for a chain, by the order that OpenFlow 1.5, section 7.2.3.8 and RFC 8200 give. */
function extensionHeaders(bytes: Uint8Array, start: number, end: number, first: number): number {
  let found = 0;
  let at = start;
  let next = first;
  let destinations = 0;
  for (let count = 0; count < MAXIMUM_EXTENSIONS; count += 1) {
    let bit: number;
    let mayPrecede: number = ExtensionHeader.HOP_BY_HOP | ExtensionHeader.DESTINATION;
    switch (next) {
      case IpProtocol.NO_NEXT:
        return found | ExtensionHeader.NO_NEXT;
      case IpProtocol.HOP_BY_HOP:
        bit = ExtensionHeader.HOP_BY_HOP;
        mayPrecede = 0;
        break;
      case IpProtocol.DESTINATION:
        destinations += 1;
        bit = ExtensionHeader.DESTINATION;
        mayPrecede =
          destinations === 1
            ? ExtensionHeader.HOP_BY_HOP
            : ~(ExtensionHeader.NO_NEXT | ExtensionHeader.REPEATED | ExtensionHeader.OUT_OF_ORDER);
        break;
      case IpProtocol.ROUTING:
        bit = ExtensionHeader.ROUTING;
        break;
      case IpProtocol.FRAGMENT:
        bit = ExtensionHeader.FRAGMENT;
        mayPrecede |= ExtensionHeader.ROUTING;
        break;
      case IpProtocol.AUTHENTICATION:
        bit = ExtensionHeader.AUTHENTICATION;
        mayPrecede |= ExtensionHeader.ROUTING | ExtensionHeader.FRAGMENT;
        break;
      default:
        // ESP hides what comes behind it; it ends the chain like any transport.
        return next === IpProtocol.ESP ? found | ExtensionHeader.ESP : found;
    }
    const again = bit === ExtensionHeader.DESTINATION ? destinations > 2 : (found & bit) !== 0;
    if (again) found |= ExtensionHeader.REPEATED;
    const flags = ExtensionHeader.REPEATED | ExtensionHeader.OUT_OF_ORDER;
    if ((found & ~flags & ~bit & ~mayPrecede) !== 0) found |= ExtensionHeader.OUT_OF_ORDER;
    found |= bit;
    if (end - at < 8) return found;
    const header = at;
    const units = bytes[header + 1];
    if (next === IpProtocol.FRAGMENT) at += 8;
    else if (next === IpProtocol.AUTHENTICATION) at += (units + 2) << 2;
    else at += (units + 1) << 3;
    next = bytes[header];
  }
  return found;
}

/** The headers that are stepped over, as in Linux's ipv6_find_hdr; NO_NEXT and ESP end the chain. */
function isExtension(next: number): boolean {
  return (
    next === IpProtocol.HOP_BY_HOP ||
    next === IpProtocol.ROUTING ||
    next === IpProtocol.FRAGMENT ||
    next === IpProtocol.AUTHENTICATION ||
    next === IpProtocol.DESTINATION
  );
}

function icmpv6(packet: Packet, key: FlowKey, at: number): void {
  let left = packet.length - at;
  if (left < 8) return;
  const bytes = packet.bytes;
  const header = packet.offset + at;
  const words = key.words;
  const type = bytes[header];
  const code = bytes[header + 1];
  words[Word.PORTS] = (type << 16) | code;
  if (code !== 0 || (type !== ND_SOLICITATION && type !== ND_ADVERTISEMENT) || left < ND_FIXED_BYTES) return;
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
