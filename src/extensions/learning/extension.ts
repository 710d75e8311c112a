/**
 * The learning extension, a decider: forwards by MAC address within each VLAN, and learns where addresses are. Neighbours: forwarding-database.ts keeps the addresses,
 * address-anchors.ts ends decisions with them, commands.ts shows them.
 */
import type { PortId } from '../../net/index.ts';
import {
  Anchor,
  type DeciderExtension,
  type DeciderHandle,
  type Decision,
  defineDecider,
  type Field,
  type FlowCounter,
  type JsonValue,
  Learned,
  nicIn,
  type ObservedMap,
  type ObservedValue,
  type PacketView,
  portIn,
  runCommand,
} from '../../switch/index.ts';
import { AddressAnchors } from './address-anchors.ts';
import { LEARNING_COMMANDS, type LearningState, type LearningStatus } from './commands.ts';
import { type LearningConfiguration, parseLearningConfiguration } from './configuration.ts';
import { ForwardingDatabase, type MacKey, PortFlag } from './forwarding-database.ts';
import { Moves } from './moves.ts';

/** Addresses of protocols between neighbours, which stay on their link: IEEE 802.1D, table 7-10. */
const LINK_LOCAL = ['01:80:c2:00:00:00', '01:80:c2:00:00:0f'] as const;

const LEARNED_TEXT: Readonly<Record<number, string>> = {
  [Learned.KNOWN]: 'is known behind this port',
  [Learned.NEW]: 'would be learned behind this port',
  [Learned.MOVED]: 'would move to this port',
  [Learned.LIMIT]: 'is not learned: the port is at its limit',
  [Learned.FULL]: 'is not learned: the table is full of static entries',
  [Learned.EXCHANGED]: 'would be learned behind this port, in the place of another: the table is full',
  [Learned.STATIC_ELSEWHERE]: 'has a static entry behind another port',
};

class Learning implements DeciderExtension {
  readonly showsStatusAlone = true;
  readonly #handle: DeciderHandle;
  readonly #database: ForwardingDatabase;
  readonly #anchors: AddressAnchors;
  readonly #moves = new Moves();
  readonly #learned: FlowCounter;
  readonly #moved: FlowCounter;
  readonly #limited: FlowCounter;
  readonly #full: FlowCounter;
  readonly #flooded: FlowCounter;
  /** What decisions rest on besides addresses: all settings, those of a port, and room for addresses behind a port. */
  readonly #settings: ObservedValue<LearningConfiguration>;
  readonly #settingsOf: ObservedMap<number>;
  readonly #rooms = new Map<number, Anchor>();
  #changes = 0;
  #connected: ReadonlySet<PortId> = new Set();
  #second = -1;

  constructor(handle: DeciderHandle, configuration: LearningConfiguration) {
    this.#handle = handle;
    this.#database = new ForwardingDatabase(configuration);
    this.#anchors = new AddressAnchors(this.#database, () => handle.host.nowMs());
    this.#database.onChanged = (domain, high, low, portId) => {
      this.#anchors.changed(domain, high, low);
      this.#rooms.get(portId)?.changed();
    };
    this.#settings = handle.state.value('settings', configuration);
    this.#settingsOf = handle.state.map('settings of port');
    this.#learned = handle.counter('learned');
    this.#moved = handle.counter('moved');
    this.#limited = handle.counter('overLimit');
    this.#full = handle.counter('tableFull');
    this.#flooded = handle.counter('flooded');
    handle.dropsAs('INVALID_SOURCE_MAC');
    handle.dropsAs('LINK_LOCAL_CONTROL');
    handle.dropsAs('MAC_LIMIT');
    handle.dropsAs('DESTINATION_IS_SOURCE');
    handle.dropsAs('NO_DESTINATION');
    handle.dropReason('STATIC_ELSEWHERE', 'A static entry says that the source MAC address is behind another port.');
  }

  decide(packet: PacketView, decision: Decision): void {
    const { ethernet } = packet;
    const source = keyOf(ethernet.source);
    const destination = keyOf(ethernet.destination);
    if (isGroup(source) || (source.high | source.low) === 0) {
      decision.drop('INVALID_SOURCE_MAC');
      return;
    }
    const { forwardLinkLocal } = this.#settings.get();
    if (!forwardLinkLocal && ethernet.destination.between(...LINK_LOCAL)) {
      decision.drop('LINK_LOCAL_CONTROL');
      return;
    }
    const vlan = this.#handle.vlanOf(packet);
    decision.recall((ranTo) => this.#relearn(packet, vlan, source, destination, ranTo));
    if (!this.#passesSource(packet, vlan, source, decision)) return;
    if (isSame(source, destination)) {
      decision.drop('DESTINATION_IS_SOURCE');
      return;
    }
    if (!isGroup(destination) && this.#sendsToOne(packet, vlan, destination, decision)) return;
    decision.note(() => `${ethernet.destination} is a group address, or not known: flooded in VLAN ${vlan}`);
    decision.count(this.#flooded);
    if (decision.flood((portId) => this.#handle.leavesBy(packet, portId)) === 0) decision.drop('NO_DESTINATION');
  }

  /** Learn the source. @returns false when the packet is dropped because of it */
  #passesSource(packet: PacketView, vlan: number, source: MacKey, decision: Decision): boolean {
    const { inPort, inNic } = packet;
    this.#settingsOf.get(inPort);
    if (inPort === 0 || !this.#database.learnsOn(inPort)) {
      decision.note(() => 'addresses are not learned on this port');
      return true;
    }
    decision.effect(() => this.#learn(vlan, source, inPort, inNic));
    const seen = this.#anchors.readSource(vlan, source, inPort);
    const learned = this.#database.table.wouldLearn(vlan, source.high, source.low, inPort, this.#nowSeconds());
    decision.note(() => `source ${packet.ethernet.source} ${LEARNED_TEXT[learned]}`);
    switch (learned) {
      case Learned.STATIC_ELSEWHERE:
        decision.drop('STATIC_ELSEWHERE');
        return false;
      case Learned.LIMIT:
        this.#roomOf(inPort).read();
        decision.count(this.#limited);
        if ((this.#database.portFlags[inPort] & PortFlag.DROP_OVER_LIMIT) === 0) return true;
        decision.drop('MAC_LIMIT');
        return false;
      case Learned.FULL:
        decision.count(this.#full);
        decision.everyPacket('the address table is full of static entries');
        return true;
      case Learned.KNOWN:
        decision.count(seen);
        return true;
      default:
        // It is when a packet comes.
        decision.everyPacket('its source is not learned yet');
        return true;
    }
  }

  /** Send a packet to where its destination is known. @returns false when it is not, or not connected */
  #sendsToOne(packet: PacketView, vlan: number, destination: MacKey, decision: Decision): boolean {
    const { inPort } = packet;
    this.#anchors.read(vlan, destination);
    const found = this.#database.table.lookup(vlan, destination.high, destination.low, this.#nowSeconds());
    if (found === 0) return false;
    const portId = portIn(found);
    const name = this.#database.nameOf(portId);
    decision.note(() => `destination ${packet.ethernet.destination} is behind port ${name} in VLAN ${vlan}`);
    if (portId === inPort) {
      decision.drop('DESTINATION_IS_SOURCE');
      return true;
    }
    if (!this.#handle.ports.has(portId)) {
      decision.note(() => 'its NIC is not connected');
      return false;
    }
    decision.output(portId, nicIn(found));
    return true;
  }

  #learn(vlan: number, { high, low }: MacKey, portId: number, nicIndex: number): void {
    const { table } = this.#database;
    const now = this.#nowSeconds();
    switch (table.learn(vlan, high, low, portId, nicIndex, now)) {
      case Learned.EXCHANGED:
        this.#full.add(1, 0);
        this.#learned.add(1, 0);
        break;
      case Learned.NEW:
        this.#learned.add(1, 0);
        break;
      case Learned.MOVED: {
        const database = this.#database;
        this.#moved.add(1, 0);
        this.#moves.note(vlan, high, low, database.nameOf(table.movedFrom), database.nameOf(portId), now);
        break;
      }
      default:
        break;
    }
  }

  /** A flow went on over a restart: its addresses are where they were, or its packets would have come up. What has come up since is younger. */
  #relearn(packet: PacketView, vlan: number, source: MacKey, destination: MacKey, ranTo: readonly PortId[]): void {
    const { inPort } = packet;
    this.#learnAgain(vlan, source, inPort);
    if (isGroup(destination) || ranTo.length !== 1) return;
    // Where a flood goes to one port, that the packet went there does not tell that its destination is there.
    const flooded = this.#handle.ports.others(inPort).filter((portId) => this.#handle.leavesBy(packet, portId));
    if (flooded.length > 1) this.#learnAgain(vlan, destination, ranTo[0]);
  }

  #learnAgain(vlan: number, { high, low }: MacKey, portId: PortId): void {
    const { table } = this.#database;
    const now = this.#nowSeconds();
    if (this.#database.learnsOn(portId) && table.lookup(vlan, high, low, now) === 0)
      table.learn(vlan, high, low, portId, 0, now);
  }

  /** That more addresses fit behind a port that has as many as it may. */
  #roomOf(portId: number): Anchor {
    let room = this.#rooms.get(portId);
    if (room === undefined) {
      room = new Anchor(`addresses of port ${portId}`);
      this.#rooms.set(portId, room);
    }
    return room;
  }

  #nowSeconds(): number {
    return Math.floor(this.#handle.host.nowMs() / 1000);
  }

  turn(nowMs: number): void {
    const second = Math.floor(nowMs / 1000);
    if (second === this.#second) return;
    this.#second = second;
    this.#anchors.advance(second);
    this.#database.table.sweep(second);
  }

  portsChanged(): void {
    const ports = this.#handle.portIds();
    const present = new Set(ports.values());
    const database = this.#database;
    for (const portId of database.portIds) if (!present.has(portId)) database.removePort(portId);
    for (const [name, portId] of ports) if (database.addPort(portId, name)) this.#portChanged(portId);
    const connected = new Set([...present].filter((portId) => this.#handle.ports.has(portId)));
    for (const portId of this.#connected) if (!connected.has(portId)) database.table.flush({ portId });
    this.#connected = connected;
  }

  /** A port has other settings. */
  #portChanged(portId: number): void {
    this.#changes += 1;
    this.#settingsOf.set(portId, this.#changes);
  }

  flowLimits(): { readonly maximumFlows: number; readonly idleMs: number } {
    const { maximum, idleSeconds } = this.#database.configuration.flows;
    // Without timers nothing would end the flows of addresses that have aged while all traffic goes past.
    const isTimed = this.#handle.host.setTimer !== undefined;
    return { maximumFlows: isTimed ? maximum : 0, idleMs: idleSeconds * 1000 };
  }

  reconfigure(configuration: unknown): void {
    const checked = configuration as LearningConfiguration;
    this.#handle.settle();
    this.#database.reconfigure(checked, this.#nowSeconds());
    this.#settings.set(checked);
  }

  command(name: string, args: JsonValue): JsonValue {
    // Addresses are as young as their packets, wherever these went.
    this.#handle.settle();
    const state: LearningState = {
      database: this.#database,
      nowSeconds: this.#nowSeconds(),
      configurePorts: (settings) => {
        for (const portId of this.#database.configurePorts(settings)) this.#portChanged(portId);
      },
    };
    return runCommand(LEARNING_COMMANDS, state, name, args);
  }

  status(): LearningStatus {
    const { table, configuration } = this.#database;
    return {
      entries: table.count,
      maximum: table.capacity,
      ageingSeconds: configuration.ageingSeconds,
      exchanged: table.exchanged,
      fullest: this.#fullest(),
      moves: this.#moves.total,
      recentMoves: this.#moves.list(this.#nowSeconds()),
      waitingStaticEntries: this.#database.waiting().map((entry) => ({ ...entry })),
    };
  }

  /** The port that has most addresses, while the table is full. */
  #fullest(): LearningStatus['fullest'] {
    const { table } = this.#database;
    if (table.count < table.capacity) return null;
    const portId = table.fullestPort;
    return { port: this.#database.nameOf(portId), addresses: table.countOf(portId) };
  }
}

/** Looks at all of an address. */
function keyOf(field: Field): MacKey {
  field.mark(field.width);
  const words = field.peek();
  return { high: words[0] >>> 16, low: (words[0] << 16) | (words[1] >>> 16) };
}

function isGroup({ high }: MacKey): boolean {
  return (high & 0x0100) !== 0;
}

function isSame(a: MacKey, b: MacKey): boolean {
  return a.high === b.high && a.low === b.low;
}

/** The built-in forwarding extension `learning`. */
export const learningExtension = defineDecider<LearningConfiguration>({
  descriptor: {
    name: 'learning',
    type: 'forwarding',
    version: '1.0.0',
    description: 'forwards by learned MAC addresses within each VLAN',
  },
  parseConfiguration: parseLearningConfiguration,
  create: (handle, configuration) => new Learning(handle, configuration),
});
