/**
 * The ports of the datapath: made, changed and removed at run time. The switch's port exists all the time, so that policies and counters last.
 * Neighbours: port-devices.ts attaches them to their devices, port-states.ts says how they are.
 */
import type { EventLoop } from '../../host/index.ts';
import type { OffloadKeeper } from '../../keeper/index.ts';
import { type Adapter, formatMac, type PortId } from '../../net/index.ts';
import type { Operation, VirtualSwitch } from '../../switch/index.ts';
import type { PortCounters, PortInfo } from '../api.ts';
import type { OffloadMode, Port } from '../config/model.ts';
import { propertiesOf } from '../config/policies.ts';
import { Failure } from '../rpc/failure.ts';
import { failureOf } from './failures.ts';
import { KeptSettings } from './kept-settings.ts';
import { renameForOvs } from './ovs-name.ts';
import { DatapathPort, type PortUser } from './port.ts';
import { missingReason, PortDevices } from './port-devices.ts';
import { type Policies, propertyCalls } from './port-properties.ts';
import { PortStates, type PortsListener } from './port-states.ts';
import { type Call, sequence } from './sequence.ts';
import { type FoundStations, knownStations } from './stations.ts';

/** All ports of one switch. */
export class DatapathPorts {
  /** What is behind them. */
  readonly devices: PortDevices;
  readonly #switch: VirtualSwitch;
  readonly #loop: EventLoop;
  readonly #offload: OffloadKeeper;
  readonly #listener: PortsListener;
  readonly #states: PortStates;
  readonly #ports = new Map<string, DatapathPort>();
  readonly #byId = new Map<PortId, DatapathPort>();
  readonly #settings = new KeptSettings();

  constructor(virtualSwitch: VirtualSwitch, loop: EventLoop, offload: OffloadKeeper, listener: PortsListener) {
    this.#switch = virtualSwitch;
    this.#loop = loop;
    this.#offload = offload;
    this.#listener = listener;
    this.#states = new PortStates(virtualSwitch, offload, listener);
    const states = this.#states;
    this.devices = new PortDevices({ virtualSwitch, loop, offload, listener, states, ports: () => this.all() });
  }

  /** @throws Failure 'not-found' */
  get(name: string): DatapathPort {
    const port = this.#ports.get(name);
    if (port === undefined) throw new Failure('not-found', `there is no port "${name}"`);
    return port;
  }

  all(): Iterable<DatapathPort> {
    return this.#ports.values();
  }

  withId(id: PortId): DatapathPort | undefined {
    return this.#byId.get(id);
  }

  nameOf(id: PortId): string {
    return this.#byId.get(id)?.name ?? '';
  }

  has(name: string): boolean {
    return this.#ports.has(name);
  }

  /**
   * Make a port. On failure nothing is left of it.
   * @param asked how it is to be; one for a user has what it was set to before
   * @param user for whom it is made, when it is not of the configuration; a TAP of such a port is left down
   */
  add(name: string, asked: Port, user: PortUser | null = null): Operation<null> {
    const config = user === null ? asked : this.#settings.for(name, asked);
    const listener = this.#listener;
    let adapter: Adapter | null = null;
    let port: DatapathPort | null = null;
    let stations: FoundStations | null = null;
    const calls: Call[] = [
      () => {
        adapter = this.devices.openFirst(name, config, user === null);
        stations = knownStations(config, adapter);
        return null;
      },
      () => {
        const created = this.#switch.createPort({ name });
        created.whenSettled((operation) => {
          if (operation.error !== null) return;
          port = this.#register(name, operation.result(), config);
          port.stations = stations;
          port.user = user;
          port.ownedByUser = user !== null;
          if (port.ownedByUser) listener.onUserPort(port, true);
        });
        return created;
      },
      () => {
        const properties = propertiesOf(config, stations);
        return sequence(properties.map((property) => () => this.#switch.setPortProperty(idOf(port), property)));
      },
      () => (port !== null && adapter !== null ? this.devices.attach(port, adapter) : null),
      () => {
        if (port !== null && adapter === null) this.#states.set(port, 'missing', missingReason(config));
        return null;
      },
    ];
    const added = sequence(calls);
    added.whenSettled((operation) => {
      if (operation.error === null) return;
      if (port === null || port.adapter === null) adapter?.close();
      if (port !== null) this.#forget(port);
    });
    return added;
  }

  /** Remove a port and give its device back. */
  remove(name: string): Operation<null> {
    const port = this.get(name);
    return sequence([
      () => {
        // Packets stop first; the adapter goes when the switch has let go of the NIC.
        renameForOvs(port, undefined);
        this.devices.stop(port);
        return this.#switch.removePort(port.id);
      },
      () => {
        this.#drop(port);
        return null;
      },
    ]);
  }

  /**
   * Change policies. When one is refused, those before it are set back. Those of a user's port are kept for when it is added again.
   * @throws Failure 'refused' when those of too many ports are kept
   */
  set(name: string, config: Port): Operation<null> {
    const port = this.get(name);
    if (port.ownedByUser) this.#settings.checkRoom(name);
    const before: Policies = { config: port.config, stations: port.stations };
    const after: Policies = { config, stations: knownStations(config, port.adapter) };
    const change = (from: Policies, to: Policies) =>
      sequence([
        () => {
          renameForOvs(port, to.config.ovsName);
          return null;
        },
        ...propertyCalls(this.#switch, port.id, from, to),
        () => {
          port.config = to.config;
          port.stations = to.stations;
          if (offloadOf(from.config) !== offloadOf(to.config)) this.devices.reopen(port);
          return null;
        },
        () => {
          if (!port.attached) this.devices.reexamine(port);
          return null;
        },
      ]);
    const changed = change(before, after);
    changed.whenSettled((operation) => {
      if (operation.error !== null) change(after, before);
      else if (port.ownedByUser) this.#settings.set(name, config);
    });
    return changed;
  }

  /** What ports of users are to be set to when they are added. */
  keepSettings(settings: ReadonlyMap<string, Port>): void {
    for (const [name, port] of settings) this.#settings.set(name, port);
  }

  /**
   * Change whether flows run in the kernel; ports whose packets then come by another way are opened anew. When one of them cannot be, all go back to how they were.
   * @throws KeeperError when offload is required and impossible: then nothing has changed; Failure
   */
  setOffload(mode: OffloadMode): Operation<null> {
    const before = this.#offload.mode;
    if (mode === before) return sequence([]);
    this.#offload.setMode(mode);
    const reopened: DatapathPort[] = [];
    for (const port of this.#ports.values()) {
      reopened.push(port);
      try {
        this.devices.reopen(port);
      } catch (error) {
        const { kind, message, hint } = failureOf(error);
        const lost = this.#goBack(before, reopened);
        const end = lost.length === 0 ? '' : `, but for what could not be put back: ${lost.join('; ')}`;
        throw new Failure(kind, `port ${port.name}: ${message}; offload is ${before}, as it was${end}`, hint);
      }
    }
    return sequence([]);
  }

  /** Ports go back to another mode of offload. @returns what could not be put back, and is tried again */
  #goBack(mode: OffloadMode, ports: readonly DatapathPort[]): string[] {
    const lost: string[] = [];
    const attempt = (what: string, act: () => void) => {
      try {
        act();
      } catch (error) {
        lost.push(`${what}: ${failureOf(error).message}`);
      }
    };
    attempt('flows', () => this.#offload.setMode(mode));
    for (const port of ports) {
      attempt(`port ${port.name}`, () => {
        if (port.adapter !== null) this.devices.reopen(port);
        else if (port.state === 'failed') this.devices.reexamine(port);
        if (port.adapter === null && port.state === 'failed')
          throw new Failure('failed', port.reason ?? 'it is not there');
      });
    }
    return lost;
  }

  list(): PortInfo[] {
    return [...this.#ports.values()].map((port) => this.#describe(port));
  }

  /** Remove all, without waiting for anybody. */
  close(): void {
    this.devices.close();
    this.#ports.clear();
    this.#byId.clear();
  }

  /** Frames and bytes of a port, seen from the switch, and what its devices have lost. */
  countersOf(port: DatapathPort): PortCounters {
    const { droppedPackets: _, ...counters } = this.#switch.port(port.id).counters;
    return { ...counters, receiveDropped: port.receiveDropped };
  }

  #describe(port: DatapathPort): PortInfo {
    const info = this.#switch.port(port.id);
    const { adapter } = port;
    const { device, ...config } = port.config;
    const file = port.config.kind === 'pcap' ? (port.config.read ?? port.config.write ?? '') : device;
    return {
      name: port.name,
      id: port.id,
      kind: port.config.kind,
      device: file,
      state: port.state,
      reason: port.reason ?? this.#offload.overloadOf(port),
      user: port.user?.name ?? null,
      addedBy: port.ownedByUser ? (port.user?.name ?? null) : null,
      mac: adapter === null ? null : formatMac(adapter.macAddress, 0),
      bindings: info.bindings === null ? null : [...info.bindings],
      allowedMacs: info.macAddresses === null ? null : [...info.macAddresses],
      mtuBytes: adapter?.mtuBytes ?? null,
      counters: this.countersOf(port),
      drops: info.counters.droppedPackets,
      offload: this.#offload.summaryOf(port),
      config,
    };
  }

  #register(name: string, id: PortId, config: Port): DatapathPort {
    const port = new DatapathPort(
      name,
      id,
      config,
      this.#switch,
      this.#loop,
      (one) => this.devices.reexamine(one),
      (message) => this.#listener.onWarning(name, message),
    );
    this.#ports.set(name, port);
    this.#byId.set(id, port);
    return port;
  }

  #forget(port: DatapathPort): void {
    this.devices.stop(port);
    this.#drop(port);
    this.#switch.removePort(port.id);
  }

  #drop(port: DatapathPort): void {
    this.#ports.delete(port.name);
    this.#byId.delete(port.id);
    if (port.ownedByUser) this.#listener.onUserPort(port, false);
  }
}

function idOf(port: DatapathPort | null): PortId {
  if (port === null) throw new Failure('internal', 'the switch made no port');
  return port.id;
}

/** Where the kernel is to run a port's flows. */
function offloadOf(config: Port): string | undefined {
  return 'offload' in config ? config.offload : undefined;
}
