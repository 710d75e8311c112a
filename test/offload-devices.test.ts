/** What Millrace has made for itself in the kernel is taken away or changed by somebody: it is noticed, said, and there again. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { DaemonEvent, OffloadInfo } from '../src/daemon/client.ts';
import { must, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World({ outlives: true });
  world.host('a', '10.7.0.1/24');
  world.host('b', '10.7.0.2/24');
  world.up('ports: { a: {}, b: {} }\n');
});
afterEach(() => world.end());

const show = () => world.json<OffloadInfo>('offload', 'show');
const events = () => world.json<DaemonEvent[]>('events').map(({ message }) => message);
const link = (...args: string[]) => must('ip', '-n', world.middle, 'link', ...args);
const puntDevice = () => /\bmr[0-9a-f]{8}\b/.exec(link('show'))?.[0] ?? '';

/** A flow that the kernel has not seen: A with another address. */
let hosts = 0;
function isReachedByNewHost(): boolean {
  hosts += 1;
  const a = world.namespace('a');
  const address = `02:58:00:00:${(hosts >> 8).toString(16)}:${(hosts & 0xff).toString(16)}`;
  must('ip', '-n', a, 'link', 'set', 'dev', 'eth0', 'address', address);
  must('ip', '-n', a, 'neighbour', 'flush', 'all');
  return world.pings('a', '10.7.0.2', 3);
}

test.each([
  ['deleted', (device: string) => void link('delete', 'dev', device), 'was taken away by somebody'],
  [
    'moved to another namespace',
    (device: string) => void link('set', 'dev', device, 'netns', world.namespace('b')),
    'was taken away by somebody',
  ],
  ['set down', (device: string) => void link('set', 'dev', device, 'down'), 'was set down by somebody'],
])('the interface that packets come up by is %s: it is said, and new flows come up again', async (_, act, said) => {
  expect(world.pings('a', '10.7.0.2', 5)).toBe(true);
  const device = puntDevice();
  act(device);
  await until('it is said', () => events().some((message) => message.includes(device) && message.includes(said)));
  expect(puntDevice()).toBe(device);
  expect(isReachedByNewHost()).toBe(true);
  expect(link('show', 'dev', device)).toMatch(/[<,]UP[,>]/);
  // The next process finds it, and programs that go on know it.
  world.ok('down', '--keep');
  world.up('ports: { a: {}, b: {} }\n');
  expect(isReachedByNewHost()).toBe(true);
  world.ok('down');
  expect(link('show')).not.toContain(device);
});

test('the interface that packets come up by has a small MTU, or is in a bridge: new flows come up', () => {
  expect(world.pings('a', '10.7.0.2', 5)).toBe(true);
  const device = puntDevice();
  link('set', 'dev', device, 'mtu', '68');
  expect(isReachedByNewHost()).toBe(true);
  link('add', 'name', 'br', 'type', 'bridge');
  link('set', 'dev', device, 'master', 'br');
  expect(isReachedByNewHost()).toBe(true);
});

test.each([
  [
    'removed',
    (pins: string) => {
      // Its other files are the kernel's own.
      const folders = readdirSync(pins, { withFileTypes: true }).filter((entry) => entry.isDirectory());
      for (const { name } of folders) rmSync(join(pins, name), { recursive: true });
    },
  ],
  ['unmounted', (pins: string) => void must('umount', '--lazy', pins)],
])('what is pinned is %s by somebody: it is said, and is there again', async (_, act) => {
  expect(world.pings('a', '10.7.0.2', 20)).toBe(true);
  const pins = show().pins ?? '';
  act(pins);
  // A port that comes right then gets its programs.
  world.ok('port', 'del', 'a');
  world.ok('port', 'add', 'a');
  expect(show().ports.map(({ port, hook }) => [port, hook !== null])).toContainEqual(['a', true]);
  const isSaid = () => events().some((message) => message.includes(pins) && message.includes('is pinned again'));
  await until('it is said', isSaid);
  const carried = () => show().ports.reduce((sum, port) => sum + port.carriedPackets, 0);
  await until('the kernel carries', () => world.pings('a', '10.7.0.2', 20) && carried() > 20);
  process.kill(world.pid(), 'SIGKILL');
  expect(world.pings('a', '10.7.0.2', 5)).toBe(true);
  world.up('ports: { a: {}, b: {} }\n');
  expect(world.log()).toContain('flows that were left in the kernel go on');
});
