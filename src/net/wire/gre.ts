/** GRE version 0 with its optional checksum, key and sequence number. Version 1 (PPTP) and source routes are refused. */
import { setU16, u16, u32 } from './bytes.ts';
import { Emitter } from './emitter.ts';
import { type Codec, type Flaw, overOrThrow, View } from './view.ts';

/*
 *   0                 2               4                    then each that its flag announces:
 *  +-----------------+---------------+---------------------+---------+--------------+
 *  |C R K S 0 ... ver| protocol type | checksum (2), 0 (2) | key (4) | sequence (4) |
 *  +-----------------+---------------+---------------------+---------+--------------+
 */
const FIELD = { FLAGS: 0, PROTOCOL: 2, LENGTH: 4 } as const;

const CHECKSUM = 0x8000;
const ROUTING = 0x4000;
const KEY = 0x2000;
const SEQUENCE = 0x1000;
const VERSION = 0x0007;

const TRUNCATED: Flaw = { reason: 'shorter than its flags announce', at: 0 };
const WRONG_VERSION: Flaw = { reason: 'version is not 0', at: 0 };
const ROUTED: Flaw = { reason: 'holds a source route (RFC 1701)', at: 0 };

/** A GRE header in bytes. */
export class GreView extends View {
  over(bytes: Uint8Array, offset: number, end: number): boolean {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
    this.flaw = flawOf(bytes, offset, end);
    return this.flaw === null;
  }

  /** EtherType of the payload. */
  get protocol(): number {
    return u16(this.bytes, this.offset + FIELD.PROTOCOL);
  }

  get hasChecksum(): boolean {
    return (u16(this.bytes, this.offset) & CHECKSUM) !== 0;
  }

  get hasKey(): boolean {
    return (u16(this.bytes, this.offset) & KEY) !== 0;
  }

  get hasSequence(): boolean {
    return (u16(this.bytes, this.offset) & SEQUENCE) !== 0;
  }

  /** Over header and payload; read and written only when {@link hasChecksum}. */
  get checksum(): number {
    return u16(this.bytes, this.offset + FIELD.LENGTH);
  }

  set checksum(value: number) {
    setU16(this.bytes, this.offset + FIELD.LENGTH, value);
  }

  /** Read only when {@link hasKey}. */
  get key(): number {
    return u32(this.bytes, this.offset + FIELD.LENGTH + (this.hasChecksum ? 4 : 0));
  }

  /** Read only when {@link hasSequence}. */
  get sequence(): number {
    return u32(this.bytes, this.payloadOffset - 4);
  }

  get payloadOffset(): number {
    return this.offset + lengthOf(u16(this.bytes, this.offset));
  }
}

function lengthOf(flags: number): number {
  return (
    FIELD.LENGTH +
    ((flags & CHECKSUM) === 0 ? 0 : 4) +
    ((flags & KEY) === 0 ? 0 : 4) +
    ((flags & SEQUENCE) === 0 ? 0 : 4)
  );
}

function flawOf(bytes: Uint8Array, offset: number, end: number): Flaw | null {
  if (end - offset < FIELD.LENGTH) return TRUNCATED;
  const flags = u16(bytes, offset);
  if ((flags & VERSION) !== 0) return WRONG_VERSION;
  if ((flags & ROUTING) !== 0) return ROUTED;
  return end - offset < lengthOf(flags) ? TRUNCATED : null;
}

/** A GRE header as data. */
export interface GreRecord {
  /** EtherType of the payload; 0x6558 for an Ethernet frame. */
  protocol: number;
  hasChecksum: boolean;
  /** 32 bits, or null for none. */
  key: number | null;
  sequence: number | null;
}

/** GRE (RFC 2784, RFC 2890). */
export const Gre: Codec<GreRecord> = {
  protocol: 'gre',

  parse(bytes, offset = 0, end = bytes.length) {
    const view = overOrThrow(new GreView(), this.protocol, bytes, offset, end);
    return {
      protocol: view.protocol,
      hasChecksum: view.hasChecksum,
      key: view.hasKey ? view.key : null,
      sequence: view.hasSequence ? view.sequence : null,
    };
  },

  byteLength(record) {
    return lengthOf(flagsOf(record));
  },

  emit(record, bytes, offset = 0) {
    const out = new Emitter(this.protocol, bytes, offset, this.byteLength(record));
    out.u16('flags', flagsOf(record));
    out.u16('protocol', record.protocol);
    if (record.hasChecksum) out.zeros(4);
    if (record.key !== null) out.u32('key', record.key);
    if (record.sequence !== null) out.u32('sequence', record.sequence);
    return out.at;
  },
};

function flagsOf(record: GreRecord): number {
  return (
    (record.hasChecksum ? CHECKSUM : 0) | (record.key === null ? 0 : KEY) | (record.sequence === null ? 0 : SEQUENCE)
  );
}
