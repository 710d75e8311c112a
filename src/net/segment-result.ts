/** What software segmentation and checksum completion can come to, for segment.ts and its helpers. */

/** Why offloads could not be finished in software. Numbers, so that hot code can count drops by them. */
export const SegmentResult = {
  DONE: 0,
  /** Nothing to do: the packet claims no such offload. */
  NOTHING_CLAIMED: 1,
  /** A gsoType that is none of Gso, or ECN with something else than TCP. */
  UNKNOWN_TYPE: 2,
  /** A segment size of zero, or under eight bytes for IP fragments. */
  SEGMENT_SIZE: 3,
  /** More segments than `MAXIMUM_SEGMENTS`. */
  TOO_MANY_SEGMENTS: 4,
  /** The headers are malformed, or nest deeper than HeaderOffsets reads. */
  HEADERS: 5,
  /** The headers are sound but not of the IP version or transport that gsoType claims, or already a fragment. */
  WRONG_HEADERS: 6,
  /** checksumStart or checksumOffset is not where the checksum of this packet can be. */
  CHECKSUM_PLACE: 7,
  /** The pool has too few free packets. */
  POOL_EMPTY: 8,
  /** The pool's buffers are too short for a segment. */
  BUFFER_SIZE: 9,
} as const;

/** Segments of one super-packet, at most: 64 KB in segments of 48 bytes, Linux's smallest MSS, are 1366. */
export const MAXIMUM_SEGMENTS = 2048;

const NAMES: readonly string[] = Object.keys(SegmentResult).map((name) => name.toLowerCase().replaceAll('_', '-'));

/** The name of a value of {@link SegmentResult} in lower case with dashes, such as 'pool-empty'. */
export function segmentResultName(result: number): string {
  return NAMES[result] ?? `segment-result-${result}`;
}
