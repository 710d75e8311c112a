/**
 * What the dissectors of describe.ts share: their shape, records as JSON values, the state of checksums, and the names that
 * EtherTypes and IP protocols lead to.
 */
import { pseudoHeaderSum4, pseudoHeaderSum6, sumBytes } from './checksum.ts';
import { ETHERTYPE_MINIMUM, EtherType, IpProtocol } from './wire/numbers.ts';

/** What a field can be in JSON: numbers, text, flags, bytes as hexadecimal text, and lists and groups of these. */
export type LayerValue = number | string | boolean | null | LayerValue[] | { [name: string]: LayerValue };

/** The bytes being decoded, and what inner layers must know of outer ones. */
export interface Span {
  bytes: Uint8Array;
  /** Behind the last byte of the layer at hand; layers with a length field of their own draw it in. */
  end: number;
  /** The nearest IP header, for pseudo headers. */
  ip: { version: 4 | 6; offset: number; isFragment: boolean; isRouted: boolean } | null;
  /** Where a partial checksum starts, or -1. */
  partialAt: number;
}

/** What a dissector found. */
export interface Decoded {
  fields: Record<string, LayerValue>;
  payloadOffset: number;
  /** Name of the next dissector, or '' for none. */
  next: string;
}

/** Decodes one layer at an offset. @throws WireError when it is malformed */
export type Dissector = (span: Span, offset: number) => Decoded;

/** Bytes shown of a payload. */
const SHOWN_BYTES = 64;

/** Bytes as hexadecimal text, cut off with an ellipsis. */
export function textOf(bytes: Uint8Array): string {
  const shown = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, SHOWN_BYTES)).toString('hex');
  return bytes.length > SHOWN_BYTES ? `${shown}...` : shown;
}

/** A record with its byte arrays as text. */
export function fieldsOf(record: object): Record<string, LayerValue> {
  const fields: Record<string, LayerValue> = {};
  for (const [name, value] of Object.entries(record)) fields[name] = layerValue(value);
  return fields;
}

function layerValue(value: unknown): LayerValue {
  if (value instanceof Uint8Array) return textOf(value);
  if (Array.isArray(value)) return value.map(layerValue);
  if (typeof value === 'object' && value !== null) return fieldsOf(value);
  return typeof value === 'number' || typeof value === 'boolean' || typeof value === 'string' ? value : null;
}

/** The next dissector for an EtherType or an 802.3 length. */
export function byEtherType(etherType: number): string {
  switch (etherType) {
    case EtherType.VLAN:
    case EtherType.SERVICE_VLAN:
      return 'vlan';
    case EtherType.ARP:
      return 'arp';
    case EtherType.IPV4:
      return 'ipv4';
    case EtherType.IPV6:
      return 'ipv6';
    case EtherType.MPLS:
    case EtherType.MPLS_MULTICAST:
      return 'mpls';
    case EtherType.TRANSPARENT_ETHERNET:
      return 'ethernet';
    default:
      return etherType < ETHERTYPE_MINIMUM ? 'llc' : 'payload';
  }
}

/** The dissector for an IP protocol or next-header number. */
export function byIpProtocol(protocol: number): string {
  switch (protocol) {
    case IpProtocol.ICMPV4:
      return 'icmpv4';
    case IpProtocol.IPV4:
      return 'ipv4';
    case IpProtocol.TCP:
      return 'tcp';
    case IpProtocol.UDP:
      return 'udp';
    case IpProtocol.IPV6:
      return 'ipv6';
    case IpProtocol.GRE:
      return 'gre';
    case IpProtocol.ICMPV6:
      return 'icmpv6';
    case IpProtocol.SCTP:
      return 'sctp';
    case IpProtocol.HOP_BY_HOP:
      return 'ipv6-hop-by-hop';
    case IpProtocol.ROUTING:
      return 'ipv6-routing';
    case IpProtocol.FRAGMENT:
      return 'ipv6-fragment';
    case IpProtocol.AUTHENTICATION:
      return 'ipv6-authentication';
    case IpProtocol.DESTINATION:
      return 'ipv6-destination';
    default:
      return 'payload';
  }
}

/**
 * Checksum fields of a transport: the value and 'good', 'bad', 'partial' (an offload finishes it), or 'unverified' where it
 * cannot be known (fragments, no IP header).
 * @param state computes whether a whole checksum is good
 */
export function checksumFields(
  span: Span,
  offset: number,
  checksum: number,
  isGood: () => boolean,
): Record<string, LayerValue> {
  let state = 'unverified';
  if (span.partialAt === offset) state = 'partial';
  else if (span.ip === null || !span.ip.isFragment) state = isGood() ? 'good' : 'bad';
  return { checksum, checksumState: state };
}

/** As {@link checksumFields}, with the pseudo header. */
export function pseudoChecksumFields(
  span: Span,
  offset: number,
  checksum: number,
  protocol: number,
): Record<string, LayerValue> {
  const ip = span.ip;
  if (ip === null || ip.isRouted)
    return { checksum, checksumState: span.partialAt === offset ? 'partial' : 'unverified' };
  return checksumFields(span, offset, checksum, () => {
    const length = span.end - offset;
    const pseudo =
      ip.version === 4
        ? pseudoHeaderSum4(span.bytes, ip.offset + 12, protocol, length)
        : pseudoHeaderSum6(span.bytes, ip.offset + 8, protocol, length);
    return sumBytes(span.bytes, offset, length, pseudo) === 0xffff;
  });
}
