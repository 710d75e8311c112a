/** What the tables need of the world: netlink sockets and an event loop. NetlinkSocket and EventLoop are such; tests have others. */
import type { EventLoop } from '../loop.ts';
import type { NetlinkSocket } from '../netlink-socket.ts';
import { Errno, SystemError } from '../sys/index.ts';

export type TablesSocket = Pick<NetlinkSocket, 'fileDescriptor' | 'send' | 'sendAside' | 'receive' | 'close'>;
export type TablesLoop = Pick<EventLoop, 'add' | 'remove' | 'timers'>;

/** Whether the kernel says that messages were lost, because they were not taken in time. */
export function isOverflow(thrown: unknown): boolean {
  return thrown instanceof SystemError && thrown.errno === Errno.ENOBUFS;
}

/** More than any socket holds: whoever sends faster than this is read does not keep the thread. */
const DISCARDED_MAXIMUM = 10_000;

/** Take and forget what waits. It tells of a past that is being asked for anew. */
export function discardWaiting(socket: TablesSocket): void {
  for (let discarded = 0; discarded < DISCARDED_MAXIMUM; discarded += 1) {
    try {
      if (socket.receive() === null) return;
    } catch (error) {
      if (!isOverflow(error)) throw error;
    }
  }
}
