/**
 * The connections of one switch: table, tracker and fragments that wait, made when the first packet is to be tracked, so that who tracks nothing has no memory for it. Whoever owns it
 * calls {@link Connections.tick} now and then, and {@link Connections.close} in the end. Neighbours: tracker.ts works on packets, table.ts holds what is known.
 */
import { randomFillSync } from 'node:crypto';
import { PacketPool } from '../net/index.ts';
import type { AdoptReport } from './adopt.ts';
import { Reassembler } from './fragments/reassembler.ts';
import { type ConnectionMemory, plainMemory } from './layout.ts';
import { ConnectionTable, type TableSettings } from './table.ts';
import { Tracker } from './tracker.ts';

/** Connections that there is room for where nobody says how many. */
export const DEFAULT_CONNECTIONS = 65_536;

/** Gives a table its memory, such as arrays that programs read, and that outlive the process. */
export interface ConnectionStore {
  /** How long a freed record rests, so that no program still reads it; 0 where no programs read. */
  readonly restMs: number;
  /** What a former process has left, or null. */
  left(): ConnectionMemory | null;
  /**
   * Memory for a new table. What was left is gone.
   * @throws Error when there is none
   */
  make(capacity: number): ConnectionMemory;
  /** @param keeps whether the memory stays for the next process, where it can */
  close(keeps: boolean): void;
}

export interface ConnectionsSettings {
  /** Milliseconds of the monotonic clock of the machine. */
  readonly nowMs: () => number;
  /** {@link DEFAULT_CONNECTIONS} when left out. */
  readonly maximum?: number;
  /** Where the table lies; in memory of this process when left out. */
  readonly store?: ConnectionStore;
  /** Numbers from 0 to below 1, for ports that are chosen at random; Math.random when left out. */
  readonly random?: () => number;
}

/** Buffers for packets that were put together from fragments, and are not sent yet. */
const WHOLE_PACKETS = 64;
const WHOLE_BYTES = 66_048;

/** What is swept behind a batch of packets, and each time that {@link Connections.tick} is called. */
const BATCH_STEPS = 8;
const BATCH_DATAGRAMS = 4;
const TICK_STEPS = 8192;
const TICK_DATAGRAMS = 256;

const plainStore: ConnectionStore = { restMs: 0, left: () => null, make: plainMemory, close: () => {} };

export class Connections {
  /** Milliseconds of the clock that they go by. */
  readonly nowMs: () => number;
  /** Connections that the table has room for when it is made; one that is there stays as large as it is. */
  maximum: number;
  readonly #settings: ConnectionsSettings;
  readonly #store: ConnectionStore;
  #tracker: Tracker | null = null;
  #reassembler: Reassembler | null = null;
  #isUsed = false;
  #isClosed = false;

  constructor(settings: ConnectionsSettings) {
    this.nowMs = settings.nowMs;
    this.maximum = settings.maximum ?? DEFAULT_CONNECTIONS;
    this.#settings = settings;
    this.#store = settings.store ?? plainStore;
  }

  /** The table, once something was tracked; null before. */
  get table(): ConnectionTable | null {
    return this.#tracker?.table ?? null;
  }

  /** The tracker. The first to ask has table and tracker made. @throws Error when there is no memory, and after {@link close} */
  get tracker(): Tracker {
    return this.#tracker ?? this.#make();
  }

  /** Puts fragments together; made for the first. */
  get reassembler(): Reassembler {
    if (this.#reassembler === null) {
      const pool = new PacketPool({ packets: WHOLE_PACKETS, bufferBytes: WHOLE_BYTES });
      this.#reassembler = new Reassembler({ nowMs: this.nowMs, pool });
    }
    return this.#reassembler;
  }

  /** The same, null as long as there was no fragment. */
  get fragments(): Reassembler | null {
    return this.#reassembler;
  }

  /**
   * Go on with the connections that a former process has left.
   * @returns null when it has left none
   * @throws LayoutError when what is there is no table of this version; the next that is made takes its place
   */
  adopt(): AdoptReport | null {
    const left = this.#store.left();
    if (left === null) return null;
    const { table, report } = ConnectionTable.adopt(left, this.#tableSettings());
    this.#begin(table);
    return report;
  }

  /** Something is tracked, so that {@link settle} has something to do. */
  used(): void {
    this.#isUsed = true;
  }

  /** A batch of packets is through. */
  settle(): void {
    if (!this.#isUsed) return;
    this.#isUsed = false;
    this.#sweep(BATCH_STEPS, BATCH_DATAGRAMS);
  }

  /** To be called once a second or so, whether packets come or not. */
  tick(): void {
    this.#sweep(TICK_STEPS, TICK_DATAGRAMS);
  }

  /** Give all back. @param keeps whether connections stay for the next process, where the store can do that */
  close(keeps: boolean): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#tracker?.events.flush();
    this.#tracker = null;
    this.#reassembler = null;
    this.#store.close(keeps);
  }

  #sweep(steps: number, datagrams: number): void {
    this.#reassembler?.sweep(datagrams);
    if (this.#tracker === null) return;
    this.#tracker.table.sweep(steps);
    this.#tracker.events.flush();
  }

  #make(): Tracker {
    if (this.#isClosed) throw new Error('connections are not tracked any more');
    const secret = randomFillSync(new Int32Array(2));
    const memory = this.#store.make(this.maximum);
    return this.#begin(ConnectionTable.format(memory, this.maximum, [secret[0], secret[1]], this.#tableSettings()));
  }

  #begin(table: ConnectionTable): Tracker {
    const { random } = this.#settings;
    this.#tracker = new Tracker({ table, ...(random === undefined ? {} : { random }) });
    return this.#tracker;
  }

  #tableSettings(): TableSettings {
    return { nowMs: this.nowMs, restMs: this.#store.restMs };
  }
}

/** The connections among the services of a switch's surroundings; null when nobody tracks any. */
export function connectionsOf(services: Readonly<Record<string, unknown>> | undefined): Connections | null {
  const service = services?.connections;
  return service instanceof Connections ? service : null;
}
