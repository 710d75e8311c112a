/**
 * set of Ethernet, ARP, MPLS and NSH: headers without a checksum over them. The packet may be written to; `at` is where the first pair of
 * value and mask lies, and false is the answer for a packet without the header.
 */
import type { Packet } from '../../../net/index.ts';
import { readHalf, readWord, writeHalf, writeWord } from '../../bytes.ts';
import type { FlowKey } from '../../key/key.ts';
import { FlowEtherType, isMpls } from '../../key/layout.ts';

function setWordAt(bytes: Uint8Array, index: number, value: number, mask: number): void {
  if (mask !== 0) writeWord(bytes, index, (readWord(bytes, index) & ~mask) | (value & mask));
}

export function setEthernet(packet: Packet, key: FlowKey, words: Int32Array, at: number): boolean {
  if (key.isL3 || packet.length < 14) return false;
  for (let i = 0; i < 3; i += 1)
    setWordAt(packet.bytes, packet.offset + i * 4, words[at + i * 2], words[at + i * 2 + 1]);
  return true;
}

/** Operation, addresses: the key has the IP addresses first, the packet has sender's and target's in turn. */
export function setArp(packet: Packet, key: FlowKey, words: Int32Array, at: number): boolean {
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

/** The bottom of the stack may be elsewhere then. */
export function setMpls(packet: Packet, key: FlowKey, words: Int32Array, at: number): boolean {
  key.stale = true;
  if (!isMpls(key.etherType) || packet.length < key.l3Offset + 4) return false;
  setWordAt(packet.bytes, packet.offset + key.l3Offset, words[at], words[at + 1]);
  return true;
}

/** Flags, TTL, path, and the context of metadata type 1. */
export function setNsh(packet: Packet, key: FlowKey, words: Int32Array, at: number): boolean {
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
