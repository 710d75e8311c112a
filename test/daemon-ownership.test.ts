/** What the daemon keeps beside its socket is its own: files, links, folders and mounts of others are neither followed nor changed, and are named. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { queryNetdev } from '../src/bpf/index.ts';
import { NetworkNamespace } from '../src/host/index.ts';
import { must, type Outcome, run, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World({ outlives: true });
});
afterEach(() => world.end());

const PORT = 'ports: { a: {} }\noffload: require\n';
const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] as const;

/** Run a command as a user without any privilege. */
function asNobody(...command: string[]): Outcome {
  return run(NOBODY[0], [...NOBODY.slice(1), ...command]);
}

function refusal(...args: string[]): string {
  const { code, stderr } = world.millrace(...args);
  expect(code, stderr).toBe(4);
  return stderr;
}

async function kill(): Promise<void> {
  const pid = world.pid();
  must('kill', '-9', String(pid));
  await until('the process is gone', () => !existsSync(`/proc/${pid}`));
}

/** Whether programs of a daemon are on the interface of a host. */
function hasPrograms(name: string): boolean {
  const middle = NetworkNamespace.byName(world.middle);
  try {
    return (middle.run(() => queryNetdev(name)).tcx?.ingress.programs.length ?? 0) > 0;
  } finally {
    middle.close();
  }
}

test('an ordinary file in the place of the socket stays, and is named, whatever is asked', () => {
  writeFileSync(world.socket, 'precious');
  for (const command of [['down'], ['up'], ['up', '--daemon'], ['status'], ['port', 'list']]) {
    expect(refusal(...command)).toContain(`${world.socket} is an ordinary file, and not a socket`);
    expect(readFileSync(world.socket, 'utf8')).toBe('precious');
  }
  expect(readdirSync(world.folder)).toEqual(['mr.sock']);
});

test('links in the place of lock, log, socket and mounts lead nowhere', () => {
  const precious = world.file('precious', 'precious');
  const folder = join(world.folder, 'theirs');
  mkdirSync(folder);
  world.host('a');
  for (const [place, target] of [
    [`${world.socket}.lock`, precious],
    [`${join(world.folder, 'mr.log')}`, precious],
    [world.socket, precious],
    [`${world.socket}.bpf`, folder],
    [`${world.socket}.punt`, precious],
  ] as const) {
    must('rm', '-f', join(world.folder, 'mr.log'));
    symlinkSync(target, place);
    const { code, stderr } = world.millrace('up', '--daemon', '-f', world.file('millrace.yaml', PORT));
    expect([code === 0, stderr], place).toEqual([false, expect.stringContaining(place)]);
    expect(stderr).toContain('symbolic link');
    expect(lstatSync(place).isSymbolicLink(), place).toBe(true);
    expect(readFileSync(precious, 'utf8')).toBe('precious');
    expect(readdirSync(folder)).toEqual([]);
    expect(readFileSync('/proc/self/mounts', 'utf8')).not.toContain(world.folder);
    must('rm', place);
  }
});

test('folders and files of the user with names like ours are neither hidden nor removed', () => {
  world.host('a');
  const inner = join(`${world.socket}.bpf`, 'source.c');
  mkdirSync(`${world.socket}.bpf`);
  writeFileSync(inner, 'precious');
  writeFileSync(`${world.socket}.punt`, 'precious');
  const start = () => world.millrace('up', '--daemon', '-f', world.file('millrace.yaml', PORT)).stderr;
  expect(start()).toContain(`${world.socket}.bpf is a folder with files in it`);
  expect(refusal('down')).toContain(`${world.socket}.bpf is a folder with files in it`);
  must('rm', '-r', `${world.socket}.bpf`);
  expect(start()).toContain(`${world.socket}.punt is an ordinary file`);
  expect(refusal('down')).toContain(`${world.socket}.punt is an ordinary file`);
  expect(readFileSync(`${world.socket}.punt`, 'utf8')).toBe('precious');
});

test('a folder that others may write to is no place for a daemon', () => {
  chmodSync(world.folder, 0o777);
  expect(refusal('up', '--daemon')).toContain(`${world.folder} may be written to by other users`);
  expect(readdirSync(world.folder)).toEqual([]);
  chmodSync(world.folder, 0o1777);
  must('chown', 'nobody', world.folder);
  expect(refusal('up')).toContain(`${world.folder} belongs to another user`);
  must('chown', 'root', world.folder);
});

test('nobody can put anything among the pins, so a killed daemon is taken up and down cleans up', async () => {
  chmodSync(world.folder, 0o755);
  world.host('a');
  world.up(PORT);
  const pins = `${world.socket}.bpf`;
  expect((lstatSync(pins).mode & 0o777).toString(8)).toBe('700');
  expect(asNobody('ln', '-s', '/', join(pins, 'table-x')).code).not.toBe(0);
  expect(asNobody('ls', pins).code).not.toBe(0);
  await kill();
  expect(hasPrograms('a')).toBe(true);
  world.up(PORT);
  await kill();
  expect(world.ok('down')).toMatch(/removed what was left of one that was killed .*: 1 program on interfaces/);
  expect(hasPrograms('a')).toBe(false);
  expect(world.millrace('down').code).toBe(3);
});

test('on a bpf file system of the machine that all may write to, the place of another user is not taken', async () => {
  chmodSync(world.folder, 0o755);
  world.host('a');
  // As `mount -t bpf` makes it.
  await world.unshareMounts('mount --make-rprivate / && mount -t bpf bpf /sys/fs/bpf');
  world.beside(...NOBODY, 'mkdir', '-m', '777', '/sys/fs/bpf/millrace');
  world.up(PORT);
  expect(world.beside('ls', '/sys/fs/bpf/millrace')).toBe('');
  expect(world.beside('ls', `${world.socket}.bpf`)).toContain('links');
  world.ok('down');
  world.beside('rmdir', '/sys/fs/bpf/millrace');
  world.beside(...NOBODY, 'ln', '-s', '/sys/fs/bpf', '/sys/fs/bpf/millrace');
  world.up(PORT);
  world.ok('down');
  world.beside('rm', '/sys/fs/bpf/millrace');
  world.up(PORT);
  expect(world.beside('stat', '-c', '%a %u', '/sys/fs/bpf/millrace')).toBe('700 0\n');
  world.ok('down');
  expect(world.beside('ls', '/sys/fs/bpf')).not.toContain('millrace');
});

test('a mount of somebody else over the pins is not taken for them, and said until it is gone', async () => {
  world.host('a');
  world.up(PORT);
  await kill();
  const pins = `${world.socket}.bpf`;
  for (const theirs of [
    ['mount', '-t', 'bpf', 'bpf', pins],
    ['mount', '-t', 'tmpfs', 'tmpfs', pins],
    ['mount', '--bind', join(pins, 'links'), pins],
  ]) {
    must(theirs[0], ...theirs.slice(1));
    try {
      expect(refusal('down')).toContain(`${pins} has a mount of somebody else`);
      expect(hasPrograms('a')).toBe(true);
    } finally {
      must('umount', pins);
    }
  }
  expect(world.ok('down')).toContain('1 program on interfaces');
  expect(hasPrograms('a')).toBe(false);
});

test('the pins of another daemon, shown at the place of ours, are left to it', () => {
  world.host('a');
  world.up(PORT);
  const other = `${world.socket}2`;
  mkdirSync(`${other}.bpf`);
  writeFileSync(`${other}.punt`, '');
  must('mount', '--bind', `${world.socket}.bpf`, `${other}.bpf`);
  try {
    const { code, stderr } = world.millrace('--socket', other, 'down');
    expect([code, stderr]).toEqual([4, expect.stringContaining(`${other}.bpf has a mount of somebody else`)]);
    expect(hasPrograms('a')).toBe(true);
  } finally {
    must('umount', `${other}.bpf`);
  }
});

test('a capture that cannot be written is said, and what the file holds', () => {
  world.up('ports: { m: { kind: memory } }\n');
  const outcome = world.millrace('capture', '-w', '/dev/full', '--count', '1');
  expect([outcome.code, outcome.stderr]).toEqual([
    1,
    'millrace: cannot write /dev/full: ENOSPC\n  the capture was ended; the file holds its first 0 bytes\n',
  ]);
});

test('a disk without room is said: by the start, by the log, and by the journal', () => {
  const small = join(world.folder, 'small');
  mkdirSync(small);
  // Room for the lock, the log and the socket, and a page or two more.
  must('mount', '-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', small);
  const socket = join(small, 's');
  const filler = join(small, 'filler');
  const millrace = (...args: string[]) => world.millrace('--socket', socket, ...args);
  try {
    expect(spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=1k'], { encoding: 'utf8' }).stderr).toMatch(/No space/);
    const refused = millrace('up', '--daemon', '--log-file', '/dev/null');
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(/s\.lock cannot be written: .*ENOSPC/)]);
    expect(readdirSync(small)).toEqual(['filler']);
    must('rm', filler);
    const log = world.file('other.log', '');
    expect(millrace('up', '--daemon', '--log-file', log).code).toBe(0);
    spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=1k']);
    const names = Array.from({ length: 60 }, (_, i) => `${'x'.repeat(40)}${i}`);
    const many = world.file('many.yaml', `ports:\n${names.map((name) => `  ${name}: { kind: memory }\n`).join('')}`);
    expect(millrace('up', '-f', many).code).toBe(0);
    expect(readFileSync(log, 'utf8')).toMatch(/s\.lock cannot be written: .*ENOSPC.*will not know its present ports/);
    expect(JSON.parse(readFileSync(`${socket}.lock`, 'utf8')).ports.length).toBeGreaterThan(0);
    expect(millrace('down').code).toBe(0);
  } finally {
    millrace('down');
    must('umount', small);
  }
});
