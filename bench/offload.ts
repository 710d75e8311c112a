/**
 * What flows in the kernel cost by themselves: the daemon's own program on a flow it knows, run in memory (BPF_PROG_TEST_RUN), beside
 * a program that does nothing at the same hook. Neighbour: puts.ts has the other half, what it costs to put them there.
 */
import { loadProgram, Program, ProgramBuilder, TC, XDP } from '../src/bpf/index.ts';
import { NetworkNamespace } from '../src/host/index.ts';
import type { Pace } from './forward.ts';
import { generatorArguments, showStationBehindB } from './measure/small-packets.ts';
import { DaemonUnderTest } from './peers/daemon.ts';
import { NotAvailable } from './peers/peer.ts';
import { prepareHostsForXdp } from './peers/redirect.ts';
import { contextOf, measurePuts, type PutFigures } from './puts.ts';
import { progress, run, sleep } from './shell.ts';
import { median } from './statistics.ts';
import { interfaceIndex, MAC_BEHIND_B, TwoHosts } from './two-host.ts';

/** Nanoseconds of one run. */
export interface ProgramCost {
  readonly programNs: number;
  readonly emptyNs: number;
}

/** Medians; absent where it could not be measured, with the reason in `notAvailable`. */
export interface OffloadFigures {
  readonly cost: Readonly<Partial<Record<'tc' | 'xdp', ProgramCost>>>;
  readonly puts: Readonly<Partial<Record<'tc' | 'xdp', PutFigures>>>;
  readonly notAvailable: Readonly<Record<string, string>>;
}

const REPEAT = 1_000_000;
/** Frames of the flow, of which some go through the engine until the flow is in the kernel. */
const FRAMES = 2_000;
const TYPE = { tc: 'sched_cls', xdp: 'xdp' } as const;
const REDIRECTED = { tc: TC.REDIRECT, xdp: XDP.REDIRECT } as const;
const SOURCE_PORT = 4000;

/** A frame of the traffic that the flow was learned from: 60 bytes, UDP from A to the station behind B. */
function frame(): Uint8Array {
  const bytes = new Uint8Array(60);
  const mac = (text: string) => text.split(':').map((part) => Number.parseInt(part, 16));
  bytes.set([...mac(MAC_BEHIND_B), ...mac(TwoHosts.macA), 8, 0], 0);
  bytes.set([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2], 14);
  bytes.set([SOURCE_PORT >>> 8, SOURCE_PORT & 0xff, 0, 9, 0, 26], 34);
  const view = new DataView(bytes.buffer);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += view.getUint16(at);
  view.setUint16(24, ~((sum & 0xffff) + (sum >>> 16)) & 0xffff);
  return bytes;
}

function emptyProgram(hook: 'tc' | 'xdp'): Program {
  const b = new ProgramBuilder('empty');
  b.return(hook === 'tc' ? TC.OK : XDP.PASS);
  return loadProgram({ type: TYPE[hook], code: b });
}

async function measureCost(hook: 'tc' | 'xdp', round: number): Promise<ProgramCost> {
  const hosts = new TwoHosts(`o${round}`);
  const daemon = new DaemonUnderTest();
  try {
    hosts.create();
    if (hook === 'xdp') prepareHostsForXdp(hosts);
    daemon.start(hosts, { brain: 'learning', hook });
    daemon.requireOffload(hook);
    for (const name of ['sa', 'sb']) hosts.inside(hosts.middle, 'ethtool', ['-K', name, 'gro', 'on']);
    showStationBehindB(hosts);
    const traffic = [
      '--count',
      String(FRAMES),
      '--pps',
      '2000',
      '--src-port',
      String(SOURCE_PORT),
      '--src-mac',
      TwoHosts.macA,
    ];
    const target = ['--dst-mac', MAC_BEHIND_B, '--src-ip', TwoHosts.addressA, '--dst-ip', TwoHosts.addressB];
    run('ip', generatorArguments(hosts.a, [...traffic, ...target]));
    await sleep(100);
    const carried = daemon.requireOffload(hook).find(({ port }) => port === 'sa')?.carriedPackets ?? 0;
    if (carried < FRAMES / 2) throw new NotAvailable(`the kernel carried ${carried} of ${FRAMES} packets of a flow`);
    return runBoth(hook, hosts, daemon);
  } finally {
    daemon.stop();
    hosts.destroy();
  }
}

/** The program of port sa. It may be exchanged while it is asked for. */
function openProgram(hook: 'tc' | 'xdp', daemon: DaemonUnderTest): Program {
  for (let attempt = 1; ; attempt += 1) {
    const programId = daemon.requireOffload(hook).find(({ port }) => port === 'sa')?.program;
    if (programId === undefined || programId === null)
      throw new NotAvailable('offload show names no program of port sa');
    try {
      return Program.byId(programId, TYPE[hook]);
    } catch (error) {
      if (attempt === 5) throw error;
    }
  }
}

function runBoth(hook: 'tc' | 'xdp', hosts: TwoHosts, daemon: DaemonUnderTest): ProgramCost {
  const data = frame();
  const context = contextOf(hook, data.length, interfaceIndex(hosts, hosts.middle, 'sa'));
  const program = openProgram(hook, daemon);
  const empty = emptyProgram(hook);
  const namespace = NetworkNamespace.byName(hosts.middle);
  try {
    return namespace.run(() => {
      const input = { data, context, repeat: REPEAT };
      const [ours, nothing] = [program.run(input), empty.run(input)];
      if (ours.result !== REDIRECTED[hook]) {
        throw new NotAvailable(
          `the program of port sa does not forward a frame of a known flow: verdict ${ours.result}`,
        );
      }
      return { programNs: ours.durationNs, emptyNs: nothing.durationNs };
    });
  } finally {
    namespace.close();
    empty.close();
    program.close();
  }
}

const HOOKS = ['tc', 'xdp'] as const;

/** Measure all of it, in turns. */
export async function benchOffload(pace: Pace): Promise<OffloadFigures> {
  const costs = { tc: [] as ProgramCost[], xdp: [] as ProgramCost[] };
  const puts = { tc: [] as PutFigures[], xdp: [] as PutFigures[] };
  const notAvailable: Record<string, string> = {};
  const attempt = async (what: string, round: number, measure: () => unknown) => {
    if (what in notAvailable) return;
    progress(`round ${round + 1} of ${pace.rounds}: ${what}`);
    try {
      await measure();
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      notAvailable[what] = error instanceof NotAvailable ? text : `failed: ${text}`;
      progress(`  ${notAvailable[what]}`);
    }
  };
  for (let round = 0; round < pace.rounds; round += 1) {
    for (const hook of HOOKS) {
      await attempt(`program at ${hook}`, round, async () => costs[hook].push(await measureCost(hook, round)));
      await attempt(`puts at ${hook}`, round, () => puts[hook].push(measurePuts(hook, round)));
    }
  }
  return {
    cost: byHook(costs, ['programNs', 'emptyNs']),
    puts: byHook(puts, ['activeP50Us', 'activeP99Us', 'putsPerSecond']),
    notAvailable,
  };
}

/** Medians of every field; hooks without a sample are left out. */
function byHook<T extends { readonly [K in Key]: number }, Key extends string>(
  samples: Readonly<Record<'tc' | 'xdp', readonly T[]>>,
  keys: readonly Key[],
): Partial<Record<'tc' | 'xdp', Record<Key, number>>> {
  const all: Partial<Record<'tc' | 'xdp', Record<Key, number>>> = {};
  for (const hook of HOOKS) {
    const own = samples[hook];
    if (own.length === 0) continue;
    const entries = keys.map((key) => [key, median(own.map((one) => one[key]))]);
    all[hook] = Object.fromEntries(entries) as Record<Key, number>;
  }
  return all;
}
