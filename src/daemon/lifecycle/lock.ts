/**
 * One daemon a socket. The daemon holds a lock (flock) on a file beside its socket as long as it lives; the kernel lets go of it
 * however the daemon dies. The file's text is the daemon's journal: who it is, and what a successor has to know when the text is
 * still there although nobody holds the lock: then its writer was killed.
 */
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';
import { bindLibc } from '../../host/sys/index.ts';
import { Failure } from '../rpc/failure.ts';

const flock = bindLibc<[number, number]>('int flock(int fd, int operation)');
const LOCK_EXCLUSIVE = 2;
const LOCK_NONBLOCK = 4;

const journalSchema = z.object({
  pid: z.int().positive(),
  startedAt: z.string(),
  /** Ports that had a device in hand. */
  ports: z.array(z.object({ name: z.string(), kind: z.string(), device: z.string() })),
});

/** What a daemon writes down about itself while it runs. */
export type Journal = z.infer<typeof journalSchema>;

function readJournal(text: string): Journal | null {
  try {
    const parsed = journalSchema.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
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

  private constructor(path: string, fd: number, leftBehind: Journal | null) {
    this.#path = path;
    this.#fd = fd;
    this.leftBehind = leftBehind;
  }

  /**
   * Take the lock of a socket; the folder is made when it is missing.
   * @throws Failure 'exists', naming the pid, when another daemon holds it; 'privilege' or 'failed' when the file cannot be made
   */
  static acquire(socketPath: string): DaemonLock {
    const path = lockPathOf(socketPath);
    for (;;) {
      let fd: number;
      try {
        mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
        // 'a+' makes the file when it is missing and leaves a journal in it as it is.
        fd = openSync(path, 'a+', 0o600);
      } catch (error) {
        const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
        const kind = code === 'EACCES' || code === 'EPERM' ? 'privilege' : 'failed';
        throw new Failure(
          kind,
          `cannot make ${path}: ${code}`,
          'run as root, or name a socket in a folder of yours with --socket',
        );
      }
      if (flock(fd, LOCK_EXCLUSIVE | LOCK_NONBLOCK) < 0) {
        const holder = readJournal(readFileSync(path, 'utf8'));
        closeSync(fd);
        const pid = holder === null ? '' : ` (pid ${holder.pid})`;
        throw new Failure(
          'exists',
          `another daemon${pid} already serves ${socketPath}`,
          'stop it with `millrace down`, or give this one another path with --socket',
        );
      }
      // The holder before may have removed the file between our open and our lock: then ours is a lock on nothing.
      if (!sameFile(path, fd)) {
        closeSync(fd);
        continue;
      }
      return new DaemonLock(path, fd, readJournal(readFileSync(path, 'utf8')));
    }
  }

  /** Write down the present state, in place of what was there. */
  write(journal: Journal): void {
    const text = `${JSON.stringify(journal)}\n`;
    ftruncateSync(this.#fd, 0);
    writeSync(this.#fd, text);
  }

  /** Remove the file and let go of the lock. */
  release(): void {
    if (this.#fd < 0) return;
    if (sameFile(this.#path, this.#fd)) unlinkSync(this.#path);
    closeSync(this.#fd);
    this.#fd = -1;
  }
}

function sameFile(path: string, fd: number): boolean {
  try {
    const there = statSync(path);
    const ours = fstatSync(fd);
    return there.ino === ours.ino && there.dev === ours.dev;
  } catch {
    return false;
  }
}
