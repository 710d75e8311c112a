/**
 * Action lists out of their attributes, into flow/'s form. Structure is judged here; whether the actions suit the flow is
 * judged by validateActions there. actions-encode.ts is the way back.
 */
import {
  ACTIONS_MAXIMUM_DEPTH,
  Action,
  ActionBuilder,
  KEY_WORDS,
  KeyAttribute,
  validateActions,
  Word,
} from '../../../flow/index.ts';
import { be16At, be32At, eachNested, u16At, u32At } from '../attributes.ts';
import { Errno, OvsError } from '../errors.ts';
import { structureBytes, writeStructure } from './key-attribute.ts';
import { decodePushNsh, decodeSetNsh } from './nsh.ts';
import { decodeTunnel } from './tunnel.ts';

const refuse = (reason: string, errno: number = Errno.EINVAL): never => {
  throw new OvsError(errno, `actions: ${reason}`);
};

/** Lengths of the actions that are plain structures. */
const LENGTHS: Readonly<Record<number, number>> = {
  [Action.OUTPUT]: 4,
  [Action.PUSH_VLAN]: 4,
  [Action.POP_VLAN]: 0,
  [Action.RECIRC]: 4,
  [Action.HASH]: 8,
  [Action.PUSH_MPLS]: 8,
  [Action.POP_MPLS]: 2,
  [Action.TRUNC]: 4,
  [Action.PUSH_ETH]: 12,
  [Action.POP_ETH]: 0,
  [Action.CT_CLEAR]: 0,
  [Action.POP_NSH]: 0,
  [Action.METER]: 4,
  [Action.ADD_MPLS]: 8,
  [Action.DROP]: 4,
};

/**
 * Read and judge a list.
 * @param maskedKey the flow's key with the bits outside its mask 0
 * @throws OvsError with the errno of openvswitch.ko: EINVAL, EOVERFLOW, EMSGSIZE
 */
export function decodeActions(content: Uint8Array, maskedKey: Uint32Array): Int32Array {
  const words = decodeList(content, 0);
  const flaw = validateActions(words, maskedKey, { kernelOnly: true });
  if (flaw !== null) return refuse(flaw.message, flaw.error);
  return words;
}

function decodeList(content: Uint8Array, depth: number): Int32Array {
  if (depth >= ACTIONS_MAXIMUM_DEPTH) refuse('lists too deep inside lists', Errno.EOVERFLOW);
  const builder = new ActionBuilder();
  eachNested(content, (type, value) => decodeAction(builder, type, value, depth));
  return builder.finish();
}

function decodeAction(builder: ActionBuilder, type: number, value: Uint8Array, depth: number): void {
  const length = LENGTHS[type];
  if (length !== undefined && value.length !== length) refuse(`action ${type} has ${value.length} bytes`);
  switch (type) {
    case Action.OUTPUT:
      builder.output(u32At(value, 0));
      break;
    case Action.USERSPACE:
      decodeUserspace(builder, value);
      break;
    case Action.SET:
    case Action.SET_MASKED:
      decodeSet(builder, value, type === Action.SET_MASKED);
      break;
    case Action.PUSH_VLAN:
      builder.pushVlan(be16At(value, 0), be16At(value, 2));
      break;
    case Action.POP_VLAN:
      builder.popVlan();
      break;
    case Action.SAMPLE:
      decodeSample(builder, value, depth);
      break;
    case Action.RECIRC:
      builder.recirc(u32At(value, 0));
      break;
    case Action.HASH:
      builder.hash(u32At(value, 0), u32At(value, 4));
      break;
    case Action.PUSH_MPLS:
      builder.pushMpls(be32At(value, 0), be16At(value, 4));
      break;
    case Action.POP_MPLS:
      builder.popMpls(be16At(value, 0));
      break;
    case Action.TRUNC:
      builder.trunc(u32At(value, 0));
      break;
    case Action.PUSH_ETH: {
      const words = new Uint32Array(KEY_WORDS);
      writeStructure(KeyAttribute.ETHERNET, value, words);
      builder.pushEth(words);
      break;
    }
    case Action.POP_ETH:
      builder.popEth();
      break;
    case Action.CT_CLEAR:
      // Clearing what is not tracked would be harmless, but that it is accepted tells programs that connections are tracked.
      refuse('connections are not tracked');
      break;
    case Action.PUSH_NSH: {
      const header = decodePushNsh(value);
      builder.pushNsh(header.base, header.path, header.metadata);
      break;
    }
    case Action.POP_NSH:
      builder.popNsh();
      break;
    case Action.METER:
      builder.meter(u32At(value, 0));
      break;
    case Action.CLONE:
      builder.clone(decodeList(value, depth + 1));
      break;
    case Action.CHECK_PKT_LEN:
      decodeCheckLength(builder, value, depth);
      break;
    case Action.ADD_MPLS:
      builder.addMpls(be32At(value, 0), be16At(value, 4), u16At(value, 6));
      break;
    case Action.DEC_TTL:
      decodeDecTtl(builder, value, depth);
      break;
    case Action.DROP:
      builder.drop(u32At(value, 0) | 0);
      break;
    default:
      refuse(`action ${type} is not known`);
  }
}

function decodeUserspace(builder: ActionBuilder, content: Uint8Array): void {
  let pid = 0;
  const options: { userdata?: Uint8Array; tunnelPort?: number; actions?: boolean } = {};
  eachNested(content, (type, value) => {
    if ((type === 1 || type === 3) && value.length < 4) refuse('userspace', Errno.ERANGE);
    if (type === 1) pid = u32At(value, 0);
    else if (type === 2) options.userdata = value;
    else if (type === 3) options.tunnelPort = u32At(value, 0);
    else if (type === 4) options.actions = true;
  });
  if (pid === 0) refuse('userspace without pid');
  builder.userspace(pid, options);
}

function decodeSet(builder: ActionBuilder, content: Uint8Array, isMasked: boolean): void {
  let count = 0;
  eachNested(content, (attribute, value) => {
    count += 1;
    if (count > 1) refuse('set of several attributes');
    const words = new Uint32Array(KEY_WORDS);
    if (attribute === KeyAttribute.TUNNEL) {
      if (isMasked) refuse('a tunnel cannot be set in part');
      decodeTunnel(value, words, null);
      builder.set(attribute, words);
      return;
    }
    if (attribute === KeyAttribute.NSH) {
      const mask = isMasked ? new Uint32Array(KEY_WORDS) : null;
      decodeSetNsh(value, words, mask);
      builder.set(attribute, words, mask ?? undefined);
      return;
    }
    const length = attribute === KeyAttribute.MPLS ? 4 : structureBytes(attribute);
    if (length < 0 || value.length !== (isMasked ? length * 2 : length)) refuse(`set of attribute ${attribute}`);
    const write = (from: Uint8Array, to: Uint32Array) => {
      if (attribute === KeyAttribute.MPLS) to[Word.MPLS] = be32At(from, 0);
      else writeStructure(attribute, from, to);
    };
    write(value.subarray(0, length), words);
    try {
      if (!isMasked) {
        builder.set(attribute, words);
        return;
      }
      const mask = new Uint32Array(KEY_WORDS);
      write(value.subarray(length), mask);
      for (let i = 0; i < length; i += 1) {
        if ((value[i] & ~value[length + i]) !== 0) refuse('a value with bits outside of its mask');
      }
      builder.set(attribute, words, mask);
    } catch (error) {
      if (error instanceof RangeError) refuse(error.message);
      throw error;
    }
  });
  if (count === 0) refuse('set of nothing');
}

function decodeSample(builder: ActionBuilder, content: Uint8Array, depth: number): void {
  let probability = -1;
  let actions: Uint8Array | null = null;
  eachNested(content, (type, value) => {
    if (type === 1 && value.length === 4 && probability < 0) probability = u32At(value, 0);
    else if (type === 2 && actions === null) actions = value;
    else refuse('sample');
  });
  if (probability < 0 || actions === null) refuse('sample without probability or actions');
  else builder.sample(probability, decodeList(actions, depth + 1));
}

function decodeCheckLength(builder: ActionBuilder, content: Uint8Array, depth: number): void {
  let length = -1;
  const lists: (Uint8Array | undefined)[] = [];
  eachNested(content, (type, value) => {
    if (type === 1 && value.length >= 2) length = u16At(value, 0);
    else if (type === 2 || type === 3) lists[type - 2] = value;
    else refuse('check_pkt_len', type === 1 ? Errno.ERANGE : Errno.EINVAL);
  });
  const [greater, lessOrEqual] = lists;
  if (length <= 0 || greater === undefined || lessOrEqual === undefined) {
    throw new OvsError(Errno.EINVAL, 'actions: check_pkt_len is incomplete');
  }
  builder.checkPacketLength(length, decodeList(greater, depth + 1), decodeList(lessOrEqual, depth + 1));
}

function decodeDecTtl(builder: ActionBuilder, content: Uint8Array, depth: number): void {
  let actions: Uint8Array | null = null;
  eachNested(content, (type, value) => {
    if (type === 1 && actions === null) actions = value;
    else refuse('dec_ttl');
  });
  if (actions === null) refuse('dec_ttl without actions');
  else builder.decTtl(decodeList(actions, depth + 1));
}
