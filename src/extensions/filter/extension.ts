/**
 * The filtering extension, a decider: judges packets by an ordered list of rules, on their way down by their source port, on their way up for each
 * port that they go to. Neighbours: schema.ts reads the rules, rule-list.ts holds them, judge.ts judges.
 */
import { z } from 'zod';
import {
  command,
  type DeciderExtension,
  type DeciderHandle,
  type Decision,
  defineDecider,
  type FlowCounter,
  type JsonObject,
  type JsonValue,
  type ObservedMap,
  type ObservedValue,
  type OutputDecision,
  type PacketView,
  runCommand,
} from '../../switch/index.ts';
import { RuleReasons } from './drop-reasons.ts';
import { Judge } from './judge.ts';
import { RuleList } from './rule-list.ts';
import { Direction, NO_RULE } from './rule-table.ts';
import { type FilterConfiguration, parseFilterConfiguration } from './schema.ts';

/** A rule as it was given, with what it has counted. */
export type ShownRule = Readonly<Record<string, JsonValue>> & {
  readonly direction: string;
  readonly packets: number;
  readonly bytes: number;
  readonly missingPorts: readonly string[];
};

/** What the filter says of itself. */
export type FilterStatus = {
  readonly default: { readonly action: string; readonly packets: number; readonly bytes: number };
  readonly rules: readonly ShownRule[];
};

class Filter implements DeciderExtension {
  readonly showsStatusAlone = true;
  readonly #handle: DeciderHandle;
  readonly #judge: Judge;
  readonly #reasons: RuleReasons;
  readonly #dropped: FlowCounter;
  readonly #excluded: FlowCounter;
  /** What decisions rest on: the list, and which of its rules name a port. */
  readonly #list: ObservedValue<RuleList>;
  readonly #naming: ObservedMap<number>;
  #changes = 0;

  constructor(handle: DeciderHandle, configuration: FilterConfiguration) {
    this.#handle = handle;
    this.#judge = new Judge((packet) => handle.vlanOf(packet));
    this.#reasons = new RuleReasons(handle);
    this.#dropped = handle.counter('dropped');
    this.#excluded = handle.counter('excluded');
    const list = new RuleList(configuration, handle, this.#reasons, null);
    this.#list = handle.state.value('rules', list);
    handle.trackConnections(list.table.tracks);
    this.#naming = handle.state.map('rules that name port');
  }

  decide(packet: PacketView, decision: Decision): void {
    this.#apply(packet, Direction.IN, packet.inPort, decision);
  }

  decideOutput(packet: PacketView, portId: number, decision: OutputDecision): void {
    this.#apply(packet, Direction.OUT, portId, decision);
  }

  mayDecide(isOutput: boolean): boolean {
    return this.#list.get().table.judges[isOutput ? Direction.OUT : Direction.IN];
  }

  #apply(packet: PacketView, direction: 0 | 1, portId: number, decision: OutputDecision): void {
    const list = this.#list.get();
    const { table } = list;
    // All packets are tracked as soon as one rule asks: an answer is known for one only when its question was seen.
    const connection = table.tracks ? packet.connection : null;
    if (!table.judges[direction]) return;
    this.#naming.get(portId);
    const judge = this.#judge;
    judge.ask(table, packet, direction, portId, (reason) => decision.everyPacket(reason));
    const where = direction === Direction.IN ? 'in' : `out to port ${portId}`;
    if (connection !== null) {
      const { state } = connection;
      decision.note(() => (state === null ? 'it belongs to no connection' : `its connection is ${state}`));
    }
    for (const number of judge.matched) {
      const { name, action } = table.configuration.rules[number];
      decision.count(list.counters[number]);
      decision.note(() => `${where}: rule ${number + 1} "${name}" matches: ${action}`);
    }
    const { decided } = judge;
    if (decided === NO_RULE) {
      decision.count(list.byDefault);
      decision.note(() => `${where}: no rule decides: ${table.configuration.default} by default`);
    }
    if (!table.drops(decided)) return;
    decision.count(direction === Direction.IN ? this.#dropped : this.#excluded);
    decision.drop(list.reasonOf(decided));
  }

  portsChanged(): void {
    const { table } = this.#list.get();
    for (const portId of table.resolvePorts(this.#handle.portIds())) {
      this.#changes += 1;
      this.#naming.set(portId, this.#changes);
    }
  }

  reconfigure(configuration: unknown): void {
    this.replace(configuration as FilterConfiguration);
  }

  /** A new list of rules, of which those that stay the same keep their counters. */
  replace(configuration: FilterConfiguration): void {
    const list = new RuleList(configuration, this.#handle, this.#reasons, this.#list.get());
    // Packets are tracked before rules ask for it, and for as long as they do.
    if (list.table.tracks) this.#handle.trackConnections(true);
    this.#list.set(list);
    if (!list.table.tracks) this.#handle.trackConnections(false);
  }

  status(): FilterStatus {
    this.#handle.settle();
    const { table, counters, byDefault } = this.#list.get();
    const { rules, default: action } = table.configuration;
    const ports = this.#handle.portIds();
    return {
      default: { action, packets: byDefault.packets, bytes: byDefault.bytes },
      rules: rules.map((rule, number) => ({
        ...rule.given,
        direction: rule.direction,
        packets: counters[number].packets,
        bytes: counters[number].bytes,
        ...(rule.action === 'drop' ? { dropReason: this.#reasons.nameOf(rule.name) } : {}),
        missingPorts: (rule.ports ?? []).filter((name) => !ports.has(name)),
      })),
    };
  }

  /** Counters to zero. */
  reset(): void {
    // With another list all flows end that counted by this one, and what they have counted is brought.
    this.replace(this.#list.get().table.configuration);
    this.#list.get().resetCounters();
  }

  configuration(): JsonObject {
    return this.#list.get().table.configuration.given;
  }

  command(name: string, args: JsonValue): JsonValue {
    return runCommand(FILTER_COMMANDS, this, name, args);
  }
}

/** All commands; see the README. */
export const FILTER_COMMANDS = {
  show: command(z.strictObject({}), (filter: Filter) => filter.status()),
  reset: command(z.strictObject({}), (filter: Filter) => {
    filter.reset();
    return filter.status();
  }),
  replace: command(z.unknown(), (filter: Filter, rules) => {
    filter.replace(parseFilterConfiguration(rules));
    return filter.status();
  }),
};

/** The filtering extension `filter`. Its configuration and commands are described in README.md. */
export const filterExtension = defineDecider<FilterConfiguration>({
  descriptor: {
    name: 'filter',
    type: 'filtering',
    version: '1.0.0',
    description: 'allows, drops and counts packets by an ordered list of rules',
  },
  parseConfiguration: parseFilterConfiguration,
  create: (handle, configuration) => new Filter(handle, configuration),
});
