/**
 * VLANs, private VLANs and isolation: which forwarding domain a frame enters, which ports it may leave through, and what
 * happens to its tag on the way out. Standard port policies; free of side effects.
 */
import { TagAction } from '../../net/index.ts';
import { DropReason } from '../drop-reason.ts';
import { DestinationFlag, type ForwardingContext, PrivateRole } from '../path/context.ts';
import { FIRST_SUBNET_DOMAIN, type PortPolicy, VlanMode } from './port-policy.ts';

/** The bit of a TCI that lets a frame be dropped first: it goes with the tag, and has no say in what becomes of it. */
export const DEI = 0x1000;

/** The secondary VLANs that are in use, so that a tag from a trunk is recognized as part of a private VLAN. */
export class PrivateVlans {
  readonly #primary = new Map<number, number>();
  readonly #role = new Map<number, number>();
  size = 0;

  set(secondary: number, primary: number, role: number): void {
    this.#primary.set(secondary, primary);
    this.#role.set(secondary, role);
    this.size = this.#primary.size;
  }

  /** Whether another says the same. */
  equals(other: PrivateVlans): boolean {
    if (this.size !== other.size) return false;
    for (const secondary of this.#primary.keys()) {
      if (this.primaryOf(secondary) !== other.primaryOf(secondary)) return false;
      if (this.roleOf(secondary) !== other.roleOf(secondary)) return false;
    }
    return true;
  }

  /** The primary VLAN of a secondary one, or -1. */
  primaryOf(secondary: number): number {
    return this.#primary.get(secondary) ?? -1;
  }

  roleOf(secondary: number): number {
    return this.#role.get(secondary) ?? PrivateRole.NONE;
  }
}

/**
 * Put a frame into its forwarding domain by the policy of its source port.
 * @returns a DropReason when the port may not send it, else NONE
 */
export function assignVlan(context: ForwardingContext, policy: PortPolicy, privateVlans: PrivateVlans): number {
  const tagged = context.tagTci !== -1;
  const tag = tagged ? context.tagTci & 0xfff : 0;
  context.secondaryVlan = 0;
  context.privateRole = PrivateRole.NONE;
  switch (policy.vlanMode) {
    case VlanMode.TRANSPARENT:
      context.vlan = tag;
      if (privateVlans.size !== 0 && tag !== 0) enterSecondary(context, tag, privateVlans);
      return DropReason.NONE;
    case VlanMode.TRUNK: {
      const vlan = tag === 0 ? policy.vlanId : tag;
      context.vlan = vlan;
      if (!policy.vlans.has(vlan)) return DropReason.VLAN_NOT_ALLOWED;
      if (privateVlans.size !== 0) enterSecondary(context, vlan, privateVlans);
      return DropReason.NONE;
    }
    case VlanMode.FIXED:
      context.vlan = policy.vlanId;
      if (tag !== 0) return DropReason.ISOLATION_ID;
      return tagged || policy.allowUntagged ? DropReason.NONE : DropReason.ISOLATION_UNTAGGED;
    case VlanMode.ISOLATION:
      context.vlan = tag === 0 ? policy.vlanId : tag;
      if (tag === 0) return policy.allowUntagged ? DropReason.NONE : DropReason.ISOLATION_UNTAGGED;
      return isolationVerdict(policy, tag);
    default:
      break;
  }
  // Access and private ports: one VLAN. A second tag behind the first could surface on a trunk, so it is not let in.
  context.vlan = policy.vlanId;
  if (policy.vlanMode === VlanMode.ISOLATED || policy.vlanMode === VlanMode.COMMUNITY) {
    context.secondaryVlan = policy.secondaryVlan;
    context.privateRole = policy.vlanMode === VlanMode.ISOLATED ? PrivateRole.ISOLATED : PrivateRole.COMMUNITY;
  } else if (policy.vlanMode === VlanMode.PROMISCUOUS) {
    context.privateRole = PrivateRole.PROMISCUOUS;
  }
  if (context.tagCount > 1) return DropReason.VLAN_TAGGED_ON_ACCESS;
  if (tag !== 0 && (tag !== policy.vlanId || policy.vlanMode !== VlanMode.ACCESS)) {
    return DropReason.VLAN_TAGGED_ON_ACCESS;
  }
  return DropReason.NONE;
}

function enterSecondary(context: ForwardingContext, vlan: number, privateVlans: PrivateVlans): void {
  const primary = privateVlans.primaryOf(vlan);
  if (primary === -1) return;
  context.vlan = primary;
  context.secondaryVlan = vlan;
  context.privateRole = privateVlans.roleOf(vlan);
}

function isolationVerdict(policy: PortPolicy, id: number): number {
  if (id === policy.vlanId || policy.vlans.has(id)) return DropReason.NONE;
  return policy.hasRoutingDomains ? DropReason.ROUTING_DOMAIN : DropReason.ISOLATION_ID;
}

/** Whether a frame may leave through a port. @returns a DropReason, NONE to pass */
export function egressVlanVerdict(context: ForwardingContext, policy: PortPolicy): number {
  const vlan = context.vlan;
  switch (policy.vlanMode) {
    case VlanMode.TRANSPARENT:
      return vlan < FIRST_SUBNET_DOMAIN ? DropReason.NONE : DropReason.VIRTUAL_SUBNET;
    case VlanMode.ACCESS:
      return vlan === policy.vlanId && context.secondaryVlan === 0 ? DropReason.NONE : DropReason.VLAN_NOT_ALLOWED;
    case VlanMode.TRUNK:
      return policy.vlans.has(wireVlan(context)) ? DropReason.NONE : DropReason.VLAN_NOT_ALLOWED;
    case VlanMode.FIXED:
      return vlan === policy.vlanId ? DropReason.NONE : DropReason.VIRTUAL_SUBNET;
    case VlanMode.ISOLATION:
      return isolationVerdict(policy, vlan);
    default:
      return privateVerdict(context, policy);
  }
}

function privateVerdict(context: ForwardingContext, policy: PortPolicy): number {
  if (context.vlan !== policy.vlanId) return DropReason.VLAN_NOT_ALLOWED;
  if (policy.vlanMode === VlanMode.PROMISCUOUS) {
    const secondary = context.secondaryVlan;
    return secondary === 0 || policy.vlans.has(secondary) ? DropReason.NONE : DropReason.PRIVATE_VLAN;
  }
  if (context.privateRole === PrivateRole.PROMISCUOUS) {
    const source = context.sourcePort;
    return source?.policy.vlans.has(policy.secondaryVlan) ? DropReason.NONE : DropReason.PRIVATE_VLAN;
  }
  // From a trunk, in the primary VLAN: as from a promiscuous port somewhere behind it.
  if (context.secondaryVlan === 0) return DropReason.NONE;
  const sameCommunity =
    policy.vlanMode === VlanMode.COMMUNITY &&
    context.privateRole === PrivateRole.COMMUNITY &&
    context.secondaryVlan === policy.secondaryVlan;
  return sameCommunity ? DropReason.NONE : DropReason.PRIVATE_VLAN;
}

/** The VLAN as it is written on the wire; 0 for a virtual subnet. */
function wireVlan(context: ForwardingContext): number {
  if (context.secondaryVlan !== 0) return context.secondaryVlan;
  return context.vlan < FIRST_SUBNET_DOMAIN ? context.vlan : 0;
}

/**
 * What to do with a frame's tag while it is sent through a port.
 * @param flags of the destination
 * @returns a TagAction with the TCI in its low bits
 */
export function tagActionFor(context: ForwardingContext, policy: PortPolicy, flags: number): number {
  if ((flags & DestinationFlag.MIRROR) !== 0) return TagAction.KEEP;
  const tci = context.tagTci;
  let vlan = 0;
  let stacked = false;
  if ((flags & DestinationFlag.PRESERVE_VLAN) !== 0) {
    vlan = wireVlan(context);
    // The native VLAN of a trunk and the default id of an isolated port are the untagged ones. A frame with a second tag keeps
    // the first even then: the second would be taken for its VLAN at the other end.
    const native = policy.vlanMode === VlanMode.TRUNK || policy.vlanMode === VlanMode.ISOLATION;
    stacked = context.tagCount > 1;
    if (native && vlan === policy.vlanId && !stacked) vlan = 0;
  }
  const priority = (flags & DestinationFlag.PRESERVE_PRIORITY) === 0 ? 0 : context.priority;
  if (vlan === 0 && priority === 0 && !stacked) {
    // A priority tag that says nothing stays only where tags are carried as they are.
    if (tci === -1) return TagAction.KEEP;
    const saysNothing = (tci & ~DEI) === 0;
    return saysNothing && policy.vlanMode === VlanMode.TRANSPARENT && flags !== 0 ? TagAction.KEEP : TagAction.STRIP;
  }
  if (tci === -1) return TagAction.PUSH | (priority << 13) | vlan;
  const wanted = (priority << 13) | (tci & DEI) | vlan;
  return wanted === tci ? TagAction.KEEP : TagAction.STRIP | TagAction.PUSH | wanted;
}

/** A TagAction in words. */
export function describeTagAction(action: number): string {
  const tci = action & 0xffff;
  const tag = `VLAN ${tci & 0xfff}${tci >> 13 === 0 ? '' : ` priority ${tci >> 13}`}`;
  if ((action & TagAction.PUSH) !== 0) return (action & TagAction.STRIP) !== 0 ? `retag to ${tag}` : `push ${tag}`;
  return (action & TagAction.STRIP) !== 0 ? 'strip the tag' : 'keep as it is';
}
