/** What a capture holds, the same for pcap and pcapng. A pcap file counts as one section with one interface. */

/** Link types (LINKTYPE_*) that matter here. */
export const LinkType = { ETHERNET: 1, RAW_IP: 101 } as const;

/** The unit of an interface's time stamps: base to the power of minus exponent seconds (if_tsresol). */
export interface TimestampResolution {
  base: 2 | 10;
  /** 0 to 127. */
  exponent: number;
}

export const MICROSECONDS: TimestampResolution = { base: 10, exponent: 6 };
export const NANOSECONDS: TimestampResolution = { base: 10, exponent: 9 };

/** A stretch of a capture with its own byte order and interfaces (pcapng), or a whole pcap file. */
export interface CaptureSection {
  format: 'pcap' | 'pcapng';
  littleEndian: boolean;
  hardware?: string;
  operatingSystem?: string;
  application?: string;
  comments: string[];
}

/** An interface on which packets were captured. */
export interface CaptureInterface {
  /** Its number within its section, from 0. */
  index: number;
  /** One of {@link LinkType}, or any other of the registry. */
  linkType: number;
  /** Packets were cut to this length; 0 for no limit. */
  snapLengthBytes: number;
  resolution: TimestampResolution;
  /** Seconds to add to every time stamp (if_tsoffset). Already added in what a reader gives. */
  offsetSeconds: number;
  name?: string;
  description?: string;
  filter?: string;
  operatingSystem?: string;
  hardware?: string;
  macAddress?: Uint8Array;
  speedBps?: number;
  comments: string[];
}

/** A time since 1970. */
export interface CaptureTime {
  seconds: number;
  nanoseconds: number;
}

/** Which way a packet went: the low two bits of its flags (epb_flags). */
export const Direction = { UNKNOWN: 0, INBOUND: 1, OUTBOUND: 2 } as const;

/** A captured packet. */
export interface CapturePacket extends CaptureTime {
  /** The interface, of the same section. */
  interface: CaptureInterface;
  /** False for a packet that was stored without a time (simple packet block). */
  hasTime: boolean;
  /** What was captured. */
  data: Uint8Array;
  /** Length on the wire; more than data holds when the packet was cut. */
  originalLengthBytes: number;
  /** epb_flags: {@link Direction} in the low two bits. */
  flags?: number;
  /** Packets lost on this interface between the one before and this one. */
  dropCount?: number;
  comments: string[];
}

/** Counters of an interface, as of a time. Numbers are exact to 2^53 - 1. */
export interface CaptureStatistics extends CaptureTime {
  interface: CaptureInterface;
  startTime?: CaptureTime;
  endTime?: CaptureTime;
  received?: number;
  /** Dropped by the interface for lack of resources. */
  dropped?: number;
  filterAccepted?: number;
  /** Dropped by the operating system. */
  droppedBySystem?: number;
  delivered?: number;
  comments: string[];
}

/** One thing in a capture, in the order of the file. */
export type CaptureRecord =
  | { kind: 'section'; section: CaptureSection }
  | { kind: 'interface'; interface: CaptureInterface }
  | { kind: 'packet'; packet: CapturePacket }
  | { kind: 'statistics'; statistics: CaptureStatistics };
