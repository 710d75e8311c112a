/** Who may send through a port that does not allow spoofing: the host at the other end of a veth, named addresses, or the first that sends. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { DropCount, PortInfo } from '../src/daemon/client.ts';
import { NetworkNamespace } from '../src/host/index.ts';
import { TunDevice } from '../src/host/tun-device.ts';
import { must, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World();
  world.host('a', '10.9.0.1/24');
  world.host('b', '10.9.0.2/24');
});
afterEach(() => world.end());

const spoofed = () => world.json<DropCount[]>('drops').find(({ reason }) => reason === 'MAC_SPOOFED')?.packets ?? 0;
const allowed = (port: string) => world.json<PortInfo>('port', 'show', port).allowedMacs;
const rename = (mac: string) => must('ip', '-n', world.namespace('a'), 'link', 'set', 'eth0', 'address', mac);

test('the host behind a veth may send by the address that it has, and by another as soon as it has that', async () => {
  world.up('ports: { a: { security: { allowMacSpoofing: false } }, b: {} }\n');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  expect(allowed('a')).toEqual(['02:57:00:00:00:61']);
  expect(allowed('b')).toBeNull();
  expect(spoofed()).toBe(0);
  rename('02:00:00:00:00:99');
  await until('its new address is known', () => allowed('a')?.[0] === '02:00:00:00:00:99');
  must('ip', '-n', world.namespace('b'), 'neigh', 'flush', 'all');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
});

test('named addresses are the ones that may send, and no other', async () => {
  world.up('ports: { a: { mac: ["02:57:00:00:00:61", "02:00:00:00:00:07"], security: {} }, b: {} }\n');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  rename('02:00:00:00:00:08');
  expect(world.pings('a', '10.9.0.2', 1)).toBe(false);
  expect(spoofed()).toBeGreaterThan(0);
  rename('02:00:00:00:00:07');
  must('ip', '-n', world.namespace('b'), 'neigh', 'flush', 'all');
  await until('the second address passes', () => world.pings('a', '10.9.0.2', 1));
  world.ok('port', 'set', 'a', 'mac=02:00:00:00:00:08');
  expect(allowed('a')).toEqual(['02:00:00:00:00:08']);
  expect(world.pings('a', '10.9.0.2', 1)).toBe(false);
});

test('behind the TAP of a virtual machine nobody can be seen: that is said, and the first that sends may be the one', async () => {
  const namespace = NetworkNamespace.byName(world.middle);
  const tap = namespace.run(() => TunDevice.make('vm0', 10));
  try {
    world.up('ports: { a: {}, b: {} }\n');
    const refused = world.millrace('port', 'add', 'vm0', 'security.allowMacSpoofing=false');
    expect(refused.code).toBe(4);
    expect(refused.stderr).toMatch(
      /vm0 is a TAP, and what address a guest behind it has cannot be seen[\s\S]*mac=learn/,
    );
    expect(world.json<PortInfo[]>('port', 'list').map(({ name }) => name)).toEqual(['a', 'b']);
    world.ok('port', 'add', 'vm0', 'security.allowMacSpoofing=false', 'mac=02:00:00:00:00:55');
    expect(allowed('vm0')).toEqual(['02:00:00:00:00:55']);
    expect(world.millrace('port', 'set', 'vm0', 'mac=auto').code).toBe(4);
    expect(allowed('vm0')).toEqual(['02:00:00:00:00:55']);
  } finally {
    tap.close();
    namespace.close();
  }
});

test('the first that sends is the one where that is asked for', async () => {
  world.up('ports: { a: { mac: learn, security: {} }, b: {} }\n');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  expect(allowed('a')).toEqual(['02:57:00:00:00:61']);
  rename('02:00:00:00:00:08');
  expect(world.pings('a', '10.9.0.2', 1)).toBe(false);
  expect(spoofed()).toBeGreaterThan(0);
});
