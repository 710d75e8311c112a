/**
 * From a port's section of the configuration to the properties that the switch takes (switch/control/properties.ts). The configuration speaks
 * to people (ranges, protocol names, both directions at once); properties speak to policies.
 */
import { protocolNumber } from '../../net/index.ts';
import type { AclRule, PortProperty, VlanProperty } from '../../switch/index.ts';
import type { Port } from './model.ts';

const DEFAULT_BURST_BYTES = 262_144;
const DEFAULT_LEARNED_BINDINGS = 16;

/** Expand a list such as [10, '20-22'] to its ids, ascending, each once. */
export function expandVlans(list: readonly (number | string)[]): number[] {
  const ids = new Set<number>();
  for (const entry of list) {
    const [low, high = low] = typeof entry === 'number' ? [entry] : entry.split('-').map(Number);
    for (let id = low; id <= high; id += 1) ids.add(id);
  }
  return [...ids].sort((a, b) => a - b);
}

function vlanProperty(vlan: NonNullable<Port['vlan']>): VlanProperty {
  switch (vlan.mode) {
    case 'access':
      return { type: 'vlan', mode: 'access', vlanId: vlan.id };
    case 'trunk':
      return {
        type: 'vlan',
        mode: 'trunk',
        nativeVlanId: vlan.native ?? 0,
        trunkVlanIds: vlan.allowed === undefined ? 'all' : expandVlans(vlan.allowed),
        pruneVlanIds: expandVlans(vlan.prune ?? []),
      };
    case 'private': {
      const common = { type: 'vlan', mode: 'private', primaryVlanId: vlan.primary } as const;
      if (vlan.type === 'promiscuous') {
        return { ...common, privateMode: 'promiscuous', secondaryVlanIds: expandVlans(vlan.secondaries ?? []) };
      }
      return { ...common, privateMode: vlan.type, secondaryVlanId: vlan.secondary ?? vlan.primary };
    }
  }
}

function aclRules(rules: NonNullable<Port['acl']>): AclRule[] {
  return rules.flatMap((rule) => {
    const { direction = 'both', protocol, ...rest } = rule;
    const number = typeof protocol === 'string' ? protocolNumber(protocol) : protocol;
    const common = { ...rest, ...(number === undefined ? {} : { protocol: number }) };
    const directions = direction === 'both' ? (['in', 'out'] as const) : [direction];
    return directions.map((one): AclRule => ({ ...common, direction: one }));
  });
}

/** Who is behind a port. */
export interface Stations {
  readonly addresses: readonly string[];
  /** The first that sends is the one, while there is none. */
  readonly learn: boolean;
}

/**
 * The properties that a port's section asks for.
 * @param stations whose addresses may be sources where that is checked; null: the NIC's own
 */
export function propertiesOf(port: Port, stations: Stations | null = null): PortProperty[] {
  const properties: PortProperty[] = [];
  if (port.vlan !== undefined) properties.push(vlanProperty(port.vlan));
  if (port.security !== undefined) {
    properties.push({
      type: 'security',
      allowMacSpoofing: port.security.allowMacSpoofing ?? false,
      ...(stations === null ? {} : { macAddresses: stations.addresses, learnMacAddress: stations.learn }),
      allowIeeePriorityTag: port.security.allowPriorityTag ?? false,
      allowTeaming: port.security.allowTeaming ?? false,
      dynamicIpAddressLimit: port.security.ipAddressLimit ?? 0,
      virtualSubnetId: port.security.virtualSubnetId ?? 0,
    });
  }
  if (port.acl !== undefined) properties.push({ type: 'acl', rules: aclRules(port.acl) });
  if (port.dhcpGuard === true || port.routerGuard === true) {
    properties.push({ type: 'guard', dhcp: port.dhcpGuard ?? false, router: port.routerGuard ?? false });
  }
  if (port.addressBinding !== undefined) {
    const { addresses = [], learn = [], limit = DEFAULT_LEARNED_BINDINGS } = port.addressBinding;
    properties.push({
      type: 'binding',
      addresses: addresses.map((one) => (typeof one === 'string' ? { ip: one } : one)),
      dhcp: learn.includes('dhcp'),
      nd: learn.includes('nd'),
      limit,
    });
  }
  if (port.mirror !== undefined) properties.push({ type: 'monitor', mode: port.mirror });
  if (port.rateLimit !== undefined) {
    const { bitsPerSecond, burstBytes = DEFAULT_BURST_BYTES } = port.rateLimit;
    properties.push({ type: 'qos', maxRateBps: bitsPerSecond, burstBytes });
  }
  if (port.isolation !== undefined) {
    const { mode, allowUntagged = false, defaultIsolationId = 0 } = port.isolation;
    properties.push({ type: 'isolation', mode, allowUntagged, defaultIsolationId });
  }
  if (port.routingDomains !== undefined) {
    const domains = port.routingDomains.map(({ id, name, isolationIds }) => ({ id, name: name ?? id, isolationIds }));
    properties.push({ type: 'routingDomain', domains });
  }
  if (port.profile !== undefined) {
    const { id, name, vendor, data } = port.profile;
    properties.push({
      type: 'profile',
      profileId: id,
      profileName: name ?? id,
      vendorId: vendor ?? '',
      data: data ?? null,
    });
  }
  for (const [propertyId, data] of Object.entries(port.custom ?? {})) {
    properties.push({ type: 'custom', propertyId, data });
  }
  return properties;
}
