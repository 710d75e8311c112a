/** Interfaces that are missing, taken, enslaved, renamed, pulled away under traffic and back again. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { DaemonEvent, OffloadInfo, PortInfo } from '../src/daemon/client.ts';
import { must, run, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World();
});
afterEach(() => world.end());

const state = (name: string) => world.json<PortInfo>('port', 'show', name).state;

test('an interface that is pulled away under traffic makes its port missing, and coming back makes it work again', async () => {
  world.host('a', '10.9.0.1/24');
  world.host('b', '10.9.0.2/24');
  world.host('c', '10.9.0.3/24');
  world.up('ports: { a: { kind: netdev }, b: { kind: netdev }, c: { kind: netdev } }\n');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  const flood = world.spawn('ip', ['netns', 'exec', world.namespace('a'), 'ping', '-i', '0.002', '10.9.0.2']);
  must('ip', '-n', world.middle, 'link', 'delete', 'dev', 'b');
  await until('the port is missing', () => state('b') === 'missing');
  expect(world.json<PortInfo>('port', 'show', 'b').reason).toBe('there is no interface b; the port waits for it');
  expect(world.pings('a', '10.9.0.3')).toBe(true);

  world.plug('b');
  world.address('b', 'eth0', '10.9.0.2/24');
  await until('the port is up again', () => state('b') === 'up');
  await until('packets pass again', () => world.pings('a', '10.9.0.2', 1));
  flood.kill();
  const events = world
    .json<DaemonEvent[]>('events')
    .filter((event) => event.subject === 'b' && event.type === 'port-state');
  expect(events.map((event) => event.message)).toEqual(
    expect.arrayContaining([expect.stringContaining('port b is missing'), 'port b is up']),
  );
});

test('a cable that is unplugged at the other end is told, and forgotten addresses are learned anew', async () => {
  const b = world.host('b', '10.9.0.2/24');
  world.host('a', '10.9.0.1/24');
  world.up('ports: { a: { kind: netdev }, b: { kind: netdev } }\n');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  must('ip', '-n', b, 'link', 'set', 'eth0', 'down');
  await until('the port is down', () => state('b') === 'down');
  expect(world.json<PortInfo>('port', 'show', 'b').reason).toBe('the interface b has no carrier');
  expect(world.json('fdb', 'show', '--port', 'b')).toEqual([]);
  must('ip', '-n', b, 'link', 'set', 'eth0', 'up');
  await until('the port is up', () => state('b') === 'up');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
});

test('a port follows the name of its interface, not the interface that had it', async () => {
  world.host('a', '10.9.0.1/24');
  world.host('b', '10.9.0.2/24');
  world.up('ports: { a: { kind: netdev }, b: { kind: netdev } }\n');
  for (const args of [
    ['set', 'dev', 'b', 'down'],
    ['set', 'dev', 'b', 'name', 'other'],
  ])
    must('ip', '-n', world.middle, 'link', ...args);
  await until('the port is missing', () => state('b') === 'missing');
  for (const args of [
    ['set', 'dev', 'other', 'name', 'b'],
    ['set', 'dev', 'b', 'up'],
  ])
    must('ip', '-n', world.middle, 'link', ...args);
  await until('the port is up', () => state('b') === 'up');
  await until('packets pass', () => world.pings('a', '10.9.0.2', 1));
});

test('a port can wait for an interface that is not there yet', async () => {
  world.host('a', '10.9.0.1/24');
  world.up('ports: { a: { kind: netdev }, late: { kind: netdev, wait: true } }\n');
  expect(state('late')).toBe('missing');
  world.host('late', '10.9.0.9/24');
  await until('the port is up', () => state('late') === 'up');
  await until('packets pass', () => world.pings('a', '10.9.0.9', 1));
});

test('a TAP that somebody deletes is made anew, with its addresses', async () => {
  world.host('a', '10.9.0.1/24');
  const guest = world.namespace('g');
  const mac = () => world.json<PortInfo>('port', 'show', 'g').mac;
  world.up(`ports: { a: { kind: netdev }, g: { kind: tap, netns: ${guest}, addresses: [10.9.0.7/24] } }\n`);
  await until('packets pass', () => world.pings('a', '10.9.0.7', 1));
  const before = mac();
  must('ip', '-n', guest, 'link', 'delete', 'dev', 'g');
  await until('it is there again', () => run('ip', ['-n', guest, 'link', 'show', 'dev', 'g']).code === 0);
  await until('packets pass again', () => world.pings('a', '10.9.0.7', 1));
  expect(mac()).toBe(before);
});

test('while the daemon can open nothing more, devices come and go, and it follows as soon as it can', async () => {
  world.host('a', '10.9.0.1/24');
  const b = world.host('b', '10.9.0.2/24');
  world.up(`
ports:
  a: { kind: netdev, security: { allowMacSpoofing: false } }
  b: { kind: netdev }
  t: { kind: tap, netns: ${world.namespace('c')}, addresses: [10.9.0.4/24] }
  w: { kind: netdev, wait: true }
`);
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  const pid = world.pid();
  const usual = /Max open files\s+(\d+)/.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'))?.[1];
  const limit = (most: string) => must('prlimit', '--pid', String(pid), `--nofile=${most}:`);
  limit('1');
  must('ip', '-n', b, 'link', 'set', 'eth0', 'down');
  world.host('w', '10.9.0.3/24');
  // Everything that is looked at without news has had its turn.
  await sleep(3_000);
  must('ip', '-n', b, 'link', 'set', 'eth0', 'up');
  await until('packets pass', () => world.pings('a', '10.9.0.2', 1));
  expect(world.pings('a', '10.9.0.4')).toBe(true);
  limit(String(usual));
  await until('the interface is found', () => state('w') === 'up');
  expect(world.pings('a', '10.9.0.3')).toBe(true);
  expect(world.log()).toContain('port w: cannot look at its interface, and tries again');
  expect(world.log()).not.toContain('anew');
});

test('what cannot be a port is refused in one sentence, and nothing of it is left', () => {
  world.host('a');
  world.host('b');
  must('ip', '-n', world.middle, 'link', 'add', 'br0', 'type', 'bridge');
  must('ip', '-n', world.middle, 'link', 'set', 'dev', 'b', 'master', 'br0');
  world.up('ports: { a: { kind: netdev } }\n');
  for (const [args, code, sentence] of [
    [['nowhere'], 4, 'there is no interface nowhere'],
    [['b'], 4, 'the interface b belongs to br0 already'],
    [['again', '--device', 'a'], 4, 'the interface a belongs to port "a" already'],
    [['a'], 4, 'there is a port "a" already'],
    [['lo'], 2, 'lo is the loopback interface'],
    [['br0', '--kind', 'tap'], 4, 'there is an interface br0 already'],
    [['x', '--kind', 'tap', '--netns', 'nosuch'], 4, 'cannot open network namespace nosuch'],
    [['x', 'vlan.mode=access'], 2, 'vlan.id'],
    [['way-too-long-an-interface-name'], 2, 'cannot be the name of an interface'],
  ] as const) {
    const outcome = world.millrace('port', 'add', ...args);
    expect([args, outcome.code, outcome.stderr]).toEqual([args, code, expect.stringContaining(sentence)]);
    expect(outcome.stderr).not.toMatch(/\n\s+at /);
  }
  expect(world.json<PortInfo[]>('port', 'list').map((port) => port.name)).toEqual(['a']);
});

test('a port that cannot be opened again, as somebody has taken its interface, says so, and is back when it can', async () => {
  world.host('a', '10.9.0.1/24');
  world.host('b', '10.9.0.2/24');
  world.up('ports: { a: { kind: netdev }, b: { kind: netdev } }\n');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  must('ip', '-n', world.middle, 'link', 'add', 'br0', 'type', 'bridge');
  must('ip', '-n', world.middle, 'link', 'set', 'dev', 'a', 'master', 'br0');
  const refused = world.millrace('port', 'set', 'a', 'offload=off');
  expect(refused.stderr).toContain('the interface a belongs to br0 already');
  expect(world.json<PortInfo>('port', 'show', 'a')).toMatchObject({
    state: 'failed',
    reason: 'the interface a belongs to br0 already',
  });
  must('ip', '-n', world.middle, 'link', 'set', 'dev', 'a', 'nomaster');
  await until('the port is back', () => state('a') === 'up');
  await until('packets pass again', () => world.pings('a', '10.9.0.2', 1));
});

test('when one port cannot follow another mode of offload, all stay as they were, which is said', async () => {
  for (const [i, name] of ['a', 'b', 'c'].entries()) world.host(name, `10.9.0.${i + 1}/24`);
  const ports = 'ports: { a: { kind: netdev }, b: { kind: netdev }, c: { kind: netdev } }';
  world.up(`${ports}\n`);
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  must('ip', '-n', world.middle, 'link', 'add', 'br0', 'type', 'bridge');
  must('ip', '-n', world.middle, 'link', 'set', 'dev', 'b', 'master', 'br0');
  const refused = world.millrace('up', '-f', world.file('off.yaml', `${ports}\noffload: off\n`));
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toContain(
    'port b: the interface b belongs to br0 already; offload is auto, as it was, but for',
  );
  const { mode, ports: carried } = world.json<OffloadInfo>('offload', 'show');
  expect([
    mode,
    carried
      .filter(({ hook }) => hook === 'tc')
      .map(({ port }) => port)
      .sort(),
  ]).toEqual(['auto', ['a', 'c']]);
  must('ip', '-n', world.middle, 'link', 'set', 'dev', 'b', 'nomaster');
  await until('the port is back', () => state('b') === 'up');
  await until('packets pass again', () => world.pings('a', '10.9.0.2', 1));
  world.ok('up', '-f', world.file('off.yaml', `${ports}\noffload: off\n`));
  expect(world.json<OffloadInfo>('offload', 'show').mode).toBe('off');
});

test('another daemon cannot take over an interface that is a port already', () => {
  world.host('a');
  world.up('ports: { a: { kind: netdev } }\n');
  const outcome = world.millrace(
    '--socket',
    `${world.folder}/second.sock`,
    'up',
    '-f',
    `${world.folder}/millrace.yaml`,
  );
  expect(outcome.code).toBe(4);
  expect(outcome.stderr).toContain('take over a');
});

test('an MTU that changes under traffic is followed', async () => {
  const a = world.host('a', '10.9.0.1/24');
  const b = world.host('b', '10.9.0.2/24');
  world.up('ports: { a: { kind: netdev }, b: { kind: netdev } }\n');
  for (const name of ['a', 'b']) must('ip', '-n', world.middle, 'link', 'set', 'dev', name, 'mtu', '9000');
  for (const host of [a, b]) must('ip', '-n', host, 'link', 'set', 'eth0', 'mtu', '9000');
  await until('the ports know', () => world.json<PortInfo[]>('port', 'list').every((port) => port.mtuBytes === 9000));
  must('ip', 'netns', 'exec', a, 'ping', '-c', '1', '-W', '1', '-M', 'do', '-s', '8900', '10.9.0.2');
});

test('a TAP in a namespace follows what happens there, goes with it, and comes to a new one of that name', async () => {
  const [a, b] = [world.namespace('a'), world.namespace('b')];
  const tap = (name: string, netns: string, address: string) =>
    `  ${name}: { kind: tap, netns: ${netns}, addresses: [${address}/24] }\n`;
  world.up(`ports:\n${tap('ta', a, '10.9.0.1')}${tap('tb', b, '10.9.0.2')}`);
  await until('packets pass', () => world.pings('a', '10.9.0.2', 1));

  must('ip', '-n', b, 'link', 'set', 'tb', 'down');
  await until('it is seen down', () => state('tb') === 'down');
  must('ip', '-n', b, 'link', 'set', 'tb', 'up');
  await until('it is seen up', () => state('tb') === 'up');
  must('ip', '-n', b, 'link', 'set', 'tb', 'mtu', '1400');
  await until('its MTU is seen', () => world.json<PortInfo>('port', 'show', 'tb').mtuBytes === 1400);

  // What others do in their own namespaces is not an end of ours: somebody else's link there changes nothing.
  must('ip', '-n', b, 'link', 'add', 'name', 'x0', 'type', 'veth', 'peer', 'name', 'x1');
  expect(state('tb')).toBe('up');

  must('ip', 'netns', 'delete', b);
  await until('the port has lost it', () => state('tb') === 'failed');
  expect(world.json<PortInfo>('port', 'show', 'tb').reason).toBe(
    `cannot open network namespace ${b}: open failed with ENOENT`,
  );
  expect(world.pings('a', '10.9.0.2', 1)).toBe(false);

  must('ip', 'netns', 'add', b);
  expect(world.ok('port', 'set', 'tb', `netns=${b}`)).toBe('Changed port tb, which is up.\n');
  expect(must('ip', '-n', b, '-br', 'link')).toContain('tb');
  await until('packets pass again', () => world.pings('a', '10.9.0.2', 1));
});

test('of many ports with offload off, four have rings of full size and further ones small rings, unless they say otherwise', () => {
  const names = ['d1', 'd2', 'd3', 'd4', 'd5', 'd6', 'd7'];
  for (const name of names) must('ip', '-n', world.middle, 'link', 'add', 'name', name, 'type', 'veth');
  const ports = names.map((name) => `${name}: ${name === 'd7' ? '{ ring: { receiveSlots: 60 } }' : '{}'}`).join(', ');
  world.up(`ports: { ${ports} }\noffload: off\n`);
  const slots = readFileSync(`/proc/${world.pid()}/maps`, 'utf8')
    .split('\n')
    .filter((line) => line.includes('socket:['))
    .map((line) => {
      const [from, to] = line
        .split(' ')[0]
        .split('-')
        .map((address) => Number.parseInt(address, 16));
      return (to - from) / RING_SLOT_BYTES;
    });
  expect(slots.sort((a, b) => a - b)).toEqual([30, 30, 60, 135, 135, 135, 135]);
});
const RING_SLOT_BYTES = 69_632;
