/** A switch as a user brings it up: hosts talk over interfaces and TAPs, VLANs keep them apart, and the commands say what goes on. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { DropCount, FdbEntry, PortInfo, Status, TraceResult } from '../src/daemon/client.ts';
import { must, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World();
});
afterEach(() => world.end());

test('hosts on two interfaces and a TAP reach each other, and the switch knows where they are', async () => {
  world.host('a', '10.9.0.1/24', 'fd09::1/64');
  world.host('b', '10.9.0.2/24', 'fd09::2/64');
  const guest = world.namespace('c');
  world.up(`
ports:
  a: { kind: netdev }
  b: { kind: netdev }
  guest: { kind: tap, device: tap0, netns: ${guest}, addresses: [10.9.0.3/24, "fd09::3/64"], mac: "02:00:00:00:09:03" }
`);
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  expect(world.pings('a', 'fd09::2')).toBe(true);
  expect(world.pings('a', '10.9.0.3')).toBe(true);
  await until('IPv6 over the TAP works', () => world.pings('b', 'fd09::3', 1));

  const ports = world.json<PortInfo[]>('port', 'list');
  expect(ports.map((port) => [port.name, port.state])).toEqual([
    ['a', 'up'],
    ['b', 'up'],
    ['guest', 'up'],
  ]);
  for (const port of ports) expect(port.counters.receivedPackets).toBeGreaterThan(0);
  const entries = world.json<FdbEntry[]>('fdb', 'show', '--port', 'guest');
  expect(entries).toMatchObject([{ mac: '02:00:00:00:09:03', port: 'guest', static: false }]);
  const status = world.json<Status>('status');
  expect(status).toMatchObject({ ports: { total: 3, up: 3 } });
  expect(status.learnedAddresses).toBeGreaterThanOrEqual(3);

  expect(world.ok('status')).toContain('3, all up');
  expect(world.ok('port', 'list')).toMatch(/^guest +\d+ +tap +tap0/m);
  expect(world.ok('stats')).toMatch(/^a +up/m);

  world.ok('down');
  expect(must('ip', '-n', world.middle, 'link')).toContain(' a@');
  expect(must('ip', '-n', guest, 'link')).not.toContain('tap0');
});

test('VLANs keep hosts apart; a trunk carries both, one of them untagged', async () => {
  // A switch of its own makes the tags at the other end of the trunk: not every kernel has VLAN interfaces.
  world.host('t');
  const other = world.file(
    'other.yaml',
    `
ports:
  trunk: { kind: netdev, device: eth0, vlan: { mode: trunk, native: 10, allowed: [10, 20] } }
  v10: { kind: tap, addresses: [10.9.10.1/24], vlan: { mode: access, id: 10 } }
  v20: { kind: tap, addresses: [10.9.20.1/24], vlan: { mode: access, id: 20 } }
`,
  );
  world.host('x', '10.9.10.2/24');
  world.host('y', '10.9.20.3/24', '10.9.10.3/24');
  world.up(`
ports:
  t: { kind: netdev, vlan: { mode: trunk, native: 10, allowed: [10, 20-21] } }
  x: { kind: netdev, vlan: { mode: access, id: 10 } }
  y: { kind: netdev, vlan: { mode: access, id: 20 } }
`);
  const second = world.startIn('t', ['--socket', join(world.folder, 'other.sock'), 'up', '-f', other]);
  await until('the other switch is up', () => existsSync(join(world.folder, 'other.sock')));
  const seen = join(world.folder, 'trunk.pcapng');
  const capture = world.start(['capture', 't', '-w', seen, '--filter', 'icmp', '--count', '8']);
  const captured = new Promise((resolve) => capture.once('exit', resolve));
  await until('the capture runs', () => world.log().includes('capture-session is running'));
  expect(world.pings('t', '10.9.10.2')).toBe(true);
  expect(world.pings('t', '10.9.20.3')).toBe(true);
  expect(world.pings('x', '10.9.10.3', 1)).toBe(false);
  await captured;
  const tags = must('tshark', '-r', seen, '-T', 'fields', '-e', 'vlan.id', '-e', 'ip.dst').trim().split('\n');
  expect(tags).toEqual(expect.arrayContaining(['\t10.9.10.2', '20\t10.9.20.3']));

  world.ok('port', 'set', 'y', '--access', '10');
  await until('y is in VLAN 10', () => world.pings('x', '10.9.10.3', 1));
  expect(world.pings('t', '10.9.20.3', 1)).toBe(false);
  const entries = world.json<FdbEntry[]>('fdb', 'show', '--vlan', '10');
  expect(entries.length).toBeGreaterThanOrEqual(2);
  expect(entries.every((entry) => entry.vlan === 10)).toBe(true);
  const ended = new Promise((resolve) => second.once('exit', resolve));
  second.kill('SIGTERM');
  expect(await ended).toBe(0);
});

test('a denied packet is counted under its reason, and a trace says so before', () => {
  world.host('a', '10.9.0.1/24');
  world.host('b', '10.9.0.2/24');
  world.up(
    'ports:\n  a: { kind: netdev, acl: [{ action: deny, protocol: icmp, direction: in }] }\n  b: { kind: netdev }\n',
  );
  expect(world.pings('a', '10.9.0.2', 1)).toBe(false);
  const drops = world.json<DropCount[]>('drops', 'a');
  expect(drops.find((drop) => drop.reason === 'ACL_DENIED')?.packets).toBeGreaterThan(0);
  expect(world.ok('drops')).toMatch(/^a +ACL_DENIED/m);

  const echo = '020000000002 020000000001 0800 4500001c 00000000 4001 66c1 0a090001 0a090002 0800f7ff00000000';
  const denied = world.json<TraceResult>('trace', 'a', ...echo.split(' '));
  expect(denied.drop).toBe('ACL_DENIED');
  expect(denied.frame.join('\n')).toContain('10.9.0.1');
  world.ok('port', 'set', 'a', 'acl=');
  const allowed = world.json<TraceResult>('trace', 'a', ...echo.split(' '));
  expect(allowed).toMatchObject({ drop: null, destinations: ['b'] });
  expect(world.pings('a', '10.9.0.2', 1)).toBe(true);
});

test('static addresses stay where they are put, learned ones are forgotten on demand', () => {
  world.host('a', '10.9.0.1/24');
  world.host('b', '10.9.0.2/24');
  world.up('ports: { a: { kind: netdev }, b: { kind: netdev } }\n');
  world.ok('fdb', 'add', '02:00:00:00:00:99', 'b');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  expect(world.json<FdbEntry[]>('fdb', 'show')).toContainEqual(
    expect.objectContaining({ mac: '02:00:00:00:00:99', port: 'b', static: true, ageSeconds: null }),
  );
  expect(world.json<{ flushed: number }>('fdb', 'flush').flushed).toBeGreaterThanOrEqual(2);
  expect(world.json<FdbEntry[]>('fdb', 'show').filter((entry) => entry.static)).toHaveLength(1);
  const unknown = world.millrace('fdb', 'add', '02:00:00:00:00:98', 'c');
  expect([unknown.code, unknown.stderr]).toEqual([4, expect.stringContaining('there is no port "c"')]);
  world.ok('fdb', 'del', '02:00:00:00:00:99');
  expect(world.json<FdbEntry[]>('fdb', 'show').filter((entry) => entry.static)).toHaveLength(0);
  world.ok('extension', 'disable', 'learning');
  const refused = world.millrace('fdb', 'show');
  expect(refused.code).toBe(4);
  expect(refused.stderr).toContain('no addresses are kept');
});

test('the limit of a port bounds what is learned on it', () => {
  world.host('a', '10.9.0.1/24');
  world.host('b', '10.9.0.2/24');
  world.up('ports: { a: { kind: netdev, learning: { limit: 2 } }, b: { kind: netdev } }\n');
  for (let i = 1; i <= 5; i += 1) {
    world.ok('inject', 'a', `ffffffffffff02000000990${i}0800`, '00'.repeat(46));
  }
  expect(world.json<FdbEntry[]>('fdb', 'show', '--port', 'a').length).toBeLessThanOrEqual(2);
});
