/**
 * What a killed daemon left in the kernel. TAPs and packet sockets went with its process; where interfaces are kept from the kernel's stack by tc
 * filters (before Linux 6.6), those are still there. Programs that carry flows are, too: the next daemon takes them up, or they are removed here
 * when there is to be none. Whether all is gone is looked at afterwards. The stale socket is replaced when the new one is bound.
 */
import { unlinkSync } from 'node:fs';
import {
  ForeignFileError,
  isAbandonedSocket,
  lookAt,
  NetworkNamespace,
  openPacketSocket,
  withRouteClient,
} from '../../host/index.ts';
import { putGraceBack } from '../../host/sys/index.ts';
import {
  findPins,
  namespaceOfPins,
  puntNameOf,
  puntPathOf,
  type RemovedPins,
  remainingPins,
  removePins,
} from '../../keeper/index.ts';
import { Failure, messageOf } from '../rpc/failure.ts';
import { DaemonLock, type Journal, lockState } from './lock.ts';
import type { Logger } from './log.ts';

/** The kernel takes away the devices of a namespace some tens of milliseconds after it. */
const VANISH_TIMEOUT_MS = 5_000;
const VANISH_STEP_MS = 20;

/** What was left by a daemon that is no more, and is gone now. */
export interface Leftovers extends RemovedPins {
  /** The process, when it was killed; null for one that left its flows on purpose. */
  pid: number | null;
}

/**
 * Remove what a daemon has left that was killed, or that left its flows in the kernel, where no other is to follow it.
 * @param socketPath absolute
 * @returns null when nothing was left
 * @throws Failure 'exists' when a daemon is there after all, 'refused' when something else is in the place of what a daemon keeps, 'failed' when something
 *   remains; SystemError
 */
export function removeLeftovers(socketPath: string): Leftovers | null {
  try {
    // Something else than a socket there is said, whether there is more or not.
    isAbandonedSocket(socketPath);
    const hasLock = lockState(socketPath) !== 'none';
    if (!hasLock && findPins(socketPath) === null && lookAt(puntPathOf(socketPath)) === null) return null;
    const lock = DaemonLock.acquire(socketPath);
    try {
      const removed = removeUnder(lock, socketPath);
      lock.release();
      return removed;
    } finally {
      // Should it fail, the file stays, so that it can be tried again.
      lock.abandon();
    }
  } catch (error) {
    if (error instanceof ForeignFileError) throw new Failure('refused', error.message, error.hint);
    throw error;
  }
}

/**
 * Remove what a daemon has left whose lock is in our hands: also the daemon itself, when its datapath thread had to be ended.
 * @throws as {@link removeLeftovers}
 */
export function removeUnder(lock: DaemonLock, socketPath: string): Leftovers {
  const left = lock.journal;
  const link = left?.namespace ?? namespaceOfPins(socketPath);
  const removed = inside(link, () => {
    const pins = removePins(socketPath);
    if (left !== null) giveBack(left, () => {});
    return pins;
  });
  if (isAbandonedSocket(socketPath)) unlinkSync(socketPath);
  const remains = inside(link, () => remainsOf(socketPath));
  if (remains.length > 0) {
    const hint = 'try `millrace down` once more; if they stay, see who uses them';
    throw new Failure('failed', `what a daemon has left could not all be removed: ${remains.join(', ')}`, hint);
  }
  return { ...(removed ?? { programs: 0, devices: false, unrestored: [] }), pid: left?.pid ?? null };
}

/** What is still there of a daemon, in words; what the kernel is about to take away is waited for. To be called in the namespace of its ports. */
function remainsOf(socketPath: string): string[] {
  const remains = remainingPins(socketPath);
  const device = puntNameOf(socketPath);
  const deadline = performance.now() + VANISH_TIMEOUT_MS;
  while (withRouteClient((client) => client.findLink(device)) !== null) {
    if (performance.now() > deadline) {
      remains.push(`interface ${device}`);
      break;
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, VANISH_STEP_MS);
  }
  return remains;
}

/**
 * Do something in the network namespace that a daemon's ports are in: an interface of the same name somewhere else is another.
 * @param link null for the calling thread's. Where it is gone, with all its interfaces, the body runs in an empty one.
 */
function inside<Result>(link: string | null, body: () => Result): Result {
  if (link === null) return body();
  const namespace = NetworkNamespace.find(link) ?? NetworkNamespace.make('in the place of one that is gone');
  try {
    return namespace.run(body);
  } finally {
    namespace.close();
  }
}

/** Give the interfaces that a killed daemon held back to the kernel, and say once that it was killed. */
export function cleanUpAfter(left: Journal, log: Logger): void {
  const ports = left.ports.map((port) => port.name).join(', ');
  log.warn(
    { before: left.pid, startedAt: left.startedAt, ports },
    'the daemon before this one was killed; what it left is taken up, or given back to the kernel',
  );
  inside(left.namespace, () =>
    giveBack(left, (name, device, error) => {
      log.debug({ port: name, err: messageOf(error) }, `left ${device} as it is`);
    }),
  );
}

/** To be called in the namespace of the ports. */
function giveBack(left: Journal, onFailure: (name: string, device: string, error: unknown) => void): void {
  if (left.unhurried) putGraceBack();
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
