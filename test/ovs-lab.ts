/**
 * A lab for scenarios with OpenFlow: the daemon with Open vSwitch as a user starts it, and hosts of frames on the bridge br0. Frames
 * are made and read here, byte by byte, so that what comes out can be compared.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { must, run, until, World } from './daemon-world.ts';
import { buildShim } from './ovs-world.ts';

const root = join(import.meta.dirname, '..');
const agent = join(root, 'test/support/host-agent.ts');
const jiti = join(root, 'node_modules/jiti/lib/jiti-cli.mjs');

/** How long frames are waited for that should come. */
const PATIENCE_MS = 5000;

/** One host of frames. */
export class FrameHost {
  readonly #child: ChildProcess;
  #printed = '';
  #waiting: ((line: string) => void) | null = null;

  constructor(namespace: string) {
    this.#child = spawn('ip', ['netns', 'exec', namespace, process.execPath, jiti, agent, 'eth0'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child.stdout?.on('data', (text) => {
      this.#printed += text;
      const end = this.#printed.indexOf('\n');
      if (end < 0 || this.#waiting === null) return;
      const line = this.#printed.slice(0, end);
      this.#printed = this.#printed.slice(end + 1);
      const waiting = this.#waiting;
      this.#waiting = null;
      waiting(line);
    });
  }

  line(): Promise<string> {
    return new Promise((resolve) => {
      const end = this.#printed.indexOf('\n');
      if (end < 0) {
        this.#waiting = resolve;
        return;
      }
      const line = this.#printed.slice(0, end);
      this.#printed = this.#printed.slice(end + 1);
      resolve(line);
    });
  }

  async #ask(command: object): Promise<string[]> {
    this.#child.stdin?.write(`${JSON.stringify(command)}\n`);
    return JSON.parse(await this.line()) as string[];
  }

  async send(...frames: readonly Uint8Array[]): Promise<void> {
    await this.#ask({ send: frames.map((frame) => Buffer.from(frame).toString('hex')) });
  }

  /** What has come since the last time. */
  async take(): Promise<Buffer[]> {
    return (await this.#ask({ take: true })).map((hex) => Buffer.from(hex, 'hex'));
  }

  async close(): Promise<void> {
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.stdin?.end();
    await gone;
  }
}

/** What a UDP frame is made of. */
export interface UdpFrame {
  from: number;
  to: number;
  vlan?: number;
  sourcePort?: number;
  destinationPort?: number;
  ttl?: number;
  text?: string;
}

export const mac = (host: number): number[] => [2, 0, 0, 0, 0, host];

function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i] << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** A frame from 10.0.0.<from> to 10.0.0.<to>, with right checksums. */
export function udp(frame: UdpFrame): Buffer {
  const payload = Buffer.from((frame.text ?? 'hello').padEnd(18, '.'));
  const ip = Buffer.alloc(28 + payload.length);
  ip.set([0x45, 0], 0);
  ip.writeUInt16BE(ip.length, 2);
  ip.set([0x40, 0, frame.ttl ?? 64, 17], 6);
  ip.set([10, 0, 0, frame.from, 10, 0, 0, frame.to], 12);
  ip.writeUInt16BE(checksum(ip.subarray(0, 20)), 10);
  ip.writeUInt16BE(frame.sourcePort ?? 1000, 20);
  ip.writeUInt16BE(frame.destinationPort ?? 2000, 22);
  ip.writeUInt16BE(8 + payload.length, 24);
  payload.copy(ip, 28);
  const pseudo = Buffer.concat([ip.subarray(12, 20), Buffer.from([0, 17, 0, 8 + payload.length]), ip.subarray(20)]);
  ip.writeUInt16BE(checksum(pseudo), 26);
  const tag = frame.vlan === undefined ? [] : [0x81, 0, frame.vlan >> 8, frame.vlan & 255];
  return Buffer.concat([Buffer.from([...mac(frame.to), ...mac(frame.from), ...tag, 8, 0]), ip]);
}

/** The payload texts of frames, and the VLAN in front of those that have a tag. */
export function texts(frames: readonly Buffer[]): string[] {
  return frames.map((frame) => {
    const isTagged = frame.readUInt16BE(12) === 0x8100;
    const at = isTagged ? 46 : 42;
    const text = frame
      .subarray(at)
      .toString('latin1')
      .replace(/[.\0]+$/, '');
    return isTagged ? `${frame.readUInt16BE(14) & 0xfff}:${text}` : text;
  });
}

/** Daemon, Open vSwitch, bridge br0, and hosts of frames on ports of their names. */
export class OvsLab {
  readonly world: World;
  readonly hosts = new Map<string, FrameHost>();
  readonly #before = { ...process.env };

  /** @param outlives as World's */
  constructor(outlives = false) {
    this.world = new World({ outlives });
  }

  /**
   * @param offload of the daemon's configuration
   * @param config more of it
   */
  async start(offload: 'off' | 'require', names: readonly string[], config = ''): Promise<void> {
    buildShim();
    for (const name of ['OVS_RUNDIR', 'OVS_DBDIR', 'OVS_LOGDIR']) process.env[name] = this.world.folder;
    for (const name of names) this.world.host(name);
    const file = this.world.file('millrace.yaml', `offload: ${offload}\n${config}`);
    this.world.ok('ovs', 'start', '-f', file, '--pseudo-device', join(this.world.folder, 'nl.sock'));
    this.vsctl('add-br', 'br0', ...names.flatMap((name) => ['--', 'add-port', 'br0', name]));
    for (const name of names) this.hosts.set(name, new FrameHost(this.world.namespace(name)));
    for (const host of this.hosts.values()) await host.line();
    // What kernels said to each other before the hosts were taken.
    await this.arrived();
  }

  host(name: string): FrameHost {
    const host = this.hosts.get(name);
    if (host === undefined) throw new Error(`there is no host ${name}`);
    return host;
  }

  inside(...command: string[]): string {
    return must('ip', 'netns', 'exec', this.world.middle, ...command);
  }

  vsctl(...args: string[]): string {
    return this.inside('ovs-vsctl', '--timeout=20', ...args);
  }

  ofctl(...args: string[]): string {
    return this.inside('ovs-ofctl', '-O', 'OpenFlow15', ...args);
  }

  /** As {@link ofctl}, for what may fail. @returns the exit code */
  tryOfctl(...args: string[]): number {
    return run('ip', ['netns', 'exec', this.world.middle, 'ovs-ofctl', '-O', 'OpenFlow15', ...args]).code;
  }

  appctl(...args: string[]): string {
    return this.inside('ovs-appctl', '-t', 'ovs-vswitchd', ...args);
  }

  /** Only these rules from now on. */
  rules(...rules: string[]): void {
    const file = this.world.file('rules', `${rules.join('\n')}\n`);
    this.ofctl('--bundle', 'replace-flows', 'br0', file);
    this.settle();
  }

  /** Wait until the flows of the datapath are what the rules say. */
  settle(): void {
    this.appctl('revalidator/wait');
  }

  /**
   * The frames that have come to each host, by name, once a moment has passed in which none came.
   * @param count how many to wait for in all, for some seconds at most
   */
  async arrived(count = 0): Promise<Record<string, Buffer[]>> {
    const all: Record<string, Buffer[]> = {};
    const endMs = performance.now() + PATIENCE_MS;
    let missing = count;
    for (let more = true; more || (missing > 0 && performance.now() < endMs); ) {
      await new Promise((resume) => setTimeout(resume, 150));
      more = false;
      for (const [name, host] of this.hosts) {
        const frames = await host.take();
        if (frames.length === 0) continue;
        all[name] = [...(all[name] ?? []), ...frames];
        missing -= frames.length;
        more = true;
      }
    }
    return all;
  }

  /** As {@link arrived}, as texts. */
  async told(count = 0): Promise<Record<string, string[]>> {
    const arrived = Object.entries(await this.arrived(count));
    return Object.fromEntries(arrived.map(([name, frames]) => [name, texts(frames)]));
  }

  async close(): Promise<void> {
    for (const host of this.hosts.values()) await host.close();
    this.world.millrace('ovs', 'stop');
    await this.world.end();
    process.env = this.#before;
  }
}

export { until };
