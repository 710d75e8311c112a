/**
 * npm run bench: measures Millrace beside its peers in one run. Rounds interleave the peers, so that a machine whose speed
 * drifts treats them alike; every figure is the median over the rounds.
 */

import { writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { figures } from './figures.ts';
import type { InMemoryResult } from './in-memory.ts';
import type { BpfFigures, FlowFigures } from './libraries.ts';
import { type Idle, measureIdle } from './measure/idle.ts';
import { measureLatency } from './measure/latency.ts';
import { measureSmallPackets } from './measure/small-packets.ts';
import { measureTcp } from './measure/tcp.ts';
import { LinuxBridge } from './peers/bridge.ts';
import { Millrace } from './peers/millrace.ts';
import { OpenVSwitch } from './peers/open-vswitch.ts';
import type { Peer } from './peers/peer.ts';
import { figureTable, type PeerResult, sideBySide } from './report.ts';
import { run, sleep } from './shell.ts';
import { median } from './statistics.ts';
import { TwoHosts } from './two-host.ts';

interface Options {
  rounds: number;
  seconds: number;
  only?: string[];
  json?: string | true;
}

/** Samples of one peer over the rounds. */
class Samples {
  readonly tcpOne: number[] = [];
  readonly tcpFour: number[] = [];
  readonly offered: number[] = [];
  readonly delivered: number[] = [];
  readonly machineUs: number[] = [];
  readonly p50: number[] = [];
  readonly p99: number[] = [];
  failure: string | undefined;
}

const progress = (text: string) => process.stderr.write(`${text}\n`);

async function measurePeer(peer: Peer, samples: Samples, options: Options, round: number): Promise<Idle | null> {
  const hosts = new TwoHosts(String(round));
  let idle: Idle | null = null;
  try {
    hosts.create();
    await peer.start(hosts);
    await sleep(1_000);
    hosts.inside(hosts.a, 'ping', ['-c', '3', '-i', '0.2', '-W', '2', '-q', TwoHosts.addressB]);
    if (peer instanceof Millrace && round === 0) idle = await measureIdle(peer.daemonPid, 5);
    samples.tcpOne.push(await measureTcp(hosts, 1, options.seconds));
    samples.tcpFour.push(await measureTcp(hosts, 4, options.seconds));
    const full = await measureSmallPackets(hosts, { ratePps: 'max', durationSeconds: options.seconds, flows: 16 });
    samples.offered.push(full.offeredPps);
    samples.delivered.push(full.deliveredPps);
    const steady = await measureSmallPackets(hosts, { ratePps: 100_000, durationSeconds: options.seconds, flows: 16 });
    samples.machineUs.push(steady.machineUsPerPacket);
    const latency = await measureLatency(hosts, options.seconds);
    samples.p50.push(latency.p50Us);
    samples.p99.push(latency.p99Us);
  } catch (error) {
    samples.failure = error instanceof Error ? error.message : String(error);
    progress(`  ${peer.title}: ${samples.failure}`);
  } finally {
    await peer.stop(hosts).catch((error: unknown) => progress(`  stopping ${peer.title}: ${String(error)}`));
    hosts.destroy();
  }
  return idle;
}

function summarize(peer: Peer, samples: Samples): PeerResult {
  const result: PeerResult = { id: peer.id, title: peer.title, describe: peer.describe() };
  if (samples.tcpOne.length > 0) result.tcpOneBps = median(samples.tcpOne);
  if (samples.tcpFour.length > 0) result.tcpFourBps = median(samples.tcpFour);
  if (samples.offered.length > 0) result.smallOfferedPps = median(samples.offered);
  if (samples.delivered.length > 0) result.smallDeliveredPps = median(samples.delivered);
  if (samples.machineUs.length > 0) result.machineUsPerPacket = median(samples.machineUs);
  if (samples.p50.length > 0) result.latencyP50Us = median(samples.p50);
  if (samples.p99.length > 0) result.latencyP99Us = median(samples.p99);
  if (samples.failure !== undefined) result.failure = samples.failure;
  return result;
}

const compiled = (file: string) => join(import.meta.dirname, file);

/** Run a part in a process of its own: what was compiled for the parts before would not be what users run. */
function alone<T>(title: string, args: string[]): T {
  progress(title);
  return JSON.parse(run(process.execPath, args, { timeoutMs: 180_000 })) as T;
}

async function main(options: Options): Promise<void> {
  const all: Peer[] = [
    new LinuxBridge(),
    new OpenVSwitch({ userspaceTso: false }),
    new OpenVSwitch({ userspaceTso: true }),
    new Millrace(),
  ];
  const peers = options.only === undefined ? all : all.filter((peer) => options.only?.includes(peer.id));
  const samples = new Map(peers.map((peer) => [peer, new Samples()]));
  let idle: Idle | null = null;
  for (let round = 0; round < options.rounds; round += 1) {
    for (const [peer, own] of samples) {
      progress(`round ${round + 1} of ${options.rounds}: ${peer.title}`);
      idle = (await measurePeer(peer, own, options, round)) ?? idle;
    }
  }
  const wanted = (id: string) => options.only === undefined || options.only.includes(id);
  const memory = wanted('memory')
    ? alone<InMemoryResult>('in memory', ['--expose-gc', compiled('in-memory.js')])
    : null;
  const bpf = wanted('bpf') ? alone<BpfFigures>('bpf', [compiled('libraries.js'), 'bpf']) : null;
  const flow = wanted('flow') ? alone<FlowFigures>('flow', [compiled('libraries.js'), 'flow']) : null;

  const measurements = { peers: [...samples].map(([peer, own]) => summarize(peer, own)), memory, idle, bpf, flow };
  const reached = figures(measurements);
  const machine = `${cpus().length} x ${cpus()[0]?.model ?? 'unknown processor'}, Linux ${release()}`;
  const report = {
    date: new Date().toISOString(),
    machine,
    rounds: options.rounds,
    secondsEach: options.seconds,
    ...measurements,
    figures: reached,
  };
  if (options.json === true) {
    process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    return;
  }
  process.stdout.write(`${machine}; medians of ${options.rounds} rounds of ${options.seconds} s\n`);
  process.stdout.write(`${sideBySide(measurements.peers)}\n${figureTable(reached)}\n`);
  if (typeof options.json === 'string') writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
}

function positiveInteger(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('a whole number from 1 on');
  return value;
}

const program = new Command('npm run bench --')
  .description('Measure Millrace beside the Linux bridge and Open vSwitch, in one run.')
  .option('--rounds <n>', 'rounds over all peers; figures are medians', positiveInteger, 3)
  .option('--seconds <n>', 'length of each measurement', positiveInteger, 4)
  .option('--only <peers...>', 'only these: bridge, ovs, ovs-tso, millrace, memory, bpf, flow')
  .option('--json [file]', 'JSON instead of tables, or into a file beside them');
program.action(main);
await program.parseAsync();
