/** A datapath thread that is stuck or dies: what was to blame is named and left out, everything else comes back by itself, in the same process. */
import { readdirSync, readFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Client, type DaemonEvent, type ExtensionInfo, type PortInfo } from '../src/daemon/client.ts';
import { must, run, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World({ outlives: true });
  world.host('a', '10.9.0.1/24');
  world.host('b', '10.9.0.2/24');
});
afterEach(() => world.end());

/** Does something bad to the first ARP packet, or when it is told to. */
const villain = (deed: string) => `
const isArp = (frame) => frame[12] === 8 && frame[13] === 6;
const hoard = [];
const deed = () => { ${deed} };
export default {
  descriptor: { name: 'villain', type: 'filtering', version: '1.0.0' },
  parseConfiguration: (value) => value ?? {},
  create: (handle, { quiet }) => quiet ? { command: deed } : {
    onIngress(batch, flags) {
      for (let i = 0; i < batch.count; i += 1) if (isArp(batch.packets[i].frame())) deed();
      handle.sendIngress(batch, flags);
    },
    command: deed,
  },
};
`;

const config = (settings = '{}', more = '') => `
daemon: { watchdogSeconds: 1 }
ports: { a: {}, b: {}${more} }
extensions:
  - { name: villain, module: ./villain.mjs, config: ${settings} }
  - learning
`;

const list = () => world.json<ExtensionInfo[]>('extension', 'list');
const isCrash = ({ type }: DaemonEvent) => type === 'extension-crashed';
const crashes = () => world.json<DaemonEvent[]>('events').filter(isCrash);
/** While the datapath starts anew the daemon may close the connection: null then. */
const asked = <T>(...args: string[]): T | null => {
  const { code, stdout } = world.millrace('--json', ...args);
  return code === 0 ? (JSON.parse(stdout) as T) : null;
};

for (const [what, deed, watchdogSeconds, complaint] of [
  ['never returns', 'for (;;);', 1, /the extension villain has not returned for 1\.\d s/],
  [
    'fills the memory',
    'for (;;) hoard.push(new Array(100000).fill(hoard.length));',
    100,
    /memory.*, in the extension villain/,
  ],
  [
    'floods the microtasks',
    '(function again() { queueMicrotask(again); })();',
    1,
    /the extension villain has not returned for 1\.\d s/,
  ],
  [
    'goes round in promises',
    'void (async () => { for (;;) await null; })();',
    1,
    /the extension villain has not returned for 1\.\d s/,
  ],
  [
    'changes for good what all code shares',
    "Object.defineProperty(Array.prototype, 'push', { value: null, writable: false, configurable: false });",
    100,
    /Array\.prototype\.push cannot be put back, in the extension villain/,
  ],
] as const) {
  test(`an extension that ${what} is named and left out, and packets cross again`, async () => {
    world.file('villain.mjs', villain(deed));
    world.up(config().replace('watchdogSeconds: 1', `watchdogSeconds: ${watchdogSeconds}`));
    const pid = world.pid();
    const isLeftOut = () => {
      // What has been asked for an address once is not asked for it again.
      run('ip', ['-n', world.namespace('a'), 'neigh', 'flush', 'all']);
      world.pings('a', '10.9.0.2', 1);
      const isTold = asked<DaemonEvent[]>('events')?.some(isCrash) === true;
      return isTold && asked<ExtensionInfo[]>('extension', 'list')?.[0].state === 'crashed';
    };
    await until('it is left out', isLeftOut, 60_000);
    await until('packets cross without it', () => world.pings('a', '10.9.0.2', 1), 60_000);
    expect(list()).toMatchObject([
      { name: 'villain', state: 'crashed' },
      { name: 'learning', state: 'running' },
    ]);
    expect(list()[0].error).toMatch(complaint);
    expect(crashes().at(-1)).toMatchObject({ subject: 'villain', message: expect.stringContaining('starts anew') });
    expect(world.log()).toMatch(complaint);
    expect(world.pid()).toBe(pid);
    // Who tries again starts it, and it is left out again.
    world.file('villain.mjs', villain(''));
    world.ok('extension', 'enable', 'villain');
    expect(list()[0]).toMatchObject({ state: 'running', error: null, type: 'filtering' });
    expect(world.pings('a', '10.9.0.2')).toBe(true);
    world.ok('down');
  });
}

test('a call that does not return ends with a sentence; TAPs keep their devices; nothing leaks over many such starts', async () => {
  world.file('villain.mjs', villain('for (;;);'));
  world.up(config('{ quiet: true }', ', t: { kind: tap, addresses: [10.9.0.3/24] }'));
  const pid = world.pid();
  const index = () => must('ip', '-n', world.middle, '-o', 'link', 'show', 't').split(':')[0];
  const device = index();
  must('ip', '-n', world.middle, 'address', 'add', '10.77.0.1/24', 'dev', 't');
  const descriptors = () => readdirSync(`/proc/${pid}/fd`).length;
  const mappings = () => readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n').length;
  const before = { descriptors: 0, mappings: 0 };
  for (let round = 0; round < 4; round += 1) {
    const stuck = world.millrace('extension', 'run', 'villain', 'now');
    expect(stuck.code).not.toBe(0);
    expect(stuck.stderr).toMatch(/the extension villain has not returned for 1\.\d s; the datapath starts anew/);
    world.ok('extension', 'enable', 'villain');
    expect(world.pings('a', '10.9.0.2')).toBe(true);
    expect(world.pings('a', '10.9.0.3')).toBe(true);
    expect(index()).toBe(device);
    if (round === 0) Object.assign(before, { descriptors: descriptors(), mappings: mappings() });
  }
  expect(must('ip', '-n', world.middle, 'address', 'show', 'dev', 't')).toContain('10.77.0.1/24');
  expect(world.pid()).toBe(pid);
  expect(descriptors()).toBeLessThanOrEqual(before.descriptors + 2);
  expect(mappings()).toBeLessThanOrEqual(before.mappings + 60);
  world.ok('down');
});

test('who is left out stays so when another one is to blame the next time, and was moved before', () => {
  world.file('villain.mjs', villain('for (;;);'));
  world.up(
    config('{ quiet: true }').replace(
      'extensions:',
      'extensions:\n  - { name: other, module: ./villain.mjs, config: { quiet: true } }',
    ),
  );
  expect(world.millrace('extension', 'run', 'villain', 'now').stderr).toContain('the datapath starts anew');
  world.ok('extension', 'move', 'villain', '1');
  expect(world.millrace('extension', 'run', 'other', 'now').stderr).toContain('the datapath starts anew');
  expect(list().map(({ name, state }) => `${name} ${state}`)).toEqual([
    'villain crashed',
    'other crashed',
    'learning running',
  ]);
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  world.ok('down');
});

test('what ports that an extension added were set to lasts over such starts', () => {
  world.file('villain.mjs', villain('for (;;);'));
  world.up(`
daemon: { watchdogSeconds: 1 }
extensions:
  - { name: villain, module: ./villain.mjs, config: { quiet: true } }
  - { name: ovs, config: { socket: ${world.folder}/ovs.sock } }
`);
  const guarded = () => world.json<PortInfo>('port', 'show', 'a').config;
  const bridge = () => {
    world.ok('ovs', 'dpctl', 'add-dp', 'dp');
    world.ok('ovs', 'dpctl', 'add-if', 'dp', 'a');
  };
  bridge();
  expect(guarded()).not.toHaveProperty('dhcpGuard');
  world.ok('port', 'set', 'a', 'dhcpGuard=true');
  for (let round = 0; round < 2; round += 1) {
    expect(world.millrace('extension', 'run', 'villain', 'now').stderr).toContain('the datapath starts anew');
    bridge();
    expect(guarded()).toMatchObject({ dhcpGuard: true });
    world.ok('extension', 'enable', 'villain');
  }
  world.ok('down');
});

test('while it is stuck, what is known is answered at once, and said to be old', async () => {
  world.file('villain.mjs', villain('for (;;);'));
  world.up(config('{ quiet: true }').replace('watchdogSeconds: 1', 'watchdogSeconds: 0'));
  const client = await Client.connect(world.socket);
  try {
    const call = client.call('extension.command', { name: 'villain', command: 'now' }).catch((error: Error) => error);
    await until('it is seen', async () => (await client.call('status', {})).stuck !== null);
    const status = await client.call('status', {});
    expect(status.stuck).toMatch(/the datapath thread has not answered for \d+\.\d s: it is in the extension villain/);
    expect(status.ports.total).toBe(2);
    const ports = await client.call('port.list', {});
    expect(ports.map(({ reason }) => reason)).toEqual(
      [status.stuck, status.stuck].map(() => expect.stringContaining('villain')),
    );
    client.close();
    await call;
  } finally {
    client.close();
  }
  world.ok('down');
});
