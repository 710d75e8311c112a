/**
 * Judges action lists before they come into a flow, as openvswitch.ko does: whether every header that an action touches is
 * there, given the flow's masked key and what the actions before have done to the packet. The engine relies on the structure
 * having been checked, but not on the packet: it checks lengths itself.
 *
 * Beyond the kernel, set also takes ICMP, ICMPv6, ARP and ND, as Open vSwitch's own datapath does; kernelOnly refuses them.
 * Stricter than the kernel: behind push_nsh and pop_nsh layers 3 and 4 of the flow's key count as unknown.
 */
import { EtherType } from '../../net/index.ts';
import { hasAttribute, KeyAttribute } from '../key/fields.ts';
import { FlowEtherType, isMpls, L3_MARKER, TAG_PRESENT, Word } from '../key/layout.ts';
import {
  ACTIONS_MAXIMUM_DEPTH,
  ACTIONS_MAXIMUM_WORDS,
  Action,
  actionLength,
  actionName,
  actionType,
} from './encoding.ts';
import { ctFlaw, pushNshFlaw, setFlaw, setTunnelFlaw, userspaceFlaw } from './validate-arguments.ts';

/** The errno numbers that a list is refused with. */
export const ActionError = {
  /** EINVAL */
  INVALID: 22,
  /** EOVERFLOW: lists too deep inside lists. */
  TOO_DEEP: 75,
  /** EMSGSIZE */
  TOO_LONG: 90,
} as const;

/** Why a list is refused. */
export interface ActionFlaw {
  /** One of {@link ActionError}. */
  readonly error: number;
  /** Type of the offending action; 0 when it is the list itself. */
  readonly action: number;
  /** Word at which it begins. */
  readonly offset: number;
  /** A sentence for people. */
  readonly message: string;
}

export interface ValidationOptions {
  /** Ports are less than this; 65,535 as in the kernel when left out. */
  portLimit?: number;
  /** Refuse what only Open vSwitch's userspace datapath can set. */
  kernelOnly?: boolean;
}

/** What is known of the packet at some point of the list. */
interface Shape {
  hasEthernet: boolean;
  /** 0 when unknown. */
  etherType: number;
  hasTag: boolean;
  labels: number;
  /** Whether the key's layers 3 and 4 still describe the packet. */
  keyHolds: boolean;
}

interface Context {
  readonly words: Int32Array;
  readonly key: Uint32Array;
  readonly portLimit: number;
  readonly kernelOnly: boolean;
}

const KERNEL_SETS = new Set<number>([
  KeyAttribute.PRIORITY,
  KeyAttribute.SKB_MARK,
  KeyAttribute.ETHERNET,
  KeyAttribute.TUNNEL,
  KeyAttribute.IPV4,
  KeyAttribute.IPV6,
  KeyAttribute.TCP,
  KeyAttribute.UDP,
  KeyAttribute.SCTP,
  KeyAttribute.MPLS,
  KeyAttribute.NSH,
]);

/** Lengths in words of the actions whose length is fixed; -1 for the others. */
const LENGTHS: readonly number[] = [
  -1, 2, -1, -1, 2, 1, -1, 2, 3, 3, 2, -1, -1, 2, 4, 1, 1, -1, 1, 2, -1, -1, 4, -1, 2,
];

/** The shortest tunnel header that a truncated packet may still be sent with: an Ethernet header. */
const TRUNC_MINIMUM_BYTES = 14;

/**
 * Check a list for a flow.
 * @param key the flow's key with the bits outside its mask 0
 * @returns null when the list is sound
 */
export function validateActions(
  words: Int32Array,
  key: Uint32Array,
  options: ValidationOptions = {},
): ActionFlaw | null {
  if (words.length > ACTIONS_MAXIMUM_WORDS) {
    const message = `${words.length} words of actions, at most ${ACTIONS_MAXIMUM_WORDS} are allowed`;
    return { error: ActionError.TOO_LONG, action: 0, offset: 0, message };
  }
  const etherType = key[Word.ETH_TYPE] >>> 16;
  const context = {
    words,
    key,
    portLimit: options.portLimit ?? 0xffff,
    kernelOnly: options.kernelOnly ?? false,
  };
  return list(context, 0, words.length, 0, {
    hasEthernet: (key[Word.ETH_TYPE] & L3_MARKER) === 0,
    etherType,
    hasTag: (key[Word.VLAN] & TAG_PRESENT) !== 0,
    labels: isMpls(etherType) ? bitCount(key[Word.MPLS_LABELS]) : 0,
    keyHolds: true,
  });
}

function bitCount(bits: number): number {
  return (bits & 1) + ((bits >>> 1) & 1) + ((bits >>> 2) & 1);
}

function list(context: Context, from: number, end: number, depth: number, shape: Shape): ActionFlaw | null {
  const { words } = context;
  if (depth > ACTIONS_MAXIMUM_DEPTH) {
    const message = `lists nested deeper than ${ACTIONS_MAXIMUM_DEPTH}`;
    return { error: ActionError.TOO_DEEP, action: 0, offset: from, message };
  }
  for (let at = from; at < end; ) {
    const type = actionType(words[at]);
    const length = actionLength(words[at]);
    if (length === 0 || at + length > end) return flaw(type, at, `a length of ${length} words does not fit its list`);
    const fixed = LENGTHS[type];
    if (fixed === undefined || type === 0) return flaw(type, at, `unknown action ${type}`);
    if (fixed !== -1 && length !== fixed) return flaw(type, at, `${length} words instead of ${fixed}`);
    const found = one(context, at, type, length, end, depth, shape);
    if (found !== null) return typeof found === 'string' ? flaw(type, at, found) : found;
    at += length;
  }
  return null;
}

function flaw(action: number, offset: number, reason: string): ActionFlaw {
  return { error: ActionError.INVALID, action, offset, message: `${actionName(action)}: ${reason}` };
}

/** One action; what it does to the packet is noted in the shape. A flaw of its own is told as a string. */
function one(
  context: Context,
  at: number,
  type: number,
  length: number,
  end: number,
  depth: number,
  shape: Shape,
): ActionFlaw | string | null {
  const { words, key } = context;
  const first = words[at + 1];
  switch (type) {
    case Action.OUTPUT:
      return first >>> 0 < context.portLimit ? null : `port ${first >>> 0} is not less than ${context.portLimit}`;
    case Action.USERSPACE:
      return userspaceFlaw(words, at, length);
    case Action.SET:
    case Action.SET_MASKED:
      return set(context, at, type, length, shape);
    case Action.HASH:
      return first === 0 || first === 1 ? null : `unknown algorithm ${first}`;
    case Action.TRUNC:
      return first >>> 0 >= TRUNC_MINIMUM_BYTES ? null : `${first} bytes are fewer than ${TRUNC_MINIMUM_BYTES}`;
    case Action.CT:
      return ctFlaw(words, at, length);
    case Action.DROP:
      return at + length === end ? null : 'actions behind it';
    case Action.SAMPLE:
      if (length < 2) return 'no probability';
      return list(context, at + 2, at + length, depth + 1, { ...shape });
    case Action.CLONE:
    case Action.DEC_TTL:
      return list(context, at + 1, at + length, depth + 1, { ...shape });
    case Action.CHECK_PKT_LEN: {
      if (length < 3) return `${length} words are too few`;
      if (first <= 0 || first > 0xffff) return `length ${first} is not within 1 to 65535`;
      const middle = at + 3 + (words[at + 2] >>> 0);
      if (middle > at + length) return 'its first list is longer than the action';
      return (
        list(context, at + 3, middle, depth + 1, { ...shape }) ??
        list(context, middle, at + length, depth + 1, { ...shape })
      );
    }
    case Action.PUSH_VLAN:
      if (!shape.hasEthernet) return 'the packet has no Ethernet header';
      if (first >>> 16 !== EtherType.VLAN && first >>> 16 !== EtherType.SERVICE_VLAN) return 'not the TPID of a VLAN';
      if ((first & TAG_PRESENT) === 0) return 'the CFI bit of the TCI must be set';
      shape.hasTag = true;
      return null;
    case Action.POP_VLAN:
      if (!shape.hasEthernet) return 'the packet has no Ethernet header';
      shape.hasTag = false;
      return null;
    case Action.PUSH_ETH:
      if (shape.hasEthernet) return 'the packet has an Ethernet header';
      shape.hasEthernet = true;
      return null;
    case Action.POP_ETH:
      if (!shape.hasEthernet) return 'the packet has no Ethernet header';
      if (shape.hasTag) return 'the packet has a VLAN tag';
      shape.hasEthernet = false;
      return null;
    case Action.PUSH_MPLS:
    case Action.ADD_MPLS:
      return pushMpls(words, at, type, shape);
    case Action.POP_MPLS: {
      if (shape.hasTag || !isMpls(shape.etherType)) return 'the packet does not begin with MPLS';
      if (first === EtherType.TRANSPARENT_ETHERNET && shape.hasEthernet) return 'the packet has an Ethernet header';
      shape.labels -= 1;
      // What lies below the last label is a guess until the packet has been parsed again.
      shape.etherType = isMpls(first) && shape.labels !== 0 ? first : 0;
      shape.keyHolds = false;
      return null;
    }
    case Action.PUSH_NSH: {
      if (!shape.hasEthernet && nextProtocolOf(shape.etherType) === 0)
        return 'what it would carry has no number in NSH';
      const reason = pushNshFlaw(words, at, length);
      if (reason !== null) return reason;
      shape.hasEthernet = false;
      shape.hasTag = false;
      shape.etherType = FlowEtherType.NSH;
      shape.keyHolds = false;
      return null;
    }
    case Action.POP_NSH: {
      if (shape.etherType !== FlowEtherType.NSH || !shape.keyHolds) return 'the packet is not known to be NSH';
      const next = key[Word.NSH_BASE] & 0xff;
      if (etherTypeOf(next) === 0) return `next protocol ${next} is unknown`;
      shape.hasEthernet = etherTypeOf(next) === EtherType.TRANSPARENT_ETHERNET;
      shape.etherType = 0;
      shape.keyHolds = false;
      return null;
    }
    default:
      return null;
  }
}

function set(context: Context, at: number, type: number, length: number, shape: Shape): string | null {
  const { words, key } = context;
  if (length < 2) return 'no attribute';
  const attribute = words[at + 1];
  if (context.kernelOnly && !KERNEL_SETS.has(attribute)) return `attribute ${attribute} cannot be set`;
  if (attribute === KeyAttribute.TUNNEL) {
    return type === Action.SET_MASKED ? 'a tunnel cannot be set in part' : setTunnelFlaw(words, at, length);
  }
  const reason = setFlaw(words, at, type, length, key);
  if (reason !== null) return reason;
  if (attribute === KeyAttribute.ETHERNET) return shape.hasEthernet ? null : 'the packet has no Ethernet header';
  if (attribute === KeyAttribute.PRIORITY || attribute === KeyAttribute.SKB_MARK) return null;
  if (attribute === KeyAttribute.MPLS) return isMpls(shape.etherType) ? null : 'the packet does not begin with MPLS';
  if (shape.etherType !== key[Word.ETH_TYPE] >>> 16 || !shape.keyHolds || !hasAttribute(key, attribute)) {
    return 'the packet is not known to have that header';
  }
  return null;
}

function pushMpls(words: Int32Array, at: number, type: number, shape: Shape): string | null {
  const etherType = words[at + 2];
  if (!isMpls(etherType)) return 'not an EtherType of MPLS';
  const beforeL3 = type === Action.PUSH_MPLS || (words[at + 3] & 1) !== 0;
  if (beforeL3) {
    if (shape.hasTag) return 'the packet has a VLAN tag';
    const type3 = shape.etherType;
    const known =
      type3 === EtherType.IPV4 ||
      type3 === EtherType.IPV6 ||
      type3 === EtherType.ARP ||
      type3 === FlowEtherType.REVERSE_ARP ||
      isMpls(type3);
    if (!known) return 'what it would lie before is not known';
    shape.labels += 1;
  } else if (shape.hasEthernet) {
    shape.labels = 1;
    shape.hasEthernet = false;
    shape.hasTag = false;
  } else {
    shape.labels += 1;
  }
  shape.etherType = etherType;
  shape.keyHolds = false;
  return null;
}

/** EtherType of an NSH next protocol (RFC 8300, section 2.2), or 0. */
export function etherTypeOf(nextProtocol: number): number {
  switch (nextProtocol) {
    case 1:
      return EtherType.IPV4;
    case 2:
      return EtherType.IPV6;
    case 3:
      return EtherType.TRANSPARENT_ETHERNET;
    case 4:
      return FlowEtherType.NSH;
    case 5:
      return EtherType.MPLS;
    default:
      return 0;
  }
}

/** NSH next protocol of an EtherType, or 0. */
export function nextProtocolOf(etherType: number): number {
  switch (etherType) {
    case EtherType.IPV4:
      return 1;
    case EtherType.IPV6:
      return 2;
    case EtherType.TRANSPARENT_ETHERNET:
      return 3;
    case FlowEtherType.NSH:
      return 4;
    case EtherType.MPLS:
      return 5;
    default:
      return 0;
  }
}
