/**
 * Drop reasons named after rules. A switch tells few reasons apart and never forgets one, so that only so many rules get a name
 * of their own; the rest share one. Neighbour: extension.ts.
 */
import type { DropReasonCode, ExtensionHandle } from '../../switch/index.ts';

/** Rules with a reason of their own; the other extensions need room too. */
const MAXIMUM_NAMED = 40;

const BY_DEFAULT = 'DEFAULT';
const SHARED = 'RULE';

export class RuleReasons {
  /** For drops by the default action. */
  readonly byDefault: DropReasonCode;
  readonly #handle: ExtensionHandle;
  readonly #shared: DropReasonCode;
  readonly #named = new Map<string, DropReasonCode>();

  constructor(handle: ExtensionHandle) {
    this.#handle = handle;
    this.byDefault = handle.registerDropReason(BY_DEFAULT, 'No rule of the filter allows the packet.');
    this.#shared = handle.registerDropReason(SHARED, 'A rule of the filter drops the packet; its counters tell which.');
  }

  /** The reason for drops by a rule: `filter:NO_TELNET` for the rule "no-telnet". */
  ofRule(ruleName: string): DropReasonCode {
    const name = reasonName(ruleName);
    const known = this.#named.get(name);
    if (known !== undefined) return known;
    if (this.#named.size === MAXIMUM_NAMED) return this.#shared;
    let reason = this.#shared;
    try {
      reason = this.#handle.registerDropReason(name, `The filter rule "${ruleName}" drops the packet.`);
    } catch (error) {
      // The switch has no number left.
      if (!(error instanceof RangeError)) throw error;
    }
    this.#named.set(name, reason);
    return reason;
  }

  /** The name under which drops by a rule are counted, once {@link ofRule} has been asked. */
  nameOf(ruleName: string): string {
    const name = reasonName(ruleName);
    const isNamed = (this.#named.get(name) ?? this.#shared) !== this.#shared;
    return `${this.#handle.name}:${isNamed ? name : SHARED}`;
  }
}

/** Set apart from DEFAULT and RULE, which a rule may be called too. */
function reasonName(ruleName: string): string {
  const plain = ruleName.toUpperCase().replace(/[^A-Z0-9]/g, '_');
  return plain === BY_DEFAULT || plain === SHARED ? `RULE_${plain}` : plain;
}
