/**
 * The filter's configuration from outside: a zod schema, which makes the type of a rule, and its findings as sentences that name the rule. Neighbours: rule.ts says what a rule can match; net/ reads
 * the names and addresses.
 */
import { z } from 'zod';
import {
  ETHER_TYPE_NAMES,
  etherTypeNumber,
  PROTOCOL_NAMES,
  parseMaskedMac,
  parsePrefix,
  protocolNumber,
  unsignedNumber,
} from '../../net/index.ts';
import { CONNECTION_STATES, type Flaw, FlawsError, type JsonObject } from '../../switch/index.ts';
import { contradiction, type NumberRange, stateBit } from './rule.ts';

const MAXIMUM_RULES = 1024;
const MAXIMUM_LIST = 64;

/** A configuration of the filter is not valid. The message lists every finding, one a line. */
export class FilterConfigurationError extends FlawsError {
  override readonly name = 'FilterConfigurationError';
  readonly issues: readonly string[];

  constructor(issues: readonly Issue[]) {
    const lines = issues.map(({ place, message }) => (place === '' ? message : `${place}: ${message}`));
    super(issues, lines);
    this.issues = lines;
  }
}

/** A flaw, with its place as people name it: that of a rule is its number and name. */
interface Issue extends Flaw {
  readonly place: string;
}

type Lookup = (text: string) => number;

/** One number, name or range of a list. @returns what is wrong, or the range */
function readRange(given: number | string, what: string, maximum: number, lookup: Lookup): NumberRange | string {
  const text = String(given).trim();
  const single = lookup(text);
  if (single >= 0) return { low: single, high: single };
  const [lowText, highText, ...more] = text.split('-');
  const low = unsignedNumber(lowText, maximum);
  const high = highText === undefined || more.length > 0 ? -1 : unsignedNumber(highText, maximum);
  if (low < 0 || high < 0) return `"${text}" is not ${what}`;
  return low > high ? `"${text}": the lower number comes first` : { low, high };
}

/** A field of a rule that may be left out: null then. */
function orNull<Schema extends z.ZodType>(schema: Schema) {
  return schema.optional().transform((value) => value ?? null);
}

/** A number, a name, a range as text, or a list of them. */
function numbers(what: string, maximum: number, lookup: Lookup = (text) => unsignedNumber(text, maximum)) {
  const item = z.union([z.number(), z.string()]);
  const error = `must be ${what}, or a list of 1 to ${MAXIMUM_LIST} of them`;
  const some = z.union([item, z.array(item).min(1, { error }).max(MAXIMUM_LIST, { error })], { error });
  return orNull(
    some.transform((value, context): readonly NumberRange[] => {
      const ranges: NumberRange[] = [];
      for (const given of Array.isArray(value) ? value : [value]) {
        const range = readRange(given, what, maximum, lookup);
        if (typeof range === 'string') context.addIssue({ code: 'custom', message: range });
        else ranges.push(range);
      }
      return ranges;
    }),
  );
}

/** Text that a reader turns into something, or into a sentence that says what is wrong. */
function parsed<T extends object>(what: string, read: (text: string) => T | string) {
  return orNull(
    z.string({ error: `must be ${what}` }).transform((text, context): T => {
      const result = read(text);
      if (typeof result !== 'string') return result;
      context.addIssue({ code: 'custom', message: result });
      return z.NEVER;
    }),
  );
}

const TCP_FLAGS: ReadonlyMap<string, number> = new Map([
  ['fin', 0x01],
  ['syn', 0x02],
  ['rst', 0x04],
  ['psh', 0x08],
  ['ack', 0x10],
  ['urg', 0x20],
  ['ece', 0x40],
  ['cwr', 0x80],
]);

/** Some bits of the TCP flags byte and the values they must have. */
interface FlagTest {
  readonly mask: number;
  readonly value: number;
}

/** Read `syn !ack`: flags that are set and, with "!", clear. Others may be either. */
function readTcpFlags(text: string): FlagTest | string {
  let mask = 0;
  let value = 0;
  for (const word of text.toLowerCase().split(/[\s,]+/)) {
    if (word === '') continue;
    const isClear = word.startsWith('!');
    const bit = TCP_FLAGS.get(isClear ? word.slice(1) : word);
    if (bit === undefined) return `"${word}" is not a TCP flag; there are ${[...TCP_FLAGS.keys()].join(', ')}`;
    if ((mask & bit) !== 0) return `"${text}" names ${word.replace('!', '')} twice`;
    mask |= bit;
    if (!isClear) value |= bit;
  }
  return mask === 0 ? 'names no TCP flag' : { mask, value };
}

const name = z.string({ error: 'must be a name' }).regex(/^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,62}$/, {
  error: 'must be 1 to 63 letters, digits, or any of _ . : - (not first)',
});
const port = z.string({ error: 'must be the name of a port' }).min(1, { error: 'must be the name of a port' }).max(63);
const mac = () => parsed('a MAC address, with a mask if need be: 02:00:00:00:00:01/ff:ff:ff:00:00:00', parseMaskedMac);
const prefix = () => parsed('an IPv4 or IPv6 address or prefix', parsePrefix);

const ruleFields = {
  name: name.describe('unique in the list; drops are counted under it'),
  action: z.enum(['allow', 'drop', 'count'], { error: 'must be allow, drop or count' }),
  /** `in`: from the port into the switch. */
  direction: z.enum(['in', 'out', 'both'], { error: 'must be in, out or both' }).default('both'),
  /** The source port for `in`, the destination port for `out`. */
  ports: orNull(
    z
      .array(port, { error: 'must be a list of port names' })
      .min(1, { error: 'must name at least one port' })
      .max(1024, { error: 'has more than 1024 names' }),
  ),
  /** The one that the switch holds the packet in; 0: none. */
  vlan: numbers('a VLAN id from 0 (none) to 4094 or a range such as 10-20', 4094),
  sourceMac: mac(),
  destinationMac: mac(),
  etherType: numbers(`an EtherType as a number or one of ${ETHER_TYPE_NAMES.join(', ')}`, 0xffff, etherTypeNumber),
  sourceIp: prefix(),
  destinationIp: prefix(),
  protocol: numbers(`an IP protocol as a number or one of ${PROTOCOL_NAMES.join(', ')}`, 255, protocolNumber),
  sourcePort: numbers('a port number from 0 to 65535 or a range such as 1024-65535', 65_535),
  destinationPort: numbers('a port number from 0 to 65535 or a range such as 1024-65535', 65_535),
  tcpFlags: parsed('TCP flags such as "syn !ack"', readTcpFlags),
  fragment: orNull(
    z
      .union([z.boolean(), z.enum(['yes', 'no'])], { error: 'must be yes or no' })
      .transform((value) => value === true || value === 'yes'),
  ),
  icmpType: numbers('an ICMP type from 0 to 255 or a range', 255),
  /** As bits of {@link stateBit}. */
  state: orNull(
    z
      .array(z.enum(CONNECTION_STATES, { error: `is no state; there are ${CONNECTION_STATES.join(', ')}` }), {
        error: `must be a list of ${CONNECTION_STATES.join(', ')}`,
      })
      .min(1, { error: `must name at least one of ${CONNECTION_STATES.join(', ')}` })
      .refine((states) => new Set(states).size === states.length, { error: 'names a state twice' })
      .transform((states) => states.reduce((bits, state) => bits | stateBit(state), 0)),
  ),
};

const ruleSchema = z.strictObject(ruleFields, { error: 'must be a mapping with the keys of a rule' });

/** One rule. Fields that are null match everything; the others must all match. */
export type FilterRule = Readonly<z.output<typeof ruleSchema>> & {
  /** The rule as it was written. */
  readonly given: JsonObject;
};

export interface FilterConfiguration {
  /** What happens to packets that no `allow` or `drop` rule matches. */
  readonly default: 'allow' | 'drop';
  readonly rules: readonly FilterRule[];
  /** As it was written. */
  readonly given: JsonObject;
}

const configurationSchema = z.strictObject(
  {
    default: z.enum(['allow', 'drop'], { error: 'must be allow or drop' }).default('allow'),
    rules: z
      .array(z.unknown(), { error: 'must be a list of rules' })
      .max(MAXIMUM_RULES, { error: `has more than ${MAXIMUM_RULES} rules` })
      .default([]),
  },
  { error: 'must be a mapping with "default" and "rules"' },
);

/** Findings of one schema, each behind a place. @param base where the value stands in the configuration */
function describe(error: z.ZodError, place: string, base: readonly PropertyKey[], keys: readonly string[]): Issue[] {
  return error.issues.map((issue) => {
    const path = issue.path.map((step) => (typeof step === 'number' ? `[${step}]` : String(step))).join('');
    const message =
      issue.code === 'unrecognized_keys'
        ? `unknown key ${issue.keys.map((key) => `"${key}"`).join(', ')}; there are ${keys.join(', ')}`
        : issue.message;
    return {
      path: [...base, ...issue.path],
      place: [place, path].filter((part) => part !== '').join(': '),
      message,
    };
  });
}

function readRule(given: unknown, index: number, issues: Issue[]): FilterRule | null {
  const named = typeof given === 'object' && given !== null && 'name' in given && typeof given.name === 'string';
  const place = named ? `rule ${index + 1} "${given.name}"` : `rule ${index + 1}`;
  const path = ['rules', index];
  const checked = ruleSchema.safeParse(given);
  if (!checked.success) {
    issues.push(...describe(checked.error, place, path, Object.keys(ruleFields)));
    return null;
  }
  const rule: FilterRule = { ...checked.data, given: JSON.parse(JSON.stringify(given)) };
  const clash = contradiction(rule);
  if (clash !== null) {
    issues.push({ path, place, message: `can never match: ${clash[1]} contradicts ${clash[0]}` });
  }
  return rule;
}

/**
 * Check a configuration, or the arguments of the command `replace`.
 * @param value `{ default?: 'allow' | 'drop', rules?: [...] }`; undefined or null: no rules
 * @throws FilterConfigurationError with everything that is wrong
 */
export function parseFilterConfiguration(value: unknown): FilterConfiguration {
  const checked = configurationSchema.safeParse(value ?? {});
  if (!checked.success) throw new FilterConfigurationError(describe(checked.error, '', [], ['default', 'rules']));
  const issues: Issue[] = [];
  const rules: FilterRule[] = [];
  const firstUse = new Map<string, number>();
  checked.data.rules.forEach((given, index) => {
    const rule = readRule(given, index, issues);
    if (rule === null) return;
    const earlier = firstUse.get(rule.name);
    if (earlier === undefined) firstUse.set(rule.name, index);
    else {
      const place = `rule ${index + 1} "${rule.name}": name`;
      issues.push({ path: ['rules', index, 'name'], place, message: `rule ${earlier + 1} has the same` });
    }
    rules.push(rule);
  });
  if (issues.length > 0) throw new FilterConfigurationError(issues);
  return { default: checked.data.default, rules, given: JSON.parse(JSON.stringify(value ?? {})) };
}
