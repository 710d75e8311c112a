/**
 * A world for scenarios with Open vSwitch's own programs: a namespace with a datapath process (ovs-harness.ts), ovsdb-server and
 * ovs-vswitchd under the shim in it, and a namespace for each host. All files lie in a folder of its own.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const jiti = join(root, 'node_modules/jiti/lib/jiti-cli.mjs');
let worlds = 0;

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** Wait until something holds. */
export async function until(what: string, holds: () => boolean, timeoutMs = 15_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`after ${timeoutMs} ms still not: ${what}`);
    await new Promise((resume) => setTimeout(resume, 25));
  }
}

/** Whether the programs that these scenarios are about are here. */
export function hasOpenVSwitch(): boolean {
  return spawnSync('ovs-vswitchd', ['--version']).status === 0;
}

/** Build the shim. @returns its path */
export function buildShim(): string {
  const built = spawnSync(join(root, 'native/build.sh'), { encoding: 'utf8' });
  if (built.status !== 0) throw new Error(`the shim was not built: ${built.stderr}`);
  const arch = process.arch === 'x64' || process.arch === 'arm64' ? process.arch : 'x64';
  return join(root, 'native/build', arch, 'millrace-shim.so');
}

export class OvsWorld {
  readonly folder = mkdtempSync(join(tmpdir(), 'millrace-ovs-'));
  readonly shim: string;
  readonly #prefix: string;
  readonly #namespaces: string[] = [];
  readonly #children: ChildProcess[] = [];

  constructor() {
    worlds += 1;
    this.#prefix = `ovs${process.pid}w${worlds}`;
    this.shim = buildShim();
  }

  /** The pseudo device's socket. */
  get socket(): string {
    return join(this.folder, 'netlink.sock');
  }

  /** What ovs-vswitchd has logged. */
  get log(): string {
    return readFileSync(join(this.folder, 'vswitchd.log'), 'utf8');
  }

  get #environment(): NodeJS.ProcessEnv {
    const { folder } = this;
    return { ...process.env, OVS_RUNDIR: folder, OVS_DBDIR: folder, OVS_LOGDIR: folder, OVS_SYSCONFDIR: folder };
  }

  namespace(name: string): string {
    const full = `${this.#prefix}${name}`;
    if (!this.#namespaces.includes(full)) {
      this.must('ip', 'netns', 'add', full);
      this.#namespaces.push(full);
      this.must('ip', '-n', full, 'link', 'set', 'lo', 'up');
    }
    return full;
  }

  /** A host with eth0, whose other end is a device of the host's name beside the datapath. */
  host(name: string, address: string): string {
    const host = this.namespace(name);
    const middle = this.namespace('sw');
    this.must('ip', '-n', middle, 'link', 'add', name, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', host);
    this.must('ip', '-n', middle, 'link', 'set', name, 'up');
    this.must('ip', '-n', host, 'link', 'set', 'eth0', 'up');
    this.must('ip', '-n', host, 'addr', 'add', address, 'dev', 'eth0');
    return host;
  }

  run(command: string, args: readonly string[]): Outcome {
    const result = spawnSync(command, args, { encoding: 'utf8', timeout: 30_000, env: this.#environment });
    if (result.error !== undefined) throw result.error;
    return { code: result.status ?? 128, stdout: result.stdout, stderr: result.stderr };
  }

  must(command: string, ...args: string[]): string {
    const outcome = this.run(command, args);
    if (outcome.code !== 0) throw new Error(`${command} ${args.join(' ')}: ${outcome.stderr || outcome.stdout}`);
    return outcome.stdout;
  }

  /** Run a program beside the datapath, under the shim. */
  shimmed(command: string, ...args: string[]): Outcome {
    return this.run('ip', this.shimArguments(command, args));
  }

  vsctl(...args: string[]): string {
    return this.must('ovs-vsctl', `--db=unix:${join(this.folder, 'db.sock')}`, '--timeout=20', ...args);
  }

  appctl(...args: string[]): string {
    return this.must('ovs-appctl', '-t', join(this.folder, 'vswitchd.ctl'), ...args);
  }

  /** Start the datapath process. @param variables for ovs-harness.ts */
  async startDatapath(variables: Readonly<Record<string, string>> = {}): Promise<ChildProcess> {
    const settings = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
    const harness = [process.execPath, jiti, join(root, 'test/ovs-harness.ts'), this.socket];
    const child = this.#spawn('env', [...settings, ...harness]);
    let printed = '';
    child.stdout?.on('data', (text) => {
      printed += text;
    });
    await until('the datapath process listens', () => printed.includes('ready'), 40_000);
    return child;
  }

  /** Start ovsdb-server with a database of its own. */
  async startDatabase(): Promise<void> {
    const database = join(this.folder, 'conf.db');
    this.must('ovsdb-tool', 'create', database, '/usr/share/openvswitch/vswitch.ovsschema');
    const remote = join(this.folder, 'db.sock');
    this.#spawn('ovsdb-server', [database, `--remote=punix:${remote}`, `--unixctl=${join(this.folder, 'db.ctl')}`]);
    await until('ovsdb-server listens', () => existsSync(remote));
    this.vsctl('--no-wait', 'init');
  }

  /** Start ovs-vswitchd under the shim. @param options such as --detach */
  async startVswitchd(options: readonly string[] = []): Promise<ChildProcess> {
    const control = join(this.folder, 'vswitchd.ctl');
    rmSync(control, { force: true });
    const args = [`unix:${join(this.folder, 'db.sock')}`, `--unixctl=${control}`];
    const shimmed = this.shimArguments('ovs-vswitchd', [
      ...args,
      `--pidfile=${join(this.folder, 'vswitchd.pid')}`,
      `--log-file=${join(this.folder, 'vswitchd.log')}`,
      '-vconsole:off',
      '-vfile:info',
      ...options,
    ]);
    const child = this.#child('ip', shimmed);
    await until('ovs-vswitchd listens', () => existsSync(control));
    return child;
  }

  /** End everything that was started, and remove namespaces and files. */
  async close(): Promise<void> {
    // One that has put itself into the background is nobody's child.
    const control = join(this.folder, 'vswitchd.ctl');
    if (existsSync(control)) this.run('ovs-appctl', ['-T', '5', '-t', control, 'exit']);
    for (const child of this.#children.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill();
      await new Promise((resume) => {
        child.once('exit', resume);
        setTimeout(() => child.kill('SIGKILL'), 5000).unref();
      });
    }
    for (const name of this.#namespaces) spawnSync('ip', ['netns', 'del', name]);
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Arguments of ip that run a program beside the datapath, under the shim. */
  shimArguments(command: string, args: readonly string[]): string[] {
    const variables = [`LD_PRELOAD=${this.shim}`, `MILLRACE_OVS_SOCKET=${this.socket}`];
    return ['netns', 'exec', this.namespace('sw'), 'env', ...variables, command, ...args];
  }

  #spawn(command: string, args: readonly string[]): ChildProcess {
    return this.#child('ip', ['netns', 'exec', this.namespace('sw'), command, ...args]);
  }

  #child(command: string, args: readonly string[]): ChildProcess {
    const child = spawn(command, args, { env: this.#environment, stdio: ['ignore', 'pipe', 'pipe'] });
    child.stderr?.resume();
    this.#children.push(child);
    return child;
  }
}
