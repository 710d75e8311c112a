/** The Geneve header with its options, which stands behind UDP (port 6081). */
import { setU24, u16, u24 } from './bytes.ts';
import { Emitter } from './emitter.ts';
import { WireError } from './error.ts';
import { type Codec, type Flaw, overOrThrow, View } from './view.ts';

/*
 *   0                     1             2               4                  7          8
 *  +---+-----------------+-----+-------+---------------+------------------+----------+---------
 *  | 0 | option bytes / 4| O C |   0   | protocol type | network id (VNI) | reserved | options
 *  +---+-----------------+-----+-------+---------------+------------------+----------+---------
 *    2       6 bits        1 1
 *
 *  An option:   class (2), type (1; its highest bit: critical), 0 (3 bits) and data bytes / 4 (5 bits), data
 */
const FIELD = { LENGTH_UNITS: 0, FLAGS: 1, PROTOCOL: 2, VNI: 4, OPTIONS: 8 } as const;

/** The UDP port that IANA gave to Geneve. */
export const GENEVE_PORT = 6081;

const CONTROL = 0x80;
const CRITICAL = 0x40;
const OPTION_HEADER_BYTES = 4;

const TRUNCATED: Flaw = { reason: 'shorter than 8 bytes', at: 0 };
const VERSION: Flaw = { reason: 'version is not 0', at: 0 };
const OPTIONS: Flaw = { reason: 'options lead beyond the end', at: 0 };

/** A Geneve header in bytes. */
export class GeneveView extends View {
  over(bytes: Uint8Array, offset: number, end: number): boolean {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
    this.flaw = flawOf(bytes, offset, end);
    return this.flaw === null;
  }

  /** Header and options in bytes. */
  get headerLength(): number {
    return FIELD.OPTIONS + ((this.bytes[this.offset] & 0x3f) << 2);
  }

  /** A control message, not data. */
  get isControl(): boolean {
    return (this.bytes[this.offset + FIELD.FLAGS] & CONTROL) !== 0;
  }

  /** Some option is critical: who does not know it must drop the packet. */
  get hasCritical(): boolean {
    return (this.bytes[this.offset + FIELD.FLAGS] & CRITICAL) !== 0;
  }

  /** EtherType of the payload; 0x6558 for an Ethernet frame. */
  get protocol(): number {
    return u16(this.bytes, this.offset + FIELD.PROTOCOL);
  }

  /** Virtual network identifier, 24 bits. */
  get vni(): number {
    return u24(this.bytes, this.offset + FIELD.VNI);
  }

  set vni(value: number) {
    setU24(this.bytes, this.offset + FIELD.VNI, value);
  }

  get optionsOffset(): number {
    return this.offset + FIELD.OPTIONS;
  }

  get payloadOffset(): number {
    return this.offset + this.headerLength;
  }
}

function flawOf(bytes: Uint8Array, offset: number, end: number): Flaw | null {
  if (end - offset < FIELD.OPTIONS) return TRUNCATED;
  if (bytes[offset] >>> 6 !== 0) return VERSION;
  return end - offset < FIELD.OPTIONS + ((bytes[offset] & 0x3f) << 2) ? OPTIONS : null;
}

/** A Geneve option as data. */
export interface GeneveOption {
  /** Who defined it (IANA "Geneve option class"). */
  optionClass: number;
  /** 8 bits; the highest says that it is critical. */
  type: number;
  /** Up to 124 bytes, a multiple of four. */
  data: Uint8Array;
}

/** A Geneve header as data. Its critical flag follows from the options. */
export interface GeneveRecord {
  control: boolean;
  protocol: number;
  vni: number;
  /** Up to 252 bytes of them. */
  options: GeneveOption[];
}

/** Geneve (RFC 8926). */
export const Geneve: Codec<GeneveRecord> = {
  protocol: 'geneve',

  parse(bytes, offset = 0, end = bytes.length) {
    const view = overOrThrow(new GeneveView(), this.protocol, bytes, offset, end);
    return {
      control: view.isControl,
      protocol: view.protocol,
      vni: view.vni,
      options: parseOptions(bytes, view.optionsOffset, view.payloadOffset),
    };
  },

  byteLength(record) {
    let length: number = FIELD.OPTIONS;
    for (const option of record.options) length += OPTION_HEADER_BYTES + option.data.length;
    return length;
  },

  emit(record, bytes, offset = 0) {
    const length = this.byteLength(record);
    const out = new Emitter(this.protocol, bytes, offset, length);
    const optionBytes = length - FIELD.OPTIONS;
    if (optionBytes > 252) out.fail(`${optionBytes} bytes of options are more than 252`);
    const critical = record.options.some((option) => (option.type & 0x80) !== 0);
    out.u8('length', optionBytes >>> 2);
    out.u8('flags', (record.control ? CONTROL : 0) | (critical ? CRITICAL : 0));
    out.u16('protocol', record.protocol);
    out.u24('vni', record.vni);
    out.zeros(1);
    for (const option of record.options) {
      if (option.data.length % 4 !== 0 || option.data.length > 124) {
        out.fail(`${option.data.length} bytes of option data are not a multiple of 4 up to 124`);
      }
      out.u16('optionClass', option.optionClass);
      out.u8('option type', option.type);
      out.u8('option length', option.data.length >>> 2);
      out.data(option.data);
    }
    return out.at;
  },
};

function parseOptions(bytes: Uint8Array, offset: number, end: number): GeneveOption[] {
  const options: GeneveOption[] = [];
  let at = offset;
  while (at < end) {
    // The area is in whole words, so an option's own word is always there.
    const next = at + OPTION_HEADER_BYTES + ((bytes[at + 3] & 0x1f) << 2);
    if (next > end) throw new WireError('geneve', 'an option leads out of the header', at);
    options.push({
      optionClass: u16(bytes, at),
      type: bytes[at + 2],
      data: bytes.slice(at + OPTION_HEADER_BYTES, next),
    });
    at = next;
  }
  return options;
}
