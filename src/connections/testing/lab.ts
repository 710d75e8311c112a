/** For this room's tests only: a tracker with a clock of its own, and packets sent through it by hand. */
import { Checksum, HeaderOffsets, Packet, Region } from '../../net/index.ts';
import { ConnectionAction, type ConnectionRequest, REFUSAL_NAMES, Tracked } from '../action.ts';
import { stateText } from '../describe.ts';
import {
  type ConnectionMemory,
  plainMemory,
  RECORD_WORDS,
  RecordWord,
  STATE_MASK,
  Status,
  tupleWord,
} from '../layout.ts';
import { ConnectionTable } from '../table.ts';
import { Tracker, type TrackerSettings } from '../tracker.ts';
import { Tuple } from '../tuple.ts';

/** What became of a packet. */
export interface Sent {
  /** Bits by name, such as 'new|trk', or the name of the refusal. */
  readonly state: string;
  readonly frame: Uint8Array;
  readonly tracked: Tracked;
}

/** A packet with headroom and room behind it. */
export function packetOf(frame: Uint8Array, room = 64): Packet {
  const bytes = new Uint8Array(64 + frame.length + room);
  bytes.set(frame, 64);
  const packet = new Packet({ recycle: () => {} }, new Region(bytes.buffer), 0);
  packet.offset = 64;
  packet.length = frame.length;
  packet.limit = bytes.length;
  packet.references = 1;
  return packet;
}

export class Lab {
  nowMs = 1_000_000;
  readonly memory: ConnectionMemory;
  readonly table: ConnectionTable;
  readonly tracker: Tracker;
  readonly headers = new HeaderOffsets();
  #seed = 1;

  constructor(capacity = 256, settings: Omit<TrackerSettings, 'table'> = {}) {
    this.memory = plainMemory(capacity);
    this.table = ConnectionTable.format(this.memory, capacity, [0x1234_5678, 0x9abc_def0 | 0], {
      nowMs: () => this.nowMs,
    });
    // Repeatable numbers, so that a failing test fails again.
    const random = () => {
      this.#seed = (Math.imul(this.#seed, 1_103_515_245) + 12_345) & 0x7fff_ffff;
      return this.#seed / 0x8000_0000;
    };
    this.tracker = new Tracker({ table: this.table, random, ...settings });
  }

  /** Send a frame through tracking. @param before what is known of it from another request on its way */
  send(frame: Uint8Array, request: ConnectionRequest | ConnectionAction = {}, port = 0, before = new Tracked()): Sent {
    return this.sendPacket(packetOf(frame), request, port, before);
  }

  sendPacket(
    packet: Packet,
    request: ConnectionRequest | ConnectionAction = {},
    port = 0,
    tracked = new Tracked(),
  ): Sent {
    const action = request instanceof ConnectionAction ? request : new ConnectionAction(request);
    this.headers.parse(packet);
    const refusal = this.tracker.track(packet, this.headers, action, tracked, port);
    const state = refusal === 0 ? stateText(tracked.state) : (REFUSAL_NAMES[refusal] ?? '?');
    return { state, frame: packet.frame().slice(), tracked };
  }

  /** The protocol's state of a record. */
  stateOf(record: number): number {
    return this.table.records[record * RECORD_WORDS + RecordWord.STATE] & STATE_MASK;
  }

  isAssured(record: number): boolean {
    return (this.table.records[record * RECORD_WORDS + RecordWord.STATUS] & Status.ASSURED) !== 0;
  }

  /** Seconds until a connection expires. */
  leftSeconds(record: number): number {
    return this.table.leftMs(record, this.nowMs | 0) / 1000;
  }

  /** A record's tuple of a direction. */
  tupleOf(record: number, direction: number): Tuple {
    const tuple = new Tuple();
    const at = record * RECORD_WORDS;
    tuple.read(this.table.records[at], this.table.records, at + tupleWord(direction));
    return tuple;
  }

  /** Let everything expire, sweep, and see that nothing is left anywhere. @returns what is left, which should be all zeros */
  drain(): { size: number; zones: number; ports: number; index: number } {
    this.nowMs += 1_000_000_001;
    for (let i = 0; i < 3; i += 1) this.table.sweep(this.table.capacity + 1);
    return {
      size: this.table.size,
      zones: [...this.table.zones.counts()].length,
      ports: [...this.table.ports.counts()].length,
      index: this.memory.index.filter((word) => word !== 0).length,
    };
  }
}

/** The packet's checksum is one that its sender has not computed: it holds the pseudo header's sum. */
export function makePartial(packet: Packet, checksumOffset: number, headers: HeaderOffsets): void {
  headers.parse(packet);
  packet.checksum = Checksum.PARTIAL;
  packet.checksumStart = headers.l4Offset;
  packet.checksumOffset = checksumOffset;
}
