/**
 * npm run bench: measures Millrace beside its peers in one run. Rounds interleave the peers, so that a machine whose speed
 * drifts treats them alike; every figure is the median over the rounds.
 */

import { writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import type { InMemoryResult } from './in-memory.ts';
import { type Idle, measureIdle } from './measure/idle.ts';
import { measureLatency } from './measure/latency.ts';
import { measureSmallPackets } from './measure/small-packets.ts';
import { measureTcp } from './measure/tcp.ts';
import { LinuxBridge } from './peers/bridge.ts';
import { Millrace } from './peers/millrace.ts';
import { OpenVSwitch } from './peers/open-vswitch.ts';
import type { Peer } from './peers/peer.ts';
import { type Figure, figureTable, type PeerResult, ratioFigure, sideBySide } from './report.ts';
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
  progress('in memory');
  // A process of its own: what was compiled for the rounds before would not be what users run.
  const inMemory = join(import.meta.dirname, 'in-memory.js');
  const memory: InMemoryResult = JSON.parse(run(process.execPath, ['--expose-gc', inMemory], { timeoutMs: 120_000 }));

  const results = [...samples].map(([peer, own]) => summarize(peer, own));
  const of = (id: string) => results.find((r) => r.id === id);
  const ours = of('millrace');
  const figures: Figure[] = [
    ratioFigure('TCP, one stream, to Linux bridge', ours?.tcpOneBps, of('bridge')?.tcpOneBps, 0.75),
    ratioFigure('TCP, one stream, to OVS userspace with TSO', ours?.tcpOneBps, of('ovs-tso')?.tcpOneBps, 1.1),
    ratioFigure('TCP, one stream, to OVS userspace as installed', ours?.tcpOneBps, of('ovs')?.tcpOneBps, 10),
    ratioFigure(
      'Small packets delivered, to OVS userspace',
      ours?.smallDeliveredPps,
      of('ovs')?.smallDeliveredPps,
      1.7,
    ),
  ].filter((figure) => figure !== null);
  figures.push({
    what: 'In memory, learning, 64-byte frames',
    wanted: '>= 3.00 Mpps',
    measured: `${(memory.packetsPerSecond / 1e6).toFixed(2)} Mpps`,
    reached: memory.packetsPerSecond >= 3e6,
  });
  figures.push({
    what: `Heap growth over ${memory.packets / 1e6} million packets`,
    wanted: 'none',
    measured: `${(memory.heapGrowthBytes / 1024).toFixed(0)} KiB`,
    reached: memory.heapGrowthBytes <= 256 * 1024,
  });
  if (idle !== null) {
    figures.push({
      what: 'Idle processor',
      wanted: '< 1 %',
      measured: `${idle.cpuPercent.toFixed(2)} %`,
      reached: idle.cpuPercent < 1,
    });
    const megabytes = idle.residentBytes / 1e6;
    figures.push({
      what: 'Idle resident memory',
      wanted: '< 150 MB',
      measured: `${megabytes.toFixed(0)} MB`,
      reached: megabytes < 150,
    });
  }
  const machine = `${cpus().length} x ${cpus()[0]?.model ?? 'unknown processor'}, Linux ${release()}`;
  const report = {
    date: new Date().toISOString(),
    machine,
    rounds: options.rounds,
    secondsEach: options.seconds,
    results,
    figures,
    idle,
    memory,
  };
  if (options.json === true) {
    process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    return;
  }
  process.stdout.write(`${machine}; medians of ${options.rounds} rounds of ${options.seconds} s\n`);
  process.stdout.write(`${sideBySide(results)}\n${figureTable(figures)}\n`);
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
  .option('--only <peers...>', 'only these: bridge, ovs, ovs-tso, millrace')
  .option('--json [file]', 'JSON instead of tables, or into a file beside them');
program.action(main);
await program.parseAsync();
