/**
 * Open vSwitch's control of a Millrace datapath: new flows a second through upcalls, beside OVS's own userspace datapath, which has no
 * process to cross; how long ovs-dpctl takes to list a full table; and how long 100 ports take to come and to go.
 */
import { writeFileSync } from 'node:fs';
import { generate } from '../src/bpf/index.ts';
import { NetworkNamespace } from '../src/host/index.ts';
import type { Pace } from './forward.ts';
import { DaemonUnderTest } from './peers/daemon.ts';
import { flowList, portNumbers } from './peers/flows.ts';
import type { OffloadHook } from './peers/millrace.ts';
import { OpenVSwitch } from './peers/open-vswitch.ts';
import { NotAvailable } from './peers/peer.ts';
import { progress, sleep } from './shell.ts';
import { median } from './statistics.ts';
import { MAC_BEHIND_B, TwoHosts } from './two-host.ts';
import { ControlSocket } from './unixctl.ts';

/** Medians; absent where it could not be measured, with the reason in `notAvailable`. */
export interface OvsFigures {
  /** New flows a second by what was asked to set them up: `ovs`, `millrace-ovs`, `millrace-ovs-tc`. */
  readonly setUpPerSecond: Readonly<Record<string, number>>;
  /** `ovs-dpctl` on 100,000 megaflows under 8 masks: what `add-flows` puts a second, and the time of `dump-flows`. */
  readonly table?: { readonly flows: number; readonly putPerSecond: number; readonly dumpSeconds: number };
  /** Seconds until ovs-vsctl returns from adding ports to a bridge, and from deleting that, by who has the datapath. */
  readonly ports: Readonly<
    Record<string, { readonly count: number; readonly addSeconds: number; readonly delSeconds: number }>
  >;
  readonly notAvailable: Readonly<Record<string, string>>;
}

/** Something with ovs-vswitchd whose flows are set up. */
interface Contender {
  readonly id: string;
  start(hosts: TwoHosts): Promise<void>;
  stop(hosts: TwoHosts): Promise<void>;
  ofctl(...args: string[]): void;
  vsctl(...args: string[]): void;
  /** Path of ovs-vswitchd's control socket. */
  readonly control: string;
}

class Userspace implements Contender {
  readonly id = 'ovs';
  readonly #peer = new OpenVSwitch('plain');
  start = (hosts: TwoHosts) => this.#peer.start(hosts);
  stop = () => this.#peer.stop();
  ofctl = (...args: string[]) => this.#peer.ofctl(...args);
  vsctl = (...args: string[]) => this.#peer.vsctl(...args);

  get control(): string {
    return this.#peer.control;
  }
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

  vsctl(...args: string[]): void {
    this.#daemon.inside('ovs-vsctl', ...args);
  }

  get control(): string {
    return this.#daemon.control;
  }
}

/** Reading the source port makes every UDP port a megaflow of its own. */
const RULE = 'priority=100,udp,actions=move:NXM_OF_UDP_SRC[]->NXM_NX_REG0[0..15],output:2';
/** Different flows, offered in turn and faster than anybody sets them up; a packet that is lost comes again in the next turn. */
const OFFERED_FLOWS = 65_536;
const OFFERED_PPS = 300_000;
/** Counted from here: what comes first pays for what is done once. */
const FIRST_FLOWS = 500;
/** Counted up to this share of the limit that ovs-vswitchd gives itself: 10,000 until its revalidators have seen how quick they are. */
const FILLED_SHARE = 0.9;
/** From an empty table each time. */
const FILLS = 5;
const TIME_OUT_MS = 8_000;

async function setUpRate(contender: Contender, round: number): Promise<number> {
  const hosts = new TwoHosts(`f${round}`);
  try {
    hosts.create();
    await contender.start(hosts);
    hosts.inside(hosts.middle, 'ethtool', ['-K', 'sa', 'gro', 'on']);
    contender.ofctl('add-flow', 'br0', RULE);
    await sleep(500);
    const control = await ControlSocket.connect(contender.control);
    try {
      await fill(hosts, control);
      const rates: number[] = [];
      for (let turn = 0; turn < FILLS; turn += 1) rates.push(await fill(hosts, control));
      progress(`  ${rates.map((rate) => Math.round(rate)).join(', ')} flows/s`);
      return median(rates);
    } finally {
      control.close();
    }
  } finally {
    await contender.stop(hosts).catch((error: unknown) => progress(`  stopping ${contender.id}: ${String(error)}`));
    hosts.destroy();
  }
}

/** Send new flows at an empty table. @returns what it gains in a second */
async function fill(hosts: TwoHosts, control: ControlSocket): Promise<number> {
  await control.call('revalidator/purge');
  const limit = Number(/\(limit (\d+)\)/.exec(await control.call('upcall/show'))?.[1]);
  const stop = new AbortController();
  const home = NetworkNamespace.current();
  const a = NetworkNamespace.byName(hosts.a);
  // The kernel looks the interface up where this thread is. No process for it: its start would be in the way of what is measured.
  a.enter();
  try {
    const sending = generate({
      netdev: 'e0',
      pps: OFFERED_PPS,
      flows: OFFERED_FLOWS,
      sourceMac: TwoHosts.macA,
      destinationMac: MAC_BEHIND_B,
      sourceAddress: TwoHosts.addressA,
      destinationAddress: TwoHosts.addressB,
      signal: stop.signal,
    });
    sending.catch(() => undefined);
    try {
      return await growth(control, limit * FILLED_SHARE);
    } finally {
      stop.abort();
      await sending;
    }
  } finally {
    home.enter();
    home.close();
    a.close();
  }
}

/** What the number of flows gains in a second, from the first ones until there are enough. */
async function growth(control: ControlSocket, enough: number): Promise<number> {
  const deadline = performance.now() + TIME_OUT_MS;
  let [firstMs, first, lastMs, last] = [0, 0, 0, 0];
  while (performance.now() < deadline) {
    const before = performance.now();
    const flows = flowsIn(await control.call('dpctl/show'));
    const nowMs = (before + performance.now()) / 2;
    // Beyond the limit no more come, so that a count above it says less than the one before, if there was one.
    if (flows > enough && last > first) break;
    if (flows >= FIRST_FLOWS) {
      if (first === 0) [first, firstMs] = [flows, nowMs];
      [last, lastMs] = [flows, nowMs];
    }
    await sleep(10);
  }
  if (last <= first) throw new Error(`only ${last} flows were set up within ${TIME_OUT_MS} ms`);
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

const PORTS = 100;

interface PortTimes {
  readonly addSeconds: number;
  readonly delSeconds: number;
}

/** Ports of a bridge, all in one transaction, as orchestrators add them. */
async function measurePorts(contender: Contender, round: number): Promise<PortTimes> {
  const hosts = new TwoHosts(`p${round}`);
  try {
    hosts.create();
    const names = Array.from({ length: PORTS }, (_, i) => `q${i}`);
    for (const name of names) {
      hosts.inside(hosts.middle, 'ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}p`]);
      for (const end of [name, `${name}p`]) hosts.inside(hosts.middle, 'ip', ['link', 'set', end, 'up']);
    }
    await contender.start(hosts);
    const type = contender.id === 'ovs' ? ['--', 'set', 'bridge', 'brq', 'datapath_type=netdev'] : [];
    const begun = performance.now();
    contender.vsctl('add-br', 'brq', ...type, ...names.flatMap((name) => ['--', 'add-port', 'brq', name]));
    const added = performance.now();
    contender.vsctl('del-br', 'brq');
    return { addSeconds: (added - begun) / 1000, delSeconds: (performance.now() - added) / 1000 };
  } finally {
    await contender.stop(hosts).catch((error: unknown) => progress(`  stopping ${contender.id}: ${String(error)}`));
    hosts.destroy();
  }
}

/** Measure all of it, in turns. */
export async function benchOvs(pace: Pace): Promise<OvsFigures> {
  const contenders: Contender[] = [new Userspace(), new OnMillrace('off'), new OnMillrace('tc')];
  const rates = new Map<string, number[]>();
  const tables: { putPerSecond: number; dumpSeconds: number }[] = [];
  const ports = new Map<string, PortTimes[]>();
  const notAvailable: Record<string, string> = {};
  for (let round = 0; round < pace.rounds; round += 1) {
    for (const contender of contenders) {
      if (contender.id in notAvailable) continue;
      progress(`round ${round + 1} of ${pace.rounds}: flow set-up, ${contender.id}`);
      try {
        const rate = await setUpRate(contender, round);
        rates.set(contender.id, [...(rates.get(contender.id) ?? []), rate]);
      } catch (error) {
        progress(`  ${contender.id}: ${String(error)}`);
        notAvailable[contender.id] = reasonOf(error);
      }
    }
    for (const contender of contenders) {
      const { id } = contender;
      if (`ports ${id}` in notAvailable) continue;
      progress(`round ${round + 1} of ${pace.rounds}: ${PORTS} ports, ${id}`);
      try {
        ports.set(id, [...(ports.get(id) ?? []), await measurePorts(contender, round)]);
      } catch (error) {
        progress(`  ${id}: ${String(error)}`);
        notAvailable[`ports ${id}`] = reasonOf(error);
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
    ports: Object.fromEntries(
      [...ports].map(([id, times]) => {
        const [addSeconds, delSeconds] = [
          median(times.map((one) => one.addSeconds)),
          median(times.map((one) => one.delSeconds)),
        ];
        return [id, { count: PORTS, addSeconds, delSeconds }];
      }),
    ),
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
