/**
 * A port that asks for XDP is there while what is at the other end of its veth allows that, and at tc while it does not: nothing is lost in silence, and
 * the reason is said.
 */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { DaemonEvent, OffloadInfo, OffloadPortInfo } from '../src/daemon/client.ts';
import { NetworkNamespace } from '../src/host/index.ts';
import { must, run, until, World } from './daemon-world.ts';
import { detachProgram } from './support/detach-program.ts';

let world: World;
beforeEach(() => {
  world = new World({ outlives: true });
  world.host('a', '10.7.0.1/24');
  world.host('b', '10.7.0.2/24');
});
afterEach(() => world.end());

const BOTH = 'ports: { a: { offload: xdp }, b: { offload: xdp } }\noffload: require\n';
const UNFINISHED = /unfinished checksums/;

const portOf = (name: string): OffloadPortInfo => {
  const port = world.json<OffloadInfo>('offload', 'show').ports.find((one) => one.port === name);
  if (port === undefined) throw new Error(`offload show has no port ${name}`);
  return port;
};
const hooks = () => ['a', 'b'].map((name) => portOf(name).hook);
const atHost = (name: string, ...command: string[]) => must('ip', 'netns', 'exec', world.namespace(name), ...command);
const warnings = () => world.json<DaemonEvent[]>('events').filter(({ type }) => type === 'warning');
const told = (subject: string, message: RegExp) =>
  warnings().some((event) => event.subject === subject && message.test(event.message));

/** Waits until both ports are where they are to be, with pings, for which programs are made. */
const until2 = (wanted: readonly string[]) =>
  until(`the hooks are ${wanted}`, () => world.pings('a', '10.7.0.2', 3) && `${hooks()}` === `${wanted}`, 20_000);

/** All that a process prints. */
function output(child: ChildProcess): Promise<string> {
  let text = '';
  child.stdout?.on('data', (chunk) => {
    text += chunk;
  });
  return new Promise((resolve) => child.once('close', () => resolve(text)));
}

let tcpPort = 30_000;
/** Bytes by TCP from a to b. @returns whether they arrived as they were sent */
async function tcp(bytes = 3_000_000, whileSending = async () => {}): Promise<boolean> {
  tcpPort += 1;
  const script = join(import.meta.dirname, 'support/transfer-peer.mjs');
  const start = (host: string, ...args: string[]) =>
    world.spawn('ip', ['netns', 'exec', world.namespace(host), process.execPath, script, ...args]);
  const receiver = start('b', 'receive', `${tcpPort}`);
  let received = '';
  receiver.stdout?.on('data', (chunk) => {
    received += chunk;
  });
  await until('the receiver listens', () => received.includes('listening'));
  const sender = start('a', 'send', `${tcpPort}`, '10.7.0.2', `${bytes}`);
  const sent = output(sender);
  await whileSending();
  await until('all has arrived', () => received.includes('sha256'), 30_000);
  return received.includes((await sent).trim());
}

/** What came in and went out of programs, to see that the kernel carries. */
const carried = () => ['a', 'b'].reduce((sum, name) => sum + portOf(name).carriedPackets, 0);

test('hosts as they come leave checksums to the device: their ports stay at tc, every answer says why, and TCP arrives', async () => {
  world.up('ports: { a: {}, b: { offload: xdp } }\noffload: require\n');
  expect(world.ok('port', 'set', 'a', 'offload=xdp')).toMatch(UNFINISHED);
  // A transfer may be over before its programs are there.
  await until('the kernel carries', async () => (await tcp()) && carried() > 0, 30_000);
  expect(hooks()).toEqual(['tc', 'tc']);
  for (const name of ['a', 'b']) {
    // With what to do about it.
    expect(portOf(name).reason).toContain(`ip netns exec ${world.namespace(name)} ethtool -K eth0 tx off`);
    expect(world.ok('port', 'show', name)).toMatch(UNFINISHED);
    expect(told(name, UNFINISHED)).toBe(true);
  }
  expect(world.ok('offload', 'show')).toMatch(UNFINISHED);
  expect(world.ok('port', 'list')).toMatch(UNFINISHED);
});

test('with checksums completed ports are at xdp; left to the device again, tc goes on with the same connection', async () => {
  for (const host of ['a', 'b']) world.completesChecksums(host);
  world.up('ports: { a: {}, b: { offload: xdp } }\noffload: require\n');
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  const answer = world.ok('port', 'set', 'a', 'offload=xdp');
  expect(answer).toBe('Changed port a, which is up.\n');
  await until2(['xdp', 'xdp']);
  expect(portOf('a').reason).toBeNull();
  const before = carried();
  expect(await tcp()).toBe(true);
  expect(carried()).toBeGreaterThan(before);
  expect(hooks()).toEqual(['xdp', 'xdp']);
  const arrived = await tcp(300_000_000, async () => {
    world.completesChecksums('a', false);
    await until('a is at tc', () => portOf('a').hook === 'tc');
  });
  expect(arrived).toBe(true);
  expect(portOf('a').reason).toMatch(UNFINISHED);
  expect(told('a', UNFINISHED)).toBe(true);
  expect(portOf('b').hook).toBe('xdp');
  expect(await tcp()).toBe(true);
  world.completesChecksums('a');
  await until2(['xdp', 'xdp']);
  expect(portOf('a').reason).toBeNull();
  expect(await tcp()).toBe(true);
});

test('a port whose other end loses GRO is sent to from tc, and by XDP when it has it again', async () => {
  for (const host of ['a', 'b']) world.completesChecksums(host);
  world.up(BOTH);
  await until2(['xdp', 'xdp']);
  const flood = () => {
    const child = world.spawn('ip', ['netns', 'exec', world.namespace('a'), 'ping', '-i', '0.01', '10.7.0.2']);
    return { child, printed: output(child) };
  };
  const during = flood();
  atHost('b', 'ethtool', '-K', 'eth0', 'gro', 'off');
  await until('it is told', () => told('b', /flows to it go at tc instead of xdp: .*neither GRO/));
  // From a change until it is seen packets are lost, and afterwards none.
  during.child.kill('SIGINT');
  expect(await during.printed).toMatch(/packets transmitted/);
  const { child, printed } = flood();
  expect(portOf('b').reason).toMatch(/neither GRO .*ethtool -K eth0 gro on/);
  expect(portOf('a').reason).toBeNull();
  expect(world.pings('a', '10.7.0.2', 20)).toBe(true);
  expect(await tcp()).toBe(true);
  const before = carried();
  expect(world.pings('a', '10.7.0.2', 20)).toBe(true);
  expect(carried() - before).toBeGreaterThan(20);
  atHost('b', 'ethtool', '-K', 'eth0', 'gro', 'on');
  await until('nothing is missing', () => portOf('b').reason === null);
  expect(world.json<DaemonEvent[]>('events').some(({ type }) => type === 'port-offload')).toBe(true);
  expect(world.pings('a', '10.7.0.2', 20)).toBe(true);
  child.kill('SIGINT');
  // The last one may still be under way.
  const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(await printed) ?? [];
  expect(Number(sent)).toBeGreaterThan(100);
  expect(Number(sent) - Number(received)).toBeLessThanOrEqual(1);
  // Whose GRO it is by now.
  world.ok('down');
  expect(atHost('b', 'ethtool', '-k', 'eth0')).toMatch(/generic-receive-offload: on/);
  expect(atHost('a', 'ethtool', '-k', 'eth0')).toMatch(/generic-receive-offload: off/);
});

test('an MTU at the other end that is too large for XDP is a reason, and the port comes when it is smaller', async () => {
  for (const host of ['a', 'b']) world.completesChecksums(host);
  atHost('a', 'ip', 'link', 'set', 'dev', 'eth0', 'mtu', '9000');
  world.up('ports: { a: {}, b: { offload: xdp } }\noffload: require\n');
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  expect(world.ok('port', 'set', 'a', 'offload=xdp')).toMatch(/has an MTU of 9000 bytes, and XDP takes some 3500/);
  expect(portOf('a')).toMatchObject({ hook: 'tc', reason: expect.stringMatching(/MTU of 9000/) });
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  atHost('a', 'ip', 'link', 'set', 'dev', 'eth0', 'mtu', '1500');
  await until2(['xdp', 'xdp']);
  expect(portOf('a').reason).toBeNull();
});

test('XDP of a former process does not go on where checksums are left to the device by now', async () => {
  for (const host of ['a', 'b']) world.completesChecksums(host);
  world.up(BOTH);
  await until2(['xdp', 'xdp']);
  world.ok('down', '--keep');
  world.completesChecksums('b', false);
  world.up(BOTH);
  expect(portOf('b')).toMatchObject({ hook: 'tc', reason: expect.stringMatching(UNFINISHED) });
  expect(run('ip', ['-n', world.middle, 'link', 'show', 'dev', 'b']).stdout).not.toContain('prog/xdp');
  expect(await tcp()).toBe(true);
  await until2(['xdp', 'tc']);
});

/** Take a program off its interface, as somebody else would. */
function detach(netdev: string, hook: 'tc' | 'xdp'): void {
  const namespace = NetworkNamespace.byName(world.middle);
  try {
    namespace.run(() => detachProgram(netdev, hook === 'xdp' ? 'xdp' : 'ingress', (name) => name !== 'millrace_drop'));
  } finally {
    namespace.close();
  }
}

test('a program that somebody takes off an interface is back soon, which is said, and packets are carried again', async () => {
  for (const host of ['a', 'b']) world.completesChecksums(host);
  world.up('ports: { a: {}, b: { offload: xdp } }\noffload: require\n');
  await until2(['tc', 'xdp']);
  for (const [name, hook] of [
    ['a', 'tc'],
    ['b', 'xdp'],
    ['b', 'tc'],
  ] as const) {
    const said = warnings().length;
    detach(name, hook);
    await until('it is back', () => warnings().length > said);
    expect(warnings().at(-1)).toMatchObject({
      subject: name,
      message: `a program of port ${name} was taken off by somebody, and is back`,
    });
    await until2(['tc', 'xdp']);
    const before = carried();
    expect(world.pings('a', '10.7.0.2', 20)).toBe(true);
    expect(carried() - before).toBeGreaterThan(20);
  }
  expect(portOf('a').reason).toBeNull();
  // The links of the new programs are kept as those of the former were.
  world.ok('down', '--keep');
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
});
