import { readFileSync } from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import { bindLibc, gracePeriod, hurried, openDescriptors } from './index.ts';

const SWITCH = '/sys/kernel/rcu_expedited';
const state = () => readFileSync(SWITCH, 'utf8').trim();
const mayHurry = () => {
  try {
    return hurried(state) === '1';
  } catch {
    return false;
  }
};

const open = openDescriptors();
afterEach(() => expect(openDescriptors()).toBe(open));

/** Other tests of the machine use the switch as well: what it shall be, it is in some of many turns. */
function sometimes(what: () => boolean): boolean {
  for (let turn = 0; turn < 1000; turn += 1) if (what()) return true;
  return false;
}

test('what the work returns and throws comes out', () => {
  expect(hurried(() => 5)).toBe(5);
  expect(() =>
    hurried(() => {
      throw new RangeError('no');
    }),
  ).toThrow('no');
});

test.runIf(sometimes(mayHurry))(
  'the switch is on for the work, work in work included, and off again afterwards',
  () => {
    const seen = () =>
      hurried(() => {
        const before = state();
        hurried(() => {});
        return before + state();
      }) + state();
    expect(sometimes(() => seen() === '110')).toBe(true);
    const failing = () => {
      try {
        hurried(() => {
          throw new Error(state());
        });
      } catch (error) {
        return `${error instanceof Error ? error.message : ''}${state()}`;
      }
      return '';
    };
    expect(sometimes(() => failing() === '10')).toBe(true);
  },
);

test.runIf(sometimes(mayHurry))('a grace period is much shorter', () => {
  const syscall = bindLibc<[number, number, number, number]>('long syscall(long number, int a, int b, int c)');
  const took = (work: () => void) => {
    const begun = performance.now();
    for (let turn = 0; turn < 5; turn += 1) work();
    return performance.now() - begun;
  };
  // The shortest of several, as others may wait for the processor meanwhile.
  const shortest = (work: () => void) => Math.min(...[1, 2, 3, 4, 5, 6].map(() => took(work)));
  const barrier = () => void syscall(process.arch === 'x64' ? 324 : 283, 1, 0, 0);
  const plain = shortest(barrier);
  // With one processor there is nobody to wait for, and some kernels do not offer the call.
  if (plain < 5) return;
  expect(shortest(() => hurried(barrier))).toBeLessThan(plain / 2);
});

test('a grace period is waited for aside', async () => {
  let isOver = false;
  const ended = new Promise<boolean>((resolve) => {
    gracePeriod((isTold) => {
      isOver = true;
      resolve(isTold);
    });
  });
  expect(isOver).toBe(false);
  expect(await ended).toBe(true);
});
