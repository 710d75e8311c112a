/** A daemon whose files were removed, or moved away with their folder, is found as long as it lives: nothing of it is taken from it, and none starts beside it. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { must, run, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World({ outlives: true });
  world.host('a', '10.7.2.1/24');
  world.host('b', '10.7.2.2/24');
});
afterEach(() => world.end());

const PORTS = 'ports: { a: {}, b: {} }\nextensions: [learning]\noffload: require\n';
const lockOf = () => `${world.socket}.lock`;

/** A stopped process puts nothing back. */
function stop(pid: number): void {
  must('kill', '-STOP', String(pid));
}

function goOn(pid: number): void {
  must('kill', '-CONT', String(pid));
}

test('socket and lock that are removed come back, and the daemon is stopped as always', async () => {
  world.up(PORTS);
  const pid = world.pid();
  rmSync(world.socket);
  rmSync(lockOf());
  await until('both are there again', () => existsSync(world.socket) && existsSync(lockOf()));
  await until('it is served', () => world.millrace('status').code === 0);
  expect(world.pid()).toBe(pid);
  expect(world.log()).toContain('the control socket was removed; it is put back');
  expect(world.log()).toContain('the lock beside the control socket was removed; it is put back');
  expect(world.millrace('up').stderr).toContain(`a daemon (pid ${pid}) already serves ${world.socket}`);
  expect(world.millrace('down').stdout).toBe(`millrace is down (pid ${pid} ended).\n`);
  expect([existsSync(world.socket), existsSync(lockOf())]).toEqual([false, false]);
  await until('its process is gone', () => !existsSync(`/proc/${pid}`));
});

test.each([
  ['socket and lock', true, true],
  ['the socket', true, false],
  ['the lock', false, true],
])('without %s nothing is taken from a living daemon, and every command names it', async (_, socket, lock) => {
  world.up(PORTS);
  const pid = world.pid();
  const programs = () => run('ip', ['-n', world.middle, '-d', 'link']).stdout;
  const before = programs();
  stop(pid);
  if (socket) rmSync(world.socket);
  if (lock) rmSync(lockOf());
  try {
    if (socket) {
      const status = world.millrace('status');
      expect([status.code, status.stderr]).toEqual([3, expect.stringContaining(`(pid ${pid}) runs`)]);
      const keep = world.millrace('down', '--keep', '--timeout', '2');
      expect([keep.code, keep.stderr]).toEqual([3, expect.stringContaining(`(pid ${pid}) runs`)]);
      const second = world.millrace('up', '--daemon');
      expect([second.code, second.stderr]).toEqual([4, expect.stringContaining(`another daemon (pid ${pid})`)]);
    }
    const down = world.millrace('down', '--timeout', '4');
    expect([down.code, down.stderr]).toEqual([1, expect.stringContaining(`kill -9 ${pid}`)]);
    expect(programs()).toBe(before);
  } finally {
    goOn(pid);
  }
  await until('it ends, as it was asked by socket or signal', () => !existsSync(`/proc/${pid}`), 20_000);
  expect(programs()).not.toContain('promiscuity 1');
});

test('from another network namespace a daemon without socket and lock is found by its programs', () => {
  world.up(PORTS);
  const pid = world.pid();
  stop(pid);
  rmSync(world.socket);
  rmSync(lockOf());
  const elsewhere = world.namespace('x');
  const there = (...args: string[]) =>
    run('nsenter', [`--net=/run/netns/${elsewhere}`, process.execPath, ...world.command(...args)]);
  try {
    expect(there('status').stderr).toContain(`(pid ${pid}) runs`);
    expect(there('up', '--daemon').stderr).toContain(`another daemon (pid ${pid})`);
  } finally {
    goOn(pid);
  }
  expect(there('down').stdout).toBe(`millrace is down (pid ${pid} ended).\n`);
});

test('a daemon whose folder was moved away is reached at its place again', async () => {
  const folder = `${world.folder}/inner`;
  mkdirSync(folder);
  const socket = `${folder}/mr.sock`;
  const millrace = (...args: string[]) =>
    run('nsenter', [
      `--net=/run/netns/${world.middle}`,
      process.execPath,
      ...world.command('--socket', socket, ...args),
    ]);
  expect(millrace('up', '--daemon', '-f', world.file('millrace.yaml', PORTS.replace('require', 'off'))).code).toBe(0);
  const { pid } = JSON.parse(millrace('--json', 'status').stdout) as { pid: number };
  renameSync(folder, `${world.folder}/moved`);
  const outcome = millrace('down');
  expect([outcome.code, outcome.stdout]).toEqual([0, `millrace is down (pid ${pid} ended).\n`]);
  await until('its process is gone', () => !existsSync(`/proc/${pid}`));
});

test('a name that a process of another user has stops nobody', async () => {
  const name = createHash('sha256').update(world.socket).digest('hex').slice(0, 32);
  const script = `
    const { takeLivingName } = await import('${new URL('../dist/host/index.js', import.meta.url)}');
    process.setuid(65534);
    if (takeLivingName('daemon/${name}') !== null) console.log('taken');
    setInterval(() => {}, 1000);`;
  const other = world.spawn('ip', [
    ...['netns', 'exec', world.middle, process.execPath, '--input-type=module', '-e', script],
  ]);
  await new Promise((resolve) => other.stdout?.once('data', resolve));
  world.up(PORTS);
  const pid = world.pid();
  expect(world.ok('down')).toBe(`millrace is down (pid ${pid} ended).\n`);
  expect(world.millrace('down').code).toBe(3);
});
