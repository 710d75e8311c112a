/** What a protocol's state machine says of a packet of a connection that is there. */
export const Outcome = {
  /** It belongs to the connection. */
  ACCEPTED: 0,
  /** It does not, whatever its addresses and ports say. */
  INVALID: 1,
  /** It begins a new connection between the same ends: the old one goes, and the packet is looked at again. */
  REPEATED: 2,
  /** It belongs to the connection, and ends it. */
  ENDED: 3,
} as const;
