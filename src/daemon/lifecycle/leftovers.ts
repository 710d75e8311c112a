/**
 * What a killed daemon left in the kernel. TAPs and packet sockets went with its process; where interfaces are kept from the kernel's stack by tc
 * filters (before Linux 6.6), those are still there. Programs that carry flows are, too: the next daemon takes them up, or they are removed here
 * when there is to be none. The stale socket is replaced when the new one is bound.
 */
import { existsSync, rmSync } from 'node:fs';
import { openPacketSocket } from '../../host/index.ts';
import { messageOf } from '../rpc/failure.ts';
import { findPins, puntPathOf, type RemovedPins, removePins } from '../thread/offload/pin-place.ts';
import { DaemonLock, type Journal, lockPathOf } from './lock.ts';
import type { Logger } from './log.ts';

/** What was left by a daemon that is no more, and is gone now. */
export interface Leftovers extends RemovedPins {
  /** The process, when it was killed; null for one that left its flows on purpose. */
  pid: number | null;
}

/**
 * Remove what a daemon has left that was killed, or that left its flows in the kernel, where no other is to follow it.
 * @param socketPath absolute
 * @returns null when nothing was left
 * @throws Failure 'exists' when a daemon is there after all; SystemError
 */
export function removeLeftovers(socketPath: string): Leftovers | null {
  const traces = [lockPathOf(socketPath), socketPath, puntPathOf(socketPath)];
  if (findPins(socketPath) === null && !traces.some((path) => existsSync(path))) return null;
  const lock = DaemonLock.acquire(socketPath);
  try {
    const removed = removePins(socketPath) ?? { programs: 0, devices: false };
    if (lock.leftBehind !== null) giveBack(lock.leftBehind, () => {});
    rmSync(socketPath, { force: true });
    return { ...removed, pid: lock.leftBehind?.pid ?? null };
  } finally {
    lock.release();
  }
}

/** Give the interfaces that a killed daemon held back to the kernel, and say once that it was killed. */
export function cleanUpAfter(left: Journal, log: Logger): void {
  const ports = left.ports.map((port) => port.name).join(', ');
  log.warn(
    { pid: left.pid, startedAt: left.startedAt, ports },
    'the daemon before this one was killed; cleaned up after it',
  );
  giveBack(left, (name, device, error) => {
    log.debug({ port: name, err: messageOf(error) }, `left ${device} as it is`);
  });
}

function giveBack(left: Journal, onFailure: (name: string, device: string, error: unknown) => void): void {
  for (const { name, kind, device } of left.ports) {
    if (kind !== 'netdev') continue;
    try {
      // Taking over removes or replaces what an earlier process left; letting go then undoes everything.
      openPacketSocket({ interfaceName: device, receive: false, bringUp: false }).close();
    } catch (error) {
      // Gone, or in somebody else's hands by now.
      onFailure(name, device, error);
    }
  }
}
