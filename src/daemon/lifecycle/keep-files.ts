/**
 * The files by which others find a running daemon, its lock and its control socket: where one was removed, by a cleaner of /tmp or with its folder, it is put
 * back, so that the daemon stays to be reached. Neighbours: lock.ts; rpc/server.ts makes the socket.
 */
import { messageOf } from '../rpc/failure.ts';

const LOOK_MS = 2_000;

/** A file that can be put back. */
export interface KeptFile {
  /** @returns whether it was gone, and is there again @throws when that is not possible */
  putBack(): boolean | Promise<boolean>;
}

/**
 * Look now and then whether both are in their places.
 * @param say told when one was put back, and, once, why one cannot be
 * @returns ends it
 */
export function keepFiles(
  lock: KeptFile,
  server: KeptFile,
  say: (message: string, isProblem: boolean) => void,
): () => void {
  let problem = '';
  let isBusy = false;
  const look = async () => {
    try {
      if (await lock.putBack()) say('the lock beside the control socket was removed; it is put back', false);
      if (await server.putBack()) say('the control socket was removed; it is put back', false);
      problem = '';
    } catch (error) {
      const message = `this daemon cannot be reached as usual: ${messageOf(error)}; \`millrace down\` ends it, or SIGTERM to pid ${process.pid}`;
      if (message !== problem) say(message, true);
      problem = message;
    }
  };
  const timer = setInterval(() => {
    if (isBusy) return;
    isBusy = true;
    void look().finally(() => {
      isBusy = false;
    });
  }, LOOK_MS);
  timer.unref();
  return () => clearInterval(timer);
}
