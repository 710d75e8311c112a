/**
 * IP fragments: of one large UDP datagram, which is UDP fragmentation offload in software, and of any packet that was put together from
 * fragments and goes on in such. segment.ts has checked the headers for the first and calls in here; it holds the cases in which each
 * segment is a datagram or a TCP segment of its own.
 */
import type { Batch } from './batch.ts';
import { finishSum, internetChecksum, sumBytes } from './checksum.ts';
import { copyBytes } from './copy.ts';
import { Fragment, type HeaderOffsets, Malformed } from './dissect.ts';
import { Checksum, Gso, type Packet } from './packet.ts';
import type { PacketSource } from './pool.ts';
import { MAXIMUM_SEGMENTS, SegmentResult } from './segment-result.ts';
import { setU16, setU32, u16 } from './wire/bytes.ts';
import { IpProtocol } from './wire/numbers.ts';

const MORE_FRAGMENTS = 0x2000;
const UDP_CHECKSUM = 6;
const FRAGMENT_HEADER_BYTES = 8;

/** The part of an IPv6 packet that every fragment repeats. Scratch: the module runs to its end between uses. */
const unfragmentable = { end: 0, nextHeaderAt: 0 };

/**
 * @param headers where the packet's headers are: a sound, unfragmented UDP datagram over IP
 * @param pseudo the pseudo header's sum without the length
 * @returns a {@link SegmentResult}; see `segment`
 */
export function fragmentDatagram(
  packet: Packet,
  headers: HeaderOffsets,
  pseudo: number,
  pool: PacketSource,
  out: Batch,
): number {
  // Offsets of fragments count in units of eight bytes.
  const size = packet.gsoSizeBytes & ~7;
  if (size === 0) return SegmentResult.SEGMENT_SIZE;
  const isV6 = headers.ipVersion === 6;
  if (isV6) {
    if (headers.fragmentOffset !== -1) return SegmentResult.WRONG_HEADERS;
    findUnfragmentable(packet, headers);
  }
  const copied = isV6 ? unfragmentable.end : headers.l4Offset;
  // The first fragment must hold the UDP header, whose checksum is written there.
  if (headers.payloadOffset - copied > size) return SegmentResult.SEGMENT_SIZE;
  const checksum = datagramChecksum(packet, headers, pseudo);
  // Any number that is unlikely to come back soon serves; it only has to differ from other datagrams in flight.
  const identification = Math.floor(Math.random() * 0x1_0000_0000);
  const firstMade = out.count;
  const result = cut(packet, headers, copied, size, identification, pool, out);
  if (result !== SegmentResult.DONE) return result;
  const first = out.packets[firstMade];
  const isCut = out.count - firstMade > 1;
  const udp = headers.l4Offset + (isV6 && isCut ? FRAGMENT_HEADER_BYTES : 0);
  setU16(first.bytes, first.offset + udp + UDP_CHECKSUM, checksum);
  return result;
}

/**
 * Cut a packet into IP fragments, whatever its transport; it is only read. Its identification stays over IPv4.
 * @param headers of this packet
 * @param maximumBytes of each fragment, IP header included
 * @param identification that the fragments have over IPv6
 * @returns DONE; NOTHING_CLAIMED when the packet is no larger; a reason, with nothing appended, when it cannot be cut: its headers are malformed,
 * it is a fragment already, a super-packet or one whose checksum is not whole
 */
export function fragmentPacket(
  packet: Packet,
  headers: HeaderOffsets,
  maximumBytes: number,
  identification: number,
  pool: PacketSource,
  out: Batch,
): number {
  // Malformed transports do not matter here.
  const hasIp =
    headers.ipVersion !== 0 && (headers.malformed === 0 || headers.malformed >= Malformed.TRANSPORT_TRUNCATED);
  if (!hasIp) return SegmentResult.HEADERS;
  if (headers.l3End - headers.l3Offset <= maximumBytes) return SegmentResult.NOTHING_CLAIMED;
  if (packet.checksum === Checksum.PARTIAL) return SegmentResult.CHECKSUM_PLACE;
  if (headers.fragment !== Fragment.NONE || headers.fragmentOffset !== -1 || packet.gsoType !== Gso.NONE) {
    return SegmentResult.WRONG_HEADERS;
  }
  const isV6 = headers.ipVersion === 6;
  let copied = headers.l3Offset + ((packet.bytes[packet.offset + headers.l3Offset] & 15) << 2);
  if (isV6) {
    findUnfragmentable(packet, headers);
    copied = unfragmentable.end;
  }
  const room = maximumBytes - (copied - headers.l3Offset) - (isV6 ? FRAGMENT_HEADER_BYTES : 0);
  const size = room & ~7;
  if (size <= 0) return SegmentResult.SEGMENT_SIZE;
  return cut(packet, headers, copied, size, identification, pool, out);
}

/**
 * @param copied how much of the packet each fragment repeats
 * @param size how much of the rest it has, a multiple of eight
 */
function cut(
  packet: Packet,
  headers: HeaderOffsets,
  copied: number,
  size: number,
  identification: number,
  pool: PacketSource,
  out: Batch,
): number {
  const isV6 = headers.ipVersion === 6;
  const total = headers.l3End - copied;
  const count = Math.ceil(total / size);
  const isCut = count > 1;
  const fragmentHeader = isV6 && isCut ? FRAGMENT_HEADER_BYTES : 0;
  if (count > MAXIMUM_SEGMENTS) return SegmentResult.TOO_MANY_SEGMENTS;
  if (copied + fragmentHeader + Math.min(size, total) > pool.maxFrameBytes) return SegmentResult.BUFFER_SIZE;
  if (count > pool.available) return SegmentResult.POOL_EMPTY;

  const firstMade = out.count;
  for (let done = 0; done < total; done += size) {
    const made = pool.allocate();
    if (made === null) {
      while (out.count > firstMade) {
        out.count -= 1;
        out.packets[out.count].release();
      }
      return SegmentResult.POOL_EMPTY;
    }
    const take = Math.min(size, total - done);
    const target = made.offset + copied + fragmentHeader;
    copyBytes(packet.region, packet.offset, made.region, made.offset, copied);
    copyBytes(packet.region, packet.offset + copied + done, made.region, target, take);
    made.length = copied + fragmentHeader + take;
    made.timestampSeconds = packet.timestampSeconds;
    made.timestampNanoseconds = packet.timestampNanoseconds;
    const hasMore = done + take < total;
    if (isV6) finishIpv6(made, headers, isCut, done, hasMore, identification);
    else finishIpv4(made, headers, copied - headers.l3Offset, done, hasMore);
    out.push(made);
  }
  return SegmentResult.DONE;
}

/** The checksum field's value for the whole datagram: a partial one is finished, any other stays what the sender wrote. */
function datagramChecksum(packet: Packet, headers: HeaderOffsets, pseudo: number): number {
  const udp = packet.offset + headers.l4Offset;
  const field = u16(packet.bytes, udp + UDP_CHECKSUM);
  if (packet.checksum !== Checksum.PARTIAL) return field;
  const length = headers.l3End - headers.l4Offset;
  // The field itself lies under the sum, so it is taken out again.
  const sum = finishSum(sumBytes(packet.bytes, udp, length, pseudo + length + (~field & 0xffff)));
  return sum === 0 ? 0xffff : sum;
}

function finishIpv4(made: Packet, headers: HeaderOffsets, headerLength: number, done: number, hasMore: boolean): void {
  const bytes = made.bytes;
  const ip = made.offset + headers.l3Offset;
  if (done > 0) blankFirstOnlyOptions(bytes, ip + 20, ip + headerLength);
  setU16(bytes, ip + 2, made.length - headers.l3Offset);
  // Whoever leaves fragmenting to us has not forbidden it: Don't Fragment goes, except from a packet that stayed whole.
  if (done > 0 || hasMore) setU16(bytes, ip + 6, (done >>> 3) | (hasMore ? MORE_FRAGMENTS : 0));
  setU16(bytes, ip + 10, 0);
  setU16(bytes, ip + 10, internetChecksum(bytes, ip, headerLength));
}

/** Options without the copied flag belong to the first fragment alone (RFC 791, section 3.1); No Operation replaces them. */
function blankFirstOnlyOptions(bytes: Uint8Array, start: number, end: number): void {
  let at = start;
  while (at < end && bytes[at] !== 0) {
    const isOneByte = bytes[at] === 1;
    const length = isOneByte ? 1 : at + 1 < end ? bytes[at + 1] : 0;
    if (length === 0 || at + length > end || (length === 1 && !isOneByte)) return;
    if ((bytes[at] & 0x80) === 0) bytes.fill(1, at, at + length);
    at += length;
  }
}

function finishIpv6(
  made: Packet,
  headers: HeaderOffsets,
  isCut: boolean,
  done: number,
  hasMore: boolean,
  identification: number,
): void {
  const bytes = made.bytes;
  setU16(bytes, made.offset + headers.l3Offset + 4, made.length - headers.l3Offset - 40);
  if (!isCut) return;
  const nextHeader = made.offset + unfragmentable.nextHeaderAt;
  const header = made.offset + unfragmentable.end;
  bytes[header] = bytes[nextHeader];
  bytes[header + 1] = 0;
  setU16(bytes, header + 2, done | (hasMore ? 1 : 0));
  setU32(bytes, header + 4, identification);
  bytes[nextHeader] = IpProtocol.FRAGMENT;
}

/** Up to the routing header, or else the hop-by-hop header, or else the fixed header (RFC 8200, section 4.5). */
function findUnfragmentable(packet: Packet, headers: HeaderOffsets): void {
  const bytes = packet.bytes;
  let nextHeaderAt = headers.l3Offset + 6;
  let at = headers.l3Offset + 40;
  unfragmentable.nextHeaderAt = nextHeaderAt;
  unfragmentable.end = at;
  while (at < headers.l4Offset) {
    const type = bytes[packet.offset + nextHeaderAt];
    const units = bytes[packet.offset + at + 1];
    nextHeaderAt = at;
    at += type === IpProtocol.AUTHENTICATION ? (units + 2) << 2 : (units + 1) << 3;
    if (type === IpProtocol.HOP_BY_HOP || type === IpProtocol.ROUTING) {
      unfragmentable.nextHeaderAt = nextHeaderAt;
      unfragmentable.end = at;
    }
  }
}
