/** What encapsulation and decapsulation can come to: numbers, so that hot code can count by them, with the names that drops have. */

/** What became of a packet. From {@link TunnelResult.BAD_LENGTH} on it is to be dropped for that reason, and is as it was. */
export const TunnelResult = {
  DONE: 0,
  /** Decapsulation: no tunnel that exists is meant; the packet is as it was. */
  NOT_TUNNELLED: 1,
  /** Decapsulation: a fragment that may be a tunnel's. The host puts it together; the packet is as it was. */
  FRAGMENT: 2,
  /** A super-packet that has to be cut before, or a partial checksum that has to be finished. Pieces are encapsulated or decapsulated one by one; the packet is as it was. */
  SEGMENT_FIRST: 3,
  /** Decapsulation: a segment of an STT frame that is not complete; it was copied, and the packet is done with. */
  WAITING: 4,
  /** Encapsulation: done, but longer than the path takes. It may be cut, and has to be, into fragments of the path's MTU. */
  TO_FRAGMENT: 5,
  /** Encapsulation: longer than the path takes, and not to be cut; the packet is as it was. `innerMtuBytes` says what would fit. */
  TOO_BIG: 6,
  /** A length in an outer header or in the tunnel's own contradicts the packet, or there is no whole packet inside. */
  BAD_LENGTH: 7,
  /** The checksum of the outer IPv4 header, of UDP, of GRE or of STT's TCP header is wrong. */
  BAD_CHECKSUM: 8,
  /** A flag, version or reserved bit that may not be, or one that must be and is not. */
  BAD_FLAGS: 9,
  /** Geneve options whose lengths do not add up. */
  MALFORMED_OPTION: 10,
  /** A critical Geneve option that the tunnel's port does not know. */
  UNKNOWN_CRITICAL_OPTION: 11,
  /** What is inside is nothing that the tunnel carries. */
  UNKNOWN_PROTOCOL: 12,
  /** Congestion was marked on the way of a packet whose transport does not know marks: a drop is the mark (RFC 6040). */
  CONGESTION: 13,
  /** An outer source address that no host has: unspecified, multicast or broadcast. */
  BAD_SOURCE: 14,
  /** What is said beside the packet, partial checksum or kind of super-packet, contradicts its headers. */
  BAD_OFFLOAD: 15,
  /** Encapsulation: fewer bytes are free before the packet than the headers take. A copy with more of them is needed. */
  NO_HEADROOM: 16,
  /** Encapsulation: the key names no address family, or addresses that cannot be. */
  BAD_KEY: 17,
  /** No buffer is free, or none that is long enough. */
  NO_BUFFER: 18,
  /** A segment of STT that has come already. */
  DUPLICATE_SEGMENT: 19,
  /** A segment of STT that overlaps another one; its frame is given up. */
  OVERLAPPING_SEGMENT: 20,
  /** A segment of STT that contradicts others of its frame; the frame is given up. */
  BAD_SEGMENT: 21,
  /** A frame of STT in more segments than are kept; it is given up. */
  TOO_MANY_SEGMENTS: 22,
} as const;

const NAMES: readonly string[] = Object.keys(TunnelResult).map((name) => name.toLowerCase().replaceAll('_', '-'));

/** The name of a value of {@link TunnelResult} in lower case with dashes, such as 'malformed-option'. */
export function tunnelResultName(result: number): string {
  return NAMES[result] ?? `tunnel-result-${result}`;
}

/** Results, those that are no drops included. */
export const TUNNEL_RESULTS = NAMES.length;
