import { readFileSync } from 'node:fs';
import { Arp, ArpOperation, composeFrame, Ethernet, EtherType, formatMac, header, TcpFlag } from 'millrace/net';
import { expect, test } from 'vitest';
import { parseConfig } from '../../src/daemon/config/parse.ts';
import { portsOf, TestBench, tcp } from '../testing.ts';
import loadBalancer from './load-balancer.ts';

const WEB = ['web1', 'web2', 'web3'];
const VIRTUAL = '10.0.0.100';
const CLIENT = '10.0.0.1';

const CONFIGURATION = {
  address: VIRTUAL,
  mac: '02:00:00:00:01:00',
  port: 80,
  clients: 'clients',
  backEnds: WEB.map((name, index) => ({
    name,
    mac: `02:00:00:00:01:0${index + 1}`,
    address: `10.0.0.1${index + 1}`,
    port: 8080,
  })),
};

function benchOf(configuration: object = CONFIGURATION): TestBench {
  const bench = new TestBench('clients', ...WEB);
  bench.virtualSwitch.enableExtension(loadBalancer, configuration).result();
  return bench;
}

/** One packet of each of these connections. @returns the back end of each that arrived, by the client's port */
function open(bench: TestBench, ports: readonly number[], flags: number = TcpFlag.SYN): Map<number, string> {
  for (const port of ports) bench.send('clients', tcp(CLIENT, VIRTUAL, [port, 80], flags));
  const placed = new Map<number, string>();
  for (const name of WEB) for (const frame of bench.take(name)) placed.set(portsOf(frame)[0], name);
  return placed;
}

const range = (from: number, count: number) => Array.from({ length: count }, (_, index) => from + index);
const command = (bench: TestBench, name: string, backEnd: string) =>
  bench.virtualSwitch.extensionCommand('load-balancer', name, { name: backEnd });
const status = (bench: TestBench) =>
  bench.virtualSwitch.extensionStatus('load-balancer') as { flows: number; decisions: number; changed: number };

const macsOf = (frame: Uint8Array) => [formatMac(frame, 0), formatMac(frame, 6)];

test('a connection goes to one back end and comes back from the virtual address', () => {
  const bench = benchOf();
  const [name] = open(bench, [1234]).values();
  const backEnd = CONFIGURATION.backEnds.find((each) => each.name === name);
  if (backEnd === undefined) throw new Error('it went nowhere');
  bench.send('clients', tcp(CLIENT, VIRTUAL, [1234, 80]));
  const [there] = bench.take(name);
  expect(macsOf(there)).toEqual([backEnd.mac, '02:00:00:00:00:01']);
  // Behind the Ethernet header it is what would have been sent there, checksums included.
  expect(there.slice(14)).toEqual(tcp(CLIENT, backEnd.address, [1234, 8080]).slice(14));
  bench.send(name, tcp(backEnd.address, CLIENT, [8080, 1234]));
  const [back] = bench.take('clients');
  expect(macsOf(back)).toEqual(['02:00:00:00:00:02', CONFIGURATION.mac]);
  expect(back.slice(14)).toEqual(tcp(VIRTUAL, CLIENT, [80, 1234]).slice(14));
  // Another service of a back end is nobody's business.
  bench.send(name, tcp(backEnd.address, CLIENT, [22, 1234]));
  expect(bench.take('clients')[0].slice(14)).toEqual(tcp(backEnd.address, CLIENT, [22, 1234]).slice(14));
});

function arp(operation: number, from: readonly [string, string], to: readonly [string, string], destination: string) {
  const [senderMac, senderIp] = from;
  const [targetMac, targetIp] = to;
  return composeFrame([
    header(Ethernet, { destination, source: senderMac, etherType: EtherType.ARP }),
    header(Arp, { operation, senderMac, senderIp, targetMac, targetIp }),
  ]);
}

test('ARP for the virtual address is answered, and for others it is asked everybody', () => {
  const bench = benchOf();
  const asking = ['02:00:00:00:00:01', CLIENT] as const;
  const everybody = 'ff:ff:ff:ff:ff:ff';
  bench.send('clients', arp(ArpOperation.REQUEST, asking, ['00:00:00:00:00:00', VIRTUAL], everybody));
  expect(bench.take('clients')).toEqual([arp(ArpOperation.REPLY, [CONFIGURATION.mac, VIRTUAL], asking, asking[0])]);
  expect(WEB.flatMap((name) => bench.take(name))).toEqual([]);
  bench.send('clients', arp(ArpOperation.REQUEST, asking, ['00:00:00:00:00:00', '10.0.0.11'], everybody));
  expect(WEB.map((name) => bench.take(name).length)).toEqual([1, 1, 1]);
});

test('connections are spread by weight', () => {
  const [first, ...rest] = CONFIGURATION.backEnds;
  const bench = benchOf({ ...CONFIGURATION, backEnds: [{ ...first, weight: 2 }, ...rest] });
  const placed = [...open(bench, range(1, 400)).values()];
  const share = (name: string) => placed.filter((each) => each === name).length;
  expect(share('web1')).toBeGreaterThan(160);
  expect(share('web2')).toBeGreaterThan(60);
  expect(share('web3')).toBeGreaterThan(60);
});

test('a back end that drains keeps its connections and gets no new ones', () => {
  const bench = benchOf();
  const before = open(bench, range(1, 90));
  command(bench, 'drain', 'web2');
  expect(open(bench, range(1, 90), TcpFlag.ACK)).toEqual(before);
  const late = open(bench, range(101, 90));
  expect([...late.values()]).not.toContain('web2');
  expect(open(bench, range(101, 90), TcpFlag.ACK)).toEqual(late);
  // A client that begins anew with the same port begins elsewhere.
  const [again] = [...before].flatMap(([port, name]) => (name === 'web2' ? [port] : []));
  const moved = open(bench, [again]).get(again);
  expect(moved).not.toBe('web2');
  expect(open(bench, [again], TcpFlag.ACK).get(again)).toBe(moved);
});

test('only flows of a back end that goes down move, and its return moves none', () => {
  const bench = benchOf();
  const before = open(bench, range(1, 90));
  const { changed } = status(bench);
  const ofDown = [...before.values()].filter((name) => name === 'web2').length;
  command(bench, 'down', 'web2');
  expect(status(bench).changed - changed).toBe(ofDown);
  const after = open(bench, range(1, 90), TcpFlag.ACK);
  for (const [port, name] of before) {
    if (name !== 'web2') expect(after.get(port)).toBe(name);
    else expect(after.get(port)).toMatch(/^web[13]$/);
  }
  const { decisions } = status(bench);
  expect(command(bench, 'up', 'web2')).toMatchObject({ backEnds: { web1: 'up', web2: 'up', web3: 'up' } });
  expect(open(bench, range(1, 90), TcpFlag.ACK)).toEqual(after);
  expect(status(bench).decisions).toBe(decisions);
  expect([...open(bench, range(201, 90)).values()]).toContain('web2');
});

test('what cannot be served is dropped for a reason that says so', () => {
  const bench = benchOf();
  const fragment = tcp(CLIENT, VIRTUAL, [2, 80]);
  fragment[20] = 0x20;
  bench.send('clients', tcp(CLIENT, VIRTUAL, [1, 81]), fragment);
  expect(bench.drops('clients')).toEqual({ 'load-balancer:NO_SERVICE': 2 });
  bench.removePort('web1');
  for (const name of ['web2', 'web3']) command(bench, 'down', name);
  bench.send('clients', tcp(CLIENT, VIRTUAL, [1, 80]));
  command(bench, 'down', 'web1');
  bench.send('clients', tcp(CLIENT, VIRTUAL, [1, 80]));
  bench.send('clients', tcp(CLIENT, '10.0.0.9', [1, 80]));
  expect(bench.drops('clients')).toEqual({
    'load-balancer:NO_SERVICE': 2,
    'load-balancer:BACK_END_AWAY': 1,
    'load-balancer:NO_BACK_END': 1,
    'load-balancer:NO_STATION': 1,
  });
});

test('so many connections are remembered, and no more', () => {
  const bench = benchOf({ ...CONFIGURATION, connections: 50 });
  const placed = open(bench, range(1, 80));
  expect(status(bench)).toMatchObject({ flows: 50, changed: 30, state: { connections: 50 } });
  // Those that are forgotten go where they went, as long as nothing changes.
  expect(open(bench, range(1, 80), TcpFlag.ACK)).toEqual(placed);
});

test('commands that make no sense are refused', () => {
  const bench = benchOf();
  expect(() => command(bench, 'stop', 'web1')).toThrow('there is no command "stop"; there are up, drain, down');
  expect(() => command(bench, 'down', 'web9')).toThrow('name: must be the name of a back end: web1, web2, web3');
});

test.each([
  [{ address: '10.0.0.256' }, 'address: must be an IPv4 address'],
  [{ mac: '01:00:00:00:01:00' }, 'mac: must be a MAC address that is no group'],
  [{ backEnds: [] }, 'backEnds: must be a list of 1 to 256'],
  [{ backEnds: [{ ...CONFIGURATION.backEnds[0], weight: 0 }] }, 'backEnds[0].weight: must be a number above 0'],
  [{ backEnds: [{ ...CONFIGURATION.backEnds[0], wait: 1 }] }, 'unknown key "backEnds[0].wait"'],
  [{ backEnds: [CONFIGURATION.backEnds[0], CONFIGURATION.backEnds[0]] }, 'backEnds: two have the name web1'],
  [{ ports: 1 }, 'unknown key "ports"'],
])('a configuration with %j is refused', (change, message) => {
  expect(() => loadBalancer.parseConfiguration?.({ ...CONFIGURATION, ...change })).toThrow(message);
});

test('the configuration of the example is right', () => {
  const path = `${import.meta.dirname}/millrace.yaml`;
  const [extension] = parseConfig(readFileSync(path, 'utf8'), path).extensions;
  expect(extension.module).toBe(`${import.meta.dirname}/load-balancer.ts`);
  expect(loadBalancer.parseConfiguration?.(extension.config)).toMatchObject({
    protocol: 'tcp',
    backEnds: [
      { name: 'web1', at: 'web1', weight: 1 },
      { name: 'web2', at: 'web2', weight: 2 },
    ],
  });
});
