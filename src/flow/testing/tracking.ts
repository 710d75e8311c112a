/** For tests only: connections as programs in the kernel know them. They go on with packets of established ones that change no state, and hand up all others before anything has happened. */
import {
  ConnectionAction,
  ConnectionPreview,
  ConnectionState,
  Connections,
  type ConnectionTable,
  RecordWord,
  STATE_MASK,
  Tracked,
  TUPLE_WORDS,
} from '../../connections/index.ts';
import { HeaderOffsets, type Packet } from '../../net/index.ts';

export class KnownConnections {
  readonly connections: Connections;
  readonly #headers = new HeaderOffsets();
  readonly #tracked = new Tracked();

  /** @param maximum connections that there is room for */
  constructor(nowMs: () => number, maximum = 4096) {
    this.connections = new Connections({ nowMs, maximum });
  }

  /** @returns the state of a packet that programs go on with, as bits: it is tracked; 0 for one that they hand up */
  track(packet: Packet, zone: number): number {
    const action = new ConnectionAction({ zone, liberal: true });
    const preview = new ConnectionPreview(this.connections, () => {});
    const known = this.list();
    const would = this.#track(packet, preview, action);
    const changesNothing = list(preview.tracker.table).every((one) => known.includes(one));
    if ((would & ConnectionState.ESTABLISHED) === 0 || !changesNothing) return 0;
    return this.#track(packet, this.connections, action);
  }

  #track(packet: Packet, { tracker }: Connections, action: ConnectionAction): number {
    this.#headers.parse(packet);
    this.#tracked.clear();
    tracker.track(packet, this.#headers, action, this.#tracked);
    return this.#tracked.state;
  }

  /** What is known of each: kind and zone, status, state, port where it began, tuples. */
  list(): string[] {
    const { table } = this.connections;
    return table === null ? [] : list(table);
  }
}

function list(table: ConnectionTable): string[] {
  const { records } = table;
  const found: string[] = [];
  table.walk(1, table.capacity, (record) => {
    const at = table.at(record);
    const tuples = Array.from(records.subarray(at + RecordWord.ORIGINAL, at + RecordWord.REPLY + TUPLE_WORDS));
    const state = records[at + RecordWord.STATE] & STATE_MASK;
    const port = records[at + RecordWord.PORT];
    found.push(`${records[at]} ${records[at + RecordWord.STATUS]} ${state} port ${port}: ${tuples.join(' ')}`);
  });
  return found.sort();
}
