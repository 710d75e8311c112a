/**
 * Actions as attributes of OVS_ACTION_ATTR_*. This room knows no netlink: extensions/ovs hands in what writes and reads attributes, and the
 * form of those of a key, which sets are made of.
 */
import type { ActionBuilder } from './builder.ts';
import type { ListBounds } from './description.ts';
import type { ActionType } from './encoding.ts';

/** Writes attributes. */
export interface ActionWriter {
  /** Those with plain contents; its numbers are in the host's order. */
  readonly message: {
    u16(type: number, value: number): void;
    u32(type: number, value: number): void;
    bytes(type: number, content: Uint8Array): void;
    flag(type: number): void;
  };
  /** An attribute of the attributes that `content` writes. */
  nest(type: number, content: () => void): void;
  /** An attribute of a list inside the action. */
  list(type: number, list: ListBounds): void;
  /** An attribute of a key. @param mask for the value and the mask of a masked set, else null */
  key(attribute: number, key: Uint32Array, mask: Uint32Array | null): void;
}

/** Reads attributes. */
export interface ActionReader {
  /** Call back for every attribute in turn; what is malformed is refused. */
  each(content: Uint8Array, visit: (type: number, content: Uint8Array) => void): void;
  /** A list inside the action. */
  list(content: Uint8Array): Int32Array;
  /** A number in the host's order, of all the bytes given. */
  number(content: Uint8Array): number;
  /** An attribute of a key, as {@link ActionWriter.key} writes it. */
  key(attribute: number, content: Uint8Array, key: Uint32Array, mask: Uint32Array | null): void;
  /** @param errno EINVAL when left out */
  refuse(reason: string, errno?: number): never;
}

/** ERANGE: an attribute is too short for its kind. */
export const TOO_SHORT = 34;

export interface ActionNetlink {
  /** @param lists the lists inside */
  write(to: ActionWriter, words: Int32Array, at: number, lists: readonly ListBounds[]): void;
  read(from: ActionReader, content: Uint8Array, builder: ActionBuilder): void;
}

/** Which bytes of a word, the highest first, make up a number as it travels. */
const NUMBERS = { u16: [3, 2], u32: [3, 2, 1, 0], be16: [2, 3], be32: [0, 1, 2, 3] } as const;

/** An attribute that is a structure of the action's fields, in their order. @param paddingBytes zeros behind them */
export function structure(
  type: ActionType,
  fields: readonly (keyof typeof NUMBERS)[] = [],
  paddingBytes = 0,
): ActionNetlink {
  const places = fields.flatMap((form, field) => NUMBERS[form].map((byte) => field * 4 + byte));
  return placed(type, fields.length, [...places, ...new Array<number>(paddingBytes).fill(-1)]);
}

/** A structure of any order. @param places for each of its bytes that of the fields, as a string of big-endian words; -1 for padding */
export function placed(type: ActionType, fields: number, places: readonly number[]): ActionNetlink {
  const content = new Uint8Array(places.length);
  return {
    write(to, words, at) {
      for (let i = 0; i < places.length; i += 1) {
        const place = places[i];
        if (place >= 0) content[i] = words[at + 1 + (place >> 2)] >>> (24 - ((place & 3) << 3));
      }
      to.message.bytes(type, content);
    },
    read(from, bytes, builder) {
      if (bytes.length !== places.length) from.refuse(`action ${type} has ${bytes.length} bytes`);
      const words = new Array<number>(fields).fill(0);
      for (let i = 0; i < places.length; i += 1) {
        const place = places[i];
        if (place >= 0) words[place >> 2] |= bytes[i] << (24 - ((place & 3) << 3));
      }
      builder.add(type, words);
    },
  };
}
