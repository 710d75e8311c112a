/** Rules on IP and flows in the kernel together: what rules let pass is carried there, what they drop is dropped there, and both count. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DropCount, OffloadInfo } from '../src/daemon/client.ts';
import { must, run, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World();
  world.host('a', '10.7.0.1/24');
  world.host('b', '10.7.0.2/24');
  for (const host of ['a', 'b']) world.completesChecksums(host);
});
afterEach(() => world.end());

interface FilterStatus {
  readonly rules: readonly { readonly name: string; readonly packets: number; readonly bytes: number }[];
}

const show = () => world.json<OffloadInfo>('offload', 'show');
const rule = (name: string) =>
  world
    .json<{ status: FilterStatus }>('extension', 'show', 'filter')
    .status.rules.find((each) => each.name === name) ?? {
    packets: -1,
    bytes: -1,
  };
const drops = (port: string, reason: string) =>
  world.json<DropCount[]>('drops').find((drop) => drop.port === port && drop.reason === reason)?.packets ?? 0;

/** Start a server of iperf3 on b. It ends with the world. */
async function serve(port: number): Promise<void> {
  world.spawn('ip', ['netns', 'exec', world.namespace('b'), 'iperf3', '-s', '-p', String(port)]);
  await until(
    `something listens on ${port}`,
    () => run('ip', ['netns', 'exec', world.namespace('b'), 'ss', '-Hltn', `sport = ${port}`]).stdout !== '',
  );
}

const client = (port: number, ...more: string[]) =>
  run('ip', ['netns', 'exec', world.namespace('a'), 'iperf3', '-c', '10.7.0.2', '-p', String(port), ...more]);

const RULES = `
offload: require
extensions:
  - name: filter
    config:
      rules:
        - { name: web, action: count, protocol: tcp, destinationPort: 5001, direction: in }
        - { name: no-telnet, action: drop, protocol: tcp, destinationPort: 5002, direction: in }
  - learning
`;

test('flows by TCP ports run in the kernel, and what a rule denies never arrives', async () => {
  world.up(`ports: { a: {}, b: {} }\n${RULES}`);
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  await serve(5001);
  await serve(5002);
  expect(client(5001, '-n', '50M').code).toBe(0);
  // On a busy machine much of it has gone before programs for it are there.
  const carried = () => show().ports.find(({ port }) => port === 'a')?.carriedBytes ?? 0;
  const before = carried();
  await until('it is served again', () => client(5001, '-n', '50M').code === 0);
  expect(carried() - before).toBeGreaterThan(45e6);

  const info = show();
  const [table] = info.tables;
  expect(table.flowsInKernel).toBe(table.flows);
  expect(table.flowsInKernel).toBeGreaterThan(0);
  expect(table.masks.map(({ fields }) => fields).join('\n')).toMatch(/eth_type\(0x0800\),ipv4\(proto\),tcp\(dst\)/);
  // What went past the filter counts at its rule.
  expect(rule('web').bytes).toBeGreaterThan(45e6);
  expect(rule('no-telnet').packets).toBe(0);

  expect(client(5002, '-n', '1M', '--connect-timeout', '1500').code).not.toBe(0);
  const denied = rule('no-telnet').packets;
  expect(denied).toBeGreaterThanOrEqual(2);
  expect(drops('a', 'filter:NO_TELNET')).toBe(denied);
  // The denied port opens as soon as the rule goes.
  world.ok('extension', 'run', 'filter', 'replace', '{"rules": []}');
  expect(client(5002, '-n', '20M').code).toBe(0);
});

/** Sends so many datagrams of so many flows in turn, a few at a time: what a veth of a busy machine takes. */
const FLOOD = `
import socket, sys, time
count, port, flows = map(int, sys.argv[1:])
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(flows)]
for i in range(flows): sockets[i].bind(("", 6000 + i))
for i in range(count):
    sockets[i % flows].sendto(b"x" * 100, ("10.7.0.2", port))
    if i % 40 == 39: time.sleep(0.002)
`;

/** @returns how many were sent */
async function flood(count: number, port: number, flows = 1): Promise<number> {
  const args = [FLOOD, String(count), String(port), String(flows)];
  const child = world.spawn('ip', ['netns', 'exec', world.namespace('a'), 'python3', '-c', ...args]);
  expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(0);
  return count;
}

const portOf = (name: string) => show().ports.find(({ port }) => port === name);

/** Datagrams that came to a host, though nobody listens there. */
function arrived(host: string): number {
  const lines = must('ip', 'netns', 'exec', world.namespace(host), 'cat', '/proc/net/snmp').split('\n');
  const [names, values] = lines.filter((line) => line.startsWith('Udp:')).map((line) => line.split(' '));
  return Number(values[names.indexOf('NoPorts')]);
}

describe.each(['tc', 'xdp'])('at %s', (hook) => {
  test.each(['in', 'out'])(
    'a flood that a rule denies, direction %s, ends in the kernel and counts exactly',
    async (direction) => {
      world.up(`
ports: { a: { offload: ${hook} }, b: { offload: ${hook} } }
offload: require
extensions:
  - name: filter
    config:
      rules:
        - { name: udp, action: count, protocol: udp, direction: in }
        - { name: no-flood, action: drop, protocol: udp, destinationPort: 5003, direction: ${direction} }
  - learning
`);
      expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
      let sent = 0;
      // The first ones come up: a program is made for them.
      await until('the kernel drops', async () => {
        sent += await flood(4, 5003, 4);
        return (portOf('a')?.droppedPackets ?? 0) > 0;
      });
      const before = portOf('a')?.droppedPackets ?? 0;
      sent += await flood(20_000, 5003, 4);
      const port = portOf('a');
      expect(port?.hook).toBe(hook);
      expect((port?.droppedPackets ?? 0) - before).toBeGreaterThan(19_000);
      expect(world.ok('offload', 'show')).toMatch(/ 1 of all drop their packets/);

      // The kernel's counters are brought twice a second.
      await until('all have been counted', () => rule('no-flood').packets === sent, 3000);
      expect(rule('udp').packets).toBe(sent);
      expect(drops(direction === 'in' ? 'a' : 'b', 'filter:NO_FLOOD')).toBe(sent);
      if (direction === 'out') expect(drops('a', 'filter:NO_FLOOD')).toBe(0);
      expect(arrived('b')).toBe(0);

      // What the rule denied passes as soon as it is gone, and nothing is forgotten of what it had dropped.
      world.ok('extension', 'run', 'filter', 'replace', '{"rules": []}');
      await flood(100, 5003, 4);
      await until('all have arrived', () => arrived('b') === 100, 2000);
      expect(drops(direction === 'in' ? 'a' : 'b', 'filter:NO_FLOOD')).toBe(sent);
    },
  );
});
