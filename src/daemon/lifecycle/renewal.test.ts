import { expect, test } from 'vitest';
import { afterTrouble } from './renewal.ts';

const message = 'it did not return';

test('an extension that is to blame is held back, as often as somebody starts one', () => {
  let state = { heldBack: new Map<string, string>() as ReadonlyMap<string, string>, faults: [] as readonly number[] };
  for (const extension of ['a', 'b', 'a', 'b', 'a']) {
    const next = afterTrouble({ extension, message }, state, 1_000);
    if (next === null) throw new Error('given up');
    state = next;
  }
  expect([...state.heldBack]).toEqual([
    ['a', message],
    ['b', message],
  ]);
  expect(state.faults).toEqual([]);
});

test('faults that no extension is to blame for are borne three times in a minute', () => {
  const fail = (faults: readonly number[], nowMs: number) =>
    afterTrouble({ extension: null, message }, { heldBack: new Map(), faults }, nowMs)?.faults ?? null;
  expect(fail([], 1_000)).toEqual([1_000]);
  expect(fail([1_000, 2_000], 3_000)).toEqual([1_000, 2_000, 3_000]);
  expect(fail([1_000, 2_000, 3_000], 4_000)).toBeNull();
  expect(fail([1_000, 2_000, 3_000], 62_500)).toEqual([3_000, 62_500]);
});
