/**
 * What a packet says of its connection: its tuple, or, of an ICMP error, the tuple of the packet that it quotes. Nothing is believed: lengths are checked here, quoted
 * headers too, which may be cut anywhere.
 */
import {
  Checksum,
  Fragment,
  foldSum,
  type HeaderOffsets,
  IpProtocol,
  internetChecksum,
  Malformed,
  type Packet,
  pseudoHeaderSum4,
  pseudoHeaderSum6,
  sctpChecksum,
  sumBytes,
} from '../net/index.ts';
import { half, word } from './bytes.ts';
import { hasPorts, isIcmp, kindOf, type Tuple, TupleWord } from './tuple.ts';

/** What a packet is to tracking. */
export const PacketKind = {
  /** Its tuple says to which connection it belongs. */
  OF_CONNECTION: 0,
  /** An ICMP error about a packet of a connection. */
  ERROR: 1,
  /** Nothing that can be tracked: see {@link PacketTuple.reason}. */
  INVALID: 2,
} as const;

/** Why a packet cannot be tracked. */
export const Untracked = {
  NOTHING: 0,
  NOT_IP: 1,
  MALFORMED: 2,
  /** Fragments have to be put together first. */
  FRAGMENT: 3,
  CHECKSUM: 4,
  /** An ICMP message that is neither query, answer nor error. */
  ICMP_TYPE: 5,
  /** An ICMP error whose quoted packet cannot be read. */
  QUOTE: 6,
} as const;

/** IPv6 extension headers that are followed in a quoted packet. */
const MAXIMUM_EXTENSIONS = 16;

/** Made once and filled again for each packet. */
export class PacketTuple {
  /** One of {@link Untracked}. */
  reason: number = Untracked.NOTHING;
  /** Of the packet that an error quotes: where its IP header and its transport header are, from the start of the frame. */
  quoteOffset = 0;
  quoteL4Offset = 0;

  /**
   * Read a packet.
   * @param headers of this packet
   * @param tuple gets its tuple, or that of the quoted packet
   * @param verifies whether checksums are looked at that nobody vouches for
   * @returns one of {@link PacketKind}
   */
  read(packet: Packet, headers: HeaderOffsets, zone: number, tuple: Tuple, verifies: boolean): number {
    if (headers.malformed !== Malformed.NOTHING) return this.#no(Untracked.MALFORMED);
    if (headers.ipVersion === 0) return this.#no(Untracked.NOT_IP);
    if (headers.fragment !== Fragment.NONE) return this.#no(Untracked.FRAGMENT);
    const { bytes, offset } = packet;
    const isIpv6 = headers.ipVersion === 6;
    // As in Linux, what an authentication header vouches for is followed over IPv6 alone: over IPv4 it is a protocol without ports.
    const protocol = isIpv6 ? headers.ipProtocol : bytes[offset + headers.l3Offset + 9];
    if (verifies && !isChecksumGood(packet, headers, protocol)) return this.#no(Untracked.CHECKSUM);
    this.reason = Untracked.NOTHING;
    tuple.kind = kindOf(zone, protocol, isIpv6);
    readAddresses(bytes, offset + headers.l3Offset, isIpv6, tuple);
    if (hasPorts(protocol)) {
      tuple.words[TupleWord.PORTS] = (headers.sourcePort << 16) | headers.destinationPort;
      return PacketKind.OF_CONNECTION;
    }
    tuple.words[TupleWord.PORTS] = 0;
    if (!isIcmp(protocol, isIpv6)) return PacketKind.OF_CONNECTION;
    const length = headers.l3End - headers.l4Offset;
    if (length < 8) return this.#no(Untracked.MALFORMED);
    const type = headers.icmpType;
    if (isIcmpError(type, isIpv6)) {
      return this.#readQuote(bytes, offset, headers.l4Offset + 8, headers.l3End, isIpv6, zone, tuple);
    }
    // Router and neighbour discovery and multicast listeners belong to no connection, nor do types that nobody answers.
    if (!isIcmpQueryOrAnswer(type, isIpv6)) return this.#no(Untracked.ICMP_TYPE);
    const l4 = offset + headers.l4Offset;
    tuple.words[TupleWord.PORTS] = (half(bytes, l4 + 4) << 16) | (type << 8) | headers.icmpCode;
    return PacketKind.OF_CONNECTION;
  }

  #no(reason: number): number {
    this.reason = reason;
    return PacketKind.INVALID;
  }

  #readQuote(
    bytes: Uint8Array,
    start: number,
    quote: number,
    end: number,
    isIpv6: boolean,
    zone: number,
    tuple: Tuple,
  ): number {
    const ip = start + quote;
    const l4 = isIpv6 ? quotedTransport6(bytes, start, quote, end) : quotedTransport4(bytes, start, quote, end);
    if (l4 === -1) return this.#no(Untracked.QUOTE);
    const protocol = isIpv6 ? quotedProtocol : bytes[ip + 9];
    tuple.kind = kindOf(zone, protocol, isIpv6);
    readAddresses(bytes, ip, isIpv6, tuple);
    tuple.words[TupleWord.PORTS] = 0;
    const at = start + l4;
    if (hasPorts(protocol)) {
      if (end - l4 < 4) return this.#no(Untracked.QUOTE);
      tuple.words[TupleWord.PORTS] = word(bytes, at);
    } else if (isIcmp(protocol, isIpv6)) {
      if (end - l4 < 8) return this.#no(Untracked.QUOTE);
      tuple.words[TupleWord.PORTS] = (half(bytes, at + 4) << 16) | half(bytes, at);
    }
    this.quoteOffset = quote;
    this.quoteL4Offset = l4;
    return PacketKind.ERROR;
  }
}

function readAddresses(bytes: Uint8Array, ip: number, isIpv6: boolean, tuple: Tuple): void {
  const { words } = tuple;
  if (isIpv6) {
    for (let i = 0; i < 8; i += 1) words[1 + i] = word(bytes, ip + 8 + i * 4);
    return;
  }
  words[1] = word(bytes, ip + 12);
  words[5] = word(bytes, ip + 16);
  words[2] = 0;
  words[3] = 0;
  words[4] = 0;
  words[6] = 0;
  words[7] = 0;
  words[8] = 0;
}

function quotedTransport4(bytes: Uint8Array, start: number, quote: number, end: number): number {
  const ip = start + quote;
  if (end - quote < 20 || bytes[ip] >>> 4 !== 4) return -1;
  const length = (bytes[ip] & 15) << 2;
  if (length < 20 || end - quote < length) return -1;
  // Later fragments have no ports.
  if ((half(bytes, ip + 6) & 0x1fff) !== 0) return -1;
  return quote + length;
}

/** The protocol that {@link quotedTransport6} found behind all extension headers. */
let quotedProtocol = 0;

function quotedTransport6(bytes: Uint8Array, start: number, quote: number, end: number): number {
  if (end - quote < 40 || bytes[start + quote] >>> 4 !== 6) return -1;
  let next = bytes[start + quote + 6];
  let at = quote + 40;
  for (let count = 0; count < MAXIMUM_EXTENSIONS; count += 1) {
    const isFragment = next === IpProtocol.FRAGMENT;
    const isAuthentication = next === IpProtocol.AUTHENTICATION;
    const isOther = next === IpProtocol.HOP_BY_HOP || next === IpProtocol.ROUTING || next === IpProtocol.DESTINATION;
    if (!isFragment && !isAuthentication && !isOther) {
      quotedProtocol = next;
      return at;
    }
    if (end - at < 8) return -1;
    const header = start + at;
    if (isFragment && half(bytes, header + 2) >>> 3 !== 0) return -1;
    next = bytes[header];
    at += isFragment ? 8 : isAuthentication ? (bytes[header + 1] + 2) << 2 : (bytes[header + 1] + 1) << 3;
    if (at > end) return -1;
  }
  return -1;
}

/** Messages that quote the packet that they are about. */
function isIcmpError(type: number, isIpv6: boolean): boolean {
  return isIpv6 ? type < 128 : type === 3 || type === 4 || type === 5 || type === 11 || type === 12;
}

function isIcmpQueryOrAnswer(type: number, isIpv6: boolean): boolean {
  if (isIpv6) return type === 128 || type === 129 || type === 139 || type === 140;
  return type === 0 || type === 8 || (type >= 13 && type <= 18);
}

/**
 * Whether a packet's transport checksum is right, or need not be: it is still to be computed, or somebody has checked it. One that was summed here and is right is noted as
 * {@link Checksum.VALID}, so that nobody sums it again, in another zone for example.
 */
function isChecksumGood(packet: Packet, headers: HeaderOffsets, protocol: number): boolean {
  if (packet.checksum !== Checksum.UNKNOWN) return true;
  const { bytes, offset } = packet;
  const l4 = offset + headers.l4Offset;
  const length = headers.l3End - headers.l4Offset;
  const isIpv6 = headers.ipVersion === 6;
  if (protocol === IpProtocol.SCTP) {
    const field = (bytes[l4 + 8] | (bytes[l4 + 9] << 8) | (bytes[l4 + 10] << 16) | (bytes[l4 + 11] << 24)) >>> 0;
    return noted(packet, field === sctpChecksum(bytes, l4, length));
  }
  if (protocol === IpProtocol.ICMPV4 && !isIpv6) return noted(packet, internetChecksum(bytes, l4, length) === 0);
  const isUdp = protocol === IpProtocol.UDP;
  if (!isUdp && protocol !== IpProtocol.TCP && !(isIpv6 && protocol === IpProtocol.ICMPV6)) return true;
  // Over IPv6 there is always one (RFC 8200, section 8.1); zero there is what tunnels send, and Linux lets it pass.
  if (isUdp && half(bytes, l4 + 6) === 0) return true;
  // Under a routing header the sum runs over the last destination, which is not at hand.
  if (isIpv6 && headers.routingOffset !== -1) return true;
  const ip = offset + headers.l3Offset;
  const udpLength = isUdp ? half(bytes, l4 + 4) : length;
  if (isSumGood(bytes, ip, isIpv6, protocol, l4, udpLength)) return noted(packet, true);
  // Of a datagram that is shorter than its IP packet Linux sums all of the packet, and senders do either.
  return noted(packet, udpLength !== length && isSumGood(bytes, ip, isIpv6, protocol, l4, length));
}

/** A checksum was summed. @returns whether it is right */
function noted(packet: Packet, isRight: boolean): boolean {
  if (isRight) packet.checksum = Checksum.VALID;
  return isRight;
}

function isSumGood(
  bytes: Uint8Array,
  ip: number,
  isIpv6: boolean,
  protocol: number,
  l4: number,
  length: number,
): boolean {
  const pseudo = isIpv6
    ? pseudoHeaderSum6(bytes, ip + 8, protocol, length)
    : pseudoHeaderSum4(bytes, ip + 12, protocol, length);
  return foldSum(sumBytes(bytes, l4, length, pseudo)) === 0xffff;
}
