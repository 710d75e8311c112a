/**
 * IPv6 extension headers: hop-by-hop and destination options, routing, fragment, authentication. Each begins with the
 * number of the next, so a chain is read from the fixed header's (ipv6.ts) on. "No next header" (59) has no bytes.
 */
import { u16, u32 } from './bytes.ts';
import { Emitter } from './emitter.ts';
import { WireError } from './error.ts';
import { emitIpv6Options, type Ipv6Option, ipv6OptionsLength, parseIpv6Options } from './ipv6-options.ts';
import { IpProtocol } from './numbers.ts';
import { type Codec, type Flaw, overOrThrow, View } from './view.ts';

/*
 *  All but the last two:   0             1              2                       multiples of 8 bytes
 *                         +-------------+--------------+------------------------+
 *                         | next header | (bytes/8)-1  | options / routing data |
 *                         +-------------+--------------+------------------------+
 *
 *  Routing from 2 on:      type (1), segments left (1), data
 *
 *  Fragment:               0             1              2               3       4                  8
 *                         +-------------+--------------+---------------+-------+------------------+
 *                         | next header | 0            | offset/8 (13 bits), 0 (2), more (1) | id |
 *                         +-------------+--------------+---------------+-------+------------------+
 *
 *  Authentication:         0             1              2       4        8           12
 *                         +-------------+--------------+-------+--------+-----------+-----
 *                         | next header | (bytes/4)-2  | 0     | SPI    | sequence  | ICV
 *                         +-------------+--------------+-------+--------+-----------+-----
 */
const FIELD = {
  NEXT_HEADER: 0,
  LENGTH_UNITS: 1,
  DATA: 2,
  ROUTING_TYPE: 2,
  SEGMENTS_LEFT: 3,
  ROUTING_DATA: 4,
  FRAGMENT: 2,
  IDENTIFICATION: 4,
  SPI: 4,
  SEQUENCE: 8,
  ICV: 12,
  MINIMUM: 8,
} as const;

const TRUNCATED: Flaw = { reason: 'shorter than 8 bytes', at: 0 };
const LENGTH: Flaw = { reason: 'header length is beyond the end', at: FIELD.LENGTH_UNITS };
const ICV: Flaw = { reason: 'authentication header is shorter than 12 bytes', at: FIELD.LENGTH_UNITS };

/** Whether a next-header number names an extension header of this file. */
export function isIpv6Extension(protocol: number): boolean {
  return (
    protocol === IpProtocol.HOP_BY_HOP ||
    protocol === IpProtocol.ROUTING ||
    protocol === IpProtocol.FRAGMENT ||
    protocol === IpProtocol.AUTHENTICATION ||
    protocol === IpProtocol.DESTINATION
  );
}

/** Any extension header in bytes. Set {@link type}, the number that announced the header, before `over`. */
export class Ipv6ExtensionView extends View {
  type: number = IpProtocol.HOP_BY_HOP;

  over(bytes: Uint8Array, offset: number, end: number): boolean {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
    this.flaw = flawOf(this.type, bytes, offset, end);
    return this.flaw === null;
  }

  get nextHeader(): number {
    return this.bytes[this.offset];
  }

  /** In bytes, all of it. */
  get headerLength(): number {
    return lengthOf(this.type, this.bytes[this.offset + FIELD.LENGTH_UNITS]);
  }

  get payloadOffset(): number {
    return this.offset + this.headerLength;
  }

  /** Of a fragment header: where the payload lies in the whole, in bytes. */
  get fragmentOffset(): number {
    return u16(this.bytes, this.offset + FIELD.FRAGMENT) & 0xfff8;
  }

  /** Of a fragment header. */
  get moreFragments(): boolean {
    return (this.bytes[this.offset + FIELD.FRAGMENT + 1] & 1) === 1;
  }

  /** Of a fragment header. */
  get identification(): number {
    return u32(this.bytes, this.offset + FIELD.IDENTIFICATION);
  }

  /** Of a routing header. */
  get segmentsLeft(): number {
    return this.bytes[this.offset + FIELD.SEGMENTS_LEFT];
  }
}

function lengthOf(type: number, units: number): number {
  if (type === IpProtocol.FRAGMENT) return 8;
  return type === IpProtocol.AUTHENTICATION ? (units + 2) << 2 : (units + 1) << 3;
}

function flawOf(type: number, bytes: Uint8Array, offset: number, end: number): Flaw | null {
  if (end - offset < FIELD.MINIMUM) return TRUNCATED;
  const length = lengthOf(type, bytes[offset + FIELD.LENGTH_UNITS]);
  if (length > end - offset) return LENGTH;
  return type === IpProtocol.AUTHENTICATION && length < FIELD.ICV ? ICV : null;
}

/** An extension header as data; `kind` says which. */
export type Ipv6ExtensionRecord =
  | { kind: 'hop-by-hop' | 'destination'; nextHeader: number; options: Ipv6Option[] }
  /** `data` is what follows the segments-left byte: four bytes more than a multiple of eight. */
  | { kind: 'routing'; nextHeader: number; routingType: number; segmentsLeft: number; data: Uint8Array }
  /** `fragmentOffset` in bytes, a multiple of eight. */
  | { kind: 'fragment'; nextHeader: number; fragmentOffset: number; moreFragments: boolean; identification: number }
  /** `icv` in whole words of four bytes. */
  | { kind: 'authentication'; nextHeader: number; spi: number; sequence: number; icv: Uint8Array };

const TYPE_OF_KIND = {
  'hop-by-hop': IpProtocol.HOP_BY_HOP,
  routing: IpProtocol.ROUTING,
  fragment: IpProtocol.FRAGMENT,
  authentication: IpProtocol.AUTHENTICATION,
  destination: IpProtocol.DESTINATION,
} as const;

/** The number that announces a header of this kind in the one before. */
export function ipv6ExtensionType(kind: Ipv6ExtensionRecord['kind']): number {
  return TYPE_OF_KIND[kind];
}

/**
 * The codec of one kind of extension header, as parsing needs to know the kind beforehand.
 * @param type the number that announced the header
 * @throws WireError when {@link isIpv6Extension} is false of it
 */
export function ipv6ExtensionCodec(type: number): Codec<Ipv6ExtensionRecord> {
  if (!isIpv6Extension(type)) throw new WireError('ipv6-extension', `${type} is no extension header`, 0);
  return {
    protocol: 'ipv6-extension',
    parse: (bytes, offset, end) => parse(type, bytes, offset, end),
    byteLength,
    emit,
  };
}

function parse(type: number, bytes: Uint8Array, offset = 0, end = bytes.length): Ipv6ExtensionRecord {
  const view = new Ipv6ExtensionView();
  view.type = type;
  overOrThrow(view, 'ipv6-extension', bytes, offset, end);
  const nextHeader = view.nextHeader;
  switch (type) {
    case IpProtocol.ROUTING:
      return {
        kind: 'routing',
        nextHeader,
        routingType: bytes[offset + FIELD.ROUTING_TYPE],
        segmentsLeft: view.segmentsLeft,
        data: bytes.slice(offset + FIELD.ROUTING_DATA, view.payloadOffset),
      };
    case IpProtocol.FRAGMENT:
      return {
        kind: 'fragment',
        nextHeader,
        fragmentOffset: view.fragmentOffset,
        moreFragments: view.moreFragments,
        identification: view.identification,
      };
    case IpProtocol.AUTHENTICATION:
      return {
        kind: 'authentication',
        nextHeader,
        spi: u32(bytes, offset + FIELD.SPI),
        sequence: u32(bytes, offset + FIELD.SEQUENCE),
        icv: bytes.slice(offset + FIELD.ICV, view.payloadOffset),
      };
    default:
      return {
        kind: type === IpProtocol.HOP_BY_HOP ? 'hop-by-hop' : 'destination',
        nextHeader,
        options: parseIpv6Options(bytes, offset + FIELD.DATA, view.payloadOffset),
      };
  }
}

function byteLength(record: Ipv6ExtensionRecord): number {
  switch (record.kind) {
    case 'routing':
      return FIELD.ROUTING_DATA + record.data.length;
    case 'fragment':
      return FIELD.MINIMUM;
    case 'authentication':
      return FIELD.ICV + record.icv.length;
    default:
      return (FIELD.DATA + ipv6OptionsLength(record.options) + 7) & ~7;
  }
}

function emit(record: Ipv6ExtensionRecord, bytes: Uint8Array, offset = 0): number {
  const length = byteLength(record);
  const out = new Emitter('ipv6-extension', bytes, offset, length);
  out.u8('nextHeader', record.nextHeader);
  switch (record.kind) {
    case 'fragment':
      if (record.fragmentOffset % 8 !== 0) out.fail(`fragmentOffset ${record.fragmentOffset} is not a multiple of 8`);
      out.u8('reserved', 0);
      out.u16('fragment', out.bits('fragmentOffset', record.fragmentOffset, 16) | (record.moreFragments ? 1 : 0));
      out.u32('identification', record.identification);
      break;
    case 'authentication':
      if (length % 4 !== 0) out.fail('icv is not in whole words of four bytes');
      out.u8('payload length', (length >>> 2) - 2);
      out.u16('reserved', 0);
      out.u32('spi', record.spi);
      out.u32('sequence', record.sequence);
      out.data(record.icv);
      break;
    case 'routing':
      if (length % 8 !== 0) out.fail('routing data is not four bytes more than a multiple of eight');
      out.u8('header length', (length >>> 3) - 1);
      out.u8('routingType', record.routingType);
      out.u8('segmentsLeft', record.segmentsLeft);
      out.data(record.data);
      break;
    default:
      out.u8('header length', (length >>> 3) - 1);
      emitIpv6Options(out, record.options, offset + length);
  }
  return out.at;
}
