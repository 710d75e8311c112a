/**
 * The built-in policies: on ingress access control, DHCP guard, router guard and address limit (after filters, before
 * forwarding); on egress access control and bandwidth (after forwarding, before filters). They look into network and
 * transport headers, so only ports that have such a policy pay for them.
 */
import { Fragment, HeaderOffsets, Icmpv6Type, IpProtocol, Malformed, type Packet } from '../../net/index.ts';
import { DropReason } from '../drop-reason.ts';
import { AclVerdict } from './acl.ts';
import { bindingVerdict } from './binding-check.ts';
import { observe } from './binding-learn.ts';
import { GuardedPort, GuardedType, hiddenBy } from './hidden.ts';
import type { PortPolicy } from './port-policy.ts';

/** One instance serves all packets: the switch is single-threaded and no look outlives its packet. */
const headers = new HeaderOffsets();

/**
 * What the built-in ingress policy says about a packet from a port.
 * @param commit count hits and take places in limits; false only looks
 * @returns a DropReason, NONE to pass
 */
export function ingressPolicyVerdict(packet: Packet, policy: PortPolicy, nowMs: number, commit: boolean): number {
  const unread = parse(packet, policy.looksInside);
  if (unread !== DropReason.NONE) return unread;
  if (policy.dhcpGuard && isDhcpServerMessage()) return DropReason.DHCP_GUARD;
  if (policy.routerGuard && isRouterMessage()) return DropReason.ROUTER_GUARD;
  if (policy.aclIn !== null && policy.aclIn.verdict(packet, headers, commit) === AclVerdict.DENY) {
    return DropReason.ACL_DENIED;
  }
  if (policy.binding !== null) {
    const unbound = bindingVerdict(packet, headers, policy.binding, nowMs, commit);
    if (unbound !== DropReason.NONE) return unbound;
  }
  if (policy.addressLimit !== null && !policy.addressLimit.accepts(packet, headers, nowMs, commit)) {
    return DropReason.ADDRESS_LIMIT;
  }
  return DropReason.NONE;
}

/** Read the headers. @returns why the packet is refused before any policy is asked */
function parse(packet: Packet, looksInside: boolean): number {
  const malformed = headers.parse(packet);
  // A policy for MAC addresses alone minds lies, but not what it has no need to read.
  const isUnread = malformed === Malformed.TOO_MANY_TAGS;
  return looksInside || (malformed !== Malformed.NOTHING && !isUnread) ? hiddenBy(packet, headers) : DropReason.NONE;
}

/** What the built-in egress policy says about a packet towards a port; as {@link ingressPolicyVerdict}. */
export function egressPolicyVerdict(packet: Packet, policy: PortPolicy, nowMs: number, commit: boolean): number {
  if (policy.aclOut !== null) {
    const unread = parse(packet, policy.aclOut.looksInside);
    if (unread !== DropReason.NONE) return unread;
    if (policy.aclOut.verdict(packet, headers, commit) === AclVerdict.DENY) return DropReason.ACL_DENIED;
  }
  if (commit && policy.binding?.learns === true && headers.parse(packet) === Malformed.NOTHING) {
    observe(packet, headers, policy.binding, nowMs);
  }
  const limit = policy.rateLimit;
  if (limit !== null) {
    const passes = commit ? limit.take(packet.length, nowMs) : limit.would(packet.length);
    if (!passes) return DropReason.RATE_LIMIT;
  }
  return DropReason.NONE;
}

function isDhcpServerMessage(): boolean {
  if (headers.ipProtocol !== IpProtocol.UDP || headers.fragment === Fragment.LATER) return false;
  const from = headers.sourcePort;
  const to = headers.destinationPort;
  if (headers.ipVersion === 4) return from === GuardedPort.DHCPV4_SERVER || to === GuardedPort.DHCPV4_CLIENT;
  return headers.ipVersion === 6 && (from === GuardedPort.DHCPV6_SERVER || to === GuardedPort.DHCPV6_CLIENT);
}

function isRouterMessage(): boolean {
  if (headers.fragment === Fragment.LATER || headers.payloadOffset === -1) return false;
  const type = headers.icmpType;
  if (headers.ipVersion === 6) {
    return (
      headers.ipProtocol === IpProtocol.ICMPV6 &&
      (type === Icmpv6Type.ROUTER_ADVERTISEMENT || type === Icmpv6Type.REDIRECT)
    );
  }
  return (
    headers.ipVersion === 4 &&
    headers.ipProtocol === IpProtocol.ICMPV4 &&
    (type === GuardedType.REDIRECT || type === GuardedType.ROUTER_ADVERTISEMENT)
  );
}
