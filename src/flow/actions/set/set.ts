/**
 * SET and SET_MASKED: fields of a header, or of what is known of a packet, get other values, whole or in part. Values start from the bytes,
 * not from the key, so that they are right whatever was done before. attributes.ts has what can be set; ip.ts, transport.ts, link.ts and tunnel.ts
 * change it.
 */
import { Drop } from '../../engine/drops.ts';
import type { ActionEngine } from '../../engine/engine.ts';
import { groupNamed, groupOf, hasAttribute, KeyAttribute } from '../../key/fields.ts';
import { isMpls, KEY_WORDS, Word } from '../../key/layout.ts';
import { emptyKeyAndMask, formatGroup, type KeyAndMask, parseFields } from '../../text/groups.ts';
import { formatEntry, parseEntry } from '../../text/mpls.ts';
import type { Scanner } from '../../text/scanner.ts';
import { formatSetTunnel, parseTunnel } from '../../text/tunnel.ts';
import type { ActionBuilder } from '../builder.ts';
import { type ActionDescription, type ActionText, type Judgement, leadsNowhere } from '../description.ts';
import { Action, actionLength } from '../encoding.ts';
import type { ActionNetlink } from '../netlink.ts';
import { NSH_FLAGS_TTL_EXCESS } from '../nsh/nsh.ts';
import { readSet, setLayout, settable, tunnelWords } from './attributes.ts';
import { setTunnel, setTunnelFlaw } from './tunnel.ts';

/** Of one type: SET and SET_MASKED differ in what their masks may be and in their attributes. */
function describeSet<Type extends typeof Action.SET | typeof Action.SET_MASKED>(type: Type): ActionDescription<Type> {
  const isMasked = type === Action.SET_MASKED;
  return {
    type,
    layout: {
      fields: ['attribute'],
      tail(words, at) {
        const attribute = words[at + 1];
        if (attribute === KeyAttribute.TUNNEL) return tunnelWords(words[at + 2 + Word.TUNNEL_FLAGS - Word.TUNNEL]);
        const layout = setLayout(attribute);
        return layout === undefined ? -1 : layout.length * 2;
      },
    },
    flaw: (its, at) => setFlaw(its, at, isMasked),
    leads: leadsNowhere,
    text,
    netlink: netlinkOf(type, isMasked),
    run: runSet,
  };
}

function setFlaw(its: Judgement, at: number, isMasked: boolean): string | null {
  const { words, key, shape } = its;
  const attribute = words[at + 1];
  if (attribute === KeyAttribute.TUNNEL) {
    return isMasked ? 'a tunnel cannot be set in part' : setTunnelFlaw(words, at);
  }
  if (its.kernelOnly && settable(attribute)?.inKernel !== true) return `attribute ${attribute} cannot be set`;
  const reason = bitsFlaw(words, at, isMasked, key);
  if (reason !== null) return reason;
  if (attribute === KeyAttribute.ETHERNET) return shape.hasEthernet ? null : 'the packet has no Ethernet header';
  if (attribute === KeyAttribute.PRIORITY || attribute === KeyAttribute.SKB_MARK) return null;
  if (attribute === KeyAttribute.MPLS) return isMpls(shape.etherType) ? null : 'the packet does not begin with MPLS';
  if (shape.etherType !== key[Word.ETH_TYPE] >>> 16 || !shape.keyHolds || !hasAttribute(key, attribute)) {
    return 'the packet is not known to have that header';
  }
  return null;
}

/** Bits that may not be set, whatever the packet is. */
function bitsFlaw(words: Int32Array, at: number, isMasked: boolean, key: Uint32Array): string | null {
  const attribute = words[at + 1];
  const isNsh = attribute === KeyAttribute.NSH;
  const layout = setLayout(attribute) ?? [];
  for (let i = 0; i < layout.length; i += 1) {
    const { word, bits, writable } = layout[i];
    const value = words[at + 2 + i * 2];
    const mask = words[at + 3 + i * 2];
    if ((value & ~mask) !== 0) return 'a value has bits outside of its mask';
    if (isNsh && word === Word.NSH_BASE && (value & NSH_FLAGS_TTL_EXCESS) !== 0) return 'flags or TTL are too large';
    if ((mask & ~bits) !== 0) return 'a mask has bits that are not of the attribute';
    if (isMasked) {
      if ((mask & ~writable) !== 0) return 'a mask covers a field that cannot be changed';
    } else if (mask !== (bits | 0)) {
      return 'the mask of a whole set must cover the attribute';
    } else if (!isNsh && ((value ^ key[word]) & ~writable & bits) !== 0) {
      return "a field that cannot be changed differs from the flow's key";
    }
  }
  return null;
}

/** Of both types: a set whose mask covers all of the attribute is a plain one, as in Open vSwitch. */
const text: ActionText = {
  name: 'set',
  format(words, at) {
    const attribute = words[at + 1];
    const set = emptyKeyAndMask();
    readSet(words, at, at + actionLength(words[at]), set.key, set.mask);
    if (attribute === KeyAttribute.TUNNEL) return `set(${formatSetTunnel(set.key)})`;
    if (attribute === KeyAttribute.MPLS) return `set(mpls(${formatEntry(set.key[Word.MPLS], set.mask[Word.MPLS])}))`;
    const group = groupOf(attribute);
    if (group === undefined) return `set(attribute${attribute}())`;
    // A mask of nothing changes nothing, but it is an action all the same.
    return `set(${formatGroup(group, set) || `${group.name}(${group.fields[0].name === '' ? '0/0x0' : ''})`})`;
  },
  parse(scanner, builder) {
    const start = scanner.at;
    const name = scanner.name();
    scanner.expect('(');
    parseSet(scanner, builder, name, start);
    scanner.expect(')');
  },
};

function parseSet(scanner: Scanner, builder: ActionBuilder, name: string, start: number): void {
  const into = emptyKeyAndMask();
  if (name === 'tunnel') {
    parseTunnel(scanner, into);
    builder.set(KeyAttribute.TUNNEL, into.key);
    return;
  }
  if (name === 'mpls') {
    const [entry, mask] = parseEntry(scanner, () => scanner.fail('unknown part of a label stack entry'));
    into.key[Word.MPLS] = entry;
    into.mask[Word.MPLS] = mask;
    addSet(builder, KeyAttribute.MPLS, into);
    return;
  }
  const group = groupNamed(name);
  if (group === undefined || setLayout(group.attribute) === undefined) scanner.failAt(start, `'${name}' cannot be set`);
  parseFields(scanner, group, into);
  addSet(builder, group.attribute, into);
}

function addSet(builder: ActionBuilder, attribute: number, set: KeyAndMask): void {
  const layout = setLayout(attribute) ?? [];
  const isWhole = layout.every(({ word, bits }) => (set.mask[word] & bits) >>> 0 === bits);
  builder.set(attribute, set.key, isWhole ? undefined : set.mask);
}

/** Scratch, all 0 between uses. */
const keyWords = new Uint32Array(KEY_WORDS);
const maskWords = new Uint32Array(KEY_WORDS);

function netlinkOf(type: number, isMasked: boolean): ActionNetlink {
  return {
    write(to, words, at) {
      readSet(words, at, at + actionLength(words[at]), keyWords, maskWords);
      to.nest(type, () => to.key(words[at + 1], keyWords, isMasked ? maskWords : null));
      const layout = setLayout(words[at + 1]);
      if (layout === undefined) keyWords.fill(0, Word.TUNNEL);
      for (const { word } of layout ?? []) {
        keyWords[word] = 0;
        maskWords[word] = 0;
      }
    },
    read(from, content, builder) {
      let count = 0;
      from.each(content, (attribute, value) => {
        count += 1;
        if (count > 1) from.refuse('set of several attributes');
        const key = new Uint32Array(KEY_WORDS);
        const mask = isMasked ? new Uint32Array(KEY_WORDS) : null;
        from.key(attribute, value, key, mask);
        try {
          builder.set(attribute, key, mask ?? undefined);
        } catch (error) {
          if (error instanceof RangeError) from.refuse(error.message);
          throw error;
        }
      });
      if (count === 0) from.refuse('set of nothing');
    },
  };
}

export const set = describeSet(Action.SET);
export const setMasked = describeSet(Action.SET_MASKED);

/** Both types. */
export function runSet(engine: ActionEngine, words: Int32Array, at: number, end: number): boolean {
  const { key } = engine;
  if (words[at + 1] === KeyAttribute.TUNNEL) {
    setTunnel(key, words, at + 2, end);
    return true;
  }
  const what = settable(words[at + 1]);
  if (what === undefined) return engine.drop(Drop.HEADER_MISSING);
  if (what.change !== null) {
    if (!engine.writable(0)) return false;
    if (!what.change(engine.packet, key, words, at + 2)) return engine.drop(Drop.HEADER_MISSING);
    // A later fragment has no transport header, and its key none of its fields.
    if (what.isTransport && key.l4Offset === -1) return true;
  }
  const layout = what.words;
  for (let i = 0; i < layout.length; i += 1) {
    const each = layout[i];
    const mask = words[at + 3 + i * 2] & each.writable;
    key.words[each.word] = (key.words[each.word] & ~mask) | (words[at + 2 + i * 2] & mask);
  }
  return true;
}
