/** DEC_TTL: count the time to live down, and run a list for packets whose time is up. */
import { Drop } from '../../engine/drops.ts';
import { type ActionDescription, leadsNowhere, noFlaw } from '../description.ts';
import { Action } from '../encoding.ts';
import { readTtl, writeTtl } from '../set/ip.ts';

/** The part of its attribute, OVS_DEC_TTL_ATTR_ACTION. */
const EXPIRED = 1;

export const decTtl: ActionDescription<typeof Action.DEC_TTL> = {
  type: Action.DEC_TTL,
  layout: { fields: [], lists: ['time is up'] },
  flaw: noFlaw,
  leads: leadsNowhere,
  text: {
    name: 'dec_ttl',
    format: (_words, _at, [expired]) => `dec_ttl(le_1(${expired}))`,
    parse(scanner, builder, list) {
      scanner.expect('le_1(');
      builder.decTtl(list());
      scanner.expect(')');
    },
  },
  netlink: {
    write: (to, _words, _at, [expired]) => to.nest(Action.DEC_TTL, () => to.list(EXPIRED, expired)),
    read(from, content, builder) {
      let actions: Uint8Array | null = null;
      from.each(content, (type, value) => {
        if (type !== EXPIRED || actions !== null) from.refuse('dec_ttl');
        actions = value;
      });
      if (actions === null) return from.refuse('dec_ttl without actions');
      builder.decTtl(from.list(actions));
    },
  },
  run(engine, words, at, end) {
    const ttl = readTtl(engine.packet, engine.key);
    // What is not IP has no time to live, and stays as it is.
    if (ttl === -1) return true;
    if (ttl === -2) return engine.drop(Drop.HEADER_MISSING);
    if (ttl <= 1) {
      if (at + 1 === end) return engine.drop(Drop.TIME_EXCEEDED);
      engine.list(words, at + 1, end);
      return false;
    }
    if (!engine.writable(0)) return false;
    writeTtl(engine.packet, engine.key, ttl - 1);
    return true;
  },
};
