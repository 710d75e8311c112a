/**
 * What a killed daemon left in the kernel. TAPs and packet sockets went with its process; where interfaces are kept from the kernel's stack by tc
 * filters (before Linux 6.6), those are still there. The stale socket is replaced when the new one is bound.
 */
import { openPacketSocket } from '../../host/index.ts';
import { messageOf } from '../rpc/failure.ts';
import type { Journal } from './lock.ts';
import type { Logger } from './log.ts';

/** Smallest ring there is: nothing is meant to be received. */
const FEW_SLOTS = 1;

/** Give the interfaces that a killed daemon held back to the kernel, and say once that it was killed. */
export function cleanUpAfter(left: Journal, log: Logger): void {
  const ports = left.ports.map((port) => port.name).join(', ');
  log.warn(
    { pid: left.pid, startedAt: left.startedAt, ports },
    'the daemon before this one was killed; cleaned up after it',
  );
  for (const { name, kind, device } of left.ports) {
    if (kind !== 'netdev') continue;
    try {
      // Taking over removes or replaces what an earlier process left; letting go then undoes everything.
      openPacketSocket({ interfaceName: device, receiveSlots: FEW_SLOTS }).close();
    } catch (error) {
      // Gone, or in somebody else's hands by now.
      log.debug({ port: name, err: messageOf(error) }, `left ${device} as it is`);
    }
  }
}
