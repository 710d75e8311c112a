/** NSH headers, between OVS_NSH_KEY_ATTR_* and flow/'s words: for keys, masks and the push and set actions. */
import { unpackBytes, Word } from '../../../flow/index.ts';
import type { MessageWriter } from '../../../netlink/index.ts';
import { be32At, eachNested } from '../attributes.ts';
import { Errno, OvsError } from '../errors.ts';

const Nsh = { BASE: 1, MD1: 2, MD2: 3 } as const;
const METADATA_TYPE_1 = 1;

const refuse = (reason: string): never => {
  throw new OvsError(Errno.EINVAL, `nsh: ${reason}`);
};

/** An NSH header as it travels: base word, path word, and metadata of type 1 (16 bytes) or type 2. */
export interface NshHeader {
  base: number;
  path: number;
  metadata: Uint8Array;
}

/**
 * Read the attributes of a header, for a push.
 * @throws OvsError EINVAL
 */
export function decodeNshHeader(content: Uint8Array): NshHeader {
  let base: Uint8Array | null = null;
  let metadata: Uint8Array | null = null;
  let metadataType = 0;
  eachNested(content, (type, value) => {
    switch (type) {
      case Nsh.BASE:
        if (value.length !== 8) refuse('length of the base');
        base = value;
        break;
      case Nsh.MD1:
        if (value.length !== 16) refuse('length of the metadata');
        metadata = value;
        metadataType = METADATA_TYPE_1;
        break;
      case Nsh.MD2:
        metadata = value;
        metadataType = 2;
        break;
      default:
        refuse(`attribute ${type} is not known`);
    }
  });
  if (base === null) return refuse('no base');
  const word = be32At(base, 0);
  if (metadata !== null && ((word >>> 8) & 0xff) !== metadataType) refuse('metadata of another type than announced');
  return { base: word, path: be32At(base, 4), metadata: metadata ?? new Uint8Array(0) };
}

/** Read the NSH part of a key or mask. @throws OvsError EINVAL */
export function decodeNshKey(content: Uint8Array, words: Uint32Array, isMask: boolean): void {
  let hasBase = false;
  let hasContext = false;
  eachNested(content, (type, value) => {
    if (type === Nsh.BASE && value.length === 8) {
      hasBase = true;
      words[Word.NSH_BASE] = be32At(value, 0);
      words[Word.NSH_PATH] = be32At(value, 4);
    } else if (type === Nsh.MD1 && value.length === 16) {
      hasContext = true;
      for (let i = 0; i < 4; i += 1) words[Word.NSH_CONTEXT + i] = be32At(value, i * 4);
    } else {
      // Metadata of type 2 is not part of a key.
      refuse(`attribute ${type}`);
    }
  });
  if (isMask) return;
  if (!hasBase) refuse('no base');
  if (((words[Word.NSH_BASE] >>> 8) & 0xff) !== METADATA_TYPE_1 || !hasContext) refuse('metadata type');
}

/** Write the NSH part of a key or mask. */
export function encodeNshKey(writer: MessageWriter, attribute: number, output: Uint32Array): void {
  encodeNshHeader(writer, attribute, {
    base: output[Word.NSH_BASE],
    path: output[Word.NSH_PATH],
    metadata: unpackBytes(output, Word.NSH_CONTEXT, 16),
  });
}

/** Write a header; metadata of 16 bytes and type 1, or of type 2. */
export function encodeNshHeader(writer: MessageWriter, attribute: number, header: NshHeader, isKey = true): void {
  const nest = writer.beginNested(attribute);
  const base = new Uint8Array(8);
  const view = new DataView(base.buffer);
  view.setUint32(0, header.base);
  view.setUint32(4, header.path);
  writer.bytes(Nsh.BASE, base);
  const isType1 = isKey || ((header.base >>> 8) & 0xff) === METADATA_TYPE_1;
  if (header.metadata.length > 0) writer.bytes(isType1 ? Nsh.MD1 : Nsh.MD2, header.metadata);
  writer.endNested(nest);
}
