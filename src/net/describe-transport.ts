/** Dissectors of describe.ts for what IP carries: ICMP, ICMPv6, TCP, UDP, SCTP, and the tunnels GRE, VXLAN and Geneve. */
import { internetChecksum } from './checksum.ts';
import { sctpChecksum } from './crc32c.ts';
import {
  byEtherType,
  checksumFields,
  type Decoded,
  fieldsOf,
  type LayerValue,
  pseudoChecksumFields,
  type Span,
} from './describe-fields.ts';
import { u16 } from './wire/bytes.ts';
import { WireError } from './wire/error.ts';
import { GENEVE_PORT, Geneve, GeneveView } from './wire/geneve.ts';
import { Gre, GreView } from './wire/gre.ts';
import { Icmpv4, Icmpv4View } from './wire/icmpv4.ts';
import { Icmpv6, Icmpv6View } from './wire/icmpv6.ts';
import { ETHERTYPE_MINIMUM, IpProtocol } from './wire/numbers.ts';
import { Sctp, SctpView } from './wire/sctp.ts';
import { Tcp, TcpFlag, TcpView } from './wire/tcp.ts';
import { Udp, UdpView } from './wire/udp.ts';
import { VXLAN_PORT, Vxlan } from './wire/vxlan.ts';

export function icmpv4(span: Span, offset: number): Decoded {
  const fields = fieldsOf(Icmpv4.parse(span.bytes, offset, span.end));
  const view = new Icmpv4View();
  view.over(span.bytes, offset, span.end);
  const { bytes, end } = span;
  const state = checksumFields(span, offset, view.checksum, () => internetChecksum(bytes, offset, end - offset) === 0);
  return { fields: { ...fields, ...state }, payloadOffset: view.payloadOffset, next: 'payload' };
}

export function icmpv6(span: Span, offset: number): Decoded {
  const record = Icmpv6.parse(span.bytes, offset, span.end);
  const view = new Icmpv6View();
  view.over(span.bytes, offset, span.end);
  const state = pseudoChecksumFields(span, offset, view.checksum, IpProtocol.ICMPV6);
  const payloadOffset = 'options' in record ? span.end : view.payloadOffset;
  return { fields: { ...fieldsOf(record), ...state }, payloadOffset, next: 'payload' };
}

export function tcp(span: Span, offset: number): Decoded {
  const record = Tcp.parse(span.bytes, offset, span.end);
  const view = new TcpView();
  view.over(span.bytes, offset, span.end);
  const flags = Object.entries(TcpFlag).flatMap(([name, bit]) => ((record.flags & bit) === 0 ? [] : [name]));
  const state = pseudoChecksumFields(span, offset, view.checksum, IpProtocol.TCP);
  return { fields: { ...fieldsOf(record), flags, ...state }, payloadOffset: view.payloadOffset, next: 'payload' };
}

export function udp(span: Span, offset: number): Decoded {
  const isFirstFragment = span.ip?.isFragment === true;
  const { bytes } = span;
  // The length counts the whole datagram, of which the first fragment holds the beginning only.
  const parsed = isFirstFragment ? udpOfFragment(span, offset) : Udp.parse(bytes, offset, span.end);
  const checksum = u16(bytes, offset + 6);
  let next = 'payload';
  if (!isFirstFragment && parsed.destinationPort === VXLAN_PORT) next = 'vxlan';
  else if (!isFirstFragment && parsed.destinationPort === GENEVE_PORT) next = 'geneve';
  let state: Record<string, LayerValue> = { checksum, checksumState: 'unverified' };
  if (!isFirstFragment) {
    const view = new UdpView();
    view.over(bytes, offset, span.end);
    span.end = view.payloadEnd;
    // Tunnels may do without over IPv6, too (RFC 6935).
    const mayBeNone = span.ip?.version === 4 || next !== 'payload';
    const isNone = checksum === 0 && mayBeNone && span.partialAt !== offset;
    state = isNone ? { checksum, checksumState: 'none' } : pseudoChecksumFields(span, offset, checksum, IpProtocol.UDP);
  }
  return { fields: { ...fieldsOf(parsed), ...state }, payloadOffset: offset + 8, next };
}

function udpOfFragment(
  span: Span,
  offset: number,
): { sourcePort: number; destinationPort: number; payloadLength: number } {
  if (span.end - offset < 8) throw new WireError('udp', 'shorter than 8 bytes', offset);
  const length = u16(span.bytes, offset + 4);
  if (length < 8) throw new WireError('udp', 'length is under 8', offset + 4);
  return {
    sourcePort: u16(span.bytes, offset),
    destinationPort: u16(span.bytes, offset + 2),
    payloadLength: length - 8,
  };
}

export function sctp(span: Span, offset: number): Decoded {
  const { bytes, end } = span;
  if (span.ip?.isFragment === true) {
    return { fields: {}, payloadOffset: offset, next: 'payload' };
  }
  const fields = fieldsOf(Sctp.parse(bytes, offset, end));
  const view = new SctpView();
  view.over(bytes, offset, end);
  const state = checksumFields(
    span,
    offset,
    view.checksum,
    () => sctpChecksum(bytes, offset, end - offset) === view.checksum,
  );
  return { fields: { ...fields, ...state }, payloadOffset: end, next: '' };
}

export function gre(span: Span, offset: number): Decoded {
  const fields = fieldsOf(Gre.parse(span.bytes, offset, span.end));
  const view = new GreView();
  view.over(span.bytes, offset, span.end);
  const { bytes, end } = span;
  if (view.hasChecksum) {
    Object.assign(
      fields,
      checksumFields(span, offset, view.checksum, () => internetChecksum(bytes, offset, end - offset) === 0),
    );
  }
  const isType = view.protocol >= ETHERTYPE_MINIMUM;
  return { fields, payloadOffset: view.payloadOffset, next: isType ? byEtherType(view.protocol) : 'payload' };
}

export function vxlan(span: Span, offset: number): Decoded {
  return { fields: fieldsOf(Vxlan.parse(span.bytes, offset, span.end)), payloadOffset: offset + 8, next: 'ethernet' };
}

export function geneve(span: Span, offset: number): Decoded {
  const record = Geneve.parse(span.bytes, offset, span.end);
  const view = new GeneveView();
  view.over(span.bytes, offset, span.end);
  const next = !record.control && record.protocol >= ETHERTYPE_MINIMUM ? byEtherType(record.protocol) : 'payload';
  return { fields: fieldsOf(record), payloadOffset: view.payloadOffset, next };
}
