/** For tests: random keys with masks, and random action lists, as a flow of the kernel might have them. */
import fc from 'fast-check';
import { ActionBuilder } from '../actions/builder.ts';
import { CtFlag, NatFlag } from '../actions/ct/words.ts';
import type { ActionName } from '../actions/encoding.ts';
import { setLayout } from '../actions/set/attributes.ts';
import { ACTIONS, eachAction } from '../actions/table.ts';
import { validateActions } from '../actions/validate.ts';
import { FIELD_GROUPS, groupNamed, hasAttribute, KeyAttribute, TUNNEL_FIELDS, writeField } from '../key/fields.ts';
import { KEY_WORDS, Word } from '../key/layout.ts';
import type { KeyAndMask } from '../text/groups.ts';
import { fullMask } from '../text/values.ts';

const ALL = 0xffff_ffff;
const u32 = fc.integer({ min: 0, max: ALL });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u8 = fc.integer({ min: 0, max: 0xff });
/** Masks are mostly whole or nothing. */
const maskByte = fc.constantFrom(0, 0xff, 0xff, 0xff, 0xf0, 0x01);

/** EtherType and IP protocol with the groups that they bring. */
const SHAPES: readonly [etherType: number, protocol: number, ports: number][] = [
  [0x0800, 6, -1],
  [0x0800, 17, -1],
  [0x0800, 132, -1],
  [0x0800, 1, -1],
  [0x0800, 47, 0],
  [0x86dd, 6, -1],
  [0x86dd, 58, 135 << 16],
  [0x86dd, 58, 128 << 16],
  [0x0806, 1, 0],
  [0x8847, 0, 0],
  [0x894f, 0, 0],
  [0x88cc, 0, 0],
  [0x05ff, 0, 0],
];

const shapeWords = fc.record({
  shape: fc.constantFrom(...SHAPES),
  random: fc.array(u8, { minLength: 64, maxLength: 64 }),
});

/** Random bytes that never end. */
function stream(bytes: readonly number[]): () => number {
  let i = 0;
  return () => bytes[i++ % bytes.length] ?? 0;
}

function fillGroup(
  words: KeyAndMask,
  name: string,
  value: () => number,
  mask: () => number,
  exact: readonly string[] = [],
): void {
  for (const field of groupNamed(name)?.fields ?? []) {
    const full = fullMask(field);
    const maskBytes = full.map((byte) => byte & (exact.includes(field.name) ? 0xff : mask()));
    if (field.format === 'fragment') maskBytes[0] = maskBytes[0] === 0 ? 0 : 0xff;
    writeField(words.mask, field, maskBytes);
    const bytes = maskBytes.map((byte) => byte & value());
    if (field.format === 'fragment') bytes[0] = bytes[0] % 3;
    if (!exact.includes(field.name)) writeField(words.key, field, bytes);
  }
}

/** Keys with the bits outside their mask 0, whose masks have the prerequisites that they need. */
export const keyAndMask: fc.Arbitrary<KeyAndMask> = fc
  .record({
    base: shapeWords,
    masks: fc.array(maskByte, { minLength: 40, maxLength: 40 }),
    tags: fc.integer({ min: 0, max: 2 }),
    metadata: fc.subarray([
      'recirc_id',
      'dp_hash',
      'skb_priority',
      'in_port',
      'skb_mark',
      'ct_state',
      'ct_zone',
      'ct_mark',
      'ct_label',
      'ct_tuple4',
      'ct_tuple6',
    ]),
    tunnel: fc.constantFrom(0, 0, 4, 6),
    l3: fc.integer({ min: 0, max: 5 }),
    labels: fc.integer({ min: 1, max: 3 }),
  })
  .map(({ base, masks, tags, metadata, tunnel, l3, labels }) => {
    const words: KeyAndMask = { key: new Uint32Array(KEY_WORDS), mask: new Uint32Array(KEY_WORDS) };
    const value = stream(base.random);
    const mask = stream(masks);
    const [etherType, protocol, ports] = base.shape;
    const isL3 = l3 === 0 && etherType !== 0x05ff;
    words.key[Word.ETH_TYPE] = (etherType << 16) | (isL3 ? 1 : 0);
    words.mask[Word.ETH_TYPE] = 0xffff_00ff;
    for (let tag = 0; tag < 2; tag += 1) {
      words.mask[Word.VLAN + tag] = 0xffff;
      if (isL3 || tag >= tags) continue;
      const tci = (value() << 8) | value() | 0x1000;
      words.key[Word.VLAN + tag] = ((tag === 0 ? 0x88a8 : 0x8100) << 16) | tci;
      words.mask[Word.VLAN + tag] = ALL;
    }
    for (const name of metadata) {
      const attribute = groupNamed(name)?.attribute ?? 0;
      if (hasAttribute(words.key, attribute)) fillGroup(words, name, value, mask);
    }
    if (!isL3) fillGroup(words, 'eth', value, mask);
    if (etherType === 0x8847) {
      words.key[Word.MPLS_LABELS] = (1 << labels) - 1;
      words.mask[Word.MPLS_LABELS] = (1 << labels) - 1;
      for (let i = 0; i < labels; i += 1) {
        words.mask[Word.MPLS + i] = (mask() << 24) | (mask() << 16) | (mask() << 8) | mask();
        words.key[Word.MPLS + i] =
          words.mask[Word.MPLS + i] & ((value() << 24) | (value() << 16) | (value() << 8) | value());
      }
    } else {
      words.key[Word.IP] = protocol << 24;
      words.key[Word.PORTS] = Math.max(ports, 0);
      for (const group of FIELD_GROUPS.slice(FIELD_GROUPS.findIndex((each) => each.name === 'ipv4'))) {
        if (!hasAttribute(words.key, group.attribute)) continue;
        const exact = ports > 0 && group.name === 'icmpv6' ? ['type', 'code'] : ['proto'];
        fillGroup(words, group.name, value, mask, exact);
      }
    }
    if (tunnel !== 0) fillTunnel(words, tunnel, value, mask);
    return words;
  });

function fillTunnel(words: KeyAndMask, version: number, value: () => number, mask: () => number): void {
  words.key[Word.TUNNEL_IP] = version << 24;
  words.mask[Word.TUNNEL_IP] = 0xff00_0000;
  for (const field of TUNNEL_FIELDS) {
    if (field.format === (version === 4 ? 'ipv6' : 'ipv4')) continue;
    const maskBytes = new Uint8Array(field.widthBytes).map(mask);
    writeField(words.mask, field, maskBytes);
    writeField(
      words.key,
      field,
      maskBytes.map((byte) => byte & value()),
    );
  }
  words.mask[Word.TUNNEL_FLAGS] |= (mask() & 0xf) << 16;
  words.key[Word.TUNNEL_FLAGS] |= words.mask[Word.TUNNEL_FLAGS] & (value() << 16);
  const kind = value() % 4;
  if (kind === 0) return;
  const lengthBytes = kind === 1 ? 12 : kind === 2 ? 4 : 8;
  words.key[Word.TUNNEL_IP] |= kind;
  words.mask[Word.TUNNEL_IP] |= 0xff;
  words.key[Word.TUNNEL_FLAGS] |= lengthBytes << 8;
  words.mask[Word.TUNNEL_FLAGS] |= 0xff00;
  const options = words.key.subarray(Word.TUNNEL_OPTIONS);
  const optionMasks = words.mask.subarray(Word.TUNNEL_OPTIONS);
  if (kind === 1) {
    options.set([(value() << 16) | 0x0001, (value() << 8) | 5, 0xffff_0000]);
    optionMasks.set([ALL, 0xffff, 0xffff_00ff]);
    options[0] = 0x0102_8001;
    options[1] &= 0xffff;
    options[2] = 0x0304_0500;
  } else if (kind === 2) {
    options[0] = (value() << 16) | value();
    optionMasks[0] = 0x00ff_ffff;
  } else {
    options.set([2, (1 << 8) | value()]);
    optionMasks.set([ALL, 0xffff]);
  }
}

const SETTABLE = [
  'skb_priority',
  'skb_mark',
  'eth',
  'ipv4',
  'ipv6',
  'tcp',
  'udp',
  'sctp',
  'icmp',
  'icmpv6',
  'arp',
  'nd',
  'nsh',
];

/** A list, and of how many actions it is, those of lists inside included. */
export interface CountedList {
  readonly words: Int32Array;
  readonly actions: number;
}

/** Adds an action. */
interface Step {
  readonly apply: (builder: ActionBuilder) => void;
  /** Actions in its lists. */
  readonly inside: number;
}

function step<T>(
  arguments_: fc.Arbitrary<T>,
  apply: (builder: ActionBuilder, value: T) => void,
  lists: (value: T) => readonly CountedList[] = () => [],
): fc.Arbitrary<Step> {
  return arguments_.map((value) => ({
    apply: (builder: ActionBuilder) => apply(builder, value),
    inside: lists(value).reduce((sum, list) => sum + list.actions, 0),
  }));
}

const randomKey = fc.array(u32, { minLength: KEY_WORDS, maxLength: KEY_WORDS }).map((words) => Uint32Array.from(words));

/** A value and mask within what the attribute's fields can hold in text. A mask of all of the attribute is that of a plain set. */
function settable(name: string, words: Uint32Array, isWhole: boolean): KeyAndMask {
  const result: KeyAndMask = { key: new Uint32Array(KEY_WORDS), mask: new Uint32Array(KEY_WORDS) };
  const random = stream(Array.from(words, (word) => word >>> 24));
  fillGroup(result, name, random, () => (isWhole ? 0xff : [0, 0xff, 0x0f][random() % 3]));
  const layout = setLayout(groupNamed(name)?.attribute ?? 0) ?? [];
  if (!isWhole) {
    for (const { word, writable } of layout) result.mask[word] &= writable;
    if (layout.every(({ word, bits }) => (result.mask[word] & bits) >>> 0 === bits)) {
      result.mask[layout[0].word] &= 0x00ff_0000;
    }
  }
  for (const { word } of layout) result.key[word] &= result.mask[word];
  return result;
}

function setOf(isWhole: boolean): fc.Arbitrary<Step> {
  return step(fc.tuple(fc.constantFrom(...SETTABLE), randomKey), (b, [name, words]) => {
    const { key, mask } = settable(name, words, isWhole);
    b.set(groupNamed(name)?.attribute ?? 0, key, isWhole ? undefined : mask);
  });
}

const tunnel = step(fc.tuple(fc.array(u8, { minLength: 64, maxLength: 64 }), fc.constantFrom(4, 6)), (b, given) => {
  const [bytes, version] = given;
  const words: KeyAndMask = { key: new Uint32Array(KEY_WORDS), mask: new Uint32Array(KEY_WORDS) };
  fillTunnel(words, version, stream(bytes), () => 0xff);
  b.set(KeyAttribute.TUNNEL, words.key);
});

const label = (masks: readonly number[]) =>
  step(fc.tuple(u32, fc.constantFrom(...masks)), (b, [entry, mask]) => {
    const key = new Uint32Array(KEY_WORDS).fill(entry);
    b.set(KeyAttribute.MPLS, key, mask === ALL ? undefined : new Uint32Array(KEY_WORDS).fill(mask));
  });

const nothing = fc.constant(0);
const etherTypeOfMpls = fc.constantFrom(0x8847, 0x8848);

/** A generator for each action. @param list of the lists inside */
function steps(list: fc.Arbitrary<CountedList>): Readonly<Record<ActionName, fc.Arbitrary<Step>>> {
  return {
    OUTPUT: step(fc.integer({ min: 0, max: 65534 }), (b, port) => b.output(port)),
    USERSPACE: step(
      fc.record({
        pid: fc.integer({ min: 1, max: ALL }),
        userdata: fc.option(fc.uint8Array({ maxLength: 40 }), { nil: undefined }),
        port: fc.option(u32, { nil: undefined }),
        actions: fc.boolean(),
      }),
      (b, { pid, userdata, port, actions }) =>
        b.userspace(pid, {
          ...(userdata === undefined ? {} : { userdata }),
          ...(port === undefined ? {} : { tunnelPort: port }),
          actions,
        }),
    ),
    SET: fc.oneof(setOf(true), setOf(true), label([ALL]), tunnel),
    SET_MASKED: fc.oneof(setOf(false), setOf(false), label([0xffff_f000, 0x0000_00ff])),
    PUSH_VLAN: step(fc.tuple(fc.constantFrom(0x8100, 0x88a8), u16), (b, [tpid, tci]) => b.pushVlan(tpid, tci)),
    POP_VLAN: step(nothing, (b) => b.popVlan()),
    PUSH_MPLS: step(fc.tuple(u32, etherTypeOfMpls), (b, [entry, type]) => b.pushMpls(entry, type)),
    ADD_MPLS: step(fc.tuple(u32, etherTypeOfMpls, fc.integer({ min: 0, max: 1 })), (b, [entry, type, flags]) =>
      b.addMpls(entry, type, flags),
    ),
    POP_MPLS: step(u16, (b, type) => b.popMpls(type)),
    PUSH_ETH: step(randomKey, (b, key) => b.pushEth(key)),
    POP_ETH: step(nothing, (b) => b.popEth()),
    PUSH_NSH: step(
      fc.tuple(u8, u32, fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.integer({ min: 0, max: 3 })),
      (b, [np, path, md, words]) => {
        const isMd1 = words === 0;
        b.pushNsh((isMd1 ? 0x013f_0100 : 0x003f_0200) | np, path, isMd1 ? md : md.subarray(0, words * 4));
      },
    ),
    POP_NSH: step(nothing, (b) => b.popNsh()),
    RECIRC: step(u32, (b, id) => b.recirc(id)),
    HASH: step(fc.tuple(fc.constantFrom(0, 1), u32), (b, [algorithm, basis]) => b.hash(algorithm, basis)),
    TRUNC: step(u32, (b, bytes) => b.trunc(bytes)),
    METER: step(u32, (b, id) => b.meter(id)),
    CT: connection,
    CT_CLEAR: step(nothing, (b) => b.ctClear()),
    DROP: step(u32, (b, error) => b.drop(error)),
    SAMPLE: step(
      fc.tuple(fc.oneof(u32, fc.constant(ALL)), list),
      (b, [probability, actions]) => b.sample(probability, actions.words),
      ([, actions]) => [actions],
    ),
    CLONE: step(
      list,
      (b, actions) => b.clone(actions.words),
      (actions) => [actions],
    ),
    CHECK_PKT_LEN: step(
      // Ways that lead to the same are not found by chance.
      fc.tuple(fc.integer({ min: 1, max: 0xffff }), list, fc.option(list, { nil: undefined, freq: 2 })),
      (b, [size, greater, less = greater]) => b.checkPacketLength(size, greater.words, less.words),
      ([, greater, less = greater]) => [greater, less],
    ),
    DEC_TTL: step(
      list,
      (b, expired) => b.decTtl(expired.words),
      (expired) => [expired],
    ),
  };
}

const connection = step(
  fc.record({
    flags: fc.integer({ min: 0, max: 127 }),
    zone: u16,
    mark: u32,
    mask: u32,
    label: fc.array(u32, { minLength: 8, maxLength: 8 }),
    helper: fc.constantFrom('', 'ftp', 'tftp'),
    timeout: fc.constantFrom('', 'policy-1'),
    nat: fc.integer({ min: 0, max: 7 }),
    ports: fc.tuple(u16, u16),
  }),
  (b, given) =>
    b.ct({
      flags: given.flags,
      ...((given.flags & CtFlag.ZONE) === 0 ? {} : { zone: given.zone }),
      ...((given.flags & CtFlag.MARK) === 0 ? {} : { mark: maskedMark(given.mark, given.mask) }),
      ...((given.flags & CtFlag.LABEL) === 0
        ? {}
        : { label: maskedLabel(given.label.slice(0, 4), given.label.slice(4)) }),
      ...((given.flags & CtFlag.EVENT_MASK) === 0 ? {} : { eventMask: given.mark }),
      ...((given.flags & CtFlag.NAT) === 0 ? {} : natOptions(given.nat, given.label, given.ports)),
      helper: given.helper,
      timeout: given.timeout,
    }),
);

/** No mask is 0, and no value has bits outside of its mask. */
function maskedMark(value: number, mask: number): readonly [number, number] {
  return [value & (mask | 1), mask | 1];
}

function maskedLabel(value: readonly number[], mask: readonly number[]): readonly [number[], number[]] {
  const own = mask.map((word, i) => (i === 3 ? word | 1 : word));
  return [value.map((word, i) => word & own[i]), own];
}

function natOptions(kind: number, label: readonly number[], ports: readonly [number, number]) {
  const isIpv6 = (kind & 1) !== 0;
  const tail = isIpv6 ? 4 : 1;
  const address = (from: number) => [...label.slice(from, from + tail), ...new Array<number>(4 - tail).fill(0)];
  if (kind === 0) return {};
  const flags = (kind & 2) !== 0 ? NatFlag.SOURCE : NatFlag.DESTINATION | NatFlag.PERSISTENT | NatFlag.PROTO_HASH;
  const addresses = { natMinimum: address(0), natMaximum: address(4) };
  const withAddresses = flags | (isIpv6 ? NatFlag.IPV6 : NatFlag.IPV4);
  if ((kind & 4) === 0) return { natFlags: withAddresses, ...addresses };
  return { natFlags: withAddresses | NatFlag.PORTS, ...addresses, natPorts: ports };
}

function build(all: readonly Step[]): CountedList {
  const builder = new ActionBuilder();
  let actions = 0;
  for (const { apply, inside } of all) {
    apply(builder);
    actions += 1 + inside;
  }
  return { words: builder.finish(), actions };
}

const NAMES = Object.keys(ACTIONS) as ActionName[];

/** Lists of every action, well-formed but not necessarily valid. */
export const countedList: fc.Arbitrary<CountedList> = fc.letrec<{ list: CountedList; step: Step }>((tie) => {
  const all = steps(tie('list'));
  const holdsLists = (name: ActionName) => ACTIONS[name].layout.lists !== undefined;
  const leaves = NAMES.filter((name) => !holdsLists(name)).map((name) => all[name]);
  const branches = NAMES.filter(holdsLists).map((name) => all[name]);
  return {
    step: fc.oneof({ depthSize: 'small', withCrossShrink: true }, fc.oneof(...leaves), ...branches),
    list: fc.array(tie('step'), { maxLength: 4 }).map(build),
  };
}).list;

export const actionList: fc.Arbitrary<Int32Array> = countedList.map(({ words }) => words);

/** Lists with one action of a kind, and others before and behind it. */
export function listWith(name: ActionName): fc.Arbitrary<CountedList> {
  const others = fc.array(steps(countedList).OUTPUT, { maxLength: 1 });
  return fc
    .tuple(others, steps(countedList)[name], others)
    .map(([before, one, behind]) => build([...before, one, ...behind]));
}

/**
 * Of some lists the actions that are valid for a key one after the other, an output behind each.
 * @param key what validateActions takes
 * @param port where the outputs go; 0 for no outputs but those of the lists
 */
export function validActions(lists: readonly Int32Array[], key: Uint32Array, port = 1): Int32Array {
  const output = port === 0 ? new Int32Array(0) : new ActionBuilder().output(port).finish();
  let built = output;
  for (const list of lists) {
    eachAction(list, 0, list.length, (_action, at, end) => {
      const tried = new ActionBuilder().append(built).append(list.subarray(at, end)).append(output).finish();
      if (validateActions(tried, key) === null) built = tried;
    });
  }
  return built;
}
