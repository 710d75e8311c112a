/**
 * How large the tables are, and where everything lies in them. All are arrays with one value, so that programs reach any place of
 * them by adding an offset to an address that is part of the code, without a look-up:
 *
 *     index      a word for each place: tag 12 | entry 20; 0 for empty, an entry of 0 for deleted.
 *                PROBES more words at the end, so that probing never wraps
 *     entries    by number; 0 is never used. A cache line holds the whole of a usual flow:
 *                0  shape number 24 | mask number + 1, 0 for dead 8      4  order: 0, or packets that have waited 29 | bits of Order 3
 *                8  parameters, if there are at most two                 16 masked key words
 *     far        by number of the entry: parameters, if there are more
 *     counters   by CPU, then by entry: packets 64 | bytes 64 | last used in ns 64 | TCP flags 32 | 0 32.
 *                On machines with few CPUs they lie behind the entry instead
 *     cache      two words for each place, the newer first, by the hash of all words that any mask looks at:
 *                upper bits of the hash | position of the mask in the program | entry
 *     ports      by ifindex, see PortWord
 *     cpus       by CPU: scratch, the words of the key, drops by reason, what tracking has told, counters of ports, and what a packet was before; see
 *                CpuByte and LaneByte
 */
import { MAXIMUM_ENTRIES, MAXIMUM_IFINDEX, MAXIMUM_PORTS, PROBES } from './limits.ts';

/** Bits of an index word that are the entry's number; the others are the upper bits of the hash. */
export const ENTRY_BITS = 20;
export const TAG_MASK = 0xfff0_0000;
export const ENTRY_MASK = 0x000f_ffff;
/** A place of the index whose entry is gone. Entry 0 is dead, so programs go on. */
export const DELETED = 0xfff0_0000;

/** Words of an entry. */
export const EntryWord = { KIND: 0, ORDER: 1, NEAR: 2, KEY: 4 } as const;
/** Parameters that lie in the entry itself. */
export const NEAR_WORDS = 2;
/** Where the first word is divided. */
export const MASK_BITS = 8;

/**
 * The word for the order within a flow. While it is 0, every packet is carried. Else a packet is carried when nothing of its port is on its way
 * through the engine; if something is, the packet waits, which is to go up and to be counted here. The daemon brings the word to 0 by one
 * compare-and-exchange, which fails when another packet has waited since it looked: table/order.ts has the rules.
 */
export const Order = {
  /** Set in every word but 0. */
  WAITS: 1,
  /** Who would have to wait is dropped, so that an end of the waiting can come. */
  STOPPED: 2,
  /** Every packet waits. */
  HELD: 4,
} as const;
/** What a packet that waits adds to the word. */
export const WAITED = 8;

/** Bytes of the counters of one entry on one CPU, and places in them. */
export const COUNTER_BYTES = 32;
export const CounterByte = { PACKETS: 0, BYTES: 8, USED: 16, TCP_FLAGS: 24 } as const;

const LINE_BYTES = 64;
/** From so many entries on the counters of CPUs share cache lines. */
const CROWDED_ENTRIES = 1 << 15;
/** Most CPUs for inline counters. */
const INLINE_CPUS = 4;

function roundUp(bytes: number): number {
  return Math.ceil(bytes / LINE_BYTES) * LINE_BYTES;
}

/** Words of a port. */
export const PortWord = {
  /** MTU 16, {@link ANY_LENGTH} for none | bits of {@link PortFlag}; 0 for an interface that is no port. */
  FLAGS: 0,
  /** Number of the port in flow keys. */
  NUMBER: 1,
  /** Interface of the punt channel; 0 to pass packets on. */
  PUNT_IFINDEX: 2,
  /** Place of its counters in `cpus`. */
  LANE: 3,
  /** Packets that went up, counted by programs, and those that the engine is done with, written by the daemon. */
  PUNTED: 4,
  DRAINED: 5,
  /** Packets that XDP passed, and those that came to tc after it. */
  PASSED: 6,
  ARRIVED: 7,
  /** Most packets that may be on their way up at a time, written by the daemon; 0 for any number. */
  SHARE: 8,
  /** Packets that were dropped because as many were on their way, counted by programs. */
  REFUSED: 9,
} as const;
/** A cache line: packets of one port do not disturb those of another. */
export const PORT_WORDS = 16;

export const PortFlag = {
  ON: 1,
  /** The program sits where the kernel sends: what it passes comes to whoever holds the TAP. */
  EGRESS: 2,
  /** An XDP program runs before the one at tc. */
  XDP: 4,
  /** In the place of ON, for a port that programs have only just come to: everything goes up. */
  HELD: 8,
} as const;

/** Where the MTU lies in {@link PortWord.FLAGS}. */
export const MTU_SHIFT = 16;
/** In its place: frames are never too long. */
export const ANY_LENGTH = 0xffff;

/** Bytes of one CPU in `cpus`. */
export const CpuByte = {
  RECIRC_ID: 0,
  DP_HASH: 4,
  DEPTH: 8,
  /** Not 0 for a packet that some pass has changed; written by programs in which one could be. */
  CHANGED: 12,
  ENTRIES: 16,
  /** Interface of the port, for a look-up again; written by programs that have packets handed down to them. */
  IFINDEX: 48,
  /** The ticket of the packet, if it was handed down; likewise. */
  TICKET: 52,
  KEY: 64,
  DROPS: 256,
  /** What tracking has told of the packet: see {@link TrackedWord}. */
  TRACKED: 896,
  LANES: 1024,
  /** What was told of the connection before a pass whose packet may still go up: the words of the key. */
  TOLD_BEFORE: 66_560,
  /** XDP: the first {@link KEPT_BYTES} of a packet as it came, if CHANGED says that they are not what they were. */
  HEADERS: 66_624,
} as const;

/** Bytes of a packet in {@link CpuByte.HEADERS}, at most: all that actions change without moving what lies behind. */
export const KEPT_BYTES = 128;

/** Words of {@link CpuByte.TRACKED}. */
export const TrackedWord = {
  /** The words of the flow key about its connection, in their order and of their number: state, mark, label, original tuple. */
  KEY: 0,
  /** The tuple that the packet is to have, as in a record of connections/, if it is to be translated. */
  TARGET: 16,
  /** Not 0 when it is to be translated. */
  TRANSLATES: 25,
  /** The first word of the record that it is looked up by. */
  KIND: 26,
} as const;
/** Reasons of drops that are counted. */
export const DROP_REASONS = (CpuByte.TRACKED - CpuByte.DROPS) / 8;
/** Counters of one port on one CPU. */
export const LaneByte = {
  PACKETS: 0,
  BYTES: 8,
  PUNTED: 16,
  PASSED: 24,
  DROPPED: 32,
  FAILED: 40,
  LOST_COPIES: 48,
  RECIRCULATED: 56,
} as const;
export const LANE_BYTES = 64;
/** A power of two, so that a CPU's part is found by a shift. */
export const CPU_BYTES = 1 << 17;

if (CpuByte.LANES + MAXIMUM_PORTS * LANE_BYTES > CpuByte.TOLD_BEFORE) {
  throw new RangeError('counters of ports need more room');
}

/** What the sizes of all tables follow from. */
export interface TableShape {
  /** Entries, a power of two. */
  readonly entries: number;
  /** Most words of a masked key, and of parameters. */
  readonly keyWords: number;
  readonly parameterWords: number;
  /** CPUs, rounded up to a power of two. */
  readonly cpus: number;
}

/** The sizes of all tables. */
export class TableSizes implements TableShape {
  readonly entries: number;
  readonly keyWords: number;
  readonly parameterWords: number;
  readonly cpus: number;
  /** Bytes of an entry before its counters, if it has any. */
  readonly headBytes: number;
  /**
   * Whether the counters of an entry lie right behind it, each CPU's in a cache line of its own: on the same page, which is what counts
   * with many flows. With many CPUs that would be too much memory.
   */
  readonly hasInlineCounters: boolean;
  /**
   * Distance of the counters of two CPUs, if they are inline. Where entries are few, many CPUs may hit one of them at a time, and each has a
   * cache line; where they are many, it is memory that counts.
   */
  readonly inlineCounterBytes: number;
  /** Distance of entries: whole cache lines. */
  readonly strideBytes: number;
  /** Places of the index where a hash may point to: four times the entries, so that probes are short. */
  readonly indexPlaces: number;
  /** Words of the cache; two of them are one place. */
  readonly cacheWords: number;

  /** @throws RangeError for sizes that no program could address */
  constructor(shape: TableShape) {
    const { entries, keyWords, parameterWords, cpus } = shape;
    for (const [name, value, most] of [
      ['entries', entries, MAXIMUM_ENTRIES],
      ['cpus', cpus, 4096],
    ] as const) {
      if (!Number.isInteger(value) || value < 1 || value > most || (value & (value - 1)) !== 0) {
        throw new RangeError(`${name} must be a power of two of at most ${most}, not ${value}`);
      }
    }
    if (!(keyWords >= 0 && keyWords <= 45 && parameterWords > 0 && (parameterWords & (parameterWords - 1)) === 0)) {
      throw new RangeError(`entries cannot have ${keyWords} words of key and ${parameterWords} of parameters`);
    }
    this.entries = entries;
    this.keyWords = keyWords;
    this.parameterWords = parameterWords;
    this.cpus = cpus;
    this.headBytes = roundUp((EntryWord.KEY + keyWords) * 4);
    this.hasInlineCounters = cpus <= INLINE_CPUS;
    this.inlineCounterBytes = entries < CROWDED_ENTRIES ? LINE_BYTES : COUNTER_BYTES;
    this.strideBytes = this.headBytes + (this.hasInlineCounters ? roundUp(cpus * this.inlineCounterBytes) : 0);
    this.indexPlaces = entries * 4;
    this.cacheWords = Math.min(Math.max(entries * 4, 1024), 1 << 19);
  }

  get farBytes(): number {
    return this.entries * this.parameterWords * 4;
  }

  get indexBytes(): number {
    return (this.indexPlaces + PROBES) * 4;
  }

  get entriesBytes(): number {
    return this.entries * this.strideBytes;
  }

  get countersBytes(): number {
    return this.hasInlineCounters ? LINE_BYTES : this.cpus * this.entries * COUNTER_BYTES;
  }

  /** Where the counters of an entry on one CPU lie: byte in `entries` if they are inline, else in `counters`. */
  counterAt(entry: number, cpu: number): number {
    if (this.hasInlineCounters) return entry * this.strideBytes + this.headBytes + cpu * this.inlineCounterBytes;
    return (cpu * this.entries + entry) * COUNTER_BYTES;
  }

  get cacheBytes(): number {
    return this.cacheWords * 4;
  }

  get portsBytes(): number {
    return (MAXIMUM_IFINDEX + 1) * PORT_WORDS * 4;
  }

  get cpusBytes(): number {
    return this.cpus * CPU_BYTES;
  }
}
