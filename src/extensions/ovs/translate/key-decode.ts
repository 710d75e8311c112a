/**
 * Flow keys and masks out of their attributes, with the rules of openvswitch.ko: what must be there, what may be masked, which
 * bits are matched whether the mask says so or not. key-encode.ts is the way back, match-rules.ts says what belongs together.
 */

import { KEY_WORDS, KeyAttribute, L3_MARKER, MPLS_DEPTH, TAG_PRESENT, Word } from '../../../flow/index.ts';
import { EtherType } from '../../../net/index.ts';
import { PORTS_MAXIMUM } from '../abi.ts';
import { be16At, be32At, eachNested, u32At } from '../attributes.ts';
import { Errno, OvsError } from '../errors.ts';
import { paddingIsZero, structureBytes, writeStructure } from './key-attribute.ts';
import { checkMatch } from './match-rules.ts';
import { decodeNshKey } from './nsh.ts';
import { decodeTunnel } from './tunnel.ts';

const LAST_ATTRIBUTE = KeyAttribute.IPV6_EXTHDRS;
/** Attributes that never come from outside: two that Open vSwitch uses in itself, and the kernel's own. */
const FOREIGN = new Set<number>([KeyAttribute.PACKET_TYPE, 30, 31]);
const CONNECTION = new Set<number>([
  KeyAttribute.CT_STATE,
  KeyAttribute.CT_ZONE,
  KeyAttribute.CT_MARK,
  KeyAttribute.CT_LABELS,
  KeyAttribute.CT_ORIG_TUPLE_IPV4,
  KeyAttribute.CT_ORIG_TUPLE_IPV6,
]);
/** OVS_KEY_ATTR_* whose content is attributes, besides which there are MPLS (of variable length) and VLAN. */
const NESTS = new Set<number>([KeyAttribute.ENCAP, KeyAttribute.TUNNEL, KeyAttribute.NSH]);

/** What the datapath can do, as far as keys show it. */
export interface KeyCapabilities {
  /** Connections are tracked: ct fields can be matched. */
  readonly connections: boolean;
}

/** A key with its mask. */
export interface DecodedMatch {
  readonly key: Uint32Array;
  readonly mask: Uint32Array;
}

type AttributeMap = Map<number, Uint8Array>;

const refuse = (reason: string): never => {
  throw new OvsError(Errno.EINVAL, `flow key: ${reason}`);
};

/** Split one level of attributes. @param isMask attributes that are all 0 count as absent */
function split(content: Uint8Array, isMask: boolean, capabilities: KeyCapabilities): AttributeMap {
  const attributes: AttributeMap = new Map();
  eachNested(content, (type, value) => {
    if (type === 0 || type > LAST_ATTRIBUTE || FOREIGN.has(type)) refuse(`attribute ${type} is not known`);
    if (CONNECTION.has(type) && !capabilities.connections) refuse(`attribute ${type}: connections are not tracked`);
    if (attributes.has(type)) refuse(`attribute ${type} comes twice`);
    const expected = type === KeyAttribute.VLAN ? 2 : structureBytes(type);
    if (expected >= 0 && value.length !== expected) refuse(`attribute ${type} has ${value.length} bytes`);
    if (isMask && !NESTS.has(type) && value.every((byte) => byte === 0)) return;
    attributes.set(type, value);
  });
  return attributes;
}

/** The tags and what is behind them: takes VLAN and ENCAP out of the map and merges the encapsulated attributes in. */
function decodeTags(attributes: AttributeMap, words: Uint32Array, capabilities: KeyCapabilities): number {
  let tags = 0;
  while (tags < 2) {
    const type = attributes.get(KeyAttribute.ETHERTYPE);
    if (!attributes.has(KeyAttribute.ETHERNET) && tags === 0) return tags;
    if (type === undefined || !isTag(be16At(type, 0))) return tags;
    const tci = attributes.get(KeyAttribute.VLAN);
    const inner = attributes.get(KeyAttribute.ENCAP);
    if (tci === undefined || inner === undefined) return refuse('a tag without TCI or content');
    const value = be16At(tci, 0);
    if ((value & TAG_PRESENT) === 0 && (value !== 0 || inner.length > 0)) refuse('a TCI without its CFI bit');
    words[Word.VLAN + tags] = (be16At(type, 0) << 16) | value;
    attributes.delete(KeyAttribute.VLAN);
    attributes.delete(KeyAttribute.ENCAP);
    attributes.delete(KeyAttribute.ETHERTYPE);
    for (const [each, content] of split(inner, false, capabilities)) attributes.set(each, content);
    tags += 1;
    if ((value & TAG_PRESENT) === 0) return tags;
  }
  return tags;
}

function isTag(etherType: number): boolean {
  return etherType === EtherType.VLAN || etherType === EtherType.SERVICE_VLAN;
}

/** The masks of as many tags as the key has. */
function decodeTagMasks(
  attributes: AttributeMap,
  words: Uint32Array,
  tags: number,
  capabilities: KeyCapabilities,
): void {
  for (let tag = 0; tag < tags; tag += 1) {
    const inner = attributes.get(KeyAttribute.ENCAP);
    if (inner === undefined) break;
    const tci = attributes.get(KeyAttribute.VLAN);
    const type = attributes.get(KeyAttribute.ETHERTYPE);
    const tpidMask = type === undefined ? 0 : be16At(type, 0);
    if (tpidMask !== 0xffff) refuse('the TPID must be matched whole');
    const tciMask = tci === undefined ? 0 : be16At(tci, 0);
    if ((tciMask & TAG_PRESENT) === 0) refuse('the bit that says that there is a tag must be matched');
    words[Word.VLAN + tag] = (tpidMask << 16) | tciMask;
    attributes.delete(KeyAttribute.VLAN);
    attributes.delete(KeyAttribute.ENCAP);
    attributes.delete(KeyAttribute.ETHERTYPE);
    for (const [each, content] of split(inner, true, capabilities)) attributes.set(each, content);
  }
  if (attributes.has(KeyAttribute.ENCAP)) refuse('a mask of a tag that the key does not have');
}

/** All but the tags. @param key null for a key; for a mask the key that it belongs to */
function decodeRest(attributes: AttributeMap, words: Uint32Array, key: Uint32Array | null): void {
  const isMask = key !== null;
  for (const [type, content] of attributes) {
    switch (type) {
      case KeyAttribute.TUNNEL:
        decodeTunnel(content, words, key);
        break;
      case KeyAttribute.NSH:
        decodeNshKey(content, words, isMask);
        break;
      case KeyAttribute.MPLS:
        decodeMpls(content, words);
        break;
      case KeyAttribute.VLAN:
        // A mask of the TCI for a key without tag: exactly matched in any case.
        if (!isMask) refuse('a TCI without its tag');
        break;
      case KeyAttribute.ENCAP:
        refuse('content of a tag without the tag');
        break;
      default:
        if (!isMask) checkStructure(type, content);
        writeStructure(type, content, words);
    }
  }
  const hasType = attributes.has(KeyAttribute.ETHERTYPE);
  if (isMask) {
    words[Word.IN_PORT] = 0xffff_ffff;
    if (hasType) words[Word.ETH_TYPE] = 0xffff_0000;
    words[Word.ETH_TYPE] |= 0xff;
    return;
  }
  if (!attributes.has(KeyAttribute.IN_PORT)) words[Word.IN_PORT] = PORTS_MAXIMUM;
  if (!hasType) words[Word.ETH_TYPE] = EtherType.LLC << 16;
  else if (!attributes.has(KeyAttribute.ETHERNET)) words[Word.ETH_TYPE] |= L3_MARKER;
}

function decodeMpls(content: Uint8Array, words: Uint32Array): void {
  const labels = content.length / 4;
  if (!Number.isInteger(labels) || labels < 1 || labels > MPLS_DEPTH) refuse(`${content.length} bytes of MPLS`);
  for (let i = 0; i < labels; i += 1) words[Word.MPLS + i] = be32At(content, i * 4);
  words[Word.MPLS_LABELS] = (1 << labels) - 1;
}

/** Values that a structure may not hold. */
function checkStructure(type: number, content: Uint8Array): void {
  switch (type) {
    case KeyAttribute.IN_PORT:
      if (u32At(content, 0) >= PORTS_MAXIMUM) refuse(`port ${u32At(content, 0)}`);
      break;
    case KeyAttribute.ETHERTYPE:
      if (be16At(content, 0) < 0x0600) refuse('an EtherType that is a length');
      break;
    case KeyAttribute.IPV4:
      if (content[11] > 2) refuse(`fragment type ${content[11]}`);
      break;
    case KeyAttribute.IPV6:
      if (content[39] > 2) refuse(`fragment type ${content[39]}`);
      if ((be32At(content, 32) & 0xfff0_0000) !== 0) refuse('flow label');
      break;
    case KeyAttribute.ARP:
      if (content[8] !== 0) refuse('an operation of ARP above 255');
      break;
    case KeyAttribute.CT_STATE:
      if (!paddingIsZero(type, content)) refuse('bits of ct_state that are not known');
      break;
    default:
      break;
  }
}

/** The same attributes with every bit set: what an absent mask stands for. */
function exactMask(content: Uint8Array): Uint8Array {
  const mask = content.slice();
  eachNested(mask, (type, value) => {
    if (NESTS.has(type)) value.set(type === KeyAttribute.ENCAP ? exactMask(value) : exactNest(value));
    else value.fill(0xff);
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

/**
 * A key and the mask that belongs to it.
 * @param mask null to match the key exactly
 * @throws OvsError EINVAL
 */
export function decodeMatch(key: Uint8Array, mask: Uint8Array | null, capabilities: KeyCapabilities): DecodedMatch {
  const words = new Uint32Array(KEY_WORDS);
  const attributes = split(key, false, capabilities);
  const tags = decodeTags(attributes, words, capabilities);
  decodeRest(attributes, words, null);
  const maskWords = new Uint32Array(KEY_WORDS);
  const maskAttributes = split(mask ?? exactMask(key), true, capabilities);
  // Tags are matched, their absence too, where the mask does not say otherwise.
  maskWords[Word.VLAN] = 0xffff_ffff;
  maskWords[Word.INNER_VLAN] = 0xffff_ffff;
  decodeTagMasks(maskAttributes, maskWords, tags, capabilities);
  decodeRest(maskAttributes, maskWords, words);
  if (mask === null && words[Word.TUNNEL_IP] >>> 24 !== 0) maskWords.fill(0xffff_ffff, Word.TUNNEL);
  checkMatch(words, new Set(attributes.keys()), maskWords, mask === null ? null : new Set(maskAttributes.keys()));
  return { key: words, mask: maskWords };
}

/** A key alone, as look-ups and deletions bring it. @throws OvsError EINVAL */
export function decodeKey(content: Uint8Array, capabilities: KeyCapabilities): Uint32Array {
  return decodeMatch(content, null, capabilities).key;
}

/**
 * The metadata of a key: what a packet to be executed brings besides its bytes. Layers 2 to 4 are taken from the packet.
 * @throws OvsError EINVAL
 */
export function decodeMetadata(
  content: Uint8Array,
  capabilities: KeyCapabilities,
): { words: Uint32Array; l3Type: number } {
  const attributes = split(content, false, capabilities);
  const words = new Uint32Array(KEY_WORDS);
  const type = attributes.get(KeyAttribute.ETHERTYPE);
  const isL3 = type !== undefined && !attributes.has(KeyAttribute.ETHERNET);
  for (const each of [...attributes.keys()]) {
    const isMetadata =
      each === KeyAttribute.RECIRC_ID ||
      each === KeyAttribute.DP_HASH ||
      each === KeyAttribute.PRIORITY ||
      each === KeyAttribute.IN_PORT ||
      each === KeyAttribute.SKB_MARK ||
      each === KeyAttribute.TUNNEL ||
      CONNECTION.has(each);
    if (!isMetadata) attributes.delete(each);
  }
  decodeRest(attributes, words, null);
  words[Word.ETH_TYPE] = 0;
  return { words, l3Type: isL3 ? be16At(type, 0) : 0 };
}
