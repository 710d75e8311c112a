/**
 * Action lists between their attributes and flow/'s words, in the form in which Open vSwitch writes them: its revalidators compare them byte
 * by byte. What each action looks like is told by flow/ (actions/<action>/); here is what attributes are, and those of a key.
 */
import {
  ACTIONS_MAXIMUM_DEPTH,
  ActionBuilder,
  type ActionReader,
  type ActionWriter,
  describe,
  eachAction,
  KeyAttribute,
  type ListBounds,
  unpackBytes,
  validateActions,
  Word,
} from '../../../flow/index.ts';
import type { MessageWriter } from '../../../netlink/index.ts';
import { be32At, beginNest, eachNested, u16At, u32At } from '../attributes.ts';
import { Errno, OvsError } from '../errors.ts';
import { readStructure, structureBytes, writeStructure } from './key-attribute.ts';
import { decodeSetNsh, encodeMaskedNsh, encodeNshKey } from './nsh.ts';
import { decodeTunnel, encodeTunnel } from './tunnel.ts';

const refuse = (reason: string, errno: number = Errno.EINVAL): never => {
  throw new OvsError(errno, `actions: ${reason}`);
};

/**
 * Read and judge a list.
 * @param maskedKey the flow's key with the bits outside its mask 0
 * @throws OvsError with the errno of openvswitch.ko: EINVAL, EOVERFLOW, EMSGSIZE
 */
export function decodeActions(content: Uint8Array, maskedKey: Uint32Array): Int32Array {
  const words = readActions(content);
  const flaw = validateActions(words, maskedKey, { kernelOnly: true });
  if (flaw !== null) return refuse(flaw.message, flaw.error);
  return words;
}

/** Read a list that is not judged yet. @throws OvsError EINVAL, ERANGE, EOVERFLOW */
export function readActions(content: Uint8Array): Int32Array {
  return new Reader(0).read(content);
}

/** Reads one list, and those inside at the next depth. */
class Reader implements ActionReader {
  readonly #depth: number;
  readonly each = eachNested;
  readonly refuse: ActionReader['refuse'] = refuse;

  constructor(depth: number) {
    this.#depth = depth;
  }

  read(content: Uint8Array): Int32Array {
    if (this.#depth >= ACTIONS_MAXIMUM_DEPTH) refuse('lists too deep inside lists', Errno.EOVERFLOW);
    const builder = new ActionBuilder();
    eachNested(content, (type, value) => {
      const action = describe(type) ?? refuse(`action ${type} is not known`);
      action.netlink.read(this, value, builder);
    });
    return builder.finish();
  }

  list(content: Uint8Array): Int32Array {
    return new Reader(this.#depth + 1).read(content);
  }

  number(content: Uint8Array): number {
    return content.length === 2 ? u16At(content, 0) : u32At(content, 0);
  }

  key(attribute: number, content: Uint8Array, key: Uint32Array, mask: Uint32Array | null): void {
    if (attribute === KeyAttribute.TUNNEL) {
      if (mask !== null) refuse('a tunnel cannot be set in part');
      decodeTunnel(content, key, null);
      return;
    }
    if (attribute === KeyAttribute.NSH) {
      decodeSetNsh(content, key, mask);
      return;
    }
    const length = attribute === KeyAttribute.MPLS ? 4 : structureBytes(attribute);
    if (length < 0 || content.length !== (mask === null ? length : length * 2)) refuse(`set of attribute ${attribute}`);
    readKey(attribute, content.subarray(0, length), key);
    if (mask === null) return;
    for (let i = 0; i < length; i += 1) {
      if ((content[i] & ~content[length + i]) !== 0) refuse('a value with bits outside of its mask');
    }
    readKey(attribute, content.subarray(length), mask);
  }
}

function readKey(attribute: number, content: Uint8Array, words: Uint32Array): void {
  if (attribute === KeyAttribute.MPLS) words[Word.MPLS] = be32At(content, 0);
  else writeStructure(attribute, content, words);
}

/** In an array that the next call for the same attribute overwrites. */
function keyContent(attribute: number, words: Uint32Array): Uint8Array {
  return attribute === KeyAttribute.MPLS ? unpackBytes(words, Word.MPLS, 4) : readStructure(attribute, words);
}

/** Write a list inside an attribute. @param words a sound list, from `from` to `end` */
export function encodeActions(
  writer: MessageWriter,
  attribute: number,
  words: Int32Array,
  from = 0,
  end: number = words.length,
): void {
  new Writer(writer, words).list(attribute, { from, end });
}

/** Writes the lists that lie in the same words. */
class Writer implements ActionWriter {
  readonly message: MessageWriter;
  readonly #words: Int32Array;

  constructor(message: MessageWriter, words: Int32Array) {
    this.message = message;
    this.#words = words;
  }

  nest(type: number, content: () => void): void {
    const nest = beginNest(this.message, type);
    content();
    this.message.endNested(nest);
  }

  list(type: number, { from, end }: ListBounds): void {
    const nest = beginNest(this.message, type);
    eachAction(this.#words, from, end, (action, at, _next, lists) => {
      action.netlink.write(this, this.#words, at, lists);
    });
    this.message.endNested(nest);
  }

  key(attribute: number, key: Uint32Array, mask: Uint32Array | null): void {
    if (attribute === KeyAttribute.TUNNEL) {
      encodeTunnel(this.message, attribute, key);
    } else if (attribute === KeyAttribute.NSH) {
      if (mask === null) encodeNshKey(this.message, attribute, key, false);
      else encodeMaskedNsh(this.message, key, mask);
    } else if (mask === null) {
      this.message.bytes(attribute, keyContent(attribute, key));
    } else {
      const content = keyContent(attribute, key);
      const both = new Uint8Array(content.length * 2);
      both.set(content);
      both.set(keyContent(attribute, mask), content.length);
      this.message.bytes(attribute, both);
    }
  }
}
