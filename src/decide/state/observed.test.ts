/** Outcomes end with what they rest on, whatever their ends do. */
import { expect, test } from 'vitest';
import { KEY_WORDS } from '../../flow/index.ts';
import { Anchor, type Dependent, type DependentGroup, endAll, Reading, whileReading } from './observed.ts';

interface Outcome extends Dependent {
  ends: number;
}

function outcome(failure: string | null, group?: DependentGroup): Outcome {
  const made: Outcome = {
    ends: 0,
    end() {
      made.ends += 1;
      if (failure !== null) throw new Error(failure);
    },
    ...(group === undefined ? {} : { group }),
  };
  return made;
}

function hang(anchor: Anchor, outcomes: readonly Outcome[]): void {
  const reading = new Reading();
  whileReading(reading, () => anchor.read());
  for (const one of outcomes) reading.tieAll(one, new Uint32Array(KEY_WORDS));
  reading.clear();
}

test.each([3, 1000])('%i outcomes end, though some of their ends throw, and what was thrown first is told', (count) => {
  const anchor = new Anchor('value');
  const outcomes = Array.from({ length: count }, (_, i) => outcome(i % 2 === 0 ? `end ${i}` : null));
  hang(anchor, outcomes);
  expect(() => anchor.changed()).toThrow(`end ${count - 1 - ((count - 1) % 2)}`);
  expect(outcomes.filter(({ ends }) => ends !== 1)).toEqual([]);
  // What is ended afterwards is ended as ever.
  const later = outcome(null);
  hang(anchor, [later]);
  anchor.changed();
  expect(later.ends).toBe(1);
});

test('a group that fails keeps nobody else from ending', () => {
  const failing = {
    endMany(dependents: readonly Dependent[]) {
      for (const each of dependents) if (each.group === failing) each.end();
      throw new Error('the group failed');
    },
  };
  const own = Array.from({ length: 300 }, () => outcome(null, failing));
  const others = Array.from({ length: 300 }, () => outcome(null));
  expect(() => endAll([...own, ...others])).toThrow('the group failed');
  expect([...own, ...others].filter(({ ends }) => ends !== 1)).toEqual([]);
});
