/** TCP throughput through the switch: iperf3 from A to B. */
import { background, runAside, until } from '../shell.ts';
import { TwoHosts } from '../two-host.ts';

/**
 * @param streams how many connections at once
 * @returns bits a second that the receiver counted
 */
export async function measureTcp(hosts: TwoHosts, streams: number, durationSeconds: number): Promise<number> {
  const server = background('ip', ['netns', 'exec', hosts.b, 'iperf3', '-s', '-1']);
  try {
    await until('iperf3 listens', 5_000, () =>
      hosts.inside(hosts.b, 'ss', ['-Hltn', 'sport', '=', ':5201']).includes(':5201'),
    );
    const args = ['-c', TwoHosts.addressB, '-t', String(durationSeconds), '-P', String(streams), '-J'];
    const output = await runAside('ip', ['netns', 'exec', hosts.a, 'iperf3', ...args], {
      timeoutMs: (durationSeconds + 20) * 1000,
    });
    return JSON.parse(output).end.sum_received.bits_per_second;
  } finally {
    await server.stop();
  }
}
