/**
 * The devices behind ports: opened, attached to the switch's port, detached when a device vanishes or cannot be used, and attached again when one of that
 * name comes back. Neighbours: ports.ts has the ports, port-states.ts their states, adapters.ts opens.
 */
import { type EventLoop, PacketSocket, SystemError, Tap } from '../../host/index.ts';
import type { OffloadKeeper } from '../../keeper/index.ts';
import { type Adapter, formatMac, PcapAdapter } from '../../net/index.ts';
import type { Operation, VirtualSwitch } from '../../switch/index.ts';
import type { PortState } from '../api.ts';
import { captureFileProblem } from '../config/capture-files.ts';
import type { Port } from '../config/model.ts';
import { Failure } from '../rpc/failure.ts';
import { interfaceExists, isDevice, openMemory, openNetdev, openPcap, openTapPort, ringSlots } from './adapters.ts';
import { monotonicMs } from './clock.ts';
import { failureOf } from './failures.ts';
import { IsolationWatch } from './isolation-watch.ts';
import { forgetOvsName, renameForOvs } from './ovs-name.ts';
import { configBar, type DatapathPort } from './port.ts';
import type { PortStates, PortsListener } from './port-states.ts';
import { sequence } from './sequence.ts';
import { StationWatch } from './station-watch.ts';

/** How often a port that should be there and cannot be opened is tried again. */
const RETRY_MS = 2_000;

export interface DeviceSurroundings {
  readonly virtualSwitch: VirtualSwitch;
  readonly loop: EventLoop;
  readonly offload: OffloadKeeper;
  readonly listener: PortsListener;
  readonly states: PortStates;
  ports(): Iterable<DatapathPort>;
}

export class PortDevices {
  readonly #around: DeviceSurroundings;
  readonly #switch: VirtualSwitch;
  readonly #offload: OffloadKeeper;
  readonly #listener: PortsListener;
  readonly #states: PortStates;
  /** Who is behind the ports, and that the kernel's own stack stays off them. */
  readonly #stations: StationWatch;
  readonly #isolation: IsolationWatch;

  constructor(around: DeviceSurroundings) {
    const { virtualSwitch, loop, offload, listener, states, ports } = around;
    this.#around = around;
    this.#switch = virtualSwitch;
    this.#offload = offload;
    this.#listener = listener;
    this.#states = states;
    const warn = (port: string, message: string) => listener.onWarning(port, message);
    this.#stations = new StationWatch(virtualSwitch, loop, ports, warn);
    this.#isolation = new IsolationWatch({ loop, ports, nowMs: monotonicMs, warn });
    loop.timers.every(RETRY_MS, { onTimer: () => this.retry() });
  }

  /** Open the adapter of a new port; null when it waits for its interface. @throws Failure */
  openFirst(name: string, config: Port, up: boolean): Adapter | null {
    if (config.kind === 'netdev' && config.wait === true && !interfaceExists(config.device)) return null;
    return this.#open(name, config, up, false);
  }

  /** Make the NIC, connect it and let packets in. */
  attach(port: DatapathPort, adapter: Adapter): Operation<null> {
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
          this.stop(port);
          port.attached = false;
          this.#dropNic(port);
          throw error;
        }
        this.#states.update(port);
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
    port.start(openNetdev(port.name, config, this.#ringSlots(), port.isNewcomer));
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
  stop(port: DatapathPort): void {
    this.#offload.end(port);
    port.stop();
  }

  /** The device is gone, or cannot be used: take the NIC away and wait. */
  #detach(port: DatapathPort, state: PortState, reason: string): void {
    if (!port.attached) return;
    port.attached = false;
    port.isLinkDown = false;
    if (port.adapter !== null) port.lastMac = formatMac(port.adapter.macAddress, 0);
    this.stop(port);
    forgetOvsName(port);
    this.#listener.onLost(port);
    this.#dropNic(port);
    this.#states.set(port, state, reason);
  }

  #dropNic(port: DatapathPort): void {
    const gone = sequence([() => this.#switch.disconnectNic(port.id), () => this.#switch.deleteNic(port.id)]);
    gone.whenSettled((operation) => {
      if (operation.error !== null) this.#listener.onWarning(port.name, operation.error.message);
    });
  }

  /**
   * Open the adapter of a port again: how its packets come in has changed. A port that cannot be opened is tried again, as others are.
   * @throws Failure, SystemError, KeeperError; the port is failed then
   */
  reopen(port: DatapathPort): void {
    const { adapter, config } = port;
    if (config.kind === 'tap' && adapter !== null) {
      this.#offload.end(port);
      this.#startTap(port, adapter);
    }
    if (adapter === null || config.kind !== 'netdev') return;
    port.lastMac = formatMac(adapter.macAddress, 0);
    this.stop(port);
    let opened: Adapter | null = null;
    try {
      opened = this.#open(port.name, config, true, port.isNewcomer);
      this.#start(port, opened);
    } catch (error) {
      this.#detach(port, 'failed', failureOf(error).message);
      opened?.close();
      throw error;
    }
  }

  /** See how the device of a port is. What the kernel does not tell at present, as when there is no descriptor left, is asked again. */
  reexamine(port: DatapathPort): void {
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
      this.#states.update(port);
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
    this.#states.update(port);
  }

  #reattach(port: DatapathPort): void {
    let adapter: Adapter;
    const { config, lastMac } = port;
    if (port.state === 'missing') port.isNewcomer = true;
    try {
      // A TAP that is made anew keeps its address, so that its neighbours need not ask again.
      const again = config.kind === 'tap' && lastMac !== null ? { ...config, mac: config.mac ?? lastMac } : config;
      adapter = this.#open(port.name, again, true, port.isNewcomer);
    } catch (error) {
      this.#states.set(port, 'failed', failureOf(error).message);
      return;
    }
    this.attach(port, adapter).whenSettled((operation) => {
      if (operation.error === null) return;
      if (port.adapter === null) adapter.close();
      this.#states.set(port, 'failed', operation.error.message);
    });
  }

  /** What could not be opened, because somebody else had it or its namespace was not there, is tried again now and then. */
  retry(): void {
    for (const port of this.#around.ports()) {
      if (port.isUnseen || (!port.attached && port.state === 'failed')) this.reexamine(port);
      // No news come from a namespace that could be given no id.
      else if (port.isLinkDown && port.isAway) this.reexamine(port);
      // Files fail without news.
      else if (port.adapter instanceof PcapAdapter) this.#states.update(port);
    }
    this.#stations.round();
  }

  /** @param isNewcomer see DatapathPort.isNewcomer */
  #open(name: string, config: Port, up: boolean, isNewcomer: boolean): Adapter {
    switch (config.kind) {
      case 'netdev':
        return openNetdev(name, config, this.#takes(config) ? null : this.#ringSlots(), isNewcomer);
      case 'tap':
        return openTapPort(name, config, up);
      case 'memory':
        return openMemory(name);
      case 'pcap':
        this.#checkFiles(name, config);
        return openPcap(name, config);
    }
  }

  #ringSlots(): number {
    let rings = 0;
    for (const { adapter } of this.#around.ports()) if (adapter instanceof PacketSocket && adapter.hasRing) rings += 1;
    return ringSlots(rings);
  }

  /** @throws Failure for a file that is another port's */
  #checkFiles(name: string, config: Port): void {
    const others = [...this.#around.ports()].map((port) => [port.name, port.config] as const);
    const problem = captureFileProblem(name, config, others);
    if (problem === null) return;
    throw new Failure('refused', problem, 'give each port a file of its own');
  }

  /** Look at all: something changed about the links of this host. */
  reexamineAll(): void {
    for (const port of this.#around.ports()) this.reexamine(port);
  }

  /** Something changed in another namespace. */
  reexamineElsewhere(): void {
    for (const port of this.#around.ports()) if (isElsewhere(port.adapter)) this.reexamine(port);
  }

  /** Something was said of the interface with this index, in whichever network namespace; -1 for any. */
  heard(index: number): void {
    this.#stations.heard(index);
  }

  /** All news have been read, and the devices looked at. */
  followStations(): void {
    this.#stations.follow();
  }

  close(): void {
    this.#stations.close();
    this.#isolation.close();
    for (const port of this.#around.ports()) {
      renameForOvs(port, undefined);
      this.stop(port);
    }
  }
}

/** A TAP in another namespace than ours. */
function isElsewhere(adapter: Adapter | null): boolean {
  return adapter instanceof Tap && adapter.isElsewhere;
}

/** Why a port whose interface is not there waits. */
export function missingReason(config: Port): string {
  return `there is no interface ${config.device}; the port waits for it`;
}
