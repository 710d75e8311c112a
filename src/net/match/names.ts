/**
 * Names and prefixes as people write them in filter rules and expressions, turned into numbers. Neighbours: fields.ts holds the
 * words of a packet that these numbers are compared with; expression.ts and the filter extension read user input through here.
 */
import { parseIpv4Into, parseIpv6Into, parseMacInto } from '../wire/address.ts';
import { EtherType, IpProtocol } from '../wire/numbers.ts';

const ETHER_TYPES: ReadonlyMap<string, number> = new Map([
  ['ipv4', EtherType.IPV4],
  ['ip', EtherType.IPV4],
  ['ipv6', EtherType.IPV6],
  ['ip6', EtherType.IPV6],
  ['arp', EtherType.ARP],
  ['mpls', EtherType.MPLS],
  ['lldp', EtherType.LLDP],
  ['llc', EtherType.LLC],
]);

const PROTOCOLS: ReadonlyMap<string, number> = new Map([
  ['icmp', IpProtocol.ICMPV4],
  ['icmpv4', IpProtocol.ICMPV4],
  ['igmp', IpProtocol.IGMP],
  ['ipip', IpProtocol.IPV4],
  ['tcp', IpProtocol.TCP],
  ['udp', IpProtocol.UDP],
  ['ipv6', IpProtocol.IPV6],
  ['gre', IpProtocol.GRE],
  ['esp', IpProtocol.ESP],
  ['ah', IpProtocol.AUTHENTICATION],
  ['icmpv6', IpProtocol.ICMPV6],
  ['icmp6', IpProtocol.ICMPV6],
  ['ospf', 89],
  ['pim', 103],
  ['vrrp', 112],
  ['sctp', IpProtocol.SCTP],
]);

/** Names that {@link etherTypeNumber} knows. */
export const ETHER_TYPE_NAMES: readonly string[] = [...ETHER_TYPES.keys()];
/** Names that {@link protocolNumber} knows. */
export const PROTOCOL_NAMES: readonly string[] = [...PROTOCOLS.keys()];

const NUMBER = /^(?:0x[0-9a-f]{1,8}|\d{1,10})$/i;

/** A decimal or 0x-hexadecimal number up to `maximum`; -1 when the text is something else. */
export function unsignedNumber(text: string, maximum: number): number {
  if (!NUMBER.test(text)) return -1;
  const value = Number(text);
  return value <= maximum ? value : -1;
}

/** An EtherType by name, or as a number up to 0xffff; -1 when the text is neither. */
export function etherTypeNumber(text: string): number {
  return ETHER_TYPES.get(text.toLowerCase()) ?? unsignedNumber(text, 0xffff);
}

/** An IP protocol by name, or as a number up to 255; -1 when the text is neither. */
export function protocolNumber(text: string): number {
  return PROTOCOLS.get(text.toLowerCase()) ?? unsignedNumber(text, 255);
}

/** An IPv4 or IPv6 prefix as big-endian 32-bit words: one word for IPv4, four for IPv6. */
export interface Prefix {
  readonly version: 4 | 6;
  readonly lengthBits: number;
  readonly words: Int32Array;
  readonly masks: Int32Array;
}

/**
 * Read `10.0.0.0/8`, `2001:db8::/32`, or an address, which is its own prefix.
 * @returns the prefix, or a sentence that says what is wrong
 */
export function parsePrefix(text: string): Prefix | string {
  const slash = text.indexOf('/');
  const address = slash < 0 ? text : text.slice(0, slash);
  const bytes = new Uint8Array(16);
  const version = parseIpv4Into(address, bytes, 0) ? 4 : parseIpv6Into(address, bytes, 0) ? 6 : 0;
  if (version === 0) return `"${address}" is neither an IPv4 nor an IPv6 address`;
  const maximumBits = version === 4 ? 32 : 128;
  const lengthText = slash < 0 ? String(maximumBits) : text.slice(slash + 1);
  const lengthBits = /^\d{1,3}$/.test(lengthText) ? Number(lengthText) : -1;
  if (lengthBits < 0 || lengthBits > maximumBits) {
    return `"${text}": the prefix length of an IPv${version} address is 0 to ${maximumBits}`;
  }
  const count = maximumBits / 32;
  const words = new Int32Array(count);
  const masks = new Int32Array(count);
  for (let i = 0; i < count; i += 1) {
    words[i] = word(bytes, i * 4);
    const bits = Math.min(32, Math.max(0, lengthBits - i * 32));
    masks[i] = bits === 0 ? 0 : -1 << (32 - bits);
    if ((words[i] & ~masks[i]) !== 0) return `"${text}" has bits set behind its prefix length`;
  }
  return { version, lengthBits, words, masks };
}

/** A MAC address with a mask, as the high four and the low two bytes. */
export interface MaskedMac {
  readonly high: number;
  readonly low: number;
  readonly highMask: number;
  readonly lowMask: number;
}

/**
 * Read `02:00:00:00:00:01`, or `01:00:00:00:00:00/01:00:00:00:00:00` with a mask of the same form.
 * @returns the address, or a sentence that says what is wrong
 */
export function parseMaskedMac(text: string): MaskedMac | string {
  const slash = text.indexOf('/');
  const address = slash < 0 ? text : text.slice(0, slash);
  const mask = slash < 0 ? 'ff:ff:ff:ff:ff:ff' : text.slice(slash + 1);
  const bytes = new Uint8Array(12);
  if (!parseMacInto(address, bytes, 0)) return `"${address}" is not a MAC address such as 02:00:00:00:00:01`;
  if (!parseMacInto(mask, bytes, 6)) return `"${mask}" is not a mask such as ff:ff:ff:00:00:00`;
  const high = word(bytes, 0);
  const low = (bytes[4] << 8) | bytes[5];
  const highMask = word(bytes, 6);
  const lowMask = (bytes[10] << 8) | bytes[11];
  if ((high & ~highMask) !== 0 || (low & ~lowMask) !== 0) return `"${text}" has bits set outside its mask`;
  return { high, low, highMask, lowMask };
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
}
