/** The VXLAN header, which stands behind UDP (port 4789) and before an Ethernet frame. */
import { setU24, u24 } from './bytes.ts';
import { Emitter } from './emitter.ts';
import { type Codec, type Flaw, overOrThrow, View } from './view.ts';

/*
 *   0                    1          4                  7          8
 *  +--------------------+----------+------------------+----------+----------------
 *  | 0 0 0 0 I 0 0 0    | reserved | network id (VNI) | reserved | Ethernet frame
 *  +--------------------+----------+------------------+----------+----------------
 */
const FIELD = { FLAGS: 0, RESERVED: 1, VNI: 4, LENGTH: 8 } as const;

/** The UDP port that IANA gave to VXLAN. */
export const VXLAN_PORT = 4789;

const VNI_VALID = 0x08;

const TRUNCATED: Flaw = { reason: 'shorter than 8 bytes', at: 0 };
const NO_VNI: Flaw = { reason: 'the I flag, without which there is no VNI, is not set', at: FIELD.FLAGS };

/** A VXLAN header in bytes. */
export class VxlanView extends View {
  over(bytes: Uint8Array, offset: number, end: number): boolean {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
    if (end - offset < FIELD.LENGTH) this.flaw = TRUNCATED;
    else this.flaw = (bytes[offset] & VNI_VALID) === 0 ? NO_VNI : null;
    return this.flaw === null;
  }

  /** All flag bits; extensions use more than I. */
  get flags(): number {
    return this.bytes[this.offset];
  }

  /** VXLAN network identifier, 24 bits. */
  get vni(): number {
    return u24(this.bytes, this.offset + FIELD.VNI);
  }

  set vni(value: number) {
    setU24(this.bytes, this.offset + FIELD.VNI, value);
  }

  get payloadOffset(): number {
    return this.offset + FIELD.LENGTH;
  }
}

/** A VXLAN header as data. */
export interface VxlanRecord {
  vni: number;
}

/** VXLAN (RFC 7348). */
export const Vxlan: Codec<VxlanRecord> = {
  protocol: 'vxlan',

  parse(bytes, offset = 0, end = bytes.length) {
    const view = overOrThrow(new VxlanView(), this.protocol, bytes, offset, end);
    return { vni: view.vni };
  },

  byteLength() {
    return FIELD.LENGTH;
  },

  emit(record, bytes, offset = 0) {
    const out = new Emitter(this.protocol, bytes, offset, FIELD.LENGTH);
    out.u8('flags', VNI_VALID);
    out.zeros(3);
    out.u24('vni', record.vni);
    out.zeros(1);
    return out.at;
  },
};
