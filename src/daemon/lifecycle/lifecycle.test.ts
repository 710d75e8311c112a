import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Failure } from '../rpc/failure.ts';
import { defaultSocketPath } from '../socket-path.ts';
import { DaemonLock, lockPathOf } from './lock.ts';
import { prettyLine } from './log.ts';

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
  expect(() => DaemonLock.acquire(join(file, 'millrace.sock'))).toThrow(/cannot make .*: E/);
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
