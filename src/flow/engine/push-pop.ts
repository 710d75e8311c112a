/**
 * Headers put on and taken off. Each function changes the packet, which may be written to and has the headroom asked for, and
 * keeps the key's offsets and EtherType true; the rest of the key is marked stale where it no longer holds.
 */
import { EtherType, type Packet } from '../../net/index.ts';
import { etherTypeOf, nextProtocolOf } from '../actions/validate.ts';
import { readHalf, writeHalf, writeWord } from '../bytes.ts';
import type { FlowKey } from '../key/key.ts';
import { FlowEtherType, isMpls, L3_MARKER, TAG_PRESENT, Word } from '../key/layout.ts';
import { insertBytes, removeBytes } from './edit.ts';

/** Headroom that each push needs at most. */
export const TAG_BYTES = 4;
export const LABEL_BYTES = 4;
export const ETHERNET_BYTES = 14;
export const NSH_BASE_BYTES = 8;

/** The packet begins with another layer 3 or another EtherType now, and what the key says of the inside is void. */
function becomes(key: FlowKey, etherType: number, l3Type: number, l3Offset: number): void {
  key.l3Type = l3Type;
  key.l3Offset = l3Offset;
  key.l4Offset = -1;
  key.l3End = -1;
  key.words[Word.ETH_TYPE] = (etherType << 16) | (l3Type === 0 ? 0 : L3_MARKER);
  key.stale = true;
}

function moveOffsets(key: FlowKey, by: number): void {
  key.l3Offset += by;
  if (key.l4Offset !== -1) key.l4Offset += by;
  if (key.l3End !== -1) key.l3End += by;
}

/** @param tag TPID 16 | TCI 16; the CFI bit only says that there is a tag and is not sent */
export function pushVlan(packet: Packet, key: FlowKey, tag: number): boolean {
  if (key.l3Type !== 0 || packet.length < ETHERNET_BYTES) return false;
  insertBytes(packet, 12, TAG_BYTES);
  writeWord(packet.bytes, packet.offset + 12, tag & ~TAG_PRESENT);
  moveOffsets(key, TAG_BYTES);
  if (key.words[Word.VLAN] !== 0) key.stale = true;
  key.words[Word.INNER_VLAN] = key.words[Word.VLAN];
  key.words[Word.VLAN] = tag | TAG_PRESENT;
  return true;
}

/** A packet without a tag stays as it is. */
export function popVlan(packet: Packet, key: FlowKey): boolean {
  if (key.l3Type !== 0) return false;
  if (!hasTag(packet)) return true;
  removeBytes(packet, 12, TAG_BYTES);
  moveOffsets(key, -TAG_BYTES);
  if (key.words[Word.INNER_VLAN] !== 0) key.stale = true;
  key.words[Word.VLAN] = key.words[Word.INNER_VLAN];
  key.words[Word.INNER_VLAN] = 0;
  return true;
}

/** Whether {@link popVlan} would change the packet. */
export function hasTag(packet: Packet): boolean {
  if (packet.length < ETHERNET_BYTES + TAG_BYTES) return false;
  const type = readHalf(packet.bytes, packet.offset + 12);
  return type === EtherType.VLAN || type === EtherType.SERVICE_VLAN;
}

/** @param beforeL3 between Ethernet header and layer 3, else before everything, which leaves no Ethernet header outside */
export function pushMpls(packet: Packet, key: FlowKey, entry: number, etherType: number, beforeL3: boolean): boolean {
  const l3 = key.l3Offset;
  if (l3 < 0 || packet.length < l3) return false;
  if (!beforeL3 || key.l3Type !== 0) {
    insertBytes(packet, 0, LABEL_BYTES);
    writeWord(packet.bytes, packet.offset, entry);
    becomes(key, etherType, etherType, 0);
    return true;
  }
  insertBytes(packet, l3, LABEL_BYTES);
  writeWord(packet.bytes, packet.offset + l3, entry);
  writeHalf(packet.bytes, packet.offset + l3 - 2, etherType);
  becomes(key, etherType, 0, l3);
  return true;
}

/** @param etherType of what lies below the label; transparent Ethernet for a whole frame */
export function popMpls(packet: Packet, key: FlowKey, etherType: number): boolean {
  const l3 = key.l3Offset;
  if (!isMpls(key.etherType) || packet.length < l3 + LABEL_BYTES) return false;
  removeBytes(packet, l3, LABEL_BYTES);
  if (key.l3Type === 0) {
    writeHalf(packet.bytes, packet.offset + l3 - 2, etherType);
    becomes(key, etherType, 0, l3);
  } else if (etherType === EtherType.TRANSPARENT_ETHERNET) {
    becomes(key, 0, 0, 0);
  } else {
    becomes(key, etherType, etherType, 0);
  }
  return true;
}

/** @param at where destination and source address lie in the action list */
export function pushEthernet(packet: Packet, key: FlowKey, words: Int32Array, at: number): boolean {
  if (key.l3Type === 0) return false;
  const type = key.l3Type;
  insertBytes(packet, 0, ETHERNET_BYTES);
  for (let i = 0; i < 3; i += 1) {
    writeWord(packet.bytes, packet.offset + i * 4, words[at + i]);
    key.words[Word.MAC + i] = words[at + i];
  }
  writeHalf(packet.bytes, packet.offset + 12, type);
  moveOffsets(key, ETHERNET_BYTES);
  key.l3Type = 0;
  key.words[Word.ETH_TYPE] &= ~L3_MARKER;
  key.stale = true;
  return true;
}

export function popEthernet(packet: Packet, key: FlowKey): boolean {
  if (key.l3Type !== 0 || packet.length < ETHERNET_BYTES) return false;
  removeBytes(packet, 0, ETHERNET_BYTES);
  moveOffsets(key, -ETHERNET_BYTES);
  key.l3Type = key.etherType;
  key.words[Word.ETH_TYPE] |= L3_MARKER;
  key.stale = true;
  return true;
}

/** @param at the head of the action in the list */
export function pushNsh(packet: Packet, key: FlowKey, words: Int32Array, at: number): boolean {
  const next = key.l3Type === 0 ? nextProtocolOf(EtherType.TRANSPARENT_ETHERNET) : nextProtocolOf(key.l3Type);
  if (next === 0) return false;
  const base = words[at + 1];
  const metadataWords = (words[at + 3] + 3) >>> 2;
  const length = NSH_BASE_BYTES + metadataWords * 4;
  insertBytes(packet, 0, length);
  const bytes = packet.bytes;
  const header = packet.offset;
  // Version 0, flags 2 bits, TTL 6, length in words 6; metadata type, next protocol.
  writeHalf(bytes, header, (((base >>> 24) & 3) << 12) | (((base >>> 16) & 0x3f) << 6) | (length >>> 2));
  bytes[header + 2] = (base >>> 8) & 0xff;
  bytes[header + 3] = next;
  writeWord(bytes, header + 4, words[at + 2]);
  for (let i = 0; i < metadataWords; i += 1) writeWord(bytes, header + NSH_BASE_BYTES + i * 4, words[at + 4 + i]);
  becomes(key, FlowEtherType.NSH, FlowEtherType.NSH, 0);
  return true;
}

/** The NSH header goes, and with it an Ethernet header before it. */
export function popNsh(packet: Packet, key: FlowKey): boolean {
  const l3 = key.l3Offset;
  if (key.etherType !== FlowEtherType.NSH || packet.length < l3 + NSH_BASE_BYTES) return false;
  const header = packet.offset + l3;
  const length = (readHalf(packet.bytes, header) & 0x3f) << 2;
  const type = etherTypeOf(packet.bytes[header + 3]);
  if (length < NSH_BASE_BYTES || packet.length < l3 + length || type === 0) return false;
  removeBytes(packet, 0, l3 + length);
  if (type === EtherType.TRANSPARENT_ETHERNET) becomes(key, 0, 0, 0);
  else becomes(key, type, type, 0);
  return true;
}
