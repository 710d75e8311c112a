/** The fixed IPv6 header. What may follow it before the transport is in ipv6-extension.ts. */
import { formatIpv6 } from './address.ts';
import { setU16, u16, u32 } from './bytes.ts';
import { Emitter } from './emitter.ts';
import { type Codec, type Flaw, overOrThrow, View } from './view.ts';

/*
 *   0               1               2               3
 *  +-------+---------------+---------------------------------------+
 *  |   6   | traffic class |              flow label               |
 *  +-------+---------------+-------+---------------+---------------+ 4
 *  |        payload length         |  next header  |   hop limit   |
 *  +-------------------------------+---------------+---------------+ 8
 *  |                   source address, 16 bytes                    |
 *  +---------------------------------------------------------------+ 24
 *  |                destination address, 16 bytes                  |
 *  +---------------------------------------------------------------+ 40
 */
const FIELD = {
  VERSION: 0,
  PAYLOAD_LENGTH: 4,
  NEXT_HEADER: 6,
  HOP_LIMIT: 7,
  SOURCE: 8,
  DESTINATION: 24,
  LENGTH: 40,
} as const;

const TRUNCATED: Flaw = { reason: 'shorter than 40 bytes', at: 0 };
const VERSION: Flaw = { reason: 'version is not 6', at: 0 };
const PAYLOAD_LENGTH: Flaw = { reason: 'payload length is beyond the end', at: FIELD.PAYLOAD_LENGTH };

/** An IPv6 header in bytes. */
export class Ipv6View extends View {
  over(bytes: Uint8Array, offset: number, end: number): boolean {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
    this.flaw = flawOf(bytes, offset, end);
    return this.flaw === null;
  }

  /** DSCP and ECN together, as one byte. */
  get trafficClass(): number {
    return (u16(this.bytes, this.offset) >>> 4) & 0xff;
  }

  set trafficClass(value: number) {
    setU16(this.bytes, this.offset, (u16(this.bytes, this.offset) & 0xf00f) | ((value & 0xff) << 4));
  }

  /** 20 bits. */
  get flowLabel(): number {
    return u32(this.bytes, this.offset) & 0xf_ffff;
  }

  /** Extension headers and payload in bytes. */
  get payloadLength(): number {
    return u16(this.bytes, this.offset + FIELD.PAYLOAD_LENGTH);
  }

  set payloadLength(value: number) {
    setU16(this.bytes, this.offset + FIELD.PAYLOAD_LENGTH, value);
  }

  get nextHeader(): number {
    return this.bytes[this.offset + FIELD.NEXT_HEADER];
  }

  get hopLimit(): number {
    return this.bytes[this.offset + FIELD.HOP_LIMIT];
  }

  set hopLimit(value: number) {
    this.bytes[this.offset + FIELD.HOP_LIMIT] = value;
  }

  get sourceOffset(): number {
    return this.offset + FIELD.SOURCE;
  }

  get destinationOffset(): number {
    return this.offset + FIELD.DESTINATION;
  }

  get payloadOffset(): number {
    return this.offset + FIELD.LENGTH;
  }

  /** Index behind the payload; padding of the frame may follow. */
  get payloadEnd(): number {
    return this.offset + FIELD.LENGTH + this.payloadLength;
  }
}

function flawOf(bytes: Uint8Array, offset: number, end: number): Flaw | null {
  if (end - offset < FIELD.LENGTH) return TRUNCATED;
  if (bytes[offset] >>> 4 !== 6) return VERSION;
  return u16(bytes, offset + FIELD.PAYLOAD_LENGTH) > end - offset - FIELD.LENGTH ? PAYLOAD_LENGTH : null;
}

/** An IPv6 header as data. */
export interface Ipv6Record {
  trafficClass: number;
  flowLabel: number;
  /** Extension headers and payload in bytes. */
  payloadLength: number;
  nextHeader: number;
  hopLimit: number;
  source: string;
  destination: string;
}

/** IPv6 (RFC 8200). */
export const Ipv6: Codec<Ipv6Record> = {
  protocol: 'ipv6',

  parse(bytes, offset = 0, end = bytes.length) {
    const view = overOrThrow(new Ipv6View(), this.protocol, bytes, offset, end);
    return {
      trafficClass: view.trafficClass,
      flowLabel: view.flowLabel,
      payloadLength: view.payloadLength,
      nextHeader: view.nextHeader,
      hopLimit: view.hopLimit,
      source: formatIpv6(bytes, view.sourceOffset),
      destination: formatIpv6(bytes, view.destinationOffset),
    };
  },

  byteLength() {
    return FIELD.LENGTH;
  },

  emit(record, bytes, offset = 0) {
    const out = new Emitter(this.protocol, bytes, offset, FIELD.LENGTH);
    const trafficClass = out.bits('trafficClass', record.trafficClass, 8);
    const flowLabel = out.bits('flowLabel', record.flowLabel, 20);
    out.u32('version', ((6 << 28) | (trafficClass << 20) | flowLabel) >>> 0);
    out.u16('payloadLength', record.payloadLength);
    out.u8('nextHeader', record.nextHeader);
    out.u8('hopLimit', record.hopLimit);
    out.ipv6('source', record.source);
    out.ipv6('destination', record.destination);
    return out.at;
  },
};
