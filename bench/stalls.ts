/**
 * For how long the datapath thread takes no packets while it has other things to do: programs change, tables grow, ports come and go. Round trips
 * between A and B go through the engine all the time, one after another, and the longest of them tells. What changes concerns other ports.
 * Neighbours: measure/latency.ts measures round trips, pseudo-device.ts puts flows.
 */
import { Client } from '../src/daemon/client.ts';
import type { Pace } from './forward.ts';
import { measureLatency } from './measure/latency.ts';
import { DaemonUnderTest } from './peers/daemon.ts';
import { portNumber } from './peers/flows.ts';
import { NotAvailable } from './peers/peer.ts';
import { type DropFlow, PseudoDeviceClient } from './pseudo-device.ts';
import { progress, run, sleep } from './shell.ts';
import { median } from './statistics.ts';
import { interfaceIndex, TwoHosts } from './two-host.ts';

/** What goes on meanwhile. `nothing` is what the machine itself does to round trips. */
export const WORKS = ['nothing', 'programs', 'tables', 'ports'] as const;
export type Work = (typeof WORKS)[number];

export interface StallFigures {
  /** Medians over rounds of the longest round trip, in milliseconds. */
  readonly longestMs: Readonly<Partial<Record<Work, number>>>;
  readonly notAvailable: Readonly<Record<string, string>>;
}

const SECONDS = 3;
/** Masks, each of which makes for another program, and how long after one the next comes. */
const MASKS = 24;
const MASK_MS = 100;
const FIRST_MASKED = 0x0b00_0000;
/** So many that tables of 16,384 entries grow twice. */
const MANY_FLOWS = 80_000;
const FIRST_MANY = 0x0a20_0000;
const FLOWS_A_DATAGRAM = 32;
/** Ports that come and go. */
const GUESTS = ['g0', 'g1', 'g2', 'g3'];
const GUEST_MS = 50;

/** Measure in a daemon of its own each round. */
export async function benchStalls(pace: Pace): Promise<StallFigures> {
  const rounds: Record<Work, number[]> = { nothing: [], programs: [], tables: [], ports: [] };
  const notAvailable: Record<string, string> = {};
  try {
    for (let round = 0; round < pace.rounds; round += 1) {
      progress(`round ${round + 1} of ${pace.rounds}: stalls of the datapath thread`);
      const bench = new StallBench(round);
      try {
        await bench.start();
        for (const work of WORKS) rounds[work].push(await bench.longestMs(work));
      } finally {
        bench.stop();
      }
    }
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    notAvailable.stalls = error instanceof NotAvailable ? text : `failed: ${text}`;
  }
  const measured = WORKS.filter((work) => rounds[work].length > 0);
  return { longestMs: Object.fromEntries(measured.map((work) => [work, median(rounds[work])])), notAvailable };
}

class StallBench {
  readonly #hosts: TwoHosts;
  readonly #daemon = new DaemonUnderTest();
  #client: PseudoDeviceClient | null = null;
  #control: Client | null = null;
  #datapath = 0;
  #inPort = 0;

  constructor(round: number) {
    this.#hosts = new TwoHosts(`t${round}`);
  }

  /** A and B talk through the engine; flows are put for a third port, sc, which the kernel carries. */
  async start(): Promise<void> {
    const hosts = this.#hosts;
    hosts.create();
    const pair = (name: string, peer: string) => {
      run('ip', ['-n', hosts.middle, 'link', 'add', name, 'type', 'veth', 'peer', 'name', peer]);
      for (const end of [name, peer]) run('ip', ['-n', hosts.middle, 'link', 'set', end, 'up']);
    };
    pair('sc', 'sc-far');
    for (const guest of GUESTS) pair(guest, `${guest}-far`);
    const daemon = this.#daemon;
    daemon.start(hosts, { brain: 'ovs', hook: 'tc' });
    for (const port of ['sa', 'sb']) daemon.millrace('port', 'set', port, 'offload=off');
    daemon.millrace('port', 'add', 'sc', 'ovsName=sc');
    const dpctl = (...args: string[]) => daemon.millrace('ovs', 'exec', '--', 'ovs-dpctl', ...args);
    dpctl('add-dp', 'bench');
    dpctl('add-if', 'bench', 'sa', 'sb', 'sc');
    const shown = dpctl('show', 'bench');
    const [a, b] = ['sa', 'sb'].map((name) => portNumber(shown, name));
    for (const [from, to] of [
      [a, b],
      [b, a],
    ]) {
      for (const type of ['0x0800),ipv4(frag=no', '0x0806),arp(']) {
        dpctl('add-flow', 'bench', `in_port(${from}),eth(),eth_type(${type})`, String(to));
      }
    }
    this.#inPort = portNumber(shown, 'sc');
    this.#datapath = interfaceIndex(hosts, hosts.middle, 'bench');
    this.#client = new PseudoDeviceClient(daemon.pseudoDevice);
    this.#control = await Client.connect(daemon.socket);
    this.#put([{ inPort: this.#inPort, source: FIRST_MANY - 1 }]);
    hosts.inside(hosts.a, 'ping', ['-c', '3', '-i', '0.2', '-W', '2', '-q', TwoHosts.addressB]);
    await measureLatency(hosts, 1);
  }

  #put(flows: readonly DropFlow[]): void {
    this.#client?.put(this.#datapath, flows);
  }

  /** The longest round trip while something goes on. */
  async longestMs(work: Work): Promise<number> {
    const measured = measureLatency(this.#hosts, SECONDS);
    // sockperf's server and its warm-up come first.
    await sleep(1000);
    const works: Record<Work, () => Promise<void>> = {
      nothing: async () => undefined,
      programs: () => this.#changePrograms(),
      tables: () => this.#growTables(),
      ports: () => this.#changePorts(),
    };
    const [{ maxUs }] = await Promise.all([measured, works[work]()]);
    return maxUs / 1000;
  }

  async #changePrograms(): Promise<void> {
    for (let i = 0; i < MASKS; i += 1) {
      // Each has eight bits of its own.
      const sourceMask = (0xffff_ffff << (24 - i)) >>> 0;
      this.#put([{ inPort: this.#inPort, source: FIRST_MASKED + i * 0x0100_0000, sourceMask }]);
      await sleep(MASK_MS);
    }
  }

  async #growTables(): Promise<void> {
    const inPort = this.#inPort;
    for (let done = 0; done < MANY_FLOWS; done += FLOWS_A_DATAGRAM) {
      const flows = Array.from({ length: FLOWS_A_DATAGRAM }, (_, i) => ({ inPort, source: FIRST_MANY + done + i }));
      this.#put(flows);
      // The round trips are to come between.
      if (done % (FLOWS_A_DATAGRAM * 32) === 0) await sleep(1);
    }
  }

  async #changePorts(): Promise<void> {
    for (const guest of GUESTS) {
      await this.#control?.call('port.add', { name: guest, port: { kind: 'netdev', offload: 'tc' } });
      await sleep(GUEST_MS);
    }
    for (const guest of GUESTS) {
      await this.#control?.call('port.del', { name: guest });
      await sleep(GUEST_MS);
    }
  }

  stop(): void {
    this.#client?.close();
    this.#control?.close();
    this.#daemon.stop();
    this.#hosts.destroy();
  }
}
