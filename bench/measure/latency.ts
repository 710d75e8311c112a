/** Request-response latency through the switch: sockperf's UDP ping-pong between A and B, one message in flight. */
import { background, runAside, sleep } from '../shell.ts';
import { TwoHosts } from '../two-host.ts';

/** Round-trip times in microseconds. */
export interface Latency {
  p50Us: number;
  p99Us: number;
  /** The longest of all. */
  maxUs: number;
}

/** Measure for the given time; throws when sockperf prints no percentiles. */
export async function measureLatency(hosts: TwoHosts, durationSeconds: number): Promise<Latency> {
  const server = background('ip', ['netns', 'exec', hosts.b, 'sockperf', 'server', '-i', TwoHosts.addressB]);
  try {
    await sleep(300);
    const args = ['ping-pong', '-i', TwoHosts.addressB, '-t', String(durationSeconds), '--full-rtt'];
    const output = await runAside('ip', ['netns', 'exec', hosts.a, 'sockperf', ...args], {
      timeoutMs: (durationSeconds + 20) * 1000,
    });
    const percentile = (name: string): number => {
      const match = new RegExp(`percentile ${name}\\s*=\\s*([0-9.]+)`).exec(output);
      if (match === null) throw new Error(`sockperf printed no percentile ${name}`);
      return Number(match[1]);
    };
    const longest = /<MAX> observation\s*=\s*([0-9.]+)/.exec(output);
    if (longest === null) throw new Error('sockperf printed no longest time');
    return { p50Us: percentile('50.000'), p99Us: percentile('99.000'), maxUs: Number(longest[1]) };
  } finally {
    await server.stop();
  }
}
