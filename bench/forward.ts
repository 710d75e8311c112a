/** The side-by-side part: peers in turn between the two hosts, round after round; every figure is the median over the rounds. */
import { type Idle, measureIdle } from './measure/idle.ts';
import { measureLatency } from './measure/latency.ts';
import { measureSmallPackets } from './measure/small-packets.ts';
import { measureTcp } from './measure/tcp.ts';
import { Flows } from './peers/flows.ts';
import { Millrace } from './peers/millrace.ts';
import { bridged, NotAvailable, type Peer } from './peers/peer.ts';
import type { PeerResult } from './report.ts';
import { progress, sleep } from './shell.ts';
import { median } from './statistics.ts';
import { TwoHosts } from './two-host.ts';

const STEADY_PPS = 100_000;

/** How long and how often. */
export interface Pace {
  readonly rounds: number;
  readonly seconds: number;
}

/** Samples of one peer over the rounds, by the name of what was measured. */
class Samples {
  readonly #values = new Map<string, number[]>();
  failure: string | undefined;
  remark = '';
  notAvailable = false;

  add(name: string, value: number): void {
    const values = this.#values.get(name);
    if (values === undefined) this.#values.set(name, [value]);
    else values.push(value);
  }

  median(name: string): number | undefined {
    const values = this.#values.get(name);
    return values === undefined ? undefined : median(values);
  }
}

async function measurePeer(peer: Peer, samples: Samples, pace: Pace, round: number): Promise<Idle | null> {
  const hosts = new TwoHosts(String(round));
  const { measures, receiver } = peer;
  let idle: Idle | null = null;
  try {
    hosts.create();
    await peer.start(hosts);
    await sleep(1_000);
    if (!(peer instanceof Flows))
      hosts.inside(hosts.a, 'ping', ['-c', '5', '-i', '0.2', '-W', '2', '-q', TwoHosts.addressB]);
    if (peer.id === 'millrace' && peer instanceof Millrace && round === 0) idle = await measureIdle(peer.daemonPid, 5);
    for (const streams of measures.tcpStreams) {
      samples.add(`tcp ${streams}`, await measureTcp(hosts, streams, pace.seconds));
    }
    const durationSeconds = pace.seconds;
    for (const traffic of measures.small) {
      const full = await measureSmallPackets(hosts, { ratePps: 'max', durationSeconds, traffic, receiver });
      samples.add(`offered ${traffic.flows}`, full.offeredPps);
      samples.add(`delivered ${traffic.flows}`, full.deliveredPps);
    }
    if (measures.steady) {
      const traffic = measures.small[0] ?? bridged(16);
      const steady = await measureSmallPackets(hosts, { ratePps: STEADY_PPS, durationSeconds, traffic, receiver });
      samples.add('machine', steady.machineUsPerPacket);
    }
    if (measures.latency) {
      const latency = await measureLatency(hosts, pace.seconds);
      samples.add('p50', latency.p50Us);
      samples.add('p99', latency.p99Us);
    }
    samples.remark = peer.remark?.() ?? '';
  } catch (error) {
    samples.failure = error instanceof Error ? error.message : String(error);
    samples.notAvailable = error instanceof NotAvailable;
    progress(`  ${peer.title}: ${samples.notAvailable ? 'not available: ' : ''}${samples.failure}`);
  } finally {
    await peer.stop(hosts).catch((error: unknown) => progress(`  stopping ${peer.title}: ${String(error)}`));
    hosts.destroy();
  }
  return idle;
}

function summarize(peer: Peer, samples: Samples): PeerResult {
  const { id, title } = peer;
  if (samples.notAvailable) {
    return { id, title, describe: peer.describe(), small: [], failure: samples.failure ?? '', notAvailable: true };
  }
  const small = peer.measures.small.flatMap(({ flows }) => {
    const [offeredPps, deliveredPps] = [samples.median(`offered ${flows}`), samples.median(`delivered ${flows}`)];
    return offeredPps === undefined || deliveredPps === undefined ? [] : [{ flows, offeredPps, deliveredPps }];
  });
  const given = <Key extends string>(key: Key, name: string) => {
    const value = samples.median(name);
    return (value === undefined ? {} : { [key]: value }) as { [K in Key]?: number };
  };
  return {
    id,
    title,
    describe: peer.describe(),
    small,
    ...given('tcpOneBps', 'tcp 1'),
    ...given('tcpFourBps', 'tcp 4'),
    ...given('machineUsPerPacket', 'machine'),
    ...given('latencyP50Us', 'p50'),
    ...given('latencyP99Us', 'p99'),
    ...(samples.remark === '' ? {} : { remark: samples.remark }),
    ...(samples.failure === undefined ? {} : { failure: samples.failure }),
  };
}

/** Measure the peers. One that is not available is tried once. @returns their medians, and Millrace at rest when it was among them */
export async function measureForwarding(
  peers: readonly Peer[],
  pace: Pace,
): Promise<{ peers: PeerResult[]; idle: Idle | null }> {
  const samples = new Map(peers.map((peer) => [peer, new Samples()]));
  let idle: Idle | null = null;
  for (let round = 0; round < pace.rounds; round += 1) {
    for (const [peer, own] of samples) {
      if (own.notAvailable) continue;
      progress(`round ${round + 1} of ${pace.rounds}: ${peer.title}`);
      idle = (await measurePeer(peer, own, pace, round)) ?? idle;
    }
  }
  return { peers: [...samples].map(([peer, own]) => summarize(peer, own)), idle };
}
