/** RECIRC: the packet is looked up again, with another recirculation id. */
import { Drop, MAXIMUM_DEFERRED, MAXIMUM_RECIRCULATIONS } from '../../engine/drops.ts';
import { Word } from '../../key/layout.ts';
import { hexNumber } from '../../text/values.ts';
import { type ActionDescription, noFlaw, numberText } from '../description.ts';
import { Action } from '../encoding.ts';
import { structure } from '../netlink.ts';

export const recirc: ActionDescription<typeof Action.RECIRC> = {
  type: Action.RECIRC,
  layout: { fields: ['recirculation id'] },
  flaw: noFlaw,
  leads: (to) => to.sentOn(),
  text: numberText('recirc', (builder, id) => builder.recirc(id), hexNumber),
  netlink: structure(Action.RECIRC, ['u32']),
  // The packet waits for its next look-up; what the list still does to it happens to a copy.
  run(engine, words, at) {
    const hasPassed = engine.key.recirculations >= MAXIMUM_RECIRCULATIONS;
    if (hasPassed || engine.deferredCount >= MAXIMUM_DEFERRED) {
      engine.drop(hasPassed ? Drop.RECIRCULATION_LIMIT : Drop.DEFERRED_LIMIT);
      return true;
    }
    if (!engine.refreshKey()) return false;
    const waiting = engine.defer();
    waiting.words[Word.RECIRC_ID] = words[at + 1];
    waiting.recirculations += 1;
    return true;
  },
};
