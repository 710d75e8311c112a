/**
 * Shell completion, by @bomb.sh/tab: `millrace completion bash` prints the script; the shell then asks `millrace complete -- ...`.
 * Names of ports and extensions come from the running daemon.
 */
import tab from '@bomb.sh/tab/commander';
import type { Command } from 'commander';
import { Client } from '../daemon/client.ts';

/** A shell waits for the answer: rather none than a late one. */
const PATIENCE_MS = 500;

interface Names {
  ports: string[];
  extensions: string[];
}

/** Names from the daemon; none when there is no daemon or it does not answer at once. */
async function fetchNames(socketPath: string): Promise<Names> {
  const nothing: Names = { ports: [], extensions: [] };
  let client: Client | null = null;
  const late = new Promise<Names>((resolve) => setTimeout(() => resolve(nothing), PATIENCE_MS).unref());
  const ask = async (): Promise<Names> => {
    client = await Client.connect(socketPath);
    const [ports, extensions] = await Promise.all([client.call('port.list', {}), client.call('extension.list', {})]);
    return { ports: ports.map((port) => port.name), extensions: extensions.map((extension) => extension.name) };
  };
  try {
    return await Promise.race([ask(), late]);
  } catch {
    return nothing;
  } finally {
    (client as Client | null)?.close();
  }
}

/** Arguments that take a name, by command. */
const TAKES_PORT = ['port show', 'port del', 'port set', 'stats', 'drops', 'capture', 'trace', 'inject'];
const TAKES_EXTENSION = ['show', 'del', 'enable', 'disable', 'move', 'set', 'run'].map((verb) => `extension ${verb}`);

/**
 * Add the commands `completion` and `complete`.
 * @param socketPath of the daemon to ask for names, when a shell wants suggestions; null when it wants the script
 */
export async function addCompletion(program: Command, socketPath: string | null): Promise<void> {
  const root = tab(program, { completionCommandName: 'completion' });
  if (socketPath === null) return;
  const names = await fetchNames(socketPath);
  for (const [commands, values] of [
    [TAKES_PORT, names.ports],
    [TAKES_EXTENSION, names.extensions],
  ] as const) {
    for (const name of commands) {
      const command = root.commands.get(name);
      if (command === undefined) continue;
      const [first] = command.arguments.keys();
      command.argument(
        first ?? 'name',
        (complete) => {
          for (const value of values) complete(value, '');
        },
        true,
      );
    }
  }
}
