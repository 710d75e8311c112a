/** Action lists as attributes, in the form in which Open vSwitch writes them: its revalidators compare them byte by byte. */
import {
  Action,
  actionLength,
  actionType,
  KEY_WORDS,
  KeyAttribute,
  setLayout,
  Userspace,
  UserspaceFlag,
  unpackBytes,
  Word,
} from '../../../flow/index.ts';
import type { MessageWriter } from '../../../netlink/index.ts';
import { beginNest } from '../attributes.ts';
import { readStructure } from './key-attribute.ts';
import { encodeMaskedNsh, encodeNshKey, encodePushNsh } from './nsh.ts';
import { encodeTunnel } from './tunnel.ts';

/** Write a list inside an attribute. @param words a sound list, from `from` to `end` */
export function encodeActions(
  writer: MessageWriter,
  attribute: number,
  words: Int32Array,
  from = 0,
  end: number = words.length,
): void {
  const nest = beginNest(writer, attribute);
  let at = from;
  while (at < end) {
    const length = actionLength(words[at]);
    encodeAction(writer, words, at, at + length);
    at += length;
  }
  writer.endNested(nest);
}

function encodeAction(writer: MessageWriter, words: Int32Array, at: number, end: number): void {
  const type = actionType(words[at]);
  const first = end > at + 1 ? words[at + 1] : 0;
  switch (type) {
    case Action.OUTPUT:
    case Action.RECIRC:
    case Action.TRUNC:
    case Action.METER:
    case Action.DROP:
      writer.u32(type, first >>> 0);
      break;
    case Action.USERSPACE:
      encodeUserspace(writer, words, at);
      break;
    case Action.SET:
    case Action.SET_MASKED:
      encodeSet(writer, type, words, at, end);
      break;
    case Action.PUSH_VLAN:
      writer.be32(type, first >>> 0);
      break;
    case Action.SAMPLE: {
      const nest = beginNest(writer, type);
      writer.u32(1, first >>> 0);
      encodeActions(writer, 2, words, at + 2, end);
      writer.endNested(nest);
      break;
    }
    case Action.HASH:
      writer.bytes(type, new Uint8Array(Int32Array.of(first, words[at + 2]).buffer));
      break;
    case Action.PUSH_MPLS:
    case Action.ADD_MPLS: {
      const content = new Uint8Array(8);
      content.set(unpackBytes(words, at + 1, 4));
      content[4] = words[at + 2] >>> 8;
      content[5] = words[at + 2];
      content[6] = type === Action.ADD_MPLS ? words[at + 3] : 0;
      writer.bytes(type, content);
      break;
    }
    case Action.POP_MPLS:
      writer.be16(type, first & 0xffff);
      break;
    case Action.PUSH_ETH: {
      const key = new Uint32Array(KEY_WORDS);
      for (let i = 0; i < 3; i += 1) key[Word.MAC + i] = words[at + 1 + i];
      writer.bytes(type, readStructure(KeyAttribute.ETHERNET, key));
      break;
    }
    case Action.PUSH_NSH: {
      const metadata = unpackBytes(words, at + 4, words[at + 3]);
      const nest = beginNest(writer, type);
      encodePushNsh(writer, { base: first, path: words[at + 2], metadata });
      writer.endNested(nest);
      break;
    }
    case Action.CLONE:
      encodeActions(writer, type, words, at + 1, end);
      break;
    case Action.CHECK_PKT_LEN: {
      const nest = beginNest(writer, type);
      writer.u16(1, first);
      encodeActions(writer, 2, words, at + 3, at + 3 + words[at + 2]);
      encodeActions(writer, 3, words, at + 3 + words[at + 2], end);
      writer.endNested(nest);
      break;
    }
    case Action.DEC_TTL: {
      const nest = beginNest(writer, type);
      encodeActions(writer, 1, words, at + 1, end);
      writer.endNested(nest);
      break;
    }
    default:
      // POP_VLAN, POP_ETH, POP_NSH, CT_CLEAR.
      writer.flag(type);
  }
}

function encodeUserspace(writer: MessageWriter, words: Int32Array, at: number): void {
  const nest = beginNest(writer, Action.USERSPACE);
  const flags = words[at + Userspace.FLAGS];
  writer.u32(1, words[at + Userspace.PID] >>> 0);
  if ((flags & UserspaceFlag.USERDATA) !== 0) {
    writer.bytes(2, unpackBytes(words, at + Userspace.USERDATA, words[at + Userspace.USERDATA_BYTES]));
  }
  if ((flags & UserspaceFlag.TUNNEL_PORT) !== 0) writer.u32(3, words[at + Userspace.TUNNEL_PORT] >>> 0);
  if ((flags & UserspaceFlag.ACTIONS) !== 0) writer.flag(4);
  writer.endNested(nest);
}

/** Scratch keys of encodeSet, all 0 between its calls. */
const value = new Uint32Array(KEY_WORDS);
const mask = new Uint32Array(KEY_WORDS);

function encodeSet(writer: MessageWriter, type: number, words: Int32Array, at: number, end: number): void {
  const attribute = words[at + 1];
  const nest = beginNest(writer, type);
  if (attribute === KeyAttribute.TUNNEL) {
    const key = new Uint32Array(KEY_WORDS);
    key.set(words.subarray(at + 2, end), Word.TUNNEL);
    encodeTunnel(writer, attribute, key);
    writer.endNested(nest);
    return;
  }
  const layout = setLayout(attribute) ?? [];
  for (let i = 0; i < layout.length; i += 1) {
    value[layout[i].word] = words[at + 2 + i * 2];
    mask[layout[i].word] = words[at + 3 + i * 2];
  }
  if (attribute === KeyAttribute.NSH) {
    if (type === Action.SET) encodeNshKey(writer, attribute, value, false);
    else encodeMaskedNsh(writer, value, mask);
  } else {
    const content = readSet(attribute, value);
    if (type === Action.SET) {
      writer.bytes(attribute, content);
    } else {
      const both = new Uint8Array(content.length * 2);
      both.set(content);
      both.set(readSet(attribute, mask), content.length);
      writer.bytes(attribute, both);
    }
  }
  for (let i = 0; i < layout.length; i += 1) {
    value[layout[i].word] = 0;
    mask[layout[i].word] = 0;
  }
  writer.endNested(nest);
}

function readSet(attribute: number, words: Uint32Array): Uint8Array {
  return attribute === KeyAttribute.MPLS ? unpackBytes(words, Word.MPLS, 4) : readStructure(attribute, words);
}
