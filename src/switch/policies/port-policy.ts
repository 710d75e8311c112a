/**
 * The compiled form of a port's properties: plain integers and bitmaps for the core. compile.ts fills it in, builtin.ts
 * and vlan.ts read it. A port without properties has the default one: everything passes as it is.
 */
import type { AclTable } from './acl.ts';
import type { AddressBinding } from './address-binding.ts';
import type { AddressLimit } from './address-limit.ts';
import type { RateLimiter } from './qos.ts';
import { NIC_MACS } from './station-macs.ts';

/** How a port takes part in VLANs and isolation. */
export const VlanMode = {
  /** All VLANs, tags as they are. */
  TRANSPARENT: 0,
  ACCESS: 1,
  TRUNK: 2,
  ISOLATED: 3,
  COMMUNITY: 4,
  PROMISCUOUS: 5,
  /** One forwarding domain beyond VLANs: a virtual subnet. */
  FIXED: 6,
  /** Isolation by VLAN id: the default id untagged, others tagged. */
  ISOLATION: 7,
} as const;

/** Number of forwarding domains: 4096 VLANs and as many virtual subnets as are in use, within 16 bits. */
export const FIRST_SUBNET_DOMAIN = 4096;

/** A set of VLAN ids. */
export class VlanSet {
  readonly #words = new Uint32Array(128);

  constructor(ids: Iterable<number> = []) {
    for (const id of ids) this.add(id);
  }

  add(id: number): void {
    this.#words[id >>> 5] |= 1 << (id & 31);
  }

  remove(id: number): void {
    this.#words[id >>> 5] &= ~(1 << (id & 31));
  }

  has(id: number): boolean {
    return id < 4096 && ((this.#words[id >>> 5] >>> (id & 31)) & 1) !== 0;
  }
}

const NO_VLANS = new VlanSet();

function neverTeam(): boolean {
  return false;
}

/** What the core asks about a port. */
export class PortPolicy {
  /** One of {@link VlanMode}. */
  vlanMode = 0;
  /** ACCESS: the VLAN; TRUNK: the native one; PRIVATE: the primary; FIXED: the domain; ISOLATION: the default id. */
  vlanId = 0;
  /** ISOLATED, COMMUNITY: the secondary VLAN. */
  secondaryVlan = 0;
  /** TRUNK: members; PROMISCUOUS: the secondaries; ISOLATION: ids of the routing domains. */
  vlans: VlanSet = NO_VLANS;
  /** ISOLATION: untagged frames are accepted. */
  allowUntagged = true;
  /** ISOLATION: ids come from routing domains. */
  hasRoutingDomains = false;

  /** The source MAC address must be one of {@link macs}. */
  checkSourceMac = false;
  /** Who is behind the port. */
  macs = NIC_MACS;
  allowTeaming = false;
  /** Whether a MAC address belongs to a connected NIC of a port that allows teaming. */
  isTeamMac: (macHigh: number, macLow: number) => boolean = neverTeam;
  clearPriority = false;

  /** Bits of DestinationFlag that suit the port: both preserve bits where tags are carried. */
  destinationFlags = 6;

  /** Anything for the built-in ingress policy to look at. */
  hasIngressPolicy = false;
  /** Of that, something behind the Ethernet header: frames that hide what they carry are refused. */
  looksInside = false;
  /** Anything for the built-in egress policy to look at. */
  hasEgressPolicy = false;
  dhcpGuard = false;
  routerGuard = false;
  aclIn: AclTable | null = null;
  aclOut: AclTable | null = null;
  /** A rule of either goes by connections: all packets of the port are tracked, in both directions. */
  tracks = false;
  addressLimit: AddressLimit | null = null;
  binding: AddressBinding | null = null;
  rateLimit: RateLimiter | null = null;

  monitorSource = false;
  monitorDestination = false;
}
