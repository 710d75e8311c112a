/**
 * Judges action lists before they come into a flow, as openvswitch.ko does: whether every header that an action touches is
 * there, given the flow's masked key and what the actions before have done to the packet. The engine relies on the structure
 * having been checked, but not on the packet: it checks lengths itself.
 *
 * Beyond the kernel, set also takes ICMP, ICMPv6, ARP and ND, as Open vSwitch's own datapath does; kernelOnly refuses them.
 * Stricter than the kernel: behind push_nsh and pop_nsh layers 3 and 4 of the flow's key count as unknown.
 */
import { isMpls, L3_MARKER, TAG_PRESENT, Word } from '../key/layout.ts';
import type { Judgement, PacketShape } from './description.ts';
import { ACTIONS_MAXIMUM_DEPTH, ACTIONS_MAXIMUM_WORDS, actionLength, actionType } from './encoding.ts';
import { actionName, describe, lengthFlaw, listsOf } from './table.ts';

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
  const { portLimit = 0xffff, kernelOnly = false } = options;
  const etherType = key[Word.ETH_TYPE] >>> 16;
  const shape = {
    hasEthernet: (key[Word.ETH_TYPE] & L3_MARKER) === 0,
    etherType,
    hasTag: (key[Word.VLAN] & TAG_PRESENT) !== 0,
    labels: isMpls(etherType) ? bitCount(key[Word.MPLS_LABELS]) : 0,
    keyHolds: true,
  };
  return list({ words, key, portLimit, kernelOnly, shape, isLast: false }, 0, words.length, 0);
}

function bitCount(bits: number): number {
  return (bits & 1) + ((bits >>> 1) & 1) + ((bits >>> 2) & 1);
}

/** A judgement of one list after the other. */
interface Context extends Judgement {
  shape: PacketShape;
  isLast: boolean;
}

/** What is judged is not trusted yet: the one walk of a list that does not go through eachAction. */
function list(its: Context, from: number, end: number, depth: number): ActionFlaw | null {
  const { words, shape } = its;
  if (depth > ACTIONS_MAXIMUM_DEPTH) {
    const message = `lists nested deeper than ${ACTIONS_MAXIMUM_DEPTH}`;
    return { error: ActionError.TOO_DEEP, action: 0, offset: from, message };
  }
  for (let at = from; at < end; ) {
    const type = actionType(words[at]);
    const length = actionLength(words[at]);
    const next = at + length;
    if (length === 0 || next > end) return flaw(type, at, `a length of ${length} words does not fit its list`);
    const action = describe(type);
    if (action === undefined) return flaw(type, at, `unknown action ${type}`);
    its.isLast = next === end;
    const reason = lengthFlaw(action, words, at, length) ?? action.flaw(its, at);
    if (reason !== null) return flaw(type, at, reason);
    for (const inner of listsOf(words, at)) {
      // It has a packet of its own.
      its.shape = { ...shape };
      const found = list(its, inner.from, inner.end, depth + 1);
      if (found !== null) return found;
    }
    its.shape = shape;
    at = next;
  }
  return null;
}

function flaw(action: number, offset: number, reason: string): ActionFlaw {
  return { error: ActionError.INVALID, action, offset, message: `${actionName(action)}: ${reason}` };
}
