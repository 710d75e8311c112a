/** Dissectors of describe.ts for the link and network layers: Ethernet, tags, LLC, ARP, MPLS, IPv4, IPv6 and its extensions. */
import { byEtherType, byIpProtocol, type Decoded, type Dissector, fieldsOf, type Span } from './describe-fields.ts';
import { Arp } from './wire/arp.ts';
import { u16 } from './wire/bytes.ts';
import { WireError } from './wire/error.ts';
import { Ethernet } from './wire/ethernet.ts';
import { Ipv4, Ipv4View } from './wire/ipv4.ts';
import { Ipv6, Ipv6View } from './wire/ipv6.ts';
import { Ipv6ExtensionView, ipv6ExtensionCodec } from './wire/ipv6-extension.ts';
import { Mpls } from './wire/mpls.ts';
import { ETHERTYPE_MINIMUM, IpProtocol } from './wire/numbers.ts';
import { VlanTag } from './wire/vlan-tag.ts';

export function ethernet(span: Span, offset: number): Decoded {
  const record = Ethernet.parse(span.bytes, offset, span.end);
  span.ip = null;
  return {
    fields: fieldsOf(record),
    payloadOffset: offset + 14,
    next: typeOrLength(span, record.etherType, offset + 14),
  };
}

export function vlan(span: Span, offset: number): Decoded {
  const record = VlanTag.parse(span.bytes, offset, span.end);
  return {
    fields: fieldsOf(record),
    payloadOffset: offset + 4,
    next: typeOrLength(span, record.etherType, offset + 4),
  };
}

/** An 802.3 length ends the span; more than there is will be found by the LLC layer, which then is short. */
function typeOrLength(span: Span, etherType: number, payloadOffset: number): string {
  if (etherType < ETHERTYPE_MINIMUM && payloadOffset + etherType <= span.end) span.end = payloadOffset + etherType;
  return byEtherType(etherType);
}

export function llc(span: Span, offset: number): Decoded {
  const { bytes, end } = span;
  if (end - offset < 3) throw new WireError('llc', 'shorter than 3 bytes', offset);
  const fields = { dsap: bytes[offset], ssap: bytes[offset + 1], control: bytes[offset + 2] };
  const isSnap = fields.dsap === 0xaa && fields.ssap === 0xaa && fields.control === 3;
  if (!isSnap || end - offset < 8) return { fields, payloadOffset: offset + 3, next: 'payload' };
  const organization = (bytes[offset + 3] << 16) | u16(bytes, offset + 4);
  const etherType = u16(bytes, offset + 6);
  const next = organization === 0 && etherType >= ETHERTYPE_MINIMUM ? byEtherType(etherType) : 'payload';
  return { fields: { ...fields, organization, etherType }, payloadOffset: offset + 8, next };
}

export function arp(span: Span, offset: number): Decoded {
  const fields = fieldsOf(Arp.parse(span.bytes, offset, span.end));
  span.end = offset + 28;
  return { fields, payloadOffset: span.end, next: '' };
}

export function ipv4(span: Span, offset: number): Decoded {
  const record = Ipv4.parse(span.bytes, offset, span.end);
  const view = new Ipv4View();
  view.over(span.bytes, offset, span.end);
  span.end = view.payloadEnd;
  const isFragment = record.moreFragments || record.fragmentOffset > 0;
  span.ip = { version: 4, offset, isFragment, isRouted: false };
  const fields = fieldsOf(record);
  fields.checksum = view.checksum;
  fields.checksumState = view.isChecksumGood ? 'good' : 'bad';
  return {
    fields,
    payloadOffset: view.payloadOffset,
    next: record.fragmentOffset > 0 ? 'payload' : byIpProtocol(record.protocol),
  };
}

export function ipv6(span: Span, offset: number): Decoded {
  const record = Ipv6.parse(span.bytes, offset, span.end);
  const view = new Ipv6View();
  view.over(span.bytes, offset, span.end);
  span.end = view.payloadEnd;
  span.ip = { version: 6, offset, isFragment: false, isRouted: false };
  return { fields: fieldsOf(record), payloadOffset: view.payloadOffset, next: byIpProtocol(record.nextHeader) };
}

export function extension(type: number): Dissector {
  return (span, offset) => {
    const { kind: _kind, ...record } = ipv6ExtensionCodec(type).parse(span.bytes, offset, span.end);
    const view = new Ipv6ExtensionView();
    view.type = type;
    view.over(span.bytes, offset, span.end);
    let next = byIpProtocol(record.nextHeader);
    if (span.ip !== null && type === IpProtocol.ROUTING && view.segmentsLeft > 0) span.ip.isRouted = true;
    if (type === IpProtocol.FRAGMENT) {
      if (span.ip !== null && (view.moreFragments || view.fragmentOffset > 0)) span.ip.isFragment = true;
      if (view.fragmentOffset > 0) next = 'payload';
    }
    return { fields: fieldsOf(record), payloadOffset: view.payloadOffset, next };
  };
}

export function mpls(span: Span, offset: number): Decoded {
  const record = Mpls.parse(span.bytes, offset, span.end);
  const payloadOffset = offset + record.entries.length * 4;
  const version = payloadOffset < span.end ? span.bytes[payloadOffset] >>> 4 : 0;
  let next = 'payload';
  if (version === 4) next = 'ipv4';
  else if (version === 6) next = 'ipv6';
  return { fields: fieldsOf(record), payloadOffset, next };
}
