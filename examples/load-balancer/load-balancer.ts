/**
 * A forwarding decider: a layer-4 load balancer. Clients speak to a virtual address; each of their connections goes to one of several back ends,
 * rewritten on its way, and so is what comes back. It shows how to rewrite, answer ARP, choose by a stable hash, remember connections, and
 * change what flows rest on by commands. Neighbour: configuration.ts.
 */
import {
  type ArpView,
  type DeciderExtension,
  type DeciderHandle,
  type Decision,
  defineDecider,
  type IpView,
  type JsonValue,
  type ObservedMap,
  type PacketView,
  type PortsView,
  type WeightedChoice,
} from 'millrace/switch';
import { type BackEnd, type Configuration, parseConfiguration } from './configuration.ts';

/** New connections begin at a back end that is up. At one that drains those go on that it has; at one that is down, none do. */
type Health = 'up' | 'draining' | 'down';
const HEALTH_OF: Readonly<Record<string, Health | undefined>> = { up: 'up', drain: 'draining', down: 'down' };

const ARP_REQUEST = 1;
const ARP_REPLY = 2;
const SYN = 0x02;
const ACK = 0x10;

class LoadBalancer implements DeciderExtension {
  readonly #handle: DeciderHandle;
  readonly #given: Configuration;
  readonly #backEnds = new Map<string, BackEnd>();
  readonly #health: ObservedMap<Health>;
  /** Back ends that are up, by name. */
  readonly #open: WeightedChoice<string>;
  /** The back end of each connection, by the client's address and port. Decisions rest on the entry of their connection. */
  readonly #connections: ObservedMap<string>;
  /** Their keys in the order in which they began. */
  readonly #ages = new Set<string>();

  constructor(handle: DeciderHandle, given: Configuration) {
    this.#handle = handle;
    this.#given = given;
    this.#health = handle.state.map('health');
    this.#open = handle.state.weighted('back ends');
    this.#connections = handle.state.map('connections');
    for (const backEnd of given.backEnds) {
      this.#backEnds.set(backEnd.name, backEnd);
      this.#setHealth(backEnd, 'up');
      handle.counter(backEnd.name);
    }
    handle.dropReason('NO_BACK_END', 'No back end is up.');
    handle.dropReason('BACK_END_AWAY', 'The port of the back end is not there.');
    handle.dropReason('NO_SERVICE', 'The virtual address serves one port, and no fragments.');
    handle.dropReason('NO_STATION', 'The destination MAC address is not here.');
  }

  decide(packet: PacketView, decision: Decision): void {
    const { arp, ipv4 } = packet;
    const { address } = this.#given;
    if (arp?.operation === ARP_REQUEST && arp.targetAddress.is(address)) this.#answer(packet, arp, decision);
    else if (ipv4?.destination.is(address)) this.#toBackEnd(packet, ipv4, decision);
    else {
      if (ipv4 !== null) this.#fromBackEnd(packet, ipv4, decision);
      this.#forward(packet, decision);
    }
  }

  /** The request becomes the reply, and goes back where it came from. */
  #answer(packet: PacketView, arp: ArpView, decision: Decision): void {
    const { mac, address } = this.#given;
    const [askingMac, askingAddress] = [arp.senderMac.text, arp.senderAddress.text];
    decision.ethernet.source = mac;
    decision.ethernet.destination = askingMac;
    decision.arp.operation = ARP_REPLY;
    decision.arp.senderMac = mac;
    decision.arp.senderAddress = address;
    decision.arp.targetMac = askingMac;
    decision.arp.targetAddress = askingAddress;
    decision.output(packet.inPort);
  }

  #toBackEnd(packet: PacketView, ipv4: IpView, decision: Decision): void {
    const transport = this.#transportOf(packet, ipv4);
    if (!transport?.destination.is(this.#given.port)) {
      decision.drop('NO_SERVICE');
      return;
    }
    const backEnd = this.#choose(packet, ipv4, transport, decision);
    if (backEnd === undefined) {
      decision.drop('NO_BACK_END');
      return;
    }
    const portId = this.#handle.ports.named(backEnd.at);
    if (portId === null) {
      decision.drop('BACK_END_AWAY', () => `${backEnd.at} is not there`);
      return;
    }
    decision.note(() => `it goes to ${backEnd.name}`);
    decision.count(this.#handle.counter(backEnd.name));
    decision.ethernet.destination = backEnd.mac;
    decision.ipv4.destination = backEnd.address;
    decision[this.#given.protocol].destinationPort = backEnd.port;
    decision.output(portId);
  }

  /** What the service of a back end sends comes from the virtual address. */
  #fromBackEnd(packet: PacketView, ipv4: IpView, decision: Decision): void {
    const { mac, address, port, protocol } = this.#given;
    for (const backEnd of this.#backEnds.values()) {
      if (packet.inPort !== this.#handle.ports.named(backEnd.at) || !ipv4.source.is(backEnd.address)) continue;
      if (!this.#transportOf(packet, ipv4)?.source.is(backEnd.port)) continue;
      decision.ethernet.source = mac;
      decision.ipv4.source = address;
      decision[protocol].sourcePort = port;
      return;
    }
  }

  /** TCP or UDP, whichever is served, of a packet that is no fragment. */
  #transportOf(packet: PacketView, ipv4: IpView): PortsView | null {
    return ipv4.fragment === 'none' ? packet[this.#given.protocol] : null;
  }

  /** Group addresses go to all, the rest to the back end with that MAC address, or else to the clients. */
  #forward(packet: PacketView, decision: Decision): void {
    const { ports } = this.#handle;
    const { ethernet } = packet;
    if (ethernet.isMulticast) {
      decision.flood();
      return;
    }
    const backEnd = this.#given.backEnds.find(({ mac }) => ethernet.destination.is(mac));
    const portId = ports.named(backEnd?.at ?? this.#given.clients);
    if (portId === null || portId === packet.inPort) decision.drop('NO_STATION');
    else decision.output(portId);
  }

  /** A connection stays where it is while that back end can have it. Another one goes where its hash says, and is remembered. */
  #choose(packet: PacketView, ipv4: IpView, transport: PortsView, decision: Decision): BackEnd | undefined {
    const connection = `${ipv4.source.text}:${transport.sourcePort}`;
    const known = this.#connections.get(connection);
    if (known !== undefined && this.#stays(packet, known)) return this.#backEnds.get(known);
    const name = this.#open.pick(packet.flowHash());
    if (name === null) return undefined;
    decision.effect(() => this.#remember(connection, name));
    return this.#backEnds.get(name);
  }

  #stays(packet: PacketView, name: string): boolean {
    const health = this.#health.get(name);
    // Only here the flags matter, and only here flows look at them: a connection that begins does not begin at a back end that drains.
    if (health === 'draining') return packet.tcp?.hasFlags(SYN | ACK) !== SYN;
    return health === 'up';
  }

  #remember(connection: string, name: string): void {
    this.#ages.delete(connection);
    this.#ages.add(connection);
    this.#connections.set(connection, name);
    if (this.#ages.size <= this.#given.connections) return;
    for (const oldest of this.#ages) {
      this.#ages.delete(oldest);
      this.#connections.delete(oldest);
      return;
    }
  }

  #setHealth({ name, weight }: BackEnd, health: Health): void {
    this.#health.set(name, health);
    if (health === 'up') this.#open.set(name, weight, name);
    else this.#open.delete(name);
  }

  status(): JsonValue {
    const { address, protocol, port } = this.#given;
    return {
      service: `${protocol} ${address}:${port}`,
      connections: this.#ages.size,
      backEnds: Object.fromEntries([...this.#backEnds.keys()].map((name) => [name, this.#health.get(name) ?? 'down'])),
    };
  }

  command(command: string, args: JsonValue): JsonValue {
    const health = HEALTH_OF[command];
    if (health === undefined) throw new Error(`there is no command "${command}"; there are up, drain, down`);
    const { name } = { ...(args as { readonly name?: JsonValue } | null) };
    const backEnd = this.#backEnds.get(String(name));
    if (backEnd === undefined)
      throw new Error(`name: must be the name of a back end: ${[...this.#backEnds.keys()].join(', ')}`);
    this.#setHealth(backEnd, health);
    return this.status();
  }
}

export default defineDecider<Configuration>({
  descriptor: {
    name: 'load-balancer',
    type: 'forwarding',
    version: '1.0.0',
    description: 'spreads connections to a virtual address over several back ends',
  },
  parseConfiguration,
  create: (handle, configuration) => new LoadBalancer(handle, configuration),
});
