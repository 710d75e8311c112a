import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Failure } from '../rpc/failure.ts';
import { mergePatch, parseMapping, parseSettings } from './settings.ts';
import { nearest } from './suggest.ts';

test('settings are YAML values under dotted keys', () => {
  expect(
    parseSettings(['vlan.mode=access', 'vlan.id=10', 'dhcpGuard=true', 'acl=[{action: deny}]', 'mirror=']),
  ).toEqual({
    vlan: { mode: 'access', id: 10 },
    dhcpGuard: true,
    acl: [{ action: 'deny' }],
    mirror: null,
  });
});

test('words that are no settings are refused with a Failure, whatever they are', () => {
  for (const word of ['x', '=1', 'a..b=1', '__proto__=1', 'a.__proto__.b=1', 'a=[']) {
    expect(() => parseSettings([word])).toThrow(Failure);
  }
  fc.assert(
    fc.property(fc.array(fc.string()), (words) => {
      try {
        parseSettings(words);
      } catch (error) {
        expect(error).toBeInstanceOf(Failure);
      }
    }),
  );
  expect(({} as Record<string, unknown>).b).toBeUndefined();
});

test('a mapping in braces is read whole', () => {
  expect(parseMapping('{limit: 10, names: [a, b]}')).toEqual({ limit: 10, names: ['a', 'b'] });
  expect(() => parseMapping('[1]')).toThrow(Failure);
});

test('a patch merges mappings, replaces everything else, and null removes', () => {
  const before = { a: { x: 1, y: 2 }, list: [1, 2], gone: true };
  expect(mergePatch(before, { a: { y: 3 }, list: [9], gone: null })).toEqual({ a: { x: 1, y: 3 }, list: [9] });
  expect(before.a.y).toBe(2);
});

test('a patch that names another mode replaces the section', () => {
  const before = { vlan: { mode: 'trunk', allowed: [10], native: 1 } };
  expect(mergePatch(before, { vlan: { mode: 'access', id: 5 } })).toEqual({ vlan: { mode: 'access', id: 5 } });
});

test('the nearest word is found through typing errors, and none where none is near', () => {
  expect(nearest('securty', ['vlan', 'security'])).toBe('security');
  expect(nearest('lgoLevel', ['socket', 'logLevel'])).toBe('logLevel');
  expect(nearest('xyz', ['vlan', 'security'])).toBeNull();
});
