/** An address table that somebody fills: others keep their addresses, hosts that come are learned at once, and it is said. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { DaemonEvent, FdbEntry, PortInfo, Status } from '../src/daemon/client.ts';
import { must, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World();
});
afterEach(() => world.end());

test('one port floods with random addresses: nobody else loses any, and it is named', async () => {
  for (const [index, name] of ['a', 'b', 'e'].entries()) world.host(name, `10.9.0.${index + 1}/24`);
  // Or the generator's frames are not taken.
  world.beside('ethtool', '-K', 'e', 'gro', 'on');
  world.up('ports: { a: {}, b: {}, e: {} }\nfdb: { maximum: 200 }\n');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  const addresses = (port: string) => world.json<FdbEntry[]>('fdb', 'show', '--port', port).map(({ mac }) => mac);
  const before = addresses('a');
  const flood = ['--netdev', 'eth0', '--pps', '1k', '--count', '2000', '--flows', '2000', '--vary', 'mac'];
  const macs = ['--src-mac', '02:66:00:00:00:00', '--dst-mac', '02:77:00:00:00:01'];
  must('ip', 'netns', 'exec', world.namespace('e'), process.execPath, ...world.command('generate', ...flood, ...macs));
  await until('the table is full', () => world.json<Status>('status').fullAddressTable !== null);
  const { fullAddressTable, learnedAddresses } = world.json<Status>('status');
  expect(learnedAddresses).toBe(200);
  expect(fullAddressTable).toMatchObject({ port: 'e' });
  expect(fullAddressTable?.exchanged).toBeGreaterThan(500);
  expect(world.ok('status')).toContain('behind port e');
  expect(addresses('a')).toEqual(before);
  await until('it is told once', () => fullEvents().length === 1);
  expect(fullEvents()[0]).toContain('behind port e');

  // Two hosts that come now speak to each other, and the one that floods hears nothing of it.
  for (const [index, name] of ['c', 'd'].entries()) {
    world.host(name, `10.9.0.${index + 4}/24`);
    world.ok('port', 'add', name);
  }
  expect(world.pings('c', '10.9.0.5')).toBe(true);
  const heard = () => world.json<PortInfo>('port', 'show', 'e').counters.transmittedPackets;
  const heardBefore = heard();
  expect(world.pings('c', '10.9.0.5', 20)).toBe(true);
  expect(heard() - heardBefore).toBeLessThan(10);
});

const fullEvents = () =>
  world
    .json<DaemonEvent[]>('events')
    .map(({ message }) => message)
    .filter((message) => message.startsWith('the address table is full'));
