/** The tunnel part of a key, between OVS_TUNNEL_KEY_ATTR_* and flow/'s words: for keys, masks, set actions and upcalls. */
import {
  setKeyByte,
  TUNNEL_OPTIONS_MAXIMUM,
  TunnelFlag,
  TunnelOptions,
  unpackBytes,
  Word,
} from '../../../flow/index.ts';
import type { MessageWriter } from '../../../netlink/index.ts';
import { be16At, be32At, beginNest, eachNested, u32At } from '../attributes.ts';
import { Errno, OvsError } from '../errors.ts';

const Tunnel = {
  ID: 0,
  IPV4_SRC: 1,
  IPV4_DST: 2,
  TOS: 3,
  TTL: 4,
  DONT_FRAGMENT: 5,
  CSUM: 6,
  OAM: 7,
  GENEVE_OPTS: 8,
  TP_SRC: 9,
  TP_DST: 10,
  VXLAN_OPTS: 11,
  IPV6_SRC: 12,
  IPV6_DST: 13,
  PAD: 14,
} as const;

const LENGTHS: readonly number[] = [8, 4, 4, 1, 1, 0, 0, 0, -1, 2, 2, -1, 16, 16, 0];
const VXLAN_GBP = 1;

const refuse = (reason: string): never => {
  throw new OvsError(Errno.EINVAL, `tunnel: ${reason}`);
};

/**
 * Read a tunnel into a key or mask whose tunnel words are 0.
 * @param key for a mask: the key that it belongs to; else null
 * @throws OvsError EINVAL
 */
export function decodeTunnel(content: Uint8Array, words: Uint32Array, key: Uint32Array | null): void {
  const seen = new Set<number>();
  let flags = 0;
  let kind: number = TunnelOptions.NONE;
  let optionsBytes = 0;
  let tos = 0;
  let ttl = 0;
  eachNested(content, (type, value) => {
    const length = type < LENGTHS.length ? LENGTHS[type] : -2;
    if (length === -2) refuse(`attribute ${type} is not known`);
    if (length >= 0 && value.length !== length) refuse(`attribute ${type} has ${value.length} bytes, not ${length}`);
    seen.add(type);
    switch (type) {
      case Tunnel.ID:
        words[Word.TUNNEL_ID] = be32At(value, 0);
        words[Word.TUNNEL_ID + 1] = be32At(value, 4);
        flags |= TunnelFlag.KEY;
        break;
      case Tunnel.IPV4_SRC:
        words[Word.TUNNEL_SOURCE] = be32At(value, 0);
        break;
      case Tunnel.IPV4_DST:
        words[Word.TUNNEL_DESTINATION] = be32At(value, 0);
        break;
      case Tunnel.IPV6_SRC:
        for (let i = 0; i < 4; i += 1) words[Word.TUNNEL_SOURCE + i] = be32At(value, i * 4);
        break;
      case Tunnel.IPV6_DST:
        for (let i = 0; i < 4; i += 1) words[Word.TUNNEL_DESTINATION + i] = be32At(value, i * 4);
        break;
      case Tunnel.TOS:
        tos = value[0];
        break;
      case Tunnel.TTL:
        ttl = value[0];
        break;
      case Tunnel.DONT_FRAGMENT:
        flags |= TunnelFlag.DONT_FRAGMENT;
        break;
      case Tunnel.CSUM:
        flags |= TunnelFlag.CHECKSUM;
        break;
      case Tunnel.OAM:
        flags |= TunnelFlag.OAM;
        break;
      case Tunnel.TP_SRC:
        words[Word.TUNNEL_PORTS] = (words[Word.TUNNEL_PORTS] & 0xffff) | (be16At(value, 0) << 16);
        break;
      case Tunnel.TP_DST:
        words[Word.TUNNEL_PORTS] = (words[Word.TUNNEL_PORTS] & 0xffff_0000) | be16At(value, 0);
        break;
      case Tunnel.GENEVE_OPTS:
        if (kind !== TunnelOptions.NONE) refuse('options of two kinds');
        if (value.length % 4 !== 0 || value.length > TUNNEL_OPTIONS_MAXIMUM) refuse('length of the Geneve options');
        kind = TunnelOptions.GENEVE;
        optionsBytes = value.length;
        for (let i = 0; i < value.length; i += 1) setKeyByte(words, Word.TUNNEL_OPTIONS * 4 + i, value[i]);
        break;
      case Tunnel.VXLAN_OPTS:
        if (kind !== TunnelOptions.NONE) refuse('options of two kinds');
        kind = TunnelOptions.VXLAN_GBP;
        optionsBytes = 4;
        eachNested(value, (extension, policy) => {
          if (extension !== VXLAN_GBP || policy.length !== 4) refuse(`VXLAN extension ${extension}`);
          words[Word.TUNNEL_OPTIONS] = u32At(policy, 0);
        });
        break;
      default:
        break;
    }
  });
  const isIpv4 = seen.has(Tunnel.IPV4_SRC) || seen.has(Tunnel.IPV4_DST);
  const isIpv6 = seen.has(Tunnel.IPV6_SRC) || seen.has(Tunnel.IPV6_DST);
  if (isIpv4 && isIpv6) refuse('IPv4 and IPv6 at once');
  if (key === null) {
    if (!isIpv4 && !isIpv6) refuse('no destination address');
    if (isZero(words, Word.TUNNEL_DESTINATION, isIpv4 ? 1 : 4)) refuse('destination address 0');
    if (!seen.has(Tunnel.TTL)) refuse('no TTL');
    words[Word.TUNNEL_IP] = ((isIpv4 ? 4 : 6) << 24) | (tos << 16) | (ttl << 8) | kind;
    words[Word.TUNNEL_FLAGS] = (flags << 16) | (optionsBytes << 8);
    return;
  }
  if (kind === TunnelOptions.GENEVE && optionsBytes !== ((key[Word.TUNNEL_FLAGS] >>> 8) & 0xff)) {
    refuse('options of mask and key differ in length');
  }
  // The version is always matched; of options that are named, the kind and the length, whatever bits of them count.
  const options = kind === TunnelOptions.NONE ? 0 : 0xff;
  words[Word.TUNNEL_IP] = (0xff << 24) | (tos << 16) | (ttl << 8) | options;
  words[Word.TUNNEL_FLAGS] = (flags << 16) | (options << 8);
}

function isZero(words: Uint32Array, from: number, count: number): boolean {
  for (let i = 0; i < count; i += 1) if (words[from + i] !== 0) return false;
  return true;
}

/**
 * Write the tunnel of a key, or of the mask that belongs to it, inside an attribute.
 * @param key tells the address family and the options
 * @param output the words to write: the key itself or the mask
 */
export function encodeTunnel(
  writer: MessageWriter,
  attribute: number,
  key: Uint32Array,
  output: Uint32Array = key,
  offset = 0,
): void {
  const word = (index: number) => output[index - offset];
  const keyIp = key[Word.TUNNEL_IP - offset];
  const optionsBytes = (key[Word.TUNNEL_FLAGS - offset] >>> 8) & 0xff;
  const flags = word(Word.TUNNEL_FLAGS) >>> 16;
  const nest = beginNest(writer, attribute);
  if ((flags & TunnelFlag.KEY) !== 0) {
    writer.be64(Tunnel.ID, (BigInt(word(Word.TUNNEL_ID) >>> 0) << 32n) | BigInt(word(Word.TUNNEL_ID + 1) >>> 0));
  }
  if (keyIp >>> 24 === 6) {
    addresses(writer, Tunnel.IPV6_SRC, output, Word.TUNNEL_SOURCE - offset, 4);
    addresses(writer, Tunnel.IPV6_DST, output, Word.TUNNEL_DESTINATION - offset, 4);
  } else {
    addresses(writer, Tunnel.IPV4_SRC, output, Word.TUNNEL_SOURCE - offset, 1);
    addresses(writer, Tunnel.IPV4_DST, output, Word.TUNNEL_DESTINATION - offset, 1);
  }
  const ip = word(Word.TUNNEL_IP);
  if (((ip >>> 16) & 0xff) !== 0) writer.u8(Tunnel.TOS, (ip >>> 16) & 0xff);
  writer.u8(Tunnel.TTL, (ip >>> 8) & 0xff);
  if ((flags & TunnelFlag.DONT_FRAGMENT) !== 0) writer.flag(Tunnel.DONT_FRAGMENT);
  if ((flags & TunnelFlag.CHECKSUM) !== 0) writer.flag(Tunnel.CSUM);
  const ports = word(Word.TUNNEL_PORTS);
  if (ports >>> 16 !== 0) writer.be16(Tunnel.TP_SRC, ports >>> 16);
  if ((ports & 0xffff) !== 0) writer.be16(Tunnel.TP_DST, ports & 0xffff);
  if ((flags & TunnelFlag.OAM) !== 0) writer.flag(Tunnel.OAM);
  const kind = keyIp & 0xff;
  if (kind === TunnelOptions.GENEVE) {
    writer.bytes(Tunnel.GENEVE_OPTS, unpackBytes(output, Word.TUNNEL_OPTIONS - offset, optionsBytes));
  } else if (kind === TunnelOptions.VXLAN_GBP) {
    const options = beginNest(writer, Tunnel.VXLAN_OPTS);
    writer.u32(VXLAN_GBP, word(Word.TUNNEL_OPTIONS) >>> 0);
    writer.endNested(options);
  }
  writer.endNested(nest);
}

function addresses(writer: MessageWriter, type: number, words: Uint32Array, from: number, count: number): void {
  const bytes = unpackBytes(words, from, count * 4);
  if (bytes.some((byte) => byte !== 0)) writer.bytes(type, bytes);
}
