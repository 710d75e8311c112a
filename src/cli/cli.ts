/** What all commands share: the options that stand anywhere on the line, the connection to the daemon, and output for people or programs. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import {
  type Api,
  type ArgumentsOf,
  type Asked,
  Client,
  type CommandOf,
  DaemonNotRunning,
  DaemonNotServing,
  defaultSocketPath,
  loadLeftovers,
  type MethodName,
  type ResultOf,
} from '../daemon/client.ts';

/** Nobody serves a socket: tell a daemon that is not there from one that is not to be reached. */
async function notRunning(socketPath: string, error: DaemonNotRunning): Promise<DaemonNotRunning> {
  const { isAlive, daemonProcess } = await loadLeftovers();
  try {
    return isAlive(socketPath) ? new DaemonNotServing(socketPath, daemonProcess(socketPath)?.pid ?? null) : error;
  } catch {
    // Something else is in the place of what a daemon keeps beside its socket.
    return error;
  }
}

interface GlobalOptions {
  socket?: string;
  json?: boolean;
}

/** The surroundings of one command. */
export class Cli {
  readonly #program: Command;
  readonly #clients: Client[] = [];
  #hasSpoken = false;

  constructor(program: Command) {
    this.#program = program;
  }

  get json(): boolean {
    return this.#program.opts<GlobalOptions>().json === true;
  }

  /** What the command may have failed by is a daemon's answer. */
  get hasSpoken(): boolean {
    return this.#hasSpoken;
  }

  get socketPath(): string {
    return this.#program.opts<GlobalOptions>().socket ?? defaultSocketPath();
  }

  /** Whether the socket's path was given, by option or environment. */
  get socketGiven(): boolean {
    return this.#program.opts<GlobalOptions>().socket !== undefined || (process.env.MILLRACE_SOCKET ?? '') !== '';
  }

  /** Connect to the daemon. The connection ends with the command. @throws DaemonNotRunning, Failure */
  async connect(socketPath = this.socketPath): Promise<Client> {
    let client: Client;
    try {
      client = await Client.connect(socketPath);
    } catch (error) {
      throw error instanceof DaemonNotRunning ? await notRunning(resolve(socketPath), error) : error;
    }
    client.onSlow = (waitedMs) => {
      const who = client.pid === null ? '' : ` (pid ${client.pid})`;
      process.stderr.write(`millrace: waits for the daemon${who}, which has not answered for ${waitedMs / 1000} s\n`);
    };
    this.#clients.push(client);
    this.#hasSpoken = true;
    return client;
  }

  /** End all connections: the command is over, whether it worked or not. */
  close(): void {
    for (const client of this.#clients.splice(0)) client.close();
  }

  /** One call on a connection of its own. @throws DaemonNotRunning, Failure */
  async call<M extends MethodName>(method: M, params: Api[M]['params']): Promise<Api[M]['result']> {
    const client = await this.connect();
    return client.call(method, params);
  }

  /** Ask an extension that comes with Millrace, by a command of its own. @throws DaemonNotRunning, Failure */
  async ask<Name extends Asked, C extends CommandOf<Name>>(
    name: Name,
    command: C,
    args: ArgumentsOf<Name, C>,
  ): Promise<ResultOf<Name, C>> {
    const client = await this.connect();
    return client.ask(name, command, args);
  }

  /**
   * Print a result: as JSON when --json was given, else as text for people.
   * @param text made only when it is printed
   */
  print(data: unknown, text: () => string): void {
    process.stdout.write(this.json ? `${JSON.stringify(data, null, 2)}\n` : text());
  }
}
