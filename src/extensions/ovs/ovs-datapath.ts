/**
 * One datapath of Open vSwitch: ports, features and upcall sockets around flow/'s Datapath. The families in family/ change it at the
 * wish of programs; packets come in from devices and leave through them.
 */

import type { Connections } from '../../connections/index.ts';
import {
  Datapath,
  Drop,
  type FlowHooks,
  type FlowKey,
  type FlowRegistration,
  inPortOf,
  KEY_WORDS,
  outcomeOf,
  type ResumeBytes,
  Userspace,
  UserspaceFlag,
  Word,
} from '../../flow/index.ts';
import { type Batch, type Packet, type PortId, toKeyPort } from '../../net/index.ts';
import { Feature, PacketHash, PID_BY_CPU, PORTS_MAXIMUM, VportType } from './abi.ts';
import type { PseudoDevice } from './device/pseudo-device.ts';
import { Errno, OvsError } from './errors.ts';
import type { OvsDevice, OvsHost } from './host.ts';
import { Meters } from './meters.ts';
import { Outbound } from './outbound.ts';
import type { Buffers } from './plain.ts';
import { asOvsPort, LOCAL_PORT, NO_PORT, type OvsPort, toOvsPort } from './port-number.ts';
import type { TunnelledDatapath } from './tunnel/place.ts';
import { isTunnelType, NOT_TUNNELLED, type Tunnels } from './tunnel/tunnels.ts';
import { type EgressPort, UpcallSender, type UserspaceAction } from './upcall.ts';
import { Vport } from './vport.ts';

/** What a new port is to be. */
export interface VportRequest {
  readonly type: number;
  readonly name: string;
  readonly upcallPids: readonly number[];
  /** UDP port of a tunnel. */
  readonly destinationPort: number;
  /** Whether a VXLAN tunnel carries group policies. */
  readonly groupPolicy?: boolean;
}

/** What a program says of a packet that it hands in to be executed, besides its key: upcalls on the way carry it. */
export interface Execution {
  /** The 64 bits of PacketAttribute.HASH; null to compute it. */
  readonly hash: readonly [low: number, high: number] | null;
  /** The socket for upcalls; 0 for the usual. */
  readonly upcallPid: number;
  /** A program tries what the datapath can: what becomes of the packet is nobody's loss. */
  readonly isProbe?: boolean;
}

/** A packet that was carried elsewhere, or came through a tunnel, goes the usual way, but was counted where it came in. */
const RESUMED: Execution = { hash: null, upcallPid: 0 };

export class OvsDatapath implements FlowHooks, TunnelledDatapath {
  readonly name: string;
  readonly ports = new Map<OvsPort, Vport>();
  /** The same ports, for packets. */
  readonly #byNumber: (Vport | undefined)[] = [];
  readonly meters = new Meters();
  readonly flows: Datapath;
  /** All that tells outputs from each other is the port. */
  readonly outputIgnoresKey = true;
  /** Bits of Feature. */
  userFeatures = 0;
  /** Upcall sockets by processor, for Feature.DISPATCH_UPCALL_PER_CPU. */
  cpuPids: readonly number[] = [];
  /** Entries of the mask cache as asked for; the flow cache here has its own size. */
  masksCacheSize = 256;
  /** The number that programs name the datapath by: that of its local port's device when it was made. */
  interfaceIndex = 0;
  readonly #host: OvsHost;
  readonly #device: PseudoDevice;
  readonly #registration: FlowRegistration | null;
  readonly #carriedKey = new Uint32Array(KEY_WORDS);
  readonly #onPortGone: (datapath: OvsDatapath, port: Vport) => void;
  readonly #tunnels: Tunnels | null;
  /** Of the packet that is being executed for a program, and the port that its key names. */
  #execution: Execution | null = null;
  #executedPort: OvsPort = LOCAL_PORT;
  readonly #upcalls: UpcallSender;
  readonly #outbound: Outbound;
  #depth = 0;
  /** Something waits to be sent that packets which are handed down would overtake. */
  #hasSent = false;

  /**
   * @param onPortGone told when a port's device has vanished; is to remove the port, or for the local port the datapath
   * @param tunnels of all datapaths; null where nothing can be sent through tunnels
   */
  constructor(
    name: string,
    host: OvsHost,
    device: PseudoDevice,
    buffers: Buffers,
    onPortGone: (datapath: OvsDatapath, port: Vport) => void,
    tunnels: Tunnels | null,
  ) {
    this.name = name;
    this.#host = host;
    this.#device = device;
    this.#onPortGone = onPortGone;
    this.#tunnels = tunnels;
    this.#upcalls = new UpcallSender(device, buffers);
    this.#outbound = new Outbound(buffers);
    const { connections } = host;
    this.flows = new Datapath({ hooks: this, nowMs: () => host.nowMs(), connections, ...buffers });
    this.#registration =
      host.flows?.register({
        name,
        returnsWith: 'ovs',
        table: this.flows.table,
        hashSecret: this.flows.hashSecret,
        portIdOf: (number: OvsPort) => this.#portIdOf(number),
        takesOutput: (portId) => this.#takesOutput(portId),
        numberOf: (portId) => this.#numberOf(portId),
        carried: (slot, packets, bytes) => this.#carried(slot, packets, bytes),
        resume: (packet, portId, record) => this.#resume(packet, portId, record),
      }) ?? null;
  }

  /** Ports or what lies between them and the datapath have changed. */
  portsChanged(): void {
    this.#registration?.portsChanged();
  }

  /** Packets of a flow went another way: they are the switch's packets all the same. */
  #carried(slot: number, packets: number, bytes: number): void {
    const { table } = this.flows;
    table.readKey(slot, this.#carriedKey);
    // Where its packets came in is known of a flow of one port.
    const isOnePort = table.maskOf(slot).words[Word.IN_PORT] === 0xffff_ffff;
    const actions = table.actionsOf(slot);
    const outcome = outcomeOf(actions, 0, actions.length);
    const flow = {
      sourcePortId: isOnePort ? this.#portIdOf(asOvsPort(inPortOf(this.#carriedKey))) : -1,
      isFirst: this.#carriedKey[Word.RECIRC_ID] === 0,
      outputs: (outcome?.outputs ?? []).map((number) => this.#portIdOf(asOvsPort(number))),
      // Of a list that leads somewhere else with each packet nothing is carried.
      isSentOn: outcome?.isSentOn ?? true,
      drop: outcome?.drop ?? 0,
    };
    this.#host.carried?.(flow, packets, bytes);
  }

  #portIdOf(number: OvsPort): PortId | -1 {
    return this.ports.get(number)?.device?.portId ?? -1;
  }

  /** Flows that run elsewhere may not send where frames have to be looked at for those of tunnels. */
  #takesOutput(portId: PortId): boolean {
    const tunnels = this.#tunnels;
    if (tunnels === null || !tunnels.hasPorts) return true;
    for (const port of this.ports.values()) if (port.device?.portId === portId) return !tunnels.isEndpoint(port);
    return true;
  }

  #numberOf(portId: PortId): OvsPort | -1 {
    for (const port of this.ports.values()) if (port.device?.portId === portId) return port.number;
    return -1;
  }

  get connections(): Connections {
    return this.#host.connections;
  }

  get nowMs(): number {
    return this.#host.nowMs();
  }

  portNamed(name: string): Vport | undefined {
    for (const port of this.ports.values()) if (port.name === name) return port;
    return undefined;
  }

  /** Whether there is a tunnel of that type at that UDP port. */
  hasTunnel(type: number, destinationPort: number): boolean {
    for (const port of this.ports.values()) {
      if (port.type === type && port.destinationPort === destinationPort) return true;
    }
    return false;
  }

  /** The lowest port number that is free. @throws OvsError EFBIG when none is */
  freeNumber(): OvsPort {
    for (let value = 1; value < PORTS_MAXIMUM; value += 1) {
      const number = toOvsPort(value);
      if (!this.ports.has(number)) return number;
    }
    throw new OvsError(Errno.EFBIG, 'all port numbers are taken');
  }

  /** Add a port. @throws OvsError, and then nothing has changed */
  addPort(number: OvsPort, request: VportRequest): Vport {
    if (this.ports.has(number)) throw new OvsError(Errno.EBUSY, `port ${number} is taken`);
    if (this.portNamed(request.name) !== undefined) throw new OvsError(Errno.EEXIST, `port ${request.name} exists`);
    const { type, name } = request;
    const isDevice = type === VportType.NETDEV || type === VportType.INTERNAL;
    const receive = (batch: Batch) => this.receive(batch, number);
    const gone = () => {
      const present = this.ports.get(number);
      if (present !== undefined && present === port) this.#onPortGone(this, present);
    };
    const kind = type === VportType.NETDEV ? 'netdev' : 'internal';
    const device = isDevice ? this.#host.open(kind, name, receive, gone) : null;
    const { upcallPids, destinationPort, groupPolicy } = request;
    const port = new Vport(number, type, name, upcallPids, device, destinationPort, groupPolicy);
    if (isTunnelType(type) && this.#tunnels?.add(this, port) === false) {
      throw new OvsError(Errno.EEXIST, `another tunnel has the transport port ${destinationPort}`);
    }
    this.#tunnels?.exitsChanged();
    this.ports.set(number, port);
    this.#byNumber[number] = port;
    if (number === LOCAL_PORT) this.interfaceIndex = device?.interfaceIndex ?? 0;
    this.#registration?.portsChanged();
    return port;
  }

  removePort(port: Vport): void {
    this.#tunnels?.exitsChanged();
    this.ports.delete(port.number);
    this.#byNumber[port.number] = undefined;
    this.#registration?.portsChanged();
    if (port.device === null) {
      this.#tunnels?.remove(port);
      return;
    }
    this.#outbound.flush();
    port.device.close();
  }

  /** Close all devices and forget all flows. */
  close(): void {
    for (const port of [...this.ports.values()]) this.removePort(port);
    this.flows.table.flush();
    this.#registration?.close();
  }

  /** Take in packets of a port. Their references pass over, and the batch is empty afterwards. */
  receive(batch: Batch, port: OvsPort): void {
    this.#depth += 1;
    try {
      this.flows.receive(batch, port);
    } finally {
      this.#leave();
    }
  }

  /** Run actions over a packet, whose reference passes over. */
  execute(packet: Packet, metadata: FlowKey, actions: Int32Array, execution: Execution): void {
    this.#depth += 1;
    this.#execution = execution;
    this.#executedPort = asOvsPort(metadata.inPort);
    try {
      this.flows.execute(packet, metadata, actions);
    } finally {
      this.#execution = null;
      this.#leave();
    }
  }

  /** Go on with a packet that was carried elsewhere; its reference passes over. */
  #resume(packet: Packet, portId: PortId, record: ResumeBytes): void {
    const found = this.#numberOf(portId);
    const number = found === -1 ? NO_PORT : found;
    const run = () => this.#beside(number, () => this.flows.resume(packet, number, record));
    if (this.#host.resume === undefined) run();
    else this.#host.resume(portId, run);
  }

  /** Do something with a packet that does not count as one that comes in, maybe within what is done with another. */
  #beside(number: OvsPort, run: () => void): void {
    const execution = this.#execution;
    const executedPort = this.#executedPort;
    this.#depth += 1;
    this.#execution = RESUMED;
    this.#executedPort = number;
    try {
      run();
    } finally {
      this.#execution = execution;
      this.#executedPort = executedPort;
      this.#leave();
    }
  }

  output(packet: Packet, number: OvsPort, key: FlowKey): void {
    const port = number < this.#byNumber.length ? this.#byNumber[number] : undefined;
    if (port === undefined) {
      this.flows.refuse(packet, Drop.PORT_MISSING);
      return;
    }
    const refusal =
      port.device === null ? this.#intoTunnel(packet, port, key) : this.#out(packet, port, port.device, key);
    if (refusal === 0) {
      this.#hasSent = true;
      return;
    }
    port.unsent += 1;
    this.flows.refuse(packet, refusal);
  }

  #intoTunnel(packet: Packet, port: Vport, key: FlowKey): number {
    return this.#tunnels === null ? Drop.TUNNEL_UNAVAILABLE : this.#tunnels.send(packet, port, key);
  }

  #out(packet: Packet, port: Vport, device: OvsDevice, key: FlowKey): number {
    if (port.type === VportType.INTERNAL && this.#tunnels?.hasPorts === true) {
      const taken = this.#tunnels.take(packet);
      if (taken !== NOT_TUNNELLED) return taken;
    }
    if (key.largestFragmentBytes === 0) return this.#outbound.send(port, device, packet);
    return this.#outbound.sendInPieces(port, device, packet, key);
  }

  /** What a packet with this key meets at the way into a tunnel: nothing is sent or asked for that is not known. */
  explainTunnel(port: Vport, key: FlowKey): { readonly text: string; readonly drop: number } {
    return (
      this.#tunnels?.explain(port, key) ?? { text: 'nothing is sent through tunnels', drop: Drop.TUNNEL_UNAVAILABLE }
    );
  }

  receiveTunnelled(packet: Packet, number: OvsPort, tunnel: Uint32Array | null, l3Type: number): void {
    this.#beside(number, () => this.flows.receiveOne(packet, number, tunnel, l3Type));
  }

  sendBy(port: Vport, device: OvsDevice, packet: Packet): number {
    this.#depth += 1;
    try {
      return this.#outbound.send(port, device, packet);
    } finally {
      this.#leave();
    }
  }

  droppedLater(reason: number): void {
    this.#host.dropped?.(reason);
    this.#host.ended?.(reason, -1);
  }

  handDown(slot: number, packet: Packet, key: FlowKey): boolean {
    // What becomes of a probe is nobody's packet.
    if (this.#hasSent || this.#execution?.isProbe === true) return false;
    if (this.#registration?.handDown?.(slot, packet, key) !== true) return false;
    this.#host.handedDown?.();
    return true;
  }

  wentOn(slot: number, lookUps: number, isCopied: boolean): void {
    this.#registration?.wentOn?.(slot, lookUps, isCopied);
  }

  miss(packet: Packet, key: FlowKey): boolean {
    const port = this.ports.get(asOvsPort(key.inPort));
    const hash = spread(key);
    let pid = this.#execution?.upcallPid ?? 0;
    if (pid === 0 && this.#dispatchesByCpu) pid = this.#pidByCpu(hash);
    if (pid === 0 && !this.#dispatchesByCpu) pid = port === undefined ? 0 : pick(port.upcallPids, hash);
    return this.#upcall(pid, packet, key, hash, null);
  }

  /** Whether a program would hear of a packet of a port that no flow matches. */
  isHeard(number: OvsPort): boolean {
    if (this.#dispatchesByCpu) return this.cpuPids.some((pid) => pid !== 0);
    return this.ports.get(number)?.upcallPids.some((pid) => pid !== 0) ?? false;
  }

  userspace(
    packet: Packet,
    key: FlowKey,
    words: Int32Array,
    at: number,
    list: { readonly from: number; readonly end: number },
    lengthBytes: number,
  ): void {
    const hash = spread(key);
    let pid = this.#execution?.upcallPid ?? 0;
    if (pid === 0) pid = words[at + Userspace.PID] >>> 0;
    if (this.#dispatchesByCpu || pid === PID_BY_CPU) pid = this.#execution?.upcallPid || this.#pidByCpu(hash);
    let egress: EgressPort | null = null;
    if ((words[at + Userspace.FLAGS] & UserspaceFlag.TUNNEL_PORT) !== 0) {
      const tunnel = this.ports.get(asOvsPort(toKeyPort(words[at + Userspace.TUNNEL_PORT])));
      if (tunnel !== undefined && tunnel.type >= VportType.GRE) egress = { destinationPort: tunnel.destinationPort };
    }
    const sent = this.#upcall(pid, packet, key, hash, { words, at, list, lengthBytes, egress });
    if (!sent) this.flows.refuse(packet, Drop.UPCALL_LOST);
  }

  #upcall(pid: number, packet: Packet, key: FlowKey, hash: number, action: UserspaceAction | null): boolean {
    const refused = this.#device.refusedUpcalls;
    const sent = this.#upcalls.send(this.interfaceIndex, pid, packet, key, {
      action,
      hash: this.#execution?.hash ?? [hash, PacketHash.SOFTWARE | PacketHash.LAYER_4],
      // Sockets of ports are waited for by epoll.
      isBundled: this.#dispatchesByCpu,
    });
    const port = this.ports.get(asOvsPort(key.inPort));
    if (port !== undefined) {
      if (sent) port.upcallsSent += 1;
      else port.upcallsLost += 1;
      if (this.#device.refusedUpcalls !== refused && port.device?.portId !== undefined)
        this.#host.upcallRefused?.(port.device.portId);
    }
    return sent;
  }

  dropped(_packet: Packet, reason: number): void {
    if (this.#execution?.isProbe === true) return;
    this.#host.dropped?.(reason);
  }

  ended(reason: number): void {
    if (this.#execution === null) this.#host.ended?.(reason);
    else if (this.#execution.isProbe !== true) this.#host.ended?.(reason, this.#portIdOf(this.#executedPort));
  }

  meter(id: number, packet: Packet): boolean {
    return this.meters.allows(id, packet.length, this.#host.nowMs());
  }

  get #dispatchesByCpu(): boolean {
    return (this.userFeatures & Feature.DISPATCH_UPCALL_PER_CPU) !== 0;
  }

  /** One thread serves all packets, so flows are spread over the sockets instead of processors: a flow's upcalls stay in order. */
  #pidByCpu(hash: number): number {
    return pick(this.cpuPids, hash);
  }

  #leave(): void {
    this.#depth -= 1;
    if (this.#depth > 0) return;
    this.#hasSent = false;
    this.#outbound.flush();
    this.#tunnels?.flush();
    this.#device.sendUpcalls();
  }
}

/** One of some sockets; 0 when there is none. */
function pick(pids: readonly number[], hash: number): number {
  return pids.length === 0 ? 0 : pids[hash % pids.length];
}

/** A number that is equal for the packets of one connection and direction. */
function spread(key: FlowKey): number {
  const words = key.words;
  let hash = words[Word.IN_PORT] ^ words[Word.MAC + 1] ^ words[Word.MAC + 2];
  for (let i = Word.PORTS; i < Word.IPV6_LABEL; i += 1) hash ^= words[i];
  hash = Math.imul(hash ^ (hash >>> 16), 0x45d9_f3b5);
  return (hash ^ (hash >>> 13)) >>> 0;
}
