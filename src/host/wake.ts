/** Waking a datapath thread's event loop (loop.ts) from another thread of the process. */
import { write } from './sys/index.ts';

const one = new Uint8Array(new BigUint64Array([1n]).buffer);

/**
 * Wake the loop that owns an eventfd: it comes out of its sleep and calls its wake handler, soon. Many wake-ups may become one.
 * Safe from every thread as long as the loop is not closed.
 * @param wakeDescriptor {@link EventLoop.wakeDescriptor} of the loop, passed over as a plain number
 */
export function wakeLoop(wakeDescriptor: number): void {
  write(wakeDescriptor, one, 'wake an event loop');
}
