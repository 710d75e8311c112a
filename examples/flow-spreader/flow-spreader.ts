/**
 * A forwarding extension: one port is the uplink, all others are workers, such as several instances of an intrusion detection system
 * or of a proxy. A flow from the uplink goes to one worker, chosen by a hash that is the same in both directions; what a worker
 * sends goes to the uplink. It shows how to choose destinations, keep to the standard policies, and follow ports with OIDs.
 */
import { Batch, HeaderOffsets, IpProtocol, type Packet } from 'millrace/net';
import {
  DropReason,
  type Extension,
  type ExtensionFactory,
  type ExtensionHandle,
  type JsonValue,
  type NicParameters,
  type OidAction,
  type OidRequest,
  type PortParameters,
  type Status,
} from 'millrace/switch';

interface Configuration {
  /** Name of the uplink port. */
  readonly uplink: string;
}

function parseConfiguration(value: unknown): Configuration {
  const given: Readonly<Record<string, unknown>> = { ...(value as object | null) };
  const unknown = Object.keys(given).find((key) => key !== 'uplink');
  if (unknown !== undefined) throw new Error(`unknown key "${unknown}"; there is only uplink`);
  if (typeof given.uplink !== 'string' || given.uplink === '') throw new Error('uplink: must be the name of a port');
  return { uplink: given.uplink };
}

class FlowSpreader implements Extension {
  readonly #handle: ExtensionHandle;
  readonly #uplinkName: string;
  readonly #headers = new HeaderOffsets();
  readonly #dropped = new Batch();
  /** Names of all ports by id, and the ids of those whose NIC is connected. */
  readonly #names = new Map<number, string>();
  readonly #connected = new Set<number>();
  /** What the datapath reads; made anew when a port comes or goes. -1: there is no uplink. */
  #uplink = -1;
  #workers: number[] = [];
  #isInformed = false;

  constructor(handle: ExtensionHandle, configuration: Configuration) {
    this.#handle = handle;
    this.#uplinkName = configuration.uplink;
  }

  restart(): void {
    this.#askForPorts();
  }

  onIngress(batch: Batch, flags: number): void {
    if (!this.#isInformed) this.#askForPorts();
    const packets = batch.packets;
    const count = batch.count;
    let kept = 0;
    for (let i = 0; i < count; i += 1) {
      const packet = packets[i];
      const sourcePortId = this.#handle.context(packet).sourcePortId;
      // The standard policies are the forwarding extension's to enforce.
      let reason = this.#handle.policies.ingressVerdict(packet);
      const isFromSource = reason !== DropReason.NONE;
      if (!isFromSource) reason = this.#forward(packet, sourcePortId);
      if (reason === DropReason.NONE) {
        packets[kept] = packet;
        kept += 1;
      } else {
        this.#dropped.push(packet);
        this.#handle.dropIngress(this.#dropped, sourcePortId, reason, isFromSource);
      }
    }
    batch.count = kept;
    // Only the flag that this extension knows to be still true is passed on.
    if (kept > 0) this.#handle.sendIngress(batch, flags);
  }

  /** Give a packet its destinations. @returns why it has none, or NONE */
  #forward(packet: Packet, sourcePortId: number): number {
    const uplink = this.#uplink;
    if (uplink === -1) return DropReason.NO_DESTINATION;
    if (sourcePortId !== uplink) return this.#send(packet, uplink);
    const workers = this.#workers;
    if (workers.length === 0) return DropReason.NO_DESTINATION;
    this.#headers.parse(packet);
    if (this.#headers.ipVersion !== 0) return this.#send(packet, choose(flowHash(packet, this.#headers), workers));
    // ARP and the like concern every worker.
    return this.#handle.policies.flood(packet) === 0 ? DropReason.NO_DESTINATION : DropReason.NONE;
  }

  #send(packet: Packet, portId: number): number {
    const { policies } = this.#handle;
    const verdict = policies.egressVerdict(packet, portId);
    if (verdict === DropReason.NONE) {
      this.#handle.addDestination(packet, portId, 0, policies.destinationFlags(portId));
    }
    return verdict;
  }

  /** A port whose NIC is about to go is no destination from here on: see the disconnect rule of the switch. */
  onOid(request: OidRequest): OidAction | undefined {
    const { oid } = request;
    if (oid.kind === 'NIC_DISCONNECT' && oid.nic.nicIndex === 0) {
      this.#connected.delete(oid.nic.portId);
      this.#sort();
    }
    return undefined;
  }

  onOidComplete(request: OidRequest, status: Status): void {
    if (status !== 'SUCCESS') return;
    const { oid } = request;
    switch (oid.kind) {
      case 'PORT_CREATE':
      case 'PORT_UPDATED':
        this.#notePort(oid.port);
        break;
      case 'PORT_DELETE':
        this.#names.delete(oid.port.portId);
        break;
      case 'NIC_CONNECT':
        this.#noteNic(oid.nic);
        break;
      default:
        return;
    }
    this.#sort();
  }

  /** The ports that were there before this extension; the switch answers once it is active. */
  #askForPorts(): void {
    if (this.#handle.query({ kind: 'SWITCH_PARAMETERS' }).value?.active !== true) return;
    const ports = this.#handle.query({ kind: 'PORT_ARRAY' }).value;
    const nics = this.#handle.query({ kind: 'NIC_ARRAY' }).value;
    if (ports === null || nics === null) return;
    for (const port of ports) this.#notePort(port);
    for (const nic of nics) if (nic.state === 'connected') this.#noteNic(nic);
    this.#sort();
    this.#isInformed = true;
  }

  #notePort(port: PortParameters): void {
    this.#names.set(port.portId, port.name);
  }

  #noteNic(nic: NicParameters): void {
    if (nic.nicIndex === 0) this.#connected.add(nic.portId);
  }

  #sort(): void {
    this.#uplink = -1;
    this.#workers = [];
    for (const [portId, name] of this.#names) {
      if (!this.#connected.has(portId)) continue;
      if (name === this.#uplinkName) this.#uplink = portId;
      else this.#workers.push(portId);
    }
  }

  status(): JsonValue {
    return {
      uplink: this.#uplink === -1 ? null : this.#uplinkName,
      workers: this.#workers.map((portId) => this.#names.get(portId) ?? null),
    };
  }
}

/** A hash of addresses, protocol and ports that does not change when source and destination are exchanged. */
function flowHash(packet: Packet, headers: HeaderOffsets): number {
  const { bytes } = packet;
  const length = headers.ipVersion === 4 ? 4 : 16;
  const source = packet.offset + headers.l3Offset + (headers.ipVersion === 4 ? 12 : 8);
  let hash = headers.ipProtocol;
  for (let i = 0; i < length; i += 1) hash = Math.imul(hash, 31) + (bytes[source + i] ^ bytes[source + length + i]);
  // Fragments but the first carry no ports, and a flow must stay together: ports count for whole packets only.
  const hasPorts = headers.ipProtocol === IpProtocol.TCP || headers.ipProtocol === IpProtocol.UDP;
  if (hasPorts && headers.fragment === 0) hash = Math.imul(hash, 31) + (headers.sourcePort ^ headers.destinationPort);
  return hash;
}

/** The worker with the highest score for this flow: when a worker goes, the flows of the others stay where they are. */
function choose(hash: number, workers: readonly number[]): number {
  let best = workers[0];
  let bestScore = -1;
  for (let i = 0; i < workers.length; i += 1) {
    let score = Math.imul(hash ^ Math.imul(workers[i], 0x9e3779b1), 0x85ebca6b);
    score = Math.imul(score ^ (score >>> 15), 0xc2b2ae35);
    score = (score ^ (score >>> 16)) >>> 0;
    if (score > bestScore) {
      bestScore = score;
      best = workers[i];
    }
  }
  return best;
}

const flowSpreader: ExtensionFactory<Configuration> = {
  descriptor: {
    name: 'flow-spreader',
    type: 'forwarding',
    version: '1.0.0',
    description: 'spreads the flows of an uplink over the other ports',
  },
  parseConfiguration,
  create: (handle, configuration) => new FlowSpreader(handle, configuration),
};

export default flowSpreader;
