/**
 * Segmentation in software: a super-packet (Gso) becomes the plain packets that a network card with that offload would send,
 * for an egress that has none. Neighbours: segment-fragment.ts for UDP that becomes IP fragments, segment-checksum.ts for
 * packets that lack only their checksum, segment-result.ts for what can go wrong. Tunnels are not looked into.
 */
import { Offload } from './adapter.ts';
import type { Batch } from './batch.ts';
import { finishSum, foldSum, internetChecksum, pseudoHeaderSum4, pseudoHeaderSum6, sumBytes } from './checksum.ts';
import { copyAndSum, copyBytes } from './copy.ts';
import { Fragment, HeaderOffsets, Malformed } from './dissect.ts';
import { Checksum, Gso, type Packet } from './packet.ts';
import type { PacketSource } from './pool.ts';
import { fragmentDatagram } from './segment-fragment.ts';
import { MAXIMUM_SEGMENTS, SegmentResult } from './segment-result.ts';
import { setU16, setU32, u16, u32 } from './wire/bytes.ts';
import { IpProtocol } from './wire/numbers.ts';

const headers = new HeaderOffsets();

/** Where the checksum field lies in a transport header. */
const TCP_CHECKSUM = 16;
const UDP_CHECKSUM = 6;

const TCP_FLAGS = 13;
/** FIN and PSH, which only the last segment keeps. */
const FIN_PSH = 0x09;
/** CWR, which only the first segment keeps. */
const CWR = 0x80;

/**
 * The {@link Offload} bits that an egress must have to take this packet as it is; 0 for a plain packet.
 * Kinds of super-packet that have no bit of their own need {@link Offload.ALL}.
 */
export function requiredOffloads(packet: Packet): number {
  const partial = packet.checksum === Checksum.PARTIAL ? Offload.CHECKSUM : 0;
  switch (packet.gsoType & ~Gso.ECN) {
    case Gso.NONE:
      return partial;
    case Gso.TCPV4:
      return partial | Offload.TSO4;
    case Gso.TCPV6:
      return partial | Offload.TSO6;
    case Gso.UDP_L4:
      return partial | Offload.USO;
    default:
      return Offload.ALL;
  }
}

/**
 * Cut a super-packet into plain packets with all checksums written. The super-packet is only read, so its bytes may be
 * shared; nothing its metadata says is believed without the headers saying so too.
 * @param pool where the segments' memory comes from
 * @param out gets the segments in order, each with one reference that passes to the caller
 * @returns DONE, or another {@link SegmentResult}, and then nothing was appended and the pool is as full as before
 */
export function segment(packet: Packet, pool: PacketSource, out: Batch): number {
  if (packet.gsoType === Gso.NONE) return SegmentResult.NOTHING_CLAIMED;
  const type = packet.gsoType & ~Gso.ECN;
  const isTcp = type === Gso.TCPV4 || type === Gso.TCPV6;
  if (!isTcp && (packet.gsoType & Gso.ECN) !== 0) return SegmentResult.UNKNOWN_TYPE;
  if (!isTcp && type !== Gso.UDP_L4 && type !== Gso.UDP) return SegmentResult.UNKNOWN_TYPE;
  const size = packet.gsoSizeBytes;
  if (size === 0 || size >>> 0 !== size) return SegmentResult.SEGMENT_SIZE;
  if (headers.parse(packet) !== Malformed.NOTHING) return SegmentResult.HEADERS;
  // An authentication header vouches for the whole packet, not for its segments.
  if (headers.fragment !== Fragment.NONE || headers.authenticationOffset !== -1) return SegmentResult.WRONG_HEADERS;
  if (headers.ipProtocol !== (isTcp ? IpProtocol.TCP : IpProtocol.UDP)) return SegmentResult.WRONG_HEADERS;
  if (isTcp ? headers.ipVersion !== (type === Gso.TCPV4 ? 4 : 6) : headers.ipVersion === 0) {
    return SegmentResult.WRONG_HEADERS;
  }
  const transportLength = headers.l3End - headers.l4Offset;
  const l4 = packet.offset + headers.l4Offset;
  if (!isTcp && u16(packet.bytes, l4 + 4) !== transportLength) return SegmentResult.WRONG_HEADERS;
  const pseudo = pseudoSum(packet, headers, isTcp ? TCP_CHECKSUM : UDP_CHECKSUM);
  if (pseudo === -1) return SegmentResult.CHECKSUM_PLACE;
  if (type === Gso.UDP) return fragmentDatagram(packet, headers, pseudo, pool, out);
  return cut(packet, isTcp, pseudo, pool, out);
}

/**
 * The pseudo header's sum without the length; -1 when it cannot be known. A partial packet carries it in its checksum field,
 * where the sender put it for its card; it knows the final destination even under a routing header.
 */
function pseudoSum(packet: Packet, at: HeaderOffsets, checksumOffset: number): number {
  const bytes = packet.bytes;
  if (packet.checksum === Checksum.PARTIAL) {
    if (packet.checksumStart !== at.l4Offset || packet.checksumOffset !== checksumOffset) return -1;
    const transportLength = at.l3End - at.l4Offset;
    return foldSum(u16(bytes, packet.offset + at.l4Offset + checksumOffset) + (~transportLength & 0xffff));
  }
  const ip = packet.offset + at.l3Offset;
  if (at.ipVersion === 4) return pseudoHeaderSum4(bytes, ip + 12, at.ipProtocol, 0);
  const routed = at.routingOffset !== -1 && bytes[packet.offset + at.routingOffset + 3] !== 0;
  return routed ? -1 : pseudoHeaderSum6(bytes, ip + 8, at.ipProtocol, 0);
}

/** Segments of TCP and UDP: each gets all headers and the next stretch of the payload. */
function cut(packet: Packet, isTcp: boolean, pseudo: number, pool: PacketSource, out: Batch): number {
  const headerLength = headers.payloadOffset;
  const size = packet.gsoSizeBytes;
  const payloadLength = headers.l3End - headerLength;
  const count = payloadLength === 0 ? 1 : Math.ceil(payloadLength / size);
  if (count > MAXIMUM_SEGMENTS) return SegmentResult.TOO_MANY_SEGMENTS;
  if (headerLength + Math.min(size, payloadLength) > pool.maxFrameBytes) return SegmentResult.BUFFER_SIZE;
  if (count > pool.available) return SegmentResult.POOL_EMPTY;
  // Over IPv4 a UDP checksum of zero says that the sender made none.
  const unsummed =
    !isTcp &&
    headers.ipVersion === 4 &&
    packet.checksum !== Checksum.PARTIAL &&
    u16(packet.bytes, packet.offset + headers.l4Offset + UDP_CHECKSUM) === 0;
  for (let index = 0; index < count; index += 1) {
    const made = pool.allocate();
    if (made === null) return giveBack(out, index);
    const take = Math.min(size, payloadLength - index * size);
    const payloadAt = packet.offset + headerLength + index * size;
    copyBytes(packet.region, packet.offset, made.region, made.offset, headerLength);
    const payloadSum = copyAndSum(packet.region, payloadAt, made.region, made.offset + headerLength, take);
    made.length = headerLength + take;
    copyTime(packet, made);
    finishIp(made, index);
    if (isTcp) finishTcp(made, index * size, index === count - 1, foldSum(pseudo + payloadSum));
    else finishUdp(made, unsummed, foldSum(pseudo + payloadSum));
    out.push(made);
  }
  return SegmentResult.DONE;
}

/** Length, identification and header checksum of one segment. */
function finishIp(made: Packet, index: number): void {
  const bytes = made.bytes;
  const ip = made.offset + headers.l3Offset;
  const length = made.length - headers.l3Offset;
  if (headers.ipVersion === 6) {
    setU16(bytes, ip + 4, length - 40);
    return;
  }
  setU16(bytes, ip + 2, length);
  setU16(bytes, ip + 4, u16(bytes, ip + 4) + index);
  setU16(bytes, ip + 10, 0);
  setU16(bytes, ip + 10, internetChecksum(bytes, ip, headers.l4Offset - headers.l3Offset));
}

function finishTcp(made: Packet, payloadDone: number, isLast: boolean, sumSoFar: number): void {
  const bytes = made.bytes;
  const tcp = made.offset + headers.l4Offset;
  const length = made.length - headers.l4Offset;
  setU32(bytes, tcp + 4, u32(bytes, tcp + 4) + payloadDone);
  if (!isLast) bytes[tcp + TCP_FLAGS] &= ~FIN_PSH;
  if (payloadDone > 0) bytes[tcp + TCP_FLAGS] &= ~CWR;
  setU16(bytes, tcp + TCP_CHECKSUM, 0);
  const headerLength = headers.payloadOffset - headers.l4Offset;
  setU16(bytes, tcp + TCP_CHECKSUM, finishSum(sumBytes(bytes, tcp, headerLength, sumSoFar + length)));
}

function finishUdp(made: Packet, unsummed: boolean, sumSoFar: number): void {
  const bytes = made.bytes;
  const udp = made.offset + headers.l4Offset;
  const length = made.length - headers.l4Offset;
  setU16(bytes, udp + 4, length);
  if (unsummed) return;
  setU16(bytes, udp + UDP_CHECKSUM, 0);
  const sum = finishSum(sumBytes(bytes, udp, 8, sumSoFar + length));
  setU16(bytes, udp + UDP_CHECKSUM, sum === 0 ? 0xffff : sum);
}

function copyTime(from: Packet, to: Packet): void {
  to.timestampSeconds = from.timestampSeconds;
  to.timestampNanoseconds = from.timestampNanoseconds;
}

/** Take back the segments made so far. */
function giveBack(out: Batch, made: number): number {
  for (let i = 0; i < made; i += 1) {
    out.count -= 1;
    out.packets[out.count].release();
  }
  return SegmentResult.POOL_EMPTY;
}
