/**
 * What is changed about interfaces so that programs go on without the daemon: promiscuous mode, being up, GRO at the peer. It lasts as long as
 * the programs, and is changed back with them, by whichever process takes them off; what was so before stays.
 */
import { existsSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
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

test('an interface that was down is up while programs are there, and down again afterwards', async () => {
  const DOWN = { ...PLAIN, up: false };
  ip('link', 'set', 'dev', 'b', 'down');
  world.up(config());
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  world.ok('down', '--keep');
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  world.up(config());
  await kill();
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  world.up('ports: { a: {}, b: { offload: off } }\noffload: require\n');
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  world.ok('down');
  expect([interfaceOf('a'), interfaceOf('b')]).toEqual([PLAIN, DOWN]);
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
