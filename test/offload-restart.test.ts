/**
 * Restarts under traffic: the daemon is killed, or stopped with --keep, and started again, while numbered frames go through flows in the
 * kernel. Each frame arrives once and in its order. And what becomes of what was left when it does not fit any more.
 */
import type { ChildProcess } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ArrayMap, bytes, type GenerateResult, queryTcx, type ReceiveResult } from '../src/bpf/index.ts';
import type { OffloadInfo } from '../src/daemon/client.ts';
import { NetworkNamespace } from '../src/host/index.ts';
import { must, run, until, World } from './daemon-world.ts';
import { buildShim, hasOpenVSwitch } from './ovs-world.ts';

let world: World;
beforeEach(() => {
  world = new World({ outlives: true });
  world.host('a', '10.7.0.1/24');
  world.host('b', '10.7.0.2/24');
  for (const host of ['a', 'b']) world.completesChecksums(host);
});
afterEach(() => world.end());

const config = (more = '') => `ports: { a: {}, b: {} }\noffload: require\n${more}`;
const show = () => world.json<OffloadInfo>('offload', 'show');
const pause = (ms: number) => new Promise((resume) => setTimeout(resume, ms));

/** What is on an interface of the switch's namespace, by name. */
function programsOn(netdev: string): string[] {
  const middle = NetworkNamespace.byName(world.middle);
  try {
    const list = middle.run(() => [queryTcx(netdev, 'ingress'), queryTcx(netdev, 'egress')]);
    return list.flatMap((at) => at?.programs.map(({ name }) => name) ?? []);
  } finally {
    middle.close();
  }
}

const mounts = () =>
  readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter((line) => line.includes(world.folder));
const linkNames = () =>
  [...must('ip', '-n', world.middle, '-o', 'link').matchAll(/^\d+: ([^:@]+)/gm)].map((match) => match[1]).sort();

async function kill(): Promise<void> {
  const pid = world.pid();
  must('kill', '-9', String(pid));
  await until('the process is gone', () => !existsSync(`/proc/${pid}`));
}

/** Numbered frames from a to b, and their count. */
class Traffic {
  readonly #received: Promise<string>;
  readonly #sent: Promise<string>;
  readonly #ringFull = ringFull();

  private constructor(receiver: ChildProcess, generator: ChildProcess) {
    this.#received = output(receiver);
    this.#sent = output(generator);
  }

  /** @param flows sources, of one frame each in turn */
  static async start(count: number, pps: number, flows: number): Promise<Traffic> {
    const args = ['--netdev', 'eth0', '--flows', String(flows)];
    const receiver = world.startIn('b', ['receive', '--json', ...args, '--idle', '1500ms']);
    await until('the receiver counts', () =>
      run('ip', ['-n', world.namespace('b'), 'link', 'show', 'eth0']).stdout.includes('xdp'),
    );
    const generator = world.startIn('a', [
      ...[
        'generate',
        '--json',
        ...args,
        '--vary',
        'mac',
        '--prepare',
        '--pps',
        String(pps),
        '--batch',
        '16',
        '--count',
        String(count),
      ],
      ...['--src-mac', '02:00:00:00:10:00', '--dst-mac', '02:57:00:00:00:62'],
    ]);
    return new Traffic(receiver, generator);
  }

  /** What became of the frames that reached the switch. */
  async end(): Promise<{ carried: number; lost: number; late: number; sent: number }> {
    const { sent } = JSON.parse(await this.#sent) as GenerateResult;
    const { received, lost, late } = JSON.parse(await this.#received) as ReceiveResult;
    const before = this.#ringFull;
    const full = ringFull() - before;
    return { carried: received, lost: lost - full, late, sent: sent - full };
  }
}

/** Frames that the generator had no place for in the ring of the cable to the switch, as happens on a busy machine. */
function ringFull(): number {
  const text = must('ip', 'netns', 'exec', world.namespace('a'), 'ethtool', '-S', 'eth0');
  return [...text.matchAll(/xdp_xmit_errors: (\d+)/g)].reduce((sum, match) => sum + Number(match[1]), 0);
}

/** What a process printed by its end. */
function output(child: ChildProcess): Promise<string> {
  let text = '';
  child.stdout?.on('data', (chunk) => {
    text += chunk;
  });
  return new Promise((done) => child.once('close', () => done(text)));
}

/** Let flows come into being, so that they are known. */
async function establish(flows: number): Promise<void> {
  expect(world.pings('b', '10.7.0.1', 2)).toBe(true);
  const warm = await Traffic.start(flows * 20, 2000, flows);
  await warm.end();
  await until('they run in the kernel', () => (show().tables[0]?.flowsInKernel ?? 0) >= flows);
}

/** Kill and start under traffic, then the same with --keep. */
async function restartUnderTraffic(file: string, count: number, pps: number): Promise<void> {
  world.up(file);
  await establish(16);
  const traffic = await Traffic.start(count, pps, 16);
  await pause(500 + Math.random() * 500);
  await kill();
  await pause(300);
  world.up(file);
  await pause(1000 + Math.random() * 500);
  world.ok('down', '--keep');
  await pause(300);
  world.up(file);
  const { sent, ...became } = await traffic.end();
  expect(became).toEqual({ carried: sent, lost: 0, late: 0 });
  expect(sent).toBeGreaterThan(count - count / 100);
  const info = show();
  expect(info.tables[0]?.flowsInKernel).toBeGreaterThanOrEqual(16);
  expect(world.log().match(/flows of the former process were taken over/g)).toHaveLength(2);
}

test('of a million frames none is lost, doubled or overtaken while the daemon is killed, started, replaced', async () => {
  await restartUnderTraffic(config(), 1_010_000, 80_000);
  expect(show().ports.map(({ hook }) => hook)).toEqual(['tc', 'tc']);
});

test('nor while the datapath starts anew without an extension that does not return', async () => {
  const module = world.file(
    'villain.mjs',
    `export default { descriptor: { name: 'villain', type: 'filtering', version: '1' }, create: () => ({ command() { for (;;); } }) };`,
  );
  world.up(config(`daemon: { watchdogSeconds: 1 }\nextensions: [{ name: villain, module: ${module} }, learning]\n`));
  await establish(16);
  const traffic = await Traffic.start(500_000, 50_000, 16);
  const stuck = world.millrace('extension', 'run', 'villain', 'now');
  expect(stuck.stderr).toContain('the datapath starts anew');
  expect(world.millrace('extension', 'list').stdout).toContain('has not returned');
  const { sent, ...became } = await traffic.end();
  expect(became).toEqual({ carried: sent, lost: 0, late: 0 });
  expect(show().tables[0]?.flowsInKernel).toBeGreaterThanOrEqual(16);
  expect(world.log()).toContain('flows of the former process were taken over');
});

test('nor at XDP', async () => {
  const file = 'ports: { a: { offload: xdp }, b: { offload: xdp } }\noffload: require\n';
  await restartUnderTraffic(file, 300_000, 60_000);
  expect(show().ports.map(({ hook }) => hook)).toEqual(['xdp', 'xdp']);
});

test('what a killed daemon left goes on, until down removes it and says so', async () => {
  const before = linkNames();
  world.up(config());
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  const pid = world.pid();
  await kill();
  expect(programsOn('a')).toEqual(['millrace_tc']);
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  expect(world.json('down')).toEqual({
    pid: null,
    kept: false,
    removed: { killedPid: pid, programs: 2, devices: true },
  });
  expect([programsOn('a'), programsOn('b'), mounts()]).toEqual([[], [], []]);
  expect(linkNames()).toEqual(before);
  expect(world.millrace('down').code).toBe(3);
});

test('down --keep leaves flows on purpose; down without a daemon, or up without offload, takes them off', async () => {
  const before = linkNames();
  world.up(config());
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  expect(world.json('down', '--keep')).toMatchObject({ kept: true });
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  expect(world.ok('down')).toMatch(
    /one that left its flows in the kernel: 2 programs on interfaces and the devices of its punt channel/,
  );
  expect([programsOn('a'), mounts(), linkNames()]).toEqual([[], [], before]);

  world.up(config());
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  world.ok('down', '--keep');
  world.up('ports: { a: {}, b: { offload: off } }\noffload: off\n');
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  expect(programsOn('a')).toEqual(['millrace_drop', 'millrace_drop']);
  const refused = world.millrace('down', '--keep');
  expect([refused.code, refused.stderr]).toEqual([4, expect.stringContaining('nothing can be kept: offload is off')]);
  world.ok('down');
  expect([programsOn('a'), mounts(), linkNames()]).toEqual([[], [], before]);
});

test("pins are in the system's own bpf file system where one is mounted, and go from there", async () => {
  await world.unshareMounts('mount -t bpf bpf /sys/fs/bpf && mkdir -p /sys/fs/bpf/millrace/other');
  const pins = () => world.beside('find', '/sys/fs/bpf').split('\n').sort();
  const before = pins();
  const reaches = () => world.pings('a', '10.7.0.2', 3);
  world.up(config());
  expect(reaches()).toBe(true);
  const info = show();
  expect(info.pins).toMatch(/^\/sys\/fs\/bpf\/millrace\/[0-9a-f]{8}$/);
  expect(pins().filter((pin) => pin.startsWith(`${info.pins}/links/links/`))).toHaveLength(2);
  expect(existsSync(`${world.socket}.bpf`)).toBe(false);
  await kill();
  expect(reaches()).toBe(true);
  world.up(config());
  expect(reaches()).toBe(true);
  world.ok('down', '--keep');
  expect(reaches()).toBe(true);
  world.up(config());
  expect(reaches()).toBe(true);
  expect(world.log().match(/flows of the former process were taken over/g)).toHaveLength(2);
  world.ok('down');
  expect([pins(), programsOn('a'), linkNames()]).toEqual([before, [], ['a', 'b', 'lo']]);
  // Nor after a kill; and where nobody else has anything, not even the folder.
  world.up(config());
  await kill();
  world.beside('rmdir', '/sys/fs/bpf/millrace/other');
  world.ok('down');
  expect(pins()).toEqual(before.filter((pin) => !pin.includes('/millrace')));
  expect(programsOn('a')).toEqual([]);
});

test("a port that the configuration no longer has is the kernel's again; an interface made anew gets programs of its own", async () => {
  world.host('c', '10.7.0.3/24');
  must('ip', '-n', world.middle, 'address', 'add', '10.7.0.9/24', 'dev', 'c');
  world.up('ports: { c: {}, b: {}, a: {} }\noffload: require\n');
  expect(world.pings('a', '10.7.0.2', 3) && world.pings('c', '10.7.0.2', 3)).toBe(true);
  await kill();
  must('ip', '-n', world.middle, 'link', 'delete', 'dev', 'b');
  world.plug('b');
  world.address('b', 'eth0', '10.7.0.2/24');
  world.up(config());
  await until('the program is off', () => programsOn('c').length === 0);
  await until('the kernel answers', () => world.pings('c', '10.7.0.9', 1));
  expect(world.pings('a', '10.7.0.2', 5)).toBe(true);
  expect(show().ports.map(({ port, hook }) => [port, hook])).toEqual([
    ['a', 'tc'],
    ['b', 'tc'],
  ]);
  expect(world.log()).not.toContain('is not taken up');
});

test.each([
  ['a damaged manifest of the links', 'links', (text: Buffer) => text.fill(0xff, 16, 32), /its manifest is damaged/],
  [
    'tables of another layout',
    'table-learning',
    (text: Buffer) => text.write('"tables 0,', text.indexOf('"tables')),
    /its layout is .{1,2}tables 0, /,
  ],
] as const)('%s: everything is taken off, with one warning, and begins anew', async (_, folder, damage, warning) => {
  world.up(config());
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  await kill();
  const path = join(`${world.socket}.bpf`, folder, 'manifest');
  const manifest = ArrayMap.open(path, { name: '', value: bytes(1 << 16), maxEntries: 1 });
  const text = Buffer.from(manifest.get(0) ?? []);
  damage(text);
  manifest.set(0, text);
  manifest.close();
  world.up(config());
  expect(world.log().match(/is not taken up/g)).toHaveLength(1);
  expect(world.log()).toMatch(warning);
  expect(world.pings('a', '10.7.0.2', 5)).toBe(true);
  expect(show().ports.map(({ hook }) => hook)).toEqual(['tc', 'tc']);
});

test('killed while tables grow and programs change, it leaves something that the next one goes on with', async () => {
  const file = config('fdb: { maximum: 65536 }\n');
  world.up(file);
  expect(world.pings('b', '10.7.0.1', 3)).toBe(true);
  for (let round = 0; round < 2; round += 1) {
    const traffic = await Traffic.start(60_000, 20_000, 30_000);
    await pause(1200 + Math.random() * 800);
    await kill();
    world.up(file);
    await traffic.end();
    expect(world.pings('a', '10.7.0.2', 5)).toBe(true);
  }
  expect(world.log()).not.toContain('is not taken up');
  expect(world.log()).not.toMatch(/"level":50/);
});

test.runIf(hasOpenVSwitch())(
  'flows of Open vSwitch go on until ovs-vswitchd is back, and without loss behind it',
  async () => {
    buildShim();
    const before = { ...process.env };
    for (const name of ['OVS_RUNDIR', 'OVS_DBDIR', 'OVS_LOGDIR']) process.env[name] = world.folder;
    try {
      const start = () => world.ok('ovs', 'start', '--pseudo-device', join(world.folder, 'nl.sock'));
      start();
      const ports = ['--', 'add-port', 'br0', 'a', '--', 'add-port', 'br0', 'b'];
      must('nsenter', `--net=/run/netns/${world.middle}`, 'ovs-vsctl', '--timeout=20', 'add-br', 'br0', ...ports);
      await until('the bridge forwards', () => world.pings('b', '10.7.0.1', 3));
      const warm = await Traffic.start(2000, 2000, 4);
      await warm.end();
      const traffic = await Traffic.start(110_000, 10_000, 4);
      await pause(1000);
      await kill();
      await pause(300);
      start();
      // Packets that ovs-vswitchd has in its hands are overtaken by those of the flow that it has put, here as ever.
      const { sent, carried, lost } = await traffic.end();
      expect({ carried, lost }).toEqual({ carried: sent, lost: 0 });
    } finally {
      world.millrace('ovs', 'stop');
      process.env = before;
    }
  },
);
