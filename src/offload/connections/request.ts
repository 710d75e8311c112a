/** What the function that tracks packets (track.ts) is asked and answers. */

/** Bits of its last parameter, 16 at most. */
export const TrackRequest = {
  /** Packets of translated connections are to be translated. */
  TRANSLATES: 1,
  /** No TCP segment is out of window. */
  LIBERAL: 2,
  /** The packet's direction is to be the connection's. */
  FORCED: 4,
  /** What is told already is of this packet. */
  GOES_ON: 8,
  /** What is told already does not count. */
  ANEW: 16,
  /** A ct before it, in the same pass, may have told of a translation that the packet's bytes do not have yet: its tuple is the translated one. */
  BEHIND: 32,
} as const;

export const TrackResult = {
  /** The engine is to track the packet; nothing was told anew. */
  UP: 0,
  TRACKED: 1,
} as const;
