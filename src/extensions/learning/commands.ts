/** The commands of the learning extension. What they take and give is plain JSON with port names. */
import { z } from 'zod';
import { formatMac, parseMac } from '../../net/index.ts';
import { command } from '../../switch/index.ts';
import { type EntryFilter, filterSchema, staticEntrySchema } from './configuration.ts';
import { type ForwardingDatabase, macKey } from './forwarding-database.ts';
import type { Move } from './moves.ts';

/** One entry as `show` gives it. */
export interface ShownEntry {
  readonly vlan: number;
  readonly mac: string;
  readonly port: string;
  readonly portId: number;
  readonly nicIndex: number;
  readonly static: boolean;
  readonly ageSeconds: number;
}

/** What the extension says of itself. */
export type LearningStatus = {
  /** Addresses in the table, and how many may be there. */
  readonly entries: number;
  readonly maximum: number;
  readonly ageingSeconds: number;
  /** Addresses that made room for others since the table was made. */
  readonly exchanged: number;
  /** The port that has most addresses, while the table is full. */
  readonly fullest: { readonly port: string; readonly addresses: number } | null;
  /** Addresses that were seen behind one port and then behind another, and the last of them, the newest first. */
  readonly moves: number;
  readonly recentMoves: readonly Move[];
  /** Static entries whose port is not there yet. */
  readonly waitingStaticEntries: readonly { readonly mac: string; readonly vlan: number; readonly port: string }[];
};

/** What commands work on. */
export interface LearningState {
  readonly database: ForwardingDatabase;
  readonly nowSeconds: number;
  /** Other settings of ports. @throws TypeError naming the fields */
  configurePorts(settings: unknown): void;
}

/** All commands; see the README. */
export const LEARNING_COMMANDS = {
  show: command(filterSchema, ({ database, nowSeconds }: LearningState, filter) => show(database, filter, nowSeconds)),
  flush: command(filterSchema, ({ database }: LearningState, filter) => ({ flushed: flush(database, filter) })),
  add: command(staticEntrySchema, ({ database }: LearningState, entry) => {
    if ((parseMac(entry.mac)[0] & 1) !== 0) throw new TypeError(`mac: ${entry.mac} is a group address`);
    if (!database.addStatic(entry)) throw new RangeError('the forwarding database is full');
    return null;
  }),
  del: command(staticEntrySchema.partial({ port: true }), ({ database }: LearningState, { vlan, mac }) => ({
    removed: database.removeEntry(vlan, mac),
  })),
  ports: command(z.record(z.string(), z.unknown()), (state: LearningState, settings) => {
    state.configurePorts(settings);
    return null;
  }),
};

function portIdOf(database: ForwardingDatabase, filter: EntryFilter): number | undefined {
  if (filter.port === undefined) return undefined;
  const portId = database.idOf(filter.port);
  if (portId === -1) throw new TypeError(`there is no port ${filter.port}`);
  return portId;
}

function show(database: ForwardingDatabase, filter: EntryFilter, nowSeconds: number): ShownEntry[] {
  const portId = portIdOf(database, filter);
  const mac = filter.mac === undefined ? undefined : formatMac(parseMac(filter.mac));
  const shown: ShownEntry[] = [];
  for (const entry of database.table.entries(nowSeconds)) {
    const text = formatMac(entry.macAddress);
    if (filter.vlan !== undefined && entry.vlan !== filter.vlan) continue;
    if (portId !== undefined && entry.portId !== portId) continue;
    if (mac !== undefined && text !== mac) continue;
    if (filter.static !== undefined && entry.isStatic !== filter.static) continue;
    shown.push({
      vlan: entry.vlan,
      mac: text,
      port: database.nameOf(entry.portId),
      portId: entry.portId,
      nicIndex: entry.nicIndex,
      static: entry.isStatic,
      ageSeconds: entry.ageSeconds,
    });
  }
  return shown.sort((a, b) => a.vlan - b.vlan || (a.mac < b.mac ? -1 : 1));
}

function flush(database: ForwardingDatabase, filter: EntryFilter): number {
  const portId = portIdOf(database, filter);
  const includeStatic = filter.static === true;
  const where = {
    ...(filter.vlan === undefined ? {} : { vlan: filter.vlan }),
    ...(portId === undefined ? {} : { portId }),
  };
  if (filter.mac !== undefined) return flushAddress(database, filter.mac, where, includeStatic);
  const flushed = database.table.flush({ ...where, includeStatic });
  if (includeStatic) database.flushStatic(where);
  return flushed;
}

/** One address, in one VLAN or in all. */
function flushAddress(
  database: ForwardingDatabase,
  mac: string,
  where: { readonly vlan?: number; readonly portId?: number },
  includeStatic: boolean,
): number {
  const { high, low } = macKey(parseMac(mac));
  let flushed = 0;
  for (const entry of database.table.entries(0)) {
    const key = macKey(entry.macAddress);
    if (key.high !== high || key.low !== low || (entry.isStatic && !includeStatic)) continue;
    if (where.vlan !== undefined && entry.vlan !== where.vlan) continue;
    if (where.portId !== undefined && entry.portId !== where.portId) continue;
    if (database.removeEntry(entry.vlan, mac)) flushed += 1;
  }
  return flushed;
}
