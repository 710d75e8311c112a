/** Where an interface that leaves for another network namespace is looked for, and what is said where it cannot be made as it was. */
import { afterEach, expect, test } from 'vitest';
import { withRouteClient } from '../src/host/index.ts';
import { InterfaceChanges } from '../src/keeper/ports/interface-changes.ts';
import { LinkFlag } from '../src/netlink/index.ts';
import { type Host, Lab } from './support/index.ts';

let lab = new Lab();
afterEach(() => {
  lab.close();
  lab = new Lab();
});

const linkAt = (host: Host, name: string) => host.inside(() => withRouteClient((client) => client.link(name)));
const isPromiscuous = (host: Host, name: string) => (linkAt(host, name).flags & LinkFlag.PROMISC) !== 0;

test('what went nobody knows where stays noted, and is looked for everywhere when there is time for it', () => {
  const [a, b] = lab.hosts(2);
  lab.veth(a, 'eth0', b, 'far');
  const { index } = linkAt(a, 'eth0');
  const changes = new InterfaceChanges(() => {});
  a.inside(() => changes.make(index, 'promiscuous'));
  expect(a.inside(() => changes.gone(index))).toEqual([]);
  expect(changes.noted).toMatchObject([{ ifindex: index, changes: ['promiscuous'] }]);
  // Here again, it is not lost any more.
  expect(a.inside(() => changes.make(index, 'promiscuous'))).toEqual([]);
  expect([changes.interfaces, changes.noted.length]).toEqual([[index], 1]);

  a.inside(() => changes.gone(index));
  a.ip(`link set eth0 netns ${b.name}`);
  expect(isPromiscuous(b, 'eth0')).toBe(true);
  // The next process is told.
  const next = new InterfaceChanges(() => {}, changes.noted);
  expect(a.inside(() => next.seek(index))).toEqual([]);
  expect(isPromiscuous(b, 'eth0')).toBe(false);
  expect(a.inside(() => changes.seekLost())).toEqual([]);
  expect(changes.noted).toEqual([]);
});

test('where it went to cannot be entered, each change that remains is said, and no other', () => {
  const [a, b] = lab.hosts(2);
  lab.veth(a, 'eth0', b, 'far');
  const { index } = linkAt(a, 'eth0');
  const unknown = { index: 5, namespaceId: 4711 };
  const left = (changes: ('up' | 'promiscuous' | 'gro')[]) =>
    new InterfaceChanges(() => {}, [{ ifindex: index, address: '020000000001', changes }]);
  const said = (changes: ('up' | 'promiscuous' | 'gro')[]) =>
    a.inside(() => left(changes).gone(index, unknown)).join('\n');
  expect(said(['up'])).toBe('');
  expect(said(['promiscuous'])).toMatch(
    /^the interface with the MAC address 02:00:00:00:00:01, .* promiscuous .*promisc off$/,
  );
  expect(said(['gro'])).toMatch(/^GRO may have been turned on .*gro off$/);
  expect(said(['gro', 'promiscuous']).split('\n')).toHaveLength(2);
});
