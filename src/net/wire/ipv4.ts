/** The IPv4 header with its options. Fragments are told by the view; putting them together is not this folder's business. */
import { internetChecksum } from '../checksum.ts';
import { formatIpv4 } from './address.ts';
import { setU16, u16, u32 } from './bytes.ts';
import { Emitter } from './emitter.ts';
import { emitRawOptions, parseRawOptions, type RawOption, rawOptionsLength } from './options.ts';
import { type Codec, type Flaw, overOrThrow, View } from './view.ts';

/*
 *   0               1               2               3
 *  +-------+-------+-----------+---+-------------------------------+
 *  |   4   | words |   DSCP    |ECN|         total length          |
 *  +-------+-------+-----------+---+-----+-------------------------+ 4
 *  |        identification         |0 D M|  fragment offset / 8    |
 *  +---------------+---------------+-----+-------------------------+ 8
 *  | time to live  |   protocol    |        header checksum        |
 *  +---------------+---------------+-------------------------------+ 12
 *  |                        source address                         |
 *  +---------------------------------------------------------------+ 16
 *  |                      destination address                      |
 *  +---------------------------------------------------------------+ 20
 *  |                  options, up to 40 bytes                      |
 *  +---------------------------------------------------------------+
 */
const FIELD = {
  VERSION: 0,
  TRAFFIC: 1,
  TOTAL_LENGTH: 2,
  IDENTIFICATION: 4,
  FRAGMENT: 6,
  TIME_TO_LIVE: 8,
  PROTOCOL: 9,
  CHECKSUM: 10,
  SOURCE: 12,
  DESTINATION: 16,
  OPTIONS: 20,
} as const;

const DONT_FRAGMENT = 0x4000;
const MORE_FRAGMENTS = 0x2000;

const TRUNCATED: Flaw = { reason: 'shorter than 20 bytes', at: 0 };
const VERSION: Flaw = { reason: 'version is not 4', at: 0 };
const HEADER_LENGTH: Flaw = { reason: 'header length is under 20 bytes or beyond the end', at: 0 };
const TOTAL_LENGTH: Flaw = {
  reason: 'total length is under the header length or beyond the end',
  at: FIELD.TOTAL_LENGTH,
};

/** An IPv4 header in bytes. */
export class Ipv4View extends View {
  over(bytes: Uint8Array, offset: number, end: number): boolean {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
    this.flaw = flawOf(bytes, offset, end);
    return this.flaw === null;
  }

  /** Header and options in bytes. */
  get headerLength(): number {
    return (this.bytes[this.offset] & 15) << 2;
  }

  /** Differentiated services code point, 0 to 63. */
  get dscp(): number {
    return this.bytes[this.offset + FIELD.TRAFFIC] >>> 2;
  }

  /** Explicit congestion notification, 0 to 3. */
  get ecn(): number {
    return this.bytes[this.offset + FIELD.TRAFFIC] & 3;
  }

  /** DSCP and ECN together, as one byte. */
  get trafficClass(): number {
    return this.bytes[this.offset + FIELD.TRAFFIC];
  }

  set trafficClass(value: number) {
    this.bytes[this.offset + FIELD.TRAFFIC] = value;
  }

  /** Header, options and payload in bytes. */
  get totalLength(): number {
    return u16(this.bytes, this.offset + FIELD.TOTAL_LENGTH);
  }

  set totalLength(value: number) {
    setU16(this.bytes, this.offset + FIELD.TOTAL_LENGTH, value);
  }

  get identification(): number {
    return u16(this.bytes, this.offset + FIELD.IDENTIFICATION);
  }

  set identification(value: number) {
    setU16(this.bytes, this.offset + FIELD.IDENTIFICATION, value);
  }

  get dontFragment(): boolean {
    return (u16(this.bytes, this.offset + FIELD.FRAGMENT) & DONT_FRAGMENT) !== 0;
  }

  get moreFragments(): boolean {
    return (u16(this.bytes, this.offset + FIELD.FRAGMENT) & MORE_FRAGMENTS) !== 0;
  }

  /** Where this fragment's payload lies in the whole, in bytes. */
  get fragmentOffset(): number {
    return (u16(this.bytes, this.offset + FIELD.FRAGMENT) & 0x1fff) << 3;
  }

  get timeToLive(): number {
    return this.bytes[this.offset + FIELD.TIME_TO_LIVE];
  }

  set timeToLive(value: number) {
    this.bytes[this.offset + FIELD.TIME_TO_LIVE] = value;
  }

  get protocol(): number {
    return this.bytes[this.offset + FIELD.PROTOCOL];
  }

  get checksum(): number {
    return u16(this.bytes, this.offset + FIELD.CHECKSUM);
  }

  set checksum(value: number) {
    setU16(this.bytes, this.offset + FIELD.CHECKSUM, value);
  }

  get sourceOffset(): number {
    return this.offset + FIELD.SOURCE;
  }

  get destinationOffset(): number {
    return this.offset + FIELD.DESTINATION;
  }

  /** The source address as an unsigned 32-bit number. */
  get source(): number {
    return u32(this.bytes, this.offset + FIELD.SOURCE);
  }

  /** The destination address as an unsigned 32-bit number. */
  get destination(): number {
    return u32(this.bytes, this.offset + FIELD.DESTINATION);
  }

  get payloadOffset(): number {
    return this.offset + this.headerLength;
  }

  /** Index behind the payload; padding of the frame may follow. */
  get payloadEnd(): number {
    return this.offset + this.totalLength;
  }

  get isChecksumGood(): boolean {
    return internetChecksum(this.bytes, this.offset, this.headerLength) === 0;
  }

  /** Write the header checksum that fits the header. */
  fillChecksum(): void {
    this.checksum = 0;
    this.checksum = internetChecksum(this.bytes, this.offset, this.headerLength);
  }
}

function flawOf(bytes: Uint8Array, offset: number, end: number): Flaw | null {
  if (end - offset < FIELD.OPTIONS) return TRUNCATED;
  if (bytes[offset] >>> 4 !== 4) return VERSION;
  const headerLength = (bytes[offset] & 15) << 2;
  if (headerLength < FIELD.OPTIONS || headerLength > end - offset) return HEADER_LENGTH;
  const totalLength = u16(bytes, offset + FIELD.TOTAL_LENGTH);
  return totalLength < headerLength || totalLength > end - offset ? TOTAL_LENGTH : null;
}

/** An IPv4 header as data. Its checksum is emit's business, and the view's `isChecksumGood`. */
export interface Ipv4Record {
  dscp: number;
  ecn: number;
  /** Payload in bytes. */
  payloadLength: number;
  identification: number;
  dontFragment: boolean;
  moreFragments: boolean;
  /** In bytes, a multiple of eight. */
  fragmentOffset: number;
  timeToLive: number;
  protocol: number;
  source: string;
  destination: string;
  /** Up to 40 bytes of them; IANA "IP option numbers". */
  options: RawOption[];
}

/** IPv4 (RFC 791). */
export const Ipv4: Codec<Ipv4Record> = {
  protocol: 'ipv4',

  parse(bytes, offset = 0, end = bytes.length) {
    const view = overOrThrow(new Ipv4View(), this.protocol, bytes, offset, end);
    return {
      dscp: view.dscp,
      ecn: view.ecn,
      payloadLength: view.totalLength - view.headerLength,
      identification: view.identification,
      dontFragment: view.dontFragment,
      moreFragments: view.moreFragments,
      fragmentOffset: view.fragmentOffset,
      timeToLive: view.timeToLive,
      protocol: view.protocol,
      source: formatIpv4(bytes, view.sourceOffset),
      destination: formatIpv4(bytes, view.destinationOffset),
      options: parseRawOptions(this.protocol, bytes, offset + FIELD.OPTIONS, view.payloadOffset),
    };
  },

  byteLength(record) {
    return FIELD.OPTIONS + rawOptionsLength(record.options);
  },

  emit(record, bytes, offset = 0) {
    const length = this.byteLength(record);
    const out = new Emitter(this.protocol, bytes, offset, length);
    if (length > 60) out.fail(`${length - FIELD.OPTIONS} bytes of options are more than 40`);
    if (record.fragmentOffset % 8 !== 0) out.fail(`fragmentOffset ${record.fragmentOffset} is not a multiple of 8`);
    const dscp = out.bits('dscp', record.dscp, 6);
    const ecn = out.bits('ecn', record.ecn, 2);
    const fragment = out.bits('fragmentOffset', record.fragmentOffset, 16) >>> 3;
    out.u8('version', 0x40 | (length >>> 2));
    out.u8('trafficClass', (dscp << 2) | ecn);
    out.u16('totalLength', length + out.bits('payloadLength', record.payloadLength, 16));
    out.u16('identification', record.identification);
    const flags = (record.dontFragment ? DONT_FRAGMENT : 0) | (record.moreFragments ? MORE_FRAGMENTS : 0);
    out.u16('fragment', flags | fragment);
    out.u8('timeToLive', record.timeToLive);
    out.u8('protocol', record.protocol);
    out.zeros(2);
    out.ipv4('source', record.source);
    out.ipv4('destination', record.destination);
    emitRawOptions(out, record.options, offset + length);
    setU16(bytes, offset + FIELD.CHECKSUM, internetChecksum(bytes, offset, length));
    return out.at;
  },
};
