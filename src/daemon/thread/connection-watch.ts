/**
 * What happens to connections, for those who watch. While anybody does, events go into a ring of the last ones, copies of records, from which each takes what is new to him: who is slow
 * loses the oldest, and is told how many. Nobody is waited for, and without watchers nothing is copied.
 */
import {
  ConnectionEvent,
  type Connections,
  type EventBatch,
  RECORD_WORDS,
  type RecordFilter,
  Removal,
  type Tracker,
} from '../../connections/index.ts';
import type { ConnectionChange, ConnectionChanges } from '../api.ts';
import { endedInfo } from './connection-info.ts';

/** Events in the ring, and in an answer. */
const RING = 8192;
const ANSWER = 512;
/** Who has not asked for so long does not watch any more. */
const PATIENCE_MS = 10_000;

const CHANGES: readonly (readonly [name: string, bit: number])[] = [
  ['replied', ConnectionEvent.REPLY],
  ['assured', ConnectionEvent.ASSURED],
  ['state', ConnectionEvent.PROTOCOL],
  ['helper', ConnectionEvent.HELPER],
  ['mark', ConnectionEvent.MARK],
  ['label', ConnectionEvent.LABEL],
];

const REASONS = new Map<number, string>(Object.entries(Removal).map(([name, reason]) => [reason, name.toLowerCase()]));

class Ring {
  /** Events that were ever written. */
  written = 0;
  readonly bits = new Int32Array(RING);
  readonly reasons = new Int32Array(RING);
  readonly times = new Float64Array(RING);
  readonly records = new Int32Array(RING * RECORD_WORDS);
}

export class ConnectionWatch {
  readonly #connections: Connections;
  readonly #nowMs: () => number;
  #ring: Ring | null = null;
  #tracker: Tracker | null = null;
  #askedMs = 0;
  /** Events of rings before: places mean the same in each. */
  #former = 0;

  constructor(connections: Connections, nowMs: () => number) {
    this.#connections = connections;
    this.#nowMs = nowMs;
  }

  /**
   * Events behind a place, as many as fit an answer.
   * @param after `next` of the answer before; null to begin now
   */
  since(isWanted: RecordFilter, after: number | null): ConnectionChanges {
    this.#askedMs = this.#nowMs();
    const ring = this.#ring ?? this.#listen();
    this.#tracker?.events.flush();
    const end = this.#former + ring.written;
    const oldest = Math.max(this.#former, end - RING);
    // A place that lies ahead is of another daemon.
    const from = after === null || after > end ? end : Math.max(after, oldest);
    const changes: ConnectionChange[] = [];
    let at = from;
    for (; at < end && changes.length < ANSWER; at += 1) {
      const place = (at - this.#former) % RING;
      if (isWanted(ring.records, place * RECORD_WORDS)) changes.push(changeAt(ring, place));
    }
    return { changes, next: at, lost: after === null || after > end ? 0 : from - after };
  }

  /** To be called now and then. */
  tick(): void {
    if (this.#ring === null || this.#nowMs() - this.#askedMs < PATIENCE_MS) return;
    this.#tracker?.events.listen(null);
    this.#former += this.#ring.written;
    this.#tracker = null;
    this.#ring = null;
  }

  #listen(): Ring {
    const ring = new Ring();
    this.#ring = ring;
    this.#tracker = this.#connections.tracker;
    // ovs-vswitchd asks for few events: its masks are for others who listen.
    this.#tracker.events.listen((batch) => take(ring, batch), true);
    return ring;
  }
}

function take(ring: Ring, { count, bits, reasons, records }: EventBatch): void {
  const timeMs = Date.now();
  for (let i = 0; i < count; i += 1) {
    const place = ring.written % RING;
    ring.bits[place] = bits[i];
    ring.reasons[place] = reasons[i];
    ring.times[place] = timeMs;
    for (let word = 0; word < RECORD_WORDS; word += 1) {
      ring.records[place * RECORD_WORDS + word] = records[i * RECORD_WORDS + word];
    }
    ring.written += 1;
  }
}

function changeAt(ring: Ring, place: number): ConnectionChange {
  const bits = ring.bits[place];
  const hasEnded = (bits & ConnectionEvent.DESTROY) !== 0;
  const isNew = (bits & (ConnectionEvent.NEW | ConnectionEvent.RELATED)) !== 0;
  return {
    timeMs: ring.times[place],
    type: hasEnded ? 'ended' : isNew ? 'new' : 'changed',
    what: hasEnded
      ? [REASONS.get(ring.reasons[place]) ?? '']
      : CHANGES.filter(([, bit]) => (bits & bit) !== 0).map(([name]) => name),
    connection: endedInfo(ring.records, place * RECORD_WORDS),
  };
}
