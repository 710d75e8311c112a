/**
 * CT as an attribute, in the order in which openvswitch.ko writes it, whatever the order in which it came. What openvswitch.ko refuses is refused with its errno; what only the flow's key can tell is judged with the list (ct.ts).
 *
 *     COMMIT or FORCE_COMMIT | ZONE u16 | MARK value 32, mask 32 | LABELS value 128, mask 128 | HELPER name | EVENTMASK u32 | TIMEOUT name |
 *     NAT { SRC or DST | IP_MIN | IP_MAX | PROTO_MIN u16 | PROTO_MAX u16 | PERSISTENT | PROTO_HASH | PROTO_RANDOM }
 *
 * Labels have their lowest byte first. Names end with a zero.
 */
import { Action, packBytes, unpackBytes } from '../encoding.ts';
import type { ActionNetlink, ActionReader, ActionWriter } from '../netlink.ts';
import { Ct, CtFlag, type CtOptions, NatFlag, namesOf } from './words.ts';

/** OVS_CT_ATTR_* (linux/openvswitch.h). */
const Part = {
  COMMIT: 1,
  ZONE: 2,
  MARK: 3,
  LABELS: 4,
  HELPER: 5,
  NAT: 6,
  FORCE_COMMIT: 7,
  EVENT_MASK: 8,
  TIMEOUT: 9,
} as const;

/** OVS_NAT_ATTR_*. */
const NatPart = {
  SOURCE: 1,
  DESTINATION: 2,
  IP_MIN: 3,
  IP_MAX: 4,
  PROTO_MIN: 5,
  PROTO_MAX: 6,
  PERSISTENT: 7,
  PROTO_HASH: 8,
  PROTO_RANDOM: 9,
} as const;

/** Shortest and longest content of each part. NAT holds parts of its own. */
const LENGTHS: Readonly<Record<number, readonly [least: number, most: number]>> = {
  [Part.COMMIT]: [0, 0],
  [Part.ZONE]: [2, 2],
  [Part.MARK]: [8, 8],
  [Part.LABELS]: [32, 32],
  [Part.HELPER]: [1, 16],
  [Part.NAT]: [0, 0xffff],
  [Part.FORCE_COMMIT]: [0, 0],
  [Part.EVENT_MASK]: [4, 4],
  [Part.TIMEOUT]: [1, 32],
};

/** Parts of NAT that are flags: those that are written before the ranges, and behind. */
const DIRECTIONS = [
  [NatPart.SOURCE, NatFlag.SOURCE],
  [NatPart.DESTINATION, NatFlag.DESTINATION],
] as const;
const CHOICES = [
  [NatPart.PERSISTENT, NatFlag.PERSISTENT],
  [NatPart.PROTO_HASH, NatFlag.PROTO_HASH],
  [NatPart.PROTO_RANDOM, NatFlag.PROTO_RANDOM],
] as const;
const NAT_FLAGS = [...DIRECTIONS, ...CHOICES];

/** ERANGE: both source and destination are to be translated. */
const BOTH = 34;

type Given = { -readonly [K in keyof CtOptions]: CtOptions[K] };

export const ctNetlink: ActionNetlink = {
  write: (to, words, at) => to.nest(Action.CT, () => write(to, words, at)),
  read(from, content, builder) {
    const given: Given = { flags: 0 };
    from.each(content, (type, value) => {
      const [least, most] = LENGTHS[type] ?? from.refuse(`attribute ${type} of ct is not known`);
      if (value.length < least || value.length > most) from.refuse(`attribute ${type} of ct has ${value.length} bytes`);
      readPart(from, type, value, given);
    });
    builder.ct(given);
  },
};

function write(to: ActionWriter, words: Int32Array, at: number): void {
  const { message } = to;
  const flags = words[at + Ct.FLAGS];
  const { helper, timeout } = namesOf(words, at);
  if ((flags & CtFlag.COMMIT) !== 0) message.flag(Part.COMMIT);
  if ((flags & CtFlag.FORCE) !== 0) message.flag(Part.FORCE_COMMIT);
  if ((flags & CtFlag.ZONE) !== 0) message.u16(Part.ZONE, words[at + Ct.ZONE]);
  if ((flags & CtFlag.MARK) !== 0) {
    const mark = Uint32Array.of(words[at + Ct.MARK], words[at + Ct.MARK_MASK]);
    message.bytes(Part.MARK, new Uint8Array(mark.buffer));
  }
  if ((flags & CtFlag.LABEL) !== 0) {
    const value = unpackBytes(words, at + Ct.LABEL, 16).reverse();
    message.bytes(Part.LABELS, Uint8Array.of(...value, ...unpackBytes(words, at + Ct.LABEL_MASK, 16).reverse()));
  }
  if (helper !== '') message.bytes(Part.HELPER, withZero(helper));
  if ((flags & CtFlag.EVENT_MASK) !== 0) message.u32(Part.EVENT_MASK, words[at + Ct.EVENT_MASK] >>> 0);
  if (timeout !== '') message.bytes(Part.TIMEOUT, withZero(timeout));
  if ((flags & CtFlag.NAT) !== 0) to.nest(Part.NAT, () => writeNat(to, words, at));
}

function writeNat({ message }: ActionWriter, words: Int32Array, at: number): void {
  const flags = words[at + Ct.NAT_FLAGS];
  for (const [part, flag] of DIRECTIONS) if ((flags & flag) !== 0) message.flag(part);
  if ((flags & (NatFlag.IPV4 | NatFlag.IPV6)) !== 0) {
    const bytes = (flags & NatFlag.IPV6) === 0 ? 4 : 16;
    const first = unpackBytes(words, at + Ct.NAT_MINIMUM, bytes);
    const last = unpackBytes(words, at + Ct.NAT_MAXIMUM, bytes);
    message.bytes(NatPart.IP_MIN, first);
    if (last.some((byte, i) => byte !== first[i])) message.bytes(NatPart.IP_MAX, last);
  }
  if ((flags & NatFlag.PORTS) !== 0) {
    const first = words[at + Ct.NAT_PORTS] >>> 16;
    const last = words[at + Ct.NAT_PORTS] & 0xffff;
    message.u16(NatPart.PROTO_MIN, first);
    if (last !== first) message.u16(NatPart.PROTO_MAX, last);
  }
  for (const [part, flag] of CHOICES) if ((flags & flag) !== 0) message.flag(part);
}

function readPart(from: ActionReader, type: number, value: Uint8Array, given: Given): void {
  switch (type) {
    case Part.COMMIT:
      given.flags |= CtFlag.COMMIT;
      return;
    case Part.FORCE_COMMIT:
      given.flags |= CtFlag.FORCE;
      return;
    case Part.ZONE:
      given.flags |= CtFlag.ZONE;
      given.zone = from.number(value);
      return;
    case Part.MARK: {
      const mask = from.number(value.subarray(4));
      if (mask === 0) from.refuse('a mark of connections with a mask of 0');
      given.flags |= CtFlag.MARK;
      // Bits outside of the mask mean nothing.
      given.mark = [from.number(value.subarray(0, 4)) & mask, mask];
      return;
    }
    case Part.LABELS: {
      const mask = packBytes(value.slice(16).reverse());
      if (mask.every((word) => word === 0)) from.refuse('a label of connections with a mask of 0');
      given.flags |= CtFlag.LABEL;
      given.label = [packBytes(value.slice(0, 16).reverse()).map((word, i) => word & mask[i]), mask];
      return;
    }
    case Part.EVENT_MASK:
      given.flags |= CtFlag.EVENT_MASK;
      given.eventMask = from.number(value);
      return;
    case Part.HELPER:
      given.helper = withoutZero(from, value) || from.refuse('a helper without a name');
      return;
    case Part.TIMEOUT:
      given.timeout = withoutZero(from, value);
      return;
    default:
      readNat(from, value, given);
  }
}

function readNat(from: ActionReader, content: Uint8Array, given: Given): void {
  let flags = 0;
  let ports: { first?: number; last?: number } = {};
  from.each(content, (type, value) => {
    switch (type) {
      case NatPart.IP_MIN:
        given.natMinimum = address(from, value);
        flags |= versionOf(value);
        break;
      case NatPart.IP_MAX:
        given.natMaximum = address(from, value);
        flags |= versionOf(value);
        break;
      case NatPart.PROTO_MIN:
        ports = { ...ports, first: port(from, value) };
        break;
      case NatPart.PROTO_MAX:
        ports = { ...ports, last: port(from, value) };
        break;
      default: {
        const flag = NAT_FLAGS.find(([part]) => part === type)?.[1];
        if (flag === undefined || value.length !== 0) return from.refuse(`attribute ${type} of NAT`);
        const direction = NatFlag.SOURCE | NatFlag.DESTINATION;
        if ((flag & direction) !== 0 && (flags & direction) !== 0) {
          from.refuse('NAT of source and destination at once', BOTH);
        }
        flags |= flag;
      }
    }
  });
  if ((flags & NatFlag.IPV4) !== 0 && (flags & NatFlag.IPV6) !== 0) from.refuse('NAT from one IP version to the other');
  // What is not named is 0, but for the ends of ranges.
  if ((flags & (NatFlag.IPV4 | NatFlag.IPV6)) !== 0) {
    given.natMinimum ??= [0, 0, 0, 0];
    given.natMaximum ??= given.natMinimum;
  }
  const { first, last } = ports;
  if (first !== undefined || last !== undefined) {
    flags |= NatFlag.PORTS;
    given.natPorts = [first ?? 0, last ?? first ?? 0];
  }
  given.flags |= CtFlag.NAT;
  given.natFlags = flags;
}

function address(from: ActionReader, value: Uint8Array): number[] {
  if (value.length !== 4 && value.length !== 16) from.refuse(`an address of ${value.length} bytes`);
  const words = packBytes(value);
  return value.length === 4 ? [...words, 0, 0, 0] : words;
}

function versionOf(value: Uint8Array): number {
  return value.length === 4 ? NatFlag.IPV4 : NatFlag.IPV6;
}

function port(from: ActionReader, value: Uint8Array): number {
  return value.length === 2 ? from.number(value) : from.refuse(`a port of ${value.length} bytes`);
}

function withZero(name: string): Uint8Array {
  return Uint8Array.of(...Array.from(name, (character) => character.charCodeAt(0)), 0);
}

function withoutZero(from: ActionReader, value: Uint8Array): string {
  const end = value.indexOf(0);
  if (end === -1) from.refuse('a name without its closing zero');
  return String.fromCharCode(...value.subarray(0, end));
}
