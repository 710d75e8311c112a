/**
 * What keeps a policy from judging a frame: layers that HeaderOffsets does not read and that some receiver might (CVE-2021-27853 and its sisters, RFC 7113).
 * A policy that looks into frames refuses them. Neighbours: dissect.ts of net/ reads what can be read; builtin.ts asks here.
 */
import { EtherType, type HeaderOffsets, Malformed, type Packet } from '../../net/index.ts';
import { DropReason } from '../drop-reason.ts';

/** Longest LLC frame (IEEE 802.3); lengths from here to the first EtherType mean nothing. */
const LONGEST_LLC = 1500;
/** LLC addresses: of SNAP, and those that once stood for IP and ARP without SNAP (RFC 948). */
const SAP_SNAP = 0xaa;
const SAP_IP = 0x06;
const SAP_ARP = 0x98;
/** The organization code 0080c2 bridges whole frames (RFC 2684). */
const OUI_BRIDGED = 0x0080c2;

/** Whether an EtherType announces one more outer header: tags 9100 to 9300 (before 802.1ad), 802.1ah and 802.1BR. */
export function isForeignTag(etherType: number): boolean {
  return (
    etherType === 0x9100 || etherType === 0x9200 || etherType === 0x9300 || etherType === 0x88e7 || etherType === 0x893f
  );
}

/** IPv6 headers that others may follow and that are not stepped over: mobility, HIP, Shim6, experiments (RFC 3692). */
export function isForeignExtension(next: number): boolean {
  return next === 135 || next === 139 || next === 140 || next === 253 || next === 254;
}

/**
 * Why a policy that looks into the frame cannot judge it.
 * @param headers of this packet, just parsed
 * @returns a DropReason; NONE when it can
 */
export function hiddenBy(packet: Packet, headers: HeaderOffsets): number {
  const { malformed, etherType } = headers;
  // A header that lies about itself could hide what the policy looks for (RFC 7113, RFC 5722).
  if (malformed !== Malformed.NOTHING) {
    return malformed === Malformed.TOO_MANY_TAGS ? DropReason.TOO_MANY_TAGS : DropReason.BAD_LENGTH;
  }
  if (headers.ipVersion === 6) {
    return isForeignExtension(headers.ipProtocol) ? DropReason.NOT_JUDGEABLE : DropReason.NONE;
  }
  if (headers.ipVersion === 4) return DropReason.NONE;
  const hidden = etherType === EtherType.LLC ? hidesInLlc(packet, headers) : isForeignTag(etherType);
  return hidden ? DropReason.NOT_JUDGEABLE : DropReason.NONE;
}

/**
 * Some receivers take the EtherType of a SNAP header whatever length stands before it, so that all bytes of the frame count here. A well-formed SNAP
 * header with an EtherType does not come here: HeaderOffsets has followed it.
 */
function hidesInLlc(packet: Packet, headers: HeaderOffsets): boolean {
  const bytes = packet.bytes;
  const llc = packet.offset + headers.l3Offset;
  const length = headers.l3End - headers.l3Offset;
  if (length < 3 || length > LONGEST_LLC) return true;
  const to = bytes[llc] & 0xfe;
  const from = bytes[llc + 1] & 0xfe;
  if (to === SAP_IP || to === SAP_ARP) return true;
  if (to !== SAP_SNAP || from !== SAP_SNAP) return false;
  if (length < 8 || bytes[llc] !== SAP_SNAP || bytes[llc + 1] !== SAP_SNAP || bytes[llc + 2] !== 3) return true;
  const oui = (bytes[llc + 3] << 16) | (bytes[llc + 4] << 8) | bytes[llc + 5];
  return oui === 0 || oui === 0xf8 || oui === OUI_BRIDGED;
}

/** UDP ports of DHCP. */
export const GuardedPort = { DHCPV4_SERVER: 67, DHCPV4_CLIENT: 68, DHCPV6_CLIENT: 546, DHCPV6_SERVER: 547 } as const;

/** ICMPv4 types of routers: RFC 792 and RFC 1256. */
export const GuardedType = { REDIRECT: 5, ROUTER_ADVERTISEMENT: 9 } as const;
