/** Captures beside flows in the kernel: flows go on, and captures see every packet once, with the bytes that it has at each port. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { OffloadInfo } from '../src/daemon/client.ts';
import { must, run, until, World } from './daemon-world.ts';
import { buildShim, hasOpenVSwitch } from './ovs-world.ts';
import { unanswered } from './support/ping.ts';

let world: World;
beforeEach(() => {
  world = new World();
  world.host('a', '10.6.0.1/24');
  world.host('b', '10.6.0.2/24');
});
afterEach(() => world.end());

const show = () => world.json<OffloadInfo>('offload', 'show');
const sum = (key: 'carriedPackets' | 'droppedPackets' | 'carriedBytes' | 'puntedPackets') =>
  show().ports.reduce((total, port) => total + port[key], 0);

/** A capture into a file, and what `millrace` says of it in the end. */
class Capture {
  readonly file: string;
  readonly #child;
  readonly #ended: Promise<number | null>;
  #said = '';

  constructor(name: string, ...args: string[]) {
    this.file = join(world.folder, `${name}.pcapng`);
    this.#child = world.start(['capture', ...args, '-w', this.file]);
    this.#child.stderr?.on('data', (chunk) => {
      this.#said += chunk;
    });
    this.#ended = new Promise((resolve) => this.#child.once('exit', resolve));
  }

  async running(): Promise<this> {
    await until('the capture runs', () => {
      const sessions = world.log().match(/capture-session is (running|stopped)/g) ?? [];
      return sessions.at(-1)?.endsWith('running') === true || this.#child.exitCode !== null;
    });
    return this;
  }

  /** @returns what it said at last */
  async end(): Promise<string> {
    await new Promise((resume) => setTimeout(resume, 300));
    this.#child.kill('SIGINT');
    expect(await this.#ended).toBe(0);
    return this.#said;
  }

  /** What tshark says: these fields of each packet that the filter lets through. */
  packets(filter: string, ...fields: string[]): string[][] {
    const args = ['-r', this.file, '-Y', filter, '-T', 'fields', ...fields.flatMap((field) => ['-e', field])];
    return must('tshark', ...args)
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split('\t'));
  }
}

/** Pings from a, none of which gets lost. That the last answers are late does not count: ping does not wait for them long. */
function ping(count: number, to = '10.6.0.2'): void {
  const args = ['-n', '-c', `${count}`, '-i', '0.01', '-W', '2', to];
  const { stdout } = run('ip', ['netns', 'exec', world.namespace('a'), 'ping', ...args]);
  const missing = unanswered(stdout, count);
  expect(missing.length).toBeLessThan(count);
  expect(missing).toEqual(Array.from(missing, (_, i) => count - missing.length + 1 + i));
}

describe.each(['tc', 'xdp'])('at %s', (hook) => {
  const ports = `ports: { a: { offload: ${hook} }, b: { offload: ${hook} } }\n`;
  beforeEach(() => {
    for (const host of ['a', 'b']) if (hook === 'xdp') world.completesChecksums(host);
  });

  test('a capture sees every packet once at each port, and the kernel goes on carrying them', async () => {
    world.up(ports);
    ping(5);
    const capture = await new Capture('all', '--filter', 'icmp').running();
    ping(3);
    const before = { carried: sum('carriedPackets'), punted: sum('puntedPackets') };
    ping(100);
    expect(sum('carriedPackets') - before.carried).toBeGreaterThanOrEqual(196);
    expect(sum('puntedPackets') - before.punted).toBeLessThan(10);
    expect(show().ports.map((port) => port.hook)).toEqual([hook, hook]);
    await capture.end();
    const seen = capture.packets(
      'icmp',
      'frame.interface_name',
      'frame.packet_flags_direction',
      'icmp.type',
      'icmp.seq',
      'icmp.ident',
    );
    expect(seen).toHaveLength(103 * 4);
    const last = seen.filter(([, , , , ident]) => ident === seen.at(-1)?.at(-1));
    // Each request in at a and out at b, each reply back.
    const sequences = (port: string, direction: string, type: string) =>
      last
        .filter(([p, d, t]) => p === port && Number(d) === Number(direction) && t === type)
        .map(([, , , sequence]) => Number(sequence));
    const all = Array.from({ length: 100 }, (_, i) => i + 1);
    expect(sequences('a', '1', '8')).toEqual(all);
    expect(sequences('b', '2', '8')).toEqual(all);
    expect(sequences('b', '1', '0')).toEqual(all);
    expect(sequences('a', '2', '0')).toEqual(all);
    // Right to the last byte.
    expect(capture.packets('icmp.checksum.status != 1 || ip.checksum.status == 0', 'frame.number')).toEqual([]);
    const times = capture.packets('icmp', 'frame.time_epoch').map(([time]) => Number(time));
    expect([...times].sort((x, y) => x - y)).toEqual(times);
    expect(Math.abs(times[0] * 1000 - Date.now())).toBeLessThan(60_000);
    // Nobody captures any more: programs have no trace of it.
    expect(world.ok('offload', 'dump', 'a')).not.toContain('copy');
    ping(10);
  });

  test('what a rule drops in the kernel is seen where it comes in, and nowhere else', async () => {
    world.up(`${ports}
extensions:
  - name: filter
    config: { rules: [{ name: no-ping, action: drop, etherType: ipv4, direction: in, ports: [a] }] }
  - learning
`);
    const lost = (count: number) => {
      const args = ['-n', '-c', `${count}`, '-i', '0.01', '-W', '0.2', '10.6.0.2'];
      expect(run('ip', ['netns', 'exec', world.namespace('a'), 'ping', ...args]).stdout).toContain(' 0 received');
    };
    lost(10);
    const capture = await new Capture('dropped', '--filter', 'icmp').running();
    lost(10);
    const before = sum('droppedPackets');
    lost(100);
    expect(sum('droppedPackets') - before).toBe(100);
    await capture.end();
    const seen = capture.packets('icmp', 'frame.interface_name', 'frame.packet_flags_direction', 'icmp.seq');
    expect(seen.slice(-100).map(([port, direction, sequence]) => `${port} ${Number(direction)} ${sequence}`)).toEqual(
      Array.from({ length: 100 }, (_, i) => `a 1 ${i + 1}`),
    );
    expect(seen).toHaveLength(110);
  });

  test('a capture of one port, cut to a length, gets that port alone and says how long packets were', async () => {
    world.up(ports);
    ping(5);
    const capture = await new Capture('cut', 'b', '--snaplen', '64').running();
    ping(20);
    await capture.end();
    const seen = capture.packets('frame.len == 98', 'frame.interface_name', 'frame.cap_len');
    expect(seen.length).toBe(40);
    expect(seen.every(([port, length]) => port === 'b' && length === '64')).toBe(true);
  });
});

/** Takes what one connection brings, and says how much that was. */
const SINK = `
const server = require('net').createServer((socket) => {
  let bytes = 0;
  socket.on('data', (chunk) => { bytes += chunk.length; });
  socket.on('end', () => { console.log(bytes + ' bytes'); socket.end(); server.close(); });
});
server.listen(5201, () => console.log('ready'));`;
/** Sends so many bytes to an address. */
const SOURCE = `
const [address, bytes] = process.argv.slice(1);
require('net').connect(5201, address).end(Buffer.alloc(Number(bytes)));`;

test('super-packets of TCP are captured whole, and stay whole on their way', async () => {
  world.up('ports: { a: {}, b: {} }\n');
  ping(3);
  const capture = await new Capture('tcp', 'b', '--filter', 'tcp').running();
  const before = sum('carriedBytes');
  // No more than fits into the session's ring, whenever that is read; and to the last byte, unlike iperf3.
  const bytes = 3 * 1024 * 1024;
  const server = world.spawn('ip', ['netns', 'exec', world.namespace('b'), process.execPath, '-e', SINK]);
  let heard = '';
  server.stdout?.on('data', (chunk) => {
    heard += chunk;
  });
  await until('the server listens', () => heard.includes('ready'));
  must('ip', 'netns', 'exec', world.namespace('a'), process.execPath, '-e', SOURCE, '10.6.0.2', `${bytes}`);
  await until('all has come', () => heard.includes(`${bytes} bytes`));
  expect(sum('carriedBytes') - before).toBeGreaterThan(2e6);
  await capture.end();
  const toServer = capture
    .packets('tcp.dstport == 5201', 'tcp.seq', 'tcp.len', 'frame.len', 'frame.cap_len')
    .map((fields) => fields.map(Number));
  expect(toServer.every(([, , length, captured]) => length === captured)).toBe(true);
  expect(Math.max(...toServer.map(([, length]) => length))).toBeGreaterThan(10_000);
  // No byte of the stream is missing. Segments that the sender sends from two CPUs may overtake each other before they are here.
  let next = 1;
  for (const [sequence, length] of toServer.sort(([x], [y]) => x - y)) {
    if (length === 0) continue;
    expect(sequence).toBeLessThanOrEqual(next);
    next = Math.max(next, sequence + length);
  }
  expect(next).toBe(bytes + 1);
  expect(must('capinfos', capture.file)).not.toMatch(/dropped:\s+[1-9]/);
});

test('a reader that is too slow loses copies, which are counted, and no traffic', async () => {
  world.up('ports: { a: {}, b: {} }\n');
  ping(3);
  const child = world.start(['--json', 'capture']);
  await until('the capture runs', () => world.log().includes('capture-session is running'));
  ping(3);
  const before = { carried: sum('carriedPackets'), punted: sum('puntedPackets') };
  world.spawn('ip', ['netns', 'exec', world.namespace('b'), 'iperf3', '-s', '-1']);
  await new Promise((resume) => setTimeout(resume, 500));
  // Nobody reads the pipe meanwhile.
  const client = ['iperf3', '-c', '10.6.0.2', '-n', '400M'];
  expect(run('ip', ['netns', 'exec', world.namespace('a'), ...client]).code).toBe(0);
  ping(20);
  const carried = sum('carriedPackets') - before.carried;
  const punted = sum('puntedPackets') - before.punted;
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  child.stdout?.resume();
  const ended = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGINT');
  await ended;
  const [captured, lost] =
    said.match(/[\d,]+(?= (packets|lost))/g)?.map((text) => Number(text.replaceAll(',', ''))) ?? [];
  expect(lost).toBeGreaterThan(0);
  // Each packet once where it came in, once where it went out; what the switch flooded or had before is not much.
  expect(captured + lost).toBeGreaterThanOrEqual(carried * 2);
  expect(captured + lost).toBeLessThanOrEqual((carried + punted) * 2 + 100);
  ping(20);
});

test('captures one after the other take the memory of one', async () => {
  world.up('ports: { a: {}, b: {} }\n');
  ping(3);
  const pid = world.pid();
  const mapped = () =>
    readFileSync(`/proc/${pid}/maps`, 'utf8')
      .split('\n')
      .filter((line) => line.includes('bpf')).length;
  const counts: number[] = [];
  for (const name of ['one', 'two', 'three', 'four']) {
    const capture = await new Capture(name, '--filter', 'icmp').running();
    ping(3);
    await capture.end();
    expect(capture.packets('icmp', 'frame.number')).toHaveLength(12);
    counts.push(mapped());
  }
  expect(counts).toEqual([counts[0], counts[0], counts[0], counts[0]]);
});

test('a tag that a port gets is in the copy', async () => {
  const mac = '02:57:00:00:00:62';
  world.up(`ports:
  a: { vlan: { mode: access, id: 7 } }
  b: { vlan: { mode: trunk, native: 1, allowed: [7] } }
fdb: { static: [{ mac: "${mac}", vlan: 7, port: b }] }
`);
  const a = world.namespace('a');
  must('ip', '-n', a, 'neigh', 'add', '10.6.0.2', 'lladdr', mac, 'dev', 'eth0');
  // Nobody behind b knows of VLANs: there is no answer.
  const send = () => run('ip', ['netns', 'exec', a, 'ping', '-c', '20', '-i', '0.01', '-W', '0.2', '10.6.0.2']);
  send();
  const capture = await new Capture('tags', '--filter', 'icmp').running();
  send();
  const before = sum('carriedPackets');
  send();
  expect(sum('carriedPackets') - before).toBe(20);
  await capture.end();
  const seen = capture.packets('icmp', 'frame.interface_name', 'frame.packet_flags_direction', 'vlan.id', 'icmp.seq');
  expect(seen).toHaveLength(2 * 20 * 2);
  const last = seen
    .slice(-40)
    .map(([port, direction, tag, sequence]) => `${port} ${Number(direction)} ${tag} ${sequence}`);
  const expected = Array.from({ length: 20 }, (_, i) => [`a 1  ${i + 1}`, `b 2 7 ${i + 1}`]).flat();
  expect(last).toEqual(expected);
});

test.runIf(hasOpenVSwitch())(
  "ports of Open vSwitch go on in the kernel, a bridge's own port too, and changed packets are seen changed",
  async () => {
    const before = { ...process.env };
    buildShim();
    for (const name of ['OVS_RUNDIR', 'OVS_DBDIR', 'OVS_LOGDIR']) process.env[name] = world.folder;
    try {
      const file = world.file('ovs.yaml', 'offload: require\n');
      world.ok('ovs', 'start', '-f', file, '--pseudo-device', join(world.folder, 'nl.sock'));
      const inside = (...command: string[]) => must('ip', 'netns', 'exec', world.middle, ...command);
      inside('ovs-vsctl', '--timeout=20', 'add-br', 'br0', '--', 'add-port', 'br0', 'a', '--', 'add-port', 'br0', 'b');
      must('ip', '-n', world.middle, 'link', 'set', 'br0', 'up');
      must('ip', '-n', world.middle, 'address', 'add', '10.6.0.9/24', 'dev', 'br0');
      inside(
        'ovs-ofctl',
        'add-flow',
        'br0',
        'priority=9,icmp,icmp_type=8,nw_dst=10.6.0.2,actions=mod_nw_tos:32,normal',
      );
      ping(5);
      ping(5, '10.6.0.9');
      const capture = await new Capture('ovs', '--filter', 'icmp').running();
      ping(5);
      ping(5, '10.6.0.9');
      const earlier = { carried: sum('carriedPackets'), punted: sum('puntedPackets') };
      ping(50);
      ping(50, '10.6.0.9');
      expect(sum('carriedPackets') - earlier.carried).toBeGreaterThanOrEqual(190);
      expect(sum('puntedPackets') - earlier.punted).toBeLessThan(20);
      await capture.end();
      const seen = (filter: string) => {
        const packets = capture.packets(
          filter,
          'frame.interface_name',
          'frame.packet_flags_direction',
          'ip.dsfield',
          'icmp.seq',
        );
        return packets.map(
          ([port, direction, tos, sequence]) => `${port} ${Number(direction)} ${Number(tos)} ${sequence}`,
        );
      };
      const numbers = (count: number) => Array.from({ length: count }, (_, i) => i + 1);
      const paths = (...places: string[]) =>
        [...numbers(5), ...numbers(50)].flatMap((sequence) => places.map((place) => `${place} ${sequence}`));
      expect(seen('ip.dst == 10.6.0.2')).toEqual(paths('a 1 0', 'b 2 32'));
      expect(seen('ip.src == 10.6.0.2')).toEqual(paths('b 1 32', 'a 2 32'));
      expect(seen('ip.dst == 10.6.0.9')).toEqual(paths('a 1 0', 'br0 2 0'));
      expect(seen('ip.src == 10.6.0.9')).toEqual(paths('br0 1 0', 'a 2 0'));
      expect(capture.packets('icmp.checksum.status != 1 || ip.checksum.status == 0', 'frame.number')).toEqual([]);
    } finally {
      world.millrace('ovs', 'stop');
      process.env = before;
    }
  },
);
