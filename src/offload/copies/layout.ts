/**
 * What programs and the reader of copies agree on. A record of the ring, in the machine's order:
 *
 *     0  time of arrival in ns of CLOCK_MONOTONIC 64      8  ifindex 32       12  flags of CopyFlag 32
 *     16 length on the wire 32                            20  bytes here 32   24  the frame, tags inside
 *
 * What is wanted, by ifindex:
 *
 *     0  most bytes of a frame that came in, 0 for none   4  of one that went out
 *     8  copies lost of what came in                      12 of what went out
 *
 * What is lost in all is counted at ifindex 0, which no interface has.
 *
 * A record is put together in memory of the CPU's own before it goes to the ring, so that it takes no more room there than it needs.
 */
import type { ArrayMap, MapReference, RingBufferMap } from '../../bpf/index.ts';

export const RecordByte = { TIME: 0, IFINDEX: 8, FLAGS: 12, LENGTH: 16, CAPTURED: 20, FRAME: 24 } as const;

/** Bits of a record's flags. */
export const CopyFlag = {
  /** Sent to the interface; otherwise it came in there. */
  OUT: 1,
  SUPER_PACKET: 2,
} as const;

export const WantedWord = { BYTES: 0, LOST: 2 } as const;
export const WANTED_WORDS = 4;

/** Room for one record of one CPU: a power of two, so that it is found by a shift. */
export const SCRATCH_BYTES = 1 << 17;
/** Most bytes of a frame in a record, a tag beside it not counted. */
export const MAXIMUM_COPY_BYTES = SCRATCH_BYTES - 64;

/** The maps that programs with a stage for copies use. */
export interface CopyMaps {
  readonly ring: RingBufferMap;
  readonly wanted: ArrayMap<Uint8Array>;
  readonly scratch: ArrayMap<Uint8Array>;
}

/** What code names of them. */
export type CopyReferences = { readonly [Name in keyof CopyMaps]: MapReference };
