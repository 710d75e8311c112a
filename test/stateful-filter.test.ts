/** Rules that go by connections: whoever is inside may begin, whoever is outside may only answer, with flows in the kernel and without, over the end of the daemon. */
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ConnectionInfo, OffloadInfo } from '../src/daemon/client.ts';
import { must, run, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World({ outlives: true });
  world.host('a', '10.7.0.1/24', 'fd07::1/64');
  world.host('b', '10.7.0.2/24', 'fd07::2/64');
  for (const host of ['a', 'b']) world.completesChecksums(host);
});
afterEach(() => world.end());

/** Host a is inside, and host b outside. */
const filter = (offload: string) => `
ports: { a: {}, b: {} }
offload: ${offload}
extensions:
  - name: filter
    config:
      default: drop
      rules:
        - { name: arp, action: allow, etherType: arp }
        - { name: neighbours, action: allow, protocol: icmpv6, icmpType: 135-136 }
        - { name: known, action: allow, state: [established, related] }
        - { name: begin, action: allow, state: [new], direction: in, ports: [a] }
        - { name: out, action: allow, state: [new], direction: out, ports: [b] }
  - learning
`;

const acl = (offload: string) => `
ports:
  a:
    acl:
      - { action: allow, direction: in, state: [new, established, related] }
      - { action: allow, direction: out, state: [established, related] }
      - { action: deny, remoteIp: 0.0.0.0/0, direction: out }
  b: {}
offload: ${offload}
extensions: [learning]
`;

const inside = (...command: string[]) => run('ip', ['netns', 'exec', world.namespace('a'), ...command]);

/** Start a server of iperf3. It ends with the world. */
async function serve(host: string): Promise<void> {
  world.spawn('ip', ['netns', 'exec', world.namespace(host), 'iperf3', '-s', '-p', '5001']);
  await until(
    `${host} listens`,
    () => run('ip', ['netns', 'exec', world.namespace(host), 'ss', '-Hltn', 'sport = 5001']).stdout !== '',
  );
}

const carried = () =>
  world.json<OffloadInfo>('offload', 'show').ports.reduce((sum, { carriedBytes }) => sum + carriedBytes, 0);
const ofIperf = () => world.json<ConnectionInfo[]>('connections', 'list', '--port', '5001');

describe.each([
  ['filter', filter],
  ['access control', acl],
])('%s', (_name, config) => {
  test.each(['require', 'off'])('inside begins, outside only answers, offload %s', async (offload) => {
    world.up(config(offload));
    await serve('a');
    await serve('b');
    expect(world.pings('b', '10.7.0.1')).toBe(false);
    expect(world.pings('a', '10.7.0.2')).toBe(true);
    // An answer does not open the way for more.
    expect(world.pings('b', '10.7.0.1')).toBe(false);
    const refused = run('ip', [
      ...['netns', 'exec', world.namespace('b'), 'iperf3', '-c', '10.7.0.1', '-p', '5001'],
      ...['-n', '1M', '--connect-timeout', '700'],
    ]);
    expect(refused.code).not.toBe(0);
    expect(inside('iperf3', '-c', '10.7.0.2', '-p', '5001', '-n', '50M').code).toBe(0);
    expect(inside('iperf3', '-c', '10.7.0.2', '-p', '5001', '-n', '50M', '-R').code).toBe(0);
    if (offload === 'require') expect(carried()).toBeGreaterThan(90e6);
    const connections = ofIperf();
    expect(connections.length).toBeGreaterThanOrEqual(2);
    expect(connections.every(({ zone, original }) => zone === 65_535 && original.source === '10.7.0.1')).toBe(true);
  });
});

/** Asks b so often, and waits for each answer. */
const ASK = `
import socket, sys, time
asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asker.bind(("", 6000))
asker.settimeout(20)
for i in range(int(sys.argv[1])):
    asker.sendto(b"x" * 100, ("10.7.0.2", 7000))
    asker.recv(200)
`;
const ANSWER = `
import socket
answerer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
answerer.bind(("", 7000))
while True:
    what, who = answerer.recvfrom(200)
    answerer.sendto(what, who)
`;

test.each(['tc', 'xdp'])('packets that the kernel carries count at their rules, each once, at %s', async (hook) => {
  world.up(filter('require').replace('{ a: {}, b: {} }', `{ a: { offload: ${hook} }, b: { offload: ${hook} } }`));
  world.spawn('ip', ['netns', 'exec', world.namespace('b'), 'python3', '-c', ANSWER]);
  await until('b listens', () =>
    run('ip', ['netns', 'exec', world.namespace('b'), 'ss', '-Hlun', 'sport = 7000']).stdout.includes('7000'),
  );
  const rules = () =>
    world
      .json<{ status: { rules: { name: string; packets: number }[] } }>('extension', 'show', 'filter')
      .status.rules.map(({ name, packets }) => `${name} ${packets}`);
  const ports = () => world.json<OffloadInfo>('offload', 'show').ports;
  let asked = 0;
  await until(
    'the kernel carries both ways',
    () => {
      expect(inside('python3', '-c', ASK, '100').code).toBe(0);
      asked += 100;
      return ports().every(({ carriedPackets }) => carriedPackets > 200);
    },
    30_000,
  );
  // The first question is new, in and out; all other questions and all answers are of a known connection, each in and out.
  await until('all have been counted', () => rules().includes(`known ${2 * (2 * asked - 1)}`), 5000);
  expect(rules()).toEqual(expect.arrayContaining(['begin 1', 'out 1']));
  expect(ports().map((port) => port.hook)).toEqual([hook, hook]);
  expect(world.ok('offload', 'show', '--flows')).toMatch(/ct\(zone=65535\),recirc\(0x7fffffff\)\n.*in the kernel/);
});

/** An IPv6 firewall lets neighbours be discovered by a rule of their own. */
test('over IPv6, inside begins and outside only answers', () => {
  world.up(filter('require'));
  expect(world.pings('a', 'fd07::2', 5)).toBe(true);
  expect(world.pings('b', 'fd07::1')).toBe(false);
});

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.once('exit', (code) => resolve(code)));
}

test.each(['require', 'off'])('kill -9 of the daemon cuts no connection, offload %s', async (offload) => {
  world.up(filter(offload));
  await serve('b');
  const client = world.spawn('ip', [
    ...['netns', 'exec', world.namespace('a'), 'iperf3', '-c', '10.7.0.2', '-p', '5001'],
    ...['-t', '5', '-b', '20M'],
  ]);
  const end = ended(client);
  await until(
    'the connection of the transfer is established',
    () => ofIperf().filter(({ state }) => state === 'ESTABLISHED').length === 2,
  );
  const before = ofIperf()
    .map(({ id }) => id)
    .sort();
  const pid = world.pid();
  must('kill', '-9', String(pid));
  await until('the process is gone', () => !existsSync(`/proc/${pid}`));
  world.up(filter(offload));
  expect(
    ofIperf()
      .map(({ id }) => id)
      .sort(),
  ).toEqual(before);
  expect(await end).toBe(0);
  // The rules hold as before.
  expect(world.pings('b', '10.7.0.1')).toBe(false);
  expect(world.pings('a', '10.7.0.2')).toBe(true);
});
