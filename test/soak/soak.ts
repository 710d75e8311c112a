/**
 * The soak: under traffic, ports, namespaces, tables, datapaths of Open vSwitch and extensions that misbehave come and go, and the daemon is killed
 * or left and started again. In the end there is no more of anything than there was: memory, descriptors, mappings, eBPF objects, pins, mounts,
 * interfaces. main.ts runs it for as long as wanted, ../soak.test.ts for a short time.
 *
 * Each life of a daemon has rounds that warm it up, then a first count, more rounds, and a second count. Both counts are of the same process after
 * the same work, so whatever grows with the work shows. What a life leaves to the next shows in the counts of the first life and the last one.
 */
import { existsSync, rmSync } from 'node:fs';
import { queryTcx } from '../../src/bpf/index.ts';
import { Client, type ExtensionInfo } from '../../src/daemon/client.ts';
import { NetworkNamespace } from '../../src/host/index.ts';
import { must, run, until, World } from '../daemon-world.ts';
import { type Census, compare, type Finding, takeCensus } from './census.ts';
import { misbehavingModule, misbehaviours } from './misbehaviour.ts';

export interface SoakOptions {
  /** About how long, in seconds. */
  readonly seconds: number;
  /** Rounds before the first count of a life, and as many at least before the second. */
  readonly warmUpRounds: number;
  /** Longest life of a daemon, in seconds. */
  readonly lifeSeconds: number;
  /** Tables and datapaths that are made and unmade in each round. */
  readonly tables: number;
  /** Count eBPF objects, interfaces and namespaces of the whole system, too: nobody else uses the machine. */
  readonly isAlone: boolean;
  /** Ends it before its time; everything is undone. */
  readonly signal?: AbortSignal;
  /** Told what goes on. */
  say(line: string): void;
}

/** What was found. */
export interface SoakResult {
  readonly lives: number;
  readonly rounds: number;
  /** Of each life the first count and the last, and in the end those of the first life and of the last one. */
  readonly findings: readonly { readonly of: string; readonly lines: readonly Finding[] }[];
}

/** How long after the work counts may take to become what they were: tables rest, numbers rest, garbage is collected. */
const SETTLE_MS = 20_000;

const config = (extension: string) => `
ports: { a: {}, b: {} }
offload: require
extensions: [ ${extension} ]
`;

/** What the lives of the daemon forward with, in turn: one takes up what another has left, and what its like has left. */
const FORWARDERS = ['learning', 'learning', 'ovs', 'ovs'] as const;
type Forwarder = (typeof FORWARDERS)[number];

class Soak {
  readonly #options: SoakOptions;
  readonly #world = new World({ outlives: true });
  #rounds = 0;
  #client: Client | null = null;

  constructor(options: SoakOptions) {
    this.#options = options;
  }

  async run(): Promise<SoakResult> {
    const { seconds, say } = this.#options;
    const untilMs = Date.now() + seconds * 1000;
    const findings: SoakResult['findings'][number][] = [];
    const firsts = new Map<Forwarder, Census>();
    let lives = 0;
    this.#world.host('a', '10.6.0.1/24');
    this.#world.host('b', '10.6.0.2/24');
    this.#world.namespace('c');
    try {
      while (Date.now() < untilMs || lives < FORWARDERS.length) {
        const forwarder = FORWARDERS[lives % FORWARDERS.length];
        await this.#up(forwarder);
        lives += 1;
        const left = Math.max(0, untilMs - Date.now()) / 1000;
        const { before, after } = await this.#live(forwarder, Math.min(left, this.#options.lifeSeconds));
        findings.push({ of: `life ${lives} (${forwarder})`, lines: compare(before, after) });
        const first = firsts.get(forwarder);
        if (first === undefined) firsts.set(forwarder, before);
        else findings.push({ of: `since the first life (${forwarder})`, lines: compare(first, before) });
        say(`life ${lives} (${forwarder}) ends after ${this.#rounds} rounds in all`);
        await this.#end(lives);
      }
      this.#world.ok('down');
      findings.push({ of: 'what is left when it is down', lines: this.#leftovers() });
      return { lives, rounds: this.#rounds, findings };
    } finally {
      this.#client?.close();
      await this.#world.end();
    }
  }

  async #up(forwarder: Forwarder): Promise<void> {
    const extension =
      forwarder === 'ovs' ? `{ name: ovs, config: { socket: "${this.#world.folder}/nl.sock" } }` : forwarder;
    this.#world.up(config(extension));
    this.#client = await Client.connect(this.#world.socket);
    if (forwarder === 'ovs') {
      await this.#ovs('add-dp', { datapath: 'soak' });
      for (const port of ['a', 'b']) {
        await this.#call('port.del', { name: port });
        await this.#ovs('add-if', { datapath: 'soak', port });
      }
      for (const [from, to] of [
        [1, 2],
        [2, 1],
      ]) {
        for (const type of ['0x0800', '0x0806']) {
          const flow = `in_port(${from}),eth(),eth_type(${type})`;
          await this.#ovs('add-flow', { datapath: 'soak', flow, actions: String(to) });
        }
      }
    }
    await until('traffic flows', () => this.#world.pings('a', '10.6.0.2'), 20_000);
  }

  /** Rounds under traffic. */
  async #live(forwarder: Forwarder, seconds: number): Promise<{ before: Census; after: Census }> {
    const { warmUpRounds, isAlone } = this.#options;
    const pid = this.#world.pid();
    const traffic = this.#world.spawn('ip', [
      ...['netns', 'exec', this.#world.namespace('a'), 'ping', '-q', '-i', '0.005', '-s', '1000', '10.6.0.2'],
    ]);
    const gone = new Promise((resolve) => traffic.once('exit', resolve));
    const untilMs = Date.now() + seconds * 1000;
    for (let round = 0; round < warmUpRounds; round += 1) await this.#round(forwarder);
    const before = await this.#settled(() => takeCensus(this.#world, pid, isAlone), null);
    let more = 0;
    while (more < warmUpRounds || Date.now() < untilMs) {
      await this.#round(forwarder);
      more += 1;
    }
    const after = await this.#settled(() => takeCensus(this.#world, pid, isAlone), before);
    traffic.kill('SIGKILL');
    await gone;
    if (!this.#world.pings('a', '10.6.0.2')) throw new Error(`no traffic at the end of a life${this.#world.log()}`);
    return { before, after };
  }

  /**
   * The count once nothing is more than before, or, without a count before, once it stays the same for two seconds; or when the time is over.
   */
  async #settled(count: () => Census, before: Census | null): Promise<Census> {
    const untilMs = Date.now() + SETTLE_MS;
    let last = count();
    let sameSinceMs = Date.now();
    while (Date.now() < untilMs) {
      await pause(500);
      const now = count();
      const hasGrown = compare(last, now).some(({ hasGrown }) => hasGrown);
      const hasShrunk = compare(now, last).some(({ hasGrown }) => hasGrown);
      if (hasGrown || hasShrunk) sameSinceMs = Date.now();
      last = now;
      if (before !== null && !compare(before, now).some(({ hasGrown }) => hasGrown)) return now;
      if (before === null && Date.now() - sameSinceMs >= 2500) return now;
    }
    return last;
  }

  async #round(forwarder: Forwarder): Promise<void> {
    this.#options.signal?.throwIfAborted();
    this.#rounds += 1;
    if (forwarder === 'learning') {
      await this.#ports();
      await this.#taps();
      await this.#tables();
      await this.#misbehave();
      await this.#captures();
    } else await this.#datapaths();
  }

  /** A cable and its port; in every second round the cable goes first. */
  async #ports(): Promise<void> {
    this.#world.plug('c');
    await this.#call('port.add', { name: 'c', port: {} });
    if (this.#rounds % 2 === 0) await this.#call('port.del', { name: 'c' });
    must('ip', '-n', this.#world.middle, 'link', 'delete', 'c');
    if (this.#rounds % 2 !== 0) await this.#call('port.del', { name: 'c' });
  }

  /** TAPs, one here and one in a namespace that goes before its port does. */
  async #taps(): Promise<void> {
    const namespace = `${this.#world.namespace('c')}t`;
    must('ip', 'netns', 'add', namespace);
    try {
      await this.#call('port.add', { name: 'tap0', port: { kind: 'tap' } });
      await this.#call('port.add', { name: 'tap1', port: { kind: 'tap', netns: namespace } });
    } finally {
      must('ip', 'netns', 'delete', namespace);
    }
    for (const name of ['tap0', 'tap1']) await this.#call('port.del', { name });
  }

  /** The forwarding extension goes and comes, and with it its table in the kernel. */
  async #tables(): Promise<void> {
    for (let time = 0; time < this.#options.tables; time += 1) {
      await this.#call('extension.disable', { name: 'learning' });
      await this.#call('extension.enable', { name: 'learning' });
    }
  }

  async #misbehave(): Promise<void> {
    const kind = misbehaviours[this.#rounds % misbehaviours.length];
    const module = this.#world.file('misbehaving.ts', misbehavingModule(kind));
    await this.#call('extension.add', { name: 'misbehaving', module, position: 1 });
    await until(`the extension that ${kind} is disabled`, async () => {
      const list = (await this.#call('extension.list', {})) as ExtensionInfo[];
      return list.find(({ name }) => name === 'misbehaving')?.state === 'crashed';
    });
    await this.#call('extension.del', { name: 'misbehaving' });
  }

  /** A capture, for which programs are made anew that copy, and then others that do not. */
  async #captures(): Promise<void> {
    const outcome = this.#world.millrace('capture', 'a', '--count', '3', '-w', `${this.#world.folder}/capture.pcapng`);
    if (outcome.code !== 0) throw new Error(`a capture failed: ${outcome.stderr}`);
  }

  /** Datapaths with ports and flows, more flows than their tables begin with, and the end of all. */
  async #datapaths(): Promise<void> {
    for (let time = 0; time < this.#options.tables; time += 1) {
      const datapath = `dp${time}`;
      await this.#ovs('add-dp', { datapath });
      this.#world.plug('c');
      await this.#ovs('add-if', { datapath, port: 'c' });
      await this.#ovs('add-if', { datapath, port: 'in0', type: 'internal' });
      for (let flow = 0; flow < 5; flow += 1) {
        const key = `in_port(1),eth(),eth_type(0x0800),ipv4(dst=10.0.0.${flow})`;
        await this.#ovs('add-flow', { datapath, flow: key, actions: '2' });
      }
      if (time % 2 === 0) await this.#ovs('del-if', { datapath, port: 'c' });
      must('ip', '-n', this.#world.middle, 'link', 'delete', 'c');
      await this.#ovs('del-dp', { datapath });
    }
  }

  #ovs(command: string, args: Record<string, unknown>): Promise<unknown> {
    return this.#call('extension.command', { name: 'ovs', command, args });
  }

  #call(...[method, params]: Parameters<Client['call']>): Promise<unknown> {
    if (this.#client === null) throw new Error('no daemon is connected');
    return this.#client.call(method, params);
  }

  /** The end of a life: killed, left with its flows, or stopped, in turn. */
  async #end(lives: number): Promise<void> {
    this.#client?.close();
    this.#client = null;
    const pid = this.#world.pid();
    const way = ['kill', 'kill', 'keep', 'down'][lives % 4];
    if (way === 'kill') {
      must('kill', '-9', String(pid));
      // Who is killed leaves its sockets to the next with the same configuration, and that of the pseudo device is not everybody's.
      rmSync(`${this.#world.folder}/nl.sock`, { force: true });
    } else this.#world.ok('down', ...(way === 'keep' ? ['--keep'] : []));
    await until('the process is gone', () => !existsSync(`/proc/${pid}`));
  }

  /** What should not be there any more. */
  #leftovers(): Finding[] {
    const none = (what: string, after: number): Finding => ({
      what,
      before: 0,
      after,
      allowed: 0,
      hasGrown: after > 0,
    });
    const interfaces = must('ip', '-n', this.#world.middle, '-o', 'link')
      .split('\n')
      .filter((line) => line !== '' && !/^\d+: (lo|a|b)[:@]/.test(line));
    const isPromiscuous = ['a', 'b'].filter((name) =>
      /promiscuity [1-9]/.test(must('ip', '-n', this.#world.middle, '-d', 'link', 'show', name)),
    );
    const middle = NetworkNamespace.byName(this.#world.middle);
    const tcx = middle.run(() =>
      ['a', 'b'].flatMap((name) =>
        (['ingress', 'egress'] as const).flatMap((direction) => queryTcx(name, direction)?.programs ?? []),
      ),
    );
    middle.close();
    const attached = run('ip', ['netns', 'exec', this.#world.middle, 'ip', '-o', 'link']).stdout.match(/ xdp/g) ?? [];
    return [
      none('interfaces', interfaces.length),
      none('promiscuous interfaces', isPromiscuous.length),
      none('XDP programs', attached.length),
      none('TCX programs', tcx.length),
      none('mounts', must('cat', '/proc/self/mounts').split(this.#world.folder).length - 1),
    ];
  }
}

const pause = (ms: number) => new Promise((resume) => setTimeout(resume, ms));

/** Run it. @throws Error when something does not do what it should meanwhile, or the reason of the signal that ends it */
export function soak(options: SoakOptions): Promise<SoakResult> {
  return new Soak(options).run();
}

/** What has grown, a line each. */
export function grown({ findings }: Pick<SoakResult, 'findings'>): string[] {
  return findings.flatMap(({ of, lines }) =>
    lines
      .filter(({ hasGrown }) => hasGrown)
      .map(({ what, before, after, allowed }) => `${of}: ${what}: ${before}, then ${after}, allowed ${allowed}`),
  );
}
