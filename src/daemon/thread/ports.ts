/**
 * The ports of the datapath: made, changed and removed at run time; attached to their devices, detached when a device vanishes, and attached
 * again when one of that name comes back. The switch's port exists all the time, so that policies and counters last.
 */
import { type EventLoop, PacketSocket, SystemError, Tap } from '../../host/index.ts';
import type { OffloadKeeper } from '../../keeper/index.ts';
import { type Adapter, formatMac, PcapAdapter } from '../../net/index.ts';
import type { Operation, VirtualSwitch } from '../../switch/index.ts';
import type { PortCounters, PortInfo, PortState } from '../api.ts';
import { captureFileProblem } from '../config/capture-files.ts';
import type { OffloadMode, Port } from '../config/model.ts';
import { propertiesOf } from '../config/policies.ts';
import { Failure } from '../rpc/failure.ts';
import { interfaceExists, isDevice, openMemory, openNetdev, openPcap, openTapPort, ringSlots } from './adapters.ts';
import { monotonicMs } from './clock.ts';
import { failureOf } from './failures.ts';
import { IsolationWatch } from './isolation-watch.ts';
import { forgetOvsName, renameForOvs } from './ovs-name.ts';
import { configBar, DatapathPort, type PortUser } from './port.ts';
import { type Policies, propertyCalls } from './port-properties.ts';
import { type Call, sequence } from './sequence.ts';
import { StationWatch } from './station-watch.ts';
import { type FoundStations, knownStations } from './stations.ts';

/** What the ports tell. */
export interface PortsListener {
  onState(port: DatapathPort, message: string): void;
  onWarning(port: string, message: string): void;
  /** The link of a port went down, or its device away: what is known about who is behind it is void. */
  onLost(port: DatapathPort): void;
}

/** How often a port that should be there and cannot be opened is tried again. */
const RETRY_MS = 2_000;

/** Ports of users whose settings are kept. */
const MAXIMUM_KEPT_SETTINGS = 4_096;

/** All ports of one switch. */
export class DatapathPorts {
  readonly #switch: VirtualSwitch;
  readonly #loop: EventLoop;
  readonly #offload: OffloadKeeper;
  readonly #listener: PortsListener;
  readonly #ports = new Map<string, DatapathPort>();
  readonly #byId = new Map<number, DatapathPort>();
  /** What ports of users were set to, by name: such a port may go and come back any time. */
  readonly #settings = new Map<string, Port>();
  readonly #stations: StationWatch;
  readonly #isolation: IsolationWatch;

  constructor(virtualSwitch: VirtualSwitch, loop: EventLoop, offload: OffloadKeeper, listener: PortsListener) {
    this.#switch = virtualSwitch;
    this.#loop = loop;
    this.#offload = offload;
    this.#listener = listener;
    const warn = (port: string, message: string) => listener.onWarning(port, message);
    this.#stations = new StationWatch(virtualSwitch, loop, () => this.#ports.values(), warn);
    this.#isolation = new IsolationWatch({ loop, ports: () => this.#ports.values(), nowMs: monotonicMs, warn });
    loop.timers.every(RETRY_MS, { onTimer: () => this.#retry() });
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

  withId(id: number): DatapathPort | undefined {
    return this.#byId.get(id);
  }

  nameOf(id: number): string {
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
    const config = user === null ? asked : this.#withSettings(name, asked);
    let adapter: Adapter | null = null;
    let port: DatapathPort | null = null;
    let stations: FoundStations | null = null;
    const calls: Call[] = [
      () => {
        adapter = this.#openFirst(name, config, user === null);
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
        });
        return created;
      },
      () => {
        const properties = propertiesOf(config, stations);
        return sequence(properties.map((property) => () => this.#switch.setPortProperty(idOf(port), property)));
      },
      () => (port !== null && adapter !== null ? this.#attach(port, adapter) : null),
      () => {
        if (port !== null && adapter === null) this.#setState(port, 'missing', missingReason(config));
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
        this.#stop(port);
        return this.#switch.removePort(port.id);
      },
      () => {
        this.#ports.delete(name);
        this.#byId.delete(port.id);
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
    if (port.ownedByUser && !this.#settings.has(name) && this.#settings.size >= MAXIMUM_KEPT_SETTINGS) {
      throw new Failure(
        'refused',
        `settings of ${MAXIMUM_KEPT_SETTINGS} ports that extensions have added are kept already`,
      );
    }
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
          return offloadOf(from.config) === offloadOf(to.config) ? null : this.#reopen(port);
        },
        () => {
          if (!port.attached) this.#reexamine(port);
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

  /** What a user's port of this name and device was set to before, when it is added again. */
  #withSettings(name: string, asked: Port): Port {
    const known = this.#settings.get(name);
    return known !== undefined && known.kind === asked.kind && known.device === asked.device ? known : asked;
  }

  /** Change whether flows run in the kernel; ports whose packets then come by another way are opened anew. */
  setOffload(mode: OffloadMode): Operation<null> {
    const before = this.#offload.mode;
    if (mode === before) return sequence([]);
    this.#offload.setMode(mode);
    const reopened = this.#reopenAll();
    reopened.whenSettled((operation) => {
      if (operation.error === null) return;
      this.#offload.setMode(before);
      this.#reopenAll().whenSettled(() => this.#retry());
    });
    return reopened;
  }

  #reopenAll(): Operation<null> {
    return sequence([...this.#ports.values()].map((port) => () => this.#reopen(port)));
  }

  /** Open the adapter of a port again: how its packets come in has changed. A port that cannot be opened is tried again, as others are. */
  #reopen(port: DatapathPort): Operation<null> | null {
    const { adapter, config } = port;
    if (config.kind === 'tap' && adapter !== null) {
      this.#offload.end(port);
      this.#startTap(port, adapter);
    }
    if (adapter === null || config.kind !== 'netdev') return null;
    port.lastMac = formatMac(adapter.macAddress, 0);
    this.#stop(port);
    let opened: Adapter | null = null;
    try {
      opened = this.#open(port.name, config);
      this.#start(port, opened);
    } catch (error) {
      this.#detach(port, 'failed', failureOf(error).message);
      opened?.close();
      throw error;
    }
    return null;
  }

  list(): PortInfo[] {
    return [...this.#ports.values()].map((port) => this.#describe(port));
  }

  /** Look at the devices: something changed about the links of this host. */
  reexamine(): void {
    for (const port of this.#ports.values()) this.#reexamine(port);
  }

  /** Something was said of the interface with this index, in whichever network namespace; -1 for any. */
  heard(index: number): void {
    this.#stations.heard(index);
  }

  /** All news have been read, and the devices looked at. */
  followStations(): void {
    this.#stations.follow();
  }

  /** Something changed in another namespace. */
  reexamineElsewhere(): void {
    for (const port of this.#ports.values()) if (isElsewhere(port.adapter)) this.#reexamine(port);
  }

  /** Remove all, without waiting for anybody. */
  close(): void {
    this.#stations.close();
    this.#isolation.close();
    for (const port of this.#ports.values()) {
      renameForOvs(port, undefined);
      this.#stop(port);
    }
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

  #register(name: string, id: number, config: Port): DatapathPort {
    const port = new DatapathPort(
      name,
      id,
      config,
      this.#switch,
      this.#loop,
      (one) => this.#reexamine(one),
      (message) => this.#listener.onWarning(name, message),
    );
    this.#ports.set(name, port);
    this.#byId.set(id, port);
    return port;
  }

  #forget(port: DatapathPort): void {
    this.#stop(port);
    this.#ports.delete(port.name);
    this.#byId.delete(port.id);
    this.#switch.removePort(port.id);
  }

  /** Open the adapter of a new port; null when it waits for its interface. */
  #openFirst(name: string, config: Port, up: boolean): Adapter | null {
    if (config.kind === 'netdev' && config.wait === true && !interfaceExists(config.device)) return null;
    return this.#open(name, config, up);
  }

  #ringSlots(): number {
    let rings = 0;
    for (const { adapter } of this.#ports.values()) if (adapter instanceof PacketSocket && adapter.hasRing) rings += 1;
    return ringSlots(rings);
  }

  #open(name: string, config: Port, up = true): Adapter {
    switch (config.kind) {
      case 'netdev':
        return openNetdev(name, config, this.#takes(config) ? null : this.#ringSlots());
      case 'tap':
        return openTapPort(name, config, up);
      case 'memory':
        return openMemory(name);
      case 'pcap':
        this.#checkFiles(name, config);
        return openPcap(name, config);
    }
  }

  /** @throws Failure for a file that is another port's */
  #checkFiles(name: string, config: Port): void {
    const others = [...this.#ports.values()].map((port) => [port.name, port.config] as const);
    const problem = captureFileProblem(name, config, others);
    if (problem === null) return;
    throw new Failure('refused', problem, 'give each port a file of its own');
  }

  /** Make the NIC, connect it and let packets in. */
  #attach(port: DatapathPort, adapter: Adapter): Operation<null> {
    const attached = sequence([
      () =>
        this.#switch.createNic(port.id, {
          name: adapter.name,
          macAddress: adapter.macAddress,
          mtuBytes: adapter.mtuBytes,
          backend: port.backend,
        }),
      () => this.#switch.connectNic(port.id),
      () => {
        try {
          this.#start(port, adapter);
        } catch (error) {
          this.#stop(port);
          port.attached = false;
          this.#dropNic(port);
          throw error;
        }
        this.#updateState(port);
        this.#stations.look(port);
        return null;
      },
      () => {
        renameForOvs(port, port.config.ovsName);
        return null;
      },
    ]);
    if (isDevice(adapter)) for (const warning of adapter.warnings) this.#listener.onWarning(port.name, warning);
    return attached;
  }

  /** Let packets in: through a program of the kernel where that is possible, else from the adapter itself. */
  #start(port: DatapathPort, adapter: Adapter): void {
    const { config } = port;
    if (config.kind !== 'netdev' || !isDevice(adapter) || !this.#takes(config)) {
      port.start(adapter);
      this.#startTap(port, adapter);
      return;
    }
    if (this.#offload.begin(port, adapter.interfaceIndex)) {
      // It may have been set up for the programs.
      adapter.refresh();
      port.start(adapter);
      return;
    }
    // It was opened to send alone.
    adapter.close();
    port.start(openNetdev(port.name, config, this.#ringSlots()));
  }

  /** Whether its packets are to come through a program. @throws KeeperError when they must and cannot */
  #takes(config: Port & { kind: 'netdev' }): boolean {
    return this.#offload.takes(config.device, configBar(config));
  }

  /** What the kernel sends through a TAP of this namespace may be carried past its descriptor. */
  #startTap(port: DatapathPort, adapter: Adapter): void {
    const { config } = port;
    port.isAway = isElsewhere(adapter);
    if (config.kind !== 'tap' || config.netns !== undefined || config.offload === 'off' || !isDevice(adapter)) return;
    // A TAP that was moved into another namespace cannot be redirected to.
    if (!port.isAway) this.#offload.beginTap(port, adapter.interfaceIndex);
  }

  /** Let no more packets in. */
  #stop(port: DatapathPort): void {
    this.#offload.end(port);
    port.stop();
  }

  /** The device is gone, or cannot be used: take the NIC away and wait. */
  #detach(port: DatapathPort, state: PortState, reason: string): void {
    if (!port.attached) return;
    port.attached = false;
    port.isLinkDown = false;
    if (port.adapter !== null) port.lastMac = formatMac(port.adapter.macAddress, 0);
    this.#stop(port);
    forgetOvsName(port);
    this.#listener.onLost(port);
    this.#dropNic(port);
    this.#setState(port, state, reason);
  }

  #dropNic(port: DatapathPort): void {
    const gone = sequence([() => this.#switch.disconnectNic(port.id), () => this.#switch.deleteNic(port.id)]);
    gone.whenSettled((operation) => {
      if (operation.error !== null) this.#listener.onWarning(port.name, operation.error.message);
    });
  }

  /** See at once whether the interface of a port is there, and is what it was. */
  lookAgain(port: DatapathPort): void {
    this.#reexamine(port);
  }

  /** See how the device of a port is. What the kernel does not tell at present, as when there is no descriptor left, is asked again. */
  #reexamine(port: DatapathPort): void {
    try {
      this.#examine(port);
      port.isUnseen = false;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      const { message } = error;
      if (!port.isUnseen)
        this.#listener.onWarning(port.name, `cannot look at its interface, and tries again: ${message}`);
      port.isUnseen = true;
    }
  }

  /** @throws SystemError */
  #examine(port: DatapathPort): void {
    const { adapter, config } = port;
    if (adapter === null) {
      // A TAP is made anew, an interface of others has to come by itself.
      const isWanted = !port.attached && (!port.ownedByUser || port.state === 'failed');
      if (isWanted && (config.kind === 'tap' || interfaceExists(config.device))) this.#reattach(port);
      return;
    }
    if (!isDevice(adapter)) {
      this.#updateState(port);
      return;
    }
    const { mtuBytes } = adapter;
    const mac = formatMac(adapter.macAddress, 0);
    if (adapter.refresh() === 'gone' || (config.kind === 'netdev' && adapter.interfaceName !== config.device)) {
      // Gone, or renamed: the port follows the name, as its configuration says.
      this.#detach(port, 'missing', missingReason(config));
      // Who added the port takes it away, too; one of the configuration waits for its interface.
      const { ownedByUser } = port;
      port.user?.onGone();
      if (!ownedByUser) this.#examine(port);
      return;
    }
    if (isElsewhere(adapter) !== port.isAway) {
      this.#offload.end(port);
      this.#startTap(port, adapter);
    }
    if (adapter.mtuBytes !== mtuBytes || formatMac(adapter.macAddress, 0) !== mac) {
      const changes = { mtuBytes: adapter.mtuBytes, macAddress: adapter.macAddress };
      this.#switch.updateNic(port.id, 0, changes).whenSettled(() => this.#offload.nicChanged(port));
    }
    this.#updateState(port);
  }

  #reattach(port: DatapathPort): void {
    let adapter: Adapter;
    const { config, lastMac } = port;
    try {
      // A TAP that is made anew keeps its address, so that its neighbours need not ask again.
      const again = config.kind === 'tap' && lastMac !== null ? { ...config, mac: config.mac ?? lastMac } : config;
      adapter = this.#open(port.name, again);
    } catch (error) {
      this.#setState(port, 'failed', failureOf(error).message);
      return;
    }
    this.#attach(port, adapter).whenSettled((operation) => {
      if (operation.error === null) return;
      if (port.adapter === null) adapter.close();
      this.#setState(port, 'failed', operation.error.message);
    });
  }

  /** What could not be opened, because somebody else had it or its namespace was not there, is tried again now and then. */
  #retry(): void {
    for (const port of this.#ports.values()) {
      if (port.isUnseen || (!port.attached && port.state === 'failed')) this.#reexamine(port);
      // No news come from a namespace that could be given no id.
      else if (port.isLinkDown && port.isAway) this.#reexamine(port);
      // Files fail without news.
      else if (port.adapter instanceof PcapAdapter) this.#updateState(port);
    }
    this.#stations.round();
  }

  #updateState(port: DatapathPort): void {
    const { adapter } = port;
    if (adapter instanceof PcapAdapter && adapter.failure !== null) {
      this.#setState(port, 'failed', adapter.failure.message);
    } else if (
      adapter instanceof PcapAdapter &&
      adapter.finished &&
      port.config.kind === 'pcap' &&
      port.config.read !== undefined
    ) {
      this.#setState(port, 'up', 'the capture has been read to its end');
    } else if (adapter === null || !isDevice(adapter)) this.#setState(port, 'up', null);
    else if (adapter.state === 'down')
      this.#setState(port, 'down', `the interface ${adapter.interfaceName} is set down`);
    else if (!adapter.carrier) this.#setState(port, 'down', `the interface ${adapter.interfaceName} has no carrier`);
    else this.#setState(port, 'up', null);
  }

  /** What is to leave by a port that is down is dropped, by the switch and by programs. */
  #followLink(port: DatapathPort): void {
    const { adapter } = port;
    if (!port.attached || adapter === null || !isDevice(adapter)) return;
    const isDown = port.state === 'down';
    if (isDown === port.isLinkDown) return;
    // What programs have counted so far went out, or did not, as the link was.
    this.#offload.sync();
    port.isLinkDown = isDown;
    this.#switch.setNicLink(port.id, 0, !isDown);
    this.#offload.nicChanged(port);
  }

  #setState(port: DatapathPort, state: PortState, reason: string | null): void {
    if (port.state === state && port.reason === reason) return;
    const wasUp = port.state === 'up';
    port.state = state;
    port.reason = reason;
    this.#followLink(port);
    if (wasUp && state === 'down') this.#listener.onLost(port);
    this.#listener.onState(
      port,
      reason === null ? `port ${port.name} is ${state}` : `port ${port.name} is ${state}: ${reason}`,
    );
  }
}

function idOf(port: DatapathPort | null): number {
  if (port === null) throw new Failure('internal', 'the switch made no port');
  return port.id;
}

/** A TAP in another namespace than ours. */
function isElsewhere(adapter: Adapter | null): boolean {
  return adapter instanceof Tap && adapter.isElsewhere;
}

/** Where the kernel is to run a port's flows. */
function offloadOf(config: Port): string | undefined {
  return 'offload' in config ? config.offload : undefined;
}

function missingReason(config: Port): string {
  return `there is no interface ${config.device}; the port waits for it`;
}
