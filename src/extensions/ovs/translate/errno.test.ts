/**
 * What openvswitch.ko says to malformed keys, masks, actions and requests, in tables: net/openvswitch/flow_netlink.c and datapath.c are
 * the reference. Each line goes through a whole request, and a refused one changes nothing.
 */
import { expect, test } from 'vitest';
import { Action } from '../../../flow/index.ts';
import { Command, FlowAttribute as F, Family, PacketAttribute, PacketCommand } from '../abi.ts';
import { MemoryWorld, Program, request } from '../testing-memory.ts';

const ACK = 4;
const CREATE = 0x400;
const OK = 0;
const ENOENT = 2;
const EEXIST = 17;
const ENODEV = 19;
const EINVAL = 22;
const ERANGE = 34;
const EOVERFLOW = 75;
const EOPNOTSUPP = 95;

type Content = number[] | Attr[];
interface Attr {
  type: number;
  content: Content;
}

/** An attribute: bytes, or attributes. */
const a = (type: number, ...content: number[] | Attr[]): Attr => ({ type, content });
const zeros = (count: number, value = 0) => Array<number>(count).fill(value);
const u16 = (value: number) => [value & 255, value >>> 8];
const u32 = (value: number) => [value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24];
const be16 = (value: number) => [value >>> 8, value & 255];

function bytes(content: Content): number[] {
  const out: number[] = [];
  for (const item of content) {
    if (typeof item === 'number') {
      out.push(item);
      continue;
    }
    const inner = bytes(item.content);
    out.push(...u16(inner.length + 4), ...u16(item.type), ...inner);
    while (out.length % 4 !== 0) out.push(0);
  }
  return out;
}

// OVS_KEY_ATTR_* with sound contents.
const IN_PORT = a(3, ...u32(1));
const ETH = a(4, ...zeros(12, 2));
const type = (value: number) => a(6, ...be16(value));
const ipv4 = (protocol: number, fragment = 0) => a(7, 10, 0, 0, 1, 10, 0, 0, 2, protocol, 0, 64, fragment);
const ipv6 = (protocol: number, label = 0, fragment = 0) =>
  a(8, ...zeros(32, 1), 0, label, 0, 0, protocol, 0, 64, fragment);
const TCP = a(9, 0, 1, 0, 2);
const TCP_FLAGS = a(18, 0, 2);
const UDP = a(10, 0, 1, 0, 2);
const ICMPV6 = (kind: number) => a(12, kind, 0);
const ND = a(14, ...zeros(28, 1));
const ARP = (operation: number) => a(13, 10, 0, 0, 1, 10, 0, 0, 2, ...be16(operation), ...zeros(12, 1), 0, 0);
const vlan = (tci: number, ...inner: Attr[]) => [type(0x8100), a(5, ...be16(tci)), { type: 1, content: inner }];
const L2 = [IN_PORT, ETH];
const tunnel = (...content: Attr[]) => ({ type: 16, content });
const nsh = (...content: Attr[]) => ({ type: 28, content });
const MD1 = a(2, ...zeros(16, 1));
const TUNNEL = [a(2, 2, 2, 2, 2), a(4, 64)];
const IP_KEY = [...L2, type(0x0800), ipv4(6), TCP, TCP_FLAGS];
const ND_KEY = [...L2, type(0x86dd), ipv6(58), ICMPV6(135), ND];
const TUPLE4 = a(26, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 6, 0, 0, 0);
const TUPLE6 = a(27, ...zeros(32, 1), 0, 1, 0, 2, 6, 0, 0, 0);
const OTHER_KEY = [...L2, type(0x88b5)];

const KEYS: [string, number, Attr[]][] = [
  ['a sound key', OK, IP_KEY],
  ['no input port', OK, [ETH, type(0x88b5)]],
  ['no EtherType: LLC', OK, L2],
  ['an attribute above the last', EINVAL, [...OTHER_KEY, a(33, ...zeros(4))]],
  ['attribute 0', EINVAL, [...OTHER_KEY, a(0)]],
  ['an attribute of userspace alone', EINVAL, [...OTHER_KEY, a(29, ...zeros(4))]],
  ["the kernel's own tunnel info", EINVAL, [...OTHER_KEY, a(31, ...zeros(4))]],
  ['one attribute twice', EINVAL, [...OTHER_KEY, IN_PORT]],
  ['a structure too short', EINVAL, [IN_PORT, a(4, ...zeros(11)), type(0x88b5)]],
  ['a structure too long', EINVAL, [IN_PORT, a(4, ...zeros(13)), type(0x88b5)]],
  ['port 65535', EINVAL, [a(3, ...u32(0xffff)), ETH, type(0x88b5)]],
  ['an EtherType that is a length', EINVAL, [...L2, type(0x05ff)]],
  ['IPv4 without its header', EINVAL, [...L2, type(0x0800)]],
  ['IPv6 without its header', EINVAL, [...L2, type(0x86dd)]],
  ['ARP without its header', EINVAL, [...L2, type(0x0806)]],
  ['MPLS without labels', EINVAL, [...L2, type(0x8847)]],
  ['a header that the EtherType does not announce, matched whole', EINVAL, [...OTHER_KEY, ipv4(6)]],
  ['neither an Ethernet header nor an EtherType', EINVAL, [IN_PORT]],
  ['an EtherType without an Ethernet header', OK, [IN_PORT, type(0x88b5)]],
  ['TCP without ports', EINVAL, [...L2, type(0x0800), ipv4(6)]],
  ['TCP without flags', EINVAL, [...L2, type(0x0800), ipv4(6), TCP]],
  ['UDP without ports', EINVAL, [...L2, type(0x0800), ipv4(17)]],
  ['UDP in a later fragment without ports', OK, [...L2, type(0x0800), ipv4(17, 2)]],
  ['a fragment of no kind', EINVAL, [...L2, type(0x0800), ipv4(6, 3), TCP, TCP_FLAGS]],
  ['a flow label of more than 20 bits', EINVAL, [...L2, type(0x86dd), ipv6(59, 0x10)]],
  ['a neighbour solicitation without its fields', EINVAL, [...L2, type(0x86dd), ipv6(58), ICMPV6(135)]],
  ['a neighbour solicitation', OK, ND_KEY],
  ['an ARP operation above 255', EINVAL, [...L2, type(0x0806), ARP(256)]],
  ['a tag', OK, [...L2, ...vlan(0x1005, type(0x88b5))]],
  ['a tag without content', EINVAL, [...L2, type(0x8100), a(5, ...be16(0x1005))]],
  ['a tag without TCI', EINVAL, [...L2, type(0x8100), { type: 1, content: [type(0x88b5)] }]],
  ['a TCI without the bit that says that it is there', EINVAL, [...L2, ...vlan(5, type(0x88b5))]],
  ['a tag that was cut off', OK, [...L2, ...vlan(0)]],
  ['a tag that was cut off, with content', EINVAL, [...L2, ...vlan(0, type(0x88b5))]],
  ['two tags', OK, [...L2, ...vlan(0x1005, ...vlan(0x1006, type(0x88b5)))]],
  ['one attribute outside and inside a tag', EINVAL, [...L2, ...vlan(0x1005, ETH, type(0x88b5))]],
  ['content of a tag without the tag', EINVAL, [...OTHER_KEY, { type: 1, content: [] }]],
  ['three labels', OK, [...L2, type(0x8847), a(21, ...zeros(12, 1))]],
  ['four labels', EINVAL, [...L2, type(0x8847), a(21, ...zeros(16, 1))]],
  ['a label of three bytes', EINVAL, [...L2, type(0x8847), a(21, 1, 2, 3)]],
  ['a tunnel', OK, [tunnel(...TUNNEL), ...OTHER_KEY]],
  ['a tunnel to nowhere', EINVAL, [tunnel(a(4, 64)), ...OTHER_KEY]],
  ['a tunnel to address 0', EINVAL, [tunnel(a(2, 0, 0, 0, 0), a(4, 64)), ...OTHER_KEY]],
  ['a tunnel over IPv6', OK, [tunnel(a(13, ...zeros(16, 1)), a(4, 64)), ...OTHER_KEY]],
  ['a tunnel to IPv6 address 0', EINVAL, [tunnel(a(13, ...zeros(16)), a(4, 64)), ...OTHER_KEY]],
  ['a tunnel without TTL', EINVAL, [tunnel(a(2, 2, 2, 2, 2)), ...OTHER_KEY]],
  ['a tunnel of both families', EINVAL, [tunnel(...TUNNEL, a(13, ...zeros(16, 1))), ...OTHER_KEY]],
  ['a tunnel attribute above the last', EINVAL, [tunnel(...TUNNEL, a(17)), ...OTHER_KEY]],
  ['a tunnel attribute too long', EINVAL, [tunnel(...TUNNEL, a(3, 0, 0)), ...OTHER_KEY]],
  ['Geneve options of 6 bytes', EINVAL, [tunnel(...TUNNEL, a(8, ...zeros(6))), ...OTHER_KEY]],
  ['Geneve options of 256 bytes', EINVAL, [tunnel(...TUNNEL, a(8, ...zeros(256))), ...OTHER_KEY]],
  ['options of two kinds', EINVAL, [tunnel(...TUNNEL, a(8, ...zeros(4)), a(11, a(1, ...zeros(4)))), ...OTHER_KEY]],
  ['NSH without metadata', OK, [...L2, type(0x894f), nsh(a(1, 0, 0, 1, 3, ...zeros(4)))]],
  ['NSH of metadata type 2', OK, [...L2, type(0x894f), nsh(a(1, 0, 0, 2, 3, ...zeros(4)))]],
  ['NSH of metadata type 2 with a context', EINVAL, [...L2, type(0x894f), nsh(a(1, 0, 0, 2, 3, ...zeros(4)), MD1)]],
  ['NSH with a base of 7 bytes', EINVAL, [...L2, type(0x894f), nsh(a(1, ...zeros(7)))]],
  ['NSH with metadata of type 2', EINVAL, [...L2, type(0x894f), nsh(a(1, ...zeros(8)), a(3, ...zeros(8)))]],
  ['a state of a connection', OK, [...OTHER_KEY, a(22, ...u32(0x21))]],
  ['every bit of a state that there is', OK, [...IP_KEY, a(22, ...u32(0xff))]],
  ['a bit of a state that there is not', EINVAL, [...IP_KEY, a(22, ...u32(0x100))]],
  ['a state of 1 byte', EINVAL, [...IP_KEY, a(22, 1)]],
  ['zone, mark and label of a connection', OK, [...IP_KEY, a(23, 5, 0), a(24, ...u32(7)), a(25, ...zeros(16, 1))]],
  ['a zone of 4 bytes', EINVAL, [...IP_KEY, a(23, ...u32(5))]],
  ['a label of 12 bytes', EINVAL, [...IP_KEY, a(25, ...zeros(12, 1))]],
  ['an original tuple over IPv4', OK, [...IP_KEY, TUPLE4]],
  ['an original tuple over IPv4, of 12 bytes', EINVAL, [...IP_KEY, a(26, ...zeros(12, 6))]],
  ['an original tuple over IPv6 for IPv4', EINVAL, [...IP_KEY, TUPLE6]],
  ['an original tuple over IPv4 for what is not IP', EINVAL, [...OTHER_KEY, TUPLE4]],
  ['an original tuple over IPv6', OK, [...L2, type(0x86dd), ipv6(59), TUPLE6]],
  ['an original tuple of a neighbour solicitation', EINVAL, [...ND_KEY, TUPLE6]],
];

const NSH_KEY = [...L2, type(0x894f), nsh(a(1, 0, 0, 1, 3, ...zeros(4)), MD1)];
const all = (attr: Attr): Attr => ({ type: attr.type, content: zeros(bytes(attr.content).length, 0xff) });
const TAGGED = [...L2, ...vlan(0x1005, type(0x0800), ipv4(17, 2))];
const DOUBLE = [...L2, ...vlan(0x1005, ...vlan(0x1006, type(0x0800), ipv4(17, 2)))];
const encap = (...content: Attr[]) => ({ type: 1, content });

/** Name, errno, key, mask. */
const MASKS: [string, number, Attr[], Attr[]][] = [
  ['an empty mask', OK, IP_KEY, []],
  ['everything', OK, IP_KEY, IP_KEY.map(all)],
  ['every bit of a state', OK, [...IP_KEY, a(22, ...u32(1))], [a(22, ...u32(0xff))]],
  ['bits of a state that there are not', EINVAL, [...IP_KEY, a(22, ...u32(1))], [a(22, ...u32(0x1ff))]],
  ['attributes that are all 0 count as none', OK, IP_KEY, [a(7, ...zeros(12)), a(9, ...zeros(4))]],
  ['part of the input port, which is matched whole', OK, IP_KEY, [a(3, ...u32(1))]],
  ['layer 3 without the EtherType', EINVAL, IP_KEY, [all(ipv4(6))]],
  ['layer 3 with part of the EtherType, which is matched whole', OK, IP_KEY, [type(0xfff0), all(ipv4(6))]],
  ['layer 3 with the EtherType', OK, IP_KEY, [type(0xffff), all(ipv4(6))]],
  ['ports without the protocol', EINVAL, IP_KEY, [type(0xffff), all(TCP)]],
  ['ports with part of the protocol', EINVAL, IP_KEY, [type(0xffff), ipv4(0xf0), all(TCP)]],
  ['flags without the protocol', EINVAL, IP_KEY, [type(0xffff), all(TCP_FLAGS)]],
  ['ports of another protocol', EINVAL, IP_KEY, [type(0xffff), all(ipv4(6)), all(UDP)]],
  ['layer 3 of another kind', EINVAL, IP_KEY, [type(0xffff), all(ipv6(6))]],
  [
    'neighbour discovery with all of its type',
    EINVAL,
    [...L2, type(0x86dd), ipv6(58), ICMPV6(128)],
    [type(0xffff), all(ipv6(58)), all(ICMPV6(0)), all(ND)],
  ],
  ['an unknown attribute', EINVAL, IP_KEY, [a(40, 1)]],
  ['an attribute twice', EINVAL, IP_KEY, [all(ETH), all(ETH)]],
  ['an attribute too long', EINVAL, IP_KEY, [a(4, ...zeros(13, 1))]],
  ['attribute 0 without content, which is all 0', OK, IP_KEY, [a(0)]],
  ['attribute 0', EINVAL, IP_KEY, [a(0, 1)]],
  ['an attribute all 0, and the same one again', OK, IP_KEY, [a(4, ...zeros(12)), all(ETH)]],
  ['an attribute that the key does not have', EINVAL, IP_KEY, [a(20, ...u32(1))]],
  ['the input port, which the key does not name', OK, [ETH, type(0x88b5)], [a(3, ...u32(1))]],
  ['extension headers that the key does not name', EINVAL, [...L2, type(0x86dd), ipv6(59)], [a(32, 1, 0)]],
  [
    'a header that the key has and its EtherType does not announce',
    EINVAL,
    [...OTHER_KEY, ipv4(6)],
    [type(0xffff), all(ipv4(6))],
  ],
  ['no mask of a header that the EtherType does not announce', OK, [...OTHER_KEY, ipv4(6)], [type(0xffff)]],
  ['a state of connections that is all 0', OK, IP_KEY, [a(22, ...u32(0))]],
  ['a tag of a key without one', EINVAL, IP_KEY, [type(0xffff), a(5, ...be16(0xffff)), encap()]],
  ['a tag', OK, TAGGED, [type(0xffff), a(5, ...be16(0xffff)), encap(type(0xffff))]],
  [
    'a tag of a key without one, with content',
    EINVAL,
    IP_KEY,
    [type(0xffff), a(5, ...be16(0xffff)), encap(type(0xffff))],
  ],
  ['a TCI of a key without a tag', EINVAL, IP_KEY, [a(5, ...be16(0xffff))]],
  ['a TCI all 0 of a key without a tag', OK, IP_KEY, [a(5, ...be16(0))]],
  ['a TCI all 0', OK, TAGGED, [type(0xffff), a(5, ...be16(0)), encap(type(0xffff))]],
  ['no TCI', OK, TAGGED, [type(0xffff), encap(type(0xffff))]],
  ['no TPID', EINVAL, TAGGED, [a(5, ...be16(0xffff)), encap(type(0xffff))]],
  ['a TPID all 0', EINVAL, TAGGED, [type(0), a(5, ...be16(0xffff)), encap(type(0xffff))]],
  ['a tag without its content', EINVAL, TAGGED, [type(0xffff), a(5, ...be16(0xffff))]],
  ['a tag with empty content', EINVAL, TAGGED, [type(0xffff), a(5, ...be16(0xffff)), encap()]],
  ['a TCI all 0 with empty content', OK, TAGGED, [type(0xffff), a(5, ...be16(0)), encap()]],
  ['one attribute outside and inside a tag', EINVAL, TAGGED, [all(ETH), type(0xffff), encap(all(ETH), type(0xffff))]],
  [
    'two tags, with TCIs all 0',
    OK,
    DOUBLE,
    [type(0xffff), a(5, 0, 0), encap(type(0xffff), a(5, 0, 0), encap(type(0xffff)))],
  ],
  ['the outer of two tags', OK, DOUBLE, [type(0xffff), encap(type(0xffff))]],
  ['three tags of two', EINVAL, DOUBLE, [type(0xffff), encap(type(0xffff), encap(type(0xffff), encap(type(0xffff))))]],
  ['a tag that was cut off', OK, [...L2, ...vlan(0)], [type(0xffff), a(5, 0, 0), encap()]],
  ['content of a tag that was cut off', EINVAL, [...L2, ...vlan(0)], [type(0xffff), encap(type(0xffff))]],
  ['a tag whose TPID is matched in part', EINVAL, TAGGED, [type(0xff00), a(5, ...be16(0xffff)), encap()]],
  ['a tag that may be there or not', EINVAL, TAGGED, [type(0xffff), a(5, ...be16(0x0fff)), encap()]],
  [
    'tunnel options of another length',
    EINVAL,
    [tunnel(...TUNNEL, a(8, ...zeros(4, 1))), ...OTHER_KEY],
    [tunnel(a(8, ...zeros(8, 1)))],
  ],
  ['tunnel options of no length', EINVAL, [tunnel(...TUNNEL, a(8, ...zeros(4, 1))), ...OTHER_KEY], [tunnel(a(8))]],
  ['a tunnel of a key without one', OK, OTHER_KEY, [tunnel(a(4, 0))]],
  ['an empty tunnel', OK, [tunnel(...TUNNEL), ...OTHER_KEY], [tunnel()]],
  ['NSH with metadata of type 2', EINVAL, NSH_KEY, [type(0xffff), nsh(a(3, ...zeros(8, 1)))]],
  ['NSH', OK, NSH_KEY, [type(0xffff), nsh(a(1, ...zeros(8, 255)), MD1)]],
  ['an empty NSH without the EtherType', OK, NSH_KEY, [nsh()]],
  ['part of a tunnel', OK, [tunnel(...TUNNEL), ...OTHER_KEY], [tunnel(a(2, 255, 255, 0, 0))]],
];

/** Lists inside lists. */
function clones(depth: number): Attr {
  let list: Attr = a(20);
  for (let i = 1; i < depth; i += 1) list = { type: 20, content: [list] };
  return list;
}

const set = (...content: Attr[]) => ({ type: 3, content });
const setMasked = (...content: Attr[]) => ({ type: 11, content });
const userspace = (...content: Attr[]) => ({ type: 2, content });
const PID = a(1, ...u32(7));
const nested = (kind: number, ...content: Attr[]) => ({ type: kind, content });
const half = a(1, ...u32(0x8000_0000));
const BASE1 = a(1, 0, 63, 1, 3, 0, 0, 1, 255);
const BASE2 = a(1, 0, 63, 2, 3, 0, 0, 1, 255);

/** Name, errno, actions; for a TCP flow over IPv4. */
// Parts of OVS_ACTION_ATTR_CT.
const text = (name: string) => [...new TextEncoder().encode(name), 0];
const ct = (...parts: Attr[]): Attr => ({ type: Action.CT, content: parts });
const nat = (...parts: Attr[]): Attr => ({ type: 6, content: parts });
const COMMIT = a(1);
const ZONE = a(2, 5, 0);
const MARK = a(3, ...u32(1), ...u32(1));
const LABELS = a(4, ...zeros(16, 1), ...zeros(16, 3));
const FTP = a(5, ...text('ftp'));
const TIMEOUT = a(9, ...text('policy'));
const IP_MIN = a(3, 192, 0, 2, 1);

const ACTIONS: [string, number, Attr[]][] = [
  ['none', OK, []],
  ['an output', OK, [a(1, ...u32(2))]],
  ['action 0', EINVAL, [a(0)]],
  ['an action above the last', EINVAL, [a(60, ...u32(1))]],
  ['an output to port 65535', EINVAL, [a(1, ...u32(0xffff))]],
  ['an output of 2 bytes', EINVAL, [a(1, 1, 0)]],
  ['userspace', OK, [userspace(PID, a(2, 1, 2, 3))]],
  ['userspace without a socket', EINVAL, [userspace(a(2, 1))]],
  ['userspace with socket 0', EINVAL, [userspace(a(1, ...u32(0)))]],
  ['userspace with a socket of 2 bytes', ERANGE, [userspace(a(1, 1, 0))]],
  ['userspace with something unknown', OK, [userspace(PID, a(9, 1))]],
  ['pop of a tag that may not be there', OK, [a(Action.POP_VLAN)]],
  ['a tag', OK, [a(Action.PUSH_VLAN, ...be16(0x8100), ...be16(0x1005))]],
  ['a tag without the bit that says that it is there', EINVAL, [a(Action.PUSH_VLAN, ...be16(0x8100), ...be16(5))]],
  ['a tag with a TPID that is none', EINVAL, [a(Action.PUSH_VLAN, ...be16(0x9100), ...be16(0x1005))]],
  ['a label', OK, [a(Action.PUSH_MPLS, ...zeros(4), ...be16(0x8847), 0, 0)]],
  ['a label with another EtherType', EINVAL, [a(Action.PUSH_MPLS, ...zeros(4), ...be16(0x0800), 0, 0)]],
  [
    'a label before a tag',
    EINVAL,
    [a(Action.PUSH_VLAN, ...be16(0x8100), ...be16(0x1005)), a(Action.PUSH_MPLS, ...zeros(4), ...be16(0x8847), 0, 0)],
  ],
  ['pop of a label that is not there', EINVAL, [a(Action.POP_MPLS, ...be16(0x0800))]],
  [
    'pop of a label that was pushed',
    OK,
    [a(Action.PUSH_MPLS, ...zeros(4), ...be16(0x8847), 0, 0), a(Action.POP_MPLS, ...be16(0x0800))],
  ],
  ['an Ethernet header on top of one', EINVAL, [a(Action.PUSH_ETH, ...zeros(12))]],
  ['pop of the Ethernet header', OK, [a(Action.POP_ETH)]],
  [
    'pop of the Ethernet header behind a tag',
    EINVAL,
    [a(Action.PUSH_VLAN, ...be16(0x8100), ...be16(0x1005)), a(Action.POP_ETH)],
  ],
  ['a hash of layer 4', OK, [a(Action.HASH, ...u32(0), ...u32(9))]],
  ['a hash of no kind', EINVAL, [a(Action.HASH, ...u32(2), ...u32(9))]],
  ['a recirculation', OK, [a(Action.RECIRC, ...u32(1))]],
  ['a truncation to 13 bytes', EINVAL, [a(Action.TRUNC, ...u32(13))]],
  ['a truncation to 14 bytes', OK, [a(Action.TRUNC, ...u32(14))]],
  ['a meter that does not exist', OK, [a(Action.METER, ...u32(99))]],
  ['set of nothing', EINVAL, [set()]],
  ['set of two things', EINVAL, [set(a(2, ...u32(1)), a(15, ...u32(1)))]],
  ['set of the priority', OK, [set(a(2, ...u32(1)))]],
  ['set of the input port', EINVAL, [set(IN_PORT)]],
  ['set of an unknown attribute', EINVAL, [set(a(40, ...u32(1)))]],
  ['set of the TTL', OK, [setMasked(a(7, ...zeros(10), 9, 0, ...zeros(10), 255, 0))]],
  ['set of the protocol', EINVAL, [setMasked(a(7, ...zeros(8), 1, 0, 0, 0, ...zeros(8), 255, 0, 0, 0))]],
  ['set of the whole header, with another protocol', EINVAL, [set(ipv4(17))]],
  ['set of the whole header', OK, [set(ipv4(6))]],
  ['set of bits outside of the mask', EINVAL, [setMasked(a(7, 9, ...zeros(11), 6, ...zeros(11)))]],
  ['set of a header that is not there', EINVAL, [set(UDP)]],
  ['set of a header of another family', EINVAL, [set(ipv6(6))]],
  ['set of a mask of half the length', EINVAL, [setMasked(a(9, 0, 1, 0, 2, 255, 255))]],
  ['set of a tunnel', OK, [set(tunnel(...TUNNEL))]],
  ['set of a tunnel to nowhere', EINVAL, [set(tunnel(a(4, 64)))]],
  ['set of a tunnel in part', EINVAL, [setMasked(tunnel(...TUNNEL))]],
  ['set of a tunnel with options that do not end', EINVAL, [set(tunnel(...TUNNEL, a(8, 0, 0, 0, 5)))]],
  ['a sample', OK, [nested(Action.SAMPLE, half, a(2))]],
  ['a sample without probability', EINVAL, [nested(Action.SAMPLE, a(2))]],
  ['a sample without actions', EINVAL, [nested(Action.SAMPLE, half)]],
  ['a sample with two probabilities', EINVAL, [nested(Action.SAMPLE, half, half, a(2))]],
  ['a sample with something unknown', EINVAL, [nested(Action.SAMPLE, half, a(2), a(3))]],
  ['a sample of an action that is none', EINVAL, [nested(Action.SAMPLE, half, nested(2, a(60)))]],
  ['a check of the length', OK, [nested(Action.CHECK_PKT_LEN, a(1, ...u16(9)), a(2), a(3))]],
  ['a check of the length with one list', EINVAL, [nested(Action.CHECK_PKT_LEN, a(1, ...u16(9)), a(2))]],
  ['a check of the length 0', EINVAL, [nested(Action.CHECK_PKT_LEN, a(1, ...u16(0)), a(2), a(3))]],
  ['a check of a length of one byte', ERANGE, [nested(Action.CHECK_PKT_LEN, a(1, 9), a(2), a(3))]],
  ['a lower TTL', OK, [nested(Action.DEC_TTL, a(1))]],
  ['a lower TTL without actions', EINVAL, [nested(Action.DEC_TTL)]],
  ['an explicit drop, last', OK, [a(Action.DROP, ...u32(0))]],
  ['an explicit drop with something behind it', EINVAL, [a(Action.DROP, ...u32(0)), a(1, ...u32(1))]],
  ['tracking', OK, [ct()]],
  [
    'tracking with all that there is',
    OK,
    [ct(COMMIT, a(8, ...u32(1)), TIMEOUT, ZONE, MARK, LABELS, FTP, nat(a(1), IP_MIN))],
  ],
  ['tracking with a part above the last', EINVAL, [ct(a(10))]],
  ['tracking with part 0', EINVAL, [ct(a(0))]],
  ['a commit of 1 byte', EINVAL, [ct(a(1, 0))]],
  ['a zone of 4 bytes', EINVAL, [ct(a(2, ...u32(1)))]],
  ['a mark without a commit', EINVAL, [ct(MARK)]],
  ['a mark with a mask of 0', EINVAL, [ct(COMMIT, a(3, ...u32(1), ...u32(0)))]],
  ['a mark with bits outside of its mask', OK, [ct(COMMIT, a(3, ...u32(3), ...u32(1)))]],
  ['a mark without a mask', EINVAL, [ct(COMMIT, a(3, ...u32(1)))]],
  ['a label without a commit', EINVAL, [ct(LABELS)]],
  ['a label with a mask of 0', EINVAL, [ct(COMMIT, a(4, ...zeros(16, 1), ...zeros(16)))]],
  ['a label of 31 bytes', EINVAL, [ct(COMMIT, a(4, ...zeros(31, 1)))]],
  ['a helper that there is not', EINVAL, [ct(COMMIT, a(5, ...text('irc')))]],
  ['a helper for another protocol', EINVAL, [ct(COMMIT, a(5, ...text('tftp')))]],
  ['a helper without its closing zero', EINVAL, [ct(COMMIT, a(5, 102, 116, 112))]],
  ['a helper without a name', EINVAL, [ct(COMMIT, a(5, 0))]],
  ['a helper of 17 bytes', EINVAL, [ct(COMMIT, a(5, ...zeros(17)))]],
  ['a helper without a commit', OK, [ct(FTP)]],
  ['events of 2 bytes', EINVAL, [ct(COMMIT, a(8, 1, 0))]],
  ['a time-out policy that there is not', OK, [ct(COMMIT, TIMEOUT)]],
  ['a time-out policy without its closing zero', EINVAL, [ct(COMMIT, a(9, 102))]],
  ['a time-out policy of 33 bytes', EINVAL, [ct(COMMIT, a(9, ...zeros(33)))]],
  ['NAT of connections that are there', OK, [ct(nat())]],
  ['NAT of a source without a commit', EINVAL, [ct(nat(a(1), IP_MIN))]],
  ['NAT of a source and a destination', ERANGE, [ct(COMMIT, nat(a(1), a(2)))]],
  ['NAT of a source twice', ERANGE, [ct(COMMIT, nat(a(1), a(1)))]],
  ['NAT with a range but no direction', EINVAL, [ct(COMMIT, nat(IP_MIN))]],
  ['NAT with a flag but no direction', EINVAL, [ct(COMMIT, nat(a(7)))]],
  ['NAT to an address of the other version', EINVAL, [ct(COMMIT, nat(a(1), a(3, ...zeros(16, 1))))]],
  ['NAT to an address of 3 bytes', EINVAL, [ct(COMMIT, nat(a(1), a(3, 1, 2, 3)))]],
  ['NAT to a range of addresses of both versions', EINVAL, [ct(COMMIT, nat(a(1), IP_MIN, a(4, ...zeros(16, 1))))]],
  ['NAT to a port of 4 bytes', EINVAL, [ct(COMMIT, nat(a(1), a(5, ...u32(1))))]],
  ['NAT to a port, the rest as it is', OK, [ct(COMMIT, nat(a(2), a(5, 1, 0)))]],
  ['NAT with a part above the last', EINVAL, [ct(COMMIT, nat(a(1), a(10)))]],
  ['NAT with part 0', EINVAL, [ct(COMMIT, nat(a(0)))]],
  ['NAT to addresses that end before they begin', EINVAL, [ct(COMMIT, nat(a(1), a(3, 1, 1, 1, 2), a(4, 1, 1, 1, 1)))]],
  ['NAT to ports that end before they begin', EINVAL, [ct(COMMIT, nat(a(1), a(5, 2, 0), a(6, 1, 0)))]],
  ['NAT to all zeros, for which the address stays', OK, [ct(COMMIT, nat(a(1), a(3, 0, 0, 0, 0)))]],
  ['NAT with ports by hash, address kept', OK, [ct(COMMIT, nat(a(1), a(7), a(8), IP_MIN))]],
  ['forgetting a connection', OK, [a(Action.CT_CLEAR)]],
  ['forgetting a connection, with a byte', EINVAL, [a(Action.CT_CLEAR, 1)]],
  ['a push of NSH', OK, [nested(Action.PUSH_NSH, nsh(BASE1, MD1))]],
  ['a push of NSH with metadata of type 2', OK, [nested(Action.PUSH_NSH, nsh(BASE2, a(3, ...zeros(8, 1))))]],
  ['a push of NSH without the attribute around it', EINVAL, [nested(Action.PUSH_NSH, BASE1, MD1)]],
  ['a push of nothing', EINVAL, [nested(Action.PUSH_NSH)]],
  ['a push of two headers', EINVAL, [nested(Action.PUSH_NSH, nsh(BASE1, MD1), nsh(BASE1, MD1))]],
  ['a push of NSH without a base', EINVAL, [nested(Action.PUSH_NSH, nsh(MD1))]],
  ['a push of NSH without metadata', EINVAL, [nested(Action.PUSH_NSH, nsh(BASE1))]],
  ['a push of NSH with metadata of both types', EINVAL, [nested(Action.PUSH_NSH, nsh(BASE1, MD1, a(3, ...zeros(8))))]],
  ['a push of NSH with metadata of another type', EINVAL, [nested(Action.PUSH_NSH, nsh(BASE2, MD1))]],
  ['a push of NSH with empty metadata', EINVAL, [nested(Action.PUSH_NSH, nsh(BASE2, a(3)))]],
  ['a pop of NSH that is not there', EINVAL, [a(Action.POP_NSH)]],
  ['lists 15 deep', OK, [clones(15)]],
  ['lists 17 deep', EOVERFLOW, [clones(17)]],
  ['a list of 40,000 bytes', OK, Array.from({ length: 5000 }, () => a(1, ...u32(2)))],
];

function start() {
  const world = new MemoryWorld();
  const program = new Program(world.server);
  const datapath = world.server.addDatapath('dp');
  const put = (key: Attr[], mask: Attr[] | null, actions: Attr[]) =>
    flow(Command.NEW, CREATE | ACK, [
      { type: F.KEY, content: key },
      ...(mask === null ? [] : [{ type: F.MASK, content: mask }]),
      { type: F.ACTIONS, content: actions },
    ]);
  const flow = (command: number, flags: number, attributes: Attr[], index = datapath.interfaceIndex) =>
    send(request(Family.FLOW, command, flags, index, (writer) => writer.raw(Uint8Array.from(bytes(attributes)))));
  const send = (datagram: Uint8Array) => program.request(datagram).at(-1)?.errno;
  return { datapath, put, flow, send };
}

test.each(KEYS)('key: %s gives %i', (_name, errno, key) => {
  const { datapath, put } = start();
  expect(put(key, null, [])).toBe(errno);
  expect(datapath.flows.table.size).toBe(errno === OK ? 1 : 0);
});

test.each(MASKS)('mask: %s gives %i', (_name, errno, key, mask) => {
  const { datapath, put } = start();
  expect(put(key, mask, [])).toBe(errno);
  expect(datapath.flows.table.size).toBe(errno === OK ? 1 : 0);
});

test.each(ACTIONS)('actions: %s gives %i', (_name, errno, actions) => {
  const { datapath, put } = start();
  expect(put(IP_KEY, null, actions)).toBe(errno);
  expect(datapath.flows.table.size).toBe(errno === OK ? 1 : 0);
});

const KEY = { type: F.KEY, content: OTHER_KEY };
const NO_ACTIONS = a(F.ACTIONS);
const UFID = a(F.UFID, ...zeros(16, 5));

/** Name, errno, command, flags, attributes, whether the flow is there before. */
const REQUESTS: [string, number, number, number, Attr[], boolean][] = [
  ['a flow without a key', EINVAL, Command.NEW, CREATE, [NO_ACTIONS], false],
  ['a flow without actions', EINVAL, Command.NEW, CREATE, [KEY], false],
  ['a key of 2 bytes', ERANGE, Command.NEW, CREATE, [a(F.KEY, 1, 2), NO_ACTIONS], false],
  [
    'a key with bytes behind its last attribute',
    EINVAL,
    Command.NEW,
    CREATE,
    [a(F.KEY, ...bytes(OTHER_KEY), 1), NO_ACTIONS],
    false,
  ],
  [
    'actions with bytes behind the last',
    EINVAL,
    Command.NEW,
    CREATE,
    [KEY, a(F.ACTIONS, ...bytes([a(1, ...u32(1))]), 1)],
    false,
  ],
  ['an identifier of no bytes', ERANGE, Command.NEW, CREATE, [KEY, NO_ACTIONS, a(F.UFID)], false],
  [
    'an identifier of 17 bytes, which does not count',
    OK,
    Command.NEW,
    CREATE,
    [KEY, NO_ACTIONS, a(F.UFID, ...zeros(17))],
    false,
  ],
  [
    'flags of the identifier of 2 bytes',
    ERANGE,
    Command.NEW,
    CREATE,
    [KEY, NO_ACTIONS, UFID, a(F.UFID_FLAGS, 1, 0)],
    false,
  ],
  ['an attribute of the flow that is not known', OK, Command.NEW, CREATE, [KEY, NO_ACTIONS, a(50, 1)], false],
  ['a flow that is there', EEXIST, Command.NEW, CREATE, [KEY, NO_ACTIONS], true],
  ['other actions for a flow that is there', OK, Command.NEW, 0, [KEY, a(F.ACTIONS, a(1, ...u32(3)))], true],
  ['a flow that is not to be made, and is made', OK, Command.NEW, 0, [KEY, NO_ACTIONS], false],
  ['set of a flow that is not there', ENOENT, Command.SET, 0, [KEY, NO_ACTIONS], false],
  ['set without key and identifier', EINVAL, Command.SET, 0, [NO_ACTIONS], true],
  ['get of a flow that is not there', ENOENT, Command.GET, 0, [KEY], false],
  ['get without key and identifier', EINVAL, Command.GET, 0, [], true],
  ['get by an identifier that no flow has', ENOENT, Command.GET, 0, [UFID], true],
  ['deletion of a flow that is not there', ENOENT, Command.DEL, 0, [KEY], false],
  ['deletion of all', OK, Command.DEL, 0, [], true],
  ['a command that is not known', EOPNOTSUPP, 9, 0, [KEY], true],
];

test.each(REQUESTS)('request: %s gives %i', (_name, errno, command, flags, attributes, isThere) => {
  const { put, flow } = start();
  if (isThere) expect(put(OTHER_KEY, null, [])).toBe(OK);
  expect(flow(command, flags | ACK, attributes)).toBe(errno);
});

test('what is wrong with a flow is said before what is wrong with its datapath', () => {
  const { flow, send } = start();
  expect(flow(Command.NEW, CREATE | ACK, [KEY, NO_ACTIONS], 99)).toBe(ENODEV);
  expect(flow(Command.NEW, CREATE | ACK, [KEY, a(F.ACTIONS, a(60))], 99)).toBe(EINVAL);
  expect(send(request(Family.VPORT, Command.NEW, ACK, 99))).toBe(EINVAL);
});

const IP_PACKET = [
  ...zeros(12, 2),
  8,
  0,
  0x45,
  0,
  0,
  40,
  ...zeros(4),
  64,
  6,
  0,
  0,
  10,
  0,
  0,
  1,
  10,
  0,
  0,
  2,
  ...zeros(12, 1),
  0x50,
  ...zeros(7, 2),
];

/** Name, errno, packet, key, actions, more. */
const EXECUTIONS: [string, number, number[] | null, Attr[] | null, Attr[] | null, Attr[]][] = [
  ['a packet', OK, zeros(60, 2), OTHER_KEY, [a(1, ...u32(0))], []],
  ['no packet', EINVAL, null, OTHER_KEY, [], []],
  ['no key', EINVAL, zeros(60), null, [], []],
  ['no actions', EINVAL, zeros(60), OTHER_KEY, null, []],
  ['a packet of 13 bytes', ERANGE, zeros(13), OTHER_KEY, [], []],
  ['a key that is none', EINVAL, zeros(60), [a(40)], [], []],
  ['actions that are none', EINVAL, zeros(60), OTHER_KEY, [a(60)], []],
  ['a hash of 4 bytes', ERANGE, zeros(60), OTHER_KEY, [], [a(PacketAttribute.HASH, ...zeros(4))]],
  ['a packet with a connection', OK, IP_PACKET, [...IP_KEY, a(22, ...u32(0x21)), TUPLE4], [a(1, ...u32(0))], []],
  ['an original tuple of another version', EINVAL, IP_PACKET, [...IP_KEY, TUPLE6], [], []],
  ['an original tuple of what is not IP', EINVAL, zeros(60, 2), [...OTHER_KEY, TUPLE4], [], []],
  ['tracking of what is not IP', EINVAL, zeros(60, 2), OTHER_KEY, [ct()], []],
  ['tracking', OK, IP_PACKET, IP_KEY, [ct(COMMIT)], []],
  ['an MRU of 1 byte', ERANGE, zeros(60), OTHER_KEY, [], [a(PacketAttribute.MRU, 1)]],
];

test.each(EXECUTIONS)('execution: %s gives %i', (_name, errno, packet, key, actions, more) => {
  const { send, datapath } = start();
  const attributes = [
    ...(packet === null ? [] : [a(PacketAttribute.PACKET, ...packet)]),
    ...(key === null ? [] : [{ type: PacketAttribute.KEY, content: key }]),
    ...(actions === null ? [] : [{ type: PacketAttribute.ACTIONS, content: actions }]),
    ...more,
  ];
  const write = Uint8Array.from(bytes(attributes));
  const { interfaceIndex } = datapath;
  expect(send(request(Family.PACKET, PacketCommand.EXECUTE, ACK, interfaceIndex, (writer) => writer.raw(write)))).toBe(
    errno,
  );
});
