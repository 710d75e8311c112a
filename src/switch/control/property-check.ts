/**
 * Properties from outside are checked here, field by field, before anything else sees them. Every complaint names the field
 * and what it should be.
 */
import { CONNECTION_STATES, type ConnectionStateName } from '../../decide/index.ts';
import { formatMac, parseMacInto } from '../../net/index.ts';
import { SwitchError } from '../errors.ts';
import type {
  AclRule,
  IsolationProperty,
  JsonValue,
  PortProperty,
  RoutingDomainProperty,
  SwitchProperty,
  VlanProperty,
} from './properties.ts';
import { PORT_PROPERTY_TYPES } from './properties.ts';

/** Most rules in one ACL, ids in one list, and IP addresses in one limit: bounds on work per packet and on memory. */
const MAX_ACL_RULES = 4096;
const MAX_ADDRESS_LIMIT = 1024;
const MAX_MAC_ADDRESSES = 64;
const MAX_BINDINGS = 256;
const MAX_SUBNET_ID = 0xff_ffff;
const MAX_JSON_DEPTH = 32;

type Fields = Readonly<Record<string, unknown>>;

/** Reads the fields of one object and remembers which it knows, so that unknown ones are refused. */
class Reader {
  readonly #fields: Fields;
  readonly #path: string;
  readonly #known = new Set<string>();

  constructor(value: unknown, path: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad(path, 'an object');
    this.#fields = value as Fields;
    this.#path = path;
  }

  get(name: string): unknown {
    this.#known.add(name);
    return Object.hasOwn(this.#fields, name) ? this.#fields[name] : undefined;
  }

  at(name: string): string {
    return this.#path === '' ? name : `${this.#path}.${name}`;
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.get(name);
    if (value === undefined) return fallback;
    if (typeof value !== 'boolean') throw bad(this.at(name), 'true or false');
    return value;
  }

  integer(name: string, low: number, high: number, fallback?: number): number {
    const value = this.get(name);
    if (value === undefined && fallback !== undefined) return fallback;
    return integer(value, this.at(name), low, high);
  }

  text(name: string, fallback?: string): string {
    const value = this.get(name);
    if (value === undefined && fallback !== undefined) return fallback;
    if (typeof value !== 'string' || value.length > 4096) throw bad(this.at(name), 'a text');
    return value;
  }

  optionalText(name: string): string | undefined {
    return this.get(name) === undefined ? undefined : this.text(name);
  }

  choice<T extends string>(name: string, choices: readonly T[], fallback?: T): T {
    const value = this.get(name);
    if (value === undefined && fallback !== undefined) return fallback;
    const found = choices.find((choice) => choice === value);
    if (found === undefined) throw bad(this.at(name), `one of ${choices.join(', ')}`);
    return found;
  }

  list(name: string, maximum: number): readonly unknown[] {
    const value = this.get(name);
    if (value === undefined) return [];
    if (!Array.isArray(value) || value.length > maximum) throw bad(this.at(name), `a list of at most ${maximum}`);
    return value;
  }

  vlanIds(name: string, low = 1): readonly number[] {
    return this.list(name, 4096).map((id, index) => integer(id, `${this.at(name)}[${index}]`, low, 4094));
  }

  /** Refuse fields that nobody asked for. */
  done(): void {
    for (const name of Object.keys(this.#fields)) {
      if (!this.#known.has(name)) throw new SwitchError('INVALID', `property field ${this.at(name)} is not known`);
    }
  }
}

function bad(path: string, expected: string): SwitchError {
  return new SwitchError('INVALID', `property ${path === '' ? 'value' : `field ${path}`} must be ${expected}`);
}

function integer(value: unknown, path: string, low: number, high: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < low || value > high) {
    throw bad(path, `an integer from ${low} to ${high}`);
  }
  return value;
}

/**
 * Check a port property from outside and fill in what may be left out.
 * @throws SwitchError INVALID naming the field
 */
export function checkPortProperty(value: unknown): PortProperty {
  const reader = new Reader(value, '');
  const property = readProperty(reader);
  reader.done();
  return property;
}

/** As {@link checkPortProperty}, for a property of the switch: custom ones only. */
export function checkSwitchProperty(value: unknown): SwitchProperty {
  const property = checkPortProperty(value);
  if (property.type !== 'custom') throw new SwitchError('INVALID', 'a switch property has the type custom');
  return property;
}

function readProperty(reader: Reader): PortProperty {
  const type = reader.choice('type', PORT_PROPERTY_TYPES);
  switch (type) {
    case 'security':
      return {
        type,
        allowMacSpoofing: reader.boolean('allowMacSpoofing', false),
        ...(reader.get('macAddresses') === undefined ? {} : { macAddresses: readMacAddresses(reader) }),
        ...(reader.boolean('learnMacAddress', false) ? { learnMacAddress: true } : {}),
        allowIeeePriorityTag: reader.boolean('allowIeeePriorityTag', false),
        virtualSubnetId: reader.integer('virtualSubnetId', 0, MAX_SUBNET_ID, 0),
        allowTeaming: reader.boolean('allowTeaming', false),
        dynamicIpAddressLimit: reader.integer('dynamicIpAddressLimit', 0, MAX_ADDRESS_LIMIT, 0),
      };
    case 'vlan':
      return readVlan(reader);
    case 'profile':
      return {
        type,
        profileId: reader.text('profileId'),
        profileName: reader.text('profileName', ''),
        vendorId: reader.text('vendorId', ''),
        data: readJson(reader.get('data') ?? null, 'data', 0),
      };
    case 'isolation':
      return readIsolation(reader);
    case 'routingDomain':
      return readRoutingDomains(reader);
    case 'acl':
      return { type, rules: reader.list('rules', MAX_ACL_RULES).map((rule, index) => readAclRule(rule, index)) };
    case 'guard':
      return { type, dhcp: reader.boolean('dhcp', false), router: reader.boolean('router', false) };
    case 'binding':
      return {
        type,
        addresses: reader.list('addresses', MAX_BINDINGS).map((value, index) => {
          const one = new Reader(value, `addresses[${index}]`);
          const mac = one.optionalText('mac');
          const read = { ip: one.text('ip'), ...(mac === undefined ? {} : { mac }) };
          one.done();
          return read;
        }),
        dhcp: reader.boolean('dhcp', false),
        nd: reader.boolean('nd', false),
        limit: reader.integer('limit', 1, MAX_BINDINGS, 16),
      };
    case 'qos':
      return {
        type,
        maxRateBps: reader.integer('maxRateBps', 8000, 1e12),
        burstBytes: reader.integer('burstBytes', 1514, 1e9, 131_072),
      };
    case 'monitor':
      return { type, mode: reader.choice('mode', ['source', 'destination']) };
    case 'custom':
      return {
        type,
        propertyId: reader.text('propertyId'),
        data: readJson(reader.get('data') ?? null, 'data', 0),
      };
  }
}

function readMacAddresses(reader: Reader): readonly string[] {
  return reader.list('macAddresses', MAX_MAC_ADDRESSES).map((value, index) => {
    const bytes = new Uint8Array(6);
    const isStation = typeof value === 'string' && parseMacInto(value, bytes, 0) && (bytes[0] & 1) === 0;
    if (!isStation) throw bad(`macAddresses[${index}]`, 'the MAC address of one station');
    return formatMac(bytes);
  });
}

function readVlan(reader: Reader): VlanProperty {
  const mode = reader.choice('mode', ['access', 'trunk', 'private']);
  if (mode === 'access') return { type: 'vlan', mode, vlanId: reader.integer('vlanId', 1, 4094) };
  if (mode === 'trunk') {
    const all = reader.get('trunkVlanIds') === 'all' || reader.get('trunkVlanIds') === undefined;
    return {
      type: 'vlan',
      mode,
      nativeVlanId: reader.integer('nativeVlanId', 0, 4094, 0),
      trunkVlanIds: all ? 'all' : reader.vlanIds('trunkVlanIds'),
      pruneVlanIds: reader.vlanIds('pruneVlanIds'),
    };
  }
  const privateMode = reader.choice('privateMode', ['isolated', 'community', 'promiscuous']);
  const primaryVlanId = reader.integer('primaryVlanId', 1, 4094);
  if (privateMode === 'promiscuous') {
    const secondaryVlanIds = reader.vlanIds('secondaryVlanIds');
    if (secondaryVlanIds.includes(primaryVlanId)) throw bad('secondaryVlanIds', 'without the primary VLAN');
    return { type: 'vlan', mode, privateMode, primaryVlanId, secondaryVlanIds };
  }
  const secondaryVlanId = reader.integer('secondaryVlanId', 1, 4094);
  if (secondaryVlanId === primaryVlanId) throw bad('secondaryVlanId', 'another VLAN than the primary');
  return { type: 'vlan', mode, privateMode, primaryVlanId, secondaryVlanId };
}

function readIsolation(reader: Reader): IsolationProperty {
  const mode = reader.choice('mode', ['none', 'vlan', 'nativeVirtualSubnet', 'externalVirtualSubnet']);
  const subnet = mode === 'nativeVirtualSubnet' || mode === 'externalVirtualSubnet';
  return {
    type: 'isolation',
    mode,
    allowUntagged: reader.boolean('allowUntagged', true),
    defaultIsolationId: subnet
      ? reader.integer('defaultIsolationId', 1, MAX_SUBNET_ID)
      : reader.integer('defaultIsolationId', 0, 4094, 0),
  };
}

function readRoutingDomains(reader: Reader): RoutingDomainProperty {
  const domains = reader.list('domains', 256).map((value, index) => {
    const domain = new Reader(value, `domains[${index}]`);
    const read = {
      id: domain.text('id'),
      name: domain.text('name', ''),
      isolationIds: domain.vlanIds('isolationIds'),
    };
    domain.done();
    return read;
  });
  return { type: 'routingDomain', domains };
}

function readAclRule(value: unknown, index: number): AclRule {
  const reader = new Reader(value, `rules[${index}]`);
  const localMac = reader.optionalText('localMac');
  const remoteMac = reader.optionalText('remoteMac');
  const localIp = reader.optionalText('localIp');
  const remoteIp = reader.optionalText('remoteIp');
  const protocol = reader.get('protocol') === undefined ? undefined : reader.integer('protocol', 0, 255);
  const localPort = reader.get('localPort') === undefined ? undefined : reader.integer('localPort', 0, 65_535);
  const remotePort = reader.get('remotePort') === undefined ? undefined : reader.integer('remotePort', 0, 65_535);
  const state = reader.get('state') === undefined ? undefined : readStates(reader);
  const rule: AclRule = {
    direction: reader.choice('direction', ['in', 'out']),
    action: reader.choice('action', ['allow', 'deny', 'meter']),
    weight: reader.integer('weight', 0, 65_535, 0),
    ...(localMac === undefined ? {} : { localMac }),
    ...(remoteMac === undefined ? {} : { remoteMac }),
    ...(localIp === undefined ? {} : { localIp }),
    ...(remoteIp === undefined ? {} : { remoteIp }),
    ...(protocol === undefined ? {} : { protocol }),
    ...(localPort === undefined ? {} : { localPort }),
    ...(remotePort === undefined ? {} : { remotePort }),
    ...(state === undefined ? {} : { state }),
  };
  reader.done();
  return rule;
}

function readStates(reader: Reader): ConnectionStateName[] {
  const states = reader.list('state', CONNECTION_STATES.length).map((value, index) => {
    const found = CONNECTION_STATES.find((state) => state === value);
    if (found === undefined) throw bad(reader.at(`state[${index}]`), `one of ${CONNECTION_STATES.join(', ')}`);
    return found;
  });
  if (states.length === 0 || new Set(states).size !== states.length)
    throw bad(reader.at('state'), `a list of one or more of ${CONNECTION_STATES.join(', ')}, each once`);
  return states;
}

/** A copy of a value that is plain JSON. */
function readJson(value: unknown, path: string, depth: number): JsonValue {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  if (typeof value !== 'object' || depth > MAX_JSON_DEPTH) throw bad(path, 'plain JSON');
  if (Array.isArray(value)) return value.map((item, index) => readJson(item, `${path}[${index}]`, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, readJson(item, `${path}.${key}`, depth + 1)]),
  );
}
