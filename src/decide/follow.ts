/**
 * What a flow of somebody else does, action by action, so that a decision can do the same and later deciders see the packet as it has become.
 */
import { Action, actionName, eachAction, KeyAttribute, setLayout } from '../flow/index.ts';
import { type KeyPort, toKeyPort } from '../net/index.ts';
import type { PacketState } from './packet-state.ts';

/** What is done with the actions. */
export interface FollowedActions {
  /** Send the packet as it is. @returns false when nothing can be sent there */
  output(number: KeyPort): boolean;
  /** Do it to the packet. */
  copy(words: Int32Array): void;
}

/** Attributes whose setting changes the packet and is known in its key. */
const SETTABLE: ReadonlySet<number> = new Set([
  KeyAttribute.ETHERNET,
  KeyAttribute.IPV4,
  KeyAttribute.IPV6,
  KeyAttribute.TCP,
  KeyAttribute.UDP,
  KeyAttribute.SCTP,
]);

/**
 * Follow a list.
 * @returns null; or the first action that only the engine can do, for people
 */
export function followActions(actions: Int32Array, state: PacketState, to: FollowedActions): string | null {
  let unfollowed: string | null = null;
  eachAction(actions, 0, actions.length, ({ type }, at, next) => {
    if (followOne(actions, at, next, type, state, to)) return true;
    unfollowed =
      type === Action.OUTPUT
        ? 'its flow sends it to where frames cannot simply be sent'
        : `its flow has the action ${actionName(type)}`;
    return false;
  });
  return unfollowed;
}

function followOne(
  words: Int32Array,
  at: number,
  next: number,
  type: number,
  state: PacketState,
  to: FollowedActions,
): boolean {
  switch (type) {
    case Action.OUTPUT:
      return to.output(toKeyPort(words[at + 1]));
    case Action.SET:
    case Action.SET_MASKED:
      return followSet(words, at, next, state, to);
    case Action.PUSH_VLAN:
      to.copy(words.slice(at, next));
      state.pushTag(words[at + 1]);
      return true;
    case Action.POP_VLAN:
      if (!state.hasTag(0)) return true;
      to.copy(words.slice(at, next));
      state.popTag();
      return true;
    default:
      return false;
  }
}

/** Of a set the words are the attribute, then value and mask of each word of the key that it covers. */
function followSet(words: Int32Array, at: number, next: number, state: PacketState, to: FollowedActions): boolean {
  const attribute = words[at + 1];
  const layout = setLayout(attribute);
  if (layout === undefined || !SETTABLE.has(attribute)) return false;
  to.copy(words.slice(at, next));
  layout.forEach(({ word }, i) => {
    const value = words[at + 2 + 2 * i];
    const mask = words[at + 3 + 2 * i];
    if (mask !== 0) state.set(word, mask, value);
  });
  return true;
}
