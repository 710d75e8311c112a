import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseMount } from './mounts.ts';
import { checkSafeFolder, ForeignFileError, isOwnFolder, makeSafeFolder, openOwnFile } from './own-files.ts';
import { isAbandonedSocket } from './socket-file.ts';

const { O_RDWR, O_CREAT, O_APPEND } = constants;
const asRoot = test.skipIf(process.geteuid?.() !== 0);
const NOBODY = 65534;

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-own-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string) => join(folder, name);

test('a file of this user is opened, and made when it is missing', () => {
  const fd = openOwnFile(at('file'), O_RDWR | O_CREAT | O_APPEND, 0o600);
  writeSync(fd, 'one');
  closeSync(fd);
  closeSync(openOwnFile(at('file'), O_RDWR, 0));
  expect(readFileSync(at('file'), 'utf8')).toBe('one');
});

test('a link is not followed, wherever it leads, and what it leads to is as before', () => {
  writeFileSync(at('precious'), 'precious');
  symlinkSync(at('precious'), at('link'));
  symlinkSync(at('nowhere'), at('dangling'));
  for (const name of ['link', 'dangling']) {
    expect(() => openOwnFile(at(name), O_RDWR | O_CREAT, 0o600), name).toThrow(ForeignFileError);
  }
  expect(readFileSync(at('precious'), 'utf8')).toBe('precious');
  expect(() => readFileSync(at('nowhere'))).toThrow(/ENOENT/);
});

test('folders, FIFOs, sockets and files with a second name are none of ours, and do not block', () => {
  mkdirSync(at('folder'));
  spawnSync('mkfifo', [at('fifo')]);
  writeFileSync(at('first'), '');
  linkSync(at('first'), at('second'));
  const said = (name: string) => {
    try {
      return openOwnFile(at(name), O_RDWR | O_CREAT, 0o600);
    } catch (error) {
      return error instanceof ForeignFileError ? error.message : error;
    }
  };
  expect(said('folder')).toBe(`${at('folder')} is a folder, and not an ordinary file`);
  expect(said('fifo')).toBe(`${at('fifo')} is a FIFO, and not an ordinary file`);
  expect(said('second')).toBe(`${at('second')} is a file that has other names, too`);
});

asRoot('what belongs to another user is left alone', () => {
  writeFileSync(at('file'), '');
  chownSync(at('file'), NOBODY, NOBODY);
  expect(() => openOwnFile(at('file'), O_RDWR | O_CREAT, 0o600)).toThrow(/belongs to another user \(uid 65534\)/);
  mkdirSync(at('folder'), { mode: 0o700 });
  expect(isOwnFolder(at('folder'))).toBe(true);
  chownSync(at('folder'), NOBODY, NOBODY);
  expect(isOwnFolder(at('folder'))).toBe(false);
  expect(() => makeSafeFolder(join(at('folder'), 'deeper'))).toThrow(/belongs to another user/);
});

test('a folder is safe when no other user can exchange what is in it, on the whole way there', () => {
  makeSafeFolder(at('a/b'));
  expect(isOwnFolder(at('a/b'))).toBe(true);
  chmodSync(at('a'), 0o777);
  expect(() => checkSafeFolder(at('a/b/missing'))).toThrow(`${at('a')} may be written to by other users (mode 777)`);
  expect(() => makeSafeFolder(at('a/b/c'))).toThrow(ForeignFileError);
  chmodSync(at('a'), 0o1777);
  checkSafeFolder(at('a/b'));
  expect(isOwnFolder(at('a'))).toBe(false);
  writeFileSync(at('file'), '');
  expect(() => makeSafeFolder(at('file/c'))).toThrow(`${at('file')} is an ordinary file, and not a folder`);
});

test('links on the way are followed to where they lead, and judged there', () => {
  makeSafeFolder(at('real/inner'));
  symlinkSync('real', at('link'));
  checkSafeFolder(at('link/inner'));
  chmodSync(at('real'), 0o777);
  expect(() => checkSafeFolder(at('link/inner'))).toThrow(`${at('real')} may be written to`);
  symlinkSync(at('loop'), at('loop'));
  expect(() => checkSafeFolder(at('loop'))).toThrow(/too many symbolic links/);
});

asRoot('a link of another user on the way leads nowhere', () => {
  makeSafeFolder(at('real'));
  spawnSync('ln', ['-s', at('real'), at('link')]);
  spawnSync('chown', ['-h', 'nobody', at('link')]);
  expect(() => checkSafeFolder(at('link/x'))).toThrow(/link belongs to another user/);
});

test('a socket is abandoned when nobody listens on it; other files are no sockets', async () => {
  expect(isAbandonedSocket(at('none'))).toBe(false);
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(at('live'), resolve));
  expect(() => isAbandonedSocket(at('live'))).toThrow(/another program listens there/);
  await new Promise((resolve) => server.close(resolve));
  // A process that dies leaves its file.
  spawnSync('python3', [
    '-c',
    `import socket; s = socket.socket(socket.AF_UNIX); s.bind('${at('dead')}'); s.listen(1)`,
  ]);
  expect(isAbandonedSocket(at('dead'))).toBe(true);
  symlinkSync(at('dead'), at('link'));
  writeFileSync(at('file'), '');
  expect(() => isAbandonedSocket(at('link'))).toThrow(`${at('link')} is a symbolic link, and not a socket`);
  expect(() => isAbandonedSocket(at('file'))).toThrow(`${at('file')} is an ordinary file, and not a socket`);
});

test('lines of mountinfo are read with their escapes', () => {
  const line = '36 35 98:0 /part\\040one /mnt/two\\134three rw,noatime master:1 - ext3 /dev/root rw,errors=continue';
  expect(parseMount(line)).toEqual({
    id: 36,
    root: '/part one',
    point: '/mnt/two\\three',
    type: 'ext3',
    source: '/dev/root',
  });
  expect(parseMount('36 35')).toBeNull();
});
