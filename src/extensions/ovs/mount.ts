/**
 * The datapath as a forwarding extension of the switch. Packets that come down are taken by the vport of their source port;
 * outputs become destinations. A packet that no action changes goes on as it is, whatever the number of its outputs; changed
 * copies, and what programs send, are originated here. Neighbours: mount-port.ts is a port, mount-host.ts what the daemon gives.
 */
import { Drop, dropName, type FlowRegistry, flowRegistryOf } from '../../flow/index.ts';
import { Batch, ClonePool, type Packet, PacketPool } from '../../net/index.ts';
import {
  ContextFlag,
  contextOf,
  DropReason,
  type ExplainedCopy,
  type ExplainedDestination,
  type Explanation,
  type Extension,
  type ExtensionFactory,
  type ExtensionHandle,
  type ForwardingContext,
  type JsonValue,
  PacketFlag,
  RuleError,
} from '../../switch/index.ts';
import { runOvsCommand } from './dpctl.ts';
import { explainFrame } from './explain.ts';
import type { CarriedFlow, DeviceKind, OvsDevice, OvsHost } from './host.ts';
import { type OvsSurroundings, surroundingsOf } from './mount-host.ts';
import { MountedPort, type PortTransmitter } from './mount-port.ts';
import { type OvsConfiguration, parseOvsConfiguration } from './mount-settings.ts';
import { OvsServer } from './netlink-server.ts';
import type { OvsDatapath } from './ovs-datapath.ts';
import type { Buffers } from './plain.ts';
import { describeServer } from './status.ts';

const BUFFERS = { packets: 4096, bufferBytes: 2304, largePackets: 128, largeBufferBytes: 66_048, clones: 4096 };

/** The port that has the counts of packets whose port is gone. */
const NO_PORT = 0;

class OvsExtension implements Extension, OvsHost, PortTransmitter {
  readonly #handle: ExtensionHandle;
  readonly #surroundings: OvsSurroundings;
  readonly #socket: string;
  readonly #buffers: Buffers;
  readonly #server: OvsServer;
  readonly flows: FlowRegistry | null;
  /** By the switch's port number. */
  readonly #ports: (MountedPort | undefined)[] = [];
  readonly #reasons = new Map<number, number>();
  readonly #noVport: number;
  /** Packets of one source on their way into the datapath. */
  readonly #work = new Batch();
  /** Packets of ours, with destinations, that go down at the next flush. */
  readonly #originated = new Batch();
  readonly #dropped = new Batch();
  /** Packets of the present list that the datapath has taken, in their order, and why each went nowhere; NONE when it did not. */
  readonly #taken: Packet[] = [];
  readonly #fates: number[] = [];
  /** Why the present packet and its copies were dropped. */
  readonly #refusals: number[] = [];
  /** Why the switch does not take an output. */
  #verdict: number = DropReason.NONE;
  #sourcePortId = 0;
  #sourceNicIndex = 0;
  #listener: { close(): void } | null = null;
  #unwatch: (() => void) | null = null;

  constructor(handle: ExtensionHandle, configuration: OvsConfiguration) {
    this.#handle = handle;
    this.#surroundings = surroundingsOf(handle.host.services);
    this.#socket = configuration.socket;
    this.flows = flowRegistryOf(handle.host.services);
    this.#noVport = handle.registerDropReason('NO_VPORT', 'The port was not added to a bridge of Open vSwitch.');
    this.#buffers = {
      pool: new PacketPool({ packets: BUFFERS.packets, bufferBytes: BUFFERS.bufferBytes }),
      largePool: new PacketPool({ packets: BUFFERS.largePackets, bufferBytes: BUFFERS.largeBufferBytes }),
      clones: new ClonePool(BUFFERS.clones),
    };
    this.#server = new OvsServer(this, this.#buffers);
  }

  restart(): void {
    this.#unwatch ??= this.#handle.shortcuts.watch((portId) => {
      // Whether a port is open to flows is nothing that is learned on it.
      if (portId !== 0) return;
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

  nowMs(): number {
    return this.#surroundings.nowMs();
  }

  open(kind: DeviceKind, name: string, receive: (batch: Batch) => void, onGone: () => void = () => {}): OvsDevice {
    const port = new MountedPort(this.#surroundings.open(kind, name, onGone), this, receive);
    this.#ports[port.portId] = port;
    return port;
  }

  isOpen(portId: number): boolean {
    return this.#handle.shortcuts.isOpen(portId);
  }

  /** Told by the datapath: packets of a flow went another way. */
  carried({ sourcePortId, isFirst, outputs, isSentOn, drop }: CarriedFlow, packets: number, bytes: number): void {
    const { shortcuts } = this.#handle;
    const source = Math.max(sourcePortId, NO_PORT);
    if (isFirst) shortcuts.arrived(source, packets, bytes);
    const reached = outputs.filter((portId) => portId !== -1);
    let missing = (outputs.length - reached.length) * packets;
    if (isSentOn) for (const portId of reached) shortcuts.carriedCopies(portId, packets, bytes);
    else if (reached.length > 0) shortcuts.delivered(reached, packets, bytes);
    else {
      shortcuts.dropped(source, this.#reasonOf(drop || Drop.PORT_MISSING), packets);
      if (missing > 0) missing -= packets;
    }
    if (missing > 0) shortcuts.droppedCopies(source, this.#reasonOf(Drop.PORT_MISSING), missing);
  }

  closed(port: MountedPort): void {
    this.#ports[port.portId] = undefined;
  }

  /** Told by the datapath: a packet or a copy of one was dropped. What it led to is told by {@link ended}. */
  dropped(reason: number): void {
    this.#refusals.push(this.#verdict === DropReason.NONE ? this.#reasonOf(reason) : this.#verdict);
    this.#verdict = DropReason.NONE;
  }

  /** Told by the datapath. What it dropped but the packet itself were copies. */
  ended(reason: number, executedPortId?: number): void {
    const refusals = this.#refusals;
    const isTaken = executedPortId === undefined;
    // What a program hands in came in before, and was counted then.
    const fate = reason !== 0 && isTaken ? (refusals.pop() ?? this.#reasonOf(reason)) : DropReason.NONE;
    if (isTaken) this.#fates.push(fate);
    const portId = isTaken ? this.#sourcePortId : Math.max(executedPortId, NO_PORT);
    for (const each of refusals) this.#handle.shortcuts.droppedCopies(portId, each, 1);
    refusals.length = 0;
  }

  onIngress(batch: Batch, flags: number): void {
    const { packets, count } = batch;
    let i = 0;
    while (i < count) {
      const first = contextOf(packets[i]);
      let end = i + 1;
      if ((flags & PacketFlag.SINGLE_SOURCE) !== 0) end = count;
      else while (end < count && sameSource(contextOf(packets[end]), first)) end += 1;
      this.#take(packets, i, end, first);
      i = end;
    }
    this.#settle(batch, flags);
  }

  /** Run packets of one source through their vport. */
  #take(packets: readonly Packet[], from: number, end: number, source: ForwardingContext): void {
    const port = this.#ports[source.sourcePortId];
    if (port === undefined) return;
    this.#sourcePortId = source.sourcePortId;
    this.#sourceNicIndex = source.sourceNicIndex;
    const work = this.#work;
    for (let i = from; i < end; i += 1) {
      const packet = packets[i];
      if (contextOf(packet).verdict !== DropReason.NONE) continue;
      // The switch's reference stays with the list, so that whatever changes the packet changes a copy.
      packet.hold();
      work.push(packet);
      this.#taken.push(packet);
    }
    try {
      port.receive(work);
    } finally {
      this.#sourcePortId = 0;
      this.#sourceNicIndex = 0;
    }
  }

  /** Pass on what has destinations, and end the rest: dropped, or sent up, or sent as changed copies. */
  #settle(batch: Batch, flags: number): void {
    const { packets, count } = batch;
    const rest = this.#work;
    let kept = 0;
    let next = 0;
    for (let i = 0; i < count; i += 1) {
      const packet = packets[i];
      const context = contextOf(packet);
      let reason: number = DropReason.NONE;
      if (this.#taken[next] === packet) {
        reason = this.#fates[next] ?? DropReason.NONE;
        next += 1;
      }
      if (context.numDestinations !== 0) {
        packets[kept] = packet;
        kept += 1;
      } else if (context.verdict !== DropReason.NONE) this.#drop(packet, context, context.verdict);
      else if (this.#ports[context.sourcePortId] === undefined) this.#drop(packet, context, this.#noVport);
      else if (reason !== DropReason.NONE) this.#drop(packet, context, reason);
      else rest.push(packet);
    }
    this.#taken.length = 0;
    this.#fates.length = 0;
    batch.count = kept;
    if (rest.count !== 0) this.#handle.consumeIngress(rest);
    if (kept !== 0) this.#handle.sendIngress(batch, flags & PacketFlag.SINGLE_SOURCE);
  }

  #drop(packet: Packet, context: ForwardingContext, reason: number): void {
    this.#dropped.push(packet);
    this.#handle.dropIngress(this.#dropped, context.sourcePortId, reason, true);
  }

  /** The switch's number for a reason of the datapath. */
  #reasonOf(drop: number): number {
    let reason = this.#reasons.get(drop);
    if (reason === undefined) {
      const name = dropName(drop);
      const text = `The Open vSwitch datapath dropped it: ${name.replaceAll('-', ' ')}.`;
      reason = this.#handle.registerDropReason(name.toUpperCase().replaceAll('-', '_'), text);
      this.#reasons.set(drop, reason);
    }
    return reason;
  }

  forward(packet: Packet, portId: number): boolean {
    if (packet.attachment === null && !this.#originate(packet)) return false;
    const { policies } = this.#handle;
    const verdict = policies.egressVerdict(packet, portId);
    if (verdict !== DropReason.NONE) {
      this.#verdict = verdict;
      return false;
    }
    this.#handle.addDestination(packet, portId, 0, policies.destinationFlags(portId));
    return true;
  }

  /** Give a packet of ours a context, and the source of what is being received. */
  #originate(packet: Packet): boolean {
    const handle = this.#handle;
    if (!handle.allocateContext(packet)) {
      this.#verdict = DropReason.NO_CONTEXT;
      return false;
    }
    if (this.#sourcePortId !== 0) handle.setSource(packet, this.#sourcePortId, this.#sourceNicIndex);
    const { flags, verdict: malformed } = contextOf(packet);
    if ((flags & ContextFlag.MALFORMED) !== 0) {
      handle.freeContext(packet);
      this.#verdict = malformed;
      return false;
    }
    packet.hold();
    this.#originated.push(packet);
    return true;
  }

  /** Send what was originated. */
  flush(): void {
    const batch = this.#originated;
    const { packets, count } = batch;
    if (count === 0) return;
    let kept = 0;
    for (let i = 0; i < count; i += 1) {
      const packet = packets[i];
      if (contextOf(packet).numDestinations !== 0) {
        packets[kept] = packet;
        kept += 1;
      } else {
        this.#handle.freeContext(packet);
        packet.release();
      }
    }
    batch.count = kept;
    if (kept === 0) return;
    try {
      this.#handle.injectIngress(batch, PacketFlag.NONE);
    } catch (error) {
      // Between pause and restart nothing can be sent.
      if (!(error instanceof RuleError)) throw error;
      this.#abandon(batch);
    }
  }

  #abandon(batch: Batch): void {
    for (let i = 0; i < batch.count; i += 1) {
      const packet = batch.packets[i];
      const { sourcePortId } = contextOf(packet);
      this.#handle.shortcuts.droppedCopies(sourcePortId, DropReason.STACK_PAUSED, 1);
      this.#handle.freeContext(packet);
      packet.release();
    }
    batch.count = 0;
  }

  explain(packet: Packet, context: ForwardingContext): Explanation {
    if (context.verdict !== DropReason.NONE) return { lines: [], drop: context.verdict };
    const place = this.#placeOf(context.sourcePortId);
    if (place === null) return { lines: [], drop: this.#noVport };
    const { datapath, number } = place;
    const { lines, outputs, handedUp, drop } = explainFrame(datapath, packet, number, this.#buffers);
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
    const isAlone = outputs.length === 0 && !handedUp;
    return {
      lines: [where, ...lines],
      destinations,
      excluded,
      copies,
      ...(handedUp ? { handedTo: 'ovs-vswitchd' } : {}),
      ...(isAlone && drop !== 0 ? { drop: this.#reasonOf(drop) } : {}),
    };
  }

  /** The datapath and the number in it of a port of the switch; null for one that is on no bridge. */
  #placeOf(portId: number): { datapath: OvsDatapath; number: number } | null {
    for (const datapath of this.#server.datapaths.values()) {
      for (const { device, number } of datapath.ports.values()) {
        if (device?.portId === portId) return { datapath, number };
      }
    }
    return null;
  }

  status(): JsonValue {
    return describeServer(this.#server, this.#socket);
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

function sameSource(a: ForwardingContext, b: ForwardingContext): boolean {
  return a.sourcePortId === b.sourcePortId && a.sourceNicIndex === b.sourceNicIndex;
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
