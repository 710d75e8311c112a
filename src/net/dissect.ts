/**
 * The header parser of hot code: where the headers of a frame are and what they name, with no allocation and no exception.
 * A malformed frame gives a number that says why; describe.ts is its slow, wordy neighbour for people.
 */
import type { Packet } from './packet.ts';
import { isIpv6Extension } from './wire/ipv6-extension.ts';
import { ETHERTYPE_MINIMUM, EtherType, IpProtocol } from './wire/numbers.ts';

/** Stacked VLAN tags that {@link HeaderOffsets} reads; a frame with more is malformed to it. */
export const MAXIMUM_TAGS = 8;

/** IPv6 extension headers that {@link HeaderOffsets} follows before it gives up. */
export const MAXIMUM_EXTENSION_HEADERS = 16;

/**
 * Why a frame could not be parsed to its end. Everything of the layers below the one named is filled in:
 * 1 to 9 leave nothing above Ethernet, 10 to 19 nothing of layer 3 to trust, 20 and up a sound layer 3.
 */
export const Malformed = {
  NOTHING: 0,
  /** Shorter than the Ethernet header. */
  ETHERNET_TRUNCATED: 1,
  /** Ends inside a VLAN tag. */
  TAG_TRUNCATED: 2,
  /** More than {@link MAXIMUM_TAGS} VLAN tags. */
  TOO_MANY_TAGS: 3,
  /** An 802.3 length beyond the end of the frame. */
  LLC_LENGTH: 4,
  /** Ends inside the IPv4 header. */
  IPV4_TRUNCATED: 10,
  /** A version other than 4 under the EtherType of IPv4. */
  IPV4_VERSION: 11,
  /** A header length under 20 bytes or beyond the end of the frame. */
  IPV4_HEADER_LENGTH: 12,
  /** A total length shorter than the header or beyond the end of the frame. */
  IPV4_TOTAL_LENGTH: 13,
  /** Ends inside the fixed IPv6 header. */
  IPV6_TRUNCATED: 14,
  /** A version other than 6 under the EtherType of IPv6. */
  IPV6_VERSION: 15,
  /** A payload length beyond the end of the frame. */
  IPV6_PAYLOAD_LENGTH: 16,
  /** Ends inside an IPv6 extension header, or an authentication header of IPv4. */
  EXTENSION_TRUNCATED: 17,
  /** More than `MAXIMUM_EXTENSION_HEADERS` extension headers. */
  TOO_MANY_EXTENSIONS: 18,
  /** Ends inside the ARP packet for IPv4 over Ethernet. */
  ARP_TRUNCATED: 19,
  /** Ends inside the fixed transport header. */
  TRANSPORT_TRUNCATED: 20,
  /** A TCP data offset under 20 bytes or beyond the end of the packet. */
  TCP_DATA_OFFSET: 21,
  /** A UDP length under 8 bytes or beyond the end of the packet. */
  UDP_LENGTH: 22,
} as const;

const MALFORMED_NAMES: readonly string[] = namesByNumber(Malformed);

/** The name of a value of {@link Malformed} in lower case with dashes, such as 'ipv4-total-length'. */
export function malformedName(malformed: number): string {
  return MALFORMED_NAMES[malformed] ?? `malformed-${malformed}`;
}

function namesByNumber(constants: Record<string, number>): string[] {
  const names: string[] = [];
  for (const [name, value] of Object.entries(constants)) names[value] = name.toLowerCase().replaceAll('_', '-');
  return names;
}

/** Whether a packet is an IP fragment, and which. The numbers are those of Open vSwitch's flow key. */
export const Fragment = {
  NONE: 0,
  /** The first of several: it holds the transport header. */
  FIRST: 1,
  /** Any other: behind the IP header comes the middle of a payload. */
  LATER: 2,
} as const;

/**
 * Where the headers of one frame are. Make one and use it for every packet. All offsets count from the start of the frame
 * (add `packet.offset` for an index), so they fit `checksumStart`; -1 means that there is no such header or it was not reached.
 */
export class HeaderOffsets {
  /** One of {@link Malformed}. */
  malformed = 0;
  /** VLAN tags, 0 to {@link MAXIMUM_TAGS}. */
  tagCount = 0;
  /** EtherType of the outer tag: {@link EtherType.VLAN} or SERVICE_VLAN; 0 without a tag. */
  outerTpid = 0;
  /** Tag control information of the outer tag and the one behind it; 0 where there is none. */
  outerTci = 0;
  innerTci = 0;
  /** EtherType behind all tags; {@link EtherType.LLC} for 802.3 frames that name none. */
  etherType = 0;
  /** First byte behind Ethernet header, tags, and a SNAP header. */
  l3Offset = -1;
  /** First byte behind layer 3: less than the frame's length when the frame is padded. For layers other than IP, the frame's length. */
  l3End = -1;
  /** 4 or 6, or 0 for what is not IP. */
  ipVersion = 0;
  /** {@link IpProtocol} behind all extension headers. */
  ipProtocol = 0;
  /** One of {@link Fragment}. */
  fragment = 0;
  /** IPv6 routing header and fragment header; the last authentication header, of IPv4 too. */
  routingOffset = -1;
  fragmentOffset = -1;
  authenticationOffset = -1;
  /** First byte behind the IP header and its extensions, also for protocols unknown here and for later fragments. */
  l4Offset = -1;
  /** First byte behind the header of TCP, UDP, SCTP (its common header), ICMP. */
  payloadOffset = -1;
  /** Of TCP, UDP and SCTP; 0 otherwise and for later fragments. */
  sourcePort = 0;
  destinationPort = 0;
  /** Type and code of ICMP and ICMPv6; 0 otherwise. */
  icmpType = 0;
  icmpCode = 0;

  /**
   * Read a packet's headers; its metadata is not looked at.
   * @returns {@link malformed}: {@link Malformed.NOTHING} when all that is known was well-formed
   */
  parse(packet: Packet): number {
    return this.parseBytes(packet.bytes, packet.offset, packet.length);
  }

  /** As {@link parse}, for a frame at `start` of some bytes; the caller has checked that it lies within them. */
  parseBytes(bytes: Uint8Array, start: number, length: number): number {
    this.#reset();
    this.malformed = this.#ethernet(bytes, start, length);
    return this.malformed;
  }

  /**
   * As {@link parse}, for a packet that begins with layer 3.
   * @param etherType what it is
   */
  parseLayer3(packet: Packet, etherType: number): number {
    this.#reset();
    this.etherType = etherType;
    this.l3Offset = 0;
    this.l3End = packet.length;
    this.malformed = this.#network(packet.bytes, packet.offset, 0, packet.length);
    return this.malformed;
  }

  #reset(): void {
    this.tagCount = 0;
    this.outerTpid = 0;
    this.outerTci = 0;
    this.innerTci = 0;
    this.etherType = 0;
    this.l3Offset = -1;
    this.l3End = -1;
    this.ipVersion = 0;
    this.ipProtocol = 0;
    this.fragment = 0;
    this.routingOffset = -1;
    this.fragmentOffset = -1;
    this.authenticationOffset = -1;
    this.l4Offset = -1;
    this.payloadOffset = -1;
    this.sourcePort = 0;
    this.destinationPort = 0;
    this.icmpType = 0;
    this.icmpCode = 0;
  }

  #ethernet(bytes: Uint8Array, start: number, length: number): number {
    if (length < 14) return Malformed.ETHERNET_TRUNCATED;
    let at = 12;
    let end = length;
    let type = (bytes[start + 12] << 8) | bytes[start + 13];
    // Tags may hold a SNAP header, and SNAP headers tags; no SNAP header holds another without a tag between them.
    for (;;) {
      while (type === EtherType.VLAN || type === EtherType.SERVICE_VLAN) {
        if (this.tagCount === MAXIMUM_TAGS) {
          this.etherType = type;
          return Malformed.TOO_MANY_TAGS;
        }
        if (end < at + 6) return Malformed.TAG_TRUNCATED;
        this.#tag(type, (bytes[start + at + 2] << 8) | bytes[start + at + 3]);
        at += 4;
        type = (bytes[start + at] << 8) | bytes[start + at + 1];
      }
      at += 2;
      if (type >= ETHERTYPE_MINIMUM) break;
      if (type > end - at) return Malformed.LLC_LENGTH;
      end = at + type;
      type = snapType(bytes, start + at, type);
      if (type < ETHERTYPE_MINIMUM) break;
      at += 6;
    }
    this.etherType = type;
    this.l3Offset = at;
    this.l3End = end;
    return this.#network(bytes, start, at, end);
  }

  #network(bytes: Uint8Array, start: number, at: number, end: number): number {
    const type = this.etherType;
    if (type === EtherType.IPV4) return this.#ipv4(bytes, start, at, end);
    if (type === EtherType.IPV6) return this.#ipv6(bytes, start, at, end);
    if (type === EtherType.ARP) return arp(bytes, start + at, end - at);
    return Malformed.NOTHING;
  }

  #tag(tpid: number, tci: number): void {
    if (this.tagCount === 0) {
      this.outerTpid = tpid;
      this.outerTci = tci;
    } else if (this.tagCount === 1) {
      this.innerTci = tci;
    }
    this.tagCount += 1;
  }

  #ipv4(bytes: Uint8Array, start: number, at: number, end: number): number {
    if (end - at < 20) return Malformed.IPV4_TRUNCATED;
    const ip = start + at;
    if (bytes[ip] >>> 4 !== 4) return Malformed.IPV4_VERSION;
    const headerLength = (bytes[ip] & 15) << 2;
    if (headerLength < 20 || headerLength > end - at) return Malformed.IPV4_HEADER_LENGTH;
    const totalLength = (bytes[ip + 2] << 8) | bytes[ip + 3];
    if (totalLength < headerLength || totalLength > end - at) return Malformed.IPV4_TOTAL_LENGTH;
    this.ipVersion = 4;
    this.l3End = at + totalLength;
    this.ipProtocol = bytes[ip + 9];
    this.l4Offset = at + headerLength;
    const fragmentWord = (bytes[ip + 6] << 8) | bytes[ip + 7];
    if ((fragmentWord & 0x1fff) !== 0) {
      this.fragment = Fragment.LATER;
      return Malformed.NOTHING;
    }
    if ((fragmentWord & 0x2000) !== 0) this.fragment = Fragment.FIRST;
    if (this.ipProtocol === IpProtocol.AUTHENTICATION) return this.#authenticated(bytes, start);
    return this.#transport(bytes, start, at + headerLength, at + totalLength);
  }

  /** Over IPv4, from the authentication headers on (RFC 4302): what they vouch for is not hidden. */
  #authenticated(bytes: Uint8Array, start: number): number {
    for (let count = 0; this.ipProtocol === IpProtocol.AUTHENTICATION; count += 1) {
      if (count === MAXIMUM_EXTENSION_HEADERS) return Malformed.TOO_MANY_EXTENSIONS;
      const left = this.l3End - this.l4Offset;
      if (left < 8) return Malformed.EXTENSION_TRUNCATED;
      const headerLength = (bytes[start + this.l4Offset + 1] + 2) << 2;
      if (headerLength > left) return Malformed.EXTENSION_TRUNCATED;
      this.authenticationOffset = this.l4Offset;
      this.ipProtocol = bytes[start + this.l4Offset];
      this.l4Offset += headerLength;
    }
    return this.#transport(bytes, start, this.l4Offset, this.l3End);
  }

  #ipv6(bytes: Uint8Array, start: number, at: number, frameEnd: number): number {
    if (frameEnd - at < 40) return Malformed.IPV6_TRUNCATED;
    const ip = start + at;
    if (bytes[ip] >>> 4 !== 6) return Malformed.IPV6_VERSION;
    const end = at + 40 + ((bytes[ip + 4] << 8) | bytes[ip + 5]);
    if (end > frameEnd) return Malformed.IPV6_PAYLOAD_LENGTH;
    this.ipVersion = 6;
    this.l3End = end;
    let next = bytes[ip + 6];
    let offset = at + 40;
    // As in Linux's ipv6_skip_exthdr. ESP is not stepped over: what it hides cannot be read.
    for (let count = 0; isIpv6Extension(next); count += 1) {
      if (count === MAXIMUM_EXTENSION_HEADERS) return Malformed.TOO_MANY_EXTENSIONS;
      if (end - offset < 8) return Malformed.EXTENSION_TRUNCATED;
      const header = start + offset;
      let headerLength = 8;
      if (next === IpProtocol.FRAGMENT) {
        this.fragmentOffset = offset;
        const fragmentWord = (bytes[header + 2] << 8) | bytes[header + 3];
        if (fragmentWord >>> 3 !== 0) {
          this.fragment = Fragment.LATER;
          this.ipProtocol = bytes[header];
          this.l4Offset = offset + 8;
          return Malformed.NOTHING;
        }
        // An "atomic" fragment, first and last at once, is a whole packet (RFC 6946).
        if ((fragmentWord & 1) === 1) this.fragment = Fragment.FIRST;
      } else if (next === IpProtocol.AUTHENTICATION) {
        headerLength = (bytes[header + 1] + 2) << 2;
        this.authenticationOffset = offset;
      } else {
        headerLength = (bytes[header + 1] + 1) << 3;
        if (next === IpProtocol.ROUTING) this.routingOffset = offset;
      }
      if (headerLength > end - offset) return Malformed.EXTENSION_TRUNCATED;
      next = bytes[header];
      offset += headerLength;
    }
    this.ipProtocol = next;
    this.l4Offset = offset;
    return this.#transport(bytes, start, offset, end);
  }

  #transport(bytes: Uint8Array, start: number, at: number, end: number): number {
    const header = start + at;
    const length = end - at;
    switch (this.ipProtocol) {
      case IpProtocol.TCP: {
        if (length < 20) return Malformed.TRANSPORT_TRUNCATED;
        const headerLength = (bytes[header + 12] >>> 4) << 2;
        if (headerLength < 20) return Malformed.TCP_DATA_OFFSET;
        // The options of a first fragment may go on in the next one.
        if (headerLength > length && this.fragment === Fragment.NONE) return Malformed.TCP_DATA_OFFSET;
        this.#ports(bytes, header);
        this.payloadOffset = headerLength > length ? end : at + headerLength;
        return Malformed.NOTHING;
      }
      case IpProtocol.UDP: {
        if (length < 8) return Malformed.TRANSPORT_TRUNCATED;
        const udpLength = (bytes[header + 4] << 8) | bytes[header + 5];
        if (udpLength < 8 || (udpLength > length && this.fragment === Fragment.NONE)) return Malformed.UDP_LENGTH;
        this.#ports(bytes, header);
        this.payloadOffset = at + 8;
        return Malformed.NOTHING;
      }
      case IpProtocol.SCTP:
        if (length < 12) return Malformed.TRANSPORT_TRUNCATED;
        this.#ports(bytes, header);
        this.payloadOffset = at + 12;
        return Malformed.NOTHING;
      case IpProtocol.ICMPV4:
        return this.ipVersion === 4 ? this.#icmp(bytes, start, at, length) : Malformed.NOTHING;
      case IpProtocol.ICMPV6:
        return this.ipVersion === 6 ? this.#icmp(bytes, start, at, length) : Malformed.NOTHING;
      default:
        return Malformed.NOTHING;
    }
  }

  #icmp(bytes: Uint8Array, start: number, at: number, length: number): number {
    if (length < 4) return Malformed.TRANSPORT_TRUNCATED;
    this.icmpType = bytes[start + at];
    this.icmpCode = bytes[start + at + 1];
    this.payloadOffset = at + 4;
    return Malformed.NOTHING;
  }

  #ports(bytes: Uint8Array, header: number): void {
    this.sourcePort = (bytes[header] << 8) | bytes[header + 1];
    this.destinationPort = (bytes[header + 2] << 8) | bytes[header + 3];
  }
}

/**
 * The EtherType in an LLC header with SNAP, whose organization codes 0 and 0000f8 carry one (RFC 1042, IEEE 802.1H); LLC where there is none.
 * @param length bytes from the LLC header on
 */
function snapType(bytes: Uint8Array, llc: number, length: number): number {
  if (length < 8 || bytes[llc] !== 0xaa || bytes[llc + 1] !== 0xaa || bytes[llc + 2] !== 3) return EtherType.LLC;
  if ((bytes[llc + 3] | bytes[llc + 4]) !== 0 || (bytes[llc + 5] !== 0 && bytes[llc + 5] !== 0xf8))
    return EtherType.LLC;
  const type = (bytes[llc + 6] << 8) | bytes[llc + 7];
  return type >= ETHERTYPE_MINIMUM ? type : EtherType.LLC;
}

/** Only ARP for IPv4 over Ethernet has a length that is known here. */
function arp(bytes: Uint8Array, at: number, length: number): number {
  if (length < 8) return Malformed.ARP_TRUNCATED;
  const isIpv4OverEthernet = bytes[at + 1] === 1 && bytes[at] === 0 && bytes[at + 4] === 6 && bytes[at + 5] === 4;
  return isIpv4OverEthernet && length < 28 ? Malformed.ARP_TRUNCATED : Malformed.NOTHING;
}
