/** The deciders of examples/ in a daemon: what they decide runs in the kernel, between network namespaces, and follows what changes. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { DropCount, OffloadFlow, OffloadInfo } from '../src/daemon/client.ts';
import { must, run, until, World } from './daemon-world.ts';

const EXAMPLES = join(import.meta.dirname, '../examples');
let world: World;
beforeEach(() => {
  world = new World();
});
afterEach(() => world.end());

const portOf = (name: string) => {
  const port = world.json<OffloadInfo>('offload', 'show').ports.find((each) => each.port === name);
  if (port === undefined) throw new Error(`offload show has no port ${name}`);
  return port;
};
const flows = () => world.json<{ flows: OffloadFlow[] }>('offload', 'show', '--flows').flows;
const drops = (port: string, reason: string) =>
  world.json<DropCount[]>('drops').find((drop) => drop.port === port && drop.reason === reason)?.packets ?? 0;
const status = <T>(extension: string) => world.json<{ status: T }>('extension', 'show', extension).status;
const exec = (host: string, ...command: string[]) => run('ip', ['netns', 'exec', world.namespace(host), ...command]);

/** Serves a name over TCP, to each connection once. It ends with the world. */
const SERVER = `
import socket, sys
server = socket.create_server(("", int(sys.argv[1])), backlog=64)
while True:
    connection, _ = server.accept()
    connection.sendall(sys.argv[2].encode())
    connection.close()
`;

async function serve(host: string, port: number): Promise<void> {
  world.spawn('ip', ['netns', 'exec', world.namespace(host), 'python3', '-c', SERVER, String(port), host]);
  await until(`${host} listens on ${port}`, () => exec(host, 'ss', '-Hltn', `sport = ${port}`).stdout !== '');
}

/** One connection after the other. Prints what each server said, and a dash for none. */
const CLIENT = `
import socket, sys
for _ in range(int(sys.argv[3])):
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3) as connection:
            print(connection.recv(64).decode())
    except OSError:
        print("-")
`;

function ask(host: string, address: string, port: number, times: number): string[] {
  return exec(host, 'python3', '-c', CLIENT, address, String(port), String(times)).stdout.trim().split('\n');
}

test('prefix-wall: what the list says runs in the kernel, and a changed file ends exactly the flows that it concerns', async () => {
  const outside = world.host('outside', '10.7.0.1/24', '10.7.1.1/24', '10.7.2.1/24');
  world.host('inside', '10.7.0.2/24', '10.7.1.2/24', '10.7.2.2/24');
  const list = world.file('list.txt', 'deny 10.7.1.0/24\n');
  world.up(`
ports: { outside: {}, inside: {} }
offload: require
extensions:
  - { name: prefix-wall, module: ${EXAMPLES}/prefix-wall/prefix-wall.ts, config: { file: ${list} } }
  - { name: cable, module: ${EXAMPLES}/prefix-wall/cable.ts, config: { ends: [outside, inside] } }
`);
  // Neighbours are known, so that what is denied is IP.
  const mac = JSON.parse(must('ip', '-j', '-n', world.namespace('inside'), 'link', 'show', 'eth0'))[0].address;
  for (const net of [0, 1, 2])
    must('ip', '-n', outside, 'neigh', 'replace', `10.7.${net}.2`, 'lladdr', mac, 'dev', 'eth0');
  expect(world.pings('outside', '10.7.0.2', 20)).toBe(true);
  expect(world.pings('outside', '10.7.2.2', 20)).toBe(true);
  expect(world.pings('outside', '10.7.1.2', 20)).toBe(false);
  await until('the kernel carries and drops', () => {
    world.pings('outside', '10.7.0.2', 5);
    world.pings('outside', '10.7.1.2', 5);
    return portOf('outside').droppedPackets > 0 && portOf('outside').carriedPackets > portOf('outside').droppedPackets;
  });
  const denied = flows().find((flow) => flow.drop === 'prefix-wall:DENIED');
  expect(denied).toMatchObject({ table: 'cable', deciders: ['prefix-wall'], actions: 'drop', reason: null });
  const passed = () => flows().find(({ match }) => match.includes('src=10.7.0.0/255.255.255.0'));
  expect(passed()).toMatchObject({ deciders: ['prefix-wall', 'cable'], drop: null, reason: null });
  expect(world.ok('offload', 'show', '--flows')).toMatch(
    /decided by prefix-wall \(prefix-wall:DENIED\); in the kernel/,
  );
  expect(drops('outside', 'prefix-wall:DENIED')).toBeGreaterThanOrEqual(25);

  // Pings from 10.7.0.1 go on while the list changes: their flow is none of its business.
  world.spawn('ip', ['netns', 'exec', outside, 'ping', '-q', '-i', '0.1', '10.7.0.2']);
  await until('they are in the kernel', () => (passed()?.packets ?? 0) > 30 && passed()?.reason === null);
  const before = passed()?.packets ?? 0;
  writeFileSync(list, 'deny 10.7.2.0/24\n');
  const listed = () => Object.keys(world.json<{ list: object }>('extension', 'run', 'prefix-wall', 'show').list);
  await until('the list is read again', () => listed().includes('10.7.2.0/24'));
  expect(world.pings('outside', '10.7.1.2', 5)).toBe(true);
  expect(world.pings('outside', '10.7.2.2', 5)).toBe(false);
  expect(passed()?.packets).toBeGreaterThan(before);

  writeFileSync(list, 'deny 10.7.2.0/24\nallow everybody\n');
  const refused = world.millrace('extension', 'run', 'prefix-wall', 'reload');
  expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining('line 2: everybody is no IPv4 address')]);
  expect(world.pings('outside', '10.7.2.2', 3)).toBe(false);
  const trace = world.ok('trace', 'outside', pingFrame('10.7.2.1', '10.7.2.2'));
  expect(trace).toContain('prefix-wall looks at ipv4.source');
  expect(trace).toContain('it rests on list');
  expect(trace).toContain('prefix-wall: 10.7.2.0/24 is denied');
  expect(trace).toContain('dropped: prefix-wall:DENIED');
});

/** An echo request in hexadecimal, without checksums. */
function pingFrame(source: string, destination: string): string {
  const address = (text: string) =>
    text
      .split('.')
      .map((part) => Number(part).toString(16).padStart(2, '0'))
      .join('');
  return `020000000002020000000001080045000054000140004001${'0000'}${address(source)}${address(destination)}0800000000010001${'00'.repeat(56)}`;
}

test('load-balancer: connections are rewritten in the kernel, and only those of a back end that changes move', async () => {
  const client = world.host('client', '10.7.0.1/24');
  const backEnds = ['web', 'xeb'];
  for (const [index, name] of backEnds.entries()) {
    world.host(name, `10.7.0.1${index + 1}/24`);
    await serve(name, 8080);
  }
  const macOf = (name: string) =>
    JSON.parse(must('ip', '-j', '-n', world.namespace(name), 'link', 'show', 'eth0'))[0].address;
  world.up(`
ports: { client: {}, web: {}, xeb: {} }
offload: require
extensions:
  - name: load-balancer
    module: ${EXAMPLES}/load-balancer/load-balancer.ts
    config:
      address: 10.7.0.100
      mac: "02:00:00:00:01:00"
      port: 80
      clients: client
      backEnds:
${backEnds.map((name, index) => `        - { name: ${name}, mac: "${macOf(name)}", address: 10.7.0.1${index + 1}, port: 8080 }`).join('\n')}
`);
  const answers = ask('client', '10.7.0.100', 80, 40);
  expect(new Set(answers)).toEqual(new Set(backEnds));
  expect(must('ip', '-n', client, 'neigh', 'show', '10.7.0.100')).toContain('02:00:00:00:01:00');
  // A connection of three packets each way is a flow in each direction.
  const rewriting = flows().filter((flow) => flow.actions.includes('set('));
  expect(rewriting.length).toBeGreaterThan(40);
  const there = rewriting.find((flow) => flow.match.includes('dst=10.7.0.100'));
  expect(there).toMatchObject({ deciders: ['load-balancer'], reason: null });
  await until('the kernel carries', () => {
    ask('client', '10.7.0.100', 80, 5);
    return portOf('client').carriedPackets > 20 && portOf('web').carriedPackets > 5;
  });
  const balancer = world.json<{ counters: Record<string, number> }>('extension', 'show', 'load-balancer');
  for (const name of backEnds) expect(balancer.counters[name]).toBeGreaterThan(10);

  // What is not for the virtual address is forwarded.
  expect(world.pings('client', '10.7.0.11')).toBe(true);
  const refused = world.millrace('extension', 'run', 'load-balancer', 'drain', 'name=nobody');
  expect([refused.code, refused.stderr]).toEqual([
    2,
    expect.stringContaining('must be the name of a back end: web, xeb'),
  ]);
  world.ok('extension', 'run', 'load-balancer', 'drain', 'name=web');
  expect(new Set(ask('client', '10.7.0.100', 80, 10))).toEqual(new Set(['xeb']));
  world.ok('extension', 'run', 'load-balancer', 'up', 'name=web');
  world.ok('extension', 'run', 'load-balancer', 'down', 'name=xeb');
  expect(new Set(ask('client', '10.7.0.100', 80, 10))).toEqual(new Set(['web']));
  expect(status('load-balancer')).toMatchObject({ state: { backEnds: { web: 'up', xeb: 'down' } } });
});

/** Datagrams, three each, from so many ports. */
const FAN = `
import socket, sys, time
for port in range(20000, 20000 + int(sys.argv[2])):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("", port))
        for _ in range(3):
            s.sendto(b"x", (sys.argv[1], 9))
            time.sleep(0.001)
`;

/** Datagrams that came to a host, though nobody listens there. */
function arrived(host: string): number {
  const lines = must('ip', 'netns', 'exec', world.namespace(host), 'cat', '/proc/net/snmp').split('\n');
  const [names, values] = lines.filter((line) => line.startsWith('Udp:')).map((line) => line.split(' '));
  return Number(values[names.indexOf('NoPorts')]);
}

test('flow-spreader: flows of the uplink are spread in the kernel, and a worker that goes loses only its own', async () => {
  const up = world.host('uplink', '10.7.0.1/24');
  const workers = ['sensor', 'tensor'];
  for (const name of workers) world.host(name, '10.7.0.2/24');
  world.up(`
ports: { uplink: {}, sensor: {}, tensor: {} }
offload: require
extensions:
  - { name: flow-spreader, module: ${EXAMPLES}/flow-spreader/flow-spreader.ts, config: { uplink: uplink } }
`);
  // Workers stand behind one address; each takes what is sent to it.
  const mac = '02:00:00:00:00:77';
  for (const name of workers) must('ip', '-n', world.namespace(name), 'link', 'set', 'eth0', 'address', mac);
  must('ip', '-n', up, 'neigh', 'replace', '10.7.0.2', 'lladdr', mac, 'dev', 'eth0');
  const fan = () => exec('uplink', 'python3', '-c', FAN, '10.7.0.2', '60');
  const total = () => arrived('sensor') + arrived('tensor');
  expect(fan().code).toBe(0);
  await until('all have arrived', () => total() === 180);
  for (const name of workers) expect(arrived(name)).toBeGreaterThan(30);
  expect(arrived('sensor') % 3).toBe(0);
  const spread = flows().filter((flow) => flow.match.includes('udp('));
  expect(spread.length).toBeGreaterThanOrEqual(60);
  expect(spread.filter((flow) => flow.reason === null && flow.deciders.join() === 'flow-spreader').length).toBe(
    spread.length,
  );
  fan();
  await until('all have arrived', () => total() === 360);
  expect(portOf('uplink').carriedPackets).toBeGreaterThan(100);
  const ofSensor = arrived('sensor');
  world.ok('port', 'del', 'tensor');
  fan();
  await until('all have arrived', () => arrived('sensor') === ofSensor + 180);
  expect(status('flow-spreader')).toMatchObject({ state: { workers: ['sensor'] } });
});
