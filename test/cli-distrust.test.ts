/** The command line and the daemon trust nobody without looking: sockets of others, answers that are none, daemons that say nothing, files that are pipes, and SIGUSR1. */
import type { ChildProcess } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { must, run, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World({ outlives: true });
});
afterEach(() => world.end());

/** A server that answers every request with this result, whatever was asked, and notes what it got. */
async function pretend(socket: string, result: unknown, uid = 0): Promise<{ child: ChildProcess; got: () => string }> {
  const script = `
    process.setgid(${uid}); process.setuid(${uid});
    require('node:net').createServer((one) => one.on('data', (text) => {
      process.stdout.write(text);
      one.write(JSON.stringify({ jsonrpc: '2.0', id: JSON.parse(text).id, result: ${JSON.stringify(result)} }) + '\\n');
    })).listen('${socket}', () => { require('node:fs').chmodSync('${socket}', 0o777); console.log('listens'); });`;
  const child = world.spawn(process.execPath, ['-e', script]);
  let said = '';
  child.stdout?.on('data', (text) => {
    said += text;
  });
  await until('it listens', () => said.includes('listens'));
  return { child, got: () => said.replace('listens\n', '') };
}

test('a socket that another user serves is told nothing', async () => {
  const folder = join(world.folder, 'open');
  mkdirSync(folder);
  chmodSync(world.folder, 0o755);
  chmodSync(folder, 0o1777);
  const socket = join(folder, 'mr.sock');
  const { got } = await pretend(socket, { pid: 1 }, 65534);
  const config = world.file('millrace.yaml', 'ports: {}\n');
  for (const command of [['status'], ['port', 'list'], ['up', '-f', config], ['down']]) {
    const { code, stderr } = world.millrace('--socket', socket, ...command);
    expect([code, stderr]).toEqual([
      4,
      expect.stringContaining(`the socket ${socket} is served by another user (uid 65534)`),
    ]);
  }
  // The file's owner may lie: it is root's, and the process that listens is not.
  must('chown', '0:0', socket);
  expect(world.millrace('--socket', socket, 'status').stderr).toContain('is served by another user (uid 65534)');
  expect(got()).toBe('');
});

test.each([[{ pid: 1 }], [null], ['text'], [[1]]])(
  'an answer %j to what was not asked is said in words',
  async (result) => {
    await pretend(world.socket, result);
    for (const command of [['status'], ['port', 'list'], ['offload', 'show'], ['config', 'show'], ['drops']]) {
      const { stderr } = world.millrace(...command);
      expect(stderr, command.join(' ')).not.toMatch(/Cannot read|undefined|is not a function|is not iterable/);
    }
    expect(world.millrace('status').stderr).toContain("the daemon's answer to status is not one");
  },
);

test('a daemon that does not answer is named while it is waited for, and not for ever', async () => {
  world.up('ports: {}\n');
  const pid = world.pid();
  must('kill', '-STOP', String(pid));
  try {
    const { code, stderr } = world.millrace('status');
    expect(code).toBe(1);
    expect(stderr).toContain(`waits for the daemon (pid ${pid}), which has not answered for 5 s`);
    expect(stderr).toContain(`the daemon (pid ${pid}) has not answered for 30 s`);
  } finally {
    must('kill', '-CONT', String(pid));
  }
  expect(world.pid()).toBe(pid);
});

test('SIGUSR1 opens nothing: the daemon goes on, and nobody may run code in it', async () => {
  world.up('ports: {}\nextensions: [learning]\n');
  const pid = world.pid();
  must('kill', '-USR1', String(pid));
  const caught = /^SigCgt:\s*(\w+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '0';
  expect(BigInt(`0x${caught}`) & (1n << 9n)).not.toBe(0n);
  // It has answered since, so that the signal has been looked at.
  for (let times = 0; times < 3; times += 1) expect(world.pid()).toBe(pid);
  const listening = must('nsenter', `--net=/run/netns/${world.middle}`, 'cat', '/proc/net/tcp');
  // 9229, where Node's inspector listens.
  expect(listening).not.toContain(':240D ');
  expect(world.log()).not.toContain('Debugger listening');
});

test('what is no ordinary file is no configuration and no log: nothing waits for a pipe', () => {
  const pipe = join(world.folder, 'pipe');
  must('mkfifo', pipe);
  const big = world.file('big.yaml', '#'.repeat((1 << 20) + 1));
  for (const file of [pipe, '/dev/zero', world.folder, big]) {
    for (const command of [
      ['config', 'check', file],
      ['up', '-f', file],
      ['up', '--daemon', '-f', file],
    ]) {
      const { code, stderr } = run(process.execPath, world.command(...command), { timeoutMs: 30_000 });
      expect([code, stderr], command.join(' ')).toEqual([2, expect.stringContaining(`cannot read ${file}: it is `)]);
    }
  }
  const log = run(process.execPath, world.command('up', '--daemon', '--log-file', pipe), { timeoutMs: 30_000 });
  expect([log.code, log.stderr]).toEqual([4, expect.stringContaining(`${pipe} is a FIFO`)]);
});

test('a capture port writes over no file that the daemon itself needs, by whatever name', () => {
  world.up('ports: {}\n');
  const lock = readFileSync(`${world.socket}.lock`, 'utf8');
  const other = join(world.folder, 'other.pcapng');
  must('ln', '-s', `${world.socket}.lock`, other);
  for (const [file, what] of [
    [`${world.socket}.lock`, 'the lock'],
    [other, 'the lock'],
    [join(world.folder, 'mr.log'), 'the log'],
  ]) {
    const { code, stderr } = world.millrace('port', 'add', 'p', '--kind', 'pcap', '--write', file);
    expect([code, stderr]).toEqual([1, expect.stringContaining(`cannot write ${file}: it is ${what} of this daemon`)]);
  }
  expect(readFileSync(`${world.socket}.lock`, 'utf8')).toBe(lock);
  expect(world.log()).not.toBe('');
});

test('a capture port on a full disk names its file', async () => {
  const full = join(world.folder, 'full');
  mkdirSync(full);
  await world.unshareMounts(`mount -t tmpfs -o size=4k tmpfs ${full} && head -c 4096 /dev/zero > ${full}/rest`);
  world.up('ports: {}\n');
  const file = join(full, 'p.pcapng');
  const { stderr } = world.millrace('port', 'add', 'p', '--kind', 'pcap', '--write', file);
  const listed = world.millrace('port', 'list').stdout;
  expect(stderr + listed).toContain(`cannot write ${file}: ENOSPC`);
});
