/**
 * The learning extension: forwards by MAC address within each VLAN, learns where addresses are, and enforces the standard policies.
 * Neighbours: forwarding-database.ts keeps the addresses, commands.ts shows them.
 */
import { flowRegistryOf } from '../../flow/index.ts';
import { type Batch, isLinkLocalControl, type Packet } from '../../net/index.ts';
import {
  ContextFlag,
  type Counter,
  contextOf,
  DropReason,
  type Explanation,
  type Extension,
  type ExtensionFactory,
  type ExtensionHandle,
  type ForwardingContext,
  type JsonValue,
  Learned,
  type MacTable,
  type OidRequest,
  runCommand,
  type StandardPolicies,
  type Status,
} from '../../switch/index.ts';
import { LEARNING_COMMANDS, type LearningState, type LearningStatus } from './commands.ts';
import { type LearningConfiguration, parseLearningConfiguration } from './configuration.ts';
import { DropGroups } from './drop-groups.ts';
import { explainForwarding } from './explain.ts';
import { FlowRecorder } from './flow-recorder.ts';
import { ForwardingDatabase, PortFlag } from './forwarding-database.ts';
import { Moves } from './moves.ts';

/** What becomes of a packet besides a DropReason. */
const FORWARDED = 0;

class LearningExtension implements Extension {
  readonly #handle: ExtensionHandle;
  readonly #policies: StandardPolicies;
  readonly #database: ForwardingDatabase;
  readonly #moves = new Moves();
  readonly #drops = new DropGroups();
  readonly #staticElsewhere: number;
  readonly #learned: Counter;
  readonly #moved: Counter;
  readonly #limited: Counter;
  readonly #full: Counter;
  readonly #flooded: Counter;
  #forwardLinkLocal: boolean;
  /** Null while nobody runs flows elsewhere. */
  #recorder: FlowRecorder | null = null;
  /** The port that a drop is counted at, when it is not the source. */
  #dropPortId = 0;

  constructor(handle: ExtensionHandle, configuration: LearningConfiguration) {
    this.#handle = handle;
    this.#policies = handle.policies;
    this.#database = new ForwardingDatabase(configuration);
    this.#forwardLinkLocal = configuration.forwardLinkLocal;
    this.#staticElsewhere = handle.registerDropReason(
      'STATIC_ELSEWHERE',
      'A static entry says that the source MAC address is behind another port.',
    );
    this.#learned = handle.counter('learned');
    this.#moved = handle.counter('moved');
    this.#limited = handle.counter('overLimit');
    this.#full = handle.counter('tableFull');
    this.#flooded = handle.counter('flooded');
  }

  restart(): void {
    this.#learnPorts();
    this.#recorder ??= this.#newRecorder();
  }

  detach(): void {
    this.#recorder?.close();
    this.#recorder = null;
  }

  #newRecorder(): FlowRecorder | null {
    const { host } = this.#handle;
    const registry = flowRegistryOf(host.services);
    const { flows } = this.#database.configuration;
    // Without timers nothing would end the flows of addresses that have aged while all traffic goes past.
    if (registry === null || host.setTimer === undefined || flows.maximum === 0) return null;
    return new FlowRecorder(this.#handle, this.#database, registry, flows);
  }

  switchActive(): void {
    this.#learnPorts();
  }

  /** Ports that were there before; later ones are told by OIDs. */
  #learnPorts(): void {
    if (this.#handle.query({ kind: 'SWITCH_PARAMETERS' }).value?.active !== true) return;
    for (const port of this.#handle.query({ kind: 'PORT_ARRAY' }).value ?? []) {
      this.#database.addPort(port.portId, port.name);
    }
  }

  onOidComplete(request: OidRequest, status: Status): void {
    if (status !== 'SUCCESS') return;
    const oid = request.oid;
    switch (oid.kind) {
      case 'PORT_CREATE':
      case 'PORT_UPDATED':
        this.#recorder?.flushPort(oid.port.portId, true);
        this.#database.addPort(oid.port.portId, oid.port.name);
        this.#recorder?.portsChanged();
        break;
      case 'PORT_DELETE':
        this.#recorder?.flushPort(oid.port.portId, true);
        this.#database.removePort(oid.port.portId);
        this.#recorder?.portsChanged();
        break;
      case 'NIC_DISCONNECT':
        this.#database.table.flush({ portId: oid.nic.portId });
        break;
      default:
        break;
    }
  }

  #nowSeconds(): number {
    return Math.floor(this.#handle.host.nowMs() / 1000);
  }

  onIngress(batch: Batch, flags: number): void {
    const now = this.#nowSeconds();
    const table = this.#database.table;
    const recorder = this.#recorder;
    if (recorder !== null) recorder.advance(now);
    table.sweep(now);
    const packets = batch.packets;
    const count = batch.count;
    let kept = 0;
    for (let i = 0; i < count; i += 1) {
      const packet = packets[i];
      const context = contextOf(packet);
      const reason = this.#forward(packet, context, table, now);
      if (reason === FORWARDED) {
        if (recorder !== null) recorder.offer(packet, context, now);
        packets[kept] = packet;
        kept += 1;
      } else {
        const { sourcePortId } = context;
        if (recorder !== null && reason === DropReason.DESTINATION_IS_SOURCE) {
          recorder.offerDrop(packet, context, sourcePortId, reason, now);
        }
        const incoming = this.#dropPortId === sourcePortId;
        this.#drops.add(packet, this.#dropPortId, reason, incoming);
      }
    }
    batch.count = kept;
    if (!this.#drops.empty) this.#drops.finish(this.#handle);
    if (kept !== 0) this.#handle.sendIngress(batch, flags);
  }

  /** Learn the source, find the destination, add it. @returns a DropReason, or {@link FORWARDED} */
  #forward(packet: Packet, context: ForwardingContext, table: MacTable, now: number): number {
    const sourcePortId = context.sourcePortId;
    this.#dropPortId = sourcePortId;
    if (context.verdict !== DropReason.NONE) return context.verdict;
    if ((context.flags & ContextFlag.NATIVE_FORWARDING) !== 0) return FORWARDED;
    const bytes = packet.bytes;
    const at = packet.offset;
    const vlan = context.vlan;
    const sourceHigh = (bytes[at + 6] << 8) | bytes[at + 7];
    const sourceLow = (bytes[at + 8] << 24) | (bytes[at + 9] << 16) | (bytes[at + 10] << 8) | bytes[at + 11];
    if ((sourceHigh & 0x0100) !== 0 || (sourceHigh | sourceLow) === 0) return DropReason.INVALID_SOURCE_MAC;
    const high = (bytes[at] << 8) | bytes[at + 1];
    if (high === 0x0180 && !this.#forwardLinkLocal && isLinkLocalControl(packet)) return DropReason.LINK_LOCAL_CONTROL;
    if (sourcePortId !== 0 && (this.#database.portFlags[sourcePortId] & PortFlag.NO_LEARNING) === 0) {
      const learned = table.learn(vlan, sourceHigh, sourceLow, sourcePortId, context.sourceNicIndex, now);
      if (learned !== Learned.KNOWN) {
        const reason = this.#notLearned(learned, vlan, sourceHigh, sourceLow, sourcePortId, now);
        if (reason !== FORWARDED) return reason;
      }
    }
    if ((high & 0x0100) !== 0) return this.#flood(packet);
    const low = (bytes[at + 2] << 24) | (bytes[at + 3] << 16) | (bytes[at + 4] << 8) | bytes[at + 5];
    if (high === sourceHigh && low === sourceLow) return DropReason.DESTINATION_IS_SOURCE;
    const found = table.lookup(vlan, high, low, now);
    if (found === 0) return this.#flood(packet);
    const portId = found & 0xffff;
    if (portId === sourcePortId) return DropReason.DESTINATION_IS_SOURCE;
    const verdict = this.#policies.egressVerdict(packet, portId);
    if (verdict !== DropReason.NONE) {
      // The NIC is away for now: as for an address that is not known.
      if (verdict === DropReason.NIC_NOT_CONNECTED) return this.#flood(packet);
      this.#dropPortId = portId;
      return verdict;
    }
    const nicIndex = this.#policies.destinationNic(portId, found >>> 16);
    this.#handle.addDestination(packet, portId, nicIndex, this.#policies.destinationFlags(portId));
    return FORWARDED;
  }

  #flood(packet: Packet): number {
    this.#flooded.value += 1;
    return this.#policies.flood(packet) === 0 ? DropReason.NO_DESTINATION : FORWARDED;
  }

  #noteMove(vlan: number, high: number, low: number, portId: number, now: number): void {
    const database = this.#database;
    this.#moves.note(vlan, high, low, database.nameOf(database.table.movedFrom), database.nameOf(portId), now);
  }

  /** Anything but a known address. */
  #notLearned(learned: number, vlan: number, high: number, low: number, portId: number, now: number): number {
    switch (learned) {
      case Learned.NEW:
        this.#learned.value += 1;
        return FORWARDED;
      case Learned.MOVED:
        this.#moved.value += 1;
        this.#noteMove(vlan, high, low, portId, now);
        return FORWARDED;
      case Learned.LIMIT:
        this.#limited.value += 1;
        return (this.#database.portFlags[portId] & PortFlag.DROP_OVER_LIMIT) === 0 ? FORWARDED : DropReason.MAC_LIMIT;
      case Learned.EXCHANGED:
        this.#learned.value += 1;
        this.#full.value += 1;
        return FORWARDED;
      case Learned.FULL:
        this.#full.value += 1;
        return FORWARDED;
      default:
        return this.#staticElsewhere;
    }
  }

  reconfigure(configuration: unknown): void {
    const checked = configuration as LearningConfiguration;
    this.#forwardLinkLocal = checked.forwardLinkLocal;
    const { flows } = this.#database.configuration;
    const isSame = flows.maximum === checked.flows.maximum && flows.idleSeconds === checked.flows.idleSeconds;
    if (isSame) this.#recorder?.flush();
    else this.detach();
    this.#database.reconfigure(checked, this.#nowSeconds());
    this.#recorder ??= this.#newRecorder();
  }

  command(name: string, args: JsonValue): JsonValue {
    this.#recorder?.refresh();
    const state: LearningState = {
      database: this.#database,
      nowSeconds: this.#nowSeconds(),
      configurePorts: (settings) => {
        for (const portId of this.#database.configurePorts(settings)) this.#recorder?.flushPort(portId, true);
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

  explain(packet: Packet, context: ForwardingContext): Explanation {
    return explainForwarding(packet, context, {
      database: this.#database,
      policies: this.#policies,
      forwardLinkLocal: this.#forwardLinkLocal,
      staticElsewhere: this.#staticElsewhere,
      nowSeconds: this.#nowSeconds(),
    });
  }
}

/** The built-in forwarding extension `learning`. */
export const learningExtension: ExtensionFactory<LearningConfiguration> = {
  descriptor: {
    name: 'learning',
    type: 'forwarding',
    version: '1.0.0',
    description: 'forwards by learned MAC addresses within each VLAN',
  },
  parseConfiguration: parseLearningConfiguration,
  create(handle: ExtensionHandle, configuration: LearningConfiguration): Extension {
    return new LearningExtension(handle, configuration);
  },
};
