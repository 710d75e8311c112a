/**
 * The forwarding database: the MAC table with what the configuration says about it, by port name: static entries, limits,
 * ports that do not learn. Ports may come and go; what is said about a name holds whenever a port has it.
 * Neighbours: extension.ts forwards by it, commands.ts shows and changes it.
 */
import { isDeepStrictEqual } from 'node:util';
import { macHighAt, macLowAt, type PortId, parseMac } from '../../net/index.ts';
import { MAX_PORT_ID, type MacEntry, MacTable, portIn } from '../../switch/index.ts';
import { type LearningConfiguration, parseLearningConfiguration, type StaticEntry } from './configuration.ts';

/** Bits of {@link ForwardingDatabase.portFlags}. */
export const PortFlag = {
  /** Addresses are not learned on the port. */
  NO_LEARNING: 1,
  /** Packets from addresses over the limit are dropped. */
  DROP_OVER_LIMIT: 2,
} as const;

/** A MAC address as the table takes it. */
export interface MacKey {
  readonly high: number;
  readonly low: number;
}

/** Six bytes as two integers. */
export function macKey(bytes: Uint8Array): MacKey {
  return { high: macHighAt(bytes, 0), low: macLowAt(bytes, 0) };
}

/** The table and its settings. */
export class ForwardingDatabase {
  table: MacTable;
  /** By port id: bits of {@link PortFlag}. */
  readonly portFlags = new Uint8Array(MAX_PORT_ID + 1);
  configuration: LearningConfiguration;
  /** Told of addresses that are elsewhere from now on; see MacTable.onChanged. */
  onChanged: MacTable['onChanged'] = () => {};
  readonly #portIds = new Map<string, PortId>();
  readonly #names = new Map<number, string>();
  /** Static entries by `vlan mac`, those of absent ports included. */
  readonly #static = new Map<string, StaticEntry>();

  constructor(configuration: LearningConfiguration) {
    this.configuration = configuration;
    this.table = this.#newTable(configuration);
    for (const entry of configuration.static) this.#static.set(staticKey(entry), entry);
  }

  #newTable({ maximum, ageingSeconds }: LearningConfiguration): MacTable {
    const table = new MacTable({ capacity: maximum, ageingSeconds });
    table.onChanged = (domain, macHigh, macLow, portId) => this.onChanged(domain, macHigh, macLow, portId);
    return table;
  }

  /** The ports that are there. */
  get portIds(): PortId[] {
    return [...this.#portIds.values()];
  }

  /** Whether addresses are learned on a port. */
  learnsOn(portId: PortId): boolean {
    return (this.portFlags[portId] & PortFlag.NO_LEARNING) === 0;
  }

  nameOf(portId: number): string {
    return this.#names.get(portId) ?? String(portId);
  }

  /** Id of a port by name; -1 when there is none. */
  idOf(name: string): PortId | -1 {
    return this.#portIds.get(name) ?? -1;
  }

  /** A port is there, or has a new name. @returns whether that was not known */
  addPort(portId: PortId, name: string): boolean {
    const before = this.#names.get(portId);
    if (before === name) return false;
    if (before !== undefined) {
      this.#portIds.delete(before);
      this.#unbind(before, portId);
    }
    this.#portIds.set(name, portId);
    this.#names.set(portId, name);
    this.#configurePort(portId, name);
    for (const entry of this.#static.values()) if (entry.port === name) this.#bind(entry, portId);
    return true;
  }

  /** A port is gone: nothing is behind it any more. */
  removePort(portId: PortId): void {
    const name = this.#names.get(portId);
    if (name !== undefined) this.#portIds.delete(name);
    this.#names.delete(portId);
    this.table.flush({ portId, includeStatic: true });
    this.table.setLimit(portId, 0);
    this.portFlags[portId] = 0;
  }

  #configurePort(portId: PortId, name: string): void {
    const settings = ownOf(this.configuration.ports, name);
    const onLimit = settings?.onLimit ?? this.configuration.onLimit;
    this.table.setLimit(portId, settings?.limit ?? 0);
    this.portFlags[portId] =
      (settings?.enabled === false ? PortFlag.NO_LEARNING : 0) | (onLimit === 'drop' ? PortFlag.DROP_OVER_LIMIT : 0);
    if (settings?.enabled === false) this.table.flush({ portId });
  }

  #bind(entry: StaticEntry, portId: PortId): boolean {
    const { high, low } = macKey(parseMac(entry.mac));
    return this.table.addStatic(entry.vlan, high, low, portId, 0);
  }

  /** Take the static entries of a name out of the table. */
  #unbind(name: string, portId: PortId): void {
    for (const entry of this.#static.values()) {
      if (entry.port !== name) continue;
      const { high, low } = macKey(parseMac(entry.mac));
      const found = this.table.lookup(entry.vlan, high, low, 0);
      if (found !== 0 && portIn(found) === portId) this.table.remove(entry.vlan, high, low);
    }
  }

  /**
   * Add or replace a static entry; its port may come later.
   * @returns false when the table is full
   */
  addStatic(entry: StaticEntry): boolean {
    const key = staticKey(entry);
    const portId = this.idOf(entry.port);
    if (portId !== -1 && !this.#bind(entry, portId)) return false;
    const before = this.#static.get(key);
    if (portId === -1 && before !== undefined) this.removeEntry(entry.vlan, entry.mac);
    this.#static.set(key, entry);
    return true;
  }

  /** Forget an entry, learned or static. @returns whether it was known */
  removeEntry(vlan: number, mac: string): boolean {
    const bytes = parseMac(mac);
    const { high, low } = macKey(bytes);
    const known = this.#static.delete(staticKey({ vlan, mac, port: '' }));
    return this.table.remove(vlan, high, low) || known;
  }

  /** Static entries whose port is not there. */
  waiting(): readonly StaticEntry[] {
    return [...this.#static.values()].filter((entry) => this.idOf(entry.port) === -1);
  }

  /** Static entries go for good, too. */
  flushStatic(filter: { readonly vlan?: number; readonly portId?: number }): void {
    for (const [key, entry] of this.#static) {
      if (filter.vlan !== undefined && filter.vlan !== entry.vlan) continue;
      if (filter.portId !== undefined && filter.portId !== this.idOf(entry.port)) continue;
      this.#static.delete(key);
    }
  }

  /**
   * Put a new configuration in force. Learned addresses stay as far as they fit; static entries that were added by command
   * stay unless the old configuration named them and the new one does not.
   */
  reconfigure(configuration: LearningConfiguration, nowSeconds: number): void {
    const before = this.configuration;
    this.configuration = configuration;
    const wanted = new Set(configuration.static.map(staticKey));
    for (const entry of before.static) if (!wanted.has(staticKey(entry))) this.removeEntry(entry.vlan, entry.mac);
    if (configuration.maximum !== before.maximum) {
      const entries = this.table.entries(nowSeconds);
      this.table = this.#newTable(configuration);
      for (const entry of entries) this.#keep(entry, nowSeconds);
    }
    this.table.ageingSeconds = configuration.ageingSeconds;
    for (const [name, portId] of this.#portIds) this.#configurePort(portId, name);
    for (const entry of configuration.static) this.addStatic(entry);
  }

  /**
   * Other settings of ports, the rest of the configuration stays.
   * @returns the ports that have others now
   * @throws TypeError naming the fields
   */
  configurePorts(settings: unknown): number[] {
    const before = this.configuration.ports;
    const { ports } = parseLearningConfiguration({ ports: settings });
    this.configuration = { ...this.configuration, ports };
    const changed: number[] = [];
    for (const [name, portId] of this.#portIds) {
      if (isDeepStrictEqual(ownOf(before, name), ownOf(ports, name))) continue;
      this.#configurePort(portId, name);
      changed.push(portId);
    }
    return changed;
  }

  #keep(entry: MacEntry, nowSeconds: number): void {
    const { high, low } = macKey(entry.macAddress);
    if (entry.isStatic) this.table.addStatic(entry.vlan, high, low, entry.portId, entry.nicIndex);
    else this.table.learn(entry.vlan, high, low, entry.portId, entry.nicIndex, nowSeconds - entry.ageSeconds);
  }
}

/** Ports may be called as what every object has. */
function ownOf<T>(record: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(record, name) ? record[name] : undefined;
}

function staticKey(entry: StaticEntry): string {
  return `${entry.vlan} ${entry.mac.toLowerCase().replaceAll('-', ':')}`;
}
