/** SCTP chunks (sctp.ts): type, flags, length, value, padded to four bytes. DATA and INIT are taken apart, others kept whole. */
import { u16, u32 } from './bytes.ts';
import type { Emitter } from './emitter.ts';
import { WireError } from './error.ts';

/*
 *   0      1       2        4
 *  +------+-------+--------+--------------------------------------------------------------------+
 *  | type | flags | length | value; the length counts these four bytes, but not the padding     |
 *  +------+-------+--------+--------------------------------------------------------------------+
 *    DATA:                 | TSN (4) | stream (2) | stream sequence (2) | protocol (4) | data    |
 *    INIT, INIT ACK:       | tag (4) | window (4) | out streams (2) | in streams (2) | TSN (4) | parameters
 */
const HEADER_BYTES = 4;
const DATA_BYTES = 16;
const INIT_BYTES = 20;

/** Chunk types (IANA "SCTP parameters"). */
export const SctpChunkType = {
  DATA: 0,
  INIT: 1,
  INIT_ACK: 2,
  SACK: 3,
  HEARTBEAT: 4,
  HEARTBEAT_ACK: 5,
  ABORT: 6,
  SHUTDOWN: 7,
  SHUTDOWN_ACK: 8,
  ERROR: 9,
  COOKIE_ECHO: 10,
  COOKIE_ACK: 11,
  SHUTDOWN_COMPLETE: 14,
} as const;

/** One chunk; types without a kind of their own, or of a wrong length, are `other` with the value as it stands. */
export type SctpChunk =
  | {
      kind: 'data';
      /** The low bits say: 1 the end, 2 the beginning of a message, 4 unordered, 8 acknowledge at once. */
      flags: number;
      tsn: number;
      stream: number;
      streamSequence: number;
      payloadProtocol: number;
      data: Uint8Array;
    }
  | {
      kind: 'init' | 'init-ack';
      flags: number;
      initiateTag: number;
      /** In bytes. */
      receiverWindow: number;
      outboundStreams: number;
      inboundStreams: number;
      initialTsn: number;
      parameters: Uint8Array;
    }
  | { kind: 'other'; type: number; flags: number; value: Uint8Array };

/** @throws WireError when a chunk's length is under four or leads out of the packet */
export function parseSctpChunks(bytes: Uint8Array, offset: number, end: number): SctpChunk[] {
  const chunks: SctpChunk[] = [];
  let at = offset;
  while (at < end) {
    const length = at + HEADER_BYTES <= end ? u16(bytes, at + 2) : 0;
    if (length < HEADER_BYTES) throw new WireError('sctp', `chunk has a length of ${length}`, at);
    if (at + length > end) throw new WireError('sctp', `chunk of ${length} bytes leads out of the packet`, at);
    chunks.push(readChunk(bytes, at, length));
    // The last chunk's padding may be missing at the end of what was captured.
    at += (length + 3) & ~3;
  }
  return chunks;
}

function readChunk(bytes: Uint8Array, at: number, length: number): SctpChunk {
  const type = bytes[at];
  const flags = bytes[at + 1];
  if (type === SctpChunkType.DATA && length >= DATA_BYTES) {
    return {
      kind: 'data',
      flags,
      tsn: u32(bytes, at + 4),
      stream: u16(bytes, at + 8),
      streamSequence: u16(bytes, at + 10),
      payloadProtocol: u32(bytes, at + 12),
      data: bytes.slice(at + DATA_BYTES, at + length),
    };
  }
  if ((type === SctpChunkType.INIT || type === SctpChunkType.INIT_ACK) && length >= INIT_BYTES) {
    return {
      kind: type === SctpChunkType.INIT ? 'init' : 'init-ack',
      flags,
      initiateTag: u32(bytes, at + 4),
      receiverWindow: u32(bytes, at + 8),
      outboundStreams: u16(bytes, at + 12),
      inboundStreams: u16(bytes, at + 14),
      initialTsn: u32(bytes, at + 16),
      parameters: bytes.slice(at + INIT_BYTES, at + length),
    };
  }
  return { kind: 'other', type, flags, value: bytes.slice(at + HEADER_BYTES, at + length) };
}

function chunkLength(chunk: SctpChunk): number {
  if (chunk.kind === 'data') return DATA_BYTES + chunk.data.length;
  return chunk.kind === 'other' ? HEADER_BYTES + chunk.value.length : INIT_BYTES + chunk.parameters.length;
}

/** Length of all chunks with their padding, in bytes. */
export function sctpChunksLength(chunks: readonly SctpChunk[]): number {
  return chunks.reduce((length, chunk) => length + ((chunkLength(chunk) + 3) & ~3), 0);
}

/** Write chunks, each padded with zeros to four bytes. */
export function emitSctpChunks(out: Emitter, chunks: readonly SctpChunk[]): void {
  for (const chunk of chunks) {
    const length = chunkLength(chunk);
    const begin = (type: number): void => {
      out.u8('chunk type', type);
      out.u8('chunk flags', chunk.flags);
      out.u16('chunk length', length);
    };
    if (chunk.kind === 'data') {
      begin(SctpChunkType.DATA);
      out.u32('tsn', chunk.tsn);
      out.u16('stream', chunk.stream);
      out.u16('streamSequence', chunk.streamSequence);
      out.u32('payloadProtocol', chunk.payloadProtocol);
      out.data(chunk.data);
    } else if (chunk.kind === 'other') {
      begin(chunk.type);
      out.data(chunk.value);
    } else {
      begin(chunk.kind === 'init' ? SctpChunkType.INIT : SctpChunkType.INIT_ACK);
      out.u32('initiateTag', chunk.initiateTag);
      out.u32('receiverWindow', chunk.receiverWindow);
      out.u16('outboundStreams', chunk.outboundStreams);
      out.u16('inboundStreams', chunk.inboundStreams);
      out.u32('initialTsn', chunk.initialTsn);
      out.data(chunk.parameters);
    }
    out.zeros(-length & 3);
  }
}
