/**
 * How an action list lies in words: one action after the other, each with a head word that holds its type in the low and its
 * length in words, head included, in the high 16 bits. Lists inside an action (clone and the like) lie in it the same way, so
 * any reader can step over what it does not know. builder.ts writes this form, validate.ts checks it, the engine runs it.
 *
 *     OUTPUT         port                              PUSH_ETH       eth_dst 32 | eth_dst 16, eth_src 16 | eth_src 32
 *     USERSPACE      pid, flags, tunnel port,          PUSH_NSH       base, path (as in the key), metadata bytes,
 *                    userdata bytes, userdata                         metadata
 *     SET            attribute, then value and mask    METER          meter id
 *     SET_MASKED     for each word of SET_LAYOUT       CLONE          list
 *     SET of TUNNEL  attribute, then the key's tunnel  CHECK_PKT_LEN  length in bytes, words of the first list,
 *                    words up to the options' end                     list if longer, list if not
 *     PUSH_VLAN      TPID 16 | TCI 16                  ADD_MPLS       label stack entry, EtherType, flags
 *     PUSH_MPLS      label stack entry, EtherType      DEC_TTL        list for packets whose time is up
 *     POP_MPLS       EtherType                         DROP           error number, 0 for none
 *     SAMPLE         probability of 2^32-1, list       CT             see Ct
 *     RECIRC         recirculation id                  TRUNC          most bytes of the next output
 *     HASH           algorithm, basis                  POP_VLAN, POP_ETH, POP_NSH, CT_CLEAR: nothing
 *
 * Byte strings are packed four to a word, the first byte highest, the last word filled up with zeros.
 */
import { KeyAttribute } from '../key/fields.ts';
import { TUNNEL_OPTIONS_MAXIMUM, Word } from '../key/layout.ts';

/** Types of actions, the numbers of OVS_ACTION_ATTR_* (linux/openvswitch.h). */
export const Action = {
  OUTPUT: 1,
  USERSPACE: 2,
  SET: 3,
  PUSH_VLAN: 4,
  POP_VLAN: 5,
  SAMPLE: 6,
  RECIRC: 7,
  HASH: 8,
  PUSH_MPLS: 9,
  POP_MPLS: 10,
  SET_MASKED: 11,
  CT: 12,
  TRUNC: 13,
  PUSH_ETH: 14,
  POP_ETH: 15,
  CT_CLEAR: 16,
  PUSH_NSH: 17,
  POP_NSH: 18,
  METER: 19,
  CLONE: 20,
  CHECK_PKT_LEN: 21,
  ADD_MPLS: 22,
  DEC_TTL: 23,
  DROP: 24,
} as const;

/** Longest action list in words, lists inside included: 64 KiB, what a netlink attribute can carry. */
export const ACTIONS_MAXIMUM_WORDS = 16_383;

/** Lists inside lists (OVS_COPY_ACTIONS_MAX_DEPTH). */
export const ACTIONS_MAXIMUM_DEPTH = 16;

/** Bits of the flags of USERSPACE. */
export const UserspaceFlag = { USERDATA: 1, TUNNEL_PORT: 2, ACTIONS: 4 } as const;

/** Places in USERSPACE, counted from its head. */
export const Userspace = { PID: 1, FLAGS: 2, TUNNEL_PORT: 3, USERDATA_BYTES: 4, USERDATA: 5 } as const;

/** Algorithms of HASH. */
export const HashAlgorithm = { L4: 0, SYMMETRIC_L4: 1 } as const;

/** The bit of ADD_MPLS's flags that puts the entry before layer 3, where there else is no Ethernet header any more. */
export const MPLS_L3_TUNNEL = 1;

/** Places in CT, counted from its head. The address words hold IPv4 in the first or IPv6 in all four. */
export const Ct = {
  FLAGS: 1,
  ZONE: 2,
  MARK: 3,
  MARK_MASK: 4,
  LABEL: 5,
  LABEL_MASK: 9,
  EVENT_MASK: 13,
  NAT_FLAGS: 14,
  NAT_MINIMUM: 15,
  NAT_MAXIMUM: 19,
  /** Lowest and highest port, 16 bits each. */
  NAT_PORTS: 23,
  /** Length in bytes of helper and timeout policy names, 16 bits each. */
  NAME_BYTES: 24,
  NAMES: 25,
} as const;

/** Bits of CT's flags. */
export const CtFlag = { COMMIT: 1, FORCE: 2, NAT: 4, ZONE: 8, MARK: 16, LABEL: 32, EVENT_MASK: 64 } as const;

/** Bits of CT's NAT flags; IPV4 and IPV6 say that there are addresses, PORTS that there are ports. */
export const NatFlag = {
  SOURCE: 1,
  DESTINATION: 2,
  PERSISTENT: 4,
  PROTO_HASH: 8,
  PROTO_RANDOM: 16,
  IPV4: 32,
  IPV6: 64,
  PORTS: 128,
} as const;

/** A word of the key that a set action covers. */
export interface SetWord {
  readonly word: number;
  /** The bits that belong to the attribute. */
  readonly bits: number;
  /** The bits that may be changed. */
  readonly writable: number;
}

const ALL = 0xffff_ffff;

function whole(first: number, count = 1): SetWord[] {
  return Array.from({ length: count }, (_, i) => ({ word: first + i, bits: ALL, writable: ALL }));
}

/** The key words of each attribute that can be set, in the order of the encoding. */
const SET_LAYOUTS: ReadonlyMap<number, readonly SetWord[]> = new Map([
  [KeyAttribute.PRIORITY as number, whole(Word.PRIORITY)],
  [KeyAttribute.SKB_MARK, whole(Word.MARK)],
  [KeyAttribute.ETHERNET, whole(Word.MAC, 3)],
  [
    KeyAttribute.IPV4,
    [{ word: Word.IP, bits: ALL, writable: 0x00ff_ff00 }, ...whole(Word.IPV4_SOURCE), ...whole(Word.IPV4_DESTINATION)],
  ],
  [
    KeyAttribute.IPV6,
    [
      { word: Word.IP, bits: ALL, writable: 0x00ff_ff00 },
      ...whole(Word.IPV6_SOURCE, 4),
      ...whole(Word.IPV6_DESTINATION, 4),
      { word: Word.IPV6_LABEL, bits: 0xf_ffff, writable: 0xf_ffff },
    ],
  ],
  [KeyAttribute.TCP, whole(Word.PORTS)],
  [KeyAttribute.UDP, whole(Word.PORTS)],
  [KeyAttribute.SCTP, whole(Word.PORTS)],
  [KeyAttribute.ICMP, [{ word: Word.PORTS, bits: 0x00ff_00ff, writable: 0x00ff_00ff }]],
  [KeyAttribute.ICMPV6, [{ word: Word.PORTS, bits: 0x00ff_00ff, writable: 0x00ff_00ff }]],
  [
    KeyAttribute.ARP,
    [
      { word: Word.IP, bits: 0xff00_0000, writable: 0xff00_0000 },
      ...whole(Word.IPV4_SOURCE),
      ...whole(Word.IPV4_DESTINATION),
      ...whole(Word.ARP_MAC, 3),
    ],
  ],
  [KeyAttribute.ND, [...whole(Word.ND_TARGET, 4), ...whole(Word.ND_MAC, 3)]],
  [KeyAttribute.MPLS, whole(Word.MPLS)],
  [
    KeyAttribute.NSH,
    [{ word: Word.NSH_BASE, bits: ALL, writable: 0xffff_0000 }, ...whole(Word.NSH_PATH), ...whole(Word.NSH_CONTEXT, 4)],
  ],
]);

/** The words that a set of an attribute covers; undefined when the attribute cannot be set, or is the tunnel. */
export function setLayout(attribute: number): readonly SetWord[] | undefined {
  return SET_LAYOUTS.get(attribute);
}

/** Words of the tunnel part before its options. */
export const TUNNEL_BASE_WORDS = Word.TUNNEL_OPTIONS - Word.TUNNEL;

/** Length in bytes of the tunnel options that a word of tunnel flags tells, never more than there is room for. */
export function tunnelOptionsBytes(flagsWord: number): number {
  return Math.min((flagsWord >>> 8) & 0xff, TUNNEL_OPTIONS_MAXIMUM);
}

export function actionHead(type: number, lengthWords: number): number {
  return (lengthWords << 16) | type;
}

export function actionType(head: number): number {
  return head & 0xffff;
}

export function actionLength(head: number): number {
  return head >>> 16;
}

const NAMES: readonly string[] = Object.entries(Action).reduce<string[]>((names, [name, type]) => {
  names[type] = name.toLowerCase();
  return names;
}, []);

/** The name of an action's type, such as 'push_vlan'. */
export function actionName(type: number): string {
  return NAMES[type] ?? `action ${type}`;
}

/** Bytes as words, the first byte highest. */
export function packBytes(bytes: Uint8Array): number[] {
  const words: number[] = [];
  for (let i = 0; i < bytes.length; i += 1)
    words[i >>> 2] = (words[i >>> 2] ?? 0) | (bytes[i] << (24 - ((i & 3) << 3)));
  return words;
}

/** The bytes behind `packBytes`. */
export function unpackBytes(words: ArrayLike<number>, from: number, lengthBytes: number): Uint8Array {
  return Uint8Array.from({ length: lengthBytes }, (_, i) => words[from + (i >>> 2)] >>> (24 - ((i & 3) << 3)));
}
