/**
 * NSH headers, between OVS_NSH_KEY_ATTR_* and flow/'s words: for keys, masks and the push and set actions. Everywhere the header is
 * an attribute OVS_KEY_ATTR_NSH, which holds its parts:
 *
 *     BASE  flags 8 | ttl 8 | mdtype 8 | np 8 | path header 32     in a masked set each part is twice as long:
 *     MD1   context 4 * 32                                         the value, then the mask
 *     MD2   metadata of type 2, as in the header; in push_nsh alone
 */
import { KeyAttribute, unpackBytes, Word } from '../../../flow/index.ts';
import type { MessageWriter } from '../../../netlink/index.ts';
import { be32At, beginNest, eachNested } from '../attributes.ts';
import { Errno, OvsError } from '../errors.ts';

const Nsh = { BASE: 1, MD1: 2, MD2: 3 } as const;
const BASE_BYTES = 8;
const CONTEXT_BYTES = 16;
const METADATA_TYPE_1 = 1;
const METADATA_TYPE_2 = 2;

const refuse = (reason: string): never => {
  throw new OvsError(Errno.EINVAL, `nsh: ${reason}`);
};

/** An NSH header as it travels: base word, path word, and metadata of type 1 (16 bytes) or type 2. */
export interface NshHeader {
  base: number;
  path: number;
  metadata: Uint8Array;
}

function metadataTypeOf(base: number): number {
  return (base >>> 8) & 0xff;
}

/**
 * Read the content of a push: one attribute with the header.
 * @throws OvsError EINVAL
 */
export function decodePushNsh(content: Uint8Array): NshHeader {
  let header: NshHeader | null = null;
  eachNested(content, (type, value) => {
    if (type !== KeyAttribute.NSH || header !== null) refuse('a push is of one header');
    header = decodeHeader(value);
  });
  return header ?? refuse('a push of no header');
}

function decodeHeader(content: Uint8Array): NshHeader {
  let base: Uint8Array | null = null;
  let metadata: Uint8Array | null = null;
  let metadataType = 0;
  eachNested(content, (type, value) => {
    switch (type) {
      case Nsh.BASE:
        if (value.length !== BASE_BYTES) refuse('length of the base');
        base = value;
        break;
      case Nsh.MD1:
      case Nsh.MD2:
        if (type === Nsh.MD1 ? value.length !== CONTEXT_BYTES : value.length === 0) refuse('length of the metadata');
        if (metadata !== null && (type === Nsh.MD1) !== (metadataType === METADATA_TYPE_1)) {
          refuse('metadata of both types');
        }
        metadata = value;
        metadataType = type === Nsh.MD1 ? METADATA_TYPE_1 : METADATA_TYPE_2;
        break;
      default:
        refuse(`attribute ${type} is not known`);
    }
  });
  if (base === null) return refuse('no base');
  const word = be32At(base, 0);
  if (metadata !== null && metadataTypeOf(word) !== metadataType) refuse('metadata of another type than announced');
  return { base: word, path: be32At(base, 4), metadata: metadata ?? new Uint8Array(0) };
}

/** Read the NSH part of a key or mask. Metadata of type 2 is not part of it. @throws OvsError EINVAL */
export function decodeNshKey(content: Uint8Array, words: Uint32Array, isMask: boolean): void {
  let hasContext = false;
  eachNested(content, (type, value) => {
    if (type === Nsh.BASE && value.length === BASE_BYTES) {
      words[Word.NSH_BASE] = be32At(value, 0);
      words[Word.NSH_PATH] = be32At(value, 4);
    } else if (type === Nsh.MD1 && value.length === CONTEXT_BYTES) {
      hasContext = true;
      for (let i = 0; i < 4; i += 1) words[Word.NSH_CONTEXT + i] = be32At(value, i * 4);
    } else {
      refuse(`attribute ${type}`);
    }
  });
  if (!isMask && hasContext && metadataTypeOf(words[Word.NSH_BASE]) !== METADATA_TYPE_1) refuse('metadata type');
}

/** Read the value of a set, or value and mask of a masked set. @throws OvsError EINVAL */
export function decodeSetNsh(content: Uint8Array, value: Uint32Array, mask: Uint32Array | null): void {
  if (mask === null) {
    decodeNshKey(content, value, false);
    return;
  }
  eachNested(content, (type, both) => {
    const isBase = type === Nsh.BASE;
    const count = (isBase ? BASE_BYTES : CONTEXT_BYTES) / 4;
    if ((!isBase && type !== Nsh.MD1) || both.length !== count * 8) refuse('set of nsh');
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
  const hasContext = isMask || metadataTypeOf(output[Word.NSH_BASE]) === METADATA_TYPE_1;
  const nest = beginNest(writer, attribute);
  writer.bytes(Nsh.BASE, unpackBytes(output, Word.NSH_BASE, BASE_BYTES));
  if (hasContext) writer.bytes(Nsh.MD1, unpackBytes(output, Word.NSH_CONTEXT, CONTEXT_BYTES));
  writer.endNested(nest);
}

/** Write a masked set. The context is always part of it, as for packets with metadata of type 1. */
export function encodeMaskedNsh(writer: MessageWriter, value: Uint32Array, mask: Uint32Array): void {
  const nest = beginNest(writer, KeyAttribute.NSH);
  for (const [type, first, length] of [
    [Nsh.BASE, Word.NSH_BASE, BASE_BYTES],
    [Nsh.MD1, Word.NSH_CONTEXT, CONTEXT_BYTES],
  ] as const) {
    writer.bytes(type, Uint8Array.of(...unpackBytes(value, first, length), ...unpackBytes(mask, first, length)));
  }
  writer.endNested(nest);
}

/** Write the content of a push. */
export function encodePushNsh(writer: MessageWriter, header: NshHeader): void {
  const nest = beginNest(writer, KeyAttribute.NSH);
  writer.bytes(Nsh.BASE, unpackBytes([header.base, header.path], 0, BASE_BYTES));
  const type = metadataTypeOf(header.base) === METADATA_TYPE_1 ? Nsh.MD1 : Nsh.MD2;
  if (header.metadata.length > 0) writer.bytes(type, header.metadata);
  writer.endNested(nest);
}
