/**
 * Set actions: from value and mask to the packet's bytes, its checksums and the key. The packet may be written to. Values
 * start from the bytes, not from the key, so that they are right whatever was done before.
 */
import { IpProtocol, type Packet } from '../../net/index.ts';
import { setLayout, TUNNEL_BASE_WORDS } from '../actions/encoding.ts';
import { readHalf, readWord, writeHalf, writeWord } from '../bytes.ts';
import { KeyAttribute } from '../key/fields.ts';
import type { FlowKey } from '../key/key.ts';
import { FlowEtherType, isMpls, TUNNEL_WORDS } from '../key/layout.ts';
import { setIpv4, setIpv6 } from './rewrite-ip.ts';
import { setIcmp, setNeighbourDiscovery, setPorts } from './rewrite-transport.ts';

/** Whether a set of this attribute changes bytes of the packet, and not only what is known of it. */
export function changesPacket(attribute: number): boolean {
  return (
    attribute !== KeyAttribute.TUNNEL && attribute !== KeyAttribute.PRIORITY && attribute !== KeyAttribute.SKB_MARK
  );
}

/**
 * Run a set action, plain or masked.
 * @param at the head of the action in the list
 * @param end index behind the action
 * @returns false when the packet does not have the header
 */
export function applySet(packet: Packet, key: FlowKey, words: Int32Array, at: number, end: number): boolean {
  const attribute = words[at + 1];
  if (attribute === KeyAttribute.TUNNEL) {
    setTunnel(key, words, at + 2, end);
    return true;
  }
  if (!applyToPacket(packet, key, attribute, words, at + 2)) return false;
  // A later fragment has no transport header, and its key none of its fields.
  if (key.l4Offset === -1 && isTransport(attribute)) return true;
  const layout = setLayout(attribute);
  if (layout === undefined) return false;
  for (let i = 0; i < layout.length; i += 1) {
    const each = layout[i];
    const mask = words[at + 3 + i * 2] & each.writable;
    key.words[each.word] = (key.words[each.word] & ~mask) | (words[at + 2 + i * 2] & mask);
  }
  return true;
}

function isTransport(attribute: number): boolean {
  switch (attribute) {
    case KeyAttribute.TCP:
    case KeyAttribute.UDP:
    case KeyAttribute.SCTP:
    case KeyAttribute.ICMP:
    case KeyAttribute.ICMPV6:
      return true;
    default:
      return false;
  }
}

function applyToPacket(packet: Packet, key: FlowKey, attribute: number, words: Int32Array, at: number): boolean {
  switch (attribute) {
    case KeyAttribute.PRIORITY:
    case KeyAttribute.SKB_MARK:
      return true;
    case KeyAttribute.ETHERNET:
      return setEthernet(packet, key, words, at);
    case KeyAttribute.IPV4:
      return setIpv4(packet, key, words, at);
    case KeyAttribute.IPV6:
      return setIpv6(packet, key, words, at);
    case KeyAttribute.TCP:
      return setPorts(packet, key, IpProtocol.TCP, words, at);
    case KeyAttribute.UDP:
      return setPorts(packet, key, IpProtocol.UDP, words, at);
    case KeyAttribute.SCTP:
      return setPorts(packet, key, IpProtocol.SCTP, words, at);
    case KeyAttribute.ICMP:
      return setIcmp(packet, key, IpProtocol.ICMPV4, words, at);
    case KeyAttribute.ICMPV6:
      // Another type may make or unmake neighbour discovery.
      key.stale = true;
      return setIcmp(packet, key, IpProtocol.ICMPV6, words, at);
    case KeyAttribute.ARP:
      return setArp(packet, key, words, at);
    case KeyAttribute.ND:
      // Which of the addresses the packet carries is seen at the next extraction.
      key.stale = true;
      return setNeighbourDiscovery(packet, key, words, at);
    case KeyAttribute.MPLS:
      // The bottom of the stack may be elsewhere now.
      key.stale = true;
      return setMpls(packet, key, words, at);
    case KeyAttribute.NSH:
      return setNsh(packet, key, words, at);
    default:
      return false;
  }
}

/** The tunnel that the packet leaves through; words behind the options that the action carries are 0. */
function setTunnel(key: FlowKey, words: Int32Array, from: number, end: number): void {
  const count = Math.min(end - from, TUNNEL_WORDS);
  for (let i = 0; i < TUNNEL_WORDS; i += 1) key.egress[i] = i < count ? words[from + i] : 0;
  key.hasEgress = count >= TUNNEL_BASE_WORDS;
}

function setWordAt(bytes: Uint8Array, index: number, value: number, mask: number): void {
  if (mask !== 0) writeWord(bytes, index, (readWord(bytes, index) & ~mask) | (value & mask));
}

function setEthernet(packet: Packet, key: FlowKey, words: Int32Array, at: number): boolean {
  if (key.isL3 || packet.length < 14) return false;
  for (let i = 0; i < 3; i += 1)
    setWordAt(packet.bytes, packet.offset + i * 4, words[at + i * 2], words[at + i * 2 + 1]);
  return true;
}

/** Operation, addresses: the key has the IP addresses first, the packet has sender's and target's in turn. */
function setArp(packet: Packet, key: FlowKey, words: Int32Array, at: number): boolean {
  const type = key.etherType;
  if (type !== 0x0806 && type !== FlowEtherType.REVERSE_ARP) return false;
  if (packet.length < key.l3Offset + 28) return false;
  const bytes = packet.bytes;
  const arp = packet.offset + key.l3Offset;
  const operationMask = words[at + 1] >>> 24;
  if (operationMask !== 0) {
    const before = readHalf(bytes, arp + 6);
    writeHalf(bytes, arp + 6, (before & ~operationMask & 0xff) | ((words[at] >>> 24) & operationMask));
  }
  setWordAt(bytes, arp + 14, words[at + 2], words[at + 3]);
  setWordAt(bytes, arp + 24, words[at + 4], words[at + 5]);
  setWordAt(bytes, arp + 8, words[at + 6], words[at + 7]);
  setHalfAt(bytes, arp + 12, words[at + 8] >>> 16, words[at + 9] >>> 16);
  setHalfAt(bytes, arp + 18, words[at + 8], words[at + 9]);
  setWordAt(bytes, arp + 20, words[at + 10], words[at + 11]);
  return true;
}

function setHalfAt(bytes: Uint8Array, index: number, value: number, mask: number): void {
  writeHalf(bytes, index, (readHalf(bytes, index) & ~mask) | (value & mask));
}

function setMpls(packet: Packet, key: FlowKey, words: Int32Array, at: number): boolean {
  if (!isMpls(key.etherType) || packet.length < key.l3Offset + 4) return false;
  setWordAt(packet.bytes, packet.offset + key.l3Offset, words[at], words[at + 1]);
  return true;
}

/** Flags, TTL, path, and the context of metadata type 1. */
function setNsh(packet: Packet, key: FlowKey, words: Int32Array, at: number): boolean {
  if (key.etherType !== FlowEtherType.NSH || packet.length < key.l3Offset + 8) return false;
  const bytes = packet.bytes;
  const nsh = packet.offset + key.l3Offset;
  // In the header: version 2 bits, flags 2, TTL 6, length 6.
  const value = (((words[at] >>> 24) & 3) << 12) | (((words[at] >>> 16) & 0x3f) << 6);
  const mask = (((words[at + 1] >>> 24) & 3) << 12) | (((words[at + 1] >>> 16) & 0x3f) << 6);
  setHalfAt(bytes, nsh, value, mask);
  setWordAt(bytes, nsh + 4, words[at + 2], words[at + 3]);
  let contextMask = 0;
  for (let i = 0; i < 4; i += 1) contextMask |= words[at + 5 + i * 2];
  if (contextMask === 0) return true;
  if ((bytes[nsh + 2] & 15) !== 1 || packet.length < key.l3Offset + 24) return false;
  for (let i = 0; i < 4; i += 1) setWordAt(bytes, nsh + 8 + i * 4, words[at + 4 + i * 2], words[at + 5 + i * 2]);
  return true;
}
