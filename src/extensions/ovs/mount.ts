/**
 * The datapath as a forwarding extension of the switch. Packets that come down are taken by the vport of their source
 * port, as FlowForwarding of the switch does it. Neighbours: mount-port.ts is a port, mount-host.ts what the daemon gives.
 */
import { Connections, connectionsOf } from '../../connections/index.ts';
import { flowRegistryOf } from '../../flow/index.ts';
import { type Batch, ClonePool, hostTablesOf, type Packet, PacketPool, type PortId } from '../../net/index.ts';
import {
  type CarriedPackets,
  DropReason,
  type ExplainedCopy,
  type ExplainedDestination,
  type Explanation,
  type Extension,
  type ExtensionFactory,
  type ExtensionHandle,
  FlowForwarding,
  type ForwardingContext,
  type JsonValue,
} from '../../switch/index.ts';
import { OfferedDatapaths } from './carried-megaflows.ts';
import { runOvsCommand } from './dpctl.ts';
import { explainFrame } from './explain.ts';
import type { DeviceKind, OvsDevice, OvsHost, TunnelSurroundings } from './host.ts';
import { type OvsSurroundings, surroundingsOf } from './mount-host.ts';
import { MountedPort, type PortTransmitter } from './mount-port.ts';
import { type OvsConfiguration, parseOvsConfiguration } from './mount-settings.ts';
import { OvsServer } from './netlink-server.ts';
import type { OvsDatapath } from './ovs-datapath.ts';
import type { Buffers } from './plain.ts';
import type { OvsPort } from './port-number.ts';
import { describeServer, type OvsStatus } from './status.ts';

const BUFFERS = { packets: 4096, bufferBytes: 2304, largePackets: 128, largeBufferBytes: 66_048, clones: 4096 };

class OvsExtension implements Extension, OvsHost, PortTransmitter {
  readonly #handle: ExtensionHandle;
  readonly #surroundings: OvsSurroundings;
  readonly #socket: string;
  readonly #buffers: Buffers;
  readonly #server: OvsServer;
  readonly connections: Connections;
  readonly flows: OfferedDatapaths | null;
  readonly tunnels: TunnelSurroundings | null;
  /** By the switch's port number. */
  readonly #ports: (MountedPort | undefined)[] = [];
  readonly #noVport: number;
  readonly #forwarding: FlowForwarding;
  #listener: { close(): void } | null = null;
  #unwatch: (() => void) | null = null;

  constructor(handle: ExtensionHandle, configuration: OvsConfiguration) {
    this.#handle = handle;
    this.#surroundings = surroundingsOf(handle.host.services);
    const { services } = handle.host;
    this.connections = connectionsOf(services) ?? new Connections({ nowMs: () => this.#surroundings.nowMs() });
    this.#socket = configuration.socket;
    this.#noVport = handle.registerDropReason('NO_VPORT', 'The port was not added to a bridge of Open vSwitch.');
    this.#buffers = {
      pool: new PacketPool({ packets: BUFFERS.packets, bufferBytes: BUFFERS.bufferBytes }),
      largePool: new PacketPool({ packets: BUFFERS.largePackets, bufferBytes: BUFFERS.largeBufferBytes }),
      clones: new ClonePool(BUFFERS.clones),
    };
    const hostTables = hostTablesOf(services);
    this.tunnels = hostTables === null ? null : this.#tunnelsBy(() => hostTables.tables());
    this.#server = new OvsServer(this, this.#buffers);
    this.#forwarding = new FlowForwarding(handle, {
      hasPort: (portId) => this.#ports[portId] !== undefined,
      receive: (batch, portId) => this.#ports[portId]?.receive(batch),
      unknownPort: this.#noVport,
      describe: (text) => text,
    });
    const registry = flowRegistryOf(handle.host.services);
    this.flows = registry === null ? null : new OfferedDatapaths(handle, registry, this.#forwarding);
  }

  #tunnelsBy(tables: TunnelSurroundings['tables']): TunnelSurroundings {
    const surroundings = this.#surroundings;
    return {
      tables,
      openInterface: (interfaceIndex) => surroundings.openInterface?.(interfaceIndex) ?? null,
      warn: (message) => surroundings.warn?.(message),
    };
  }

  restart(): void {
    this.#unwatch ??= this.#handle.shortcuts.watch((_portId, alsoOut) => {
      // Whether a port is open to flows is nothing that is learned on it.
      if (!alsoOut) return;
      for (const datapath of this.#server.datapaths.values()) datapath.portsChanged();
    });
    this.#listener ??= this.#surroundings.listen(this.#socket, (transport) => this.#server.device.accept(transport));
  }

  detach(): void {
    this.#unwatch?.();
    this.#unwatch = null;
    this.#listener?.close();
    this.#listener = null;
    this.#server.close();
  }

  /** As the handle's timers: in the next turn of the loop at the earliest. */
  later(work: () => void): void {
    this.#handle.setTimer(1, work);
  }

  nowMs(): number {
    return this.#surroundings.nowMs();
  }

  open(kind: DeviceKind, name: string, receive: (batch: Batch) => void, onGone: () => void = () => {}): OvsDevice {
    const port = new MountedPort(this.#surroundings.open(kind, name, onGone), this, receive);
    this.#ports[port.portId] = port;
    return port;
  }

  /** Told by the datapath: packets of a flow went another way. */
  carried(flow: CarriedPackets, packets: number, bytes: number): void {
    this.#forwarding.carried(flow, packets, bytes);
  }

  upcallRefused(portId: PortId): void {
    this.#surroundings.upcallRefused?.(portId);
  }

  resume(portId: PortId | -1, run: () => void): void {
    this.#forwarding.resume(portId, run);
  }

  handedDown(): void {
    this.#forwarding.handedDown();
  }

  closed(port: MountedPort): void {
    this.#ports[port.portId] = undefined;
  }

  /** Told by the datapath; see FlowForwarding, likewise below. */
  dropped(reason: number): void {
    this.#forwarding.dropped(reason);
  }

  ended(reason: number, executedPortId?: PortId | -1): void {
    this.#forwarding.ended(reason, executedPortId);
  }

  onIngress(batch: Batch, flags: number): void {
    this.#forwarding.onIngress(batch, flags);
  }

  forward(packet: Packet, portId: PortId): boolean {
    return this.#forwarding.forward(packet, portId);
  }

  flush(): void {
    this.#forwarding.flush();
  }

  explain(packet: Packet, context: ForwardingContext): Explanation {
    if (context.verdict !== DropReason.NONE) return { lines: [], drop: context.verdict };
    const place = this.#placeOf(context.sourcePortId);
    if (place === null) return { lines: [], drop: this.#noVport };
    const { datapath, number } = place;
    const { lines, outputs, handedUp, isSentByTunnel, drop } = explainFrame(datapath, packet, number, this.#buffers);
    const destinations: ExplainedDestination[] = [];
    const excluded: { portId: number; reason: number }[] = [];
    const copies: ExplainedCopy[] = [];
    const { policies } = this.#handle;
    for (const { port, changed } of outputs) {
      const portId = port.device?.portId ?? -1;
      if (portId === -1) continue;
      const destination = { portId, nicIndex: 0, flags: policies.destinationFlags(portId) };
      if (changed === null) {
        destinations.push(destination);
        const reason = policies.egressVerdict(packet, portId);
        if (reason !== DropReason.NONE) excluded.push({ portId, reason });
      } else addCopy(copies, changed, destination);
    }
    const where = `port ${number} of the datapath ${datapath.name}`;
    const isAlone = outputs.length === 0 && !handedUp && !isSentByTunnel;
    return {
      lines: [where, ...lines],
      destinations,
      excluded,
      copies,
      ...(handedUp ? { handedTo: 'ovs-vswitchd' } : isSentByTunnel ? { handedTo: 'a tunnel' } : {}),
      ...(isAlone && drop !== 0 ? { drop: this.#forwarding.reasonOf(drop) } : {}),
    };
  }

  /** The datapath and the number in it of a port of the switch; null for one that is on no bridge. */
  #placeOf(portId: PortId): { datapath: OvsDatapath; number: OvsPort } | null {
    for (const datapath of this.#server.datapaths.values()) {
      for (const { device, number } of datapath.ports.values()) {
        if (device?.portId === portId) return { datapath, number };
      }
    }
    return null;
  }

  status(): OvsStatus {
    return describeServer(this.#server, this.#socket, (datapath) => this.flows?.status(datapath.flows.table) ?? null);
  }

  command(name: string, args: JsonValue): JsonValue {
    return runOvsCommand(this.#server, name, args);
  }
}

/** Add a changed copy, which is one with the copy before it when it is the same frame. */
function addCopy(copies: ExplainedCopy[], frame: Uint8Array, destination: ExplainedDestination): void {
  const text = Array.from(frame, (byte) => byte.toString(16).padStart(2, '0')).join('');
  const last = copies.at(-1);
  if (last?.frame === text)
    copies[copies.length - 1] = { frame: text, destinations: [...last.destinations, destination] };
  else copies.push({ frame: text, destinations: [destination] });
}

/** The built-in forwarding extension `ovs`. */
export const ovsExtension: ExtensionFactory<OvsConfiguration> = {
  descriptor: {
    name: 'ovs',
    type: 'forwarding',
    version: '1.0.0',
    description: 'forwards as Open vSwitch says',
  },
  parseConfiguration: parseOvsConfiguration,
  create(handle: ExtensionHandle, configuration: OvsConfiguration): Extension {
    return new OvsExtension(handle, configuration);
  },
};
