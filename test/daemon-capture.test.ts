/** Captures read by Wireshark's tshark, filters, pipes that close, and capture files as ports. */
import { closeSync, existsSync, linkSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { PortInfo, TraceResult } from '../src/daemon/client.ts';
import { PcapWriter } from '../src/net/index.ts';
import { must, run, until, World } from './daemon-world.ts';

const bin = join(import.meta.dirname, '../bin/millrace.js');
let world: World;
beforeEach(() => {
  world = new World();
  world.host('a', '10.9.0.1/24');
  world.host('b', '10.9.0.2/24');
  world.up('ports: { a: { kind: netdev }, b: { kind: netdev } }\n');
});
afterEach(() => world.end());

/** What tshark says of a capture: these fields of each packet. */
function tshark(file: string, ...fields: string[]): string[][] {
  const args = ['-r', file, '-T', 'fields', ...fields.flatMap((field) => ['-e', field])];
  return must('tshark', ...args)
    .trim()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('\t'));
}

async function capturing(args: string[], traffic: () => void): Promise<number | null> {
  const child = world.start(['capture', ...args]);
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  await until('the capture runs', () => world.log().includes('capture-session is running') || child.exitCode !== null);
  traffic();
  if (!args.includes('--count')) {
    await new Promise((resume) => setTimeout(resume, 200));
    // The command is the child of `ip netns exec`, which has become it.
    child.kill('SIGINT');
  }
  return ended;
}

test('a capture into a file has interfaces, directions and times that tshark understands', async () => {
  const file = join(world.folder, 'all.pcapng');
  const code = await capturing(['-w', file, '--filter', 'icmp'], () => world.pings('a', '10.9.0.2', 3));
  expect(code).toBe(0);
  const packets = tshark(file, 'frame.interface_name', 'frame.packet_flags_direction', 'icmp.type', 'ip.src');
  const requests = packets.filter(([, , type]) => type === '8');
  expect(requests.filter(([port, direction]) => port === 'a' && Number(direction) === 1)).toHaveLength(3);
  expect(requests.filter(([port, direction]) => port === 'b' && Number(direction) === 2)).toHaveLength(3);
  expect(packets).toHaveLength(12);
  expect(must('capinfos', file)).toMatch(/Number of packets:\s+12/);
  const times = tshark(file, 'frame.time_epoch').map(([time]) => Number(time) * 1000);
  expect(Math.abs(times[0] - Date.now())).toBeLessThan(30_000);
});

test('a capture of one port ends after the packets that were asked for, cut to the length', async () => {
  const file = join(world.folder, 'few.pcapng');
  const code = await capturing(['a', '-w', file, '--count', '4', '--snaplen', '64'], () =>
    world.pings('a', '10.9.0.2', 10),
  );
  expect(code).toBe(0);
  const packets = tshark(file, 'frame.interface_name', 'frame.cap_len', 'frame.len');
  expect(packets).toHaveLength(4);
  expect(packets.every(([port, captured]) => port === 'a' && Number(captured) <= 64)).toBe(true);
});

test('a pipe is fed while packets flow, and a reader that stops ends the capture well', async () => {
  const command = `ip netns exec ${world.middle} ${process.execPath} ${bin} --socket ${world.socket} capture; echo "code $?" >&2`;
  const pipeline = world.spawn('bash', ['-c', `( ${command} ) | tshark -r - -c 4 -T fields -e icmp.seq -Y icmp`]);
  let errors = '';
  pipeline.stderr?.on('data', (chunk) => {
    errors += chunk;
  });
  const ended = new Promise((resolve) => pipeline.once('close', resolve));
  await until('the capture runs', () => world.log().includes('capture-session is running'));
  await until(
    'the reader has enough',
    () => {
      world.pings('a', '10.9.0.2', 2);
      return errors.includes('code');
    },
    30_000,
  );
  await ended;
  expect(errors).toContain('code 0');
  // Nobody captures any more: the extension that did is gone, too.
  await until('the capture is over', () => world.log().includes('capture-session is stopped'));
});

test('as JSON each packet is a line, and the last one counts them', async () => {
  const child = world.start(['--json', 'capture', 'a', '--filter', 'icmp and src 10.9.0.1', '--count', '2']);
  let text = '';
  child.stdout?.on('data', (chunk) => {
    text += chunk;
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  await until('the capture runs', () => world.log().includes('capture-session is running'));
  world.pings('a', '10.9.0.2', 3);
  await ended;
  const lines = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines).toHaveLength(2);
  expect(lines[0]).toMatchObject({ port: 'a', direction: 'in', lengthBytes: 98 });
  expect(lines[0].summary).toContain('10.9.0.1 > 10.9.0.2 icmp');
});

test('a filter that makes no sense is refused with the place', () => {
  const outcome = world.millrace('capture', '--filter', 'host and', '-w', '-');
  expect(outcome.code).toBe(2);
  expect(outcome.stderr).toMatch(/^millrace: cannot capture: .*\n/);
});

test('two captures at once see the same, each in its own', async () => {
  const first = join(world.folder, 'first.pcapng');
  const second = join(world.folder, 'second.pcapng');
  const one = world.start(['capture', 'a', '-w', first, '--filter', 'icmp', '--count', '4']);
  const ends = [one, world.start(['capture', 'b', '-w', second, '--filter', 'icmp', '--count', '4'])].map(
    (child) => new Promise((resolve) => child.once('exit', resolve)),
  );
  await until('both files are there', () => existsSync(first) && existsSync(second));
  await until('both have ended', async () => {
    world.pings('a', '10.9.0.2', 2);
    return Promise.race([
      Promise.all(ends).then(() => true),
      new Promise<boolean>((resume) => setTimeout(() => resume(false), 50)),
    ]);
  });
  expect(new Set(tshark(first, 'frame.interface_name').flat())).toEqual(new Set(['a']));
  expect(new Set(tshark(second, 'frame.interface_name').flat())).toEqual(new Set(['b']));
});

test('a capture file plays into the switch, and what comes back is written to another', async () => {
  const recorded = join(world.folder, 'recorded.pcapng');
  await capturing(['a', '-w', recorded, '--filter', 'arp or icmp'], () => world.pings('a', '10.9.0.2', 2));
  world.ok(
    'port',
    'add',
    'replay',
    '--kind',
    'pcap',
    '--read',
    recorded,
    '--write',
    join(world.folder, 'answers.pcapng'),
    'speed=fast',
  );
  await until('it has been played', () => world.json<PortInfo>('port', 'show', 'replay').counters.receivedPackets >= 4);
  expect(world.json<PortInfo>('port', 'show', 'replay')).toMatchObject({
    state: 'up',
    reason: 'the capture has been read to its end',
  });
  const traces = world.json<TraceResult[]>('trace', 'a', '--pcap', recorded);
  expect(traces.length).toBeGreaterThanOrEqual(4);
  expect(world.ok('trace', 'a', '--pcap', recorded, '--number', '1')).toMatch(/^frame into port a\n/);
  world.pings('b', '10.9.0.77', 1);
  world.ok('port', 'del', 'replay');
  const written = tshark(join(world.folder, 'answers.pcapng'), 'frame.interface_name', 'eth.dst');
  expect(written).toContainEqual(['replay', 'ff:ff:ff:ff:ff:ff']);
  expect(readFileSync(recorded).length).toBe(statSync(recorded).size);

  const nowhere = world.millrace('port', 'add', 'x', '--kind', 'pcap', '--read', join(world.folder, 'nothing.pcap'));
  expect([nowhere.code, nowhere.stderr]).toEqual([4, expect.stringContaining('nothing.pcap: ENOENT')]);
  const text = world.millrace('port', 'add', 'x', '--kind', 'pcap', '--read', world.file('text.pcap', 'no capture'));
  expect([text.code, text.stderr]).toEqual([1, expect.stringContaining('text.pcap')]);
  expect(run('tshark', ['-r', recorded]).code).toBe(0);
});

/** A capture with one TCP packet of so many bytes for each IP identification. */
function tcpCapture(lengths: number[]): Uint8Array {
  const chunks: Uint8Array[] = [];
  const writer = new PcapWriter((chunk) => chunks.push(chunk), { linkType: 1 });
  for (const [i, length] of lengths.entries()) {
    const frame = Buffer.alloc(length, 7);
    Buffer.from('025700000062025700000061080045000000000140004006000a0a0900010a090002', 'hex').copy(frame);
    frame.writeUInt16BE(length - 14, 16);
    frame.writeUInt16BE(i, 18);
    frame[46] = 0x50;
    writer.packet({ seconds: 1_700_000_000, nanoseconds: i, data: frame });
  }
  writer.flush();
  return new Uint8Array(Buffer.concat(chunks));
}

test('super-packets of a capture come in as what they were; a larger MTU makes them plain', async () => {
  const file = join(world.folder, 'large.pcap');
  writeFileSync(file, tcpCapture([1514, 20_054]));
  const seen = join(world.folder, 'seen.pcapng');
  await capturing(['b', '-w', seen, '--filter', 'tcp'], () => {
    world.ok('port', 'add', 'replay', '--kind', 'pcap', '--read', file, 'speed=fast');
  });
  expect(tshark(seen, 'frame.len').flat()).toEqual(['1514', '20054']);
  expect(world.json<PortInfo>('port', 'show', 'replay')).toMatchObject({ mtuBytes: 1500, drops: 0 });
  world.ok('port', 'del', 'replay');

  const huge = world.ok('port', 'add', 'huge', '--kind', 'pcap', '--read', file, 'speed=fast', 'mtuBytes=65535');
  expect(huge).toContain('up');
  await until('it has been played', () => world.json<PortInfo>('port', 'show', 'huge').counters.receivedPackets === 2);
  expect(world.ok('drops')).toContain('larger than the MTU');
});

test('a pipe that a port reads stops nobody: without a writer, with one that is slow, and at its end', async () => {
  const pipe = join(world.folder, 'pipe');
  must('mkfifo', pipe);
  const received = () => world.json<PortInfo>('port', 'show', 'replay').counters.receivedPackets;
  world.ok('port', 'add', 'replay', '--kind', 'pcap', '--read', pipe);
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  const writer = openSync(pipe, 'w');
  const bytes = tcpCapture([60, 60]);
  writeSync(writer, bytes.subarray(0, 130));
  await until('the first frame has come', () => received() === 1);
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  writeSync(writer, bytes.subarray(130));
  await until('the second has come', () => received() === 2);
  closeSync(writer);
  await until(
    'its end is said',
    () => world.json<PortInfo>('port', 'show', 'replay').reason === 'the capture has been read to its end',
  );
  expect(world.pings('a', '10.9.0.2')).toBe(true);
});

test('a recording goes on when its port is made anew, and no file is shared with one that is written', () => {
  const path = join(world.folder, 'kept.pcapng');
  world.ok('port', 'add', 'kept', '--kind', 'pcap', '--write', path);
  for (const speed of ['2', '3']) {
    world.ok('inject', 'a', `ffffffffffff02000000000188b5${'00'.repeat(50)}`);
    world.ok('port', 'set', 'kept', `speed=${speed}`);
  }
  const link = join(world.folder, 'link.pcapng');
  linkSync(path, link);
  const add = (...files: string[]) => world.millrace('port', 'add', 'other', '--kind', 'pcap', ...files);
  expect(add('--write', link).stderr).toContain('which port "kept" writes');
  expect(add('--read', link).stderr).toContain('which port "kept" writes');
  world.ok('port', 'del', 'kept');
  expect(add('--read', link, '--write', path).stderr).toContain('which it reads');
  expect(tshark(path, 'eth.type').filter(([type]) => Number(type) === 0x88b5)).toHaveLength(2);
});

test('a port whose file cannot be written any more says so', async () => {
  world.ok('port', 'add', 'record', '--kind', 'pcap', '--write', join(world.folder, 'recorded.pcap'));
  const recorder = () => world.json<PortInfo>('port', 'show', 'record');
  expect(recorder()).toMatchObject({ state: 'up', reason: null });
  must('prlimit', '--pid', String(world.pid()), '--fsize=20000:');
  const host = world.namespace('a');
  const ping = ['ping', '-b', '-q', '-c', '30', '-i', '0.01', '-s', '1400', '-W', '1', '10.9.0.255'];
  await until('it has failed', () => {
    run('ip', ['netns', 'exec', host, ...ping]);
    return recorder().state === 'failed';
  });
  expect(recorder().reason).toContain('EFBIG');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
});

test('what would block, or is no file, is refused in every place that takes a path', () => {
  const pipe = join(world.folder, 'pipe');
  must('mkfifo', pipe);
  const add = (...settings: string[]) => world.millrace('port', 'add', 'x', ...settings);
  expect(add('--kind', 'pcap', '--read', '/dev/zero').stderr).toContain('/dev/zero: capture: it is a device');
  expect(add('--kind', 'pcap', '--write', pipe).stderr).toContain('a named pipe that nobody reads');
  expect(add('--kind', 'pcap', '--write', '/dev/full').stderr).toContain('it is a device');
  expect(add('--kind', 'tap', `netns=${pipe}`).stderr).toContain('EINVAL');
  const extension = world.millrace('extension', 'add', 'e', '--module', pipe);
  expect(extension.stderr).toContain('it is no file');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
});
