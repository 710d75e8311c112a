/**
 * Port and switch properties: the policies that a switch administrator sets. Plain data, checked by property-check.ts and
 * compiled for the core by policies/.
 */
import type { ConnectionStateName } from '../../decide/index.ts';

/** Plain JSON. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | { readonly [key: string]: JsonValue };

/** What a port lets its NIC claim to be. Without this property nothing is enforced. */
export interface SecurityProperty {
  readonly type: 'security';
  /** Source MAC addresses other than those below are accepted. */
  readonly allowMacSpoofing: boolean;
  /** The addresses of who is behind the port. Left out: the NIC's own; empty: none is known, and every frame is refused. */
  readonly macAddresses?: readonly string[];
  /** While none is known: the first source address becomes the one. It is kept until the NIC goes. */
  readonly learnMacAddress?: boolean;
  /** The priority bits of incoming tags are honoured; otherwise they are cleared. */
  readonly allowIeeePriorityTag: boolean;
  /** 0: none. Otherwise the port talks only to ports with the same id (24 bits). */
  readonly virtualSubnetId: number;
  /** The NIC may use the MAC address of another NIC whose port allows teaming too. */
  readonly allowTeaming: boolean;
  /** Most IP source addresses the port may use; 0: no limit. */
  readonly dynamicIpAddressLimit: number;
}

/** VLAN membership. Without this property a port carries all VLANs as they are (tagged stays tagged). */
export type VlanProperty =
  | {
      readonly type: 'vlan';
      readonly mode: 'access';
      /** 1 to 4094. */
      readonly vlanId: number;
    }
  | {
      readonly type: 'vlan';
      readonly mode: 'trunk';
      /** The VLAN of untagged frames, 0 to 4094; 0: untagged frames are not in a VLAN. */
      readonly nativeVlanId: number;
      /** VLANs carried tagged, or all. */
      readonly trunkVlanIds: readonly number[] | 'all';
      /** VLANs taken out of the above. */
      readonly pruneVlanIds: readonly number[];
    }
  | {
      readonly type: 'vlan';
      readonly mode: 'private';
      readonly privateMode: 'isolated' | 'community';
      readonly primaryVlanId: number;
      readonly secondaryVlanId: number;
    }
  | {
      readonly type: 'vlan';
      readonly mode: 'private';
      readonly privateMode: 'promiscuous';
      readonly primaryVlanId: number;
      /** Secondary VLANs that this port talks to. */
      readonly secondaryVlanIds: readonly number[];
    };

/** A named profile that says what the port is for; kept for extensions, not enforced. */
export interface ProfileProperty {
  readonly type: 'profile';
  readonly profileId: string;
  readonly profileName: string;
  readonly vendorId: string;
  readonly data: JsonValue;
}

/** What keeps tenants apart on a port that carries several. */
export interface IsolationProperty {
  readonly type: 'isolation';
  readonly mode: 'none' | 'vlan' | 'nativeVirtualSubnet' | 'externalVirtualSubnet';
  readonly allowUntagged: boolean;
  /** The isolation id of untagged frames: 0 to 4094 with mode vlan, up to 24 bits with a virtual subnet. */
  readonly defaultIsolationId: number;
}

/** The routing domains (tenants) of a port and the isolation ids that belong to them. */
export interface RoutingDomainProperty {
  readonly type: 'routingDomain';
  readonly domains: readonly {
    readonly id: string;
    readonly name: string;
    readonly isolationIds: readonly number[];
  }[];
}

/** One access control rule. Local is the port's side, remote the other; what is left out matches everything. */
export interface AclRule {
  /** `in`: from the port into the switch. */
  readonly direction: 'in' | 'out';
  readonly action: 'allow' | 'deny' | 'meter';
  /** Higher weights are looked at first; equal ones in order. Default 0. */
  readonly weight?: number;
  readonly localMac?: string;
  readonly remoteMac?: string;
  /** An IPv4 or IPv6 address, with a prefix length where a range is meant. */
  readonly localIp?: string;
  readonly remoteIp?: string;
  /** IP protocol number. */
  readonly protocol?: number;
  /** TCP, UDP or SCTP port. A port in a rule never matches a fragment that carries no ports. */
  readonly localPort?: number;
  readonly remotePort?: number;
  /** States of connections, each once, at least one: the packet is IP, and to its connection one of these. */
  readonly state?: readonly ConnectionStateName[];
}

/** Access control of a port. No rule matches: the packet passes. */
export interface AclProperty {
  readonly type: 'acl';
  readonly rules: readonly AclRule[];
}

/** Which IP addresses a port may use as sources, and claim in ARP and neighbour discovery. */
export interface BindingProperty {
  readonly type: 'binding';
  /** Addresses or prefixes that are bound to the port, for one MAC address or for all that it may use. */
  readonly addresses: readonly { readonly ip: string; readonly mac?: string }[];
  /** Addresses that DHCP and DHCPv6 servers give are bound, as long as they are given. */
  readonly dhcp: boolean;
  /** IPv6 addresses that are tested for duplicates are bound, when nobody objects. */
  readonly nd: boolean;
  /** Most learned addresses. */
  readonly limit: number;
}

/** Which messages of network infrastructure are refused from a port. */
export interface GuardProperty {
  readonly type: 'guard';
  /** DHCPv4 and DHCPv6 server messages. */
  readonly dhcp: boolean;
  /** ICMPv6 router advertisements and redirects, and their ICMPv4 counterparts. */
  readonly router: boolean;
}

/** Bandwidth limit towards the port. */
export interface QosProperty {
  readonly type: 'qos';
  /** Bits a second. */
  readonly maxRateBps: number;
  /** Bytes that may go out at once. */
  readonly burstBytes: number;
}

/** Port mirroring: what goes in and out of `source` ports is copied to `destination` ports. */
export interface MonitorProperty {
  readonly type: 'monitor';
  readonly mode: 'source' | 'destination';
}

/** A property that only extensions understand. Several may be set, told apart by their id. */
export interface CustomProperty {
  readonly type: 'custom';
  readonly propertyId: string;
  readonly data: JsonValue;
}

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

/** A property of the switch as a whole: custom ones only. */
export type SwitchProperty = CustomProperty;

/** All port property types. */
export const PORT_PROPERTY_TYPES = [
  'security',
  'vlan',
  'profile',
  'isolation',
  'routingDomain',
  'acl',
  'guard',
  'binding',
  'qos',
  'monitor',
  'custom',
] as const;

export type PortPropertyType = (typeof PORT_PROPERTY_TYPES)[number];
