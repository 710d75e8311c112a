/** `millrace down`: the daemon's end, and that of what one has left. It says "down" only when it has looked. */
import { resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Command } from 'commander';
import { type Client, DaemonNotRunning, Failure, loadLeftovers, type WatchedProcess } from '../../daemon/client.ts';
import type { Cli } from '../cli.ts';
import { milliseconds } from '../seconds.ts';

/** A datapath that does not answer is ended by force after 5 s, twice if need be. */
const END_TIMEOUT_S = '20';

/** How long one is waited for at most that lives and does not serve its socket; it puts back what was removed within two seconds. */
const SERVES_AGAIN_MS = 6_000;
const LOOK_MS = 50;

/** What was removed that a daemon had left. */
interface Removed {
  /** The process, when it had not ended as it should. */
  killedPid: number | null;
  programs: number;
  devices: boolean;
  /** What was changed about interfaces and could not be changed back, a sentence each; absent for nothing. */
  unrestored?: string[];
}

/** `millrace down` */
export function downCommand(cli: Cli): Command {
  return new Command('down')
    .description('stop the daemon; returns when it is gone and everything is undone')
    .option('-k, --keep', 'leave flows that run in the kernel, for an upgrade: the next `up` takes them up')
    .option('-t, --timeout <seconds>', 'how long it may take; then it is said who is still there', END_TIMEOUT_S)
    .addHelpText(
      'after',
      `
Without a daemon: removes what one that was killed, or stopped with --keep, has left in the kernel.

Examples:
  millrace down
  millrace down --keep && millrace up --daemon    another version, and no packet of a known flow is lost`,
    )
    .action(async (options: { keep?: boolean; timeout: string }) => {
      const keep = options.keep === true;
      const timeoutMs = milliseconds(options.timeout, 'a timeout', 1);
      const socket = resolve(cli.socketPath);
      const began = performance.now();
      const left = () => Math.max(0, timeoutMs - (performance.now() - began));
      const found = await find(cli, socket, keep, Math.min(SERVES_AGAIN_MS, timeoutMs / 2));
      if (found === null) {
        const removed = await removeLeft(socket);
        if (removed === null) throw new DaemonNotRunning(socket);
        cli.print({ pid: null, kept: false, removed }, () => {
          const { killedPid } = removed;
          const who =
            killedPid === null ? 'one that left its flows in the kernel' : `one that was killed (pid ${killedPid})`;
          return `No daemon was running; removed what was left of ${who}: ${describe(removed)}.\n${notesOf(removed)}`;
        });
        return;
      }
      const { waitForEnd } = await loadLeftovers();
      const { client, daemon } = found;
      const pid = (client === null ? null : await askToStop(client, keep, left())) ?? daemon?.pid ?? null;
      const end = await waitForEnd(socket, daemon, left(), timeoutMs - left());
      if (keep) {
        const how = end === 'cut' ? 'was ended before it had stopped' : 'ended';
        const rest = '; its flows go on in the kernel, until `millrace up` or `millrace down`';
        cli.print({ pid, kept: true }, () => `millrace is down (${nameOf(pid)} ${how})${rest}.\n`);
        return;
      }
      const removed = await removeLeft(socket);
      const ended = pid ?? removed?.killedPid ?? null;
      const how = removed === null ? 'ended' : `ended before it had undone everything; removed ${describe(removed)}`;
      cli.print({ pid: ended, kept: false, ...(removed === null ? {} : { removed }) }, () => {
        return `millrace is down (${nameOf(ended)} ${how}).\n${removed === null ? '' : notesOf(removed)}`;
      });
    });
}

/** A daemon that is to end: its process, where it can be seen, and a connection; null when it was told by SIGTERM. */
interface Found {
  daemon: WatchedProcess | null;
  client: Client | null;
}

/**
 * Find the daemon of a socket. One that lives and does not serve it is starting or ending, or puts the socket back: that is waited for, and then it is
 * told by a signal.
 * @param keep it is to be told by the socket only
 * @param patienceMs how long it is waited for
 * @returns null when none lives
 * @throws DaemonNotRunning for one that is to keep its flows, and is not there
 */
async function find(cli: Cli, socket: string, keep: boolean, patienceMs: number): Promise<Found | null> {
  const deadline = performance.now() + patienceMs;
  let daemon: WatchedProcess | null = null;
  for (;;) {
    try {
      const client = await cli.connect(socket);
      const { daemonProcess } = await loadLeftovers();
      return { client, daemon: daemonProcess(socket) };
    } catch (error) {
      if (!(error instanceof DaemonNotRunning)) throw error;
      const { daemonProcess, isAlive } = await loadLeftovers();
      const isOver = !isAlive(socket) && (daemon?.isOver ?? true);
      if (isOver && !keep) return null;
      daemon ??= daemonProcess(socket);
      const isLate = performance.now() > deadline;
      if (keep && (isOver || isLate)) throw error;
      if (isLate) {
        if (daemon !== null) process.kill(daemon.pid, 'SIGTERM');
        return { client: null, daemon };
      }
    }
    await pause(LOOK_MS);
  }
}

/**
 * @returns the daemon's process; null when it does not answer, because it is stuck or has died meanwhile
 * @throws Failure when it refuses
 */
async function askToStop(client: Client, keep: boolean, patienceMs: number): Promise<number | null> {
  const asked = client.call('shutdown', keep ? { keep } : {}).catch((error: unknown) => error);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolveLate) => {
    timer = setTimeout(() => resolveLate(null), patienceMs);
  });
  const answer = await Promise.race([asked, late]);
  clearTimeout(timer);
  if (answer instanceof Failure && answer.kind !== 'failed') throw answer;
  return answer !== null && typeof answer === 'object' && 'pid' in answer ? Number(answer.pid) : null;
}

/** Remove what a daemon that is no more has left, and look whether it is gone. @returns null when that was nothing @throws Failure when something remains */
async function removeLeft(socket: string): Promise<Removed | null> {
  const { removeLeftovers } = await loadLeftovers();
  const left = removeLeftovers(socket);
  if (left === null) return null;
  const { pid, programs, devices, unrestored } = left;
  return { killedPid: pid, programs, devices, ...(unrestored.length === 0 ? {} : { unrestored }) };
}

function nameOf(pid: number | null): string {
  return pid === null ? 'the daemon' : `pid ${pid}`;
}

function describe({ programs, devices }: Removed): string {
  const things = [
    ...(programs > 0 ? [`${programs} program${programs === 1 ? '' : 's'} on interfaces`] : []),
    ...(devices ? ['the devices of its punt channel'] : []),
  ];
  return things.length === 0 ? 'its lock' : things.join(' and ');
}

function notesOf({ unrestored = [] }: Removed): string {
  return unrestored.map((sentence) => `Note: ${sentence}\n`).join('');
}
