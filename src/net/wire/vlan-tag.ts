/** The VLAN tag of 802.1Q and 802.1ad: what stands behind a tag's TPID. Tags stack: each ends with the next EtherType. */
import { setU16, u16 } from './bytes.ts';
import { Emitter } from './emitter.ts';
import { type Codec, type Flaw, overOrThrow, View } from './view.ts';

/*
 *  The TPID (0x8100 or 0x88a8) is the EtherType of the header before, so a tag begins behind it:
 *
 *   0                     2             4
 *  +-----+---+-----------+-------------+---------
 *  | PCP |DEI|  VLAN id  | next type   | payload
 *  +-----+---+-----------+-------------+---------
 *    3     1      12 bits
 */
const FIELD = { TCI: 0, ETHER_TYPE: 2, LENGTH: 4 } as const;

const TRUNCATED: Flaw = { reason: 'ends inside the VLAN tag', at: 0 };

/** A VLAN tag in bytes, from its TCI on. */
export class VlanTagView extends View {
  over(bytes: Uint8Array, offset: number, end: number): boolean {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
    this.flaw = end - offset < FIELD.LENGTH ? TRUNCATED : null;
    return this.flaw === null;
  }

  /** Tag control information: priority, drop eligibility and VLAN identifier together. */
  get tci(): number {
    return u16(this.bytes, this.offset + FIELD.TCI);
  }

  set tci(value: number) {
    setU16(this.bytes, this.offset + FIELD.TCI, value);
  }

  get priority(): number {
    return this.bytes[this.offset] >>> 5;
  }

  set priority(value: number) {
    this.tci = (this.tci & 0x1fff) | (value << 13);
  }

  get dropEligible(): boolean {
    return (this.bytes[this.offset] & 0x10) !== 0;
  }

  get vlanId(): number {
    return this.tci & 0xfff;
  }

  set vlanId(value: number) {
    this.tci = (this.tci & 0xf000) | (value & 0xfff);
  }

  get etherType(): number {
    return u16(this.bytes, this.offset + FIELD.ETHER_TYPE);
  }

  set etherType(value: number) {
    setU16(this.bytes, this.offset + FIELD.ETHER_TYPE, value);
  }

  get payloadOffset(): number {
    return this.offset + FIELD.LENGTH;
  }
}

/** A VLAN tag as data. */
export interface VlanTagRecord {
  /** Priority code point, 0 to 7. */
  priority: number;
  dropEligible: boolean;
  /** 0 to 4095; 0 tags a priority only. */
  vlanId: number;
  /** What follows the tag. */
  etherType: number;
}

/** The tag of IEEE 802.1Q and 802.1ad, behind its TPID. */
export const VlanTag: Codec<VlanTagRecord> = {
  protocol: 'vlan',

  parse(bytes, offset = 0, end = bytes.length) {
    const view = overOrThrow(new VlanTagView(), this.protocol, bytes, offset, end);
    return {
      priority: view.priority,
      dropEligible: view.dropEligible,
      vlanId: view.vlanId,
      etherType: view.etherType,
    };
  },

  byteLength() {
    return FIELD.LENGTH;
  },

  emit(record, bytes, offset = 0) {
    const out = new Emitter(this.protocol, bytes, offset, FIELD.LENGTH);
    const priority = out.bits('priority', record.priority, 3);
    const vlanId = out.bits('vlanId', record.vlanId, 12);
    out.u16('tci', (priority << 13) | (record.dropEligible ? 0x1000 : 0) | vlanId);
    out.u16('etherType', record.etherType);
    return out.at;
  },
};
