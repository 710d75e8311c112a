/** Flows in the kernel as a user sees them: on by default, shown, counted everywhere, out of the way when somebody has to see packets. */
import { existsSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { queryTcx } from '../src/bpf/index.ts';
import type { OffloadInfo, PortInfo } from '../src/daemon/client.ts';
import { NetworkNamespace } from '../src/host/index.ts';
import { must, run, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World();
  world.host('a', '10.7.0.1/24');
  world.host('b', '10.7.0.2/24');
});
afterEach(() => world.end());

const ports = 'ports: { a: {}, b: {} }\n';
const show = () => world.json<OffloadInfo>('offload', 'show');
const carried = (info = show()) => info.ports.reduce((sum, port) => sum + port.carriedPackets, 0);
const received = (name: string) =>
  world.json<PortInfo[]>('port', 'list').find((port) => port.name === name)?.counters.receivedPackets ?? 0;

/** Packets that an interface has sent, as `ip -s link` counts. */
function sentBy(name: string): number {
  const [link] = JSON.parse(must('ip', '-n', world.middle, '-s', '-j', 'link', 'show', 'dev', name)) as {
    stats64: { tx: { packets: number } };
  }[];
  return link.stats64.tx.packets;
}

test('the learning switch hands its flows to the kernel, and every count goes on', () => {
  world.up(ports);
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  const before = { carried: carried(), received: received('a'), sent: sentBy('b') };
  expect(world.pings('a', '10.7.0.2', 40)).toBe(true);
  const info = show();
  expect(info).toMatchObject({ mode: 'auto', missing: null, tables: [{ name: 'learning' }] });
  expect(info.ports.map(({ port, hook }) => [port, hook])).toEqual([
    ['a', 'tc'],
    ['b', 'tc'],
  ]);
  expect(carried(info) - before.carried).toBeGreaterThanOrEqual(78);
  expect(received('a') - before.received).toBeGreaterThanOrEqual(40);
  expect(sentBy('b') - before.sent).toBeGreaterThanOrEqual(40);
  expect(world.ok('offload', 'show')).toMatch(/^a +tc +\d+ /m);
  expect(world.ok('offload', 'dump', 'a')).toMatch(/millrace_tc: \d+ masks?, \d+ shapes?, \d+ instructions/);
  expect(world.ok('offload', 'dump', 'a', '--verifier')).toContain('processed');
});

test('TCP keeps its super-packets on the way through the kernel', () => {
  world.up(ports);
  const server = world.spawn('ip', ['netns', 'exec', world.namespace('b'), 'iperf3', '-s', '-1']);
  return new Promise<void>((done, fail) => {
    setTimeout(() => {
      const before = { packets: received('a') };
      const client = run('ip', ['netns', 'exec', world.namespace('a'), 'iperf3', '-c', '10.7.0.2', '-n', '200M', '-J']);
      try {
        expect(client.code).toBe(0);
        const a = show().ports.find(({ port }) => port === 'a');
        expect(a?.carriedBytes).toBeGreaterThan(190e6);
        // Frames of 1,500 bytes would be 138,000.
        expect(received('a') - before.packets).toBeLessThan(60_000);
        done();
      } catch (error) {
        fail(error);
      }
    }, 500);
    server.once('error', fail);
  });
});

test('a capture sees every packet, and offload goes on when it ends', async () => {
  world.up(ports);
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  const capture = world.start(['capture', 'a', '--json', '--count', '20', '--filter', 'icmp']);
  let lines = 0;
  capture.stdout?.on('data', (text: Buffer) => {
    lines += text.toString().split('\n').length - 1;
  });
  const ended = new Promise((resolve) => capture.once('exit', resolve));
  await until('the capture has its packets', () => world.pings('a', '10.7.0.2', 10) && lines >= 20);
  await ended;
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  const before = carried();
  expect(world.pings('a', '10.7.0.2', 20)).toBe(true);
  expect(carried() - before).toBeGreaterThan(30);
});

test('offload is switched off and on again without a packet going wrong', () => {
  world.up(ports);
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  world.ok('up', '-f', world.file('off.yaml', `${ports}offload: off\n`));
  expect(world.pings('a', '10.7.0.2', 5)).toBe(true);
  expect(show()).toMatchObject({ mode: 'off', ports: [] });
  world.ok('up', '-f', world.file('on.yaml', `${ports}offload: require\n`));
  expect(world.pings('a', '10.7.0.2', 10)).toBe(true);
  expect(carried()).toBeGreaterThan(10);
});

test('down leaves the machine as it was', () => {
  const before = must('ip', '-n', world.middle, '-o', 'link');
  const onPort = () => {
    const middle = NetworkNamespace.byName(world.middle);
    try {
      return middle.run(() => [queryTcx('a', 'ingress'), queryTcx('a', 'egress')].flatMap((at) => at?.programs ?? []));
    } finally {
      middle.close();
    }
  };
  world.up(ports);
  expect(world.pings('a', '10.7.0.2', 5)).toBe(true);
  expect(must('ip', '-n', world.middle, '-o', 'link')).not.toBe(before);
  expect(onPort()).not.toEqual([]);
  const { pins } = show();
  expect(pins).not.toBeNull();
  world.ok('down');
  expect([onPort(), existsSync(`${pins}`), existsSync(`${world.socket}.punt`)]).toEqual([[], false, false]);
  const names = (text: string) => [...text.matchAll(/^\d+: ([^:@]+)/gm)].map((match) => match[1]).sort();
  expect(names(must('ip', '-n', world.middle, '-o', 'link'))).toEqual(names(before));
});
