/** The arguments of the larger actions, each judged by itself. Part of validate.ts; every function returns why not, or null. */
import { KeyAttribute } from '../key/fields.ts';
import { TunnelOptions, Word } from '../key/layout.ts';
import {
  Action,
  Ct,
  CtFlag,
  NatFlag,
  setLayout,
  TUNNEL_BASE_WORDS,
  tunnelOptionsBytes,
  Userspace,
  UserspaceFlag,
} from './encoding.ts';

/** Longest names of a connection tracking helper and timeout policy, their closing zero not counted (linux/netfilter). */
const HELPER_MAXIMUM_BYTES = 15;
const TIMEOUT_MAXIMUM_BYTES = 31;

/** Longest metadata of an NSH header in bytes: its length field counts 63 words of 4 bytes, the base header included. */
const NSH_METADATA_MAXIMUM_BYTES = 244;
const NSH_MD1_BYTES = 16;

/** The bits of the key's NSH word that flags (2 bits) and TTL (6 bits) do not have in the header. */
const NSH_FLAGS_TTL_EXCESS = 0xfcc0_0000;

export function userspaceFlaw(words: Int32Array, at: number, length: number): string | null {
  if (length < Userspace.USERDATA) return `${length} words are too few`;
  const bytes = words[at + Userspace.USERDATA_BYTES];
  if (bytes < 0 || length !== Userspace.USERDATA + Math.ceil(bytes / 4))
    return `userdata of ${bytes} bytes does not fit`;
  if (bytes > 0 && (words[at + Userspace.FLAGS] & UserspaceFlag.USERDATA) === 0) return 'userdata without its flag';
  return words[at + Userspace.PID] === 0 ? 'pid 0 is nobody' : null;
}

/** Shape and bits of a set; whether the packet has the header is for the caller. */
export function setFlaw(words: Int32Array, at: number, type: number, length: number, key: Uint32Array): string | null {
  const attribute = words[at + 1];
  const layout = setLayout(attribute);
  if (layout === undefined) return `attribute ${attribute} cannot be set`;
  if (length !== 2 + layout.length * 2) return `${length} words instead of ${2 + layout.length * 2}`;
  for (let i = 0; i < layout.length; i += 1) {
    const value = words[at + 2 + i * 2];
    const mask = words[at + 3 + i * 2];
    if ((value & ~mask) !== 0) return 'a value has bits outside of its mask';
    if (layout[i].word === Word.NSH_BASE && attribute === KeyAttribute.NSH && (value & NSH_FLAGS_TTL_EXCESS) !== 0) {
      return 'flags or TTL are too large';
    }
    if ((mask & ~layout[i].bits) !== 0) return 'a mask has bits that are not of the attribute';
    if (type === Action.SET_MASKED) {
      if ((mask & ~layout[i].writable) !== 0) return 'a mask covers a field that cannot be changed';
    } else if (mask !== (layout[i].bits | 0)) {
      return 'the mask of a whole set must cover the attribute';
    } else if (
      ((value ^ key[layout[i].word]) & ~layout[i].writable & layout[i].bits) !== 0 &&
      attribute !== KeyAttribute.NSH
    ) {
      return "a field that cannot be changed differs from the flow's key";
    }
  }
  return null;
}

export function setTunnelFlaw(words: Int32Array, at: number, length: number): string | null {
  if (length < 2 + TUNNEL_BASE_WORDS) return `${length} words are too few`;
  const word = (index: number) => words[at + 2 + index - Word.TUNNEL];
  const optionsBytes = tunnelOptionsBytes(word(Word.TUNNEL_FLAGS));
  if (length !== 2 + TUNNEL_BASE_WORDS + Math.ceil(optionsBytes / 4))
    return `options of ${optionsBytes} bytes do not fit`;
  const version = word(Word.TUNNEL_IP) >>> 24;
  if (version !== 4 && version !== 6) return 'neither IPv4 nor IPv6';
  const addressWords = version === 6 ? 4 : 1;
  let destination = 0;
  for (let i = 0; i < addressWords; i += 1) destination |= word(Word.TUNNEL_DESTINATION + i);
  if (destination === 0) return 'no destination';
  const kind = word(Word.TUNNEL_IP) & 0xff;
  switch (kind) {
    case TunnelOptions.NONE:
      return optionsBytes === 0 ? null : 'options of no kind';
    case TunnelOptions.GENEVE:
      return geneveFlaw(words, at + 2 + TUNNEL_BASE_WORDS, optionsBytes);
    case TunnelOptions.VXLAN_GBP:
      return optionsBytes === 4 ? null : 'the options of VXLAN take 4 bytes';
    case TunnelOptions.ERSPAN:
      return optionsBytes === 8 ? null : 'the options of ERSPAN take 8 bytes';
    default:
      return `unknown kind of options ${kind}`;
  }
}

/** Each option says its own length, in words behind its 4-byte head (RFC 8926, section 3.5). */
function geneveFlaw(words: Int32Array, from: number, lengthBytes: number): string | null {
  if ((lengthBytes & 3) !== 0) return 'Geneve options are whole words';
  const count = lengthBytes / 4;
  let at = 0;
  while (at < count) at += 1 + (words[from + at] & 0x1f);
  return at === count ? null : 'the Geneve options do not end where they should';
}

export function pushNshFlaw(words: Int32Array, at: number, length: number): string | null {
  if (length < 4) return `${length} words are too few`;
  const base = words[at + 1];
  const metadataBytes = words[at + 3];
  if (metadataBytes < 0 || length !== 4 + Math.ceil(metadataBytes / 4)) return 'its metadata does not fit';
  if ((base & NSH_FLAGS_TTL_EXCESS) !== 0) return 'flags or TTL are too large';
  const metadataType = (base >>> 8) & 0xff;
  if (metadataType === 1) return metadataBytes === NSH_MD1_BYTES ? null : 'metadata of type 1 takes 16 bytes';
  if (metadataType !== 2) return `unknown metadata type ${metadataType}`;
  if ((metadataBytes & 3) !== 0 || metadataBytes > NSH_METADATA_MAXIMUM_BYTES) {
    return `metadata of ${metadataBytes} bytes does not fit the header`;
  }
  return null;
}

export function ctFlaw(words: Int32Array, at: number, length: number): string | null {
  if (length < Ct.NAMES) return `${length} words are too few`;
  const flags = words[at + Ct.FLAGS];
  const commits = (flags & (CtFlag.COMMIT | CtFlag.FORCE)) !== 0;
  const helperBytes = words[at + Ct.NAME_BYTES] >>> 16;
  const timeoutBytes = words[at + Ct.NAME_BYTES] & 0xffff;
  if (length !== Ct.NAMES + Math.ceil(helperBytes / 4) + Math.ceil(timeoutBytes / 4)) return 'its names do not fit';
  if (helperBytes > HELPER_MAXIMUM_BYTES) return `a helper's name of ${helperBytes} bytes is too long`;
  if (timeoutBytes > TIMEOUT_MAXIMUM_BYTES) return `a timeout policy's name of ${timeoutBytes} bytes is too long`;
  const zone = words[at + Ct.ZONE];
  if (zone < 0 || zone > 0xffff) return `zone ${zone} is not within 0 to 65535`;
  if ((flags & CtFlag.MARK) !== 0) {
    if (!commits && words[at + Ct.MARK_MASK] !== 0) return 'only a commit sets the mark';
    if ((words[at + Ct.MARK] & ~words[at + Ct.MARK_MASK]) !== 0) return 'the mark has bits outside of its mask';
  }
  if ((flags & CtFlag.LABEL) !== 0) {
    for (let i = 0; i < 4; i += 1) {
      const mask = words[at + Ct.LABEL_MASK + i];
      if (!commits && mask !== 0) return 'only a commit sets the label';
      if ((words[at + Ct.LABEL + i] & ~mask) !== 0) return 'the label has bits outside of its mask';
    }
  }
  return natFlaw(words, at, commits);
}

function natFlaw(words: Int32Array, at: number, commits: boolean): string | null {
  const nat = words[at + Ct.NAT_FLAGS];
  if (nat === 0) return null;
  if ((words[at + Ct.FLAGS] & CtFlag.NAT) === 0) return 'arguments of NAT without NAT';
  const direction = nat & (NatFlag.SOURCE | NatFlag.DESTINATION);
  if (direction === (NatFlag.SOURCE | NatFlag.DESTINATION)) return 'NAT of source and destination at once';
  if (direction === 0) return 'a range for NAT of neither source nor destination';
  if (!commits) return 'only a commit chooses a translation';
  if ((nat & NatFlag.IPV4) !== 0 && (nat & NatFlag.IPV6) !== 0) return 'NAT to IPv4 and IPv6 at once';
  const hash = NatFlag.PROTO_HASH | NatFlag.PROTO_RANDOM;
  if ((nat & hash) === hash) return 'ports by hash and at random at once';
  const ports = words[at + Ct.NAT_PORTS];
  if ((nat & NatFlag.PORTS) !== 0 && (ports & 0xffff) < ports >>> 16) return 'the highest port is below the lowest';
  return null;
}
