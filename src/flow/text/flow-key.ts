/**
 * Keys with masks in Open vSwitch's flow syntax, as `ovs-dpctl` reads and writes them. What the syntax leaves unsaid follows the
 * kernel: a field that is not named does not count, save that tags and the Ethernet header always do: a flow without vlan(...)
 * matches untagged packets only, and one without packet_type(ns=1,...) packets with an Ethernet header only.
 */
import { EtherType } from '../../net/index.ts';
import { FIELD_GROUPS, groupNamed, hasAttribute, KeyAttribute } from '../key/fields.ts';
import { isMpls, KEY_WORDS, L3_MARKER, MPLS_DEPTH, TAG_PRESENT, Word } from '../key/layout.ts';
import { emptyKeyAndMask, formatFields, formatGroup, type KeyAndMask, parseFields } from './groups.ts';
import { formatMpls, parseMpls } from './mpls.ts';
import { Scanner } from './scanner.ts';
import { formatTunnel, parseTunnel } from './tunnel.ts';

/** Groups before layer 2, behind which layer 2 is written. */
const METADATA_END = FIELD_GROUPS.findIndex((group) => group.attribute === KeyAttribute.ETHERNET);
const ETHERNET = FIELD_GROUPS[METADATA_END];
const NETWORK = FIELD_GROUPS.slice(METADATA_END + 2);

/**
 * A key under a mask as text.
 * @param mask every bit counts when left out
 */
export function formatFlowKey(
  key: Uint32Array,
  mask: Uint32Array = new Uint32Array(KEY_WORDS).fill(0xffff_ffff),
): string {
  const words = { key, mask };
  const parts: string[] = [];
  for (const group of FIELD_GROUPS.slice(0, METADATA_END)) {
    // A tuple of the other IP version lies in the same words, and without a tracked connection there is none.
    if (hasAttribute(key, group.attribute)) parts.push(formatGroup(group, words));
    if (group.attribute === KeyAttribute.PRIORITY) parts.push(formatTunnel(words));
  }
  if ((key[Word.ETH_TYPE] & L3_MARKER) !== 0) {
    parts.push(`packet_type(ns=1,id=0x${(key[Word.ETH_TYPE] >>> 16).toString(16)})`);
  } else {
    parts.push(`eth(${formatFields(ETHERNET.fields, words)})`);
  }
  parts.push(formatTags(words, Word.VLAN));
  return parts.filter((part) => part !== '').join(',');
}

/** Tags from one on, each with what it encapsulates. */
function formatTags(words: KeyAndMask, word: number): string {
  const { key, mask } = words;
  if (word > Word.INNER_VLAN || (key[word] & mask[word] & TAG_PRESENT) === 0) return formatNetwork(words);
  const type = formatHalf(key[word] >>> 16, mask[word] >>> 16);
  const vid = formatPart('vid', key[word] & 0xfff, mask[word] & 0xfff, 0xfff);
  const pcp = formatPart('pcp', (key[word] >>> 13) & 7, (mask[word] >>> 13) & 7, 7);
  const tag = [...vid, ...pcp].join(',');
  return `eth_type(${type}),vlan(${tag}),encap(${formatTags(words, word + 1)})`;
}

function formatHalf(value: number, mask: number): string {
  const text = `0x${value.toString(16).padStart(4, '0')}`;
  return mask === 0xffff ? text : `${text}/0x${mask.toString(16)}`;
}

/** Nothing when the mask leaves it out. */
function formatPart(name: string, value: number, mask: number, full: number): string[] {
  if (mask === 0) return [];
  return [mask === full ? `${name}=${value}` : `${name}=${value}/0x${mask.toString(16)}`];
}

function formatNetwork(words: KeyAndMask): string {
  const type = words.key[Word.ETH_TYPE] >>> 16;
  const typeMask = words.mask[Word.ETH_TYPE] >>> 16;
  const parts: string[] = [];
  if (typeMask !== 0) parts.push(`eth_type(${type === EtherType.LLC ? '0/0xffff' : formatHalf(type, typeMask)})`);
  for (const group of NETWORK) if (hasAttribute(words.key, group.attribute)) parts.push(formatGroup(group, words));
  if (isMpls(type)) parts.push(formatMpls(words, labelCount(words.mask[Word.MPLS_LABELS])));
  return parts.filter((part) => part !== '').join(',');
}

function labelCount(bits: number): number {
  let count = 0;
  for (let i = 0; i < MPLS_DEPTH; i += 1) count += (bits >>> i) & 1;
  return count;
}

/**
 * Read a key and its mask.
 * @throws FlowTextError when the text is no flow
 */
export function parseFlowKey(text: string): KeyAndMask {
  const scanner = new Scanner(text);
  const into = emptyKeyAndMask();
  // Tags and the Ethernet header count unless the text says otherwise.
  into.mask[Word.VLAN] = 0xffff;
  into.mask[Word.INNER_VLAN] = 0xffff;
  into.mask[Word.ETH_TYPE] = 0xff;
  const seen = new Set<string>();
  while (!scanner.atEnd) {
    parseAttribute(scanner, into, seen, 0);
    scanner.skipSpace();
    if (scanner.atEnd) break;
    scanner.expect(',');
    scanner.skipSpace();
  }
  checkPrerequisites(scanner, into, seen);
  return into;
}

/** One attribute; `depth` is how many encap(...) it lies in. */
function parseAttribute(scanner: Scanner, into: KeyAndMask, seen: Set<string>, depth: number): void {
  const start = scanner.at;
  const name = scanner.name();
  if (name === '' || !scanner.eat('(')) scanner.failAt(start, 'an attribute such as in_port(1) expected');
  const once = name === 'eth_type' || name === 'vlan' || name === 'encap' ? `${name}${depth}` : name;
  if (seen.has(once)) scanner.failAt(start, `${name} given twice`);
  seen.add(once);
  switch (name) {
    case 'tunnel':
      parseTunnel(scanner, into);
      break;
    case 'mpls':
      parseMpls(scanner, into);
      break;
    case 'packet_type':
      parsePacketType(scanner, into);
      break;
    case 'vlan':
      if (depth > 1) scanner.failAt(start, 'more than two tags');
      parseVlan(scanner, into, Word.VLAN + depth);
      break;
    case 'encap':
      if (!seen.has(`vlan${depth}`)) scanner.failAt(start, 'encap without vlan');
      // The EtherType read so far is the tag's.
      into.key[Word.VLAN + depth] |= into.key[Word.ETH_TYPE] & 0xffff_0000;
      into.mask[Word.VLAN + depth] |= into.mask[Word.ETH_TYPE] & 0xffff_0000;
      into.key[Word.ETH_TYPE] &= 0xffff;
      into.mask[Word.ETH_TYPE] &= 0xffff;
      scanner.list(() => parseAttribute(scanner, into, seen, depth + 1));
      break;
    case 'eth_type':
      parseEtherType(scanner, into);
      break;
    default: {
      const group = groupNamed(name) ?? scanner.failAt(start, `unknown attribute '${name}'`);
      parseFields(scanner, group, into);
    }
  }
}

function parseEtherType(scanner: Scanner, into: KeyAndMask): void {
  const type = scanner.number(16);
  const mask = scanner.eat('/') ? scanner.number(16) : 0xffff;
  scanner.expect(')');
  const value = type === 0 && mask === 0xffff ? EtherType.LLC : type;
  into.key[Word.ETH_TYPE] = (into.key[Word.ETH_TYPE] & 0xffff) | (value << 16);
  into.mask[Word.ETH_TYPE] = (into.mask[Word.ETH_TYPE] & 0xffff) | (mask << 16);
}

function parsePacketType(scanner: Scanner, into: KeyAndMask): void {
  scanner.expect('ns=');
  const namespace = scanner.number(16);
  scanner.expect(',id=');
  const id = scanner.number(16);
  scanner.expect(')');
  if (namespace > 1) scanner.fail(`unknown namespace ${namespace}`);
  if (namespace === 0) return;
  into.key[Word.ETH_TYPE] = (id << 16) | L3_MARKER;
  into.mask[Word.ETH_TYPE] = 0xffff_00ff;
}

function parseVlan(scanner: Scanner, into: KeyAndMask, word: number): void {
  let tci = TAG_PRESENT;
  let mask = TAG_PRESENT;
  scanner.arguments((name, start) => {
    const bits = name === 'vid' ? 12 : name === 'pcp' ? 3 : name === 'cfi' ? 1 : 0;
    if (bits === 0) {
      scanner.failAt(start, `vlan has no field '${name}'`);
    }
    const shift = name === 'vid' ? 0 : name === 'pcp' ? 13 : 12;
    const value = scanner.number(bits);
    const wanted = scanner.eat('/') ? scanner.number(bits) : (1 << bits) - 1;
    if (name === 'cfi' && (value & wanted) === 0) scanner.fail('a tag without its CFI bit');
    tci |= value << shift;
    mask |= wanted << shift;
  });
  into.key[word] = (into.key[word] & 0xffff_0000) | tci;
  into.mask[word] = (into.mask[word] & 0xffff_0000) | mask;
}

/** A group counts only for packets that have it; the key must say that it does. */
function checkPrerequisites(scanner: Scanner, into: KeyAndMask, seen: ReadonlySet<string>): void {
  if (seen.has('vlan0') && !seen.has('encap0')) scanner.fail('vlan without encap');
  if (seen.has('vlan1') && !seen.has('encap1')) scanner.fail('vlan without encap');
  const masked = into.key.map((word, i) => word & into.mask[i]);
  for (const name of seen) {
    const attribute = name === 'mpls' ? KeyAttribute.MPLS : groupNamed(name)?.attribute;
    if (attribute === undefined || attribute === KeyAttribute.ETHERTYPE) continue;
    if (!hasAttribute(masked, attribute)) scanner.fail(`${name} without what must come before it`);
  }
}
