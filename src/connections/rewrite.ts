/**
 * Addresses and ports of a packet changed to those of a tuple, and of the packet that an ICMP error quotes. Checksums follow incrementally in each of their states: a whole one is
 * updated, a partial one holds the pseudo header's sum alone, UDP may have none, SCTP's is computed anew. Super-packets stay whole: all their segments have the same addresses.
 */
import {
  Checksum,
  type HeaderOffsets,
  IpProtocol,
  type Packet,
  sctpChecksum,
  updateChecksum16,
  updateChecksum32,
} from '../net/index.ts';
import { half, setHalf, setWord, word } from './bytes.ts';
import { hasPorts, isIcmp, type Tuple, TupleWord } from './tuple.ts';

/**
 * Give a packet the addresses and ports of a tuple.
 * @param headers of this packet; its ports follow
 * @param target the tuple that the packet is to have. Its frame is changed in place: nobody else may share its bytes
 */
export function rewritePacket(packet: Packet, headers: HeaderOffsets, target: Tuple): void {
  const { bytes, offset } = packet;
  const l3 = offset + headers.l3Offset;
  const l4 = offset + headers.l4Offset;
  const isIpv6 = headers.ipVersion === 6;
  const { protocol } = target;
  const isPartial = packet.checksum === Checksum.PARTIAL && packet.checksumStart === headers.l4Offset;
  const field = checksumField(protocol, isIpv6);
  const checksumAt = field === -1 ? -1 : l4 + field;
  const words = isIpv6 ? 4 : 1;
  for (let side = 0; side < 2; side += 1) {
    for (let i = 0; i < words; i += 1) {
      const at = l3 + (isIpv6 ? 8 + side * 16 : 12 + side * 4) + i * 4;
      const before = word(bytes, at);
      const after = target.words[(side === 0 ? TupleWord.SOURCE : TupleWord.DESTINATION) + i];
      if (before === after) continue;
      setWord(bytes, at, after);
      if (!isIpv6) setHalf(bytes, l3 + 10, updateChecksum32(half(bytes, l3 + 10), before, after));
      // ICMP over IPv4 and SCTP have no pseudo header.
      if (checksumAt !== -1 && !(isIcmp(protocol, isIpv6) && !isIpv6)) {
        pseudoWordChanged(bytes, checksumAt, protocol, isPartial, before, after);
      }
    }
  }
  if (hasPorts(protocol)) rewritePorts(bytes, l4, checksumAt, headers, isPartial, target);
  else if (isIcmp(protocol, isIpv6)) {
    const before = half(bytes, l4 + 4);
    const after = target.words[TupleWord.PORTS] >>> 16;
    if (before !== after) {
      setHalf(bytes, l4 + 4, after);
      if (!isPartial) setHalf(bytes, checksumAt, updateChecksum16(half(bytes, checksumAt), before, after));
    }
  }
}

function rewritePorts(
  bytes: Uint8Array,
  l4: number,
  checksumAt: number,
  headers: HeaderOffsets,
  isPartial: boolean,
  target: Tuple,
): void {
  const before = word(bytes, l4);
  const after = target.words[TupleWord.PORTS];
  if (before === after) return;
  setWord(bytes, l4, after);
  headers.sourcePort = after >>> 16;
  headers.destinationPort = after & 0xffff;
  if (!isPartial) {
    const { protocol } = target;
    if (protocol === IpProtocol.SCTP) writeSctpChecksum(bytes, l4, headers.l3End - headers.l4Offset);
    else wordChanged(bytes, checksumAt, protocol, before, after);
  }
}

/**
 * Rewrite an ICMP error about a packet that was translated: its own addresses, and the packet that it quotes, which gets back the tuple that it had before.
 * @param quote where the quoted IP header is, from the start of the frame
 * @param quoteL4 where the quoted transport header is, of which as much is there as the tuple needs
 * @param source the words of its new source address, or null when it stays: a router on the way may have sent it
 * @param destination the words of its new destination address
 * @param quoted the tuple that the quoted packet is to have
 */
export function rewriteError(
  packet: Packet,
  headers: HeaderOffsets,
  quote: number,
  quoteL4: number,
  source: Tuple | null,
  destination: Tuple,
  quoted: Tuple,
): void {
  const { bytes, offset } = packet;
  const isIpv6 = headers.ipVersion === 6;
  const isPartial = packet.checksum === Checksum.PARTIAL && packet.checksumStart === headers.l4Offset;
  const l3 = offset + headers.l3Offset;
  const checksumAt = offset + headers.l4Offset + 2;
  const words = isIpv6 ? 4 : 1;
  for (let side = 0; side < 2; side += 1) {
    const from = side === 0 ? source : destination;
    if (from === null) continue;
    for (let i = 0; i < words; i += 1) {
      const at = l3 + (isIpv6 ? 8 + side * 16 : 12 + side * 4) + i * 4;
      const before = word(bytes, at);
      const after = from.words[(side === 0 ? TupleWord.SOURCE : TupleWord.DESTINATION) + i];
      if (before === after) continue;
      setWord(bytes, at, after);
      if (isIpv6) pseudoWordChanged(bytes, checksumAt, IpProtocol.ICMPV6, isPartial, before, after);
      else setHalf(bytes, l3 + 10, updateChecksum32(half(bytes, l3 + 10), before, after));
    }
  }
  rewriteQuote(
    bytes,
    offset + quote,
    offset + quoteL4,
    offset + headers.l3End,
    isIpv6,
    quoted,
    isPartial ? -1 : checksumAt,
  );
}

/** @param outer where the checksum is that covers the quoted packet, -1 where it is computed later */
function rewriteQuote(
  bytes: Uint8Array,
  ip: number,
  l4: number,
  end: number,
  isIpv6: boolean,
  target: Tuple,
  outer: number,
): void {
  const { protocol, words } = target;
  const isOfIcmp = isIcmp(protocol, isIpv6);
  const field = checksumField(protocol, isIpv6);
  // The quoted transport header may be cut before its checksum.
  const checksumAt = field === -1 || l4 + field + 2 > end ? -1 : l4 + field;
  const hasChecksum = checksumAt !== -1 && !(protocol === IpProtocol.UDP && half(bytes, checksumAt) === 0);
  for (let side = 0; side < 2; side += 1) {
    for (let i = 0; i < (isIpv6 ? 4 : 1); i += 1) {
      const at = ip + (isIpv6 ? 8 + side * 16 : 12 + side * 4) + i * 4;
      const before = word(bytes, at);
      const after = words[(side === 0 ? TupleWord.SOURCE : TupleWord.DESTINATION) + i];
      if (before === after) continue;
      setQuotedHalf(bytes, at, after >>> 16, outer);
      setQuotedHalf(bytes, at + 2, after & 0xffff, outer);
      if (!isIpv6) setQuotedHalf(bytes, ip + 10, updateChecksum32(half(bytes, ip + 10), before, after), outer);
      if (hasChecksum && !(isOfIcmp && !isIpv6)) {
        setQuotedHalf(bytes, checksumAt, updatedChecksum(bytes, checksumAt, protocol, before, after), outer);
      }
    }
  }
  const places = hasPorts(protocol) ? 2 : isOfIcmp ? 1 : 0;
  for (let i = 0; i < places; i += 1) {
    const at = isOfIcmp ? l4 + 4 : l4 + i * 2;
    const before = half(bytes, at);
    const after = i === 0 ? words[TupleWord.PORTS] >>> 16 : words[TupleWord.PORTS] & 0xffff;
    if (before === after) continue;
    setQuotedHalf(bytes, at, after, outer);
    if (hasChecksum)
      setQuotedHalf(bytes, checksumAt, updatedChecksum(bytes, checksumAt, protocol, before, after), outer);
  }
}

/** Where the 16-bit checksum of a protocol lies from the start of its header, or -1. */
function checksumField(protocol: number, isIpv6: boolean): number {
  if (protocol === IpProtocol.TCP) return 16;
  if (protocol === IpProtocol.UDP) return 6;
  return isIcmp(protocol, isIpv6) ? 2 : -1;
}

function pseudoWordChanged(
  bytes: Uint8Array,
  checksumAt: number,
  protocol: number,
  isPartial: boolean,
  before: number,
  after: number,
): void {
  // A partial checksum is the pseudo header's sum as it is, not inverted.
  if (isPartial)
    setHalf(bytes, checksumAt, ~updateChecksum32(~half(bytes, checksumAt) & 0xffff, before, after) & 0xffff);
  else wordChanged(bytes, checksumAt, protocol, before, after);
}

function wordChanged(bytes: Uint8Array, checksumAt: number, protocol: number, before: number, after: number): void {
  if (protocol === IpProtocol.UDP && half(bytes, checksumAt) === 0) return;
  setHalf(bytes, checksumAt, updatedChecksum(bytes, checksumAt, protocol, before, after));
}

function updatedChecksum(bytes: Uint8Array, at: number, protocol: number, before: number, after: number): number {
  const updated = updateChecksum32(half(bytes, at), before, after);
  return updated === 0 && protocol === IpProtocol.UDP ? 0xffff : updated;
}

function writeSctpChecksum(bytes: Uint8Array, l4: number, length: number): void {
  const crc = sctpChecksum(bytes, l4, length);
  for (let i = 0; i < 4; i += 1) bytes[l4 + 8 + i] = crc >>> (i * 8);
}

/** Change a half word of a quoted packet, at an even distance from the start of the ICMP message, and the message's checksum with it. */
function setQuotedHalf(bytes: Uint8Array, at: number, value: number, outer: number): void {
  if (outer !== -1) setHalf(bytes, outer, updateChecksum16(half(bytes, outer), half(bytes, at), value));
  setHalf(bytes, at, value);
}
