/** The MPLS label stack. An entry does not say what follows the stack: the label's owner knows, others look at the first bits. */
import { setU32, u32 } from './bytes.ts';
import { Emitter } from './emitter.ts';
import { WireError } from './error.ts';
import { type Codec, type Flaw, overOrThrow, View } from './view.ts';

/*
 *   0                                        4
 *  +------------------+-----+---+-----------+---------
 *  | label            | TC  | S | TTL       | next entry, or the payload when S is 1
 *  +------------------+-----+---+-----------+---------
 *    20 bits            3     1    8
 */
const ENTRY_BYTES = 4;
const BOTTOM = 0x100;

const TRUNCATED: Flaw = { reason: 'ends before the bottom of the stack', at: 0 };

/** One entry of a label stack in bytes. */
export class MplsView extends View {
  over(bytes: Uint8Array, offset: number, end: number): boolean {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
    this.flaw = end - offset < ENTRY_BYTES ? TRUNCATED : null;
    return this.flaw === null;
  }

  /** Label, traffic class, bottom bit and TTL together. */
  get entry(): number {
    return u32(this.bytes, this.offset);
  }

  set entry(value: number) {
    setU32(this.bytes, this.offset, value);
  }

  get label(): number {
    return this.entry >>> 12;
  }

  set label(value: number) {
    this.entry = (this.entry & 0xfff) | (value << 12);
  }

  get trafficClass(): number {
    return (this.bytes[this.offset + 2] >>> 1) & 7;
  }

  get isBottom(): boolean {
    return (this.bytes[this.offset + 2] & 1) === 1;
  }

  get timeToLive(): number {
    return this.bytes[this.offset + 3];
  }

  set timeToLive(value: number) {
    this.bytes[this.offset + 3] = value;
  }

  /** The next entry, or the payload behind the last. */
  get payloadOffset(): number {
    return this.offset + ENTRY_BYTES;
  }
}

/** A label stack as data, the outermost entry first; the last is the bottom. */
export interface MplsRecord {
  /** At least one. */
  entries: { label: number; trafficClass: number; timeToLive: number }[];
}

/** MPLS (RFC 3032, RFC 5462). */
export const Mpls: Codec<MplsRecord> = {
  protocol: 'mpls',

  parse(bytes, offset = 0, end = bytes.length) {
    const entries: MplsRecord['entries'] = [];
    const view = new MplsView();
    let at = offset;
    do {
      overOrThrow(view, this.protocol, bytes, at, end);
      entries.push({ label: view.label, trafficClass: view.trafficClass, timeToLive: view.timeToLive });
      at = view.payloadOffset;
    } while (!view.isBottom);
    return { entries };
  },

  byteLength(record) {
    return record.entries.length * ENTRY_BYTES;
  },

  emit(record, bytes, offset = 0) {
    if (record.entries.length === 0) throw new WireError(this.protocol, 'a label stack has at least one entry', offset);
    const out = new Emitter(this.protocol, bytes, offset, this.byteLength(record));
    record.entries.forEach((entry, i) => {
      const label = out.bits('label', entry.label, 20);
      const trafficClass = out.bits('trafficClass', entry.trafficClass, 3);
      const bottom = i === record.entries.length - 1 ? BOTTOM : 0;
      const timeToLive = out.bits('timeToLive', entry.timeToLive, 8);
      out.u32('entry', ((label << 12) | (trafficClass << 9) | bottom | timeToLive) >>> 0);
    });
    return out.at;
  },
};
