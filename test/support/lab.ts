/**
 * Network namespaces for scenario tests: made with unique names, wired with veth pairs, used by real commands, and gone
 * afterwards whatever happens. A test file calls {@link useLab} once; each test may also open a lab of its own.
 *
 * @example
 * const lab = useLab();
 * test('hosts reach each other', () => {
 *   const [a, b] = lab.hosts(2);
 *   lab.veth(a, 'eth0', b, 'eth0', { mtuBytes: 9000 });
 *   a.address('eth0', '10.0.0.1/24');
 *   b.address('eth0', '10.0.0.2/24');
 *   expect(a.ping('10.0.0.2')).toBe(true);
 * });
 */
import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from 'node:child_process';
import { afterAll } from 'vitest';
import { NetworkNamespace } from '../../src/host/index.ts';

const openLabs = new Set<Lab>();
let labCount = 0;

// The last resort: a test file that is ended early. Killing the process outright still leaves namespaces behind; their names
// begin with "mr", and nothing else on a machine is named so.
process.on('exit', () => {
  for (const lab of [...openLabs]) lab.close();
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => process.exit(1));
}

/** A command failed. The message holds what it printed. */
export class CommandError extends Error {
  readonly status: number | null;
  readonly output: string;

  constructor(command: string, status: number | null, output: string) {
    super(`${command}: exit status ${status}\n${output}`);
    this.status = status;
    this.output = output;
  }
}

/** How to run a command. */
export interface RunOptions {
  timeoutMs?: number;
  input?: string;
}

/**
 * Run a command to its end.
 * @returns its standard output
 * @throws CommandError when it fails
 */
export function run(command: string, args: readonly string[], options: RunOptions = {}): string {
  try {
    return execFileSync(command, args, {
      encoding: 'utf8',
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: options.timeoutMs ?? 30_000,
      ...(options.input === undefined ? {} : { input: options.input }),
      maxBuffer: 64 << 20,
    });
  } catch (error) {
    const {
      status = null,
      stdout = '',
      stderr = '',
      message = '',
    } = error as Partial<Record<'stdout' | 'stderr' | 'message', string>> & { status?: number | null };
    throw new CommandError([command, ...args].join(' '), status, `${stdout}${stderr}` || message);
  }
}

/** A command that runs beside the test. */
export interface Running {
  readonly process: ChildProcess;
  readonly pid: number;
  /** What it has printed so far, standard output and error together. */
  output(): string;
  /** Its end: the exit status, or null when a signal ended it. */
  readonly ended: Promise<number | null>;
  /** Wait for its end and take its output. @throws CommandError for a status other than 0 */
  result(): Promise<string>;
  /** Wait until it has printed something that matches. @throws Error when it ends, or time is over, before that */
  printed(pattern: RegExp, timeoutMs?: number): Promise<void>;
  /** End it: SIGTERM, or the signal that is given. @returns its end */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

/** One network namespace. */
export class Host {
  /** The namespace's name, for `ip -n` and `ip netns exec`. */
  readonly name: string;
  readonly #lab: Lab;

  constructor(lab: Lab, name: string) {
    this.#lab = lab;
    this.name = name;
  }

  /** Run a command inside. @returns its standard output @throws CommandError */
  run(command: string, args: readonly string[], options: RunOptions = {}): string {
    return run('ip', ['netns', 'exec', this.name, command, ...args], options);
  }

  /** Run `ip` inside, given as one line: `a.ip('link set eth0 up')`. */
  ip(line: string): string {
    return run('ip', ['-n', this.name, ...line.split(' ').filter(Boolean)]);
  }

  /** Start a command inside; the lab ends it if the test does not. */
  start(command: string, args: readonly string[], options: SpawnOptions = {}): Running {
    return this.#lab.start('ip', ['netns', 'exec', this.name, command, ...args], options);
  }

  /** Run a synchronous function of this process inside, on this thread: to open sockets there. */
  inside<Result>(body: () => Result): Result {
    const namespace = NetworkNamespace.byName(this.name);
    try {
      return namespace.run(body);
    } finally {
      namespace.close();
    }
  }

  /** Add an address with its prefix length, IPv4 or IPv6; IPv6 is usable at once (no duplicate address detection). */
  address(link: string, address: string): void {
    this.ip(`addr add ${address} dev ${link}${address.includes(':') ? ' nodad' : ''}`);
  }

  /** The MAC address of a link, as text. */
  macAddress(link: string): string {
    return /link\/ether ([0-9a-f:]{17})/.exec(this.ip(`link show dev ${link}`))?.[1] ?? '';
  }

  /** Whether an address answers one of a few echo requests. */
  ping(address: string, options: { count?: number; timeoutMs?: number; sizeBytes?: number } = {}): boolean {
    const count = options.count ?? 3;
    const seconds = String((options.timeoutMs ?? 1000) / 1000);
    const size = options.sizeBytes === undefined ? [] : ['-s', String(options.sizeBytes)];
    try {
      this.run('ping', ['-n', '-q', '-c', String(count), '-i', '0.2', '-W', seconds, ...size, address]);
      return true;
    } catch (error) {
      if (error instanceof CommandError) return false;
      throw error;
    }
  }
}

/** A set of namespaces and processes that begin and end together. */
export class Lab {
  readonly prefix = `mr${process.pid}x${labCount++}`;
  readonly #hosts: Host[] = [];
  readonly #running: Running[] = [];
  readonly #cleanups: (() => void)[] = [];
  #closed = false;

  constructor() {
    openLabs.add(this);
  }

  /** Make a namespace with its loopback up. IPv6 is on, but links get no link-local addresses of their own (less noise). */
  host(label = `h${this.#hosts.length}`): Host {
    const host = new Host(this, `${this.prefix}${label}`);
    run('ip', ['netns', 'add', host.name]);
    this.#hosts.push(host);
    host.run('sh', [
      '-c',
      'for f in default all; do echo 1 > /proc/sys/net/ipv6/conf/$f/addr_gen_mode; done; ip link set lo up',
    ]);
    return host;
  }

  /** Make several. */
  hosts(count: number): Host[] {
    return Array.from({ length: count }, () => this.host());
  }

  /** Connect two namespaces (or one with itself) by a veth pair, both ends up. */
  veth(a: Host, aLink: string, b: Host, bLink: string, options: { mtuBytes?: number } = {}): void {
    run('ip', [
      ...['link', 'add', aLink, 'netns', a.name, 'type', 'veth'],
      ...['peer', 'name', bLink, 'netns', b.name],
    ]);
    for (const [host, link] of [
      [a, aLink],
      [b, bLink],
    ] as const) {
      if (options.mtuBytes !== undefined) host.ip(`link set dev ${link} mtu ${options.mtuBytes}`);
      host.ip(`link set dev ${link} up`);
    }
  }

  /** Start a command beside the test; {@link close} ends it. */
  start(command: string, args: readonly string[], options: SpawnOptions = {}): Running {
    const running = startProcess(command, args, options);
    this.#running.push(running);
    return running;
  }

  /** Have something undone at the end, in reverse order, before the namespaces go: close adapters, remove files. */
  onClose(cleanup: () => void): void {
    this.#cleanups.push(cleanup);
  }

  /** Close a resource at the end. @returns it */
  own<Resource extends { close(): void }>(resource: Resource): Resource {
    this.onClose(() => resource.close());
    return resource;
  }

  /** End everything. What fails does not keep the rest from being cleaned. Closing twice is harmless. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    openLabs.delete(this);
    for (const cleanup of this.#cleanups.reverse()) attempt(cleanup);
    for (const { process: child } of this.#running) {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    }
    for (const host of this.#hosts) attempt(() => run('ip', ['netns', 'delete', host.name]));
  }
}

function attempt(action: () => void): void {
  try {
    action();
  } catch (error) {
    console.error(error);
  }
}

/** A lab for a whole test file: closed after its last test. */
export function useLab(): Lab {
  const lab = new Lab();
  afterAll(() => lab.close());
  return lab;
}

function startProcess(command: string, args: readonly string[], options: SpawnOptions): Running {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], ...options });
  const text = [command, ...args].join(' ');
  let output = '';
  const take = (chunk: Buffer): void => {
    output += chunk.toString('utf8');
  };
  child.stdout?.on('data', take);
  child.stderr?.on('data', take);
  const ended = new Promise<number | null>((resolve) => {
    child.once('error', (error) => {
      output += error.message;
      resolve(127);
    });
    child.once('close', (status) => resolve(status));
  });
  return {
    process: child,
    pid: child.pid ?? -1,
    ended,
    output: () => output,
    async result() {
      const status = await ended;
      if (status !== 0) throw new CommandError(text, status, output);
      return output;
    },
    async printed(pattern, timeoutMs = 10_000) {
      const deadline = Date.now() + timeoutMs;
      while (!pattern.test(output)) {
        if (child.exitCode !== null)
          throw new CommandError(text, child.exitCode, `ended before ${pattern}:\n${output}`);
        if (Date.now() > deadline) throw new Error(`${text}: no ${pattern} within ${timeoutMs} ms:\n${output}`);
        await sleep(10);
      }
    },
    stop(signal = 'SIGTERM') {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      return ended;
    },
  };
}

/** Let time pass without blocking the process. */
export function sleep(timeMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, timeMs));
}

/**
 * Wait until something is so.
 * @param what for the error message
 * @throws Error when it is not so in time
 */
export async function eventually(what: string, condition: () => boolean, timeoutMs = 5000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await sleep(10);
  }
}
