/** A list of rules in force: the compiled table, with what each rule counts and the reasons that it drops for. Neighbour: extension.ts puts one in the place of another. */
import { isDeepStrictEqual } from 'node:util';
import type { DeciderHandle, FlowCounter } from '../../switch/index.ts';
import { BY_DEFAULT, type RuleReasons } from './drop-reasons.ts';
import { NO_RULE, RuleTable } from './rule-table.ts';
import type { FilterConfiguration } from './schema.ts';

export class RuleList {
  readonly table: RuleTable;
  /** By number of the rule; super-packets count as one packet. */
  readonly counters: readonly FlowCounter[];
  /** Of packets that no rule decided. */
  readonly byDefault: FlowCounter;
  readonly #reasons: readonly string[];

  /** @param before the list that this one is in the place of: rules that stay the same keep their counters; null for none */
  constructor(
    configuration: FilterConfiguration,
    handle: DeciderHandle,
    reasons: RuleReasons,
    before: RuleList | null,
  ) {
    const { rules } = configuration;
    this.table = new RuleTable(configuration, handle.portIds());
    this.#reasons = rules.map(({ action, name }) => (action === 'drop' ? reasons.ofRule(name) : BY_DEFAULT));
    const former = before?.table.configuration;
    this.counters = rules.map((rule) => {
      const at = former?.rules.findIndex((one) => isDeepStrictEqual(one.given, rule.given)) ?? -1;
      return before?.counters[at] ?? handle.tally(rule.name);
    });
    const isSameDefault = before !== null && former?.default === configuration.default;
    this.byDefault = isSameDefault ? before.byDefault : handle.tally('default');
  }

  /** Why a rule drops, or with NO_RULE the default. */
  reasonOf(rule: number): string {
    return rule === NO_RULE ? BY_DEFAULT : this.#reasons[rule];
  }

  /** Start counting anew. */
  resetCounters(): void {
    for (const counter of this.counters) counter.reset();
    this.byDefault.reset();
  }
}
