/** Walks of maps that others change, against a map that gives the next key as the kernel does. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { NativeBlock } from '../../host/sys/index.ts';
import { MapChangedError } from '../errors.ts';
import { walkKeys } from './walk.ts';

/** Keys in ascending order. Before each question somebody may change them. */
function mapOf(keys: Set<number>, disturb: (last: number | null) => void = () => undefined) {
  return {
    name: 'walked',
    maxEntries: 64,
    keyBytes: 4,
    next(after: NativeBlock | null, into: NativeBlock): boolean {
      disturb(after === null ? null : after.u32[0]);
      const sorted = [...keys].sort((a, b) => a - b);
      const at = after === null ? -1 : sorted.indexOf(after.u32[0]);
      if (at + 1 >= sorted.length) return false;
      into.u32[0] = sorted[at + 1];
      return true;
    },
  };
}

const walked = (map: ReturnType<typeof mapOf>) => walkKeys(map).map((key) => key.u32[0]);

test('each key comes once', () => {
  expect(walked(mapOf(new Set([5, 1, 9])))).toEqual([1, 5, 9]);
  expect(walked(mapOf(new Set()))).toEqual([]);
});

test('each key that stays comes exactly once, wherever others take keys out', () => {
  const number = fc.integer({ min: 0, max: 60 });
  fc.assert(
    fc.property(fc.uniqueArray(number), fc.array(fc.tuple(number, number), { maxLength: 60 }), (all, changes) => {
      const keys = new Set(all);
      const touched = new Set(changes.flat());
      const list = [...changes];
      const seen = walked(
        mapOf(keys, () => {
          const change = list.shift();
          if (change === undefined) return;
          keys.delete(change[0]);
          keys.add(change[1]);
        }),
      );
      expect(new Set(seen).size).toBe(seen.length);
      const stayed = (number: number) => !touched.has(number);
      expect(seen.filter(stayed).sort((a, b) => a - b)).toEqual(all.filter(stayed).sort((a, b) => a - b));
    }),
  );
});

test('a map whose keys always go before the next is asked for is said to change too fast', () => {
  const keys = new Set([1, 2, 3, 4]);
  let gone: number | null = null;
  const map = mapOf(keys, (last) => {
    if (gone !== null) keys.add(gone);
    gone = last;
    if (gone !== null && gone > 2) keys.delete(gone);
  });
  expect(() => walkKeys(map)).toThrow(MapChangedError);
  let fresh = 1000;
  const flood = mapOf(keys, () => {
    fresh += 1;
    keys.add(fresh);
  });
  expect(() => walkKeys(flood)).toThrow('map "walked" changes faster than its keys can be walked');
});
