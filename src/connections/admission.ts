/**
 * Who gets a record when they become few: a flood, or a zone that fills, must not take the room of others. Connections that nobody has answered go first, then those that were answered and on
 * which the two sides have not agreed yet (Status.ASSURED), then those that close; established ones stay.
 *
 * The last records of the table, its reserve, are for those who have less than their share. Shares are of zones and of ports: who has both, the share of its zone and that of its port, makes room
 * among its own, also when there is nobody else. Who has one of them gets half of the reserve, who has none all of it, and when that is used up connections go of those who have more.
 *
 * Where freed records rest, a connection that goes makes no room at once. So connections go ahead of time, while the reserve is free still: the new one gets a record that has rested, and
 * that of the other begins to rest. However fast connections come, half of the reserve is left to rest for those who have less. While all free records rest, new connections are refused
 * and none goes.
 */
import { IpProtocol } from '../net/index.ts';
import { Kind, RecordWord, STATE_MASK, Status } from './layout.ts';
import { Pressure } from './pressure.ts';
import { SctpState } from './sctp.ts';
import { type ConnectionTable, Removal } from './table.ts';
import { TcpState } from './tcp-state.ts';

/** Records that are looked at for one that may go, at most. */
const SEARCH_STEPS = 256;
/** Where fewer than one of so many is without an answer, none is looked for any further once another was found that may go. */
const RARE = 64;

/** What somebody has of his zone's share and of his port's: neither, one of them, or both. */
const HAS_BOTH = 2;

/** How gladly a connection is given up. */
const Rank = { STAYS: 0, CLOSING: 1, NOT_ASSURED: 2, UNREPLIED: 3 } as const;

export class Admission {
  readonly pressure = new Pressure();
  readonly #table: ConnectionTable;
  #hand = 1;

  constructor(table: ConnectionTable) {
    this.#table = table;
  }

  /**
   * A record for a new connection.
   * @param now a 32-bit time in milliseconds
   * @returns its number, to be filled in and published, or 0
   */
  take(zone: number, port: number, now: number): number {
    const table = this.#table;
    const { reserve } = table;
    if (table.free > reserve) {
      const record = table.take(now);
      if (record !== 0) return record;
    }
    const level = this.#level(zone, port);
    const floor = (level * reserve) >>> 1;
    if (table.rests) {
      if (!table.hasUsable(now, floor >>> 1)) return this.#refuse();
    } else if (table.free > floor) return table.take(now);
    const victim = this.#search(zone, port, level, now);
    if (victim !== 0) this.#evict(victim, now);
    else if (table.free <= floor) return this.#refuse();
    const record = table.take(now);
    return record === 0 ? this.#refuse() : record;
  }

  #refuse(): number {
    this.#table.counters.refusedFull += 1;
    return 0;
  }

  #evict(victim: number, now: number): void {
    const table = this.#table;
    const isExpired = table.isExpired(victim, now);
    if (!isExpired) {
      const at = table.at(victim);
      this.pressure.evicted(table.records[at] >>> 16, table.records[at + RecordWord.PORT]);
    }
    table.remove(victim, isExpired ? Removal.EXPIRED : Removal.EVICTED, now);
  }

  /** The next connection that may go for one of a zone and a port, or 0: the best among a bounded number. */
  #search(zone: number, port: number, level: number, now: number): number {
    const table = this.#table;
    const { records, zones } = table;
    const isRare = level === HAS_BOTH && zones.unreplied(zone) * RARE < zones.count(zone);
    let found = 0;
    let best: number = Rank.STAYS;
    for (let step = Math.min(SEARCH_STEPS, table.fresh - 1); step > 0; step -= 1) {
      if (this.#hand >= table.fresh) this.#hand = 1;
      const record = this.#hand;
      this.#hand += 1;
      const at = table.at(record);
      if ((records[at] & Kind.LIVE) === 0) continue;
      if (table.isExpired(record, now)) return record;
      const rank = rankOf(records, at);
      if (rank <= best || !this.#mayGo(at, zone, port, level)) continue;
      found = record;
      best = rank;
      if (rank === Rank.UNREPLIED || (rank === Rank.NOT_ASSURED && isRare)) break;
    }
    return found;
  }

  /** Whether somebody's connection may go for one of a zone and a port: of who has more, or where nobody has, of the same zone or port. */
  #mayGo(at: number, zone: number, port: number, level: number): boolean {
    const { records } = this.#table;
    const itsZone = records[at] >>> 16;
    const itsPort = records[at + RecordWord.PORT];
    if (level === HAS_BOTH && itsZone !== zone && itsPort !== port) return false;
    return this.#level(itsZone, itsPort) >= Math.min(level + 1, HAS_BOTH);
  }

  /** Where all are of one zone, or of one port, that alone says nothing. */
  #level(zone: number, port: number): number {
    const { zones, ports } = this.#table;
    const isZoneFull = zones.isFull(zone);
    const isPortFull = ports.isFull(port);
    if (isZoneFull && isPortFull) return HAS_BOTH;
    return (isZoneFull && zones.areMany) || (isPortFull && ports.areMany) ? 1 : 0;
  }
}

function rankOf(records: Int32Array, at: number): number {
  const status = records[at + RecordWord.STATUS];
  if ((status & Status.SEEN_REPLY) === 0) return Rank.UNREPLIED;
  if ((status & Status.ASSURED) === 0) return Rank.NOT_ASSURED;
  return isClosing(records[at], records[at + RecordWord.STATE] & STATE_MASK) ? Rank.CLOSING : Rank.STAYS;
}

function isClosing(kind: number, state: number): boolean {
  const protocol = (kind >>> 8) & 0xff;
  if (protocol === IpProtocol.TCP) return state >= TcpState.FIN_WAIT && state <= TcpState.CLOSE;
  const isShutting = state >= SctpState.SHUTDOWN_SENT && state <= SctpState.SHUTDOWN_ACK_SENT;
  return protocol === IpProtocol.SCTP && (isShutting || state === SctpState.CLOSED);
}
