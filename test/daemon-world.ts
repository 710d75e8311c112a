/**
 * A small world for scenarios of the daemon: a namespace for the switch, one for each host with a veth between them, and the built
 * `millrace` command. Everything has names of its own, and goes when the test ends, whatever happens.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const bin = join(import.meta.dirname, '../bin/millrace.js');
let worlds = 0;

/** How a command ended. */
export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** Run a command and wait for its end. */
export function run(
  command: string,
  args: readonly string[],
  options: { input?: string; timeoutMs?: number } = {},
): Outcome {
  const result = spawnSync(command, args, {
    encoding: 'utf8',
    timeout: options.timeoutMs ?? 60_000,
    input: options.input,
  });
  if (result.error !== undefined) throw result.error;
  return { code: result.status ?? 128, stdout: result.stdout, stderr: result.stderr };
}

/** Run a command that must succeed. */
export function must(command: string, ...args: string[]): string {
  const outcome = run(command, args);
  if (outcome.code !== 0) throw new Error(`${command} ${args.join(' ')}: ${outcome.stderr || outcome.stdout}`);
  return outcome.stdout;
}

/** Wait until something holds. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, timeoutMs = 10_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`after ${timeoutMs} ms still not: ${what}`);
    await new Promise((resume) => setTimeout(resume, 25));
  }
}

/** One scenario's world. */
export class World {
  readonly folder = mkdtempSync(join(tmpdir(), 'millrace-world-'));
  readonly socket = join(this.folder, 'mr.sock');
  readonly #prefix: string;
  readonly #namespaces: string[] = [];
  readonly #children: ChildProcess[] = [];
  readonly #outlives: boolean;
  /** A process in a mount namespace of its own, where `millrace` runs. */
  #mounts: ChildProcess | null = null;

  /**
   * @param outlives Whether what the daemon mounts stays when it is killed. `ip netns exec` gives each command a mount namespace of its own,
   *   whose mounts end with it.
   */
  constructor({ outlives = false }: { outlives?: boolean } = {}) {
    worlds += 1;
    this.#prefix = `mr${process.pid}w${worlds}`;
    this.#outlives = outlives;
  }

  /** Name of a namespace of this world; it is made when it is new. */
  namespace(name: string): string {
    const full = `${this.#prefix}${name}`;
    if (!this.#namespaces.includes(full)) {
      must('ip', 'netns', 'add', full);
      this.#namespaces.push(full);
      must('ip', '-n', full, 'link', 'set', 'lo', 'up');
    }
    return full;
  }

  /** The switch's namespace. */
  get middle(): string {
    return this.namespace('sw');
  }

  /** A host with `eth0`, whose other end is an interface of the host's name in the switch's namespace. */
  host(name: string, ...addresses: string[]): string {
    const namespace = this.namespace(name);
    this.plug(name);
    for (const address of addresses) this.address(name, 'eth0', address);
    return namespace;
  }

  /** Make the cable between a host and the switch's namespace. The host's end has the same MAC address each time. */
  plug(name: string): void {
    const namespace = this.namespace(name);
    must(
      'ip',
      '-n',
      this.middle,
      'link',
      'add',
      'name',
      name,
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      namespace,
    );
    must('ip', '-n', this.middle, 'link', 'set', 'dev', name, 'up');
    const mac = `02:57:00:00:00:${(name.codePointAt(0) ?? 0).toString(16)}`;
    must('ip', '-n', namespace, 'link', 'set', 'eth0', 'address', mac, 'up');
  }

  /** Whether a host completes the checksums of what it sends, as XDP behind a veth wants it. Hosts are made without. */
  completesChecksums(name: string, completes = true): void {
    const on = completes ? 'off' : 'on';
    must('ip', 'netns', 'exec', this.namespace(name), 'ethtool', '-K', 'eth0', 'tx', on);
  }

  address(name: string, device: string, address: string): void {
    const flags = address.includes(':') ? ['nodad'] : [];
    must('ip', '-n', this.namespace(name), 'address', 'add', address, 'dev', device, ...flags);
  }

  /** A file in this world's folder. @returns its path */
  file(name: string, text: string): string {
    const path = join(this.folder, name);
    writeFileSync(path, text);
    return path;
  }

  /** Run `millrace` in the switch's namespace. */
  millrace(...args: string[]): Outcome {
    const [command, ...enter] = this.#enter();
    return run(command, [...enter, process.execPath, ...this.command(...args)]);
  }

  /** Arguments of Node for `millrace`. */
  command(...args: string[]): string[] {
    return [bin, '--socket', this.socket, ...args];
  }

  #enter(): [string, ...string[]] {
    if (!this.#outlives) return ['ip', 'netns', 'exec', this.middle];
    const mounts = this.#mounts === null ? [] : [`--mount=/proc/${this.#mounts.pid}/ns/mnt`];
    return ['nsenter', `--net=/run/netns/${this.middle}`, ...mounts];
  }

  /**
   * Have `millrace` run in a mount namespace of its own from now on. Namespaces that are made later are not seen there.
   * @param command of a shell, run in it once
   */
  async unshareMounts(command: string): Promise<void> {
    const done = join(this.folder, 'mounted');
    const script = `${command} && touch ${done} && exec sleep infinity`;
    this.#mounts = this.spawn('unshare', ['--mount', 'sh', '-c', script]);
    await until(command, () => existsSync(done));
    rmSync(done);
  }

  /** Run a command where `millrace` runs, which must succeed. @returns what it printed */
  beside(...args: string[]): string {
    const [command, ...enter] = this.#enter();
    return must(command, ...enter, ...args);
  }

  /** Run `millrace`, which must succeed. @returns what it printed */
  ok(...args: string[]): string {
    const outcome = this.millrace(...args);
    if (outcome.code !== 0)
      throw new Error(`millrace ${args.join(' ')} ended with ${outcome.code}: ${outcome.stderr}${this.log()}`);
    return outcome.stdout;
  }

  /** What a command says as JSON. */
  json<T>(...args: string[]): T {
    return JSON.parse(this.ok('--json', ...args)) as T;
  }

  /** Start the daemon in the background from this configuration. */
  up(config: string): void {
    this.ok('up', '--daemon', '--log-level', 'debug', '-f', this.file('millrace.yaml', config));
  }

  /** The daemon's log so far. */
  log(): string {
    const path = join(this.folder, 'mr.log');
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  pid(): number {
    return this.json<{ pid: number }>('status').pid;
  }

  /** Start `millrace` in the switch's namespace without waiting. */
  start(args: readonly string[]): ChildProcess {
    return this.startIn('sw', ['--socket', this.socket, ...args]);
  }

  /** Start `millrace` in any namespace of this world. `ip netns exec` becomes the command, so signals reach it. */
  startIn(name: string, args: readonly string[]): ChildProcess {
    return this.spawn('ip', ['netns', 'exec', this.namespace(name), process.execPath, bin, ...args]);
  }

  /** Start a command that ends with this world at the latest. */
  spawn(command: string, args: readonly string[]): ChildProcess {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#children.push(child);
    return child;
  }

  /** Whether a host reaches an address. */
  pings(from: string, address: string, count = 2): boolean {
    return (
      run('ip', ['netns', 'exec', this.namespace(from), 'ping', '-c', String(count), '-i', '0.05', '-W', '1', address])
        .code === 0
    );
  }

  /** End everything that is left. */
  async end(): Promise<void> {
    if (existsSync(this.socket) || this.#outlives) this.millrace('down');
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
    }
    for (const namespace of this.#namespaces) run('ip', ['netns', 'delete', namespace]);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
