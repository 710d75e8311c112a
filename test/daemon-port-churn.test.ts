/** Ports that come, go and change: packets of established flows between others stay in the kernel, and none is lost. */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { OffloadFlow, OffloadInfo } from '../src/daemon/client.ts';
import { must, until, World } from './daemon-world.ts';
import { buildShim, hasOpenVSwitch } from './ovs-world.ts';

const FRAMES = 100_000;

let world: World;
beforeEach(() => {
  world = new World();
  world.host('a', '10.9.0.1/24');
  world.host('b', '10.9.0.2/24');
});
afterEach(() => world.end());

const portOf = (name: string) => world.json<OffloadInfo>('offload', 'show').ports.find(({ port }) => port === name);

/** Frames that the cable of a to the switch, and that of the switch to b, had no room for. */
function lostInCables(): number {
  const dropsOf = (namespace: string, device: string) => {
    const [link] = JSON.parse(must('ip', '-n', namespace, '-s', '-j', 'link', 'show', 'dev', device));
    return (link as { stats64: { tx: { dropped: number } } }).stats64.tx.dropped;
  };
  return dropsOf(world.namespace('a'), 'eth0') + dropsOf(world.middle, 'b');
}

/** Frames of a that the switch had no room for in its queue. */
const inQueue = () =>
  world.json<{ port: string; receiveDropped: number }[]>('stats').find(({ port }) => port === 'a')?.receiveDropped ?? 0;

/** What the kernel has done for a port. */
function countsOf(name: string): { punted: number; carried: number; lost: number[] } {
  const port = portOf(name);
  const lost = Object.values(port?.lost ?? {}).filter((packets) => packets !== 0);
  return { punted: port?.puntedPackets ?? 0, carried: port?.carriedPackets ?? 0, lost };
}

/** What a command has printed when it has ended. */
function outputOf(child: ChildProcess): Promise<string> {
  let text = '';
  child.stdout?.on('data', (data) => {
    text += data;
  });
  return new Promise((resolve, reject) => {
    child.once('exit', () => resolve(text));
    child.once('error', reject);
  });
}

/** A cable beside those of the hosts, which the switch may have as port c. */
function plugC(): void {
  must('ip', '-n', world.middle, 'link', 'add', 'c', 'type', 'veth', 'peer', 'name', 'far');
  for (const name of ['c', 'far']) must('ip', '-n', world.middle, 'link', 'set', name, 'up');
}

/** Have a send numbered frames to b while something happens to others, again and again. @returns what b says of them, and what a's port did */
async function streamWhile(frames: number, pps: string, isCarried: boolean, happens: (round: number) => void) {
  expect(world.pings('a', '10.9.0.2', 5)).toBe(true);
  const [{ address }] = JSON.parse(must('ip', '-n', world.namespace('b'), '-j', 'link', 'show', 'eth0'));
  const generate = (count: number, rate: string) => {
    const what = ['--netdev', 'eth0', '--pps', rate, '--count', String(count), '--dst-mac', address];
    return world.startIn('a', ['--json', 'generate', ...what]);
  };
  await outputOf(generate(500, '1k'));
  // The first ones are through before programs with their mask are made.
  if (isCarried) {
    await until(
      'the kernel carries them',
      async () => {
        const before = portOf('a')?.carriedPackets ?? 0;
        await outputOf(generate(100, '1k'));
        return (portOf('a')?.carriedPackets ?? 0) - before >= 100;
      },
      30_000,
    );
  }
  const counting = ['--netdev', 'eth0', '--count', String(frames), '--idle', '5s', '--duration', '60s'];
  const received = outputOf(world.startIn('b', ['--json', 'receive', ...counting]));
  await until('somebody counts', () => must('ip', '-n', world.namespace('b'), 'link', 'show', 'eth0').includes('xdp'));
  const before = { ...countsOf('a'), inQueue: inQueue() };
  const sender = generate(frames, pps);
  const sent = outputOf(sender);
  let rounds = 0;
  while (sender.exitCode === null) {
    happens(rounds);
    rounds += 1;
    // Only then it is heard that the sender has ended.
    await new Promise(setImmediate);
  }
  await sent;
  expect(rounds).toBeGreaterThan(1);
  const result = JSON.parse(await received) as { received: number; late: number };
  const after = countsOf('a');
  return {
    result,
    punted: after.punted - before.punted,
    carried: after.carried - before.carried,
    inQueue: inQueue() - before.inQueue,
    lost: after.lost,
  };
}

test('numbered frames between two ports: not one is lost or comes up while others come, go, and change', async () => {
  // Or the generator's frames are not taken.
  world.beside('ethtool', '-K', 'a', 'gro', 'on');
  world.up('ports: { a: {}, b: {} }\n');
  plugC();
  const { result, punted, carried, lost } = await streamWhile(FRAMES, '20k', true, (round) => {
    world.ok('port', 'add', 'c');
    must('ip', '-n', world.middle, 'link', 'set', 'c', 'mtu', String(1300 + round));
    world.ok(
      'port',
      'set',
      'c',
      'acl=[{action: deny, direction: in, protocol: udp, remotePort: 9}]',
      'learning.limit=5',
    );
    must('ip', '-n', world.middle, 'link', 'set', 'c', 'down');
    must('ip', '-n', world.middle, 'link', 'set', 'c', 'up');
    world.ok('port', 'del', 'c');
    world.ok('port', 'add', 'm', '--kind', 'memory');
    world.ok('port', 'del', 'm');
  });
  // A machine that is busy loses some in the queues of its cables, and counts them.
  const inCables = lostInCables();
  expect(result).toMatchObject({ received: FRAMES - inCables, late: 0 });
  expect(punted).toBeLessThan(20);
  expect(carried).toBeGreaterThan(0.9 * FRAMES);
  expect(lost).toEqual([]);
});

test.each([
  ['require', FRAMES, '20k'],
  ['off', 5000, '1k'],
] as const)(
  'a first policy is set on one port, and the last taken away, with offload %s: not one frame between two others is lost',
  async (offload, frames, pps) => {
    world.beside('ethtool', '-K', 'a', 'gro', 'on');
    plugC();
    world.up(`ports: { a: {}, b: {}, c: {} }\noffload: ${offload}\n`);
    const isCarried = offload === 'require';
    const { result, punted, carried, lost, inQueue } = await streamWhile(frames, pps, isCarried, () => {
      world.ok('port', 'set', 'c', 'acl=[{action: deny, direction: in, protocol: udp, remotePort: 9}]');
      world.ok('port', 'set', 'c', 'acl=');
      world.ok('port', 'set', 'c', '--access', '7');
      world.ok('port', 'set', 'c', '--no-vlan');
    });
    const inCables = lostInCables();
    expect(result.late).toBe(0);
    if (!isCarried) {
      // What came to the switch has left it: a busy machine loses some in the queue before it, too.
      expect(result.received).toBeGreaterThanOrEqual(frames - inCables - inQueue);
      return;
    }
    expect(result.received).toBe(frames - inCables);
    const tables = new Set(
      world.json<{ flows: OffloadFlow[] }>('offload', 'show', '--flows').flows.map(({ table }) => table),
    );
    expect([...tables]).toEqual(['learning']);
    expect(punted).toBeLessThan(20);
    expect(carried).toBeGreaterThan(0.9 * frames);
    expect(lost).toEqual([]);
  },
);

test.runIf(hasOpenVSwitch())(
  'policies of one port come and go under Open vSwitch: not one frame between two others is lost or comes up',
  async () => {
    const before = { ...process.env };
    buildShim();
    for (const name of ['OVS_RUNDIR', 'OVS_DBDIR', 'OVS_LOGDIR']) process.env[name] = world.folder;
    world.beside('ethtool', '-K', 'a', 'gro', 'on');
    plugC();
    try {
      world.ok('ovs', 'start', '--pseudo-device', join(world.folder, 'nl.sock'));
      const ports = ['a', 'b', 'c'].flatMap((port) => ['--', 'add-port', 'br0', port]);
      must('ip', 'netns', 'exec', world.middle, 'ovs-vsctl', '--timeout=20', 'add-br', 'br0', ...ports);
      const deciders = () =>
        world
          .json<{ flows: OffloadFlow[] }>('offload', 'show', '--flows')
          .flows.map(({ table, deciders: names }) => `${table} ${names.join(' ')}`);
      const changes = [
        ['port', 'set', 'c', 'acl=[{action: deny, direction: out, protocol: udp, remotePort: 9}]'],
        ['port', 'set', 'c', 'acl='],
        ['port', 'set', 'c', 'acl=[{action: deny, direction: out, state: [invalid]}]'],
        ['port', 'set', 'c', 'acl='],
        ['extension', 'add', 'capture'],
        ['port', 'set', 'c', '--access', '7'],
        ['extension', 'del', 'capture'],
        ['port', 'set', 'c', '--no-vlan'],
      ];
      const frames = 2 * FRAMES;
      const { result, punted, carried, lost } = await streamWhile(frames, '20k', true, (round) => {
        world.ok(...changes[round % changes.length]);
        if (round !== 0) return;
        // What is sent to all goes to c, too.
        world.pings('a', '10.9.0.99', 1);
        expect(new Set(deciders())).toEqual(new Set(['ovs-system ovs', 'ovs-system port policies ovs']));
      });
      world.ok('port', 'set', 'c', 'acl=', '--no-vlan');
      expect(result).toMatchObject({ received: frames - lostInCables(), late: 0 });
      expect(new Set(deciders())).toEqual(new Set(['ovs-system ovs']));
      expect(punted).toBeLessThan(50);
      expect(carried).toBeGreaterThan(0.9 * frames);
      expect(lost).toEqual([]);
    } finally {
      world.millrace('ovs', 'stop');
      process.env = before;
    }
  },
);
