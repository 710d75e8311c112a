/**
 * The filtering extension: judges packets by an ordered list of rules, on ingress by their source port, on egress for each
 * destination port. Neighbours: schema.ts reads the rules, rule-table.ts judges, drop-list.ts ends what is dropped.
 */
import { isDeepStrictEqual } from 'node:util';
import { type Batch, type Packet, PacketFields } from '../../net/index.ts';
import {
  ContextFlag,
  type Counter,
  contextOf,
  type Explanation,
  type Extension,
  type ExtensionFactory,
  type ExtensionHandle,
  type ForwardingContext,
  type JsonValue,
  type OidRequest,
  type Passage,
  type Status,
} from '../../switch/index.ts';
import { DropList } from './drop-list.ts';
import { RuleReasons } from './drop-reasons.ts';
import { PortNames } from './port-names.ts';
import type { FilterConfiguration } from './rule.ts';
import { Direction, NO_RULE, RuleTable } from './rule-table.ts';
import { parseFilterConfiguration } from './schema.ts';

class FilterExtension implements Extension {
  readonly #handle: ExtensionHandle;
  readonly #fields = new PacketFields();
  readonly #ports: PortNames;
  readonly #reasons: RuleReasons;
  readonly #dropped: Counter;
  readonly #excluded: Counter;
  /** Lists that are not in use: ending packets may call back here, so that one is not enough. */
  readonly #freeLists: DropList[] = [];
  #table: RuleTable;
  /** Drop reason of each rule by its number. */
  #reasonOfRule: Uint16Array;

  constructor(handle: ExtensionHandle, configuration: FilterConfiguration) {
    this.#handle = handle;
    this.#ports = new PortNames(handle);
    this.#reasons = new RuleReasons(handle);
    this.#dropped = handle.counter('dropped');
    this.#excluded = handle.counter('excluded');
    this.#table = new RuleTable(configuration, this.#ports.ids);
    this.#reasonOfRule = this.#reasonsOf(configuration);
  }

  attach(): void {
    this.#learnPorts();
  }

  restart(): void {
    this.#learnPorts();
  }

  onIngress(batch: Batch, flags: number): void {
    if (!this.#ports.known) this.#learnPorts();
    const table = this.#table;
    if (table.judges[Direction.IN]) {
      const drops = this.#judgeIngress(batch, table);
      if (drops !== null) {
        this.#dropped.value += drops.finish(this.#handle);
        this.#freeLists.push(drops);
      }
    }
    if (batch.count > 0) this.#handle.sendIngress(batch, flags);
  }

  /** Take the packets to drop out of a batch. */
  #judgeIngress(batch: Batch, table: RuleTable): DropList | null {
    const fields = this.#fields;
    const packets = batch.packets;
    const count = batch.count;
    const needs = table.needs[Direction.IN];
    let drops: DropList | null = null;
    let kept = 0;
    for (let i = 0; i < count; i += 1) {
      const packet = packets[i];
      const context = contextOf(packet);
      fields.read(packet, needs, context.vlan);
      const rule = table.judge(fields, Direction.IN, context.sourcePortId, packet.length);
      if (table.drops(rule)) {
        drops ??= this.#freeLists.pop() ?? new DropList();
        drops.add(packet, context.sourcePortId, this.#reasonOf(rule));
      } else {
        packets[kept] = packet;
        kept += 1;
      }
    }
    batch.count = kept;
    return drops;
  }

  onEgress(batch: Batch, flags: number): void {
    const table = this.#table;
    if (table.judges[Direction.OUT]) {
      const packets = batch.packets;
      const count = batch.count;
      for (let i = 0; i < count; i += 1) this.#judgeEgress(packets[i], table);
    }
    this.#handle.indicateEgress(batch, flags);
  }

  #judgeEgress(packet: Packet, table: RuleTable): void {
    const fields = this.#fields;
    const context = contextOf(packet);
    fields.read(packet, table.needs[Direction.OUT], context.vlan);
    const count = context.numDestinations;
    for (let index = 0; index < count; index += 1) {
      if (context.isExcluded(index)) continue;
      const rule = table.judge(fields, Direction.OUT, context.destinationPorts[index], packet.length);
      if (!table.drops(rule)) continue;
      this.#handle.excludeDestination(packet, index, this.#reasonOf(rule));
      this.#excluded.value += 1;
    }
  }

  /** Rules keep no state, so packets need not come here: see rule-table.ts for what decides. */
  passBy(packet: Packet, portId: number): Passage | null {
    if (!this.#ports.known) return null;
    const table = this.#table;
    const context = contextOf(packet);
    this.#fields.read(packet, table.needs[Direction.IN] | table.needs[Direction.OUT], context.vlan);
    const down = this.#passage(Direction.IN, context.sourcePortId, this.#dropped);
    if (down.drop !== undefined) return null;
    const up = this.#passage(Direction.OUT, portId, this.#excluded);
    // A direction without rules has nothing to say and nothing to count.
    if (down.carried === undefined) return up;
    if (up.carried === undefined) return down;
    return {
      ...up,
      fields: down.fields | up.fields,
      carried(packets: number, bytes: number): void {
        down.carried?.(packets, bytes);
        up.carried?.(packets, bytes);
      },
    };
  }

  passIngress(packet: Packet): Passage | null {
    if (!this.#ports.known) return null;
    const context = contextOf(packet);
    this.#fields.read(packet, this.#table.needs[Direction.IN], context.vlan);
    return this.#passage(Direction.IN, context.sourcePortId, this.#dropped);
  }

  /** What is done in one direction to packets like the one whose fields have been read. @param counter of what is dropped */
  #passage(direction: number, portId: number, counter: Counter): Passage {
    const table = this.#table;
    if (!table.judges[direction]) return { fields: 0 };
    const matched = table.matching(this.#fields, direction, portId);
    const decided = table.decided(matched);
    const drops = table.drops(decided);
    return {
      fields: table.fieldsOf(this.#fields, direction, portId),
      ...(drops ? { drop: this.#reasonOf(decided) } : {}),
      carried(packets: number, bytes: number): void {
        table.countCarried(matched, packets, bytes);
        if (drops) counter.value += packets;
      },
    };
  }

  onOidComplete(request: OidRequest, status: Status): void {
    const changed = this.#ports.note(request, status);
    if (changed.length > 0) this.#resolvePorts(changed, 'port' in request.oid ? request.oid.port.portId : 0);
  }

  reconfigure(configuration: unknown): void {
    this.#replace(configuration as FilterConfiguration);
  }

  status(): JsonValue {
    const table = this.#table;
    const { rules, default: byDefault } = table.configuration;
    return {
      default: { action: byDefault, packets: table.defaultPackets, bytes: table.defaultBytes },
      rules: rules.map((rule, number) => ({
        ...rule.given,
        direction: rule.direction,
        packets: table.packets[number],
        bytes: table.bytes[number],
        ...(rule.action === 'drop' ? { dropReason: this.#reasons.nameOf(rule.name) } : {}),
        missingPorts: (rule.ports ?? []).filter((name) => !this.#ports.ids.has(name)),
      })),
    };
  }

  /**
   * `show`: what {@link status} says. `reset`: counters to zero. `replace`: a new list of rules, of which those that stay the same
   * keep their counters.
   */
  command(name: string, args: JsonValue): JsonValue {
    switch (name) {
      case 'show':
        return this.status();
      case 'reset':
        // What went past until now is counted first.
        this.#handle.shortcuts.changed();
        this.#table.resetCounters();
        return this.status();
      case 'replace':
        this.#replace(parseFilterConfiguration(args));
        return this.status();
      default:
        throw new Error(`the filter has no command "${name}"; there are show, reset and replace`);
    }
  }

  explain(packet: Packet, context: ForwardingContext): Explanation {
    const isEgress = (context.flags & ContextFlag.EGRESS) !== 0;
    const direction = isEgress ? Direction.OUT : Direction.IN;
    this.#fields.read(packet, this.#table.needs[direction], context.vlan);
    const lines: string[] = [];
    if (!isEgress) {
      const drop = this.#explainPort(context.sourcePortId, direction, 'in', lines);
      return drop === null ? { lines } : { lines, drop };
    }
    const excluded: { portId: number; reason: number }[] = [];
    for (let index = 0; index < context.numDestinations; index += 1) {
      if (context.isExcluded(index)) continue;
      const portId = context.destinationPorts[index];
      const reason = this.#explainPort(portId, direction, `out to port ${portId}`, lines);
      if (reason !== null) excluded.push({ portId, reason });
    }
    return { lines, excluded };
  }

  /** @returns the drop reason, or null */
  #explainPort(portId: number, direction: number, where: string, lines: string[]): number | null {
    const { configuration } = this.#table;
    let decided = NO_RULE;
    for (const number of this.#table.matching(this.#fields, direction, portId)) {
      const rule = configuration.rules[number];
      lines.push(`${where}: rule ${number + 1} "${rule.name}" matches: ${rule.action}`);
      if (rule.action !== 'count') decided = number;
    }
    if (decided === NO_RULE) lines.push(`${where}: no rule decides: ${configuration.default} by default`);
    return this.#table.drops(decided) ? this.#reasonOf(decided) : null;
  }

  #reasonOf(rule: number): number {
    return rule === NO_RULE ? this.#reasons.byDefault : this.#reasonOfRule[rule];
  }

  #reasonsOf(configuration: FilterConfiguration): Uint16Array {
    return Uint16Array.from(configuration.rules, (rule) =>
      rule.action === 'drop' ? this.#reasons.ofRule(rule.name) : 0,
    );
  }

  #replace(configuration: FilterConfiguration): void {
    // What went past by the old rules is counted by them.
    this.#handle.shortcuts.changed();
    const before = this.#table;
    const after = new RuleTable(configuration, this.#ports.ids);
    const reasons = this.#reasonsOf(configuration);
    configuration.rules.forEach((rule, number) => {
      const old = before.configuration.rules.findIndex((candidate) => isDeepStrictEqual(candidate.given, rule.given));
      if (old < 0) return;
      after.packets[number] = before.packets[old];
      after.bytes[number] = before.bytes[old];
    });
    if (configuration.default === before.configuration.default) {
      after.defaultPackets = before.defaultPackets;
      after.defaultBytes = before.defaultBytes;
    }
    this.#table = after;
    this.#reasonOfRule = reasons;
  }

  #learnPorts(): void {
    if (!this.#ports.learn()) return;
    this.#table.resolvePorts(this.#ports.ids);
    this.#handle.shortcuts.changed();
  }

  /** Compile again if any rule names one of these ports. @param portId the port that they are or were names of; 0: of several */
  #resolvePorts(names: readonly string[], portId: number): void {
    const { rules } = this.#table.configuration;
    if (rules.some((rule) => rule.ports?.some((name) => names.includes(name)) ?? false)) {
      this.#table.resolvePorts(this.#ports.ids);
      this.#handle.shortcuts.changed(portId);
    }
  }
}

/** The filtering extension `filter`. Its configuration and commands are described in README.md. */
export const filterExtension: ExtensionFactory<FilterConfiguration> = {
  descriptor: {
    name: 'filter',
    type: 'filtering',
    version: '1.0.0',
    description: 'allows, drops and counts packets by an ordered list of rules',
  },
  parseConfiguration: parseFilterConfiguration,
  create: (handle, configuration) => new FilterExtension(handle, configuration),
};
