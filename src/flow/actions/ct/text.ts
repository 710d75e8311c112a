/** CT as text: `ct(commit,zone=1,mark=0x5/0xf,nat(src=10.0.0.1-10.0.0.9:1024-65535))`. */
import { formatIpv4, formatIpv6, parseIpv4Into, parseIpv6Into } from '../../../net/index.ts';
import type { Scanner } from '../../text/scanner.ts';
import { hexNumber, toBigInt, toBytes } from '../../text/values.ts';
import type { ActionBuilder } from '../builder.ts';
import { packBytes, unpackBytes } from '../encoding.ts';
import { Ct, CtFlag, type CtOptions, NatFlag, namesOf } from './words.ts';

export function formatCt(words: Int32Array, at: number): string {
  const flags = words[at + Ct.FLAGS];
  const parts: string[] = [];
  if ((flags & CtFlag.COMMIT) !== 0) parts.push('commit');
  if ((flags & CtFlag.FORCE) !== 0) parts.push('force_commit');
  if ((flags & CtFlag.ZONE) !== 0) parts.push(`zone=${words[at + Ct.ZONE]}`);
  if ((flags & CtFlag.MARK) !== 0) {
    parts.push(`mark=${masked(BigInt(words[at + Ct.MARK] >>> 0), BigInt(words[at + Ct.MARK_MASK] >>> 0), 32)}`);
  }
  if ((flags & CtFlag.LABEL) !== 0) {
    const value = toBigInt(unpackBytes(words, at + Ct.LABEL, 16));
    parts.push(`label=${masked(value, toBigInt(unpackBytes(words, at + Ct.LABEL_MASK, 16)), 128)}`);
  }
  const { helper, timeout } = namesOf(words, at);
  if (helper !== '') parts.push(`helper=${helper}`);
  if (timeout !== '') parts.push(`timeout=${timeout}`);
  if ((flags & CtFlag.EVENT_MASK) !== 0) parts.push(`eventmask=0x${(words[at + Ct.EVENT_MASK] >>> 0).toString(16)}`);
  if ((flags & CtFlag.NAT) !== 0) parts.push(formatNat(words, at));
  return parts.length === 0 ? 'ct' : `ct(${parts.join(',')})`;
}

function masked(value: bigint, mask: bigint, bits: number): string {
  return hexNumber(value) + (mask === (1n << BigInt(bits)) - 1n ? '' : `/0x${mask.toString(16)}`);
}

function formatNat(words: Int32Array, at: number): string {
  const flags = words[at + Ct.NAT_FLAGS];
  if (flags === 0) return 'nat';
  let range = (flags & NatFlag.SOURCE) !== 0 ? 'src' : 'dst';
  const hasPorts = (flags & NatFlag.PORTS) !== 0;
  if ((flags & (NatFlag.IPV4 | NatFlag.IPV6 | NatFlag.PORTS)) !== 0) range += '=';
  if ((flags & (NatFlag.IPV4 | NatFlag.IPV6)) !== 0) {
    const address = (from: number) => {
      const bytes = unpackBytes(words, from, 16);
      if ((flags & NatFlag.IPV4) !== 0) return formatIpv4(bytes);
      return hasPorts ? `[${formatIpv6(bytes)}]` : formatIpv6(bytes);
    };
    const minimum = address(at + Ct.NAT_MINIMUM);
    const maximum = address(at + Ct.NAT_MAXIMUM);
    range += minimum === maximum ? minimum : `${minimum}-${maximum}`;
  }
  if (hasPorts) {
    const minimum = words[at + Ct.NAT_PORTS] >>> 16;
    const maximum = words[at + Ct.NAT_PORTS] & 0xffff;
    range += minimum === maximum ? `:${minimum}` : `:${minimum}-${maximum}`;
  }
  const parts = [range];
  if ((flags & NatFlag.PERSISTENT) !== 0) parts.push('persistent');
  if ((flags & NatFlag.PROTO_HASH) !== 0) parts.push('hash');
  if ((flags & NatFlag.PROTO_RANDOM) !== 0) parts.push('random');
  return `nat(${parts.join(',')})`;
}

const NAME = /[a-z_]+/y;
const LABEL = /[^,()\s]+/y;

/** What stands behind `ct`: nothing, or arguments in parentheses. */
export function parseCt(scanner: Scanner, builder: ActionBuilder): void {
  const given: { -readonly [K in keyof CtOptions]: CtOptions[K] } = { flags: 0 };
  if (scanner.eat('(')) scanner.list(() => parseArgument(scanner, given));
  builder.ct(given);
}

function parseArgument(scanner: Scanner, given: { -readonly [K in keyof CtOptions]: CtOptions[K] }): void {
  const start = scanner.at;
  const name = scanner.match(NAME);
  switch (name) {
    case 'commit':
      given.flags |= CtFlag.COMMIT;
      return;
    case 'force_commit':
      given.flags |= CtFlag.FORCE;
      return;
    case 'nat':
      given.flags |= CtFlag.NAT;
      if (scanner.eat('(')) parseNat(scanner, given);
      return;
  }
  scanner.expect('=');
  switch (name) {
    case 'zone':
      given.flags |= CtFlag.ZONE;
      given.zone = scanner.number(16);
      return;
    case 'mark': {
      given.flags |= CtFlag.MARK;
      const [mark, mask] = parseMasked(scanner, 32);
      given.mark = [Number(mark), Number(mask)];
      return;
    }
    case 'label': {
      given.flags |= CtFlag.LABEL;
      const words = (value: bigint) => packBytes(toBytes(value, 16));
      const [label, mask] = parseMasked(scanner, 128);
      given.label = [words(label), words(mask)];
      return;
    }
    case 'helper':
      given.helper = scanner.match(LABEL) ?? scanner.fail('a name expected');
      return;
    case 'timeout':
      given.timeout = scanner.match(LABEL) ?? scanner.fail('a name expected');
      return;
    case 'eventmask':
      given.flags |= CtFlag.EVENT_MASK;
      given.eventMask = scanner.number(32);
      return;
    default:
      scanner.failAt(start, `ct has no argument '${name ?? ''}'`);
  }
}

/** A value that is set, with the mask of the bits that it sets. A match may leave bits of its value out; what is to be set is all within the mask. */
function parseMasked(scanner: Scanner, bits: number): [value: bigint, mask: bigint] {
  const start = scanner.at;
  const value = scanner.bigNumber(bits);
  const mask = scanner.eat('/') ? scanner.bigNumber(bits) : (1n << BigInt(bits)) - 1n;
  if ((value & ~mask) !== 0n)
    scanner.failAt(start, `${scanner.text.slice(start, scanner.at)} has bits set outside its mask`);
  return [value, mask];
}

const NAT_ADDRESS = /\[[0-9a-fA-F:.]+\]|\d+(?:\.\d+){3}|[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/y;

function parseNat(scanner: Scanner, given: { -readonly [K in keyof CtOptions]: CtOptions[K] }): void {
  let flags = 0;
  scanner.list(() => {
    const start = scanner.at;
    const name = scanner.match(NAME);
    if (name === 'src' || name === 'dst') {
      flags |= name === 'src' ? NatFlag.SOURCE : NatFlag.DESTINATION;
      if (scanner.eat('=')) flags |= parseRange(scanner, given);
    } else if (name === 'persistent') {
      flags |= NatFlag.PERSISTENT;
    } else if (name === 'hash') {
      flags |= NatFlag.PROTO_HASH;
    } else if (name === 'random') {
      flags |= NatFlag.PROTO_RANDOM;
    } else {
      scanner.failAt(start, `nat has no argument '${name ?? ''}'`);
    }
  });
  given.natFlags = flags;
}

/** `10.0.0.1`, `10.0.0.1-10.0.0.9:80-90`, `::1-::2`, `[::1]:80`, `:80-90`. */
function parseRange(scanner: Scanner, given: { -readonly [K in keyof CtOptions]: CtOptions[K] }): number {
  let flags = 0;
  const start = scanner.at;
  const first = scanner.match(NAT_ADDRESS);
  if (first !== null) {
    const minimum = addressWords(scanner, first, start);
    given.natMinimum = minimum.words;
    given.natMaximum = minimum.words;
    flags |= minimum.flag;
    if (scanner.eat('-')) {
      const at = scanner.at;
      const maximum = addressWords(scanner, scanner.match(NAT_ADDRESS) ?? '', at);
      if (maximum.flag !== minimum.flag) scanner.failAt(at, 'a range from one IP version to the other');
      given.natMaximum = maximum.words;
    }
  }
  if (scanner.eat(':')) {
    flags |= NatFlag.PORTS;
    const minimum = scanner.number(16);
    given.natPorts = [minimum, scanner.eat('-') ? scanner.number(16) : minimum];
  }
  return flags;
}

function addressWords(scanner: Scanner, address: string, at: number): { words: number[]; flag: number } {
  const bytes = new Uint8Array(16);
  const bare = address.startsWith('[') ? address.slice(1, -1) : address;
  let flag = 0;
  if (parseIpv4Into(bare, bytes, 0)) flag = NatFlag.IPV4;
  else if (parseIpv6Into(bare, bytes, 0)) flag = NatFlag.IPV6;
  else scanner.failAt(at, 'an IP address expected');
  return { words: packBytes(bytes), flag };
}
