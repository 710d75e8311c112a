/** After a daemon's end: waiting for it, and making sure that nothing is left. What `millrace down` needs of this room. */
import { readdirSync, readFileSync } from 'node:fs';
import { Failure } from '../rpc/failure.ts';
import { lifeOf } from './life.ts';
import { lockHolder, lockPathOf, lockState } from './lock.ts';

export { removeLeftovers } from './leftovers.ts';

const LOOK_MS = 20;

/** How a daemon has ended: by itself, with everything undone; or so that what it had in hand is still to be undone. */
export type End = 'clean' | 'cut';

/** A process that is waited for: its number alone may be another's later. */
export class WatchedProcess {
  readonly pid: number;
  readonly #started: string | null;

  constructor(pid: number) {
    this.pid = pid;
    this.#started = this.#look()?.started ?? null;
  }

  /** Whether it has ended, and given back all that it had open: its last thread, too. */
  get isOver(): boolean {
    const now = this.#look();
    if (now === null || now.started !== this.#started) return true;
    // Nobody may have waited for it.
    return now.isZombie && now.threads <= 1;
  }

  #look(): { started: string; isZombie: boolean; threads: number } | null {
    try {
      const stat = readFileSync(`/proc/${this.pid}/stat`, 'utf8');
      // The second field is a name in brackets, which may hold anything.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      const threads = readdirSync(`/proc/${this.pid}/task`).length;
      return { started: fields[19], isZombie: fields[0] === 'Z' || fields[0] === 'X', threads };
    } catch {
      return null;
    }
  }
}

/** Whether a daemon of this socket lives: one that starts or ends, or whose socket or lock was removed, too. */
export function isAlive(socketPath: string): boolean {
  return lockState(socketPath) === 'held' || lifeOf(socketPath) !== null;
}

/** The daemon's process, as its lock tells, or its name, should the lock have been removed; null when there is none, or it cannot be seen from here. */
export function daemonProcess(socketPath: string): WatchedProcess | null {
  const pid = lockHolder(socketPath) ?? lifeOf(socketPath)?.pid ?? null;
  return pid === null ? null : new WatchedProcess(pid);
}

/**
 * Wait until no daemon of a socket lives, and its process has ended: the kernel gives the lock back first, and then what else the process had open.
 * @param daemon what {@link daemonProcess} told before
 * @param timeoutMs after which it is taken for stuck
 * @param waitedMs how long it has been waited for before, for the message
 * @throws Failure 'failed' when it is still there, which names its process where the kernel tells
 */
export async function waitForEnd(
  socketPath: string,
  daemon: WatchedProcess | null,
  timeoutMs: number,
  waitedMs = 0,
): Promise<End> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    if ((daemon?.isOver ?? true) && !isAlive(socketPath)) return lockState(socketPath) === 'left' ? 'cut' : 'clean';
    if (performance.now() > deadline) {
      const pid = daemonProcess(socketPath)?.pid ?? daemon?.pid ?? null;
      const who = pid === null ? '' : ` (pid ${pid})`;
      const means = pid === null ? `end the process that holds ${lockPathOf(socketPath)}` : `kill -9 ${pid}`;
      throw new Failure(
        'failed',
        `the daemon${who} was asked to stop and is still there after ${Math.round((waitedMs + timeoutMs) / 1000)} s`,
        `end it with: ${means}; then remove what it leaves with \`millrace down\``,
      );
    }
    await new Promise((resume) => setTimeout(resume, LOOK_MS));
  }
}
