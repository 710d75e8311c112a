/** set of IPv4 and IPv6, and the time to live, which DEC_TTL counts down. */
import { EtherType, type Packet, updateChecksum32 } from '../../../net/index.ts';
import { readHalf, readWord, writeHalf, writeWord } from '../../bytes.ts';
import { addressChanged, ipv4HeaderChanged } from '../../engine/checksums.ts';
import type { FlowKey } from '../../key/key.ts';
import { ExtensionHeader, Word } from '../../key/layout.ts';

/**
 * @param words the action list; `at` is where the first pair of value and mask lies: the IP word, then source and destination
 * @returns false when the packet has no such header
 */
export function setIpv4(packet: Packet, key: FlowKey, words: Int32Array, at: number): boolean {
  const l3 = key.l3Offset;
  if (key.etherType !== EtherType.IPV4 || l3 < 0 || packet.length < l3 + 20) return false;
  const bytes = packet.bytes;
  const ip = packet.offset + l3;
  const mask = words[at + 1] & 0x00ff_ff00;
  if ((mask & 0x00ff_0000) !== 0) {
    const before = readHalf(bytes, ip);
    const after = (before & ~(mask >>> 16)) | (((words[at] & mask) >>> 16) & 0xff);
    if (after !== before) {
      ipv4HeaderChanged(packet, l3, before, after);
      bytes[ip + 1] = after;
    }
  }
  if ((mask & 0xff00) !== 0) {
    const ttl = (bytes[ip + 8] & ~(mask >>> 8)) | ((words[at] & mask) >>> 8);
    setIpv4Ttl(packet, l3, ttl & 0xff);
  }
  setIpv4Address(packet, key, l3 + 12, words[at + 2], words[at + 3]);
  setIpv4Address(packet, key, l3 + 16, words[at + 4], words[at + 5]);
  return true;
}

function setIpv4Ttl(packet: Packet, l3: number, ttl: number): void {
  const bytes = packet.bytes;
  const at = packet.offset + l3 + 8;
  const before = readHalf(bytes, at);
  const after = (ttl << 8) | (before & 0xff);
  if (after === before) return;
  ipv4HeaderChanged(packet, l3, before, after);
  bytes[at] = ttl;
}

/** @param field the address from the start of the frame */
function setIpv4Address(packet: Packet, key: FlowKey, field: number, value: number, mask: number): void {
  if (mask === 0) return;
  const bytes = packet.bytes;
  const at = packet.offset + field;
  const before = readWord(bytes, at);
  const after = (before & ~mask) | (value & mask);
  if (after === before) return;
  const checksum = packet.offset + key.l3Offset + 10;
  writeHalf(bytes, checksum, updateChecksum32(readHalf(bytes, checksum), before, after));
  addressChanged(packet, key, before, after);
  writeWord(bytes, at, after);
}

/** @param at as for IPv4: the IP word, four words of source, four of destination, the flow label */
export function setIpv6(packet: Packet, key: FlowKey, words: Int32Array, at: number): boolean {
  const l3 = key.l3Offset;
  if (key.etherType !== EtherType.IPV6 || l3 < 0 || packet.length < l3 + 40) return false;
  const bytes = packet.bytes;
  const ip = packet.offset + l3;
  const mask = words[at + 1] & 0x00ff_ff00;
  const first = readWord(bytes, ip);
  const classMask = ((mask >>> 16) & 0xff) << 20;
  const labelMask = words[at + 19] & 0xf_ffff;
  const classBits = ((words[at] >>> 16) & 0xff) << 20;
  writeWord(bytes, ip, (first & ~classMask & ~labelMask) | (classBits & classMask) | (words[at + 18] & labelMask));
  const hopMask = (mask >>> 8) & 0xff;
  bytes[ip + 7] = (bytes[ip + 7] & ~hopMask) | ((words[at] >>> 8) & hopMask);
  for (let i = 0; i < 8; i += 1) {
    const addressMask = words[at + 3 + i * 2];
    if (addressMask === 0) continue;
    const field = ip + 8 + i * 4;
    const before = readWord(bytes, field);
    const after = (before & ~addressMask) | (words[at + 2 + i * 2] & addressMask);
    if (after === before) continue;
    // With a routing header the checksum is over the final destination, which this one is not.
    const hasRouting = (key.words[Word.TCP_FLAGS] & ExtensionHeader.ROUTING) !== 0;
    if (i < 4 || !hasRouting) addressChanged(packet, key, before, after);
    writeWord(bytes, field, after);
  }
  return true;
}

/** The IP header's time to live, 0 to 255; -1 for a packet that is not IP, -2 for one whose header is cut off. */
export function readTtl(packet: Packet, key: FlowKey): number {
  const l3 = key.l3Offset;
  if (key.etherType === EtherType.IPV4) return packet.length < l3 + 20 ? -2 : packet.bytes[packet.offset + l3 + 8];
  if (key.etherType === EtherType.IPV6) return packet.length < l3 + 40 ? -2 : packet.bytes[packet.offset + l3 + 7];
  return -1;
}

/** Write a time to live that {@link readTtl} has found to be there, in the packet and in the key. */
export function writeTtl(packet: Packet, key: FlowKey, ttl: number): void {
  if (key.etherType === EtherType.IPV4) setIpv4Ttl(packet, key.l3Offset, ttl);
  else packet.bytes[packet.offset + key.l3Offset + 7] = ttl;
  key.words[Word.IP] = (key.words[Word.IP] & ~0xff00) | (ttl << 8);
}
