/** Hash, index and entries, without a kernel: plain memory takes the place of maps. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EntryTable, REST_MS } from './entry-table.ts';
import { CACHE_SEED, HashSecrets, MIX } from './hash.ts';
import { IndexTable } from './index-table.ts';
import { PROBES } from './limits.ts';
import { TableSizes } from './sizes.ts';

const word = fc.integer({ min: 0, max: 0xffff_ffff });

test('the hash in halves is the hash in 64 bits', () => {
  const secrets = new HashSecrets();
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: 0, max: 44 }), { maxLength: 20 }),
      fc.infiniteStream(word),
      (index, stream) => {
        const masked = index.map(() => stream.next().value ?? 0);
        let sum = secrets.seed(CACHE_SEED);
        index.forEach((place, i) => {
          sum += BigInt(masked[i]) * secrets.multiplier(place);
        });
        let mixed = Number(BigInt.asUintN(64, sum) >> 32n);
        mixed = Math.imul(mixed ^ (mixed >>> 16), MIX);
        expect(secrets.hash(CACHE_SEED, index, masked)).toBe((mixed ^ (mixed >>> 15)) >>> 0);
      },
    ),
  );
});

test('secrets can be carried over, and only whole', () => {
  const secrets = new HashSecrets();
  expect(new HashSecrets(secrets.words).hash(3, [1, 2], [5, 6])).toBe(secrets.hash(3, [1, 2], [5, 6]));
  expect(() => new HashSecrets(new Uint32Array(7))).toThrow(RangeError);
});

test('the index finds what is in it, whatever came and went, and programs reach it before an empty place', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 60 }), word), { maxLength: 300 }),
      (steps) => {
        const index = new IndexTable(new Int32Array(64 + PROBES), 64);
        const there = new Map<number, number>();
        const hashOf = (entry: number) => there.get(entry) ?? 0;
        for (const [adds, entry, hash] of steps) {
          const known = there.get(entry);
          if (adds && known === undefined) {
            if (index.insert(hash | 0, entry, hashOf)) there.set(entry, hash | 0);
          } else if (known !== undefined) {
            index.remove(known, entry);
            there.delete(entry);
          }
          for (const [each, its] of there) {
            const place = index.find(its, each);
            expect(place).toBeGreaterThanOrEqual(index.home(its));
            expect(index.search(its, (candidate) => candidate === each)).toBe(each);
          }
        }
        for (const [entry, hash] of there) index.remove(hash, entry);
        expect(index.words.every((each) => (each & 0xfffff) === 0)).toBe(true);
      },
    ),
  );
});

test('another entry takes the place of one with the same hash', () => {
  const index = new IndexTable(new Int32Array(64 + PROBES), 64);
  index.insert(77, 1, () => 77);
  expect(index.exchange(77, 1, 2)).toBe(true);
  expect(index.find(77, 1)).toBe(-1);
  expect(index.find(77, 2)).toBe(index.home(77));
  expect(index.exchange(77, 1, 3)).toBe(false);
});

function entriesOf(count: number): EntryTable {
  const sizes = new TableSizes({ entries: count, keyWords: 11, parameterWords: 16, cpus: 2 });
  return new EntryTable({
    sizes,
    entries: new Uint32Array(sizes.entriesBytes / 4),
    far: new Uint32Array(sizes.farBytes / 4),
  });
}

test('an entry comes back as it was written, with few parameters and with many', () => {
  fc.assert(
    fc.property(
      fc.array(word, { maxLength: 11 }),
      fc.array(word, { maxLength: 16 }),
      fc.integer({ min: 0, max: 249 }),
      fc.integer({ min: 0, max: 4095 }),
      (key, parameters, mask, shape) => {
        const entries = entriesOf(4);
        const entry = entries.take(0);
        entries.write(entry, mask, shape, 1, key, parameters);
        expect(entries.maskOf(entry)).toBe(mask);
        expect(entries.shapeOf(entry)).toBe(shape);
        expect([...entries.keyOf(entry, key.length)]).toEqual(key);
        expect([...entries.parametersOf(entry, parameters.length)]).toEqual(parameters);
        entries.kill(entry);
        expect(entries.maskOf(entry)).toBe(-1);
      },
    ),
  );
});

test('a number rests before it is used again, and entry 0 is never given out', () => {
  const entries = entriesOf(4);
  const taken = [entries.take(0), entries.take(0), entries.take(0)];
  expect(new Set(taken)).toEqual(new Set([1, 2, 3]));
  expect(entries.take(0)).toBe(0);
  entries.kill(2);
  entries.release(2, 500);
  expect(entries.take(500 + REST_MS - 1)).toBe(0);
  expect(entries.take(500 + REST_MS)).toBe(2);
  expect(entries.used).toBe(3);
});

test('sizes that programs could not address are refused', () => {
  for (const wrong of [{ entries: 100 }, { entries: 1 << 21 }, { cpus: 3 }, { keyWords: 46 }, { parameterWords: 3 }]) {
    const shape = { entries: 64, keyWords: 11, parameterWords: 16, cpus: 2, ...wrong };
    expect(() => new TableSizes(shape)).toThrow(RangeError);
  }
});

test('an index that is a quarter full takes everything', () => {
  const index = new IndexTable(new Int32Array(4096 + PROBES), 4096);
  const hashes = new Map<number, number>();
  const random = new HashSecrets();
  for (let entry = 1; entry < 1024; entry += 1) {
    hashes.set(entry, random.hash(1, [0], [entry]) | 0);
    expect(index.insert(hashes.get(entry) ?? 0, entry, (each) => hashes.get(each) ?? 0)).toBe(true);
  }
  for (const [entry, hash] of hashes) {
    const place = index.find(hash, entry);
    expect(place).toBeGreaterThanOrEqual(index.home(hash));
    // No program stops before it.
    for (let before = index.home(hash); before < place; before += 1) expect(index.words[before]).not.toBe(0);
  }
});
