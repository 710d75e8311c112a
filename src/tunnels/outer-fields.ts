/** What decapsulation takes from an outer IP header, for all kinds of tunnels: words of the key, and the mark of congestion. */
import { ETHERNET_BYTES, EtherType, type HeaderOffsets, type Packet } from '../net/index.ts';
import { decapsulatedEcn, ECN_DROP, setEcn } from './ecn.ts';
import { TunnelWord } from './key.ts';

const DONT_FRAGMENT = 0x4000;

/** Addresses, TOS and TTL of an outer IP header, into a key's words. */
export function fillOuter(
  packet: Packet,
  outer: HeaderOffsets,
  tos: number,
  words: Uint32Array,
  at: number,
  optionsKind: number,
): void {
  const { view } = packet.region;
  const ip = packet.offset + outer.l3Offset;
  const isIpv4 = outer.ipVersion === 4;
  if (isIpv4) {
    words[at + TunnelWord.SOURCE] = view.getUint32(ip + 12);
    words[at + TunnelWord.DESTINATION] = view.getUint32(ip + 16);
  } else {
    for (let i = 0; i < 8; i += 1) words[at + TunnelWord.SOURCE + i] = view.getUint32(ip + 8 + i * 4);
  }
  const ttl = packet.bytes[ip + (isIpv4 ? 8 : 7)];
  words[at + TunnelWord.IP] = (outer.ipVersion << 24) | (tos << 16) | (ttl << 8) | optionsKind;
}

/** TOS or traffic class of an outer header. */
export function outerTos(packet: Packet, outer: HeaderOffsets): number {
  const word = packet.region.view.getUint16(packet.offset + outer.l3Offset);
  return outer.ipVersion === 4 ? word & 0xff : (word >>> 4) & 0xff;
}

/** IPv6 is never fragmented on the way, and says nothing. */
export function isDontFragment(packet: Packet, outer: HeaderOffsets): boolean {
  if (outer.ipVersion !== 4) return false;
  return (packet.region.view.getUint16(packet.offset + outer.l3Offset + 6) & DONT_FRAGMENT) !== 0;
}

/**
 * Join the outer mark of congestion with the one inside, behind up to two tags.
 * @param payload index of the packet inside
 * @param l3Type its EtherType when it has no Ethernet header
 * @returns false when the packet has to be dropped
 */
export function joinEcn(packet: Packet, payload: number, end: number, l3Type: number, tos: number): boolean {
  const outer = tos & 3;
  if (outer === 0) return true;
  const { view } = packet.region;
  let type = l3Type;
  let l3 = payload;
  if (l3Type === 0) {
    l3 += ETHERNET_BYTES;
    type = view.getUint16(l3 - 2);
    for (let tags = 0; tags < 2 && (type === EtherType.VLAN || type === EtherType.SERVICE_VLAN); tags += 1) {
      if (end - l3 < 4) return true;
      type = view.getUint16(l3 + 2);
      l3 += 4;
    }
  }
  const version = type === EtherType.IPV4 ? 4 : type === EtherType.IPV6 ? 6 : 0;
  if (version === 0 || end - l3 < 20 || packet.bytes[l3] >>> 4 !== version) return true;
  const inner = (version === 4 ? packet.bytes[l3 + 1] : packet.bytes[l3 + 1] >>> 4) & 3;
  const joined = decapsulatedEcn(inner, outer);
  if (joined === ECN_DROP) return false;
  if (joined !== inner) setEcn(view, l3, version, joined);
  return true;
}
