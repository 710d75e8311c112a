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
