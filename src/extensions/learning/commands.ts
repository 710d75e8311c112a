/**
 * The commands of the learning extension: show, flush, add and del entries of the forwarding database. What they take and
 * give is plain JSON with port names.
 */
import { formatMac, parseMac } from '../../net/index.ts';
import type { JsonValue } from '../../switch/index.ts';
import { checked, type EntryFilter, filterSchema, staticEntrySchema } from './configuration.ts';
import { type ForwardingDatabase, macKey } from './forwarding-database.ts';

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

/**
 * Carry out a command.
 * @throws Error for a command or an argument that is not known
 */
export function runCommand(database: ForwardingDatabase, name: string, args: JsonValue, nowSeconds: number): JsonValue {
  switch (name) {
    case 'show':
      return show(database, checked(filterSchema, args), nowSeconds).map((entry) => ({ ...entry }));
    case 'flush':
      return { flushed: flush(database, checked(filterSchema, args)) };
    case 'add': {
      const entry = checked(staticEntrySchema, args);
      if ((parseMac(entry.mac)[0] & 1) !== 0) throw new TypeError(`mac: ${entry.mac} is a group address`);
      if (!database.addStatic(entry)) throw new RangeError('the forwarding database is full');
      return null;
    }
    case 'del': {
      const { vlan, mac } = checked(staticEntrySchema.partial({ port: true }), args);
      return { removed: database.removeEntry(vlan, mac) };
    }
    default:
      throw new TypeError(`unknown command ${name}; there are show, flush, add, del and ports`);
  }
}

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
