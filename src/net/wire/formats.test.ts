import fc from 'fast-check';
import { expect, test } from 'vitest';
import { WireError } from './error.ts';
import { fuzzRounds, mutate, randomNumbers } from './testing.ts';
import { formats } from './testing-records.ts';
import { encode } from './view.ts';

/** Fields that a view names differently, as what it answers is a question or an index. */
const VIEW_NAMES: Readonly<Record<string, string>> = { control: 'isControl' };

test.each(formats)('$name: a record survives emit and parse, at any place in the bytes', (format) => {
  fc.assert(
    fc.property(format.records, fc.nat(9), fc.uint8Array({ maxLength: 5 }), (record, before, behind) => {
      const codec = format.codecFor(record);
      const length = codec.byteLength(record);
      const bytes = new Uint8Array(before + length + behind.length).fill(0xee);
      expect(codec.emit(record, bytes, before)).toBe(before + length);
      bytes.set(behind, before + length);
      expect(bytes.subarray(0, before).every((byte) => byte === 0xee)).toBe(true);
      expect(codec.parse(bytes, before, before + length)).toEqual(record);
      // What stands there already does not shine through.
      expect(encode(codec, record)).toEqual(bytes.subarray(before, before + length));
    }),
  );
});

test.each(formats)('$name: the view reads what the record says', (format) => {
  fc.assert(
    fc.property(format.records, (record) => {
      const bytes = encode(format.codecFor(record), record);
      const view = format.viewFor(record);
      expect(view.over(bytes, 0, bytes.length)).toBe(true);
      expect(view.flaw).toBeNull();
      for (const [name, value] of Object.entries(record)) {
        const seen: unknown = Reflect.get(view, VIEW_NAMES[name] ?? name);
        const isPlain = typeof value === 'number' || typeof value === 'boolean';
        if (isPlain && typeof seen === typeof value && name !== 'payloadLength')
          expect([name, seen]).toEqual([name, value]);
      }
    }),
  );
});

test.each(formats)('$name: what a setter writes is what the getter reads, and nothing around it changes', (format) => {
  const [record] = fc.sample(format.records, { numRuns: 1, seed: 5 });
  const view = format.viewFor(record);
  const prototype: object = Object.getPrototypeOf(view);
  for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
    if (property.set === undefined) continue;
    const bytes = encode(format.codecFor(record), record);
    const before = bytes.slice();
    expect(view.over(bytes, 0, bytes.length)).toBe(true);
    const original = Number(Reflect.get(view, name));
    for (const value of [0, 1, 5]) {
      Reflect.set(view, name, value);
      expect([name, Reflect.get(view, name)]).toEqual([name, value]);
    }
    Reflect.set(view, name, original);
    expect(bytes).toEqual(before);
  }
});

test.each(formats)(
  '$name: every truncation is refused or a shorter, sound header; none throws anything else',
  (format) => {
    fc.assert(
      fc.property(format.records, (record) => {
        const codec = format.codecFor(record);
        const view = format.viewFor(record);
        const bytes = encode(codec, record);
        for (let end = 0; end < bytes.length; end += 1) {
          const fits = view.over(bytes, 0, end);
          if (!fits) expect(view.flaw?.reason).toMatch(/\w/);
          try {
            codec.parse(bytes, 0, end);
            expect(fits).toBe(true);
          } catch (error) {
            expect(error).toBeInstanceOf(WireError);
          }
        }
      }),
      { numRuns: 20 },
    );
  },
);

test.each(formats)(
  '$name: garbage and mutations throw nothing but WireError, and what parses can be emitted again',
  (format) => {
    const random = randomNumbers(4242);
    const records = fc.sample(format.records, { numRuns: 20, seed: 7 });
    for (let round = Math.ceil(fuzzRounds(30_000) / formats.length); round > 0; round -= 1) {
      const record = records[random(records.length)];
      const codec = format.codecFor(record);
      const bytes =
        random(4) === 0
          ? Uint8Array.from({ length: random(80) }, () => random(256))
          : mutate(encode(codec, record), random);
      format.viewFor(record).over(bytes, 0, bytes.length);
      try {
        const parsed = codec.parse(bytes);
        const again = encode(codec, parsed);
        expect(again.length).toBeLessThanOrEqual(bytes.length + 3);
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        expect(error.offset).toBeLessThanOrEqual(bytes.length);
      }
    }
  },
);

test.each(formats)('$name: emit refuses a buffer that is too short, and values that do not fit', (format) => {
  const [record] = fc.sample(format.records, { numRuns: 1, seed: 3 });
  const codec = format.codecFor(record);
  const length = codec.byteLength(record);
  expect(() => codec.emit(record, new Uint8Array(length - 1))).toThrow(WireError);
  expect(() => codec.emit(record, new Uint8Array(length), 1)).toThrow(WireError);
  expect(() => codec.parse(new Uint8Array(4), 5)).toThrow(WireError);
  expect(() => codec.parse(new Uint8Array(4), 0, 5)).toThrow(WireError);
  for (const [name, value] of Object.entries(record)) {
    if (typeof value !== 'number') continue;
    for (const wrong of [-1, 2 ** 32, 0.5, Number.NaN]) {
      expect(() => encode(codec, { ...record, [name]: wrong }), `${name} ${wrong}`).toThrow(WireError);
    }
  }
});
