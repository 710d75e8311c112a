import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type LinkEvent, type LinkState, LinkTable } from './link-state.ts';

const anyLink = fc.record({
  index: fc.integer({ min: 1, max: 6 }),
  name: fc.constantFrom('a', 'b', 'c'),
  up: fc.boolean(),
  carrier: fc.boolean(),
  mtuBytes: fc.constantFrom(1500, 9000),
  macAddress: fc.constantFrom(new Uint8Array(6), new Uint8Array([2, 0, 0, 0, 0, 1])),
  masterIndex: fc.constantFrom(0, 9),
  kind: fc.constant('veth'),
  hardwareType: fc.constant(1),
});
const anyLinks = fc.uniqueArray(anyLink, { selector: (link) => link.index });

/** Apply events to a copy of a table, as a listener would. */
function follow(links: ReadonlyMap<number, LinkState>, events: readonly LinkEvent[]): Map<number, LinkState> {
  const copy = new Map(links);
  for (const event of events) {
    if (event.type === 'removed') copy.delete(event.link.index);
    else copy.set(event.link.index, event.link);
  }
  return copy;
}

test('whoever follows the events of a fresh look ends with what was seen', () => {
  fc.assert(
    fc.property(anyLinks, anyLinks, (before, after) => {
      const table = new LinkTable();
      table.replace(before);
      const copy = new Map(table.links);
      const events = table.replace(after);
      expect(follow(copy, events)).toEqual(table.links);
      expect([...table.links.values()].sort((a, b) => a.index - b.index)).toEqual(
        [...after].sort((a, b) => a.index - b.index),
      );
      expect(table.replace(after)).toEqual([]);
    }),
  );
});

test('a change names exactly the properties that differ', () => {
  const table = new LinkTable();
  const link: LinkState = {
    index: 3,
    name: 'eth0',
    up: true,
    carrier: true,
    mtuBytes: 1500,
    macAddress: new Uint8Array(6),
    masterIndex: 0,
    kind: '',
    hardwareType: 1,
  };
  expect(table.see(link)).toMatchObject({ type: 'added' });
  expect(table.see({ ...link, macAddress: new Uint8Array(6) })).toBeNull();
  expect(table.see({ ...link, mtuBytes: 9000, name: 'wan' })).toMatchObject({
    type: 'changed',
    changes: ['name', 'mtuBytes'],
    previous: link,
  });
  expect(table.lose(4)).toBeNull();
  expect(table.lose(3)).toMatchObject({ type: 'removed', link: { name: 'wan' } });
});

test('after a look that devices disturbed, those that it missed are gone only if they cannot be found', () => {
  fc.assert(
    fc.property(anyLinks, anyLinks, fc.array(fc.boolean()), (before, after, isMissed) => {
      const table = new LinkTable();
      table.replace(before);
      const copy = new Map(table.links);
      const read = after.filter((_, at) => isMissed[at] !== true);
      const events = table.update(read, (index) => after.find((link) => link.index === index) ?? null);
      expect(follow(copy, events)).toEqual(table.links);
      // What was known before and is there after is never lost; what is new may come with the next look.
      const known = new Set([...before, ...read].map(({ index }) => index));
      const byIndex = (links: Iterable<LinkState>) => [...links].sort((a, b) => a.index - b.index);
      expect(byIndex(table.links.values())).toEqual(byIndex(after.filter(({ index }) => known.has(index))));
    }),
  );
});
