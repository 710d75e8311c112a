/** DROP: the packet ends here, under a reason of its own. */
import { Drop } from '../../engine/drops.ts';
import type { ActionDescription } from '../description.ts';
import { Action } from '../encoding.ts';
import { structure } from '../netlink.ts';

export const drop: ActionDescription<typeof Action.DROP> = {
  type: Action.DROP,
  layout: { fields: ['error number, 0 for none'] },
  flaw: (its) => (its.isLast ? null : 'actions behind it'),
  leads: (to, words, at) => to.dropped(explicitDrop(words[at + 1])),
  text: {
    name: 'drop',
    format: (words, at) => (words[at + 1] === 0 ? 'drop()' : `drop(${words[at + 1] >>> 0})`),
    parse(scanner, builder) {
      builder.drop(scanner.text[scanner.at] === ')' ? 0 : scanner.number(32));
      scanner.expect(')');
    },
  },
  netlink: structure(Action.DROP, ['u32']),
  run: (engine, words, at) => engine.drop(explicitDrop(words[at + 1])),
};

/** The reason of Drop that packets are counted under. */
export function explicitDrop(error: number): number {
  return error === 0 ? Drop.EXPLICIT : Drop.EXPLICIT_ERROR;
}
