/** Of each action of the table, and of lists of them inside each other: what its description says is what builder, walk, text and engine do. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { toKeyPort } from '../../net/index.ts';
import { Drop } from '../engine/drops.ts';
import { FlowKey } from '../key/key.ts';
import { listWith } from '../testing/arbitraries.ts';
import { ethernet, fuzzRounds, ipv4, packetOf, tcp } from '../testing/frames.ts';
import { FlowLab } from '../testing/lab.ts';
import { formatActions, parseActions } from '../text/actions.ts';
import { Action, type ActionName } from './encoding.ts';
import { ACTIONS, everyAction, lengthFlaw } from './table.ts';

const NAMES = Object.keys(ACTIONS) as ActionName[];

test.each(NAMES)('%s has the length that is described, is met by the walk, and reads back from its text', (name) => {
  fc.assert(
    fc.property(listWith(name), ({ words, actions }) => {
      const met: ActionName[] = [];
      const isWhole = everyAction(words, 0, words.length, (action, at, end) => {
        expect(lengthFlaw(action, words, at, end - at)).toBe(null);
        met.push(...NAMES.filter((each) => ACTIONS[each] === action));
      });
      expect([isWhole, met.length]).toEqual([true, actions]);
      expect(met).toContain(name);
      expect(parseActions(formatActions(words))).toEqual(words);
    }),
    { numRuns: fuzzRounds(100) },
  );
});

test.each(NAMES)('of %s every other length is a flaw, and none is read beyond its list', (name) => {
  fc.assert(
    fc.property(listWith(name), fc.integer({ min: 1, max: 0x7fff }), ({ words }, length) => {
      everyAction(words, 0, words.length, (action, at, end, lists) => {
        if (length === end - at) return;
        const flaw = lengthFlaw(action, words, at, length);
        // An action that ends with a list is as long as the list; a shorter one may still have room for those before.
        if (lists.length === 0) expect(flaw).not.toBe(null);
        else if (flaw === null) expect(length).toBeGreaterThanOrEqual(lists[lists.length - 1].from - at);
      });
    }),
    { numRuns: fuzzRounds(50) },
  );
});

test.each(NAMES)('the engine knows %s, valid for the packet or not', (name) => {
  const lab = new FlowLab({ userspace: () => {} }, { sampleSeed: 3 });
  const frame = ethernet(0x0800, ipv4(6, tcp()));
  fc.assert(
    fc.property(listWith(name), ({ words }) => {
      const key = new FlowKey();
      key.begin(toKeyPort(1));
      lab.datapath.execute(packetOf(frame, lab.pool), key, words);
      expect(lab.held).toBe(0);
    }),
    { numRuns: fuzzRounds(50) },
  );
  expect(lab.datapath.drops.of(Drop.ACTION_UNKNOWN)).toBe(0);
});

test('types are numbered without gaps, as they are indexes', () => {
  expect(Object.values(Action).sort((a, b) => a - b)).toEqual(NAMES.map((_, i) => i + 1));
});
