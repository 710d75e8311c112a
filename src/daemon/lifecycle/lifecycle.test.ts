import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Failure } from '../rpc/failure.ts';
import { defaultSocketPath } from '../socket-path.ts';
import { daemonProcess, WatchedProcess, waitForEnd } from './after.ts';
import { DaemonLock, lockHolder, lockPathOf, lockState } from './lock.ts';
import { LineSink, prettyLine } from './log.ts';

let folder = '';
let socket = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-lock-'));
  socket = join(folder, 'inner', 'millrace.sock');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const journal = {
  pid: 4242,
  startedAt: '2026-01-01T00:00:00.000Z',
  namespace: 'net:[4026531840]',
  unhurried: false,
  ports: [{ name: 'a', kind: 'netdev', device: 'e0' }],
};

test('the lock makes its folder, and removes its file when released', () => {
  const lock = DaemonLock.acquire(socket);
  expect(lock.leftBehind).toBeNull();
  lock.write(journal);
  expect(JSON.parse(readFileSync(lockPathOf(socket), 'utf8'))).toEqual(journal);
  lock.release();
  lock.release();
  expect(existsSync(lockPathOf(socket))).toBe(false);
});

test('a second daemon is refused in one sentence that names the pid of the first', () => {
  const lock = DaemonLock.acquire(socket);
  lock.write(journal);
  try {
    DaemonLock.acquire(socket);
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(Failure);
    expect(error).toMatchObject({ kind: 'exists', message: `another daemon (pid 4242) already serves ${socket}` });
  }
  lock.release();
  DaemonLock.acquire(socket).release();
});

test('what a killed daemon wrote is found, and a torn journal is no journal', () => {
  const lock = DaemonLock.acquire(socket);
  writeFileSync(lockPathOf(socket), JSON.stringify(journal));
  lock.release();
  writeFileSync(lockPathOf(socket), JSON.stringify(journal));
  const next = DaemonLock.acquire(socket);
  expect(next.leftBehind).toEqual(journal);
  // A shorter text replaces a longer one whole.
  next.write({ ...journal, ports: [] });
  expect(JSON.parse(readFileSync(lockPathOf(socket), 'utf8')).ports).toEqual([]);
  next.release();
  writeFileSync(lockPathOf(socket), '{"pid":4242,"start');
  const after = DaemonLock.acquire(socket);
  expect(after.leftBehind).toBeNull();
  after.release();
});

test('a place where the lock cannot be made is said with what to do', () => {
  const file = join(folder, 'file');
  writeFileSync(file, '');
  expect(() => DaemonLock.acquire(join(file, 'millrace.sock'))).toThrow(
    `${file} is an ordinary file, and not a folder`,
  );
});

test('a file that is not the lock of a daemon keeps its text, and a link what it leads to', () => {
  mkdirSync(join(folder, 'inner'));
  const precious = join(folder, 'precious');
  writeFileSync(precious, '');
  for (const text of ['precious', '{"name":"a lock file of something else"}', '[]']) {
    writeFileSync(lockPathOf(socket), text);
    expect(() => DaemonLock.acquire(socket), text).toThrow(
      `${lockPathOf(socket)} is there and is not the lock of a daemon`,
    );
    expect(readFileSync(lockPathOf(socket), 'utf8')).toBe(text);
  }
  unlinkSync(lockPathOf(socket));
  symlinkSync(precious, lockPathOf(socket));
  expect(() => DaemonLock.acquire(socket)).toThrow(/is a symbolic link/);
  expect(readFileSync(precious, 'utf8')).toBe('');
});

test('a journal that cannot be written whole is said, and the one before stays', () => {
  const lock = DaemonLock.acquire(socket);
  expect(lock.write(journal)).toBeNull();
  // Files of this process end here; SIGXFSZ would end it.
  const limit = (bytes: string) => spawnSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}`]);
  const ignore = () => {};
  process.on('SIGXFSZ', ignore);
  try {
    expect(limit(`${readFileSync(lockPathOf(socket)).length + 10}:`).status).toBe(0);
    const many = Array.from({ length: 100 }, (_, i) => ({ name: `port${i}`, kind: 'netdev', device: `eth${i}` }));
    expect(lock.write({ ...journal, ports: many })).toMatch(/cannot be written: .*EFBIG/);
  } finally {
    limit('unlimited:');
    process.removeListener('SIGXFSZ', ignore);
  }
  expect(JSON.parse(readFileSync(lockPathOf(socket), 'utf8'))).toEqual(journal);
  lock.release();
});

test('the lock tells who holds it, whether it was left, and that nobody does', () => {
  expect([lockState(socket), lockHolder(socket)]).toEqual(['none', null]);
  const lock = DaemonLock.acquire(socket);
  lock.write({ ...journal, pid: 1 });
  // As the kernel tells, and not as is written.
  expect([lockState(socket), lockHolder(socket)]).toEqual(['held', process.pid]);
  lock.abandon();
  expect([lockState(socket), lockHolder(socket)]).toEqual(['left', null]);
  const next = DaemonLock.acquire(socket);
  expect(next.journal?.pid).toBe(1);
  next.release();
  expect(lockState(socket)).toBe('none');
});

test('whoever waits for the end of a daemon waits for its process, whose number may be another one later', async () => {
  const lock = DaemonLock.acquire(socket);
  lock.write(journal);
  const own = daemonProcess(socket);
  expect(own?.pid).toBe(process.pid);
  await expect(waitForEnd(socket, own, 50)).rejects.toMatchObject({
    message: `the daemon (pid ${process.pid}) was asked to stop and is still there after 0 s`,
    hint: expect.stringContaining(`kill -9 ${process.pid}`),
  });
  lock.abandon();
  // The lock is free, the process is there.
  await expect(waitForEnd(socket, own, 50)).rejects.toThrow('is still there');
  expect(await waitForEnd(socket, null, 50)).toBe('cut');
  const child = spawn('sleep', ['infinity']);
  const watched = new WatchedProcess(child.pid ?? 0);
  expect(watched.isOver).toBe(false);
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await gone;
  expect(watched.isOver).toBe(true);
  expect(await waitForEnd(socket, watched, 50)).toBe('cut');
  DaemonLock.acquire(socket).release();
  expect(await waitForEnd(socket, watched, 50)).toBe('clean');
});

test('lines that the log cannot take are counted, and said with the next that it can', () => {
  const out: string[] = [];
  let room = Number.POSITIVE_INFINITY;
  const sink = new LineSink((bytes) => {
    if (room <= 0) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
    const taken = Math.min(room, bytes.length);
    room -= taken;
    out.push(Buffer.from(bytes.subarray(0, taken)).toString());
    return taken;
  });
  const note = (lost: number, why: string) => `${lost} lost: ${why}\n`;
  sink.line('one\n', note);
  room = 2;
  for (const line of ['two\n', 'three\n']) sink.line(line, note);
  expect(sink.lost).toBe(2);
  room = Number.POSITIVE_INFINITY;
  sink.line('four\n', note);
  sink.line('five\n', note);
  expect(out.join('')).toBe('one\ntw\n2 lost: ENOSPC\nfour\nfive\n');
});

test('the socket is where the environment says, else where the user may write', () => {
  expect(defaultSocketPath({ MILLRACE_SOCKET: '/x/y' }, 1000)).toBe('/x/y');
  expect(defaultSocketPath({}, 0)).toBe('/run/millrace/millrace.sock');
  expect(defaultSocketPath({ XDG_RUNTIME_DIR: '/run/user/1000' }, 1000)).toBe('/run/user/1000/millrace.sock');
  expect(defaultSocketPath({}, 1000)).toMatch(/\.millrace\/millrace\.sock$/);
});

test('log lines for people have time, level, sentence and details', () => {
  const line = JSON.stringify({ level: 40, time: 0, pid: 1, msg: 'careful', port: 'a', n: 1 });
  expect(prettyLine(line, false)).toBe('00:00:00.000 warn  careful port=a n=1\n');
  expect(prettyLine(line, true)).toContain('\u001b[33m');
});
