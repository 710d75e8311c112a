/** What guards and address bindings say of packets that are decided about: builtin.ts and binding-check.ts say the same of bytes. */
import type { Field, PacketView } from '../../decide/index.ts';
import { Icmpv6Type, IpProtocol } from '../../net/index.ts';
import type { AddressBinding } from './address-binding.ts';
import { MLD, REVERSE_ARP } from './binding-check.ts';
import type { Verdict } from './decide-headers.ts';
import { GuardedPort, GuardedType } from './hidden.ts';

/** Whether a packet is a message of a DHCP server. */
export function isServerMessage(packet: PacketView): boolean {
  const { udp } = packet;
  if (udp === null) return false;
  if (packet.ipv4 !== null)
    return udp.source.is(GuardedPort.DHCPV4_SERVER) || udp.destination.is(GuardedPort.DHCPV4_CLIENT);
  return udp.source.is(GuardedPort.DHCPV6_SERVER) || udp.destination.is(GuardedPort.DHCPV6_CLIENT);
}

/** Whether a packet is a message of a router. */
export function isRouterMessage({ icmp, icmpv6 }: PacketView): boolean {
  if (icmpv6 !== null) return icmpv6.type === Icmpv6Type.ROUTER_ADVERTISEMENT || icmpv6.type === Icmpv6Type.REDIRECT;
  return icmp !== null && (icmp.type === GuardedType.REDIRECT || icmp.type === GuardedType.ROUTER_ADVERTISEMENT);
}

/** Whether addresses are learned from a packet on its way to a bound port. */
export function isLearnedFrom(packet: PacketView, { learnsDhcp }: AddressBinding): boolean {
  if (packet.icmpv6 !== null) return packet.icmpv6.type === Icmpv6Type.NEIGHBOR_ADVERTISEMENT;
  const { udp } = packet;
  if (!learnsDhcp || udp === null) return false;
  return packet.ipv4 === null
    ? udp.source.is(GuardedPort.DHCPV6_SERVER) && udp.destination.is(GuardedPort.DHCPV6_CLIENT)
    : udp.source.is(GuardedPort.DHCPV4_SERVER) && udp.destination.is(GuardedPort.DHCPV4_CLIENT);
}

/**
 * What the bindings of its port say of a packet on its way in.
 * @param vlan its forwarding domain
 * @returns the name of a drop reason; null to let it in, or when each packet is to be judged by itself
 */
export function bindingReason(
  packet: PacketView,
  binding: AddressBinding,
  vlan: () => number,
  nowMs: number,
  verdict: Verdict & { until(ms: number): void },
): string | null {
  const { arp, ipv4, ipv6, ethernet } = packet;
  if (ethernet.type === REVERSE_ARP) {
    verdict.everyPacket('it is reverse ARP');
    return null;
  }
  const isBound = (address: Field, version: number): boolean => {
    for (const { text, mac, prefix } of binding.fixed) {
      if (prefix.bytes.length !== (version === 4 ? 4 : 16) || !address.within(text)) continue;
      if (mac === null || ethernet.source.is(mac)) return true;
    }
    const bytes = new Uint8Array(22);
    bytes.set(ethernet.source.bytes);
    bytes.set(address.bytes, 6);
    const learned = binding.learnedOf(bytes, 6, version, vlan(), 0);
    if (learned === null || nowMs >= learned.expiresMs) return false;
    if (nowMs < learned.validFromMs) {
      verdict.everyPacket('somebody may still object to its address');
      return true;
    }
    if (Number.isFinite(learned.expiresMs)) verdict.until(learned.expiresMs - nowMs);
    verdict.count(learned.use);
    return true;
  };
  if (arp !== null) {
    if (!arp.senderMac.is(ethernet.source.bytes)) return 'CLAIM_NOT_BOUND';
    if (arp.senderAddress.is('0.0.0.0')) return null;
    return isBound(arp.senderAddress, 4) ? null : 'CLAIM_NOT_BOUND';
  }
  const { udp } = packet;
  if (ipv4 !== null) {
    if (udp?.source.is(GuardedPort.DHCPV4_CLIENT) === true && udp.destination.is(GuardedPort.DHCPV4_SERVER)) {
      verdict.everyPacket('it asks a DHCP server');
      return null;
    }
    if (ipv4.source.is('0.0.0.0'))
      return ipv4.protocol === IpProtocol.IGMP && ipv4.destination.within('224.0.0.0/4') ? null : 'SOURCE_NOT_BOUND';
    return isBound(ipv4.source, 4) ? null : 'SOURCE_NOT_BOUND';
  }
  if (ipv6 === null) return null;
  const type = packet.icmpv6?.type ?? -1;
  if (ipv6.source.is('::')) {
    const isAllowed =
      type === Icmpv6Type.NEIGHBOR_SOLICITATION || type === Icmpv6Type.ROUTER_SOLICITATION || MLD.has(type);
    if (!isAllowed) return 'SOURCE_NOT_BOUND';
  } else if (!isBound(ipv6.source, 6)) return 'SOURCE_NOT_BOUND';
  if (type >= Icmpv6Type.ROUTER_SOLICITATION && type <= Icmpv6Type.REDIRECT)
    verdict.everyPacket('it is neighbour discovery');
  else if (udp?.source.is(GuardedPort.DHCPV6_CLIENT) === true && udp.destination.is(GuardedPort.DHCPV6_SERVER))
    verdict.everyPacket('it asks a DHCP server');
  return null;
}
