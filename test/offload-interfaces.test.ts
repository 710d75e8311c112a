/**
 * What is changed about interfaces so that programs go on without the daemon: promiscuous mode, being up, GRO at the peer. It lasts as long as
 * the programs, and is changed back with them, by whichever process takes them off; what was so before stays.
 */
import { existsSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { OffloadInfo, PortInfo } from '../src/daemon/client.ts';
import { must, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World({ outlives: true });
  world.host('a', '10.7.0.1/24');
  world.host('b', '10.7.0.2/24');
  for (const host of ['a', 'b']) world.completesChecksums(host);
});
afterEach(() => world.end());

const config = (ports = 'a: {}, b: {}') => `ports: { ${ports} }\noffload: require\n`;
const ip = (...args: string[]) => must('ip', '-n', world.middle, ...args);

interface Shown {
  readonly flags: readonly string[];
  readonly promiscuity: number;
}

function interfaceOf(netdev: string): { up: boolean; promiscuous: boolean; promiscuity: number } {
  const [{ flags, promiscuity }] = JSON.parse(ip('-d', '-j', 'link', 'show', 'dev', netdev)) as Shown[];
  return { up: flags.includes('UP'), promiscuous: flags.includes('PROMISC'), promiscuity };
}

/** As it was made. */
const PLAIN = { up: true, promiscuous: false, promiscuity: 0 };
/** A port, and a socket that asks for the same. */
const HELD = { up: true, promiscuous: true, promiscuity: 2 };
/** A port whose daemon is gone. */
const LEFT = { up: true, promiscuous: true, promiscuity: 1 };

function gro(host: string): string | undefined {
  const text = must('ip', 'netns', 'exec', world.namespace(host), 'ethtool', '-k', 'eth0');
  return /generic-receive-offload: (\w+)/.exec(text)?.[1];
}

async function kill(): Promise<void> {
  const pid = world.pid();
  must('kill', '-9', String(pid));
  await until('the process is gone', () => !existsSync(`/proc/${pid}`));
}

test('a port is promiscuous as long as its program runs: killed, followed, kept; and as it was when all is removed', async () => {
  world.up(config());
  expect([interfaceOf('a'), interfaceOf('b')]).toEqual([HELD, HELD]);
  await kill();
  expect([interfaceOf('a'), interfaceOf('b')]).toEqual([LEFT, LEFT]);
  // As if it had been killed when the change was noted and not yet made.
  ip('link', 'set', 'dev', 'a', 'promisc', 'off');
  world.up(config());
  expect(interfaceOf('a')).toEqual(HELD);
  world.ok('down', '--keep');
  expect(interfaceOf('a')).toEqual(LEFT);
  ip('link', 'set', 'dev', 'b', 'promisc', 'off');
  world.ok('down');
  expect([interfaceOf('a'), interfaceOf('b')]).toEqual([PLAIN, PLAIN]);
});

test('it ends with the port, with its offload, and where the configuration does not ask for it', async () => {
  world.up(config('a: {}, b: { promiscuous: false }'));
  expect([interfaceOf('a'), interfaceOf('b')]).toEqual([HELD, PLAIN]);
  world.ok('port', 'del', 'a');
  expect(interfaceOf('a')).toEqual(PLAIN);
  world.ok('port', 'add', 'a');
  expect(interfaceOf('a')).toEqual(HELD);
  // A packet socket of its own asks for it now.
  world.up(config('a: { offload: off }, b: {}'));
  expect([interfaceOf('a'), interfaceOf('b')]).toEqual([{ ...PLAIN, promiscuity: 1 }, HELD]);
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  world.up(config());
  expect(interfaceOf('a')).toEqual(HELD);
  await kill();
  // What the former one did is undone when the next one does not need it, on a port that stays and on one that is none.
  world.up(config('a: { promiscuous: false }'));
  await until('b is nobody’s', () => interfaceOf('b').promiscuity === 0);
  expect([interfaceOf('a'), interfaceOf('b')]).toEqual([PLAIN, PLAIN]);
});

test('who has set the flag keeps it; an interface made anew is left alone; and down works from another namespace', async () => {
  world.host('c');
  ip('link', 'set', 'dev', 'a', 'promisc', 'on');
  world.up(config('a: {}, b: {}, c: {}'));
  expect(interfaceOf('a')).toEqual(HELD);
  await kill();
  ip('link', 'delete', 'dev', 'b');
  world.plug('b');
  ip('link', 'set', 'dev', 'b', 'promisc', 'on');
  must('ip', 'netns', 'exec', world.namespace('b'), process.execPath, ...world.command('down'));
  expect([interfaceOf('a'), interfaceOf('b'), interfaceOf('c')]).toEqual([LEFT, LEFT, PLAIN]);
});

const DOWN = { ...PLAIN, up: false };

test('an interface that was down is up while programs are there, and down again afterwards', async () => {
  // Flows of theirs alone go on: nobody answers when they ask for each other.
  for (const [host, of, mac] of [
    ['a', '10.7.0.2', '02:57:00:00:00:62'],
    ['b', '10.7.0.1', '02:57:00:00:00:61'],
  ] as const) {
    must('ip', '-n', world.namespace(host), 'neighbour', 'add', of, 'dev', 'eth0', 'lladdr', mac, 'nud', 'permanent');
  }
  /** What is asked for here goes on without a daemon: on a busy machine a flow may have been idle for too long just before. */
  const isCarried = () =>
    until('the kernel carries pings', () => {
      const before = carried();
      return world.pings('a', '10.7.0.2', 3) && carried() >= before + 6;
    });
  const carried = () =>
    world.json<OffloadInfo>('offload', 'show').ports.reduce((sum, { carriedPackets }) => sum + carriedPackets, 0);
  ip('link', 'set', 'dev', 'b', 'down');
  world.up(config());
  await isCarried();
  world.ok('down', '--keep');
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  world.up(config());
  await isCarried();
  await kill();
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  world.up('ports: { a: {}, b: { offload: off } }\noffload: require\n');
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  world.ok('down');
  expect([interfaceOf('a'), interfaceOf('b')]).toEqual([PLAIN, DOWN]);
});

test('what others set about an interface stays: one that was set down and up again, one that came while its port waited', async () => {
  world.host('c');
  for (const name of ['b', 'c']) ip('link', 'set', 'dev', name, 'down');
  world.up(config('a: {}, b: {}, c: { offload: off }').replace('require', 'auto'));
  expect([interfaceOf('b').up, interfaceOf('c').up]).toEqual([true, true]);
  const state = (name: string) => world.json<PortInfo>('port', 'show', name).state;
  for (const name of ['b', 'c']) {
    ip('link', 'set', 'dev', name, 'down');
    await until('it is known to be down', () => state(name) === 'down');
    ip('link', 'set', 'dev', name, 'up');
    await until('it is known to be up', () => state(name) === 'up');
  }
  ip('link', 'delete', 'dev', 'a');
  await until('it is known to be gone', () => state('a') === 'missing');
  ip('link', 'add', 'name', 'a', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', world.namespace('a'));
  must('ip', '-n', world.namespace('a'), 'link', 'set', 'eth0', 'up');
  await until('it is a port again', () => state('a') === 'up');
  ip('link', 'set', 'dev', 'a', 'up');
  world.ok('down');
  expect(['a', 'b', 'c'].map(interfaceOf)).toEqual([PLAIN, PLAIN, PLAIN]);
});

test('GRO that was turned on for XDP is off again, whoever ends it', async () => {
  const file = config('a: { offload: xdp }, b: { offload: xdp }');
  const both = () => [gro('a'), gro('b')];
  must('ip', 'netns', 'exec', world.namespace('b'), 'ethtool', '-K', 'eth0', 'gro', 'on');
  world.up(file);
  await kill();
  expect(both()).toEqual(['on', 'on']);
  // The next one does not need it; a change of its configuration brings it back.
  world.up(config());
  expect(both()).toEqual(['off', 'on']);
  world.up(file);
  expect(both()).toEqual(['on', 'on']);
  await kill();
  // It was on when this one came, which yet has to turn it off.
  world.up(file);
  world.ok('down');
  expect(both()).toEqual(['off', 'on']);
});

test('an interface that moves to another namespace is made there as it was: under a daemon, after --keep, after a kill', async () => {
  const [config2, away] = [config('a: { offload: xdp }, b: {}'), world.namespace('away')];
  const flagsIn = (namespace: string) =>
    (JSON.parse(must('ip', '-n', namespace, '-j', 'link', 'show', 'dev', 'a')) as Shown[])[0].flags;
  const move = () => ip('link', 'set', 'dev', 'a', 'netns', away);
  const comesBack = () => {
    must('ip', '-n', away, 'link', 'set', 'dev', 'a', 'netns', world.middle);
    ip('link', 'set', 'dev', 'a', 'up');
  };
  // Its index is another there.
  must('ip', '-n', away, 'link', 'add', 'name', 'first', 'type', 'ifb');
  must('ip', '-n', away, 'link', 'add', 'name', 'second', 'type', 'ifb');
  world.up(config2);
  expect([interfaceOf('a').promiscuous, gro('a')]).toEqual([true, 'on']);
  move();
  await until('it is as it was', () => !flagsIn(away).includes('PROMISC') && gro('a') === 'off');
  comesBack();
  await until('it is a port again', () => interfaceOf('a').promiscuous && gro('a') === 'on');
  world.ok('down', '--keep');
  move();
  expect(flagsIn(away)).toContain('PROMISC');
  world.ok('down');
  expect([flagsIn(away).includes('PROMISC'), gro('a')]).toEqual([false, 'off']);
  expect(interfaceOf('b')).toEqual(PLAIN);
  comesBack();
  world.up(config2);
  await kill();
  move();
  world.up(config('b: {}'));
  expect([flagsIn(away).includes('PROMISC'), gro('a')]).toEqual([false, 'off']);
  // Deleted ones are nobody's, and no news.
  ip('link', 'delete', 'dev', 'b');
  await until('b is missed', () => world.json<{ state: string }[]>('port', 'list')[0].state === 'missing');
  world.ok('down');
});

test('an interface elsewhere is not taken for one that has gone by its address alone', async () => {
  const away = world.namespace('away');
  world.up(config('a: { offload: xdp, promiscuous: false }, b: {}'));
  expect([interfaceOf('a').promiscuous, gro('a')]).toEqual([false, 'on']);
  world.ok('down', '--keep');
  const [{ address }] = JSON.parse(ip('-j', 'link', 'show', 'dev', 'a')) as { address: string }[];
  ip('link', 'delete', 'dev', 'a');
  must('ip', '-n', away, 'link', 'add', 'name', 'z', 'type', 'veth', 'peer', 'name', 'w');
  must('ip', '-n', away, 'link', 'set', 'dev', 'z', 'address', address, 'promisc', 'on');
  must('ip', 'netns', 'exec', away, 'ethtool', '-K', 'w', 'gro', 'on');
  expect(world.ok('down')).not.toMatch(/promisc|GRO/);
  expect(must('ip', 'netns', 'exec', away, 'ethtool', '-k', 'w')).toMatch(/generic-receive-offload: on/);
  expect(must('ip', '-n', away, 'link', 'show', 'dev', 'z')).toContain('PROMISC');
});

test('a TAP that is moved away has no programs there, and has them again when it comes home', async () => {
  world.up(config('a: {}, b: {}, t: { kind: tap }'));
  const tap = () => world.json<PortInfo>('port', 'show', 't');
  expect(tap().offload).not.toBeNull();
  ip('link', 'set', 'dev', 't', 'netns', world.namespace('b'));
  await until('it is seen elsewhere, and down', () => tap().offload === null && tap().state === 'down');
  must('ip', '-n', world.namespace('b'), 'link', 'set', 'dev', 't', 'up');
  await until('it is seen up there', () => tap().state === 'up');
  expect(tap().offload).toBeNull();
  must('ip', '-n', world.namespace('b'), 'link', 'set', 'dev', 't', 'netns', world.middle);
  await until('it is seen at home', () => tap().offload !== null);
  ip('link', 'set', 'dev', 't', 'up');
  await until('it is up', () => tap().state === 'up');
});

test('where several may be the one that has moved, none is touched, and each is named', async () => {
  const away = ['one', 'two'].map((name) => world.namespace(name));
  world.up(config());
  world.ok('down', '--keep');
  const [{ address }] = JSON.parse(ip('-j', 'link', 'show', 'dev', 'a')) as { address: string }[];
  ip('link', 'delete', 'dev', 'a');
  for (const namespace of away) {
    // With an index of its own, which no port had.
    for (const name of ['x', 'y']) must('ip', '-n', namespace, 'link', 'add', 'name', name, 'type', 'ifb');
    must('ip', '-n', namespace, 'link', 'add', 'name', 'z', 'type', 'veth', 'peer', 'name', 'w');
    must('ip', '-n', namespace, 'link', 'set', 'dev', 'z', 'address', address, 'promisc', 'on');
  }
  const { stdout } = world.millrace('down');
  for (const namespace of away) {
    expect(stdout).toContain(
      `interface z in network namespace /run/netns/${namespace} may have been made promiscuous by Millrace`,
    );
    expect(must('ip', '-n', namespace, 'link', 'show', 'dev', 'z')).toContain('PROMISC');
  }
});
