/**
 * How connections lie in memory: three arrays that engine and eBPF programs read alike. Everything of this room that reads or writes them takes its
 * places from here; whoever writes programs does so too. A change of anything here is another {@link LAYOUT_VERSION}.
 *
 *     control   one value: who made the table, its sizes, the secret of its hash, time-outs by policy
 *     index     buckets of 8 words; a word is  tag 9 | record 22 | direction 1,  0 where there is none
 *     records   RECORD_WORDS words for each connection; record 0 is never used
 *
 * Words are in the machine's byte order; addresses and ports are the numbers that they are on the wire.
 */

/** 'MCON', the first word of every control array. */
export const LAYOUT_MAGIC = 0x4d43_4f4e;
export const LAYOUT_VERSION = 2;

/** Words of the control array. */
export const ControlWord = {
  MAGIC: 0,
  VERSION: 1,
  /** Connections that there is room for. */
  CAPACITY: 2,
  BUCKETS: 3,
  /** The hash's secret, two words. */
  SECRET: 4,
  /** When the engine was last there: milliseconds of the monotonic clock, low and high half. */
  ALIVE: 6,
  /** Records from this number on have never been used. */
  FRESH: 8,
  /** The number that the last connection got. */
  LAST_ID: 9,
  /** From here on, {@link POLICIES} rows of {@link POLICY_WORDS}. */
  POLICIES: 16,
  /** Behind them, {@link ADJUSTMENTS} rows of {@link ADJUSTMENT_WORDS}. */
  ADJUSTMENTS: 16 + 4096 * 40,
  /** Behind these, {@link LIMIT_WORDS}: how many connections zones may have (limits.ts). */
  LIMITS: 16 + 4096 * 40 + 1024 * 8,
} as const;

/** Time-out policies, as many as a settings word can name; number 0 holds the defaults. The places above count on these two. */
export const POLICIES = 4096;
/** Time-outs of a policy in milliseconds, 31 of them, what it is for, then its name in UTF-8 and zeros. */
export const POLICY_WORDS = 40;
export const POLICY_NAME = 32;
/** The longest name of a policy, as in Linux (CTNL_TIMEOUT_NAME_MAX, its closing zero not counted). */
export const POLICY_NAME_BYTES = 31;
/** Rows for connections whose sequence numbers a helper has shifted (related/adjustments.ts). */
export const ADJUSTMENTS = 1024;
export const ADJUSTMENT_WORDS = 8;

/**
 * Words of limits: the default of all zones, the limit of each zone, and a bit for each zone that has one of its own.
 *
 *     | default | zone 0 | ... | zone 65535 | bits of zones 0 to 31, the lowest first | ...
 */
export const ZONES = 0x1_0000;
export const LIMIT_WORDS = 1 + ZONES + ZONES / 32;
export const CONTROL_WORDS = ControlWord.LIMITS + LIMIT_WORDS;

/** Words of a bucket of the index. A look-up reads two buckets. */
export const BUCKET_WORDS = 8;
export const TAG_SHIFT = 23;
export const ENTRY_MASK = (1 << TAG_SHIFT) - 1;
/** The most connections that an index word can name. */
export const MAXIMUM_CAPACITY = (1 << 22) - 1;

/** 176 bytes; with the four index words for each connection it takes 192. */
export const RECORD_WORDS = 44;

/*
 * word                                          who writes: engine alone (E), programs as well (P)
 *  +----------------------------------------+
 *  0 | zone 16 | protocol 8 | Kind 8        |  E
 *  1 | events 16 | helper 4 | policy 12     |  E
 *  2 | Status bits                          |  E
 *  3 | last packet: ms of the monotonic     |  P
 *    | clock, modulo 2^32                   |
 *  4 | 0 16 | time-out 8 | state 8          |  P
 *  5 | original: source 16, destination 16  |  E   ports
 *  6 | original source address, 4 words     |  E
 * 10 | original destination address         |  E
 * 14 | reply: ports as above                |  E
 * 15 | reply source address                 |  E
 * 19 | reply destination address            |  E
 * 23 | mark                                 |  E
 * 24 | label, 4 words                       |  E
 * 28 | parent: id 10 | record 22            |  E
 * 29 | id                                   |  E
 * 30 | port where it began                  |  E
 * 31 | words of the protocol, to the end    |  P
 *  +----------------------------------------+
 *    TCP: for each direction four words from 31 and 35: end, highest end, window, highest acknowledgment;
 *         39 | 0 8 | flags 8, 8 | scales 4, 4 |, 40 last sequence, end, acknowledgment, 43 what was seen last (tcp-window.ts)
 *    SCTP: 31 and 32 verification tags by direction, 33 flags
 *    UDP: 31 when it becomes a stream
 *
 * What a look-up reads comes first, so that it touches one cache line or two. IPv4 addresses are in the first of their four words. For ICMP
 * the ports are identifier 16, type 8, code 8.
 */
export const RecordWord = {
  KIND: 0,
  SETTINGS: 1,
  STATUS: 2,
  LAST_SEEN: 3,
  STATE: 4,
  ORIGINAL: 5,
  REPLY: 14,
  MARK: 23,
  LABEL: 24,
  PARENT: 28,
  ID: 29,
  PORT: 30,
  PROTOCOL: 31,
} as const;

/** Parts of the settings word, the policy in its lowest bits. */
export const Settings = { POLICY: 0xfff, HELPER: 0xf, HELPER_SHIFT: 12, EVENTS_SHIFT: 16 } as const;

/** The most connections of a table that programs read: the verifier follows offsets into a map up to 2^29 bytes (BPF_MAX_VAR_OFF). */
export const MAXIMUM_MAPPED_CONNECTIONS = Math.floor((1 << 29) / (RECORD_WORDS * 4)) - 2;

/** Words of a tuple: ports, source, destination. */
export const TUPLE_WORDS = 9;

/** Bits of the first word of a record. A record without LIVE holds no connection. */
export const Kind = { LIVE: 1, IPV6: 2, MASK: 3 } as const;

/** Bits of the status word: IPS_* of Linux (linux/netfilter/nf_conntrack_common.h). */
export const Status = {
  /** Another connection has announced it. */
  EXPECTED: 0x1,
  SEEN_REPLY: 0x2,
  /** Both sides have shown that they want it. */
  ASSURED: 0x4,
  CONFIRMED: 0x8,
  SOURCE_NAT: 0x10,
  DESTINATION_NAT: 0x20,
  /** Sequence numbers are shifted, since a helper has changed the length of what was sent. */
  SEQUENCE_ADJUSTED: 0x40,
  HELPER: 0x2000,
  MASK: 0x207f,
} as const;

/** The word that the state and its time-out share. */
export const STATE_MASK = 0xff;
export const TIMEOUT_SHIFT = 8;

/**
 * The parent word: the record of the connection that announced this one, and the low bits of its id above; 0 for none. It is that connection still when these bits agree, and it has a helper
 * and is of the same zone.
 */
export const PARENT_ID_SHIFT = 22;
export const PARENT_RECORD = (1 << PARENT_ID_SHIFT) - 1;

/** Directions, as index words have them. */
export const Direction = { ORIGINAL: 0, REPLY: 1 } as const;

/** First word of a direction's tuple in a record. */
export function tupleWord(direction: number): number {
  return direction === Direction.ORIGINAL ? RecordWord.ORIGINAL : RecordWord.REPLY;
}

/** The memory of a table: plain, shared, or mapped eBPF arrays. Each array begins at a multiple of 4 bytes and holds what {@link memorySizes} says, or more. */
export interface ConnectionMemory {
  readonly control: Int32Array;
  readonly index: Int32Array;
  readonly records: Int32Array;
}

/**
 * How much memory a table needs, in words.
 * @param capacity connections
 * @throws RangeError when the capacity is not 1 to {@link MAXIMUM_CAPACITY}
 */
export function memorySizes(capacity: number): { control: number; index: number; records: number } {
  if (!Number.isInteger(capacity) || capacity < 1 || capacity > MAXIMUM_CAPACITY) {
    throw new RangeError(`a table holds 1 to ${MAXIMUM_CAPACITY} connections, not ${capacity}`);
  }
  return {
    control: CONTROL_WORDS,
    index: bucketsFor(capacity) * BUCKET_WORDS,
    records: (capacity + 1) * RECORD_WORDS,
  };
}

/** Two index words a connection fill half of the index. */
export function bucketsFor(capacity: number): number {
  return Math.max(2, Math.ceil((capacity * 4) / BUCKET_WORDS));
}

/** Memory of this process, filled with zeros. */
export function plainMemory(capacity: number): ConnectionMemory {
  const sizes = memorySizes(capacity);
  return {
    control: new Int32Array(sizes.control),
    index: new Int32Array(sizes.index),
    records: new Int32Array(sizes.records),
  };
}
