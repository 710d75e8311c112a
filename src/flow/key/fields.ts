/**
 * The fields of a key by name: where each lies in the byte string that the key's words make in big-endian order, how wide it
 * is, and how people write it. Text, offload compilers and netlink translation go by this table; hot code goes by layout.ts.
 */
import { EtherType, Icmpv6Type, IpProtocol } from '../../net/index.ts';
import { FlowEtherType, isMpls, KEY_WORDS, L3_MARKER, Word } from './layout.ts';

/** How a value is written. 'hex' writes 0 as 0; 'hex1' has its 0x in any case, 'hex4' four digits as well. */
export type FieldFormat =
  | 'decimal'
  | 'hex'
  | 'hex1'
  | 'hex4'
  | 'mac'
  | 'ipv4'
  | 'ipv6'
  | 'fragment'
  | 'tcp-flags'
  | 'ct-state'
  | 'tunnel-flags';

/** One field. */
export interface FlowField {
  /** As Open vSwitch's flow syntax names it inside its group, such as 'src'. */
  readonly name: string;
  /** First byte in the key's byte string. */
  readonly byteOffset: number;
  readonly widthBytes: number;
  readonly format: FieldFormat;
  /** Largest value, where it is less than the width allows; 0 for all that fits. */
  readonly maximum: number;
}

/** OVS_KEY_ATTR_* (linux/openvswitch.h): the groups in which fields travel, are set and are written. */
export const KeyAttribute = {
  ENCAP: 1,
  PRIORITY: 2,
  IN_PORT: 3,
  ETHERNET: 4,
  VLAN: 5,
  ETHERTYPE: 6,
  IPV4: 7,
  IPV6: 8,
  TCP: 9,
  UDP: 10,
  ICMP: 11,
  ICMPV6: 12,
  ARP: 13,
  ND: 14,
  SKB_MARK: 15,
  TUNNEL: 16,
  SCTP: 17,
  TCP_FLAGS: 18,
  DP_HASH: 19,
  RECIRC_ID: 20,
  MPLS: 21,
  CT_STATE: 22,
  CT_ZONE: 23,
  CT_MARK: 24,
  CT_LABELS: 25,
  CT_ORIG_TUPLE_IPV4: 26,
  CT_ORIG_TUPLE_IPV6: 27,
  NSH: 28,
  PACKET_TYPE: 29,
  IPV6_EXTHDRS: 32,
} as const;

/** A group of fields. */
export interface FieldGroup {
  /** One of {@link KeyAttribute}. */
  readonly attribute: number;
  /** As Open vSwitch's flow syntax writes it. */
  readonly name: string;
  /** With a single field the value stands alone in the parentheses. */
  readonly fields: readonly FlowField[];
}

function field(
  name: string,
  word: number,
  byteInWord: number,
  widthBytes: number,
  format: FieldFormat,
  maximum = 0,
): FlowField {
  return { name, byteOffset: word * 4 + byteInWord, widthBytes, format, maximum };
}

const ports = [field('src', Word.PORTS, 0, 2, 'decimal'), field('dst', Word.PORTS, 2, 2, 'decimal')];
const icmp = [field('type', Word.PORTS, 0, 2, 'decimal', 255), field('code', Word.PORTS, 2, 2, 'decimal', 255)];
const tupleTail = [
  field('proto', Word.CT, 1, 1, 'decimal'),
  field('tp_src', Word.CT_PORTS, 0, 2, 'decimal'),
  field('tp_dst', Word.CT_PORTS, 2, 2, 'decimal'),
];

/** Every group whose text is a plain list of fields, in the order in which the kernel puts them into messages. */
export const FIELD_GROUPS: readonly FieldGroup[] = [
  group(KeyAttribute.RECIRC_ID, 'recirc_id', [field('', Word.RECIRC_ID, 0, 4, 'hex')]),
  group(KeyAttribute.DP_HASH, 'dp_hash', [field('', Word.DP_HASH, 0, 4, 'hex')]),
  group(KeyAttribute.PRIORITY, 'skb_priority', [field('', Word.PRIORITY, 0, 4, 'hex')]),
  group(KeyAttribute.IN_PORT, 'in_port', [field('', Word.IN_PORT, 0, 4, 'decimal')]),
  group(KeyAttribute.SKB_MARK, 'skb_mark', [field('', Word.MARK, 0, 4, 'hex')]),
  group(KeyAttribute.CT_STATE, 'ct_state', [field('', Word.CT, 0, 1, 'ct-state')]),
  group(KeyAttribute.CT_ZONE, 'ct_zone', [field('', Word.CT, 2, 2, 'hex')]),
  group(KeyAttribute.CT_MARK, 'ct_mark', [field('', Word.CT_MARK, 0, 4, 'hex')]),
  group(KeyAttribute.CT_LABELS, 'ct_label', [field('', Word.CT_LABEL, 0, 16, 'hex')]),
  group(KeyAttribute.CT_ORIG_TUPLE_IPV4, 'ct_tuple4', [
    field('src', Word.CT_SOURCE, 0, 4, 'ipv4'),
    field('dst', Word.CT_DESTINATION4, 0, 4, 'ipv4'),
    ...tupleTail,
  ]),
  group(KeyAttribute.CT_ORIG_TUPLE_IPV6, 'ct_tuple6', [
    field('src', Word.CT_SOURCE, 0, 16, 'ipv6'),
    field('dst', Word.CT_DESTINATION6, 0, 16, 'ipv6'),
    ...tupleTail,
  ]),
  group(KeyAttribute.ETHERNET, 'eth', [field('src', Word.MAC + 1, 2, 6, 'mac'), field('dst', Word.MAC, 0, 6, 'mac')]),
  group(KeyAttribute.ETHERTYPE, 'eth_type', [field('', Word.ETH_TYPE, 0, 2, 'hex4')]),
  group(KeyAttribute.IPV4, 'ipv4', [
    field('src', Word.IPV4_SOURCE, 0, 4, 'ipv4'),
    field('dst', Word.IPV4_DESTINATION, 0, 4, 'ipv4'),
    field('proto', Word.IP, 0, 1, 'decimal'),
    field('tos', Word.IP, 1, 1, 'hex'),
    field('ttl', Word.IP, 2, 1, 'decimal'),
    field('frag', Word.IP, 3, 1, 'fragment'),
  ]),
  group(KeyAttribute.IPV6, 'ipv6', [
    field('src', Word.IPV6_SOURCE, 0, 16, 'ipv6'),
    field('dst', Word.IPV6_DESTINATION, 0, 16, 'ipv6'),
    field('label', Word.IPV6_LABEL, 0, 4, 'hex', 0xfffff),
    field('proto', Word.IP, 0, 1, 'decimal'),
    field('tclass', Word.IP, 1, 1, 'hex'),
    field('hlimit', Word.IP, 2, 1, 'decimal'),
    field('frag', Word.IP, 3, 1, 'fragment'),
  ]),
  group(KeyAttribute.IPV6_EXTHDRS, 'ipv6_exthdrs', [field('', Word.TCP_FLAGS, 2, 2, 'hex', 0x1ff)]),
  group(KeyAttribute.ARP, 'arp', [
    field('sip', Word.IPV4_SOURCE, 0, 4, 'ipv4'),
    field('tip', Word.IPV4_DESTINATION, 0, 4, 'ipv4'),
    field('op', Word.IP, 0, 1, 'decimal'),
    field('sha', Word.ARP_MAC, 0, 6, 'mac'),
    field('tha', Word.ARP_MAC + 1, 2, 6, 'mac'),
  ]),
  group(KeyAttribute.NSH, 'nsh', [
    field('flags', Word.NSH_BASE, 0, 1, 'decimal'),
    field('ttl', Word.NSH_BASE, 1, 1, 'decimal'),
    field('mdtype', Word.NSH_BASE, 2, 1, 'decimal'),
    field('np', Word.NSH_BASE, 3, 1, 'decimal'),
    field('spi', Word.NSH_PATH, 0, 3, 'hex1'),
    field('si', Word.NSH_PATH, 3, 1, 'decimal'),
    field('c1', Word.NSH_CONTEXT, 0, 4, 'hex1'),
    field('c2', Word.NSH_CONTEXT + 1, 0, 4, 'hex1'),
    field('c3', Word.NSH_CONTEXT + 2, 0, 4, 'hex1'),
    field('c4', Word.NSH_CONTEXT + 3, 0, 4, 'hex1'),
  ]),
  group(KeyAttribute.TCP, 'tcp', ports),
  group(KeyAttribute.TCP_FLAGS, 'tcp_flags', [field('', Word.TCP_FLAGS, 0, 2, 'tcp-flags', 0xfff)]),
  group(KeyAttribute.UDP, 'udp', ports),
  group(KeyAttribute.SCTP, 'sctp', ports),
  group(KeyAttribute.ICMP, 'icmp', icmp),
  group(KeyAttribute.ICMPV6, 'icmpv6', icmp),
  group(KeyAttribute.ND, 'nd', [
    field('target', Word.ND_TARGET, 0, 16, 'ipv6'),
    field('sll', Word.ND_MAC, 0, 6, 'mac'),
    field('tll', Word.ND_MAC + 1, 2, 6, 'mac'),
  ]),
];

/** The plain fields of the tunnel; which addresses count is told by the IP version. Flags and options have a text of their own. */
export const TUNNEL_FIELDS: readonly FlowField[] = [
  field('tun_id', Word.TUNNEL_ID, 0, 8, 'hex1'),
  field('src', Word.TUNNEL_SOURCE, 0, 4, 'ipv4'),
  field('dst', Word.TUNNEL_DESTINATION, 0, 4, 'ipv4'),
  field('ipv6_src', Word.TUNNEL_SOURCE, 0, 16, 'ipv6'),
  field('ipv6_dst', Word.TUNNEL_DESTINATION, 0, 16, 'ipv6'),
  field('tos', Word.TUNNEL_IP, 1, 1, 'hex'),
  field('ttl', Word.TUNNEL_IP, 2, 1, 'decimal'),
  field('tp_src', Word.TUNNEL_PORTS, 0, 2, 'decimal'),
  field('tp_dst', Word.TUNNEL_PORTS, 2, 2, 'decimal'),
];

/** The tunnel's flags, written with their names. */
export const TUNNEL_FLAGS_FIELD = field('', Word.TUNNEL_FLAGS, 0, 2, 'tunnel-flags', 0xf);

function group(attribute: number, name: string, fields: readonly FlowField[]): FieldGroup {
  return { attribute, name, fields };
}

const BY_ATTRIBUTE = new Map(FIELD_GROUPS.map((each) => [each.attribute, each]));
const BY_NAME = new Map(FIELD_GROUPS.map((each) => [each.name, each]));

/** The group of an attribute of {@link KeyAttribute}; undefined for those that text writes in a way of their own. */
export function groupOf(attribute: number): FieldGroup | undefined {
  return BY_ATTRIBUTE.get(attribute);
}

export function groupNamed(name: string): FieldGroup | undefined {
  return BY_NAME.get(name);
}

/** Bytes of a key in big-endian order. */
export const KEY_BYTES = KEY_WORDS * 4;

/** One byte of the key's byte string. */
export function keyByte(words: Uint32Array, byteOffset: number): number {
  return (words[byteOffset >>> 2] >>> (24 - ((byteOffset & 3) << 3))) & 0xff;
}

export function setKeyByte(words: Uint32Array, byteOffset: number, value: number): void {
  const shift = 24 - ((byteOffset & 3) << 3);
  const index = byteOffset >>> 2;
  words[index] = (words[index] & ~(0xff << shift)) | ((value & 0xff) << shift);
}

/** A field's bytes, in a new array. For slow paths. */
export function readField(words: Uint32Array, of: FlowField): Uint8Array {
  const bytes = new Uint8Array(of.widthBytes);
  for (let i = 0; i < of.widthBytes; i += 1) bytes[i] = keyByte(words, of.byteOffset + i);
  return bytes;
}

export function writeField(words: Uint32Array, of: FlowField, bytes: Uint8Array): void {
  for (let i = 0; i < of.widthBytes; i += 1) setKeyByte(words, of.byteOffset + i, bytes[i]);
}

/**
 * Whether a key of these words has a group's fields at all: what the kernel calls prerequisites.
 * @param attribute one of {@link KeyAttribute}
 */
export function hasAttribute(words: Uint32Array, attribute: number): boolean {
  const type = words[Word.ETH_TYPE] >>> 16;
  const protocol = words[Word.IP] >>> 24;
  const isIp = type === EtherType.IPV4 || type === EtherType.IPV6;
  switch (attribute) {
    case KeyAttribute.ETHERNET:
      return (words[Word.ETH_TYPE] & L3_MARKER) === 0;
    case KeyAttribute.IPV4:
      return type === EtherType.IPV4;
    case KeyAttribute.IPV6:
    case KeyAttribute.IPV6_EXTHDRS:
      return type === EtherType.IPV6;
    case KeyAttribute.CT_ORIG_TUPLE_IPV4:
      return type === EtherType.IPV4;
    case KeyAttribute.CT_ORIG_TUPLE_IPV6:
      return type === EtherType.IPV6;
    case KeyAttribute.ARP:
      return type === EtherType.ARP || type === FlowEtherType.REVERSE_ARP;
    case KeyAttribute.TCP:
    case KeyAttribute.TCP_FLAGS:
      return isIp && protocol === IpProtocol.TCP;
    case KeyAttribute.UDP:
      return isIp && protocol === IpProtocol.UDP;
    case KeyAttribute.SCTP:
      return isIp && protocol === IpProtocol.SCTP;
    case KeyAttribute.ICMP:
      return type === EtherType.IPV4 && protocol === IpProtocol.ICMPV4;
    case KeyAttribute.ICMPV6:
      return type === EtherType.IPV6 && protocol === IpProtocol.ICMPV6;
    case KeyAttribute.ND:
      return type === EtherType.IPV6 && protocol === IpProtocol.ICMPV6 && isNeighbourDiscovery(words[Word.PORTS]);
    case KeyAttribute.MPLS:
      return isMpls(type);
    case KeyAttribute.NSH:
      return type === FlowEtherType.NSH;
    default:
      return true;
  }
}

/** Neighbour solicitation or advertisement, from a word of type and code. */
function isNeighbourDiscovery(typeAndCode: number): boolean {
  const isSolicitation = typeAndCode === Icmpv6Type.NEIGHBOR_SOLICITATION << 16;
  return isSolicitation || typeAndCode === Icmpv6Type.NEIGHBOR_ADVERTISEMENT << 16;
}
