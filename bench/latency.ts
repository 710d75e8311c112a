/**
 * Round trips, compared closely: the slowest of a hundred swing from second to second with what the machine does, so the labs of all
 * contenders stand side by side, and each is measured for a second in turn, many times. Neighbour: measure/latency.ts.
 */
import type { Pace } from './forward.ts';
import { type Latency, measureLatency } from './measure/latency.ts';
import { LinuxBridge } from './peers/bridge.ts';
import { Millrace } from './peers/millrace.ts';
import { NotAvailable, type Peer } from './peers/peer.ts';
import { TcRedirect } from './peers/redirect.ts';
import { progress, sleep } from './shell.ts';
import { median } from './statistics.ts';
import { TwoHosts } from './two-host.ts';

/** Medians over all turns, by the contender's id; absent where it could not be measured, with the reason in `notAvailable`. */
export interface LatencyFigures {
  readonly turns: number;
  readonly rtt: Readonly<Record<string, Latency>>;
  readonly notAvailable: Readonly<Record<string, string>>;
}

const TURNS_A_ROUND = 5;
const TURN_SECONDS = 1;

interface Contender {
  readonly peer: Peer;
  readonly hosts: TwoHosts;
  readonly samples: Latency[];
}

/** Measure all contenders in turns. */
export async function benchLatency(pace: Pace): Promise<LatencyFigures> {
  const peers: Peer[] = [
    new LinuxBridge(),
    new TcRedirect(),
    new Millrace('learning', 'tc'),
    new Millrace('ovs', 'tc'),
  ];
  const contenders = peers.map((peer, i): Contender => ({ peer, hosts: new TwoHosts(`r${i}`), samples: [] }));
  const turns = pace.rounds * TURNS_A_ROUND;
  const notAvailable: Record<string, string> = {};
  const attempt = async ({ peer }: Contender, what: () => Promise<unknown>) => {
    if (peer.id in notAvailable) return;
    try {
      await what();
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      notAvailable[peer.id] = error instanceof NotAvailable ? text : `failed: ${text}`;
      progress(`  ${peer.title}: ${notAvailable[peer.id]}`);
    }
  };
  try {
    progress('round trips, side by side');
    for (const one of contenders) await attempt(one, () => setUp(one));
    for (let turn = 0; turn < turns; turn += 1) {
      for (const one of contenders) {
        await attempt(one, async () => one.samples.push(await measureLatency(one.hosts, TURN_SECONDS)));
      }
    }
  } finally {
    for (const { peer, hosts } of contenders) {
      await peer.stop(hosts).catch((error: unknown) => progress(`  stopping ${peer.title}: ${String(error)}`));
      hosts.destroy();
    }
  }
  const measured = contenders.filter(({ peer }) => !(peer.id in notAvailable));
  return {
    turns,
    rtt: Object.fromEntries(measured.map(({ peer, samples }) => [peer.id, medians(samples)])),
    notAvailable,
  };
}

async function setUp({ peer, hosts }: Contender): Promise<void> {
  hosts.create();
  await peer.start(hosts);
  await sleep(500);
  hosts.inside(hosts.a, 'ping', ['-c', '5', '-i', '0.2', '-W', '2', '-q', TwoHosts.addressB]);
}

function medians(samples: readonly Latency[]): Latency {
  return {
    p50Us: median(samples.map(({ p50Us }) => p50Us)),
    p99Us: median(samples.map(({ p99Us }) => p99Us)),
    maxUs: median(samples.map(({ maxUs }) => maxUs)),
  };
}
