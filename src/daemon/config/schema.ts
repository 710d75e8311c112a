/**
 * The configuration's shape, as zod schemas: the one source of the types, of the checks (parse.ts), of the published JSON schema
 * (json-schema.ts) and of what `port add` and `port set` take. Descriptions appear in editors that know the schema.
 */
import { isIP } from 'node:net';
import { z } from 'zod';
import { DEFAULT_CONNECTIONS, MAXIMUM_MAPPED_CONNECTIONS } from '../../connections/index.ts';
import { CONNECTION_STATES } from '../../decide/index.ts';
import { PROTOCOL_NAMES } from '../../net/index.ts';

const NAME = /^(?!__)[A-Za-z0-9_][A-Za-z0-9_.:-]{0,62}$/;
/** An interface name, as the kernel takes it. */
export const INTERFACE_NAME = /^(?!\.{1,2}$)[^\s/:]{1,15}$/;
const MAC = /^[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}$/;
const VLAN_RANGE = /^\d{1,4}(?:-\d{1,4})?$/;

function text(pattern: RegExp, what: string) {
  return z.string({ error: `must be ${what}` }).regex(pattern, { error: `must be ${what}` });
}

function integer(minimum: number, maximum: number, what = '') {
  const error = `must be a whole number from ${minimum} to ${maximum}${what === '' ? '' : ` (${what})`}`;
  return z.int({ error }).min(minimum, { error }).max(maximum, { error });
}

function ipPrefix(what: string) {
  const error = `must be ${what}`;
  return z.string({ error }).refine(
    (value) => {
      const [ip, prefix, ...more] = value.split('/');
      const version = isIP(ip);
      if (version === 0 || ip.includes('%') || more.length > 0) return false;
      return prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= (version === 4 ? 32 : 128));
    },
    { error },
  );
}

const address = ipPrefix('an IP address or prefix such as 10.0.0.0/8 or 2001:db8::/32');
const flag = z.boolean({ error: 'must be true or false' });
const path = z
  .string({ error: 'must be a path' })
  .min(1, { error: 'must be a path' })
  .max(4096, { error: 'path is too long' });

function label(what: string) {
  const error = `must be ${what} of 1 to 128 characters`;
  return z.string({ error }).min(1, { error }).max(128, { error });
}

/** The name of a port, an extension or a switch. */
export const nameSchema = text(NAME, 'a name of 1 to 63 letters, digits, or any of _ . : - (not first)');
const interfaceName = text(
  INTERFACE_NAME,
  'an interface name of 1 to 15 characters, without blanks, slashes and colons',
);
export const macSchema = text(MAC, 'a MAC address such as 02:00:00:00:00:01').transform((value) => value.toLowerCase());
/** An address of one station, as a forwarding entry needs it. */
export const stationSchema = macSchema.refine((value) => (Number.parseInt(value.slice(0, 2), 16) & 1) === 0, {
  error: 'must be the address of one station, not of a group',
});
const vlanSchema = integer(1, 4094, 'a VLAN id');
const vlanRange = z.string().refine(
  (value) => {
    if (!VLAN_RANGE.test(value)) return false;
    const [low, high = low] = value.split('-').map(Number);
    return low >= 1 && high <= 4094 && low <= high;
  },
  { error: 'must be a VLAN id or a range such as 20-30, from 1 to 4094, the lower first' },
);
const vlanList = z
  .array(z.union([vlanSchema, vlanRange], { error: 'must be a VLAN id from 1 to 4094 or a range such as 20-30' }), {
    error: 'must be a list of VLAN ids and ranges, such as [10, 20-30]',
  })
  .max(256, { error: 'has more than 256 entries' });

const portVlan = z
  .discriminatedUnion(
    'mode',
    [
      z.strictObject({
        mode: z.literal('access'),
        id: vlanSchema.describe('VLAN of all untagged frames of this port'),
      }),
      z.strictObject({
        mode: z.literal('trunk'),
        native: vlanSchema.optional().describe('VLAN of untagged frames; without it they are dropped'),
        allowed: vlanList.optional().describe('VLANs that may pass; all when not given'),
        prune: vlanList.optional().describe('VLANs that may not pass although they are allowed'),
      }),
      z.strictObject({
        mode: z.literal('private'),
        type: z.enum(['isolated', 'community', 'promiscuous'], { error: 'must be isolated, community or promiscuous' }),
        primary: vlanSchema.describe('primary VLAN'),
        secondary: vlanSchema.optional().describe('secondary VLAN of an isolated or community port'),
        secondaries: vlanList.optional().describe('secondary VLANs that a promiscuous port reaches'),
      }),
    ],
    { error: 'must be access, trunk or private' },
  )
  .describe('VLAN policy; without it the port carries untagged frames and every VLAN, as they are');

const security = z
  .strictObject({
    allowMacSpoofing: flag.optional().describe("may send from source MAC addresses other than its NIC's"),
    allowPriorityTag: flag.optional().describe('the 802.1p priority of incoming tags is honoured; else it is cleared'),
    allowTeaming: flag.optional().describe('may use the MAC address of another port that allows teaming'),
    ipAddressLimit: integer(0, 65535).optional().describe('most IP source addresses of this port; 0: no limit'),
    virtualSubnetId: integer(0, 0xff_ffff)
      .optional()
      .describe('talks only to ports of the same virtual subnet; 0: none'),
  })
  .describe(
    'security policy: with this section present, what is not allowed in it is refused; without it nothing is enforced',
  );

const protocolError = `must be one of ${PROTOCOL_NAMES.join(', ')}, or a protocol number from 0 to 255`;
const stateError = `must be a list of one or more of ${CONNECTION_STATES.join(', ')}`;
const aclRule = z.strictObject({
  direction: z
    .enum(['in', 'out', 'both'], { error: 'must be in, out or both' })
    .optional()
    .describe('in: from the port into the switch; out: to the port; both when not given'),
  action: z.enum(['allow', 'deny', 'meter'], { error: 'must be allow, deny or meter' }),
  weight: integer(0, 65535)
    .optional()
    .describe('higher ones are looked at first, equal ones in order; 0 when not given'),
  localMac: macSchema.optional().describe("MAC address on the port's side"),
  remoteMac: macSchema.optional().describe('MAC address on the other side'),
  localIp: address.optional().describe("IP address or prefix on the port's side"),
  remoteIp: address.optional().describe('IP address or prefix on the other side'),
  protocol: z.union([z.enum(PROTOCOL_NAMES), z.int().min(0).max(255)], { error: protocolError }).optional(),
  localPort: integer(0, 65535).optional().describe("TCP, UDP or SCTP port on the port's side"),
  remotePort: integer(0, 65535).optional().describe('TCP, UDP or SCTP port on the other side'),
  state: z
    .array(z.enum(CONNECTION_STATES, { error: stateError }), { error: stateError })
    .min(1, { error: stateError })
    .max(CONNECTION_STATES.length, { error: stateError })
    .refine((states) => new Set(states).size === states.length, { error: 'names a state twice' })
    .optional()
    .describe('what the packet is to its connection: one of these; then the packet is IP'),
});

const bindingError = 'must be an IP address or prefix, or a mapping with "ip" and "mac"';

const isolation = z
  .strictObject({
    mode: z.enum(['none', 'vlan', 'nativeVirtualSubnet', 'externalVirtualSubnet'], {
      error: 'must be none, vlan, nativeVirtualSubnet or externalVirtualSubnet',
    }),
    allowUntagged: flag.optional(),
    defaultIsolationId: integer(0, 0xff_ffff).optional().describe('isolation id of untagged frames'),
  })
  .describe('keeps tenants apart on a port that carries several');

const routingDomain = z.strictObject({
  id: label('the id of a routing domain'),
  name: label('a name').optional(),
  isolationIds: z
    .array(integer(0, 0xff_ffff), { error: 'must be a list of isolation ids' })
    .max(4096, { error: 'has more than 4096 entries' }),
});

const rateLimit = z
  .strictObject({
    bitsPerSecond: integer(8_000, 1e12, 'bits a second'),
    burstBytes: integer(1_514, 1 << 30, 'bytes')
      .optional()
      .describe('bytes that may go out at once; 262144 when not given'),
  })
  .describe('bandwidth limit towards the port');

const profile = z
  .strictObject({
    id: label('the id of a profile'),
    name: label('a name').optional(),
    vendor: label('the id of a vendor').optional(),
    data: z.json().optional(),
  })
  .describe('what the port is for; kept for extensions');

const learning = z
  .strictObject({
    limit: integer(0, 1_000_000).optional().describe('most addresses learned on this port; 0: no limit'),
    onLimit: z
      .enum(['flood', 'drop'], { error: 'must be flood or drop' })
      .optional()
      .describe('what becomes of packets from further addresses; flood when not given'),
    enabled: flag.optional().describe('whether addresses are learned on this port'),
  })
  .describe('MAC learning on this port');

const policies = {
  vlan: portVlan.optional(),
  security: security.optional(),
  acl: z
    .array(aclRule, { error: 'must be a list of rules' })
    .max(1024, { error: 'has more than 1024 rules' })
    .optional()
    .describe('access control list; what no rule matches passes'),
  dhcpGuard: flag.optional().describe('drop what only a DHCP server sends'),
  routerGuard: flag.optional().describe('drop router advertisements and redirects'),
  addressBinding: z
    .strictObject({
      addresses: z
        .array(z.union([address, z.strictObject({ ip: address, mac: stationSchema })], { error: bindingError }), {
          error: 'must be a list of IP addresses',
        })
        .max(256, { error: 'has more than 256 entries' })
        .optional()
        .describe('IP addresses or prefixes that the port may use, each alone or with the MAC address that may use it'),
      learn: z
        .array(z.enum(['dhcp', 'nd'], { error: 'must be dhcp or nd' }), { error: 'must be a list of dhcp and nd' })
        .max(2, { error: 'has more than 2 entries' })
        .optional()
        .describe('bind what DHCP servers give, and what IPv6 hosts test for duplicates'),
      limit: integer(1, 256).optional().describe('most learned addresses; 16 when not given'),
    })
    .optional()
    .describe('IP addresses that the port may use as sources, and claim in ARP and neighbour discovery; no others'),
  mirror: z
    .enum(['source', 'destination'], { error: 'must be source or destination' })
    .optional()
    .describe('mirroring: what source ports send and are sent is copied to destination ports'),
  rateLimit: rateLimit.optional(),
  isolation: isolation.optional(),
  routingDomains: z
    .array(routingDomain, { error: 'must be a list' })
    .max(256, { error: 'has more than 256 entries' })
    .optional(),
  profile: profile.optional(),
  custom: z
    .record(nameSchema, z.json(), { error: 'must be a mapping from property ids to data' })
    .optional()
    .describe('properties that only extensions understand, by their id'),
  learning: learning.optional(),
  ovsName: interfaceName.optional().describe('the name under which Open vSwitch knows the port'),
};

const stations = z.array(stationSchema, { error: 'must be a list of MAC addresses' }).min(1).max(64, {
  error: 'has more than 64 addresses',
});
const behind = {
  mac: z
    .union([z.enum(['auto', 'learn']), stationSchema, stations], {
      error: 'must be auto, learn, the MAC address of one station, or a list of such',
    })
    .optional()
    .describe(
      "who is behind the port, for allowMacSpoofing: an address, several, auto (of a veth the other end's; when not given), or learn: the first that sends",
    ),
};

const slots = integer(1, 16384);
const ring = z
  .strictObject({
    receiveSlots: slots
      .optional()
      .describe(
        'frames that the receive ring holds, of 68 KB each; 128 when not given, from the fifth port with such a ring on 30',
      ),
    transmit: z
      .enum(['sendmmsg', 'ring'], { error: 'must be sendmmsg or ring' })
      .optional()
      .describe('how frames leave'),
    transmitSlots: slots.optional().describe('frames that the transmit ring holds, when there is one'),
  })
  .describe('the packet rings shared with the kernel');

const portOffload = z
  .enum(['tc', 'xdp', 'off'], { error: 'must be tc, xdp or off' })
  .optional()
  .describe(
    'where the kernel runs the flows of this port: tc carries super-packets (when not given), xdp is for small packets, where the interface allows it',
  );

const netdev = z.strictObject({
  kind: z
    .literal('netdev')
    .optional()
    .default('netdev')
    .describe('an interface that is there already; what a port is when nothing is said'),
  device: interfaceName.optional().describe("the interface; the port's name when not given"),
  wait: flag
    .optional()
    .describe('start without the interface and attach when it appears; else a missing interface is an error'),
  ring: ring.optional(),
  promiscuous: flag.optional().describe('receive frames for all MAC addresses; true unless stated otherwise'),
  isolate: flag.optional().describe("keep the kernel's own stack off the interface; true unless stated otherwise"),
  offload: portOffload,
  ...behind,
  ...policies,
});

const tap = z.strictObject({
  kind: z.literal('tap').describe('a TAP interface that Millrace makes'),
  device: interfaceName.optional().describe("name of the TAP; the port's name when not given"),
  netns: z
    .string({ error: 'must be the name or path of a network namespace' })
    .min(1, { error: 'must be the name or path of a network namespace' })
    .max(4096, { error: 'path is too long' })
    .optional()
    .describe('name (as in `ip netns`) or path of the namespace that the TAP is moved into'),
  mac: z
    .union([stationSchema, stations], { error: 'must be the MAC address of one station, or a list of such' })
    .optional()
    .describe('MAC address of the interface; of several the first, and the others may send as well'),
  mtuBytes: integer(68, 65521).optional().describe('MTU of the interface'),
  addresses: z
    .array(ipPrefix('an IP address with its prefix length such as 10.0.0.1/24'))
    .max(64, { error: 'has more than 64 entries' })
    .optional()
    .describe('IP addresses to give the interface'),
  offload: z
    .enum(['tc', 'off'], { error: 'must be tc or off' })
    .optional()
    .describe('whether the kernel runs the flows of this port: tc when not given'),
  ...policies,
});

const pcap = z.strictObject({
  kind: z.literal('pcap').describe('capture files: frames are read from one, written to another, or both'),
  read: path.optional().describe('pcap or pcapng file whose frames enter the switch'),
  write: path.optional().describe('pcapng file of the frames that leave through this port'),
  speed: z
    .union([z.number().positive().max(1e6), z.literal('fast')], { error: 'must be a positive number or fast' })
    .optional()
    .describe('1 is the pace of the capture (the default), 2 twice that; fast: at once'),
  mtuBytes: integer(68, 65535)
    .optional()
    .describe('MTU of the port; 1500 when not given. TCP packets of the capture beyond it come in as super-packets'),
  ...behind,
  ...policies,
});

const memory = z.strictObject({
  kind: z.literal('memory').describe('no device behind it: frames are put in with `inject` and seen with `capture`'),
  ...behind,
  ...policies,
});

/** One port. */
export const portSchema = z
  .discriminatedUnion('kind', [netdev, tap, pcap, memory], { error: 'must be netdev, tap, pcap or memory' })
  .superRefine((port, context) => {
    if (port.kind === 'pcap' && port.read === undefined && port.write === undefined) {
      context.addIssue({ code: 'custom', path: [], message: 'a pcap port needs "read", "write" or both' });
    }
    if (port.vlan?.mode === 'private') {
      const { type, secondary, secondaries } = port.vlan;
      if (type === 'promiscuous' ? secondaries === undefined : secondary === undefined) {
        const missing = type === 'promiscuous' ? 'secondaries' : 'secondary';
        context.addIssue({
          code: 'custom',
          path: ['vlan'],
          message: `a private VLAN of type ${type} needs "${missing}"`,
        });
      }
    }
  });

/** One entry of the extension stack: the name of a built-in, or a mapping. */
const extensionObject = z.strictObject({
  name: nameSchema.describe('name of a built-in extension, or a name for a module'),
  module: path
    .optional()
    .describe("a user's TypeScript or JavaScript module, relative to this file; without it the name is a built-in's"),
  enabled: flag.optional().describe('true unless stated otherwise'),
  config: z
    .record(z.string(), z.json(), { error: 'must be a mapping' })
    .optional()
    .describe("the extension's own settings"),
});
export const extensionSchema = z.union([nameSchema, extensionObject], {
  error: 'must be the name of a built-in extension or a mapping with "name"',
});

/** A static forwarding entry. */
export const staticEntrySchema = z.strictObject({
  mac: stationSchema,
  vlan: integer(0, 4094, '0: untagged').optional().describe('VLAN of the entry; 0, which is untagged, when not given'),
  port: nameSchema,
});

const fdb = z
  .strictObject({
    ageingSeconds: integer(0, 1_000_000)
      .optional()
      .describe('learned addresses are forgotten after this time; 0: never; 300 when not given'),
    maximum: integer(1, 1_000_000).optional().describe('most addresses learned in all'),
    static: z
      .array(staticEntrySchema)
      .max(65536, { error: 'has more than 65536 entries' })
      .optional()
      .describe('entries that are never aged out or moved'),
  })
  .describe('the forwarding database of the learning extension');

const daemon = z
  .strictObject({
    socket: path.optional().describe('path of the control socket'),
    logLevel: z
      .enum(['trace', 'debug', 'info', 'warn', 'error', 'silent'], {
        error: 'must be trace, debug, info, warn, error or silent',
      })
      .optional(),
    watchdogSeconds: z
      .number({ error: 'must be a number of seconds' })
      .min(0, { error: 'must be 0 or more' })
      .max(3600, { error: 'must be 3600 or less' })
      .optional()
      .describe('an extension that does not return for this long is taken out; 0: never; 2 when not given'),
  })
  .describe('the daemon itself; changes take effect when it starts');

const connections = z
  .strictObject({
    maximum: integer(1, MAXIMUM_MAPPED_CONNECTIONS)
      .optional()
      .describe(
        `most connections that are tracked, 192 bytes each; ${DEFAULT_CONNECTIONS} when not given. A table that is there keeps its size`,
      ),
  })
  .describe('connection tracking');

/** Whether flows run in the kernel. */
export const OFFLOAD_MODES = ['auto', 'off', 'require'] as const;

/** A whole configuration file. */
export const configSchema = z
  .strictObject({
    daemon: daemon.optional(),
    ports: z
      .record(nameSchema, portSchema, { error: 'must be a mapping from port names to ports' })
      .optional()
      .describe('the ports of the switch, by name'),
    extensions: z
      .array(extensionSchema, { error: 'must be a list of extensions' })
      .max(64, { error: 'has more than 64 entries' })
      .optional()
      .describe('the extension stack from the top (nearest to the ports); [learning] when not given'),
    fdb: fdb.optional(),
    connections: connections.optional(),
    offload: z
      .enum(OFFLOAD_MODES, { error: `must be ${OFFLOAD_MODES.join(', ')}` })
      .optional()
      .describe(
        'flows run in the kernel: auto where it allows that (when not given), off nowhere, require: do not start without',
      ),
  })
  .describe('configuration of a Millrace switch');

export type ConfigFile = z.output<typeof configSchema>;
export type PortConfig = z.output<typeof portSchema>;
