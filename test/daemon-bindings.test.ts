/** Bound addresses: a host uses the IP addresses that are its own, in the engine and where the kernel carries its flows. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { DropCount, OffloadInfo, PortInfo } from '../src/daemon/client.ts';
import { must, run, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World();
  world.host('a', '10.9.0.1/24', 'fd09::1/64');
  world.host('b', '10.9.0.2/24', 'fd09::2/64');
});
afterEach(() => world.end());

const dropped = (reason: string) =>
  world.json<DropCount[]>('drops').find((drop) => drop.port === 'a' && drop.reason === reason)?.packets ?? 0;

/** Ping from one of the addresses of a. */
const pingsFrom = (source: string, target: string) =>
  run('ip', ['netns', 'exec', world.namespace('a'), 'ping', '-c', '1', '-W', '1', '-I', source, target]).code === 0;

test('a host may use its own addresses, and neither those of others nor claim them', async () => {
  world.up(`
ports:
  a: { security: {}, addressBinding: { addresses: [10.9.0.1, "fd09::1", "fe80::/64"] } }
  b: {}
`);
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  await until('IPv6 passes, too', () => world.pings('a', 'fd09::2', 1));
  world.address('a', 'eth0', '10.9.0.77/24');
  expect(pingsFrom('10.9.0.77', '10.9.0.2')).toBe(false);
  expect(dropped('SOURCE_NOT_BOUND') + dropped('CLAIM_NOT_BOUND')).toBeGreaterThan(0);
  const { bindings } = world.json<PortInfo>('port', 'show', 'a');
  expect(bindings?.map(({ address, origin }) => [address, origin])).toEqual([
    ['10.9.0.1', 'fixed'],
    ['fd09::1', 'fixed'],
    ['fe80::/64', 'fixed'],
  ]);
  expect(world.ok('port', 'show', 'a')).toContain('bound addresses\n  10.9.0.1 (fixed)\n');
  world.ok('port', 'set', 'a', 'addressBinding.addresses=[10.9.0.1, 10.9.0.77]');
  expect(pingsFrom('10.9.0.77', '10.9.0.2')).toBe(true);
});

test('flows of bound addresses run in the kernel, and no other address comes through by them', async () => {
  world.up('ports: { a: { addressBinding: { addresses: [10.9.0.1] } }, b: {} }\noffload: require\n');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  const send = (source: string, count: number) => {
    const text = `
      const s = require('node:dgram').createSocket('udp4');
      s.bind(4000, '${source}', () => { let n = 0; const next = () => n++ < ${count} ? s.send('x', 5000, '10.9.0.2', next) : s.close(); next(); });
    `;
    must('ip', 'netns', 'exec', world.namespace('a'), process.execPath, '-e', text);
  };
  const carried = () =>
    world.json<OffloadInfo>('offload', 'show').ports.find(({ port }) => port === 'a')?.carriedPackets ?? 0;
  await until('the kernel carries', () => {
    send('10.9.0.1', 50);
    return carried() > 20;
  });
  world.address('a', 'eth0', '10.9.0.77/24');
  const before = dropped('SOURCE_NOT_BOUND');
  send('10.9.0.77', 50);
  await until('all are dropped', () => dropped('SOURCE_NOT_BOUND') >= before + 50);
});

test('an IPv6 host is let in when it has tested its addresses', async () => {
  world.up('ports: { a: { addressBinding: { learn: [nd] } }, b: {} }\n');
  expect(world.pings('a', 'fd09::2', 1)).toBe(false);
  const a = world.namespace('a');
  must('ip', '-n', a, 'link', 'set', 'eth0', 'down');
  must('ip', '-n', a, 'link', 'set', 'eth0', 'up');
  must('ip', '-n', a, 'address', 'add', 'fd09::33/64', 'dev', 'eth0');
  await until('the address is bound', () => {
    const { bindings } = world.json<PortInfo>('port', 'show', 'a');
    return bindings?.some(({ address, origin }) => address === 'fd09::33' && origin === 'nd') === true;
  });
  await until('and may be used', () => pingsFrom('fd09::33', 'fd09::2'));
});
