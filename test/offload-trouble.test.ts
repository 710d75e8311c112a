/** What stands in the way of offload: programs of others, a kernel or a user that may not, and frames that are too long. */
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { attachTcx, attachXdp, loadProgram, ProgramBuilder, TC, XDP } from '../src/bpf/index.ts';
import type { DropCount, OffloadInfo } from '../src/daemon/client.ts';
import { NetworkNamespace } from '../src/host/index.ts';
import { must, type Outcome, run, until, World } from './daemon-world.ts';

let world: World;
const closing: { close(): void }[] = [];
beforeEach(() => {
  world = new World();
  world.host('a', '10.7.0.1/24');
  world.host('b', '10.7.0.2/24');
});
afterEach(async () => {
  for (const each of closing.splice(0)) each.close();
  await world.end();
});

const show = () => world.json<OffloadInfo>('offload', 'show');
const carried = (info = show()) => info.ports.reduce((sum, port) => sum + port.carriedPackets, 0);

/** A program of somebody else on an interface in the switch's namespace. */
function foreign(netdev: string, hook: 'tc' | 'xdp', name: string): void {
  const b = new ProgramBuilder(name);
  b.return(hook === 'tc' ? TC.NEXT : XDP.PASS);
  const program = loadProgram({ type: hook === 'tc' ? 'sched_cls' : 'xdp', code: b });
  const namespace = NetworkNamespace.byName(world.middle);
  try {
    closing.push(
      namespace.run(() =>
        hook === 'tc' ? attachTcx({ program, netdev, direction: 'ingress' }) : attachXdp({ program, netdev }),
      ),
    );
  } finally {
    namespace.close();
    program.close();
  }
}

test('programs of others stay where they are, and are named', () => {
  world.completesChecksums('b');
  foreign('a', 'tc', 'their_tc');
  foreign('b', 'xdp', 'their_xdp');
  world.up('ports: { a: {}, b: { offload: xdp } }\n');
  expect(world.pings('a', '10.7.0.2', 20)).toBe(true);
  const [a, b] = show().ports;
  expect(a).toMatchObject({ hook: 'tc', reason: null });
  expect(a.foreign.join()).toContain('their_tc');
  // Where somebody has XDP, the port is offloaded at tc.
  expect(b.hook).toBe('tc');
  expect(b.foreign.join()).toContain('their_xdp');
  expect(b.reason).toContain('their_xdp');
  expect(world.log()).toContain('their_xdp');
  expect(carried()).toBeGreaterThan(20);
  world.ok('down');
  expect(must('ip', '-n', world.middle, '-d', 'link', 'show', 'dev', 'b')).toContain('prog/xdp');
});

/** The daemon of a user who may do everything but eBPF. */
function upWithoutBpf(config: string): Outcome {
  const bin = join(import.meta.dirname, '../bin/millrace.js');
  const without = ['setpriv', '--bounding-set=-bpf,-perfmon,-sys_admin', process.execPath, bin];
  const args = ['--socket', world.socket, 'up', '--daemon', '-f', world.file('millrace.yaml', config)];
  return run('ip', ['netns', 'exec', world.middle, ...without, ...args]);
}

test('who may not use eBPF is told once, and runs without', () => {
  expect(upWithoutBpf('ports: { a: {}, b: {} }\noffload: auto\n').code).toBe(0);
  expect(world.pings('a', '10.7.0.2', 5)).toBe(true);
  const { missing, ports } = show();
  expect(missing).toMatch(/CAP_BPF/);
  expect(ports).toEqual([]);
  expect(world.ok('offload', 'show')).toContain('CAP_BPF');
  const said = world
    .log()
    .split('\n')
    .filter((line) => line.includes(missing ?? 'nothing'));
  expect(said).toHaveLength(1);
});

test('who requires offload and may not have it gets no switch', () => {
  const { code, stderr } = upWithoutBpf('ports: { a: {}, b: {} }\noffload: require\n');
  expect(code).not.toBe(0);
  expect(stderr).toMatch(/offload is required: .*CAP_BPF/);
  expect(world.millrace('status').code).not.toBe(0);
});

test('pings of a port with access control run in the kernel, and packets that no flow stands for are shown with the reason', async () => {
  const acl = '[{ action: deny, direction: in, protocol: tcp, remotePort: 23 }]';
  world.up(`ports: { a: { acl: ${acl} }, b: {} }\n`);
  await until('the kernel carries both ways', () => {
    world.pings('a', '10.7.0.2', 10);
    return show().ports.every(({ carriedPackets }) => carriedPackets > 5);
  });
  expect(show().tables.flatMap(({ apart }) => apart)).toEqual([]);
  world.ok('port', 'set', 'b', 'security={allowMacSpoofing: true, ipAddressLimit: 5}');
  expect(world.pings('a', '10.7.0.2', 5)).toBe(true);
  expect(show().tables.flatMap(({ apart }) => apart.map(({ reason }) => reason))).toContainEqual(
    expect.stringContaining('the addresses of its port are counted'),
  );
  expect(world.ok('offload', 'show')).toMatch(/decided packet by packet: \d+, as port policies: the addresses/);
});

test('flows to a port with a smaller MTU run in the kernel, and what is too long for it is dropped by name', async () => {
  must('ip', '-n', world.middle, 'link', 'set', 'dev', 'a', 'mtu', '9000');
  must('ip', '-n', world.namespace('a'), 'link', 'set', 'dev', 'eth0', 'mtu', '9000');
  world.up('ports: { a: {}, b: {} }\n');
  await until('the kernel carries both ways', () => {
    world.pings('a', '10.7.0.2', 10);
    return show().ports.every(({ carriedPackets }) => carriedPackets > 5);
  });
  const before = carried();
  const long = ['ping', '-c', '20', '-i', '0.05', '-W', '1', '-M', 'do', '-s', '4000', '10.7.0.2'];
  expect(run('ip', ['netns', 'exec', world.namespace('a'), ...long]).code).not.toBe(0);
  const drops = world.json<DropCount[]>('drops');
  expect(drops.find(({ reason }) => reason === 'EXCEEDS_MTU')?.packets).toBe(20);
  // Neighbours are asked for again now and then.
  expect(carried() - before).toBeLessThan(20);
});

test('a frame that is longer than the MTU of where it goes is dropped and counted, whoever carries it', async () => {
  world.up('ports: { a: {}, b: {} }\n');
  const [a, b] = [world.namespace('a'), world.namespace('b')];
  const pings = (bytes: number) =>
    run('ip', ['netns', 'exec', a, 'ping', '-c', '3', '-i', '0.05', '-W', '1', '-s', `${bytes}`, '10.7.0.2']).code ===
    0;
  const tooLong = () => {
    const drops = world.json<DropCount[]>('drops');
    return drops.find(({ reason }) => reason === 'EXCEEDS_MTU')?.packets ?? 0;
  };
  expect(pings(1400)).toBe(true);
  const flood = world.spawn('ip', ['netns', 'exec', a, 'ping', '-i', '0.002', '-s', '1200', '10.7.0.2']);
  await until('the kernel carries', () => carried() > 50);
  must('ip', '-n', world.middle, 'link', 'set', 'dev', 'b', 'mtu', '1000');
  await until('what is too long is dropped and counted', () => tooLong() > 5);
  expect(pings(1200)).toBe(false);
  expect(pings(800)).toBe(true);
  const before = must('ip', '-n', b, '-s', '-j', 'link', 'show', 'dev', 'eth0');
  await until('more are dropped', () => tooLong() > 50);
  // What came to B meanwhile is not what was too long.
  const after = must('ip', '-n', b, '-s', '-j', 'link', 'show', 'dev', 'eth0');
  const bytes = (text: string) => (JSON.parse(text) as { stats64: { rx: { bytes: number } } }[])[0].stats64.rx.bytes;
  expect(bytes(after) - bytes(before)).toBeLessThan(2000);
  must('ip', '-n', world.middle, 'link', 'set', 'dev', 'b', 'mtu', '1500');
  await until('long packets pass again', () => pings(1200));
  flood.kill();
  const then = carried();
  expect(pings(1400)).toBe(true);
  await until('the kernel carries again', () => {
    pings(1400);
    return carried() > then;
  });
});

/** A datapath of Open vSwitch with hosts a and b, whose flows nobody changes. */
function datapath(): { dpctl: (...args: string[]) => string; port: (name: string) => string } {
  const socket = join(world.folder, 'nl.sock');
  world.up(`offload: require\nextensions: [{ name: ovs, config: { socket: ${socket} } }]\n`);
  const dpctl = (...args: string[]) => world.ok('ovs', 'dpctl', ...args);
  const port = (name: string) => new RegExp(`port (\\d+): ${name}\\n`).exec(dpctl('show', 'dp'))?.[1] ?? '';
  dpctl('add-dp', 'dp');
  dpctl('add-if', 'dp', 'a');
  dpctl('add-if', 'dp', 'b');
  for (const [from, to] of [
    ['a', 'b'],
    ['b', 'a'],
  ]) {
    dpctl('add-flow', 'dp', `in_port(${port(from)}),eth(),eth_type(0x0800),ipv4(frag=no)`, port(to));
    dpctl('add-flow', 'dp', `in_port(${port(from)}),eth(),eth_type(0x0806),arp()`, port(to));
  }
  return { dpctl, port };
}

test('flows between ports of different MTUs, and flows that push tags, never send what is too long', async () => {
  const { dpctl, port } = datapath();
  const a = world.namespace('a');
  const pings = (bytes: number) =>
    run('ip', ['netns', 'exec', a, 'ping', '-c', '3', '-i', '0.05', '-W', '1', '-s', `${bytes}`, '10.7.0.2']).code ===
    0;
  expect(pings(1400)).toBe(true);
  const before = carried();
  expect(pings(1400)).toBe(true);
  expect(carried() - before).toBeGreaterThanOrEqual(6);

  must('ip', '-n', world.middle, 'link', 'set', 'dev', 'b', 'mtu', '1000');
  const tooLong = () => world.json<DropCount[]>('drops').find(({ reason }) => reason === 'EXCEEDS_MTU')?.packets ?? 0;
  await until('what is too long is dropped and counted', () => !pings(1200) && tooLong() >= 3);
  expect(pings(900)).toBe(true);
  must('ip', '-n', world.middle, 'link', 'set', 'dev', 'b', 'mtu', '1500');
  await until('long packets pass again', () => pings(1400));

  // A full-size frame with two tags is carried, and with three it is too long: the outermost does not count, and there is room for one more.
  const match = `in_port(${port('a')}),eth(),eth_type(0x0800),ipv4(frag=no)`;
  dpctl('mod-flow', 'dp', match, `push_vlan(vid=5,pcp=0),push_vlan(vid=6,pcp=0),${port('b')}`);
  const receivedBytes = () => {
    const shown = must('ip', '-n', world.namespace('b'), '-s', '-j', 'link', 'show', 'dev', 'eth0');
    return (JSON.parse(shown) as { stats64: { rx: { bytes: number } } }[])[0].stats64.rx.bytes;
  };
  let start = receivedBytes();
  await until('full-size frames are carried with two tags', () => {
    expect(pings(1472)).toBe(false);
    return receivedBytes() - start > 3 * 1500;
  });
  const three = [5, 6, 7].map((vid) => `push_vlan(vid=${vid},pcp=0)`).join(',');
  dpctl('mod-flow', 'dp', match, `${three},${port('b')}`);
  start = receivedBytes();
  // Actions that take more room come to the kernel a little later: until then the engine drops what is too long.
  const failed = () => show().ports.find(({ port: name }) => name === 'a')?.lost.failed ?? 0;
  await until('the kernel drops and counts what is too long', () => !pings(1472) && failed() >= 3);
  expect(receivedBytes() - start).toBeLessThan(1500);
});

test('flows to an interface that is gone send nothing anywhere, and others go on', async () => {
  const { port } = datapath();
  expect(world.pings('a', '10.7.0.2', 10)).toBe(true);
  const flood = world.spawn('ip', ['netns', 'exec', world.namespace('a'), 'ping', '-i', '0.002', '10.7.0.2']);
  const before = carried();
  await until('the kernel carries', () => carried() > before + 100);
  must('ip', '-n', world.middle, 'link', 'delete', 'dev', 'b');
  await until('the port is gone', () => port('b') === '');
  // Another interface may get the index that the first one had.
  world.host('c', '10.7.0.2/24');
  await new Promise((resolve) => setTimeout(resolve, 300));
  const shown = must('ip', '-n', world.namespace('c'), '-s', '-j', 'link', 'show', 'dev', 'eth0');
  expect((JSON.parse(shown) as { stats64: { rx: { packets: number } } }[])[0].stats64.rx.packets).toBeLessThan(20);
  const reasons = show().tables.flatMap((table) => table.reasons.map(({ reason }) => reason));
  expect(reasons.join()).toMatch(/port|output/);
  flood.kill();
});
