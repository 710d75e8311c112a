/** `millrace up` in the bench's middle namespace, and what is done with it. Neighbours: millrace.ts and flows.ts are peers made of it. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CommandError, run } from '../shell.ts';
import type { TwoHosts } from '../two-host.ts';
import type { OffloadHook } from './millrace.ts';
import { NotAvailable } from './peer.ts';

const root = join(import.meta.dirname, '../../..');
const millrace = join(root, 'bin/millrace.js');

/** What the bench reads of `millrace offload show --json` about a port. */
export interface OffloadPort {
  readonly port: string;
  readonly hook: OffloadHook | null;
  /** The kernel's number of the program. */
  readonly program: number | null;
  readonly reason: string | null;
  readonly carriedPackets: number;
  readonly puntedPackets: number;
}

/** What the bench reads of `millrace offload show --json`. */
export interface OffloadState {
  readonly missing: string | null;
  readonly tables: readonly { readonly flowsInKernel: number }[];
  readonly ports: readonly OffloadPort[];
}

/** A daemon with a directory of its own for its socket, its configuration, and Open vSwitch's files. */
export class DaemonUnderTest {
  #hosts: TwoHosts | null = null;
  #directory = '';
  #runsOpenVSwitch = false;
  /** Process id of the running daemon. */
  pid = 0;

  /**
   * Start it with ports sa and sb.
   * @param options.brain what forwards; for `ovs` the ports are there for datapaths to take by name
   * @param options.connections that there is room for; the daemon's default when not given
   */
  start(hosts: TwoHosts, options: { brain: 'learning' | 'ovs'; hook: OffloadHook; connections?: number }): void {
    this.#hosts = hosts;
    this.#directory = mkdtempSync(join(tmpdir(), 'millrace-bench-'));
    const config = join(this.#directory, 'millrace.yaml');
    const port = (name: string) => ({
      kind: 'netdev',
      ...(options.hook === 'off' ? {} : { offload: options.hook }),
      ...(options.brain === 'ovs' ? { ovsName: name } : {}),
    });
    const ovs = { name: 'ovs', config: { socket: this.pseudoDevice } };
    // JSON is YAML.
    const content = {
      ports: { sa: port('sa'), sb: port('sb') },
      extensions: [options.brain === 'ovs' ? ovs : 'learning'],
      offload: options.hook === 'off' ? 'off' : 'require',
      ...(options.connections === undefined ? {} : { connections: { maximum: options.connections } }),
    };
    writeFileSync(config, `${JSON.stringify(content)}\n`);
    try {
      this.millrace('up', '--daemon', '-f', config);
    } catch (error) {
      if (options.hook === 'off') throw error;
      throw new NotAvailable(saidBy(error));
    }
    this.pid = Number(JSON.parse(this.millrace('status', '--json')).pid);
  }

  /** ovsdb-server and ovs-vswitchd by `millrace ovs start`, and a bridge with both ports. */
  startOpenVSwitch(): void {
    this.#runsOpenVSwitch = true;
    this.millrace('ovs', 'start', '--pseudo-device', this.pseudoDevice);
    this.inside(
      'ovs-vsctl',
      '--timeout=20',
      'add-br',
      'br0',
      '--',
      'add-port',
      'br0',
      'sa',
      '--',
      'add-port',
      'br0',
      'sb',
    );
  }

  /** OpenFlow rules of br0, in place of those that are there. */
  rules(rules: readonly string[]): void {
    this.inside('ovs-ofctl', 'del-flows', 'br0');
    for (const rule of rules) this.inside('ovs-ofctl', 'add-flow', 'br0', rule);
  }

  /** Path of ovs-vswitchd's control socket. */
  get control(): string {
    return this.file(`ovs-vswitchd.${readFileSync(this.file('ovs-vswitchd.pid'), 'utf8').trim()}.ctl`);
  }

  stop(): void {
    if (this.#directory === '') return;
    try {
      if (this.#runsOpenVSwitch) this.millrace('ovs', 'stop');
    } finally {
      this.#runsOpenVSwitch = false;
      try {
        this.millrace('down');
      } finally {
        rmSync(this.#directory, { recursive: true, force: true });
        this.#directory = '';
      }
    }
  }

  describe(): string {
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    return `millrace ${version} on Node.js ${process.versions.node}`;
  }

  /** Program and arguments of a command to this daemon, for a shell. */
  commandLine(...args: string[]): [program: string, ...args: string[]] {
    return [process.execPath, millrace, '--socket', this.socket, ...args];
  }

  /** A command to this daemon. @returns what it printed */
  millrace(...args: string[]): string {
    return this.inside(...this.commandLine(...args));
  }

  /** A program in the daemon's namespace, with Open vSwitch's folders where this daemon's are. @returns what it printed */
  inside(command: string, ...args: string[]): string {
    if (this.#hosts === null) throw new Error('the daemon was not started');
    const folder = this.#directory;
    const env = { ...process.env, OVS_RUNDIR: folder, OVS_DBDIR: folder, OVS_LOGDIR: folder };
    return run('ip', ['netns', 'exec', this.#hosts.middle, command, ...args], { env, timeoutMs: 120_000 });
  }

  /** A file in the daemon's directory, which goes with it. */
  file(name: string): string {
    return join(this.#directory, name);
  }

  /** What `millrace offload show` says. @throws NotAvailable when there is no such thing */
  offload(): OffloadState {
    try {
      return JSON.parse(this.millrace('offload', 'show', '--json')) as OffloadState;
    } catch (error) {
      throw new NotAvailable(`millrace offload show: ${saidBy(error)}`);
    }
  }

  /** @returns what both ports say when the kernel forwards at this hook @throws NotAvailable when it does not */
  requireOffload(hook: OffloadHook): OffloadPort[] {
    const { missing, ports } = this.offload();
    if (missing !== null) throw new NotAvailable(`no offload: ${missing}`);
    const both = ports.filter(({ port }) => port === 'sa' || port === 'sb');
    for (const { port, hook: actual, reason } of both) {
      if (actual !== hook)
        throw new NotAvailable(`port ${port} is not offloaded at ${hook}: ${reason ?? 'no reason given'}`);
    }
    if (both.length !== 2) throw new NotAvailable(`offload knows ${both.length} of the two ports`);
    return both;
  }

  /** @returns how much of what came in at sa the kernel carried, in words @throws NotAvailable when that is nothing */
  offloadRemark(): string {
    const port = this.offload().ports.find((one) => one.port === 'sa');
    if (port === undefined) throw new NotAvailable('offload knows no port sa');
    if (port.carriedPackets === 0) throw new NotAvailable('the kernel carried no packet of port sa');
    const number = (value: number) => value.toLocaleString('en');
    return `the kernel carried ${number(port.carriedPackets)} packets of port sa, the engine ${number(port.puntedPackets)}`;
  }

  /** Path of its control socket. */
  get socket(): string {
    return join(this.#directory, 'bench.sock');
  }

  /** Path of the socket that programs under the shim connect to. */
  get pseudoDevice(): string {
    return join(this.#directory, 'netlink.sock');
  }
}

/** The sentence of a `millrace` that failed, out of its JSON when it spoke JSON. */
function saidBy(error: unknown): string {
  if (!(error instanceof CommandError)) return String(error);
  return /"message":"((?:[^"\\]|\\.)*)"/.exec(error.said)?.[1] ?? error.said;
}
