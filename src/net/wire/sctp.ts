/** SCTP: the common header, and the chunks behind it (sctp-chunks.ts). Its checksum is a CRC32c: crc32c.ts, compose.ts. */
import { u32 } from './bytes.ts';
import { Emitter } from './emitter.ts';
import { PortsView } from './ports-view.ts';
import { emitSctpChunks, parseSctpChunks, type SctpChunk, sctpChunksLength } from './sctp-chunks.ts';
import { type Codec, type Flaw, overOrThrow } from './view.ts';

/*
 *   0             2                  4                  8              12
 *  +-------------+------------------+------------------+--------------+--------
 *  | source port | destination port | verification tag | CRC32c (LE)  | chunks
 *  +-------------+------------------+------------------+--------------+--------
 */
const FIELD = { VERIFICATION_TAG: 4, CHECKSUM: 8, LENGTH: 12 } as const;

const TRUNCATED: Flaw = { reason: 'shorter than 12 bytes', at: 0 };

/** An SCTP common header in bytes. */
export class SctpView extends PortsView {
  over(bytes: Uint8Array, offset: number, end: number): boolean {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
    this.flaw = end - offset < FIELD.LENGTH ? TRUNCATED : null;
    return this.flaw === null;
  }

  get verificationTag(): number {
    return u32(this.bytes, this.offset + FIELD.VERIFICATION_TAG);
  }

  /** As `sctpChecksum` gives it: the field's lowest byte stands first. */
  get checksum(): number {
    const at = this.offset + FIELD.CHECKSUM;
    const bytes = this.bytes;
    return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
  }

  set checksum(value: number) {
    const at = this.offset + FIELD.CHECKSUM;
    this.bytes[at] = value;
    this.bytes[at + 1] = value >>> 8;
    this.bytes[at + 2] = value >>> 16;
    this.bytes[at + 3] = value >>> 24;
  }

  /** Where the first chunk begins. */
  get payloadOffset(): number {
    return this.offset + FIELD.LENGTH;
  }
}

/** An SCTP packet as data, its chunks and their payload included. */
export interface SctpRecord {
  sourcePort: number;
  destinationPort: number;
  verificationTag: number;
  chunks: SctpChunk[];
}

/** SCTP (RFC 9260). */
export const Sctp: Codec<SctpRecord> = {
  protocol: 'sctp',

  parse(bytes, offset = 0, end = bytes.length) {
    const view = overOrThrow(new SctpView(), this.protocol, bytes, offset, end);
    return {
      sourcePort: view.sourcePort,
      destinationPort: view.destinationPort,
      verificationTag: view.verificationTag,
      chunks: parseSctpChunks(bytes, view.payloadOffset, end),
    };
  },

  byteLength(record) {
    return FIELD.LENGTH + sctpChunksLength(record.chunks);
  },

  emit(record, bytes, offset = 0) {
    const out = new Emitter(this.protocol, bytes, offset, this.byteLength(record));
    out.u16('sourcePort', record.sourcePort);
    out.u16('destinationPort', record.destinationPort);
    out.u32('verificationTag', record.verificationTag);
    out.zeros(4);
    emitSctpChunks(out, record.chunks);
    return out.at;
  },
};
