/**
 * Whether a policy can judge packets by what a flow key holds, for decisions: hidden.ts says the same of bytes. What is refused before any rule is asked is refused here;
 * what a key does not tell has each packet judged by itself. Packets whose headers lie do not come to flows that look as deep as this does (FlowRegistry.strict).
 */
import type { OutputDecision, PacketView } from '../../decide/index.ts';
import { EtherType, IpProtocol } from '../../net/index.ts';
import { isForeignExtension, isForeignTag } from './hidden.ts';

/** What can be said of a packet: decisions and what is decided about outputs alike. */
export type Verdict = Pick<OutputDecision, 'drop' | 'everyPacket' | 'count'>;

const WITH_TRANSPORT: ReadonlySet<number> = new Set([IpProtocol.TCP, IpProtocol.UDP, IpProtocol.SCTP]);

/**
 * Look at headers as deep as they may lie.
 * @param looksInside some rule looks behind the Ethernet header
 * @returns whether rules can go on; otherwise the verdict has been told
 */
export function canJudge(packet: PacketView, looksInside: boolean, verdict: Verdict): boolean {
  const { type } = packet.ethernet;
  switch (type) {
    case EtherType.VLAN:
    case EtherType.SERVICE_VLAN:
      verdict.everyPacket('it has more tags than a flow key holds');
      return false;
    case EtherType.LLC:
      verdict.everyPacket('it has a length in the place of its EtherType');
      return false;
    case EtherType.ARP:
      if (packet.arp !== null) return true;
      verdict.everyPacket('it is ARP that is cut off, or not for IPv4');
      return false;
    case EtherType.IPV4:
    case EtherType.IPV6:
      return canJudgeIp(packet, looksInside, verdict);
    default:
      if (!looksInside || !isForeignTag(type)) return true;
      verdict.drop('NOT_JUDGEABLE');
      return false;
  }
}

function canJudgeIp(packet: PacketView, looksInside: boolean, verdict: Verdict): boolean {
  const { ipv4, ip } = packet;
  if (ip === null) {
    verdict.drop('BAD_LENGTH');
    return false;
  }
  const { protocol, fragment } = ip;
  if (ipv4 !== null && protocol === IpProtocol.AUTHENTICATION) {
    verdict.everyPacket('it has an authentication header');
    return false;
  }
  if (ipv4 === null && fragment !== 'none') {
    verdict.everyPacket('it is a fragment of IPv6');
    return false;
  }
  if (ipv4 === null && looksInside && isForeignExtension(protocol)) {
    verdict.drop('NOT_JUDGEABLE');
    return false;
  }
  if (fragment === 'later') return true;
  const isIcmp = protocol === (ipv4 === null ? IpProtocol.ICMPV6 : IpProtocol.ICMPV4);
  if (!isIcmp && !WITH_TRANSPORT.has(protocol)) return true;
  const transport = packet.tcp ?? packet.udp ?? packet.sctp ?? packet.icmp ?? packet.icmpv6;
  if (transport !== null) return true;
  // A short ICMP message, and TCP whose options go on in the next fragment, are no lies.
  if (isIcmp || fragment === 'first') verdict.everyPacket('its transport header is cut off');
  else verdict.drop('BAD_LENGTH');
  return false;
}
