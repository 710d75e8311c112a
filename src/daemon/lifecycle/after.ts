/** After a daemon's end: waiting for it, and making sure that nothing is left. What `millrace down` needs of this room. */
import { Failure } from '../rpc/failure.ts';
import { lockHolder, lockPathOf, lockState } from './lock.ts';

export { removeLeftovers } from './leftovers.ts';
export { lockHolder } from './lock.ts';

const LOOK_MS = 20;

/** How a daemon has ended: by itself, with everything undone; or so that what it had in hand is still to be undone. */
export type End = 'clean' | 'cut';

/**
 * Wait until nobody holds the lock of a socket: until its daemon has ended, however it did.
 * @param timeoutMs after which it is taken for stuck
 * @throws Failure 'failed' when it is still there, which names its process where the kernel tells
 */
export async function waitForEnd(socketPath: string, timeoutMs: number): Promise<End> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const state = lockState(socketPath);
    if (state !== 'held') return state === 'left' ? 'cut' : 'clean';
    if (performance.now() > deadline) {
      const pid = lockHolder(socketPath);
      const who = pid === null ? '' : ` (pid ${pid})`;
      const means = pid === null ? `end the process that holds ${lockPathOf(socketPath)}` : `kill -9 ${pid}`;
      throw new Failure(
        'failed',
        `the daemon${who} was asked to stop and is still there after ${Math.round(timeoutMs / 1000)} s`,
        `end it with: ${means}; then remove what it leaves with \`millrace down\``,
      );
    }
    await new Promise((resume) => setTimeout(resume, LOOK_MS));
  }
}
