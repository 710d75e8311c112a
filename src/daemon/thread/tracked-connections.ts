/**
 * What the control thread asks about connections: pages of them, flushes, statistics, limits and what happens. Each call looks at a bounded number of records, so that packets
 * pass between two; who wants more asks again from where it stopped.
 */
import {
  ConnectionCursor,
  type Connections,
  connectionFilter,
  describeConnection,
  REFUSAL_NAMES,
  type RecordFilter,
  Refusal,
  Removal,
} from '../../connections/index.ts';
import { SWITCH_ZONE } from '../../decide/index.ts';
import { type PortId, protocolNumber, toPortId } from '../../net/index.ts';
import type {
  ConnectionChanges,
  ConnectionFilterParams,
  ConnectionLimits,
  ConnectionPage,
  ConnectionPressure,
  ConnectionStatistics,
  ConnectionsEnded,
} from '../api.ts';
import type { ConnectionPageRequest } from './calls.ts';
import { connectionInfo } from './connection-info.ts';
import { ConnectionWatch } from './connection-watch.ts';

/** Records that a call looks at, and connections that it ends: two milliseconds or so. */
const PAGE_STEPS = 16_384;
const FLUSH_STEPS = 2048;
/** A table with pressure is told of once in so long. */
const TOLD_EVERY_MS = 60_000;
/** Zones that a message names. */
const ZONES_NAMED = 4;

const REMOVAL_NAMES = Object.entries(Removal).map(([name, reason]) => [name.toLowerCase(), reason] as const);

/** @throws RangeError in words, for what cannot be */
function compile({ protocol, ...rest }: ConnectionFilterParams): RecordFilter {
  if (protocol === undefined) return connectionFilter(rest);
  const number = protocolNumber(protocol);
  if (number === -1) throw new RangeError(`there is no protocol "${protocol}": it is a name such as tcp, or a number`);
  return connectionFilter({ ...rest, protocol: number });
}

export class TrackedConnections {
  readonly #connections: Connections;
  readonly #watch: ConnectionWatch;
  readonly #nameOf: (port: PortId) => string;
  /** What had been counted when it was told last, and when that was. */
  #told = { evicted: 0, full: 0, zone: 0, nat: 0 };
  #toldMs = Number.NEGATIVE_INFINITY;

  /** @param nameOf the name of a port of the switch; '' when there is none of that number */
  constructor(connections: Connections, nowMs: () => number, nameOf: (port: PortId) => string) {
    this.#connections = connections;
    this.#watch = new ConnectionWatch(connections, nowMs);
    this.#nameOf = nameOf;
  }

  /** Connections from a place on. */
  page({ filter, from, limit }: ConnectionPageRequest): ConnectionPage {
    const isWanted = compile(filter);
    const { table } = this.#connections;
    if (table === null) return { connections: [], next: 0 };
    const { records } = table;
    const cursor = new ConnectionCursor(table, (record) => isWanted(records, table.at(record)), { from });
    cursor.allow(PAGE_STEPS);
    const connections: ConnectionPage['connections'] = [];
    while (connections.length < limit) {
      const record = cursor.take();
      if (record === 0) break;
      connections.push(connectionInfo(describeConnection(table, record)));
    }
    return { connections, next: cursor.next };
  }

  /** End connections from a place on. */
  flush(filter: ConnectionFilterParams, from: number): ConnectionsEnded {
    const isWanted = compile(filter);
    const { table } = this.#connections;
    if (table === null) return { ended: 0, next: 0 };
    const { records } = table;
    const cursor = new ConnectionCursor(table, (record) => isWanted(records, table.at(record)), {
      from,
      withExpired: true,
    });
    cursor.allow(PAGE_STEPS);
    let ended = 0;
    for (; ended < FLUSH_STEPS; ended += 1) {
      const record = cursor.take();
      if (record === 0) break;
      table.remove(record, Removal.FLUSHED, cursor.now);
    }
    return { ended, next: cursor.next };
  }

  /** @param zones how many zones to tell of, those with most connections, and of how many who have lost any */
  statistics(zones: number): ConnectionStatistics {
    const { table, maximum } = this.#connections;
    if (table === null) {
      const nothing = { created: 0, ended: namedCounts([]), refused: namedRefusals([]), invalid: 0 };
      return { connections: 0, maximum, ...nothing, zones: [], zonesInUse: 0, pressure: [] };
    }
    const { counters, limits } = this.#connections.tracker;
    const counts = [...table.zones.counts()].sort((a, b) => b[1] - a[1]);
    return {
      connections: table.size,
      maximum: table.capacity,
      created: table.counters.created,
      ended: namedCounts(table.counters.removed),
      refused: namedRefusals(counters.refused),
      invalid: counters.invalid,
      zones: counts.slice(0, zones).map(([zone, connections]) => ({
        zone,
        connections,
        unreplied: table.zones.unreplied(zone),
        limit: limits.of(zone) || null,
      })),
      zonesInUse: counts.length,
      pressure: this.#pressure(zones),
    };
  }

  /** Who has lost most connections for want of room. */
  #pressure(most: number): ConnectionPressure[] {
    const losses = [...this.#connections.tracker.admission.pressure.losses()];
    const sum = (of: { evicted: number; refused: number }) => of.evicted + of.refused;
    return losses
      .sort((a, b) => sum(b) - sum(a))
      .slice(0, most)
      .map(({ zone, port, evicted, refused }) => ({ zone, port: this.#portOf(zone, port), evicted, refused }));
  }

  /** The zone tells whose number it is. */
  #portOf(zone: number, port: number): ConnectionPressure['port'] {
    if (port === 0) return null;
    return zone === SWITCH_ZONE ? this.#nameOf(toPortId(port)) || port : port;
  }

  /** All limits that were set. */
  limits(): ConnectionLimits {
    if (this.#connections.table === null) return { default: null, zones: [] };
    const { limits } = this.#connections.tracker;
    return {
      default: limits.default || null,
      zones: limits
        .zones()
        .sort((a, b) => a - b)
        .map((zone) => ({ zone, limit: limits.of(zone) || null, connections: limits.count(zone) })),
    };
  }

  /**
   * @param zone null for all zones without a limit of their own
   * @param limit connections; 0 for no limit; null: the zone has the default again, or the default is none
   */
  setLimit(zone: number | null, limit: number | null): void {
    if (limit === null && this.#connections.table === null) return;
    const { limits } = this.#connections.tracker;
    if (zone === null) limits.default = limit ?? 0;
    else if (limit === null) limits.remove(zone);
    else limits.set(zone, limit);
  }

  /** What has happened to connections since a place; the first call begins to listen. */
  changes(filter: ConnectionFilterParams, after: number | null): ConnectionChanges {
    return this.#watch.since(compile(filter), after);
  }

  /** To be called now and then: who watches no more is forgotten. @returns what people are to be told, or null */
  tick(nowMs: number): string | null {
    this.#watch.tick();
    const { table } = this.#connections;
    if (table === null) return null;
    const { tracker } = this.#connections;
    const { refused } = tracker.counters;
    const now = {
      evicted: table.counters.removed[Removal.EVICTED],
      full: refused[Refusal.TABLE_FULL],
      zone: refused[Refusal.ZONE_LIMIT],
      nat: refused[Refusal.NAT_EXHAUSTED],
    };
    const { evicted, full, zone, nat } = this.#told;
    const since = { evicted: now.evicted - evicted, full: now.full - full, zone: now.zone - zone, nat: now.nat - nat };
    if (since.evicted + since.full + since.zone + since.nat === 0 || nowMs - this.#toldMs < TOLD_EVERY_MS) return null;
    this.#told = now;
    this.#toldMs = nowMs;
    const causes: string[] = [];
    if (since.evicted + since.full > 0) {
      const room = `the table of connections has no room for more than ${table.capacity}`;
      causes.push(
        `${room}: ${since.evicted} that were not established made room for new ones, and ${since.full} new ones were refused; connections.maximum of the configuration sets how many there may be`,
      );
    }
    if (since.zone > 0) {
      const reached = [...table.zones.counts()].map(([each]) => each).filter((each) => tracker.limits.isReached(each));
      const named = reached.slice(0, ZONES_NAMED).join(', ');
      const more = reached.length > ZONES_NAMED ? ` and ${reached.length - ZONES_NAMED} more` : '';
      const where = named === '' ? '' : ` (now at it: zone ${named}${more})`;
      causes.push(`${since.zone} new connections were refused because their zone has as many as it may${where}`);
    }
    if (since.nat > 0) {
      causes.push(
        `${since.nat} new connections were refused because all addresses and ports that they may be translated to are in use`,
      );
    }
    const [worst] = this.#pressure(1);
    if (worst !== undefined) {
      const port = worst.port === null ? '' : `port ${worst.port}, `;
      causes.push(`since the start ${port}zone ${worst.zone} has lost most (millrace connections stats)`);
    }
    return causes.join('; ');
  }

  /** How full the table is; null when nothing was tracked yet. */
  get fill(): { connections: number; maximum: number } | null {
    const { table } = this.#connections;
    return table === null ? null : { connections: table.size, maximum: table.capacity };
  }
}

function namedCounts(counts: readonly number[]): Record<string, number> {
  return Object.fromEntries(REMOVAL_NAMES.map(([name, reason]) => [name, counts[reason] ?? 0]));
}

function namedRefusals(counts: readonly number[]): Record<string, number> {
  return Object.fromEntries(REFUSAL_NAMES.slice(1).map((name, i) => [name, counts[i + 1] ?? 0]));
}
