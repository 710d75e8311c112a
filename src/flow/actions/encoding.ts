/**
 * How an action list lies in words: one action after the other, each with a head word that holds its type in the low and its
 * length in words, head included, in the high 16 bits. Behind it come the action's fields, a word each, then what its description
 * adds: packed bytes, or lists, which lie in the action in the same form. So any reader can step over what it does not know.
 *
 *     head | fields | length of the first list, where there are two | lists, or packed bytes
 *
 * Byte strings are packed four to a word, the first byte highest, the last word filled up with zeros. The folders beside this file say
 * which fields an action has; table.ts has them all, builder.ts writes this form.
 */

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

export type ActionName = keyof typeof Action;
export type ActionType = (typeof Action)[ActionName];

/** Longest action list in words, lists inside included: 64 KiB, what a netlink attribute can carry. */
export const ACTIONS_MAXIMUM_WORDS = 16_383;

/** Lists inside lists (OVS_COPY_ACTIONS_MAX_DEPTH). */
export const ACTIONS_MAXIMUM_DEPTH = 16;

export function actionHead(type: number, lengthWords: number): number {
  return (lengthWords << 16) | type;
}

export function actionType(head: number): number {
  return head & 0xffff;
}

export function actionLength(head: number): number {
  return head >>> 16;
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

/** How many words so many packed bytes take; -1 for what is no length. */
export function packedWords(lengthBytes: number): number {
  return lengthBytes < 0 ? -1 : (lengthBytes + 3) >>> 2;
}
