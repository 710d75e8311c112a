/**
 * Port and switch properties: the policies that a switch administrator sets. Each is described once, by a schema: values from outside are checked by it, field by field, before anything else
 * sees them, and it makes the type that everybody sees. Every complaint names the field and what it must be. Neighbour: policies/ compiles properties for the core.
 */
import { z } from 'zod';
import { CONNECTION_STATES } from '../../decide/index.ts';
import { formatMac, parseMacInto } from '../../net/index.ts';
import { SwitchError } from '../errors.ts';
import { plainJson } from '../plain-json.ts';

/** Plain JSON. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;

/** A mapping of JSON. */
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

/** Most rules in one ACL, ids in one list, and addresses of one port: bounds on work per packet and on memory. */
const MAX_ACL_RULES = 4096;
const MAX_ADDRESS_LIMIT = 1024;
const MAX_MAC_ADDRESSES = 64;
const MAX_BINDINGS = 256;
const MAX_ROUTING_DOMAINS = 256;
const MAX_IDS = 4096;
const MAX_SUBNET_ID = 0xff_ffff;
const MAX_TEXT = 4096;

const must = (be: string) => ({ error: `must be ${be}` });

/** What a union expects depends on whether the value is an object at all. */
const mustBeOneOf = (choices: readonly string[]) => ({
  error: ({ code }: { readonly code?: string }) =>
    code === 'invalid_type' ? 'must be an object' : `must be one of ${choices.join(', ')}`,
});

function integer(low: number, high: number) {
  const error = must(`an integer from ${low} to ${high}`);
  return z.int(error).min(low, error).max(high, error);
}

function choice<const Choices extends readonly string[]>(choices: Choices) {
  return z.enum(choices, mustBeOneOf(choices));
}

function list<Item extends z.ZodType>(item: Item, maximum: number) {
  const error = must(`a list of at most ${maximum}`);
  return z.array(item, error).max(maximum, error).readonly();
}

const fields = <Shape extends z.ZodRawShape>(shape: Shape) => z.strictObject(shape, must('an object'));
const text = z.string(must('a text')).max(MAX_TEXT, must(`a text of at most ${MAX_TEXT} characters`));
const flag = (fallback: boolean) => z.boolean(must('true or false')).default(fallback);
const vlanId = integer(1, 4094);
const vlanIds = list(vlanId, MAX_IDS);

const json = z
  .unknown()
  .transform((value, context): JsonValue => {
    try {
      return plainJson(value);
    } catch {
      context.addIssue({ code: 'custom', message: 'must be plain JSON' });
      return z.NEVER;
    }
  })
  .default(null);

const stationMac = z.string(must('the MAC address of one station')).transform((given, context) => {
  const bytes = new Uint8Array(6);
  if (!parseMacInto(given, bytes, 0) || (bytes[0] & 1) !== 0)
    context.addIssue({ code: 'custom', message: 'must be the MAC address of one station' });
  return formatMac(bytes);
});

const security = fields({
  type: z.literal('security'),
  /** Source MAC addresses other than those below are accepted. */
  allowMacSpoofing: flag(false),
  /** The addresses of who is behind the port. Left out: the NIC's own; empty: none is known, and every frame is refused. */
  macAddresses: list(stationMac, MAX_MAC_ADDRESSES).optional(),
  /** While none is known: the first source address becomes the one. It is kept until the NIC goes. */
  learnMacAddress: z.boolean(must('true or false')).optional(),
  /** The priority bits of incoming tags are honoured; otherwise they are cleared. */
  allowIeeePriorityTag: flag(false),
  /** 0: none. Otherwise the port talks only to ports with the same id (24 bits). */
  virtualSubnetId: integer(0, MAX_SUBNET_ID).default(0),
  /** The NIC may use the MAC address of another NIC whose port allows teaming too. */
  allowTeaming: flag(false),
  /** Most IP source addresses the port may use; 0: no limit. */
  dynamicIpAddressLimit: integer(0, MAX_ADDRESS_LIMIT).default(0),
});

const privateVlan = { type: z.literal('vlan'), mode: z.literal('private'), primaryVlanId: vlanId };

const vlan = z.discriminatedUnion(
  'mode',
  [
    fields({ type: z.literal('vlan'), mode: z.literal('access'), vlanId }),
    fields({
      type: z.literal('vlan'),
      mode: z.literal('trunk'),
      /** The VLAN of untagged frames, 0 to 4094; 0: untagged frames are not in a VLAN. */
      nativeVlanId: integer(0, 4094).default(0),
      /** VLANs carried tagged, or all. */
      trunkVlanIds: z
        .union([z.literal('all'), vlanIds], must(`"all", or a list of at most ${MAX_IDS} integers from 1 to 4094`))
        .default('all'),
      /** VLANs taken out of the above. */
      pruneVlanIds: vlanIds.default([]),
    }),
    z.discriminatedUnion(
      'privateMode',
      [
        fields({ ...privateVlan, privateMode: choice(['isolated', 'community']), secondaryVlanId: vlanId }).refine(
          ({ primaryVlanId, secondaryVlanId }) => secondaryVlanId !== primaryVlanId,
          { path: ['secondaryVlanId'], ...must('another VLAN than the primary') },
        ),
        fields({
          ...privateVlan,
          privateMode: z.literal('promiscuous'),
          /** Secondary VLANs that this port talks to. */
          secondaryVlanIds: vlanIds.default([]),
        }).refine(({ primaryVlanId, secondaryVlanIds }) => !secondaryVlanIds.includes(primaryVlanId), {
          path: ['secondaryVlanIds'],
          ...must('without the primary VLAN'),
        }),
      ],
      mustBeOneOf(['isolated', 'community', 'promiscuous']),
    ),
  ],
  mustBeOneOf(['access', 'trunk', 'private']),
);

const profile = fields({
  type: z.literal('profile'),
  profileId: text,
  profileName: text.default(''),
  vendorId: text.default(''),
  data: json,
});

const ISOLATION_MODES = ['none', 'vlan', 'nativeVirtualSubnet', 'externalVirtualSubnet'] as const;

const isolation = z.discriminatedUnion(
  'mode',
  [
    fields({
      type: z.literal('isolation'),
      mode: z.enum(['none', 'vlan']),
      allowUntagged: flag(true),
      /** The isolation id of untagged frames. */
      defaultIsolationId: integer(0, 4094).default(0),
    }),
    fields({
      type: z.literal('isolation'),
      mode: z.enum(['nativeVirtualSubnet', 'externalVirtualSubnet']),
      allowUntagged: flag(true),
      defaultIsolationId: integer(1, MAX_SUBNET_ID),
    }),
  ],
  mustBeOneOf(ISOLATION_MODES),
);

const routingDomain = fields({
  type: z.literal('routingDomain'),
  domains: list(
    fields({ id: text, name: text.default(''), isolationIds: vlanIds.default([]) }),
    MAX_ROUTING_DOMAINS,
  ).default([]),
});

const states = must(`a list of one or more of ${CONNECTION_STATES.join(', ')}, each once`);

const aclRule = fields({
  /** `in`: from the port into the switch. */
  direction: choice(['in', 'out']),
  action: choice(['allow', 'deny', 'meter']),
  /** Higher weights are looked at first; equal ones in order. */
  weight: integer(0, 65_535).default(0),
  localMac: text.optional(),
  remoteMac: text.optional(),
  /** An IPv4 or IPv6 address, with a prefix length where a range is meant. */
  localIp: text.optional(),
  remoteIp: text.optional(),
  /** IP protocol number. */
  protocol: integer(0, 255).optional(),
  /** TCP, UDP or SCTP port. A port in a rule never matches a fragment that carries no ports. */
  localPort: integer(0, 65_535).optional(),
  remotePort: integer(0, 65_535).optional(),
  /** States of connections, each once, at least one: the packet is IP, and to its connection one of these. */
  state: list(choice(CONNECTION_STATES), CONNECTION_STATES.length)
    .refine((given) => given.length > 0 && new Set(given).size === given.length, states)
    .optional(),
});

const acl = fields({ type: z.literal('acl'), rules: list(aclRule, MAX_ACL_RULES).default([]) });

const binding = fields({
  type: z.literal('binding'),
  /** Addresses or prefixes that are bound to the port, for one MAC address or for all that it may use. */
  addresses: list(fields({ ip: text, mac: text.optional() }), MAX_BINDINGS).default([]),
  /** Addresses that DHCP and DHCPv6 servers give are bound, as long as they are given. */
  dhcp: flag(false),
  /** IPv6 addresses that are tested for duplicates are bound, when nobody objects. */
  nd: flag(false),
  /** Most learned addresses. */
  limit: integer(1, MAX_BINDINGS).default(16),
});

const guard = fields({
  type: z.literal('guard'),
  /** DHCPv4 and DHCPv6 server messages. */
  dhcp: flag(false),
  /** ICMPv6 router advertisements and redirects, and their ICMPv4 counterparts. */
  router: flag(false),
});

const qos = fields({
  type: z.literal('qos'),
  /** Bits a second. */
  maxRateBps: integer(8000, 1e12),
  /** Bytes that may go out at once. */
  burstBytes: integer(1514, 1e9).default(131_072),
});

const monitor = fields({ type: z.literal('monitor'), mode: choice(['source', 'destination']) });

const custom = fields({ type: z.literal('custom'), propertyId: text, data: json });

/** What a port lets its NIC claim to be. Without this property nothing is enforced. */
export type SecurityProperty = Readonly<z.output<typeof security>>;
/** VLAN membership. Without this property a port carries all VLANs as they are (tagged stays tagged). */
export type VlanProperty = Readonly<z.output<typeof vlan>>;
/** A named profile that says what the port is for; kept for extensions, not enforced. */
export type ProfileProperty = Readonly<z.output<typeof profile>>;
/** What keeps tenants apart on a port that carries several. */
export type IsolationProperty = Readonly<z.output<typeof isolation>>;
/** The routing domains (tenants) of a port and the isolation ids that belong to them. */
export type RoutingDomainProperty = Readonly<z.output<typeof routingDomain>>;
/** One access control rule. Local is the port's side, remote the other; what is left out matches everything. */
export type AclRule = Readonly<z.input<typeof aclRule>>;
/** Access control of a port. No rule matches: the packet passes. */
export type AclProperty = { readonly type: 'acl'; readonly rules: readonly AclRule[] };
/** Which IP addresses a port may use as sources, and claim in ARP and neighbour discovery. */
export type BindingProperty = Readonly<z.output<typeof binding>>;
/** Which messages of network infrastructure are refused from a port. */
export type GuardProperty = Readonly<z.output<typeof guard>>;
/** Bandwidth limit towards the port. */
export type QosProperty = Readonly<z.output<typeof qos>>;
/** Port mirroring: what goes in and out of `source` ports is copied to `destination` ports. */
export type MonitorProperty = Readonly<z.output<typeof monitor>>;
/** A property that only extensions understand. Several may be set, told apart by their id. */
export type CustomProperty = Readonly<z.output<typeof custom>>;
/** A property of the switch as a whole: custom ones only. */
export type SwitchProperty = CustomProperty;

/** Any property of a port. */
export type PortProperty =
  | SecurityProperty
  | VlanProperty
  | ProfileProperty
  | IsolationProperty
  | RoutingDomainProperty
  | AclProperty
  | GuardProperty
  | BindingProperty
  | QosProperty
  | MonitorProperty
  | CustomProperty;

const byType = { security, vlan, profile, isolation, routingDomain, acl, guard, binding, qos, monitor, custom };

export type PortPropertyType = keyof typeof byType;

/** All port property types. */
export const PORT_PROPERTY_TYPES = Object.keys(byType) as readonly PortPropertyType[];

const portProperty = z.discriminatedUnion(
  'type',
  [security, vlan, profile, isolation, routingDomain, acl, guard, binding, qos, monitor, custom],
  mustBeOneOf(PORT_PROPERTY_TYPES),
);

/**
 * Check a port property from outside and fill in what may be left out.
 * @throws SwitchError INVALID naming the first field that is wrong
 */
export function checkPortProperty(value: unknown): PortProperty {
  const checked = portProperty.safeParse(value);
  if (checked.success) return checked.data;
  const [issue] = checked.error.issues;
  const [path, complaint] =
    issue.code === 'unrecognized_keys' ? [[...issue.path, issue.keys[0]], 'is not known'] : [issue.path, issue.message];
  const field = path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`)).join('');
  throw new SwitchError('INVALID', `property ${field === '' ? 'value' : `field ${field.slice(1)}`} ${complaint}`);
}

/** As {@link checkPortProperty}, for a property of the switch: custom ones only. */
export function checkSwitchProperty(value: unknown): SwitchProperty {
  const property = checkPortProperty(value);
  if (property.type !== 'custom') throw new SwitchError('INVALID', 'a switch property has the type custom');
  return property;
}
