/**
 * The table of all actions, and the one way to walk a list of them: whatever is done action by action goes through here, so that none is
 * left out and lists inside lists are met. An action that lacks an entry, or an entry that lacks a part, does not compile.
 */
import { checkLength } from './check-length/check-length.ts';
import { clone, sample } from './clone/clone.ts';
import { ct, ctClear } from './ct/ct.ts';
import { decTtl } from './dec-ttl/dec-ttl.ts';
import type { ActionDescription, ListBounds } from './description.ts';
import { drop } from './drop/drop.ts';
import { Action, type ActionName, actionLength, actionType } from './encoding.ts';
import { popEth, pushEth } from './ethernet/ethernet.ts';
import { hash } from './hash/hash.ts';
import { meter } from './meter/meter.ts';
import { addMpls, popMpls, pushMpls } from './mpls/mpls.ts';
import { popNsh, pushNsh } from './nsh/nsh.ts';
import { output, trunc } from './output/output.ts';
import { recirc } from './recirc/recirc.ts';
import { set, setMasked } from './set/set.ts';
import { userspace } from './userspace/userspace.ts';
import { popVlan, pushVlan } from './vlan/vlan.ts';

/** Every action's description. */
export const ACTIONS: { readonly [Name in ActionName]: ActionDescription<(typeof Action)[Name]> } = {
  OUTPUT: output,
  USERSPACE: userspace,
  SET: set,
  PUSH_VLAN: pushVlan,
  POP_VLAN: popVlan,
  SAMPLE: sample,
  RECIRC: recirc,
  HASH: hash,
  PUSH_MPLS: pushMpls,
  POP_MPLS: popMpls,
  SET_MASKED: setMasked,
  CT: ct,
  TRUNC: trunc,
  PUSH_ETH: pushEth,
  POP_ETH: popEth,
  CT_CLEAR: ctClear,
  PUSH_NSH: pushNsh,
  POP_NSH: popNsh,
  METER: meter,
  CLONE: clone,
  CHECK_PKT_LEN: checkLength,
  ADD_MPLS: addMpls,
  DEC_TTL: decTtl,
  DROP: drop,
};

const BY_TYPE: (ActionDescription | undefined)[] = [];
/** Words before lists or packed bytes, head included. */
const HEADS: number[] = [];
for (const each of Object.values(ACTIONS)) {
  BY_TYPE[each.type] = each;
  HEADS[each.type] = 1 + each.layout.fields.length + Math.max((each.layout.lists?.length ?? 0) - 1, 0);
}
const NAMES = new Map(Object.entries(Action).map(([name, type]) => [type as number, name.toLowerCase()]));

/** @param type the low half of an action's head; undefined when there is no such action */
export function describe(type: number): ActionDescription | undefined {
  return BY_TYPE[type];
}

/** The name of an action's type, such as 'push_vlan'. */
export function actionName(type: number): string {
  return NAMES.get(type) ?? `action ${type}`;
}

const NO_LISTS: readonly ListBounds[] = [];

/** The lists inside the action at `at`. */
export function listsOf(words: Int32Array, at: number): readonly ListBounds[] {
  const type = actionType(words[at]);
  const lists = BY_TYPE[type]?.layout.lists;
  if (lists === undefined) return NO_LISTS;
  const end = at + actionLength(words[at]);
  const start = at + HEADS[type];
  if (lists.length === 1) return [{ from: start, end }];
  const middle = start + words[start - 1];
  return [
    { from: start, end: middle },
    { from: middle, end },
  ];
}

/**
 * Why an action's length is not what its description says, or null.
 * @param length in words, within its list
 */
export function lengthFlaw(
  { type, layout }: ActionDescription,
  words: Int32Array,
  at: number,
  length: number,
): string | null {
  const head = HEADS[type];
  if (length < head) return `${length} words are too few`;
  if (layout.lists !== undefined) {
    if (layout.lists.length === 1 || words[at + head - 1] >>> 0 <= length - head) return null;
    return `its list '${layout.lists[0]}' is longer than the action`;
  }
  const tail = layout.tail?.(words, at) ?? 0;
  if (tail === -1) return 'its fields make no sense';
  return length === head + tail ? null : `${length} words instead of ${head + tail}`;
}

/** @returns false to stop */
type Visit = (action: ActionDescription, at: number, end: number, lists: readonly ListBounds[]) => unknown;

/**
 * Visit the actions of one list in turn; the lists inside each come with it.
 * @param words where the list lies, from `from` to `end`
 * @returns false when a visit stopped the walk, or what follows is no action
 */
export function eachAction(words: Int32Array, from: number, end: number, visit: Visit): boolean {
  for (let at = from; at < end; ) {
    const action = BY_TYPE[actionType(words[at])];
    const next = at + actionLength(words[at]);
    if (action === undefined || next === at || next > end) return false;
    if (visit(action, at, next, listsOf(words, at)) === false) return false;
    at = next;
  }
  return true;
}

/** As {@link eachAction}, and behind each action those of the lists inside. */
export function everyAction(words: Int32Array, from: number, end: number, visit: Visit): boolean {
  return eachAction(words, from, end, (action, at, next, lists) => {
    if (visit(action, at, next, lists) === false) return false;
    return lists.every((list) => everyAction(words, list.from, list.end, visit));
  });
}
