/**
 * One daemon a socket. The daemon holds a lock (flock) on a file beside its socket as long as it lives, and a name that no file stands for (life.ts): the
 * file may be removed, or moved away with its folder. The kernel lets go of both however the daemon dies. The file's text is the daemon's journal: who it is, and what a successor has to know when the text is
 * still there although nobody holds the lock: then its writer was killed.
 */
import { closeSync, constants, fstatSync, ftruncateSync, readFileSync, unlinkSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';
import {
  FileDescriptor,
  ForeignFileError,
  forgetAskers,
  lookAt,
  makeSafeFolder,
  openOwnFile,
} from '../../host/index.ts';
import { bindLibc } from '../../host/sys/index.ts';
import { Failure, messageOf } from '../rpc/failure.ts';
import { beginLife, lifeElsewhere, lifeOf } from './life.ts';

const flock = bindLibc<[number, number]>('int flock(int fd, int operation)');
const LOCK_SHARED = 1;
const LOCK_EXCLUSIVE = 2;
const LOCK_NONBLOCK = 4;

const journalSchema = z.object({
  pid: z.int().positive(),
  startedAt: z.string(),
  /** The network namespace of the ports, as `/proc/self/ns/net` names it. */
  namespace: z.string(),
  /** The machine's grace periods were not hurried when the daemon began: should it be killed while it hurries one, that is put back. */
  unhurried: z.boolean().default(false),
  /** Ports that had a device in hand. */
  ports: z.array(z.object({ name: z.string(), kind: z.string(), device: z.string() })),
});

/** How each journal begins: `pid` is written first. */
const JOURNAL_BEGINS = '{"pid":';

/** What a daemon writes down about itself while it runs. */
export type Journal = z.infer<typeof journalSchema>;

/** @param text of a lock file: a line, and perhaps the end of a longer one that it was written over */
function readJournal(text: string): Journal | null {
  try {
    const parsed = journalSchema.safeParse(JSON.parse(text.split('\n', 1)[0]));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

/** Whether a file's text is a daemon's: none yet, a journal, or the beginning of one. */
function isJournalText(text: string): boolean {
  return text === '' || JOURNAL_BEGINS.startsWith(text) || text.startsWith(JOURNAL_BEGINS);
}

/** The lock file's path. */
export function lockPathOf(socketPath: string): string {
  return `${socketPath}.lock`;
}

/** The lock of a running daemon. */
export class DaemonLock {
  /** What the daemon before left when it was killed; null when it ended as it should. */
  readonly leftBehind: Journal | null;
  readonly #path: string;
  #fd: number;
  /** The name that says that the daemon lives; null when somebody else had taken it. */
  readonly #life: FileDescriptor | null;
  /** What the file holds. */
  #text: string;

  private constructor(path: string, fd: number, life: FileDescriptor | null, text: string) {
    this.#path = path;
    this.#fd = fd;
    this.#life = life;
    this.#text = text;
    this.leftBehind = readJournal(text);
  }

  /** What the file says: what was written last, or what was left. */
  get journal(): Journal | null {
    return readJournal(this.#text);
  }

  /**
   * Take the lock of a socket; the folder is made when it is missing.
   * @throws Failure 'exists', naming the pid, when another daemon holds it; 'refused' when the file is not a daemon's; 'privilege' or 'failed' when
   *   it cannot be made
   */
  static acquire(socketPath: string): DaemonLock {
    const path = lockPathOf(socketPath);
    for (;;) {
      const fd = openLock(path, constants.O_CREAT);
      const text = readFileSync(fd, 'utf8');
      if (!isJournalText(text)) {
        closeSync(fd);
        throw new Failure('refused', `${path} is there and is not the lock of a daemon`, ANOTHER_SOCKET);
      }
      if (!lockSoon(fd)) {
        closeSync(fd);
        throw another(readJournal(text)?.pid ?? null, socketPath);
      }
      // The holder before may have removed the file between our open and our lock: then ours is a lock on nothing.
      if (!sameFile(path, fd)) {
        closeSync(fd);
        continue;
      }
      // Whoever held it before may have written between our look and our lock.
      const left = readFileSync(path, 'utf8');
      const life = beginLife(socketPath);
      const other = life === null ? lifeOf(socketPath) : lifeElsewhere(socketPath);
      if (other !== null) {
        // Its own file was removed: this is another, which goes again.
        if (left === '') unlinkSync(path);
        closeSync(fd);
        life?.close();
        throw another(other.pid, socketPath);
      }
      return new DaemonLock(path, fd, life, left);
    }
  }

  /**
   * The lock of a former process of this daemon, which handed its descriptors on.
   * @param life as {@link descriptors} gave it
   */
  static adopt(socketPath: string, fd: number, life: number): DaemonLock {
    return new DaemonLock(
      lockPathOf(socketPath),
      fd,
      life < 0 ? null : new FileDescriptor(life),
      readFileSync(`/proc/self/fd/${fd}`, 'utf8'),
    );
  }

  /** To hand the lock on to the next process of this daemon: of the file, and of the name, -1 for none. */
  get descriptors(): { lock: number; life: number } {
    return { lock: this.#fd, life: this.#life?.number ?? -1 };
  }

  /**
   * Make sure that the lock's file is in its place; where it was removed, a new one is made and locked.
   * @returns false when it was there; true when it was put back
   * @throws Failure when that is not possible, or another file is there
   */
  putBack(): boolean {
    if (this.#life !== null) forgetAskers(this.#life.number);
    if (this.#fd < 0 || sameFile(this.#path, this.#fd)) return false;
    if (lookAt(this.#path) !== null) throw new Failure('refused', `${this.#path} is another file now`);
    const fd = openLock(this.#path, constants.O_CREAT | constants.O_EXCL);
    try {
      if (flock(fd, LOCK_EXCLUSIVE | LOCK_NONBLOCK) < 0) throw new Failure('exists', `${this.#path} is held`);
      writeWhole(fd, this.#text);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    closeSync(this.#fd);
    this.#fd = fd;
    return true;
  }

  /**
   * Write down the present state, in place of what was there.
   * @returns why it could not be written whole; what was there before stays then
   */
  write(journal: Journal): string | null {
    const { pid, ...rest } = journal;
    const text = `${JSON.stringify({ pid, ...rest })}\n`;
    try {
      writeWhole(this.#fd, text);
      this.#text = text;
      return null;
    } catch (error) {
      try {
        // Its place on the disk is still there.
        writeWhole(this.#fd, this.#text);
      } catch {
        // A torn journal is none: the next daemon knows only that there was one.
      }
      return `${this.#path} cannot be written: ${messageOf(error)}`;
    }
  }

  /**
   * Hold the lock, and leave the file, until the process has ended: it has something open that only its end gives back. Whoever waits for the lock waits
   * for that, too.
   */
  holdToTheEnd(): void {
    this.#fd = -1;
  }

  /** Let go of the lock and leave the file, as a process that is killed does: whoever comes next takes up or removes what was left. */
  abandon(): void {
    if (this.#fd < 0) return;
    closeSync(this.#fd);
    this.#fd = -1;
    this.#life?.close();
  }

  /** Remove the file and let go of the lock. */
  release(): void {
    if (this.#fd < 0) return;
    if (sameFile(this.#path, this.#fd)) unlinkSync(this.#path);
    closeSync(this.#fd);
    this.#fd = -1;
    this.#life?.close();
  }
}

function another(pid: number | null, socketPath: string): Failure {
  return new Failure(
    'exists',
    `another daemon${pid === null ? '' : ` (pid ${pid})`} already serves ${socketPath}`,
    'stop it with `millrace down`, or give this one another path with --socket',
  );
}

/** Those who only look at a lock hold it for a moment. */
const LOOK_MS = 200;
const LOOK_STEP_MS = 5;

/** @returns false when another daemon holds the lock */
function lockSoon(fd: number): boolean {
  const deadline = performance.now() + LOOK_MS;
  while (flock(fd, LOCK_EXCLUSIVE | LOCK_NONBLOCK) < 0) {
    if (performance.now() > deadline) return false;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOOK_STEP_MS);
  }
  return true;
}

const ANOTHER_SOCKET = 'move it away, or name another socket with --socket; nothing was touched';

/** @throws Failure */
function openLock(path: string, flags: number): number {
  try {
    makeSafeFolder(dirname(path));
    return openOwnFile(path, constants.O_RDWR | flags, 0o600);
  } catch (error) {
    if (error instanceof ForeignFileError) throw new Failure('refused', error.message, error.hint);
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    const kind = code === 'EACCES' || code === 'EPERM' ? 'privilege' : 'failed';
    throw new Failure(
      kind,
      `cannot make ${path}: ${code}`,
      'run as root, or name a socket in a folder of yours with --socket',
    );
  }
}

/** @throws the error of node:fs, such as ENOSPC */
function writeWhole(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, at);
  ftruncateSync(fd, bytes.length);
}

function sameFile(path: string, fd: number): boolean {
  const there = lookAt(path);
  const ours = fstatSync(fd);
  return there?.ino === ours.ino && there.dev === ours.dev;
}

/** What becomes of a daemon, by its lock: `held` while it lives, `left` when it was killed, `none` when it has ended as it should, or never was. */
export type LockState = 'held' | 'left' | 'none';

/** Look at the lock of a socket. @throws Failure as {@link DaemonLock.acquire} */
export function lockState(socketPath: string): LockState {
  const path = lockPathOf(socketPath);
  if (lookAt(path) === null) return 'none';
  let fd: number;
  try {
    fd = openLock(path, 0);
  } catch (error) {
    // Removed since it was looked at.
    if (lookAt(path) === null) return 'none';
    throw error;
  }
  try {
    if (flock(fd, LOCK_SHARED | LOCK_NONBLOCK) < 0) return 'held';
    return sameFile(path, fd) ? 'left' : 'none';
  } finally {
    closeSync(fd);
  }
}

/**
 * The process that holds the lock of a socket, as the kernel tells.
 * @returns null when nobody does, or when the process cannot be seen from here
 */
export function lockHolder(socketPath: string): number | null {
  const file = lookAt(lockPathOf(socketPath));
  if (file === null) return null;
  // proc_locks(5): number, type, mode, access, pid, device:inode, ...
  const holders = readFileSync('/proc/locks', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(
      ([, type, , access, pid, place]) =>
        // Those who only look hold it for reading.
        type === 'FLOCK' && access === 'WRITE' && Number(pid) > 0 && place?.endsWith(`:${file.ino}`),
    );
  // Inode numbers count in each file system for itself.
  return holders.length === 1 ? Number(holders[0][4]) : null;
}
