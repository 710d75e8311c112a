/**
 * Flow keys and masks out of their attributes, with the rules of openvswitch.ko: what must be there, what may be masked, which
 * bits are matched whether the mask says so or not. key-encode.ts is the way back, match-rules.ts says what belongs together.
 */

import { KEY_WORDS, KeyAttribute, L3_MARKER, MPLS_DEPTH, TAG_PRESENT, Word } from '../../../flow/index.ts';
import { EtherType } from '../../../net/index.ts';
import { PORTS_MAXIMUM } from '../abi.ts';
import { be16At, be32At, eachNested, u32At } from '../attributes.ts';
import { Errno, OvsError } from '../errors.ts';
import { NO_PORT } from '../port-number.ts';
import { paddingIsZero, writeStructure } from './key-attribute.ts';
import { isConnection, isNest, KeyAttributes } from './key-attributes.ts';
import { checkKey, checkMask } from './match-rules.ts';
import { decodeNshKey } from './nsh.ts';
import { decodeTunnel } from './tunnel.ts';

/** A key with its mask. */
export interface DecodedMatch {
  readonly key: Uint32Array;
  readonly mask: Uint32Array;
}

/** Of the key and the mask that are being read. */
const keyAttributes = new KeyAttributes();
const maskAttributes = new KeyAttributes();

const refuse = (reason: string): never => {
  throw new OvsError(Errno.EINVAL, `flow key: ${reason}`);
};

/** The tags and what is behind them: takes VLAN and ENCAP away and puts the encapsulated attributes in their place. */
function decodeTags(attributes: KeyAttributes, words: Uint32Array): number {
  let tags = 0;
  while (tags < 2) {
    const type = attributes.be16(KeyAttribute.ETHERTYPE);
    if (!attributes.has(KeyAttribute.ETHERNET) && tags === 0) return tags;
    if (!isTag(type)) return tags;
    const value = attributes.be16(KeyAttribute.VLAN);
    if (value === -1 || !attributes.has(KeyAttribute.ENCAP)) return refuse('a tag without TCI or content');
    const isEmpty = attributes.starts[KeyAttribute.ENCAP] === attributes.ends[KeyAttribute.ENCAP];
    if ((value & TAG_PRESENT) === 0 && (value !== 0 || !isEmpty)) refuse('a TCI without its CFI bit');
    words[Word.VLAN + tags] = (type << 16) | value;
    attributes.unwrap();
    tags += 1;
    if ((value & TAG_PRESENT) === 0) return tags;
  }
  return tags;
}

function isTag(etherType: number): boolean {
  return etherType === EtherType.VLAN || etherType === EtherType.SERVICE_VLAN;
}

/**
 * The masks of as many tags as the key has. ovs-vswitchd names every tag of a packet, with a TCI mask of 0 where no rule looks at it. An
 * attribute that is all 0 counts as absent, and openvswitch.ko takes what it has read last in its place: of the tag outside, else of
 * the key. So the mask of a TCI that nobody asked about is the key's own TCI, and with it the bit that says that there is a tag.
 */
function decodeTagMasks(attributes: KeyAttributes, words: Uint32Array, key: Uint32Array, tags: number): void {
  let tpidMask = key[Word.ETH_TYPE] >>> 16;
  let tciMask = tags === 0 ? 0 : key[Word.VLAN + tags - 1] & 0xffff;
  for (let tag = 0; tag < tags; tag += 1) {
    if ((key[Word.VLAN + tag] & TAG_PRESENT) === 0) {
      // Of a tag that was cut off nothing can be left open.
      attributes.remove(KeyAttribute.VLAN);
      break;
    }
    if (!attributes.has(KeyAttribute.ENCAP)) break;
    if (attributes.has(KeyAttribute.ETHERTYPE)) tpidMask = attributes.be16(KeyAttribute.ETHERTYPE);
    if (attributes.has(KeyAttribute.VLAN)) tciMask = attributes.be16(KeyAttribute.VLAN);
    if (tpidMask !== 0xffff) refuse('the TPID must be matched whole');
    if ((tciMask & TAG_PRESENT) === 0) refuse('the bit that says that there is a tag must be matched');
    words[Word.VLAN + tag] = (tpidMask << 16) | tciMask;
    attributes.unwrap();
  }
  if (attributes.has(KeyAttribute.ENCAP)) refuse('a mask of a tag that the key does not have');
}

/** All but the tags. @param key null for a key; for a mask the key that it belongs to */
function decodeRest(attributes: KeyAttributes, words: Uint32Array, key: Uint32Array | null): void {
  const isMask = key !== null;
  const { starts, bytes } = attributes;
  for (let type = 0; type < starts.length; type += 1) {
    if (starts[type] === -1) continue;
    switch (type) {
      case KeyAttribute.TUNNEL:
        decodeTunnel(attributes.content(type), words, key);
        break;
      case KeyAttribute.NSH:
        decodeNshKey(attributes.content(type), words, isMask);
        break;
      case KeyAttribute.MPLS:
        decodeMpls(attributes.content(type), words);
        break;
      case KeyAttribute.VLAN:
        refuse('a TCI without its tag');
        break;
      case KeyAttribute.ENCAP:
        refuse('content of a tag without the tag');
        break;
      default:
        // Bits of ct_state that there are not cannot be asked about either.
        if (!isMask || type === KeyAttribute.CT_STATE) checkStructure(type, bytes, starts[type]);
        writeStructure(type, bytes, words, starts[type]);
    }
  }
  const hasType = attributes.has(KeyAttribute.ETHERTYPE);
  if (isMask) {
    // What is named of these two is matched whole.
    if (attributes.has(KeyAttribute.IN_PORT)) words[Word.IN_PORT] = 0xffff_ffff;
    if (hasType) words[Word.ETH_TYPE] = 0xffff_0000;
    words[Word.ETH_TYPE] |= 0xff;
    return;
  }
  if (!attributes.has(KeyAttribute.IN_PORT)) words[Word.IN_PORT] = NO_PORT;
  if (!hasType) words[Word.ETH_TYPE] = EtherType.LLC << 16;
  else if (!attributes.has(KeyAttribute.ETHERNET)) words[Word.ETH_TYPE] |= L3_MARKER;
}

function decodeMpls(content: Uint8Array, words: Uint32Array): void {
  const labels = content.length / 4;
  if (!Number.isInteger(labels) || labels < 1 || labels > MPLS_DEPTH) refuse(`${content.length} bytes of MPLS`);
  for (let i = 0; i < labels; i += 1) words[Word.MPLS + i] = be32At(content, i * 4);
  words[Word.MPLS_LABELS] = (1 << labels) - 1;
}

/** Values that a structure may not hold. @param at where it begins */
function checkStructure(type: number, bytes: Uint8Array, at: number): void {
  switch (type) {
    case KeyAttribute.IN_PORT:
      if (u32At(bytes, at) >= PORTS_MAXIMUM) refuse(`port ${u32At(bytes, at)}`);
      break;
    case KeyAttribute.ETHERTYPE:
      if (be16At(bytes, at) < 0x0600) refuse('an EtherType that is a length');
      break;
    case KeyAttribute.IPV4:
      if (bytes[at + 11] > 2) refuse(`fragment type ${bytes[at + 11]}`);
      break;
    case KeyAttribute.IPV6:
      if (bytes[at + 39] > 2) refuse(`fragment type ${bytes[at + 39]}`);
      if ((be32At(bytes, at + 32) & 0xfff0_0000) !== 0) refuse('flow label');
      break;
    case KeyAttribute.ARP:
      if (bytes[at + 8] !== 0) refuse('an operation of ARP above 255');
      break;
    case KeyAttribute.CT_STATE:
      if (!paddingIsZero(type, bytes, at)) refuse('bits of ct_state that are not known');
      break;
    default:
      break;
  }
}

/** Bytes of ct_state that have bits with a meaning. */
const CT_STATE_BYTES = 1;

/** The same attributes with every bit set that may be asked about: what an absent mask stands for. */
function exactMask(content: Uint8Array): Uint8Array {
  const mask = content.slice();
  eachNested(mask, (type, value) => {
    if (isNest(type)) value.set(type === KeyAttribute.ENCAP ? exactMask(value) : exactNest(value));
    else value.fill(0xff);
    if (type === KeyAttribute.CT_STATE) value.fill(0, CT_STATE_BYTES);
  });
  return mask;
}

function exactNest(content: Uint8Array): Uint8Array {
  const mask = content.slice();
  eachNested(mask, (type, value) => {
    // The options of VXLAN are the one nest among tunnel attributes.
    if (type === 11) value.set(exactNest(value));
    else value.fill(0xff);
  });
  return mask;
}

/** Room for a key and its mask. */
export function newMatch(): DecodedMatch {
  return { key: new Uint32Array(KEY_WORDS), mask: new Uint32Array(KEY_WORDS) };
}

/**
 * A key and the mask that belongs to it.
 * @param mask null to match the key exactly
 * @param into what is overwritten and returned; new when left out
 * @throws OvsError EINVAL
 */
export function decodeMatch(key: Uint8Array, mask: Uint8Array | null, into: DecodedMatch = newMatch()): DecodedMatch {
  const { key: words, mask: maskWords } = into;
  const tags = decodeKeyInto(key, words);
  maskWords.fill(0);
  maskAttributes.read(mask ?? exactMask(key), true);
  // Tags are matched, their absence too, where the mask does not say otherwise.
  maskWords[Word.VLAN] = 0xffff_ffff;
  maskWords[Word.INNER_VLAN] = 0xffff_ffff;
  decodeTagMasks(maskAttributes, maskWords, words, tags);
  decodeRest(maskAttributes, maskWords, words);
  if (mask === null && words[Word.TUNNEL_IP] >>> 24 !== 0) maskWords.fill(0xffff_ffff, Word.TUNNEL);
  checkMask(words, keyAttributes, maskWords, maskAttributes);
  return into;
}

/** @returns how many tags the key has */
function decodeKeyInto(content: Uint8Array, words: Uint32Array): number {
  words.fill(0);
  keyAttributes.read(content, false);
  const tags = decodeTags(keyAttributes, words);
  if (!keyAttributes.has(KeyAttribute.ETHERNET) && !keyAttributes.has(KeyAttribute.ETHERTYPE)) {
    refuse('neither an Ethernet header nor an EtherType');
  }
  decodeRest(keyAttributes, words, null);
  checkKey(words, keyAttributes);
  return tags;
}

/** A key alone, as look-ups and deletions bring it. @throws OvsError EINVAL */
export function decodeKey(content: Uint8Array): Uint32Array {
  const words = new Uint32Array(KEY_WORDS);
  decodeKeyInto(content, words);
  return words;
}

/**
 * The metadata of a key: what a packet to be executed brings besides its bytes. Layers 2 to 4 are taken from the packet.
 * @param words the key's words, which are overwritten
 * @returns EtherType of a packet without an Ethernet header, 0 for a frame
 * @throws OvsError EINVAL
 */
export function decodeMetadata(content: Uint8Array, words: Uint32Array): number {
  const attributes = keyAttributes;
  attributes.read(content, false);
  words.fill(0);
  const l3Type = attributes.has(KeyAttribute.ETHERNET) ? 0 : Math.max(attributes.be16(KeyAttribute.ETHERTYPE), 0);
  for (let type = 0; type < attributes.starts.length; type += 1) if (!isMetadata(type)) attributes.remove(type);
  decodeRest(attributes, words, null);
  words[Word.ETH_TYPE] = 0;
  return l3Type;
}

function isMetadata(type: number): boolean {
  switch (type) {
    case KeyAttribute.RECIRC_ID:
    case KeyAttribute.DP_HASH:
    case KeyAttribute.PRIORITY:
    case KeyAttribute.IN_PORT:
    case KeyAttribute.SKB_MARK:
    case KeyAttribute.TUNNEL:
      return true;
    default:
      return isConnection(type);
  }
}
