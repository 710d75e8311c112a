/**
 * PUSH_NSH as an attribute: it holds one attribute OVS_KEY_ATTR_NSH, with the header in the parts that keys and sets of NSH are made of, too:
 *
 *     BASE  flags 8 | ttl 8 | mdtype 8 | np 8 | path header 32
 *     MD1   context 4 * 32
 *     MD2   metadata of type 2, as in the header; in a push alone
 */
import { KeyAttribute } from '../../key/fields.ts';
import { Action, packBytes, unpackBytes } from '../encoding.ts';
import type { ActionNetlink } from '../netlink.ts';

/** Parts of OVS_KEY_ATTR_NSH, OVS_NSH_KEY_ATTR_*, and how long those of fixed length are. */
export const NshPart = { BASE: 1, MD1: 2, MD2: 3 } as const;
export const NSH_PART_BYTES = { BASE: 8, MD1: 16 } as const;

/** The metadata type that a base word tells. */
export function nshMetadataType(base: number): number {
  return (base >>> 8) & 0xff;
}

export const pushNshNetlink: ActionNetlink = {
  write(to, words, at) {
    const metadata = unpackBytes(words, at + 4, words[at + 3]);
    to.nest(Action.PUSH_NSH, () => {
      to.nest(KeyAttribute.NSH, () => {
        to.message.bytes(NshPart.BASE, unpackBytes(words, at + 1, NSH_PART_BYTES.BASE));
        if (metadata.length > 0)
          to.message.bytes(nshMetadataType(words[at + 1]) === 1 ? NshPart.MD1 : NshPart.MD2, metadata);
      });
    });
  },
  read(from, content, builder) {
    let header: Uint8Array | null = null;
    from.each(content, (type, value) => {
      if (type !== KeyAttribute.NSH || header !== null) from.refuse('a push of NSH is of one header');
      header = value;
    });
    if (header === null) return from.refuse('a push of no header');
    let base: readonly number[] = [];
    let metadata: Uint8Array = new Uint8Array(0);
    let metadataType = 0;
    from.each(header, (type, value) => {
      switch (type) {
        case NshPart.BASE:
          if (value.length !== NSH_PART_BYTES.BASE) from.refuse('length of the base of NSH');
          base = packBytes(value);
          break;
        case NshPart.MD1:
        case NshPart.MD2: {
          const isSound = type === NshPart.MD1 ? value.length === NSH_PART_BYTES.MD1 : value.length > 0;
          if (!isSound) from.refuse('length of the metadata of NSH');
          const itsType = type === NshPart.MD1 ? 1 : 2;
          if (metadataType !== 0 && metadataType !== itsType) from.refuse('metadata of both types');
          metadata = value;
          metadataType = itsType;
          break;
        }
        default:
          from.refuse(`attribute ${type} of NSH is not known`);
      }
    });
    const [word, path] = base;
    if (word === undefined) from.refuse('NSH without a base');
    if (metadataType !== 0 && nshMetadataType(word) !== metadataType) {
      from.refuse('metadata of another type than announced');
    }
    builder.pushNsh(word, path, metadata);
  },
};
