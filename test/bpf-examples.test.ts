/** The examples do what they say on real traffic, as functions and as commands, and the README shows exactly them. */
import { readFileSync } from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import { type Connection, watchConnections } from '../examples/bpf/connections.ts';
import { countProtocols } from '../examples/bpf/count-protocols.ts';
import { markDns } from '../examples/bpf/mark-dns.ts';
import {
  ArrayMap,
  at,
  attachTcx,
  count64,
  loadProgram,
  ProgramBuilder,
  queryNetdev,
  R1,
  R2,
  SK_BUFF,
} from '../src/bpf/index.ts';
import { eventually, type Host, Lab } from './support/index.ts';

let lab = new Lab();
afterEach(() => {
  lab.close();
  lab = new Lab();
});

function wired(): { a: Host; b: Host } {
  const [a, b] = lab.hosts(2);
  if (a === undefined || b === undefined) throw new Error('no hosts');
  lab.veth(a, 'eth0', b, 'eth0');
  a.address('eth0', '10.0.0.1/24');
  b.address('eth0', '10.0.0.2/24');
  return { a, b };
}

function sendUdp(from: Host, port: number): void {
  from.run('bash', ['-c', `echo hello > /dev/udp/10.0.0.2/${port}`]);
}

function connect(from: Host, port: number): void {
  from.run('bash', ['-c', `: > /dev/tcp/10.0.0.2/${port} || true`]);
}

test('count-protocols counts pings and datagrams by protocol', () => {
  const { a, b } = wired();
  const counter = lab.own(b.inside(() => countProtocols('eth0')));
  a.ping('10.0.0.2', { count: 3 });
  for (let turn = 0; turn < 4; turn++) sendUdp(a, 9);
  expect([1, 6, 17].map(counter.packetsOf)).toEqual([3, 0, 4]);
});

test('mark-dns marks what goes to port 53 and nothing else, and is first in its list', () => {
  const { a, b } = wired();
  const marked = lab.own(ArrayMap.create({ name: 'marked', value: count64, maxEntries: 1, mappable: true }));
  const watcher = new ProgramBuilder('watcher');
  watcher.load(R1, 'u32', at(R1, SK_BUFF.mark));
  watcher.if(R1, '==', 53, () => {
    watcher.loadMapValue(R1, marked);
    watcher.mov(R2, 1);
    watcher.atomic('add', 'u64', at(R1), R2);
  });
  watcher.return(-1);
  b.inside(() => {
    const program = lab.own(loadProgram({ type: 'sched_cls', code: watcher }));
    lab.own(attachTcx({ program, netdev: 'eth0', direction: 'ingress' }));
    lab.own(markDns('eth0', 53));
    expect(queryNetdev('eth0').tcx?.ingress.programs.map(({ name }) => name)).toEqual(['mark_dns', 'watcher']);
  });
  for (const port of [53, 54, 53, 9, 53]) sendUdp(a, port);
  expect(marked.get(0)).toBe(3);
});

test('connections tells of each connection once, with its addresses', () => {
  const { a, b } = wired();
  const watch = lab.own(b.inside(() => watchConnections('eth0')));
  for (const port of [80, 443]) connect(a, port);
  sendUdp(a, 80);
  const seen: Connection[] = [];
  watch.take((event) => seen.push(event));
  expect(seen.map(({ destinationPort }) => destinationPort)).toEqual([80, 443]);
  expect(seen.map(({ source, destination }) => `${source.join('.')} ${destination.join('.')}`)).toEqual(
    Array(2).fill('10.0.0.1 10.0.0.2'),
  );
  expect(watch.lost()).toBe(0);
});

test('the examples run as the commands they say, against the built library', async () => {
  const { a, b } = wired();
  const jiti = 'node_modules/.bin/jiti';
  const connections = b.start(jiti, ['examples/bpf/connections.ts', 'eth0']);
  await eventually('the program is attached', () => b.inside(() => queryNetdev('eth0').xdp !== undefined), 20_000);
  connect(a, 8080);
  await connections.printed(/10\.0\.0\.1:\d+ -> 10\.0\.0\.2:8080/);
  await connections.stop('SIGKILL');
  await eventually('the program is gone', () => b.inside(() => queryNetdev('eth0').xdp === undefined));
});

test('the README shows the examples as they are', () => {
  const readme = readFileSync('src/bpf/README.md', 'utf8');
  for (const name of ['count-protocols', 'mark-dns', 'connections']) {
    const code = readFileSync(`examples/bpf/${name}.ts`, 'utf8');
    expect(readme, name).toContain(code.trim());
  }
});
