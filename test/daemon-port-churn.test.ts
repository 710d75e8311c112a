/** Ports that come, go and change: packets of established flows between others stay in the kernel, and none is lost. */
import type { ChildProcess } from 'node:child_process';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { OffloadInfo } from '../src/daemon/client.ts';
import { must, until, World } from './daemon-world.ts';

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

test('numbered frames between two ports: not one is lost or comes up while others come, go, and change', async () => {
  // Or the generator's frames are not taken.
  world.beside('ethtool', '-K', 'a', 'gro', 'on');
  // With the first policy of all, and when the last one goes, flows go from one table to another, and come up meanwhile.
  world.up('ports: { a: {}, b: {}, w: { kind: memory, acl: [{ action: deny, protocol: udp, remotePort: 7 }] } }\n');
  expect(world.pings('a', '10.9.0.2', 5)).toBe(true);
  must('ip', '-n', world.middle, 'link', 'add', 'c', 'type', 'veth', 'peer', 'name', 'far');
  for (const name of ['c', 'far']) must('ip', '-n', world.middle, 'link', 'set', name, 'up');
  const [{ address }] = JSON.parse(must('ip', '-n', world.namespace('b'), '-j', 'link', 'show', 'eth0'));

  const generate = (count: number, pps: string) => {
    const what = ['--netdev', 'eth0', '--pps', pps, '--count', String(count), '--dst-mac', address];
    return world.startIn('a', ['--json', 'generate', ...what]);
  };
  await outputOf(generate(500, '1k'));
  await until('the kernel carries them', () => (portOf('a')?.carriedPackets ?? 0) > 0);
  const counting = ['--netdev', 'eth0', '--count', String(FRAMES), '--idle', '5s', '--duration', '60s'];
  const received = outputOf(world.startIn('b', ['--json', 'receive', ...counting]));
  await until('somebody counts', () => must('ip', '-n', world.namespace('b'), 'link', 'show', 'eth0').includes('xdp'));
  const before = portOf('a');
  const sender = generate(FRAMES, '20k');
  const sent = outputOf(sender);
  let changes = 0;
  while (sender.exitCode === null) {
    world.ok('port', 'add', 'c');
    must('ip', '-n', world.middle, 'link', 'set', 'c', 'mtu', String(1300 + changes));
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
    changes += 1;
    // Only then it is heard that the sender has ended.
    await new Promise(setImmediate);
  }
  await sent;
  expect(changes).toBeGreaterThan(0);
  const result = JSON.parse(await received) as { lost: number; late: number };
  // A machine that is busy loses some in the queues of its cables, and counts them.
  expect(result).toMatchObject({ lost: lostInCables(), late: 0 });
  const after = portOf('a');
  expect((after?.puntedPackets ?? 0) - (before?.puntedPackets ?? 0)).toBeLessThan(20);
  expect((after?.carriedPackets ?? 0) - (before?.carriedPackets ?? 0)).toBeGreaterThan(0.9 * FRAMES);
  expect(Object.values(after?.lost ?? {}).filter((packets) => packets !== 0)).toEqual([]);
});
