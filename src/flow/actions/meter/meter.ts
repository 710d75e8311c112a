/** METER: packets above a meter's rate are dropped. */
import { Drop } from '../../engine/drops.ts';
import { type ActionDescription, noFlaw, numberText } from '../description.ts';
import { Action } from '../encoding.ts';
import { structure } from '../netlink.ts';

export const meter: ActionDescription<typeof Action.METER> = {
  type: Action.METER,
  layout: { fields: ['meter'] },
  flaw: noFlaw,
  leads: (to) => to.open(),
  text: numberText('meter', (builder, id) => builder.meter(id)),
  netlink: structure(Action.METER, ['u32']),
  run(engine, words, at) {
    const { hooks } = engine;
    if (hooks.meter === undefined || hooks.meter(words[at + 1] >>> 0, engine.packet, engine.key)) return true;
    return engine.drop(Drop.METER);
  },
};
