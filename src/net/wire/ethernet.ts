/** The Ethernet II header. Tags behind it are headers of their own: vlan-tag.ts. */
import { formatMac } from './address.ts';
import { setU16, u16 } from './bytes.ts';
import { Emitter } from './emitter.ts';
import { type Codec, type Flaw, overOrThrow, View } from './view.ts';

/*
 *   0               6               12      14
 *  +---------------+---------------+-------+---------
 *  |  destination  |    source     | type  | payload
 *  +---------------+---------------+-------+---------
 */
const FIELD = { DESTINATION: 0, SOURCE: 6, ETHER_TYPE: 12, LENGTH: 14 } as const;

const TRUNCATED: Flaw = { reason: 'shorter than 14 bytes', at: 0 };

/** An Ethernet header in bytes. Addresses are given as offsets; compare or copy their six bytes there. */
export class EthernetView extends View {
  over(bytes: Uint8Array, offset: number, end: number): boolean {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
    this.flaw = end - offset < FIELD.LENGTH ? TRUNCATED : null;
    return this.flaw === null;
  }

  get destinationOffset(): number {
    return this.offset + FIELD.DESTINATION;
  }

  get sourceOffset(): number {
    return this.offset + FIELD.SOURCE;
  }

  /** The type field: an EtherType, or a length when it is at most 1500. */
  get etherType(): number {
    return u16(this.bytes, this.offset + FIELD.ETHER_TYPE);
  }

  set etherType(value: number) {
    setU16(this.bytes, this.offset + FIELD.ETHER_TYPE, value);
  }

  get payloadOffset(): number {
    return this.offset + FIELD.LENGTH;
  }

  /** Whether the frame goes to a group: multicast or broadcast. */
  get isGroupDestination(): boolean {
    return (this.bytes[this.offset] & 1) === 1;
  }
}

/** An Ethernet header as data. */
export interface EthernetRecord {
  destination: string;
  source: string;
  etherType: number;
}

/** Ethernet II (IEEE 802.3). */
export const Ethernet: Codec<EthernetRecord> = {
  protocol: 'ethernet',

  parse(bytes, offset = 0, end = bytes.length) {
    const view = overOrThrow(new EthernetView(), this.protocol, bytes, offset, end);
    return {
      destination: formatMac(bytes, view.destinationOffset),
      source: formatMac(bytes, view.sourceOffset),
      etherType: view.etherType,
    };
  },

  byteLength() {
    return FIELD.LENGTH;
  },

  emit(record, bytes, offset = 0) {
    const out = new Emitter(this.protocol, bytes, offset, FIELD.LENGTH);
    out.mac('destination', record.destination);
    out.mac('source', record.source);
    out.u16('etherType', record.etherType);
    return out.at;
  },
};
