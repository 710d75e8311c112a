/**
 * Who gets a record when they become few: a SYN flood, or a zone that fills, must not take the room of others. Connections that nobody has answered go first, then TCP
 * connections that close; established ones stay. Whoever has its share, of zones and of ports, makes room among its own.
 *
 * Where freed records rest, a connection that goes makes no room at once. So connections go ahead of time, while the table's reserve is free still: the new one gets a record that has
 * rested, and that of the other begins to rest. While all free records rest, new connections are refused and none goes.
 */
import { IpProtocol } from '../net/index.ts';
import { Kind, RecordWord, STATE_MASK, Status } from './layout.ts';
import { type ConnectionTable, Removal } from './table.ts';
import { TcpState } from './tcp-state.ts';

/** Records that are looked at for one that may go, at most. */
const SEARCH_STEPS = 256;
const ANY = -1;

/** What became of a new connection when records were few. */
export const Pressure = {
  /** Another connection went for it. */
  EVICTED: 0,
  /** None could go: it is refused. */
  REFUSED: 1,
} as const;

export class Admission {
  /** Told of each connection that went or was refused: the zone and port of the new one, and one of {@link Pressure}. */
  onPressure: ((zone: number, port: number, outcome: number) => void) | null = null;
  readonly #table: ConnectionTable;
  /** The last records are for those who have less than their share. */
  readonly #reserve: number;
  #hand = 1;

  constructor(table: ConnectionTable) {
    this.#table = table;
    const reserve = table.capacity >>> 4;
    this.#reserve = table.rests ? Math.max(1, reserve) : reserve;
  }

  /**
   * A record for a new connection.
   * @param now a 32-bit time in milliseconds
   * @returns its number, to be filled in and published, or 0
   */
  take(zone: number, port: number, now: number): number {
    const table = this.#table;
    if (table.free > this.#reserve) {
      const record = table.take(now);
      if (record !== 0) return record;
    }
    const ofZone = table.zones.isFull(zone) ? zone : ANY;
    const ofPort = table.ports.isFull(port) ? port : ANY;
    const hasItsShare = ofZone !== ANY || ofPort !== ANY;
    if (table.rests) {
      if (!table.hasUsable(now)) return this.#refuse(zone, port);
    } else if (!hasItsShare) {
      const record = table.take(now);
      if (record !== 0) return record;
    }
    const victim = this.#search(zone, ofZone, ofPort, now);
    if (victim !== 0) table.remove(victim, table.isExpired(victim, now) ? Removal.EXPIRED : Removal.EVICTED, now);
    else if (hasItsShare) return this.#refuse(zone, port);
    const record = table.take(now);
    if (record === 0) return this.#refuse(zone, port);
    if (victim !== 0) this.onPressure?.(zone, port, Pressure.EVICTED);
    return record;
  }

  #refuse(zone: number, port: number): number {
    this.#table.counters.refusedFull += 1;
    this.onPressure?.(zone, port, Pressure.REFUSED);
    return 0;
  }

  /** The next connection that may go, or 0: the first that is expired or unreplied, or else the first that closes, among a bounded number. */
  #search(zone: number, ofZone: number, ofPort: number, now: number): number {
    const table = this.#table;
    const { records } = table;
    let closing = 0;
    for (let step = Math.min(SEARCH_STEPS, table.fresh - 1); step > 0; step -= 1) {
      if (this.#hand >= table.fresh) this.#hand = 1;
      const record = this.#hand;
      this.#hand += 1;
      const at = table.at(record);
      if ((records[at] & Kind.LIVE) === 0) continue;
      if (table.isExpired(record, now)) return record;
      const owner = records[at] >>> 16;
      const port = records[at + RecordWord.PORT];
      if (ofZone !== ANY ? owner !== ofZone : owner !== zone && !this.#hasItsShare(owner, port)) continue;
      if (ofPort !== ANY && port !== ofPort) continue;
      if ((records[at + RecordWord.STATUS] & Status.SEEN_REPLY) === 0) return record;
      if (closing === 0 && isClosing(records[at], records[at + RecordWord.STATE] & STATE_MASK)) closing = record;
    }
    return closing;
  }

  /** Whether somebody else's connection may go: of a zone or a port that has its share, or of the only zone that there is. */
  #hasItsShare(zone: number, port: number): boolean {
    return this.#table.zones.isFull(zone) || this.#table.ports.isFull(port);
  }
}

function isClosing(kind: number, state: number): boolean {
  return ((kind >>> 8) & 0xff) === IpProtocol.TCP && state >= TcpState.FIN_WAIT && state <= TcpState.CLOSE;
}
