/** Random flows for a frame: masks that the same kind of frame matches again, and valid action lists, mostly of what eBPF carries. */
import { ActionBuilder, KEY_WORDS, KeyAttribute, Sound, setLayout, validateActions, Word } from '../../flow/index.ts';
import type { RandomSource } from './random.ts';

const ALL = 0xffff_ffff;

/** Ports that actions send to are 1 to this; one more has no interface. */
export const OUTPUT_PORTS = 4;

/** Recirculation ids that actions use are 1 to this. */
export const RECIRCULATION_IDS = 4;

export interface RandomFlow {
  readonly key: Uint32Array;
  readonly mask: Uint32Array;
  readonly actions: Int32Array;
}

/**
 * A mask as brains make them: what decides how the packet is built is exact, numbers mostly are not.
 * @param loose how seldom a number is matched
 */
export function randomMask(random: RandomSource, loose: number): Uint32Array {
  const mask = new Uint32Array(KEY_WORDS);
  mask[Word.IN_PORT] = ALL;
  mask[Word.RECIRC_ID] = ALL;
  mask[Word.ETH_TYPE] = random.once(12) ? 0 : 0xffff_0000;
  mask[Word.VLAN] = random.once(12) ? 0 : 0x1000;
  mask[Word.INNER_VLAN] = random.once(6) ? 0 : 0x1000;
  if (mask[Word.ETH_TYPE] !== 0) {
    if (random.once(4))
      mask[Word.ETH_TYPE] |= random.pick([Sound.NETWORK, Sound.TRANSPORT, Sound.NETWORK | Sound.TRANSPORT]);
    if (!random.once(5)) mask[Word.IP] |= 0xff00_0000;
    if (!random.once(8)) mask[Word.IP] |= 3;
  }
  for (const word of [Word.MAC, Word.MAC + 2, Word.IPV4_SOURCE, Word.PORTS, Word.VLAN]) {
    if (random.once(loose)) mask[word] |= random.pick([1, 0x8000_0000, 0xff00]);
  }
  return mask;
}

function wordMask(random: RandomSource): number {
  return random.pick([0, 0, ALL, ALL, ALL, 0xffff_0000, 0xffff, random.word()]);
}

function wordValue(random: RandomSource): number {
  return random.once(4) ? random.pick([0, ALL, 0xffff, 0xffff_0000]) : random.word();
}

function randomSet(random: RandomSource, attribute: number): ActionBuilder {
  const value = new Uint32Array(KEY_WORDS);
  const mask = new Uint32Array(KEY_WORDS);
  for (const { word, writable } of setLayout(attribute) ?? []) {
    mask[word] = wordMask(random) & writable;
    value[word] = wordValue(random) & mask[word];
  }
  // In the IP word each of the two fields is set whole, in part or not.
  if (attribute === KeyAttribute.IPV4 || attribute === KeyAttribute.IPV6) {
    mask[Word.IP] = random.pick([0, 0xff00, 0xff00, 0xff_0000, 0xff_ff00, 0x0300, 0xfc_0000]);
    value[Word.IP] = random.pick([wordValue(random), 0x4000, 0x100]) & mask[Word.IP];
  }
  const whole =
    random.once(3) &&
    (attribute === KeyAttribute.ETHERNET || attribute === KeyAttribute.TCP || attribute === KeyAttribute.UDP);
  if (whole) for (const { word } of setLayout(attribute) ?? []) value[word] = wordValue(random);
  return whole ? new ActionBuilder().set(attribute, value) : new ActionBuilder().set(attribute, value, mask);
}

const SETS = [
  KeyAttribute.ETHERNET,
  KeyAttribute.ETHERNET,
  KeyAttribute.IPV4,
  KeyAttribute.IPV4,
  KeyAttribute.IPV4,
  KeyAttribute.IPV6,
  KeyAttribute.IPV6,
  KeyAttribute.TCP,
  KeyAttribute.TCP,
  KeyAttribute.UDP,
  KeyAttribute.UDP,
  KeyAttribute.MPLS,
  KeyAttribute.SKB_MARK,
  KeyAttribute.PRIORITY,
  KeyAttribute.ARP,
  KeyAttribute.SCTP,
];

function randomStep(random: RandomSource, key: Uint32Array, depth: number): ActionBuilder {
  const builder = new ActionBuilder();
  const kind = random.below(32);
  if (kind < 14) return randomSet(random, random.pick(SETS));
  if (kind < 17) return builder.output(1 + random.below(OUTPUT_PORTS));
  if (kind < 19) return builder.pushVlan(random.pick([0x8100, 0x88a8]), 0x1000 | random.below(0x1_0000));
  if (kind < 21) return builder.popVlan();
  if (kind < 23) return builder.pushMpls(random.word(), random.pick([0x8847, 0x8848]));
  if (kind < 24) return builder.popMpls(random.pick([0x0800, 0x8847, 0x86dd]));
  if (kind < 27) return builder.decTtl(new Int32Array(0));
  if (kind === 27) return builder.trunc(random.pick([14 + random.below(80), 256, 1000]));
  if (kind === 28) return recirculation(random);
  if (kind === 29 && depth === 0) {
    const outputs = new ActionBuilder();
    for (let i = random.below(3); i >= 0; i -= 1) outputs.output(1 + random.below(OUTPUT_PORTS));
    return builder.clone(outputs.finish());
  }
  if (kind === 30 && depth === 0) {
    const port = random.once(4) ? 0 : 1 + random.below(OUTPUT_PORTS);
    const way = () => (port === 0 ? randomList(random, key, depth + 1) : wayTo(random, port));
    return builder.checkPacketLength(20 + random.below(90), way(), way());
  }
  if (random.once(3)) return builder.output(OUTPUT_PORTS + 1);
  return random.once(4) ? builder.drop(random.below(2)) : builder.output(1);
}

/** Another look-up, often under a hash. */
function recirculation(random: RandomSource): ActionBuilder {
  const builder = new ActionBuilder();
  if (random.once(2)) builder.hash(random.below(2), random.word());
  return builder.recirc(1 + random.below(RECIRCULATION_IDS));
}

/** A few changes, and an output. */
function wayTo(random: RandomSource, port: number): Int32Array {
  const list = new ActionBuilder();
  if (random.once(2)) list.append(randomSet(random, random.pick(SETS)).finish());
  if (random.once(3)) list.decTtl(new Int32Array(0));
  if (random.once(3)) list.pushVlan(random.pick([0x8100, 0x88a8]), 0x1000 | random.below(0x1_0000));
  return list.output(port).finish();
}

/** A valid list, most often with an output at its end, or a recirculation. */
export function randomList(random: RandomSource, key: Uint32Array, depth = 0): Int32Array {
  let built = new ActionBuilder().finish();
  for (let i = random.below(5); i > 0; i -= 1) {
    const tried = new ActionBuilder()
      .append(built)
      .append(randomStep(random, key, depth).finish())
      .finish();
    if (validateActions(tried, key) === null) built = tried;
  }
  if (random.once(10)) return built;
  const more = new ActionBuilder().append(built);
  if (random.once(6)) more.append(recirculation(random).finish());
  else more.output(1 + random.below(OUTPUT_PORTS));
  const finished = more.finish();
  return validateActions(finished, key) === null ? finished : built;
}

/** A valid list with a recirculation at its end, most often. */
export function listAgain(random: RandomSource, key: Uint32Array): Int32Array {
  if (random.once(3)) return randomList(random, key);
  let built = new ActionBuilder().finish();
  for (let i = random.below(3); i > 0; i -= 1) {
    const step = random.once(2) ? randomSet(random, random.pick(SETS)) : new ActionBuilder().decTtl(new Int32Array(0));
    const tried = new ActionBuilder().append(built).append(step.finish()).finish();
    if (validateActions(tried, key) === null) built = tried;
  }
  return new ActionBuilder().append(built).append(recirculation(random).finish()).finish();
}

/** @param words the key of a frame that the flow is to match */
export function randomFlow(random: RandomSource, words: Uint32Array, loose = 12): RandomFlow {
  const mask = randomMask(random, loose);
  const key = words.map((word, i) => word & mask[i]);
  // What the flow does not match is not known to its actions.
  return { key, mask, actions: random.once(40) ? new Int32Array(0) : randomList(random, key) };
}
