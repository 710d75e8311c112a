/** Running the tools that the benchmarks drive: short commands to their end, servers in the background. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';

/** A command that ended with an error; what it said of it is apart. */
export class CommandError extends Error {
  readonly said: string;

  constructor(command: string, said: string) {
    super(`${command}: ${said}`);
    this.said = said;
  }
}

/** Run a command to its end and return its standard output. Throws with the command and its standard error. */
export function run(
  command: string,
  args: string[],
  options: { timeoutMs?: number; env?: NodeJS.ProcessEnv } = {},
): string {
  try {
    return execFileSync(command, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: options.timeoutMs ?? 60_000,
      maxBuffer: 64 << 20,
      ...(options.env === undefined ? {} : { env: options.env }),
    });
  } catch (error) {
    const detail = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : String(error);
    throw new CommandError(`${command} ${args.join(' ')}`, detail);
  }
}

/** Run a command to its end, or until the signal is given, beside this program and resolve to its standard output. */
export function runAside(
  command: string,
  args: string[],
  options: { timeoutMs?: number; signal?: AbortSignal } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: options.timeoutMs ?? 60_000,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    let output = '';
    let errors = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve(output);
      else reject(new Error(`${command} ${args.join(' ')} ended with ${code}: ${(errors || output).trim()}`));
    });
  });
}

/** A server in the background; stop() ends it and waits. */
export interface Background {
  readonly child: ChildProcess;
  stop(): Promise<void>;
}

/** Start a server. Its output is kept for the error when it ends early. */
export function background(command: string, args: string[], options: { env?: NodeJS.ProcessEnv } = {}): Background {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'ignore'], env: options.env ?? process.env });
  const ended = new Promise<void>((resolve) => {
    child.on('close', () => resolve());
    child.on('error', () => resolve());
  });
  return {
    child,
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
      const hardStop = setTimeout(() => child.kill('SIGKILL'), 5_000);
      await ended;
      clearTimeout(hardStop);
    },
  };
}

/** Wait. */
export function sleep(timeMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, timeMs));
}

/** Try until it succeeds. Throws the last failure after the time is over. */
export async function until(what: string, timeoutMs: number, attempt: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    if (await attempt()) return;
    if (Date.now() > end) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await sleep(50);
  }
}

/** Say what goes on. */
export function progress(text: string): void {
  process.stderr.write(`${text}\n`);
}
