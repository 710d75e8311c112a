/**
 * Whose a file is, before anything is done to it. What a daemon keeps beside its socket (lock, log, mounts) has names that anybody can guess: a file
 * that is there already may be a user's own, or a link that somebody made so that a privileged process follows it. So all of host/ and daemon/
 * asks here first, and touches only what is of this user, of the expected kind, and in a folder where no other user can exchange it.
 *
 * Neighbours: mounts.ts tells mounts apart; socket-file.ts makes socket files.
 */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  type Stats,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';

const { O_NOFOLLOW, O_NONBLOCK } = constants;
const WRITABLE_BY_OTHERS = 0o002;
const WRITABLE_BY_GROUP = 0o020;
const STICKY = 0o1000;
const MOST_LINKS = 40;

/** Something is in the place of a file of ours, or could be put there. Nothing was touched. */
export class ForeignFileError extends Error {
  override readonly name = 'ForeignFileError';
  readonly path: string;
  /** What to do, one sentence. */
  readonly hint: string;

  /** @param is what the path is: 'is a symbolic link' */
  constructor(path: string, is: string, hint = 'move it away, or choose another path; nothing was touched') {
    super(`${path} ${is}`);
    this.path = path;
    this.hint = hint;
  }
}

/** What a path names, a link itself and not what it points to; null when there is nothing. @throws the error of node:fs but for ENOENT, ENOTDIR */
export function lookAt(path: string): Stats | null {
  try {
    return lstatSync(path);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : null;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw error;
  }
}

/** Whether a file belongs to the user that this process runs as. */
export function isOwn(stats: Stats): boolean {
  return stats.uid === (process.geteuid?.() ?? 0);
}

/** The kind of a file, for messages. */
export function kindOf(stats: Stats): string {
  if (stats.isSymbolicLink()) return 'a symbolic link';
  if (stats.isDirectory()) return 'a folder';
  if (stats.isFile()) return 'an ordinary file';
  if (stats.isSocket()) return 'a socket';
  if (stats.isFIFO()) return 'a FIFO';
  return 'a device';
}

/** @throws ForeignFileError unless it is of this kind, belongs to this user, and has no second name */
function checkOwn(path: string, stats: Stats, isKind: boolean, wanted: string): void {
  if (!isKind) throw new ForeignFileError(path, `is ${kindOf(stats)}, and not ${wanted}`);
  if (!isOwn(stats)) throw new ForeignFileError(path, `belongs to another user (uid ${stats.uid})`);
  if (!stats.isDirectory() && stats.nlink > 1) throw new ForeignFileError(path, 'is a file that has other names, too');
}

/**
 * Open a regular file of this user, or make it. Links are not followed, and nothing that could block is opened.
 * @param flags of open(2)
 * @param mode of a file that is made
 * @returns a descriptor, close-on-exec, which the caller closes
 * @throws ForeignFileError; the error of node:fs
 */
export function openOwnFile(path: string, flags: number, mode: number): number {
  const there = lookAt(path);
  if (there !== null) checkOwn(path, there, there.isFile(), 'an ordinary file');
  let fd: number;
  try {
    fd = openSync(path, flags | O_NOFOLLOW | O_NONBLOCK, mode);
  } catch (error) {
    // Exchanged since it was looked at.
    if (error instanceof Error && 'code' in error && error.code === 'ELOOP') {
      throw new ForeignFileError(path, 'is a symbolic link, and not an ordinary file');
    }
    throw error;
  }
  try {
    const opened = fstatSync(fd);
    checkOwn(path, opened, opened.isFile(), 'an ordinary file');
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Whether there is a folder of this user, no link, that nobody else may write to. @throws the error of node:fs */
export function isOwnFolder(path: string): boolean {
  const stats = lookAt(path);
  return stats?.isDirectory() === true && isOwn(stats) && (stats.mode & (WRITABLE_BY_OTHERS | WRITABLE_BY_GROUP)) === 0;
}

/** Like {@link isOwnFolder}, of a folder that has to be one. @throws ForeignFileError; the error of node:fs */
export function checkOwnFolder(path: string, stats: Stats): void {
  checkOwn(path, stats, stats.isDirectory(), 'a folder');
}

/**
 * Make a folder with all that are missing above it, mode 0755, and make sure that no other user can exchange what is in it.
 * @throws ForeignFileError; the error of node:fs
 */
export function makeSafeFolder(path: string): void {
  // What is there is looked at first: it decides where the rest is made.
  checkSafeFolder(path);
  mkdirSync(path, { recursive: true, mode: 0o755 });
  checkSafeFolder(path);
}

/**
 * Make sure that nobody but this user and root can exchange what is in a folder: neither there nor in any folder on the way. Folders that all may write
 * to are safe when they are sticky, as /tmp is. The part of the way that does not exist is no concern.
 * @throws ForeignFileError that names the folder; the error of node:fs
 */
export function checkSafeFolder(path: string): void {
  const names = resolve(path).split('/').filter(Boolean);
  let there = '/';
  for (let links = 0; ; ) {
    const name = names.shift();
    if (name === undefined) return;
    if (name === '..') {
      there = dirname(there);
      continue;
    }
    const next = join(there, name);
    const stats = lookAt(next);
    if (stats === null) return;
    if (!isTrusted(stats.uid, next)) {
      throw new ForeignFileError(
        next,
        `belongs to another user (uid ${stats.uid}), who could exchange what is in it`,
        'choose a path in a folder that this user or root owns',
      );
    }
    if (stats.isSymbolicLink()) {
      links += 1;
      if (links > MOST_LINKS) throw new ForeignFileError(next, 'is one of too many symbolic links');
      const target = readlinkSync(next);
      if (target.startsWith('/')) there = '/';
      names.unshift(...target.split('/').filter((part) => part !== '' && part !== '.'));
      continue;
    }
    if (!stats.isDirectory()) throw new ForeignFileError(next, `is ${kindOf(stats)}, and not a folder`);
    if (isOpenToOthers(stats)) {
      throw new ForeignFileError(
        next,
        `may be written to by other users (mode ${(stats.mode & 0o7777).toString(8)}), who could exchange what is in it`,
        `take that away (chmod go-w ${next}), or choose a path in another folder`,
      );
    }
    there = next;
  }
}

function isOpenToOthers({ mode, gid }: Stats): boolean {
  if ((mode & STICKY) !== 0) return false;
  if ((mode & WRITABLE_BY_OTHERS) !== 0) return true;
  // A group of the user's own, as most distributions make it.
  return (mode & WRITABLE_BY_GROUP) !== 0 && gid !== 0 && gid !== (process.getegid?.() ?? 0);
}

/** Folders that are root's on every machine. */
const SYSTEM_FOLDERS: ReadonlySet<string> = new Set([
  ...['/dev', '/dev/shm', '/etc', '/home', '/mnt', '/opt', '/run', '/run/user', '/srv', '/tmp', '/usr', '/usr/local'],
  ...['/var', '/var/lib', '/var/log', '/var/run', '/var/tmp'],
]);

function isTrusted(uid: number, path: string): boolean {
  if (uid === 0 || uid === (process.geteuid?.() ?? 0)) return true;
  // Inside a user namespace root of the machine and all its other users look the same.
  return uid === unmappedUid() && SYSTEM_FOLDERS.has(path);
}

let unmapped: number | null | undefined;

/** The uid that stands for root of the machine inside a user namespace; null outside of one. */
function unmappedUid(): number | null {
  if (unmapped === undefined) {
    const isWhole = /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'utf8'));
    unmapped = isWhole ? null : Number(readFileSync('/proc/sys/kernel/overflowuid', 'utf8'));
  }
  return unmapped;
}
