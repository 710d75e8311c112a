/**
 * Decisions of deciders in a stack that are kept as flows, in the switch's terms: whose drop it is and where it counts, what packets count as that such a flow
 * carried elsewhere, and what is said of it to people. Neighbours: forwarding.ts keeps those of a forwarding decider, carried-decisions.ts those that everybody has a say in.
 */
import {
  asPortNumber,
  type DecidedDrop,
  DecidedFlows,
  type DecidedFlowsOptions,
  type KeptDecision,
  nicIn,
  type ObservedPorts,
  type PlacedDecider,
  type PortNumber,
  portIn,
  portNumber,
} from '../../decide/index.ts';
import { Drop, type FlowSource, outcomeOf } from '../../flow/index.ts';
import type { Packet, PortId } from '../../net/index.ts';
import type { JsonValue } from '../control/properties.ts';
import type { DropReasonCode } from '../drop-reason.ts';
import type { ExtensionHandle } from '../extension.ts';
import { contextOf } from '../path/context.ts';
import type { FlowForwarding } from '../path/flow-forwarding.ts';
import type { StackedDecider } from './placed.ts';

/** New flows of a port in a second: whoever floods with new addresses is not to make every packet cost a flow. */
const NEW_PER_SECOND = 20_000;

export class StackedFlows {
  readonly flows: DecidedFlows;
  readonly ports: ObservedPorts;
  readonly #handle: ExtensionHandle;
  readonly #forwarding: () => FlowForwarding;
  /** From the top of the stack; the last one forwards. */
  #deciders: readonly StackedDecider[] = [];
  #placed: readonly PlacedDecider[] = [];

  /**
   * @param forwarding counts what was carried
   * @param elsewhere of flows that run elsewhere: whether packets are tracked there for decisions that go by connections, and what all decisions rest on
   */
  constructor(
    handle: ExtensionHandle,
    ports: ObservedPorts,
    forwarding: () => FlowForwarding,
    elsewhere: Pick<DecidedFlowsOptions, 'tracks' | 'restsOn'> = {},
  ) {
    this.#handle = handle;
    this.ports = ports;
    this.#forwarding = forwarding;
    this.flows = new DecidedFlows({
      ports,
      deciders: () => this.#placed,
      nowMs: () => handle.host.nowMs(),
      newPerSecond: NEW_PER_SECOND,
      ...elsewhere,
    });
  }

  /** Who decides from now on, from the top of the stack; the last one forwards. */
  decideBy(deciders: readonly StackedDecider[]): void {
    const before = this.#deciders;
    if (isSame(deciders, before)) return;
    // What one of those at the top drops on its way down does not come to the others.
    const others = deciders.findIndex((each, i) => each !== before[i]);
    const top = new Set(deciders.slice(0, others === -1 ? deciders.length : others).map(({ placed }) => placed.name));
    // What was counted until now is of those who decided until now.
    this.flows.endWhere((_slot, { drop }) => drop === null || drop.portId !== undefined || !top.has(drop.by));
    this.#deciders = deciders;
    this.#placed = deciders.map(({ placed }) => placed);
  }

  /** Bring what was counted until now to the counters of decisions. */
  settle(): void {
    this.flows.table.refreshCounts(-1);
    this.flows.settle();
  }

  /** The switch's number for a reason; undefined when there is none. */
  reasonOf(drop: DecidedDrop | null | undefined): DropReasonCode | undefined {
    if (drop == null) return undefined;
    const by = this.#deciders.find(({ placed }) => placed.name === drop.by) ?? this.#deciders.at(-1);
    return by?.reasonOf(drop.reason);
  }

  /** The port that packets were to leave by which are dropped because of that; -1 for another reason, and for a port that is not there. */
  portOf(drop: DecidedDrop | null | undefined): PortId | -1 {
    const portId = drop?.portId ?? -1;
    return portId !== -1 && this.ports.has(portId) ? portId : -1;
  }

  /** Copies that do not leave are counted where they were to leave. */
  countExcluded(record: KeptDecision | null, packets: number): void {
    if (record === null || record.excluded.length === 0) return;
    for (const { portId, drop } of record.excluded) {
      const reason = this.reasonOf(drop);
      if (reason !== undefined) this.#handle.shortcuts.droppedCopies(portId, reason, packets);
    }
  }

  /** What whoever runs flows elsewhere is given of them. Port numbers are the switch's. */
  source(
    name: string,
  ): Pick<FlowSource, 'name' | 'table' | 'portIdOf' | 'numberOf' | 'describe' | 'apart' | 'carried'> {
    const { flows, ports } = this;
    return {
      name,
      table: flows.table,
      portIdOf: (number: PortNumber) => {
        const portId = portIn(number);
        return nicIn(number) === 0 && ports.has(portId) ? portId : -1;
      },
      numberOf: (portId) => (ports.has(portId) ? portNumber(portId, 0) : -1),
      describe: (slot) => {
        const { deciders = [], drop = null } = flows.recordOf(slot) ?? {};
        return { deciders, drop: drop === null ? null : `${drop.by}:${drop.reason}` };
      },
      apart: () => flows.everyPacketReasons,
      carried: (slot, packets, bytes) => this.carried(slot, packets, bytes),
    };
  }

  /** Packets of a flow went another way: they count as if they had come through the switch. */
  carried(slot: number, packets: number, bytes: number): void {
    const { flows } = this;
    const record = flows.recordOf(slot);
    const actions = flows.table.actionsOf(slot);
    const outputs = (outcomeOf(actions, 0, actions.length)?.outputs ?? []).map((port) => portIn(asPortNumber(port)));
    const source = flows.table.portOf(slot);
    flows.settle(slot);
    this.countExcluded(record, packets);
    const dropPortId = this.portOf(record?.drop);
    const reason = this.reasonOf(record?.drop);
    this.#forwarding().carried(
      {
        sourcePortId: source === -1 ? -1 : portIn(asPortNumber(source)),
        isFirst: true,
        outputs,
        isSentOn: false,
        drop: outputs.length > 0 ? 0 : Drop.FLOW,
        ...(reason === undefined ? {} : { reason }),
        ...(dropPortId === -1 ? {} : { dropPortId }),
      },
      packets,
      bytes,
    );
  }

  /** For people. */
  status(): Record<string, JsonValue> {
    const { table, counters, everyPacketReasons } = this.flows;
    return { flows: table.size, masks: table.masks.length, ...counters, reasons: everyPacketReasons };
  }

  /** Names of those who decide, from the top of the stack. */
  get names(): string[] {
    return this.#placed.map(({ name }) => name);
  }
}

/** What the switch knows of the connection of a packet, for the key of its flow. */
export function connectionOf(packet: Packet): number {
  return packet.attachment === null ? 0 : contextOf(packet).connection;
}

function isSame(some: readonly StackedDecider[], others: readonly StackedDecider[]): boolean {
  return some.length === others.length && some.every((each, i) => each === others[i]);
}
