/**
 * The two errors of the switch: a rule that an extension broke, and a control call that cannot be carried out.
 * The rules are numbered as in the room's README; their short text travels with the error so that a log line is enough.
 */

/** One line for each rule, by number; what a {@link RuleError} says besides its own detail. */
export const RULES: Readonly<Record<number, string>> = {
  1: 'extensions are ordered capturing, filtering, forwarding',
  2: 'one forwarding extension per switch',
  3: 'traffic goes ingress, miniport edge, egress; completion runs in reverse',
  4: 'a capturing extension only watches, and originates on ingress only',
  5: 'a filtering extension never adds destinations, and excludes on egress only',
  6: 'a forwarding extension adds destinations on ingress and excludes on egress',
  7: 'without a forwarding extension the switch picks the destinations',
  8: 'built-in ingress policy runs after filters, built-in egress policy before them',
  9: 'monitor ports are added by the miniport edge',
  10: 'a packet needs a forwarding context, then its source, before destinations',
  11: 'the source of a packet is a connected NIC, set through setSource',
  12: 'one destination is added, several are grown, filled and committed',
  13: 'committed destinations stay; they can only be excluded, once',
  14: 'a destination is a connected NIC, index 0 save on the external port',
  15: 'a packet without destinations is dropped and reported',
  16: 'filtered packets are reported by one port and one reason, before the rest goes on',
  17: 'copied information keeps destinations only when asked to, and not towards ingress from a filter',
  18: 'on egress neither data, source nor destinations change',
  19: 'a packet stays until its clones have completed',
  20: 'native forwarding is decided by the switch alone',
  21: 'a switch context belongs to the extension that set it',
  22: 'the handler table is the way into the switch',
  23: 'SINGLE_SOURCE promises one source for the whole list',
  24: 'DESTINATION_GROUP promises one identical destination, and only forwarding may set it',
  25: 'the switch decides the destinations of natively forwarded packets',
  26: 'ports and NICs move through their states in order',
  27: 'references hold back deletion, and are taken and given back in pairs',
  28: 'a NIC that is not connected originates nothing',
  29: 'a disconnected NIC is no destination; a pended disconnect is forwarded after its references are given back',
  30: 'NIC index 0 is the adapter of the port, 1 to 32 are physical adapters under the external port',
  31: 'only creation and property additions and updates may be vetoed',
  32: 'this OID is never completed or failed by an extension',
  33: 'extensions do not originate OIDs that create, delete or set',
  34: 'arrays and properties are queried once the switch is active',
  35: 'port properties are enumerated under a port reference',
  36: 'standard properties are forwarded, custom ones completed by the forwarding extension',
  37: 'a property has one of the known types',
  38: 'feature status is queried for switch and port',
  39: 'a NIC request keeps its ids; only forwarding redirects it, and to the external port',
  40: 'save data carries the id of the extension that completes the save',
  41: 'restore data goes to the extension that saved it; a failure fails the whole restore',
  42: 'the stack restarts only when no OID is pending',
  43: 'a NIC status wraps the indication of the adapter',
  44: 'what is handed over is a batch of packets, each once, with frames within their memory',
};

/** An extension broke a rule of the switch; the call was refused and nothing changed. */
export class RuleError extends Error {
  /** Number of the rule, a key of `RULES`. */
  readonly rule: number;

  /**
   * @param rule number of the rule
   * @param detail what was attempted, in one clause
   */
  constructor(rule: number, detail: string) {
    super(`${detail} (rule ${rule}: ${RULES[rule] ?? 'unknown rule'})`);
    this.name = 'RuleError';
    this.rule = rule;
  }
}

/** Why a control call failed, for programs. */
export type SwitchErrorCode =
  | 'NOT_FOUND'
  | 'EXISTS'
  | 'INVALID'
  | 'STATE'
  | 'VETOED'
  | 'FAILED'
  | 'BUSY'
  | 'CLOSED'
  | 'EXTENSION';

/** A control call that cannot be carried out; the switch is as it was before the call. */
export class SwitchError extends Error {
  readonly code: SwitchErrorCode;

  constructor(code: SwitchErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'SwitchError';
    this.code = code;
  }
}
