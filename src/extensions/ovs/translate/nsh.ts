/**
 * NSH headers in keys, masks and sets, between OVS_NSH_KEY_ATTR_* and flow/'s words. The header is an attribute OVS_KEY_ATTR_NSH, whose
 * parts flow/ draws (flow/actions/nsh/netlink.ts); in a masked set each part is twice as long: the value, then the mask.
 */
import { KeyAttribute, NSH_PART_BYTES, NshPart, nshMetadataType, unpackBytes, Word } from '../../../flow/index.ts';
import type { MessageWriter } from '../../../netlink/index.ts';
import { be32At, beginNest, eachNested } from '../attributes.ts';
import { Errno, OvsError } from '../errors.ts';

const { BASE: BASE_BYTES, MD1: CONTEXT_BYTES } = NSH_PART_BYTES;

const refuse = (reason: string): never => {
  throw new OvsError(Errno.EINVAL, `nsh: ${reason}`);
};

/** Read the NSH part of a key or mask. Metadata of type 2 is not part of it. @throws OvsError EINVAL */
export function decodeNshKey(content: Uint8Array, words: Uint32Array, isMask: boolean): void {
  let hasContext = false;
  eachNested(content, (type, value) => {
    if (type === NshPart.BASE && value.length === BASE_BYTES) {
      words[Word.NSH_BASE] = be32At(value, 0);
      words[Word.NSH_PATH] = be32At(value, 4);
    } else if (type === NshPart.MD1 && value.length === CONTEXT_BYTES) {
      hasContext = true;
      for (let i = 0; i < 4; i += 1) words[Word.NSH_CONTEXT + i] = be32At(value, i * 4);
    } else {
      refuse(`attribute ${type}`);
    }
  });
  if (!isMask && hasContext && nshMetadataType(words[Word.NSH_BASE]) !== 1) refuse('metadata type');
}

/** Read the value of a set, or value and mask of a masked set. @throws OvsError EINVAL */
export function decodeSetNsh(content: Uint8Array, value: Uint32Array, mask: Uint32Array | null): void {
  if (mask === null) {
    decodeNshKey(content, value, false);
    return;
  }
  eachNested(content, (type, both) => {
    const isBase = type === NshPart.BASE;
    const count = (isBase ? BASE_BYTES : CONTEXT_BYTES) / 4;
    if ((!isBase && type !== NshPart.MD1) || both.length !== count * 8) refuse('set of nsh');
    const first = isBase ? Word.NSH_BASE : Word.NSH_CONTEXT;
    for (let i = 0; i < count; i += 1) {
      value[first + i] = be32At(both, i * 4);
      mask[first + i] = be32At(both, (count + i) * 4);
      if ((value[first + i] & ~mask[first + i]) !== 0) refuse('a value with bits outside of its mask');
    }
  });
}

/** Write the NSH part of a key or mask. Only metadata of type 1 is part of a key, and a mask always has it. */
export function encodeNshKey(writer: MessageWriter, attribute: number, output: Uint32Array, isMask: boolean): void {
  const hasContext = isMask || nshMetadataType(output[Word.NSH_BASE]) === 1;
  const nest = beginNest(writer, attribute);
  writer.bytes(NshPart.BASE, unpackBytes(output, Word.NSH_BASE, BASE_BYTES));
  if (hasContext) writer.bytes(NshPart.MD1, unpackBytes(output, Word.NSH_CONTEXT, CONTEXT_BYTES));
  writer.endNested(nest);
}

/** Write a masked set. The context is always part of it, as for packets with metadata of type 1. */
export function encodeMaskedNsh(writer: MessageWriter, value: Uint32Array, mask: Uint32Array): void {
  const nest = beginNest(writer, KeyAttribute.NSH);
  for (const [type, first, length] of [
    [NshPart.BASE, Word.NSH_BASE, BASE_BYTES],
    [NshPart.MD1, Word.NSH_CONTEXT, CONTEXT_BYTES],
  ] as const) {
    writer.bytes(type, Uint8Array.of(...unpackBytes(value, first, length), ...unpackBytes(mask, first, length)));
  }
  writer.endNested(nest);
}
