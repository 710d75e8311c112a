import { expect, test } from 'vitest';
import { SharedObjects } from './shared-objects.ts';

const changes: Readonly<Record<string, () => void>> = {
  'Object.prototype.evil': () => Object.assign(Object.prototype, { evil: 1 }),
  'Array.prototype.push': () => {
    Array.prototype.push = () => {
      throw new Error('hijacked');
    };
  },
  'Map.prototype.get': () => {
    Map.prototype.get = () => undefined;
  },
};

for (const [what, change] of Object.entries(changes)) {
  test(`${what} is noticed at once, named and put back`, () => {
    const shared = new SharedObjects();
    expect(shared.spoilt()).toBeNull();
    change();
    const spoilt = shared.spoilt();
    expect(spoilt).toContain(what);
    expect(shared.spoilt()).toBeNull();
    expect([1].push(2)).toBe(2);
    expect('evil' in {}).toBe(false);
    expect(new Map([[1, 2]]).get(1)).toBe(2);
  });
}

test('what is changed less in the open is found by the thorough look', () => {
  const shared = new SharedObjects();
  const { keys } = Object;
  Object.keys = () => [];
  expect(shared.repair()).toContain('Object.keys');
  expect(Object.keys).toBe(keys);
  expect(shared.repair()).toBeNull();
});
