/** Whether a daemon runs, for commands that start one when none does. */
import { setTimeout as pause } from 'node:timers/promises';
import { type Client, ConnectionClosed, DaemonNotRunning } from '../daemon/client.ts';
import type { Cli } from './cli.ts';

/** How often a daemon is asked again that ends just now, and milliseconds between. */
const MOST_TRIES = 100;
const TRY_AGAIN_MS = 50;

/** The daemon that serves a socket; null when none does. One that was killed may take connections for a moment, until its memory is gone. @throws Failure */
export async function findRunning(cli: Cli, socket: string): Promise<{ client: Client; pid: number } | null> {
  for (let tries = 1; ; tries += 1) {
    try {
      const client = await cli.connect(socket);
      const { pid } = await client.call('status', {});
      return { client, pid };
    } catch (error) {
      if (error instanceof DaemonNotRunning) return null;
      if (!(error instanceof ConnectionClosed) || tries === MOST_TRIES) throw error;
    }
    await pause(TRY_AGAIN_MS);
  }
}
