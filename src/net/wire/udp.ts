/** The UDP header. Its checksum runs over a pseudo header too: checksum.ts, compose.ts. */
import { setU16, u16 } from './bytes.ts';
import { Emitter } from './emitter.ts';
import { PortsView } from './ports-view.ts';
import { type Codec, type Flaw, overOrThrow } from './view.ts';

/*
 *   0             2                  4         6          8
 *  +-------------+------------------+---------+----------+---------
 *  | source port | destination port | length  | checksum | payload
 *  +-------------+------------------+---------+----------+---------
 */
const FIELD = { LENGTH_FIELD: 4, CHECKSUM: 6, LENGTH: 8 } as const;

const TRUNCATED: Flaw = { reason: 'shorter than 8 bytes', at: 0 };
const LENGTH: Flaw = { reason: 'length is under 8 or beyond the end', at: FIELD.LENGTH_FIELD };

/** A UDP header in bytes. */
export class UdpView extends PortsView {
  over(bytes: Uint8Array, offset: number, end: number): boolean {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
    this.flaw = flawOf(bytes, offset, end);
    return this.flaw === null;
  }

  /** Header and payload in bytes. */
  get length(): number {
    return u16(this.bytes, this.offset + FIELD.LENGTH_FIELD);
  }

  set length(value: number) {
    setU16(this.bytes, this.offset + FIELD.LENGTH_FIELD, value);
  }

  /** 0 over IPv4: the sender made none. */
  get checksum(): number {
    return u16(this.bytes, this.offset + FIELD.CHECKSUM);
  }

  set checksum(value: number) {
    setU16(this.bytes, this.offset + FIELD.CHECKSUM, value);
  }

  get payloadOffset(): number {
    return this.offset + FIELD.LENGTH;
  }

  get payloadEnd(): number {
    return this.offset + this.length;
  }
}

function flawOf(bytes: Uint8Array, offset: number, end: number): Flaw | null {
  if (end - offset < FIELD.LENGTH) return TRUNCATED;
  const length = u16(bytes, offset + FIELD.LENGTH_FIELD);
  return length < FIELD.LENGTH || length > end - offset ? LENGTH : null;
}

/** A UDP header as data. */
export interface UdpRecord {
  sourcePort: number;
  destinationPort: number;
  /** In bytes, without the header. */
  payloadLength: number;
}

/** UDP (RFC 768). */
export const Udp: Codec<UdpRecord> = {
  protocol: 'udp',

  parse(bytes, offset = 0, end = bytes.length) {
    const view = overOrThrow(new UdpView(), this.protocol, bytes, offset, end);
    return {
      sourcePort: view.sourcePort,
      destinationPort: view.destinationPort,
      payloadLength: view.length - FIELD.LENGTH,
    };
  },

  byteLength() {
    return FIELD.LENGTH;
  },

  emit(record, bytes, offset = 0) {
    const out = new Emitter(this.protocol, bytes, offset, FIELD.LENGTH);
    out.u16('sourcePort', record.sourcePort);
    out.u16('destinationPort', record.destinationPort);
    out.u16('length', FIELD.LENGTH + out.bits('payloadLength', record.payloadLength, 16));
    out.zeros(2);
    return out.at;
  },
};
