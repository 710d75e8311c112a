/** set of TCP, UDP and SCTP ports, of ICMP and ICMPv6, and of neighbour discovery. */
import { IpProtocol, type Packet, sctpChecksum, updateChecksum16, updateChecksum32 } from '../../../net/index.ts';
import { readHalf, readWord, writeHalf, writeWord } from '../../bytes.ts';
import { isPartial, transportWordChanged } from '../../engine/checksums.ts';
import type { FlowKey } from '../../key/key.ts';
import { Word } from '../../key/layout.ts';

/** Bytes of the transport header that must be there before its ports may be changed. */
function headerBytes(protocol: number): number {
  if (protocol === IpProtocol.TCP) return 20;
  return protocol === IpProtocol.SCTP ? 12 : 8;
}

type Change = (packet: Packet, key: FlowKey, words: Int32Array, at: number) => boolean;

/** The ports of one protocol. */
export function portsOf(protocol: number): Change {
  return (packet, key, words, at) => setPorts(packet, key, protocol, words, at);
}

/**
 * @param at where value and mask lie in the action list
 * @returns false when the packet has another header or a truncated one; a later fragment has none and stays as it is
 */
function setPorts(packet: Packet, key: FlowKey, protocol: number, words: Int32Array, at: number): boolean {
  if (key.protocol !== protocol) return false;
  const l4 = key.l4Offset;
  if (l4 === -1) return (key.words[Word.IP] & 3) === 2;
  if (key.l3End < l4 + headerBytes(protocol)) return false;
  const bytes = packet.bytes;
  const field = packet.offset + l4;
  const mask = words[at + 1];
  const before = readWord(bytes, field);
  const after = (before & ~mask) | (words[at] & mask);
  if (after === before) return true;
  if (protocol === IpProtocol.SCTP) return setSctpPorts(packet, key, l4, after);
  transportWordChanged(packet, l4, protocol, before, after);
  writeWord(bytes, field, after);
  return true;
}

/** A CRC is linear: the difference that the ports make is the same whether the old one was right or not, and so stays wrong if it was. */
function setSctpPorts(packet: Packet, key: FlowKey, l4: number, ports: number): boolean {
  const bytes = packet.bytes;
  const at = packet.offset + l4;
  const isFragment = (key.words[Word.IP] & 3) !== 0;
  const length = key.l3End - l4;
  if (isPartial(packet, l4) || isFragment || length < 12) {
    writeWord(bytes, at, ports);
    return true;
  }
  const before = sctpChecksum(bytes, at, length);
  writeWord(bytes, at, ports);
  const difference = before ^ sctpChecksum(bytes, at, length);
  // SCTP stores the lowest byte first.
  bytes[at + 8] ^= difference;
  bytes[at + 9] ^= difference >>> 8;
  bytes[at + 10] ^= difference >>> 16;
  bytes[at + 11] ^= difference >>> 24;
  return true;
}

/** Type and code, as {@link setPorts}. */
export function setIcmp(packet: Packet, key: FlowKey, words: Int32Array, at: number): boolean {
  return setTypeAndCode(packet, key, IpProtocol.ICMPV4, words, at);
}

/** Another type may make or unmake neighbour discovery. */
export function setIcmpv6(packet: Packet, key: FlowKey, words: Int32Array, at: number): boolean {
  key.stale = true;
  return setTypeAndCode(packet, key, IpProtocol.ICMPV6, words, at);
}

function setTypeAndCode(packet: Packet, key: FlowKey, protocol: number, words: Int32Array, at: number): boolean {
  if (key.protocol !== protocol) return false;
  const l4 = key.l4Offset;
  if (l4 === -1) return (key.words[Word.IP] & 3) === 2;
  if (key.l3End < l4 + 8) return false;
  const bytes = packet.bytes;
  const field = packet.offset + l4;
  const mask = ((words[at + 1] >>> 8) & 0xff00) | (words[at + 1] & 0xff);
  const value = ((words[at] >>> 8) & 0xff00) | (words[at] & 0xff);
  const before = readHalf(bytes, field);
  const after = (before & ~mask) | (value & mask);
  if (!isPartial(packet, l4)) {
    writeHalf(bytes, field + 2, updateChecksum16(readHalf(bytes, field + 2), before, after));
  }
  writeHalf(bytes, field, after);
  return true;
}

/** Target and both link-layer addresses; an option that the packet does not carry is left out. */
export function setNeighbourDiscovery(packet: Packet, key: FlowKey, words: Int32Array, at: number): boolean {
  // Which of the addresses the packet carries is seen at the next extraction.
  key.stale = true;
  const l4 = key.l4Offset;
  if (key.protocol !== IpProtocol.ICMPV6 || l4 === -1 || key.l3End < l4 + 24) return false;
  const bytes = packet.bytes;
  const header = packet.offset + l4;
  for (let i = 0; i < 4; i += 1) {
    setWord(packet, l4, header + 8 + i * 4, words[at + i * 2], words[at + i * 2 + 1]);
  }
  const macs = at + 8;
  const end = packet.offset + key.l3End;
  for (let option = header + 24; option + 8 <= end; ) {
    const length = bytes[option + 1] << 3;
    if (length === 0 || option + length > end) break;
    // The first link-layer address fills a word and the high half of the next, the second the low half and a word.
    if (bytes[option] === 1 && length === 8) {
      setHalf(packet, l4, option + 2, words[macs] >>> 16, words[macs + 1] >>> 16);
      setHalf(packet, l4, option + 4, words[macs], words[macs + 1]);
      setHalf(packet, l4, option + 6, words[macs + 2] >>> 16, words[macs + 3] >>> 16);
    } else if (bytes[option] === 2 && length === 8) {
      setHalf(packet, l4, option + 2, words[macs + 2], words[macs + 3]);
      setHalf(packet, l4, option + 4, words[macs + 4] >>> 16, words[macs + 5] >>> 16);
      setHalf(packet, l4, option + 6, words[macs + 4], words[macs + 5]);
    }
    option += length;
  }
  return true;
}

/** Change an aligned word or half of an ICMPv6 message, and its checksum. */
function setWord(packet: Packet, l4: number, index: number, value: number, mask: number): void {
  const before = readWord(packet.bytes, index);
  const after = (before & ~mask) | (value & mask);
  const checksum = packet.offset + l4 + 2;
  if (!isPartial(packet, l4)) {
    writeHalf(packet.bytes, checksum, updateChecksum32(readHalf(packet.bytes, checksum), before, after));
  }
  writeWord(packet.bytes, index, after);
}

function setHalf(packet: Packet, l4: number, index: number, value: number, mask: number): void {
  const before = readHalf(packet.bytes, index);
  const after = (before & ~mask & 0xffff) | (value & mask & 0xffff);
  const checksum = packet.offset + l4 + 2;
  if (!isPartial(packet, l4)) {
    writeHalf(packet.bytes, checksum, updateChecksum16(readHalf(packet.bytes, checksum), before, after));
  }
  writeHalf(packet.bytes, index, after);
}
