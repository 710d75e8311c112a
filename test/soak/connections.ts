/**
 * The soak of short connections: TCP that connects, transfers, closes and resets, and datagrams with their answers, through 16 zones of a bridge of ovs-vswitchd, half of them with translation. In the
 * end daemon and ovs-vswitchd are the processes that they were and hold what they held, every connection did what it should, none is established any more, and the table is empty. main.ts runs it for as long as wanted,
 * ../soak.test.ts for a short time.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ConnectionInfo, ConnectionStatistics } from '../../src/daemon/api.ts';
import { run } from '../daemon-world.ts';
import { OvsLab, until } from '../ovs-lab.ts';
import { compare, type Finding, takeCensus } from './census.ts';

export interface ConnectionSoakOptions {
  /** About how long, in seconds. */
  readonly seconds: number;
  /** Count eBPF objects, interfaces and namespaces of the whole system, too: nobody else uses the machine. */
  readonly isAlone: boolean;
  /** `offload` of the daemon's configuration. */
  readonly offload: 'off' | 'require';
  /** Ends it before its time; everything is undone. */
  readonly signal?: AbortSignal;
  /** Told what goes on. */
  say(line: string): void;
}

export interface ConnectionSoakResult {
  /** Connections that did what they should, and what went wrong in words. */
  readonly done: number;
  readonly wrong: readonly string[];
  readonly findings: readonly Finding[];
}

interface Told {
  readonly done: number;
  readonly failed: number;
  readonly why: readonly string[];
}

const FIRST_PORT = 7001;
const ZONES = 16;
const AT_ONCE = 24;
const MOST_A_SECOND = 400;
/** What was ended expires within so long, as the policies of the zones say. What is established stays for an hour: one that has outlived its close or reset is found. */
const TIME_OUTS = ['syn_sent', 'syn_recv', 'fin_wait', 'close_wait', 'last_ack', 'time_wait', 'close']
  .map((state) => `tcp_${state}=3`)
  .concat('tcp_established=3600', 'tcp_unack=3600', 'tcp_retransmit=3600')
  .concat('udp_first=3', 'udp_single=3', 'udp_multiple=3');
const LAST_WORDS_MS = 10_000;
const EXPIRY_MS = 30_000;
const SETTLE_MS = 20_000;

const peer = fileURLToPath(new URL('short-peer.mjs', import.meta.url));

/** A zone for each port; every other one translates the asker's address. */
function rules(): string[] {
  return Array.from({ length: ZONES }, (_, i) => {
    const [port, zone, isTranslated] = [FIRST_PORT + i, i + 1, i % 2 === 1];
    const [nat, choice] = isTranslated ? [',nat', `,nat(src=10.7.1.${zone})`] : ['', ''];
    return [
      ...['tcp', 'udp'].flatMap((protocol) => [
        `priority=100,${protocol},in_port=x,tp_dst=${port},actions=ct(zone=${zone},table=1${nat})`,
        `priority=100,${protocol},in_port=y,tp_src=${port},actions=ct(zone=${zone},table=1${nat})`,
      ]),
      `table=1,ip,ct_zone=${zone},ct_state=+new+trk,in_port=x,actions=ct(commit,zone=${zone}${choice}),output:y`,
    ];
  })
    .flat()
    .concat(
      'priority=10,arp,actions=normal',
      'table=1,priority=5,ip,ct_state=+est+trk,in_port=x,actions=output:y',
      'table=1,priority=5,ip,ct_state=+est+trk,in_port=y,actions=output:x',
      'table=1,priority=0,actions=drop',
    );
}

class ConnectionSoak {
  readonly #options: ConnectionSoakOptions;
  readonly #lab = new OvsLab(true);
  readonly #wrong: string[] = [];

  constructor(options: ConnectionSoakOptions) {
    this.#options = options;
  }

  async run(): Promise<ConnectionSoakResult> {
    const { seconds, isAlone } = this.#options;
    const { world } = this.#lab;
    try {
      await this.#start();
      const pids = this.#pids();
      // What is made once is there before the first count.
      const before = await this.#traffic(Math.min(60, seconds / 4));
      await this.#empty();
      const first = takeCensus(world, pids.daemon, isAlone);
      const told = await this.#traffic((seconds * 3) / 4);
      await this.#empty();
      for (const [name, pid] of Object.entries(this.#pids())) {
        if (pid !== pids[name as keyof typeof pids]) this.#wrong.push(`${name} is another process than it was`);
      }
      for (const { failed, why } of [before, told]) {
        if (failed > 0) this.#wrong.push(`${failed} connections failed: ${why.join('; ')}`);
      }
      const findings = await this.#counted(first, pids.daemon);
      return { done: before.done + told.done, wrong: this.#wrong, findings };
    } finally {
      await this.#lab.close();
    }
  }

  async #start(): Promise<void> {
    const lab = this.#lab;
    await lab.start(this.#options.offload, []);
    const translated = Array.from({ length: ZONES / 2 }, (_, i) => `10.7.1.${2 * i + 2}/32`);
    lab.world.host('x', '10.7.0.1/16', ...translated);
    lab.world.host('y', '10.7.0.2/16');
    lab.vsctl('add-port', 'br0', 'x', '--', 'add-port', 'br0', 'y');
    lab.vsctl(
      ...['--', '--id=@it', 'create', 'Datapath', 'datapath_version=0'],
      ...['--', 'set', 'Open_vSwitch', '.', 'datapaths:system=@it'],
    );
    for (let zone = 1; zone <= ZONES; zone += 1) lab.vsctl('add-zone-tp', 'system', `zone=${zone}`, ...TIME_OUTS);
    lab.rules(...rules());
    const server = this.#inHost('y', 'serve', String(FIRST_PORT), String(ZONES));
    await until('the servers listen', () => server.printed().includes('listening'));
  }

  #inHost(host: string, ...args: string[]) {
    const { world } = this.#lab;
    const child = world.spawn('ip', ['netns', 'exec', world.namespace(host), process.execPath, peer, ...args]);
    let printed = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (text) => {
        // Of what is said again and again the end is enough.
        printed = `${printed}${text}`.slice(-20_000);
      });
    }
    return { child, printed: () => printed };
  }

  #pids(): { daemon: number; 'ovs-vswitchd': number } {
    const { world } = this.#lab;
    const vswitchd = Number(readFileSync(join(world.folder, 'ovs-vswitchd.pid'), 'utf8'));
    if (!existsSync(`/proc/${vswitchd}`)) throw new Error('ovs-vswitchd has died');
    return { daemon: world.pid(), 'ovs-vswitchd': vswitchd };
  }

  #statistics(): ConnectionStatistics {
    return this.#lab.world.json<ConnectionStatistics>('connections', 'stats');
  }

  /** Short connections for a time, and until the last of them is over. */
  async #traffic(seconds: number): Promise<Told> {
    const { signal, say } = this.#options;
    const numbers = [FIRST_PORT, ZONES, AT_ONCE, MOST_A_SECOND].map(String);
    const asker = this.#inHost('x', 'ask', '10.7.0.2', ...numbers);
    const ended = new Promise((resolve) => asker.child.once('close', resolve));
    const last = (): Told => {
      const line = asker.printed().trimEnd().split('\n').at(-1) ?? '';
      if (!line.startsWith('{')) return { done: 0, failed: 0, why: line === '' ? [] : [line] };
      return JSON.parse(line) as Told;
    };
    const endMs = Date.now() + seconds * 1000;
    for (let saidMs = Date.now(); Date.now() < endMs && asker.child.exitCode === null; ) {
      signal?.throwIfAborted();
      await new Promise((resume) => setTimeout(resume, 250));
      if (Date.now() - saidMs < 60_000) continue;
      saidMs = Date.now();
      const { done, failed } = last();
      const { connections, zonesInUse } = this.#statistics();
      say(`${done} connections, ${failed} failed; ${connections} in ${zonesInUse} zones now`);
    }
    asker.child.kill('SIGTERM');
    await ended;
    const told = last();
    if (told.done === 0) throw new Error(`no connection came about: ${asker.printed()}${this.#lab.world.log()}`);
    return told;
  }

  /** Whether one of both sides has a connection still: a reset that is lost on a busy machine comes no second time. */
  #isOpen({ original, reply }: ConnectionInfo): boolean {
    const ends = [
      ['x', original.sourcePort, original.destinationPort],
      ['y', reply.sourcePort, reply.destinationPort],
    ] as const;
    return ends.some(([host, own, other]) => {
      const socket = `sport = ${own} and dport = ${other}`;
      const namespace = this.#lab.world.namespace(host);
      return run('ip', ['netns', 'exec', namespace, 'ss', '-Htn', 'state', 'established', socket]).stdout !== '';
    });
  }

  /** All connections were ended. Wait until they have expired: whatever is established still though no side has it, or stays, is stuck. */
  async #empty(): Promise<void> {
    const { world } = this.#lab;
    const established = () => world.json<ConnectionInfo[]>('connections', 'list', '--state', 'ESTABLISHED');
    const outlived = () => established().filter((one) => !this.#isOpen(one));
    // What both sides have said last is on its way for a moment.
    await until('no connection has outlived its end', () => outlived().length === 0, LAST_WORDS_MS).catch(() => {
      const list = outlived();
      const shown = list.slice(0, 5).map((one) => JSON.stringify(one));
      this.#wrong.push(`${list.length} connections have outlived their close or reset:\n${shown.join('\n')}`);
    });
    world.ok('connections', 'flush', '--state', 'ESTABLISHED');
    const left = () => this.#statistics().connections;
    await until('the table is empty', () => left() === 0, EXPIRY_MS).catch(() => {
      const { stdout } = this.#lab.world.millrace('connections', 'list', '-n', '5');
      this.#wrong.push(`${left()} connections are stuck:\n${stdout}`);
    });
    const { created, ended, zonesInUse } = this.#statistics();
    const over = Object.values(ended).reduce((sum, count) => sum + count, 0);
    if (this.#wrong.length === 0 && (created !== over || zonesInUse !== 0)) {
      this.#wrong.push(`${created} connections were made and ${over} have ended; ${zonesInUse} zones are in use`);
    }
  }

  /** What the daemon holds once nothing is more than before, or when the time is over. */
  async #counted(before: ReturnType<typeof takeCensus>, pid: number): Promise<Finding[]> {
    const endMs = Date.now() + SETTLE_MS;
    for (;;) {
      const findings = compare(before, takeCensus(this.#lab.world, pid, this.#options.isAlone));
      if (Date.now() > endMs || !findings.some(({ hasGrown }) => hasGrown)) return findings;
      await new Promise((resume) => setTimeout(resume, 500));
    }
  }
}

/** Run it. @throws Error when it cannot go on, or the reason of the signal that ends it */
export function soakConnections(options: ConnectionSoakOptions): Promise<ConnectionSoakResult> {
  return new ConnectionSoak(options).run();
}
