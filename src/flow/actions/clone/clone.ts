/** CLONE: a list over a copy of the packet, which later actions do not see; and SAMPLE: the same for a share of the packets. */
import { type ActionDescription, noFlaw } from '../description.ts';
import { Action } from '../encoding.ts';

/** The probability of which every packet is one. */
const ALWAYS = 0xffff_ffff;

/** Parts of its attribute, OVS_SAMPLE_ATTR_*. */
const Part = { PROBABILITY: 1, ACTIONS: 2 } as const;

export const clone: ActionDescription<typeof Action.CLONE> = {
  type: Action.CLONE,
  layout: { fields: [], lists: ['actions'] },
  flaw: noFlaw,
  leads: (to, _words, _at, [actions]) => to.list(actions),
  text: {
    name: 'clone',
    format: (_words, _at, [actions]) => `clone(${actions})`,
    parse: (_scanner, builder, list) => builder.clone(list()),
  },
  netlink: {
    write: (to, _words, _at, [actions]) => to.list(Action.CLONE, actions),
    read: (from, content, builder) => builder.clone(from.list(content)),
  },
  run: (engine, words, at, end, isLast) => engine.nested(words, at + 1, end, isLast),
};

export const sample: ActionDescription<typeof Action.SAMPLE> = {
  type: Action.SAMPLE,
  layout: { fields: ['probability, of 2^32 - 1'], lists: ['actions'] },
  flaw: noFlaw,
  leads(to, words, at, [actions]) {
    if (words[at + 1] >>> 0 === ALWAYS) to.list(actions);
    else if (words[at + 1] !== 0 && actions.from < actions.end) to.open();
  },
  text: {
    name: 'sample',
    format: (words, at, [actions]) => `sample(sample=${formatProbability(words[at + 1] >>> 0)}%,actions(${actions}))`,
    parse(scanner, builder, list) {
      scanner.expect('sample=');
      const percent = scanner.fraction();
      if (percent > 100) scanner.fail('more than 100 %');
      scanner.expect('%,actions(');
      builder.sample(probabilityOf(percent), list());
      scanner.expect(')');
    },
  },
  netlink: {
    write(to, words, at, [actions]) {
      to.nest(Action.SAMPLE, () => {
        to.message.u32(Part.PROBABILITY, words[at + 1] >>> 0);
        to.list(Part.ACTIONS, actions);
      });
    },
    read(from, content, builder) {
      let probability: Uint8Array | null = null;
      let actions: Uint8Array | null = null;
      from.each(content, (type, value) => {
        if (type === Part.PROBABILITY && value.length === 4 && probability === null) probability = value;
        else if (type === Part.ACTIONS && actions === null) actions = value;
        else from.refuse('sample');
      });
      if (probability === null || actions === null) return from.refuse('sample without probability or actions');
      builder.sample(from.number(probability), from.list(actions));
    },
  },
  run(engine, words, at, end, isLast) {
    const probability = words[at + 1] >>> 0;
    if (probability !== ALWAYS && engine.nextRandom() >>> 0 >= probability) return true;
    return engine.nested(words, at + 2, end, isLast);
  },
};

/** The shortest percentage, with at least one digit behind the point, that reads back as the same 32-bit fraction. */
function formatProbability(probability: number): string {
  const percent = (probability / ALWAYS) * 100;
  for (let digits = 1; digits < 12; digits += 1) {
    const text = percent.toFixed(digits);
    if (probabilityOf(Number(text)) === probability) return text;
  }
  return percent.toFixed(12);
}

/** The 32-bit fraction of a percentage. */
function probabilityOf(percent: number): number {
  return Math.min(Math.round((percent / 100) * ALWAYS), ALWAYS);
}
