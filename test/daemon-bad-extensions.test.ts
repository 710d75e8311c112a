/** Extensions of users that do what they must not: the daemon lives, names them in list, events and log, and other ports go on talking. */
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Client, type DaemonEvent, type DropCount, type ExtensionInfo } from '../src/daemon/client.ts';
import { must, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World();
  world.host('a', '10.9.0.1/24');
  world.host('b', '10.9.0.2/24');
});
afterEach(() => world.end());

const module = `
import { closeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
const trap = () => { throw new Error('trap'); };
export default {
  descriptor: { name: 'bad', type: 'filtering', version: '1.0.0' },
  parseConfiguration: (value) => value ?? {},
  create: (handle, { mode }) => ({
    restart() {
      if (mode === 'exit') process.exit(3);
      if (mode === 'kill') process.kill(process.pid, 'SIGKILL');
      if (mode === 'abort') process.abort();
      if (mode === 'setTimeout') setTimeout(trap, 10);
      if (mode === 'timer') handle.setTimer(10, trap);
      if (mode === 'async') return Promise.reject(new Error('nobody catches this'));
    },
    onIngress(batch, flags) {
      const packets = batch.packets.slice(0, batch.count);
      switch (mode) {
        case 'grow': batch.push(packets[0]); break;
        case 'attachment': for (const packet of packets) packet.attachment = null; break;
        case 'proxy': throw new Proxy({}, { get: trap, has: trap, getPrototypeOf: trap });
        case 'length': for (const packet of packets) Object.assign(packet, { length: 1 << 30, offset: -5 }); break;
        case 'count': batch.count = 1e9; break;
        case 'prototype': Object.prototype.evil = 1; Array.prototype.push = trap; break;
        case 'freeze-batch': Object.freeze(batch); break;
        case 'freeze-list': Object.freeze(batch.packets); break;
        case 'freeze-packet': for (const packet of packets) Object.freeze(packet); break;
        case 'freeze-field': for (const packet of packets) Object.defineProperty(packet, 'checksum', { writable: false }); break;
        case 'freeze-context': for (const packet of packets) Object.freeze(handle.context(packet)); break;
        case 'freeze-kept': for (const packet of packets) Object.freeze(packet); return;
        case 'getter': Object.defineProperty(packets[0], 'length', { get: () => 60 }); break;
        case 'getter-batch': Object.defineProperty(batch, 'count', { get: () => 1 }); break;
        case 'global': globalThis.Atomics = null; break;
        case 'clock': globalThis.performance = null; break;
        case 'deleted': delete globalThis.Uint8Array; break;
        case 'time': performance.now = trap; break;
        case 'view': DataView.prototype.getUint16 = trap; break;
        case 'loops': Object.getPrototypeOf([][Symbol.iterator]()).next = trap; break;
        case 'port': workerData.port.postMessage(null); break;
        case 'listeners': process.removeAllListeners(); break;
        case 'close': for (let fd = 3; fd < 200; fd += 1) closeSync(fd); break;
        case 'rejection': Promise.reject(new Error('nobody waits for this')); break;
        case 'microtask': queueMicrotask(() => trap()); break;
        case 'sneaky': Promise.resolve().then(() => { Math.max = trap; }); break;
        case 'recursion': (function again() { return again() + 1; })(); break;
      }
      handle.sendIngress(batch, flags);
    },
    status: () => (mode === 'status' ? 10n : { calm: true }),
  }),
};
`;

const MODES = [
  ['exit', 'process.exit is not for extensions'],
  ['kill', 'process.kill is not for extensions'],
  ['abort', 'process.abort is not for extensions'],
  ['setTimeout', 'setTimeout is not for extensions'],
  ['timer', 'trap'],
  ['async', 'returned a promise'],
  ['grow', 'twice in one batch'],
  ['attachment', 'no forwarding context'],
  ['proxy', 'cannot be described'],
  ['length', 'outside of'],
  ['count', 'a count of 1000000000'],
  ['prototype', 'which all code of the switch shares'],
  ['freeze-batch', 'frozen batch'],
  ['freeze-list', 'frozen batch'],
  ['freeze-packet', 'froze a packet'],
  ['freeze-field', 'froze a packet'],
  ['freeze-context', 'froze a packet'],
  ['freeze-kept', 'was frozen'],
  ['getter', 'redefine property: length'],
  ['getter-batch', 'redefine property: count'],
  ['global', 'globalThis.Atomics'],
  ['clock', 'globalThis.performance'],
  ['deleted', 'globalThis.Uint8Array'],
  ['time', 'performance.now'],
  ['view', 'DataView.prototype.getUint16'],
  ['loops', 'the prototype of array iterators.next'],
  ['port', "reading 'postMessage'"],
  ['listeners', 'process.removeAllListeners is not for extensions'],
  ['close', 'was not opened by node:fs here'],
  ['rejection', 'nobody waits for this'],
  ['microtask', 'trap'],
  ['sneaky', 'Math.max'],
  ['recursion', 'call stack'],
] as const;

test('extensions that misbehave are disabled and named one after the other, and the daemon lives', async () => {
  world.up('ports: { a: {}, b: {} }\n');
  const pid = world.pid();
  world.file('bad.mjs', module);
  const client = await Client.connect(world.socket);
  try {
    for (const [mode, complaint] of MODES) {
      const name = `by-${mode}`;
      await client.call('extension.add', { name, module: join(world.folder, 'bad.mjs'), config: { mode } });
      await until(`packets cross in spite of ${mode}`, () => world.pings('a', '10.9.0.2'));
      const find = async () => (await client.call('extension.list', {})).find((one) => one.name === name);
      await until(`${name} is disabled`, async () => (await find())?.state === 'crashed');
      expect((await find())?.error).toContain(complaint);
      expect(world.log()).toContain(`extension ${name} failed`);
    }
    const events = await client.call('events.recent', {});
    const crashed = events.filter(({ type }) => type === 'extension-crashed').map(({ subject }) => subject);
    expect(crashed).toEqual(MODES.map(([mode]) => `by-${mode}`));
    const { drops } = await client.call('status', {});
    expect(drops).toBeGreaterThan(0);
    expect(await client.call('drops', {})).toContainEqual(expect.objectContaining({ reason: 'EXTENSION_FAILED' }));
  } finally {
    client.close();
  }
  expect(world.pid()).toBe(pid);
  expect(world.millrace('down').code).toBe(0);
});

test('a status that cannot be shown is an error of that call alone', () => {
  world.up('ports: { a: {}, b: {} }\n');
  world.millrace('extension', 'add', 'bad', '--module', world.file('bad.mjs', module), 'mode=status');
  const shown = world.millrace('extension', 'show', 'bad');
  expect(shown.code).not.toBe(0);
  expect(shown.stderr).toContain('extension bad: its status cannot be shown: $ is a bigint, which is not JSON');
  expect(world.json<ExtensionInfo[]>('extension', 'list')[0]).toMatchObject({ name: 'bad', state: 'running' });
  expect(world.pings('a', '10.9.0.2')).toBe(true);
});

/** Keeps what host a sends, and passes on the rest. */
const keeper = `
import { Batch } from 'millrace/net';
const hoard = [];
export default {
  descriptor: { name: 'keeper', type: 'filtering', version: '1.0.0' },
  create: (handle) => ({
    onIngress(batch, flags) {
      const rest = new Batch();
      for (const packet of batch.packets.slice(0, batch.count)) {
        if (packet.bytes[packet.offset + 11] === 0x61) hoard.push(packet);
        else rest.push(packet);
      }
      handle.sendIngress(rest, flags);
    },
  }),
};
`;

test('an extension that keeps what comes by one port stops no other; what it may not keep is dropped by name, and said', async () => {
  world.host('c', '10.9.0.3/24');
  world.up(
    `ports: { a: {}, b: {}, c: {} }\nextensions: [{ name: keeper, module: ${world.file('keeper.mjs', keeper)} }, learning]\n`,
  );
  must('ip', '-n', world.namespace('a'), 'neigh', 'add', '10.9.0.2', 'lladdr', '02:57:00:00:00:62', 'dev', 'eth0');
  expect(world.pings('b', '10.9.0.3')).toBe(true);
  const flood = ['-c', '600', '-i', '0.002', '-W', '1', '10.9.0.2'];
  world.spawn('ip', ['netns', 'exec', world.namespace('a'), 'ping', ...flood]);
  const full = () => world.json<DropCount[]>('drops').find(({ reason }) => reason === 'EXTENSION_FULL')?.packets ?? 0;
  await until('it keeps as many as it may', () => full() > 100);
  expect(world.pings('b', '10.9.0.3', 5)).toBe(true);
  const said = world.json<DaemonEvent[]>('events').filter(({ subject }) => subject === 'keeper');
  expect(said.map(({ message }) => message).join()).toMatch(/it keeps \d+ packets, as many as one may/);
  await until('how long it has kept them is said', () => /has kept \d+ packets for \d+ s/.test(world.log()));
  world.ok('down');
});
