/**
 * Open vSwitch's control of a Millrace datapath: new flows a second through upcalls, beside OVS's own userspace datapath, which has no
 * process to cross; and how long ovs-dpctl takes to list a full table.
 */
import { writeFileSync } from 'node:fs';
import type { Pace } from './forward.ts';
import { generatorArguments } from './measure/small-packets.ts';
import { DaemonUnderTest } from './peers/daemon.ts';
import { flowList, portNumbers } from './peers/flows.ts';
import type { OffloadHook } from './peers/millrace.ts';
import { OpenVSwitch } from './peers/open-vswitch.ts';
import { NotAvailable } from './peers/peer.ts';
import { progress, runAside, sleep } from './shell.ts';
import { median } from './statistics.ts';
import { MAC_BEHIND_B, TwoHosts } from './two-host.ts';

/** Medians; absent where it could not be measured, with the reason in `notAvailable`. */
export interface OvsFigures {
  /** New flows a second by what was asked to set them up: `ovs`, `millrace-ovs`, `millrace-ovs-tc`. */
  readonly setUpPerSecond: Readonly<Record<string, number>>;
  /** `ovs-dpctl` on 100,000 megaflows under 8 masks: what `add-flows` puts a second, and the time of `dump-flows`. */
  readonly table?: { readonly flows: number; readonly putPerSecond: number; readonly dumpSeconds: number };
  readonly notAvailable: Readonly<Record<string, string>>;
}

/** Something with ovs-vswitchd whose flows are set up. */
interface Contender {
  readonly id: string;
  start(hosts: TwoHosts): Promise<void>;
  stop(hosts: TwoHosts): Promise<void>;
  ofctl(...args: string[]): void;
  /** What `ovs-appctl dpctl/show` prints. */
  show(): string;
}

class Userspace implements Contender {
  readonly id = 'ovs';
  readonly #peer = new OpenVSwitch('plain');
  start = (hosts: TwoHosts) => this.#peer.start(hosts);
  stop = () => this.#peer.stop();
  ofctl = (...args: string[]) => this.#peer.ofctl(...args);
  show = () => this.#peer.appctl('dpctl/show');
}

class OnMillrace implements Contender {
  readonly id: string;
  readonly #daemon = new DaemonUnderTest();
  readonly #hook: OffloadHook;

  constructor(hook: OffloadHook) {
    this.#hook = hook;
    this.id = hook === 'off' ? 'millrace-ovs' : `millrace-ovs-${hook}`;
  }

  async start(hosts: TwoHosts): Promise<void> {
    this.#daemon.start(hosts, { brain: 'ovs', hook: this.#hook });
    this.#daemon.startOpenVSwitch();
    if (this.#hook !== 'off') this.#daemon.requireOffload(this.#hook);
  }

  async stop(): Promise<void> {
    this.#daemon.stop();
  }

  ofctl(...args: string[]): void {
    this.#daemon.inside('ovs-ofctl', ...args);
  }

  show(): string {
    return this.#daemon.inside('ovs-appctl', '-t', 'ovs-vswitchd', 'dpctl/show');
  }
}

/** Reading the source port makes every UDP port a megaflow of its own. */
const RULE = 'priority=100,udp,actions=move:NXM_OF_UDP_SRC[]->NXM_NX_REG0[0..15],output:2';
/** Different flows, offered in turn and faster than anybody sets them up; a packet that is lost comes again in the next turn. */
const OFFERED_FLOWS = 65_536;
const OFFERED_PPS = 300_000;
/** With more of them in place, too few of the packets offered would be new. */
const ENOUGH_FLOWS = OFFERED_FLOWS / 2;
/** When the counting starts: the first of all pay for what is done once. */
const FIRST_FLOWS = 500;
const TIME_OUT_MS = 8_000;

async function setUpRate(contender: Contender, round: number): Promise<number> {
  const hosts = new TwoHosts(`f${round}`);
  try {
    hosts.create();
    await contender.start(hosts);
    hosts.inside(hosts.middle, 'ethtool', ['-K', 'sa', 'gro', 'on']);
    contender.ofctl('add-flow', 'br0', RULE);
    await sleep(500);
    const stop = new AbortController();
    const frames = ['--pps', String(OFFERED_PPS), '--flows', String(OFFERED_FLOWS), '--src-mac', TwoHosts.macA];
    const target = ['--dst-mac', MAC_BEHIND_B, '--src-ip', TwoHosts.addressA, '--dst-ip', TwoHosts.addressB];
    const until = ['--duration', `${TIME_OUT_MS / 1000}s`];
    const generator = runAside('ip', generatorArguments(hosts.a, [...frames, ...target, ...until]), {
      signal: stop.signal,
    }).catch((error: unknown) => {
      if (!stop.signal.aborted) throw error;
    });
    generator.catch(() => undefined);
    try {
      return await growth(() => flowsIn(contender.show()));
    } finally {
      stop.abort();
      await generator;
    }
  } finally {
    await contender.stop(hosts).catch((error: unknown) => progress(`  stopping ${contender.id}: ${String(error)}`));
    hosts.destroy();
  }
}

/** What a count that goes up gains in a second, from its first entries until there are enough. */
async function growth(read: () => number): Promise<number> {
  const start = performance.now();
  let [firstMs, first, lastMs, last] = [0, 0, 0, 0];
  while (performance.now() - start < TIME_OUT_MS) {
    const before = performance.now();
    last = read();
    lastMs = (before + performance.now()) / 2;
    if (first === 0 && last >= FIRST_FLOWS) [first, firstMs] = [last, lastMs];
    if (last >= ENOUGH_FLOWS && lastMs > firstMs) break;
    await sleep(20);
  }
  if (first === 0 || lastMs <= firstMs) throw new Error(`only ${last} flows were set up`);
  return ((last - first) * 1000) / (lastMs - firstMs);
}

function flowsIn(shown: string): number {
  return Number(/^\s*flows: (\d+)/m.exec(shown)?.[1] ?? 0);
}

const TABLE_FLOWS = 100_000;
const TABLE_MASKS = 8;

function measureTable(round: number): { putPerSecond: number; dumpSeconds: number } {
  const hosts = new TwoHosts(`t${round}`);
  const daemon = new DaemonUnderTest();
  try {
    hosts.create();
    daemon.start(hosts, { brain: 'ovs', hook: 'off' });
    const dpctl = (...args: string[]) => daemon.millrace('ovs', 'exec', '--', 'ovs-dpctl', ...args);
    dpctl('add-dp', 'bench');
    dpctl('add-if', 'bench', 'sa', 'sb');
    const { inPort, outPort } = portNumbers(dpctl('show', 'bench'));
    const file = daemon.file('flows.txt');
    writeFileSync(file, flowList(TABLE_MASKS, TABLE_FLOWS, inPort, outPort));
    const begun = performance.now();
    dpctl('add-flows', 'bench', file);
    const put = performance.now();
    const listed = dpctl('dump-flows', 'bench').split('\n').length - 1;
    const dumped = performance.now();
    if (listed !== TABLE_FLOWS) throw new Error(`ovs-dpctl listed ${listed} of ${TABLE_FLOWS} flows`);
    return { putPerSecond: (TABLE_FLOWS * 1000) / (put - begun), dumpSeconds: (dumped - put) / 1000 };
  } finally {
    daemon.stop();
    hosts.destroy();
  }
}

/** Measure all of it, in turns. */
export async function benchOvs(pace: Pace): Promise<OvsFigures> {
  const contenders: Contender[] = [new Userspace(), new OnMillrace('off'), new OnMillrace('tc')];
  const rates = new Map<string, number[]>();
  const tables: { putPerSecond: number; dumpSeconds: number }[] = [];
  const notAvailable: Record<string, string> = {};
  for (let round = 0; round < pace.rounds; round += 1) {
    for (const contender of contenders) {
      if (contender.id in notAvailable) continue;
      progress(`round ${round + 1} of ${pace.rounds}: flow set-up, ${contender.id}`);
      try {
        const rate = await setUpRate(contender, round);
        rates.set(contender.id, [...(rates.get(contender.id) ?? []), rate]);
        progress(`  ${Math.round(rate)} flows/s`);
      } catch (error) {
        progress(`  ${contender.id}: ${String(error)}`);
        notAvailable[contender.id] = reasonOf(error);
      }
    }
    if ('table' in notAvailable) continue;
    progress(`round ${round + 1} of ${pace.rounds}: ovs-dpctl on ${TABLE_FLOWS} flows`);
    try {
      tables.push(measureTable(round));
    } catch (error) {
      progress(`  ${String(error)}`);
      notAvailable.table = reasonOf(error);
    }
  }
  return {
    setUpPerSecond: Object.fromEntries([...rates].map(([id, values]) => [id, median(values)])),
    ...(tables.length === 0
      ? {}
      : {
          table: {
            flows: TABLE_FLOWS,
            putPerSecond: median(tables.map((one) => one.putPerSecond)),
            dumpSeconds: median(tables.map((one) => one.dumpSeconds)),
          },
        }),
    notAvailable,
  };
}

function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return error instanceof NotAvailable ? text : `failed: ${text}`;
}
