/**
 * Drop reasons named after rules. A switch tells few reasons apart and never forgets one, so that only so many rules get a name
 * of their own; the rest share one.
 */
import type { DeciderHandle } from '../../switch/index.ts';

/** Rules with a reason of their own; the other extensions need room too. */
const MAXIMUM_NAMED = 40;

/** For drops by the default action. */
export const BY_DEFAULT = 'DEFAULT';
const SHARED = 'RULE';

export class RuleReasons {
  readonly #handle: DeciderHandle;
  /** Reasons by the names that rules would have; those that share one have that. */
  readonly #named = new Map<string, string>();

  constructor(handle: DeciderHandle) {
    this.#handle = handle;
    handle.dropReason(BY_DEFAULT, 'No rule of the filter allows the packet.');
    handle.dropReason(SHARED, 'A rule of the filter drops the packet; its counters tell which.');
  }

  /** The reason for drops by a rule: `NO_TELNET` for the rule "no-telnet". */
  ofRule(ruleName: string): string {
    const name = reasonName(ruleName);
    const known = this.#named.get(name);
    if (known !== undefined) return known;
    if (this.#named.size === MAXIMUM_NAMED) return SHARED;
    const isNamed = this.#handle.dropReason(name, `The filter rule "${ruleName}" drops the packet.`);
    const reason = isNamed ? name : SHARED;
    this.#named.set(name, reason);
    return reason;
  }

  /** The name under which drops by a rule are counted. */
  nameOf(ruleName: string): string {
    return `${this.#handle.name}:${this.#named.get(reasonName(ruleName)) ?? SHARED}`;
  }
}

/** Set apart from DEFAULT and RULE, which a rule may be called too. */
function reasonName(ruleName: string): string {
  const plain = ruleName.toUpperCase().replace(/[^A-Z0-9]/g, '_');
  return plain === BY_DEFAULT || plain === SHARED ? `RULE_${plain}` : plain;
}
