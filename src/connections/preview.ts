/**
 * What tracking would say of packets, for people who ask where a packet goes: it is tried on copies of the connections that the packet may belong to, so that nothing happens to these
 * themselves. Ports that others have taken and limits of zones are not looked at: what a new connection gets may be another port when it comes.
 */
import type { HeaderOffsets, Packet } from '../net/index.ts';
import type { ConnectionAction, Tracked } from './action.ts';
import { Connections } from './connections.ts';
import { ControlWord, POLICIES, POLICY_WORDS, plainMemory, RECORD_WORDS, RecordWord } from './layout.ts';
import { PacketKind, PacketTuple } from './packet-tuple.ts';
import { ConnectionTable } from './table.ts';
import { Tracker } from './tracker.ts';
import { Tuple } from './tuple.ts';

/** Connections that packets of one preview can belong to or make. */
const CAPACITY = 256;

/** What one request came to. The packet is as it is behind it. */
export interface Previewed {
  readonly action: ConnectionAction;
  readonly packet: Packet;
  /** Its headers, ports included. */
  readonly headers: HeaderOffsets;
  /** What was known before in the same place, and is known now. */
  readonly stateBefore: number;
  readonly tracked: Tracked;
  /** One of Refusal. */
  readonly refusal: number;
}

/** Connections that are copies. Made for one packet and its copies. */
export class ConnectionPreview extends Connections {
  readonly #source: Connections;
  readonly #told: (previewed: Previewed) => void;
  #preview: PreviewTracker | null = null;

  /** @param told called for each request of a packet, in their order */
  constructor(source: Connections, told: (previewed: Previewed) => void) {
    super({ nowMs: source.nowMs });
    this.#source = source;
    this.#told = told;
  }

  override get tracker(): Tracker {
    this.#preview ??= new PreviewTracker(this.#source, this.#told);
    return this.#preview;
  }
}

class PreviewTracker extends Tracker {
  /** Null where nothing was tracked yet. */
  readonly #source: Tracker | null;
  readonly #told: (previewed: Previewed) => void;
  /** Copies by record of the source. */
  readonly #copies = new Map<number, number>();
  readonly #packetTuple = new PacketTuple();
  readonly #found = new Tuple();
  readonly #inverse = new Tuple();

  constructor(source: Connections, told: (previewed: Previewed) => void) {
    super({ table: emptyTable(source) });
    this.#source = source.table === null ? null : source.tracker;
    this.#told = told;
  }

  override track(packet: Packet, headers: HeaderOffsets, action: ConnectionAction, tracked: Tracked, port = 0): number {
    this.#bring(packet, headers, action.zone);
    const stateBefore = tracked.zone === action.zone ? tracked.state : 0;
    const refusal = super.track(packet, headers, action, tracked, port);
    this.#told({ action, packet, headers, stateBefore, tracked, refusal });
    return refusal;
  }

  /** Copy what a packet may belong to. */
  #bring(packet: Packet, headers: HeaderOffsets, zone: number): void {
    const source = this.#source;
    const found = this.#found;
    if (source === null) return;
    if (this.#packetTuple.read(packet, headers, zone, found, false) === PacketKind.INVALID) return;
    this.#copyOf(source, source.table.lookUp(found) >>> 1);
    if (this.#inverse.invert(found)) this.#copyOf(source, source.table.lookUp(this.#inverse) >>> 1);
    const expectation = source.helpers.expectations.find(found);
    if (expectation === null) return;
    const parent = this.#copyOf(source, expectation.parent);
    const { direction, announcedPort } = expectation;
    if (parent !== 0) this.helpers.expectations.add(parent, found, direction, announcedPort);
  }

  /** @returns the record of the copy; 0 when there is none */
  #copyOf(source: Tracker, record: number): number {
    if (record === 0) return 0;
    const known = this.#copies.get(record);
    if (known !== undefined) return known;
    const parent = this.#copyOf(source, source.table.parentOf(record));
    const own = this.table.take(this.table.nowMs() | 0);
    if (own === 0) return 0;
    const from = source.table.at(record);
    const to = this.table.at(own);
    for (let word: number = RecordWord.SETTINGS; word < RECORD_WORDS; word += 1) {
      if (word !== RecordWord.PARENT && word !== RecordWord.ID) {
        this.table.records[to + word] = source.table.records[from + word];
      }
    }
    if (parent !== 0) this.table.setParent(own, parent);
    if (!this.table.publish(own, source.table.records[from])) return 0;
    this.#copies.set(record, own);
    return own;
  }
}

/** A table with the time-outs of another. */
function emptyTable(source: Connections): ConnectionTable {
  const memory = plainMemory(CAPACITY);
  const settings = { nowMs: source.nowMs };
  const table = ConnectionTable.format(memory, CAPACITY, [0, 0], settings);
  if (source.table === null) return table;
  const end = ControlWord.POLICIES + POLICIES * POLICY_WORDS;
  memory.control.set(source.table.control.subarray(ControlWord.POLICIES, end), ControlWord.POLICIES);
  return ConnectionTable.adopt(memory, settings).table;
}
