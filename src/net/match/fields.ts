/**
 * The fields of one packet that filters look at, as 32-bit words in a fixed order, and the packet's shape: which of the words
 * mean something. Read once per packet, then compared with integers. Neighbours: dissect.ts finds the headers,
 * expression.ts and the filter extension compile what people write to tests on these words.
 */
import { HeaderOffsets } from '../dissect.ts';
import type { Packet } from '../packet.ts';
import { EtherType, IpProtocol } from '../wire/numbers.ts';

/** Index of each word. Addresses are big-endian; an IPv4 address is in the first of its four words. */
export const Field = {
  /** VLAN id; what it means is up to who reads: {@link PacketFields.read}. */
  VLAN: 0,
  /** EtherType behind all tags. */
  ETHER_TYPE: 1,
  /** MAC addresses: four bytes, then two. */
  SOURCE_MAC: 2,
  DESTINATION_MAC: 4,
  SOURCE_IP: 6,
  DESTINATION_IP: 10,
  PROTOCOL: 14,
  SOURCE_PORT: 15,
  DESTINATION_PORT: 16,
  TCP_FLAGS: 17,
  /** One of Fragment. */
  FRAGMENT: 18,
  ICMP_TYPE: 19,
  /** Nothing that a packet's bytes tell: whoever knows its connection fills it in. */
  CONNECTION: 20,
} as const;

const FIELD_COUNT = 21;

/** What lies below the transport: which words mean something. */
export const NetworkShape = {
  /** Not IP, or an IP header that is broken. */
  OTHER: 0,
  IPV4: 1,
  IPV6: 2,
} as const;

/** What is known of the transport. */
export const TransportShape = {
  /** Nothing: not IP, or broken IPv6 extension headers. */
  UNKNOWN: 0,
  /** The IP protocol alone: one without ports, a later fragment, a header cut short. */
  PROTOCOL: 1,
  TCP: 2,
  UDP: 3,
  SCTP: 4,
  /** ICMP over IPv4, ICMPv6 over IPv6. */
  ICMP: 5,
} as const;

const TRANSPORT_SHAPES = 6;

/** The shape of ARP for IPv4 over Ethernet: its protocol addresses are in the words of the IP addresses. */
export const ARP_SHAPE = 18;
/** Shapes are 0 to this minus one, so that a set of them is the bits of one word. */
export const SHAPE_COUNT = 19;

/** The number of a shape: {@link NetworkShape} and {@link TransportShape} in one. ARP's is `ARP_SHAPE`. */
export function shapeOf(network: number, transport: number): number {
  return network * TRANSPORT_SHAPES + transport;
}

/** The {@link NetworkShape} of a shape; 3 for ARP. */
export function networkOf(shape: number): number {
  return Math.floor(shape / TRANSPORT_SHAPES);
}

/** The {@link TransportShape} of a shape. */
export function transportOf(shape: number): number {
  return shape % TRANSPORT_SHAPES;
}

/** The set of shapes over one network layer, as bits. */
export function shapesOver(network: number): number {
  return ((1 << TRANSPORT_SHAPES) - 1) << shapeOf(network, 0);
}

/** The set of shapes with one of these transports, over either IP, as bits. */
export function shapesWith(...transports: readonly number[]): number {
  let shapes = 0;
  for (const transport of transports) {
    shapes |= (1 << shapeOf(NetworkShape.IPV4, transport)) | (1 << shapeOf(NetworkShape.IPV6, transport));
  }
  return shapes;
}

/** Groups of words, so that what no filter asks for is not read. Bits. */
export const Need = {
  /** Nothing but VLAN, EtherType, protocol, ports, fragment and ICMP type, which come with parsing. */
  NONE: 0,
  MAC: 1,
  IP: 2,
  TCP_FLAGS: 4,
} as const;

/** Make one and use it for every packet. */
export class PacketFields {
  /** By {@link Field}. Words that the shape does not give are stale. */
  readonly words = new Int32Array(FIELD_COUNT);
  /** The number of {@link shapeOf}, or `ARP_SHAPE`. */
  shape = 0;
  readonly #headers = new HeaderOffsets();

  /**
   * Read a packet. Frames too short for an Ethernet header read as zeros.
   * @param needs bits of {@link Need}
   * @param vlan the VLAN to note; -1: the id of the frame's outer tag, 0 without a tag, 4096 + id with an id of 0 (priority tag)
   */
  read(packet: Packet, needs: number, vlan: number): void {
    this.readBytes(packet.bytes, packet.offset, packet.length, needs, vlan);
  }

  /** As {@link read}, for a frame at `start` of some bytes; the caller has checked that it lies within them. */
  readBytes(bytes: Uint8Array, start: number, length: number, needs: number, vlan: number): void {
    const words = this.words;
    const headers = this.#headers;
    headers.parseBytes(bytes, start, length);
    if (vlan >= 0) words[Field.VLAN] = vlan;
    else words[Field.VLAN] = headers.tagCount === 0 ? 0 : headers.outerTci & 0xfff || PRIORITY_TAGGED;
    words[Field.ETHER_TYPE] = headers.etherType;
    if ((needs & Need.MAC) !== 0) this.#macs(bytes, start, length);
    if (headers.ipVersion === 0) {
      this.shape = 0;
      // Whole, since a shorter one is malformed; lengths of 6 and 4 tell the addresses that are known.
      if (headers.etherType === EtherType.ARP && headers.malformed === 0) this.#arp(bytes, start + headers.l3Offset);
      return;
    }
    const ip = start + headers.l3Offset;
    let shape: number = TRANSPORT_SHAPES;
    if (headers.ipVersion === 4) {
      if ((needs & Need.IP) !== 0) {
        words[Field.SOURCE_IP] = word(bytes, ip + 12);
        words[Field.DESTINATION_IP] = word(bytes, ip + 16);
      }
    } else {
      shape = 2 * TRANSPORT_SHAPES;
      if ((needs & Need.IP) !== 0) {
        for (let i = 0; i < 8; i += 1) words[Field.SOURCE_IP + i] = word(bytes, ip + 8 + i * 4);
      }
    }
    words[Field.FRAGMENT] = headers.fragment;
    if (headers.l4Offset >= 0) {
      words[Field.PROTOCOL] = headers.ipProtocol;
      shape += this.#transport(bytes, start, needs);
    }
    this.shape = shape;
  }

  #transport(bytes: Uint8Array, start: number, needs: number): number {
    const headers = this.#headers;
    // Also for later fragments.
    if (headers.payloadOffset < 0) return TransportShape.PROTOCOL;
    const words = this.words;
    words[Field.SOURCE_PORT] = headers.sourcePort;
    words[Field.DESTINATION_PORT] = headers.destinationPort;
    switch (headers.ipProtocol) {
      case IpProtocol.TCP:
        if ((needs & Need.TCP_FLAGS) !== 0) words[Field.TCP_FLAGS] = bytes[start + headers.l4Offset + 13];
        return TransportShape.TCP;
      case IpProtocol.UDP:
        return TransportShape.UDP;
      case IpProtocol.SCTP:
        return TransportShape.SCTP;
      default:
        words[Field.ICMP_TYPE] = headers.icmpType;
        return TransportShape.ICMP;
    }
  }

  #macs(bytes: Uint8Array, start: number, length: number): void {
    const words = this.words;
    if (length < 12) {
      words[Field.SOURCE_MAC] = 0;
      words[Field.SOURCE_MAC + 1] = 0;
      words[Field.DESTINATION_MAC] = 0;
      words[Field.DESTINATION_MAC + 1] = 0;
      return;
    }
    words[Field.DESTINATION_MAC] = word(bytes, start);
    words[Field.DESTINATION_MAC + 1] = (bytes[start + 4] << 8) | bytes[start + 5];
    words[Field.SOURCE_MAC] = word(bytes, start + 6);
    words[Field.SOURCE_MAC + 1] = (bytes[start + 10] << 8) | bytes[start + 11];
  }

  #arp(bytes: Uint8Array, arp: number): void {
    if (bytes[arp] !== 0 || bytes[arp + 1] !== 1 || bytes[arp + 2] !== 8 || bytes[arp + 3] !== 0) return;
    if (bytes[arp + 4] !== 6 || bytes[arp + 5] !== 4) return;
    this.words[Field.SOURCE_IP] = word(bytes, arp + 14);
    this.words[Field.DESTINATION_IP] = word(bytes, arp + 24);
    this.shape = ARP_SHAPE;
  }
}

/** The word for a frame with a tag that names no VLAN. */
export const PRIORITY_TAGGED = 0x1000;

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
}
