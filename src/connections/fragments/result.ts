/** What fragments can come to. */

/** What became of a fragment. */
export const FragmentResult = {
  /** It completed its datagram: see `Reassembler.whole`. */
  WHOLE: 0,
  /** It is kept, as a copy: the packet is no longer needed. */
  WAITING: 1,
  /** The packet is no fragment of IP. */
  NO_FRAGMENT: 2,
  /** It was there already. */
  DUPLICATE: 3,
  /** Its length or place cannot be, and its datagram is gone. */
  BAD_FRAGMENT: 4,
  /** It overlaps another one, and its datagram is gone. */
  OVERLAP: 5,
  /** Its datagram has more fragments than are kept, and is gone. */
  TOO_MANY: 6,
  /** No buffer for the whole packet is free, or long enough. */
  NO_BUFFER: 7,
} as const;

/** The names of results, by number: what drops are counted and shown as. */
export const FRAGMENT_RESULT_NAMES: readonly string[] = [
  'whole',
  'waiting',
  'no-fragment',
  'duplicate-fragment',
  'bad-fragment',
  'overlapping-fragment',
  'too-many-fragments',
  'no-fragment-buffer',
];
