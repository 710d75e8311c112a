import { expect, test } from 'vitest';
import type { Extension } from '../config/model.ts';
import { insertedAt, movedTo } from './stack-order.ts';

const of = (...names: string[]): Extension[] =>
  names.map((name) => ({ name, module: null, enabled: true, config: {} }));
const named = (stack: readonly Extension[]) => stack.map(({ name }) => name);

// As a file may have them, and as packets pass them.
const stack = of('learning', 'f1', 'capture', 'f2');
const shown = [
  { name: 'capture', type: 'capturing' },
  { name: 'f1', type: 'filtering' },
  { name: 'f2', type: 'filtering' },
  { name: 'learning', type: 'forwarding' },
];

test('an extension moves among those of its type, up and down', () => {
  expect(named(movedTo(stack, shown, 'f1', 3))).toEqual(['learning', 'capture', 'f2', 'f1']);
  expect(named(movedTo(stack, shown, 'f2', 2))).toEqual(['learning', 'f2', 'f1', 'capture']);
  expect(named(movedTo(stack, shown, 'f2', 3))).toEqual(named(stack));
});

test('a position of another type is refused with those that there are', () => {
  expect(() => movedTo(stack, shown, 'f1', 4)).toThrow('f1 is filtering and can have positions 2 to 3');
  expect(() => movedTo(stack, shown, 'capture', 4)).toThrow('capture is capturing and can have position 1 only');
  expect(() => movedTo(stack, shown, 'learning', 5)).toThrow('learning is forwarding and can have position 4 only');
  expect(() => movedTo(stack, shown, 'nobody', 1)).toThrow('there is no extension "nobody"');
});

test('an extension is added above the one that stands at its position', () => {
  const [added] = of('new');
  expect(named(insertedAt(stack, shown, added, 1))).toEqual(['learning', 'f1', 'new', 'capture', 'f2']);
  expect(named(insertedAt(stack, shown, added, 3))).toEqual(['learning', 'f1', 'capture', 'new', 'f2']);
  expect(named(insertedAt(stack, shown, added, 9))).toEqual([...named(stack), 'new']);
});

test('one whose module has not been loaded moves anywhere in the list', () => {
  const held = [...shown.slice(0, 3), { name: 'mine', type: 'unknown' }, shown[3]];
  const all = [...stack, ...of('mine')];
  expect(named(movedTo(all, held, 'mine', 1))).toEqual(['learning', 'f1', 'mine', 'capture', 'f2']);
  expect(() => movedTo(all, held, 'mine', 6)).toThrow('positions 1 to 5');
});
