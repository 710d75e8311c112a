/**
 * Turns the properties of a port into its compiled policy (port-policy.ts). Runs when a property changes, never per packet.
 */

import type { PortProperty, VlanProperty } from '../control/properties.ts';
import { SwitchError } from '../errors.ts';
import { messageOf } from '../thrown.ts';
import { AclTable } from './acl.ts';
import { AddressBinding, type BindingHost } from './address-binding.ts';
import { AddressLimit } from './address-limit.ts';
import { FIRST_SUBNET_DOMAIN, PortPolicy, VlanMode, VlanSet } from './port-policy.ts';
import { RateLimiter } from './qos.ts';
import { StationMacs } from './station-macs.ts';

/** The forwarding domains of virtual subnets: 24-bit ids get the numbers from 4096 on, in the order of their first use. */
export class SubnetDomains {
  readonly #domains = new Map<number, number>();

  /** @throws SwitchError INVALID when 61,440 subnets are in use */
  domainOf(subnetId: number): number {
    const known = this.#domains.get(subnetId);
    if (known !== undefined) return known;
    const domain = FIRST_SUBNET_DOMAIN + this.#domains.size;
    if (domain > 0xffff) throw new SwitchError('INVALID', 'the switch has no room for another virtual subnet');
    this.#domains.set(subnetId, domain);
    return domain;
  }
}

/**
 * Compile all properties of a port.
 * @param properties at most one of each standard type
 * @param bindings what address bindings need
 * @param previous the policy until now; its learned addresses are kept while the limit stays the same
 * @throws SwitchError INVALID when properties contradict each other or do not parse
 */
export function compilePolicy(
  properties: Iterable<PortProperty>,
  subnets: SubnetDomains,
  isTeamMac: (macHigh: number, macLow: number) => boolean,
  bindings: BindingHost,
  previous: PortPolicy | null,
): PortPolicy {
  const policy = new PortPolicy();
  let separation = '';
  const separate = (by: string): void => {
    if (separation !== '')
      throw new SwitchError('INVALID', `a port is kept apart by ${separation} or ${by}, not by both`);
    separation = by;
  };
  let routing: VlanSet | null = null;
  for (const property of properties) {
    switch (property.type) {
      case 'vlan':
        separate('VLAN');
        compileVlan(policy, property);
        break;
      case 'isolation':
        if (property.mode === 'none') break;
        separate('isolation');
        policy.allowUntagged = property.allowUntagged;
        if (property.mode === 'vlan') {
          policy.vlanMode = VlanMode.ISOLATION;
          policy.vlanId = property.defaultIsolationId;
        } else {
          policy.vlanMode = VlanMode.FIXED;
          policy.vlanId = subnets.domainOf(property.defaultIsolationId);
          policy.destinationFlags = 0;
        }
        break;
      case 'routingDomain':
        routing = new VlanSet(property.domains.flatMap((domain) => domain.isolationIds));
        break;
      case 'security':
        policy.checkSourceMac = !property.allowMacSpoofing;
        if (property.macAddresses !== undefined || property.learnMacAddress === true) {
          policy.macs = new StationMacs(property.macAddresses ?? [], property.learnMacAddress === true, previous?.macs);
        }
        policy.allowTeaming = property.allowTeaming;
        policy.isTeamMac = isTeamMac;
        policy.clearPriority = !property.allowIeeePriorityTag;
        if (property.dynamicIpAddressLimit > 0) {
          const kept = previous?.addressLimit ?? null;
          policy.addressLimit =
            kept !== null && kept.limit === property.dynamicIpAddressLimit
              ? kept
              : new AddressLimit(property.dynamicIpAddressLimit);
        }
        if (property.virtualSubnetId !== 0) {
          separate('virtual subnet');
          policy.vlanMode = VlanMode.FIXED;
          policy.vlanId = subnets.domainOf(property.virtualSubnetId);
          policy.destinationFlags = 0;
        }
        break;
      case 'acl':
        policy.aclIn = AclTable.compile(property.rules, 'in');
        policy.aclOut = AclTable.compile(property.rules, 'out');
        break;
      case 'guard':
        policy.dhcpGuard = property.dhcp;
        policy.routerGuard = property.router;
        break;
      case 'binding':
        try {
          policy.binding = new AddressBinding(property, bindings, previous?.binding ?? null);
        } catch (error) {
          throw new SwitchError('INVALID', `address binding: ${messageOf(error)}`);
        }
        break;
      case 'qos':
        policy.rateLimit = new RateLimiter(property.maxRateBps, property.burstBytes);
        break;
      case 'monitor':
        policy.monitorSource = property.mode === 'source';
        policy.monitorDestination = property.mode === 'destination';
        break;
      case 'profile':
      case 'custom':
        break;
    }
  }
  if (routing !== null && policy.vlanMode === VlanMode.ISOLATION) {
    policy.vlans = routing;
    policy.hasRoutingDomains = true;
  }
  policy.tracks = policy.aclIn?.tracks === true || policy.aclOut?.tracks === true;
  policy.hasIngressPolicy =
    policy.tracks ||
    policy.binding !== null ||
    policy.aclIn !== null ||
    policy.dhcpGuard ||
    policy.routerGuard ||
    policy.addressLimit !== null;
  policy.looksInside =
    policy.binding !== null ||
    policy.dhcpGuard ||
    policy.routerGuard ||
    policy.addressLimit !== null ||
    policy.aclIn?.looksInside === true;
  policy.hasEgressPolicy =
    policy.tracks ||
    policy.binding?.learns === true ||
    policy.aclOut !== null ||
    policy.rateLimit !== null ||
    policy.vlanMode === VlanMode.TRUNK;
  return policy;
}

function compileVlan(policy: PortPolicy, property: VlanProperty): void {
  if (property.mode === 'trunk') {
    const members = property.trunkVlanIds === 'all' ? allVlans() : property.trunkVlanIds;
    policy.vlanMode = VlanMode.TRUNK;
    policy.vlanId = property.nativeVlanId;
    policy.vlans = new VlanSet(members);
    policy.vlans.add(property.nativeVlanId);
    for (const vlan of property.pruneVlanIds) policy.vlans.remove(vlan);
    return;
  }
  policy.destinationFlags = 0;
  if (property.mode === 'access') {
    policy.vlanMode = VlanMode.ACCESS;
    policy.vlanId = property.vlanId;
    return;
  }
  policy.vlanId = property.primaryVlanId;
  if (property.privateMode === 'promiscuous') {
    policy.vlanMode = VlanMode.PROMISCUOUS;
    policy.vlans = new VlanSet(property.secondaryVlanIds);
    return;
  }
  policy.vlanMode = property.privateMode === 'isolated' ? VlanMode.ISOLATED : VlanMode.COMMUNITY;
  policy.secondaryVlan = property.secondaryVlanId;
}

function* allVlans(): Iterable<number> {
  for (let vlan = 1; vlan <= 4094; vlan += 1) yield vlan;
}
