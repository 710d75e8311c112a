/** `millrace down` says "down" when the daemon is gone and nothing is left of it, however the daemon ended: and looks by itself. */
import { accessSync, constants, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { queryNetdev } from '../src/bpf/index.ts';
import { NetworkNamespace } from '../src/host/index.ts';
import { must, type Outcome, run, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World({ outlives: true });
  world.host('a', '10.7.1.1/24');
});
afterEach(() => world.end());

const LOOP = `export default {
  descriptor: { name: 'loop', type: 'filtering', version: '1.0.0' },
  create: () => ({ onIngress() { for (;;); } }),
};
`;
const PORTS = 'ports: { a: {} }\noffload: require\n';

/** What a daemon may have left, in words. */
function left(): string[] {
  const middle = NetworkNamespace.byName(world.middle);
  try {
    const programs = middle.run(() => queryNetdev('a').tcx?.ingress.programs ?? []);
    const promiscuity = /promiscuity (\d+)/.exec(must('ip', '-n', world.middle, '-d', 'link', 'show', 'a'))?.[1];
    const links = must('ip', '-n', world.middle, '-o', 'link')
      .split('\n')
      .filter((line) => /: mr[0-9a-f]{8}/.test(line));
    const mounts = readFileSync('/proc/self/mounts', 'utf8')
      .split('\n')
      .filter((line) => line.includes(world.folder));
    const files = ['', '.lock', '.bpf', '.punt']
      .map((end) => `${world.socket}${end}`)
      .filter((path) => existsSync(path));
    return [
      ...programs.map(({ name }) => name),
      ...(promiscuity === '0' ? [] : ['promiscuous']),
      ...links,
      ...mounts,
      ...files,
    ];
  } finally {
    middle.close();
  }
}

/** Run `down` without waiting. */
function down(...args: string[]): Promise<Outcome> {
  const child = world.spawn('nsenter', [
    `--net=/run/netns/${world.middle}`,
    process.execPath,
    ...world.command('down', ...args),
  ]);
  const outcome = { code: -1, stdout: '', stderr: '' };
  child.stdout?.on('data', (text) => {
    outcome.stdout += text;
  });
  child.stderr?.on('data', (text) => {
    outcome.stderr += text;
  });
  return new Promise((resolve) =>
    child.once('close', (code) => {
      resolve({ ...outcome, code: code ?? 128 });
    }),
  );
}

test('a datapath that does not answer is ended, and nothing is left of it', () => {
  world.up(`${PORTS}extensions: [learning, { name: loop, module: ${world.file('loop.mjs', LOOP)} }]\n`);
  expect(left()).not.toEqual([]);
  world.pings('a', '10.7.1.2', 1);
  const outcome = world.millrace('down', '--timeout', '50');
  expect([outcome.code, outcome.stdout]).toEqual([0, expect.stringMatching(/^millrace is down \(pid \d+ /)]);
  expect(left()).toEqual([]);
  expect(world.millrace('down').code).toBe(3);
});

test('a daemon that is killed while it is waited for is seen to be gone at once, and cleaned up after', async () => {
  world.up(PORTS);
  const pid = world.pid();
  // It takes the connection, and never answers.
  must('kill', '-STOP', String(pid));
  const ended = down();
  // Beside the listening socket there is that of a connection.
  const sockets = () =>
    must('nsenter', `--net=/run/netns/${world.middle}`, 'cat', '/proc/net/unix').split(world.socket);
  await until('it is waited for', () => sockets().length > 2, 20_000);
  must('kill', '-KILL', String(pid));
  const began = Date.now();
  const outcome = await ended;
  expect(Date.now() - began).toBeLessThan(10_000);
  // It may have been gone before it was asked.
  const said = ['ended before it had undone everything; removed', 'removed what was left of one that was killed'];
  expect(outcome.code).toBe(0);
  expect(said.filter((text) => outcome.stdout.includes(text))).toHaveLength(1);
  expect(outcome.stdout).toContain(`(pid ${pid}`);
  expect(outcome.stdout).toContain('1 program on interfaces and the devices of its punt channel');
  expect(left()).toEqual([]);
});

test('a daemon that does not end is named by its lock, and left alone', async () => {
  world.up(PORTS);
  const pid = world.pid();
  must('kill', '-STOP', String(pid));
  try {
    const { code, stderr } = await down('--timeout', '3');
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining(`the daemon (pid ${pid}) was asked to stop and is still there after 3 s`),
    ]);
    expect(stderr).toContain(`kill -9 ${pid}`);
    expect(left()).not.toEqual([]);
  } finally {
    must('kill', '-CONT', String(pid));
  }
  await until('it does as it was asked', () => left().length === 0, 20_000);
});

test('the process that a killed daemon had is nobody to be ended: its number may be another one now', async () => {
  world.up(PORTS);
  const pid = world.pid();
  must('kill', '-KILL', String(pid));
  await until('it is gone', () => !existsSync(`/proc/${pid}`));
  const other = world.spawn('sleep', ['infinity']);
  const lock = `${world.socket}.lock`;
  world.file('mr.sock.lock', readFileSync(lock, 'utf8').replace(`"pid":${pid}`, `"pid":${other.pid}`));
  const { code, stdout, stderr } = world.millrace('down');
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout).not.toContain('kill -9');
  expect(other.exitCode ?? other.signalCode).toBeNull();
  expect(left()).toEqual([]);
});

test('from another network namespace it finds what a killed daemon left in its own, and touches no namesake', async () => {
  world.up(PORTS);
  const pid = world.pid();
  must('kill', '-KILL', String(pid));
  await until('it is gone', () => !existsSync(`/proc/${pid}`));
  const elsewhere = world.namespace('x');
  must('ip', '-n', elsewhere, 'link', 'add', 'name', 'a', 'type', 'veth', 'peer', 'name', 'peer');
  // A process inside keeps the namespace of the punt channel: its device does not go by itself.
  const inside = world.spawn('nsenter', [`--net=${world.socket}.punt`, 'sleep', 'infinity']);
  await until('it is inside', () => /^sleep/.test(readFileSync(`/proc/${inside.pid}/comm`, 'utf8')));
  const events = world.spawn('ip', ['netns', 'exec', elsewhere, 'ip', 'monitor', 'link']);
  let seen = '';
  events.stdout?.on('data', (text) => {
    seen += text;
  });
  const outcome = run('nsenter', [`--net=/run/netns/${elsewhere}`, process.execPath, ...world.command('down')]);
  expect([outcome.code, outcome.stderr]).toEqual([0, '']);
  expect(left()).toEqual([]);
  must('ip', '-n', elsewhere, 'link', 'set', 'lo', 'down');
  await until('the monitor has seen what came after', () => /lo:/.test(seen));
  expect(seen).not.toMatch(/\ba[:@]/);
});

const HURRIED = '/sys/kernel/rcu_expedited';

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

test.runIf(isWritable(HURRIED))('grace periods that a killed daemon was hurrying take their time again', async () => {
  world.up(PORTS);
  const { pid } = world.json<{ pid: number }>('status');
  const lock = JSON.parse(readFileSync(`${world.socket}.lock`, 'utf8')) as { unhurried: boolean };
  process.kill(pid, 'SIGKILL');
  await until('the daemon is gone', () => !existsSync(`/proc/${pid}`));
  // As if it had been killed in the midst of a call. Others of this machine may hurry just now, and leave it alone then.
  writeFileSync(HURRIED, '1');
  expect(world.millrace('down').code).toBe(0);
  if (lock.unhurried) await until('the switch is off', () => readFileSync(HURRIED, 'utf8').trim() === '0');
  expect(left()).toEqual([]);
});
