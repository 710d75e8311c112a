/**
 * Packets that a program changes and looks up again: where the kernel has no flow for that look-up, the engine goes on with them from there, super-
 * packets and partial checksums as they are, and each packet counts once at each flow.
 */
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { OffloadInfo } from '../src/daemon/client.ts';
import { must, run, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World();
  world.host('a', '10.7.0.1/24');
  world.host('b', '10.7.0.2/24');
});
afterEach(() => world.end());

/** A datapath of Open vSwitch with hosts a and b; IPv4 from a is changed and looked up again under id 5. */
function datapath() {
  const socket = join(world.folder, 'nl.sock');
  world.up(`offload: require\nextensions: [{ name: ovs, config: { socket: ${socket} } }]\n`);
  const dpctl = (...args: string[]) => world.ok('ovs', 'dpctl', ...args);
  dpctl('add-dp', 'dp');
  dpctl('add-if', 'dp', 'a');
  dpctl('add-if', 'dp', 'b');
  const port = (name: string) => new RegExp(`port (\\d+): ${name}\\n`).exec(dpctl('show', 'dp'))?.[1] ?? '';
  const [a, b] = [port('a'), port('b')];
  for (const [from, to] of [
    [a, b],
    [b, a],
  ]) {
    dpctl('add-flow', 'dp', `in_port(${from}),eth(),eth_type(0x0806),arp()`, to);
  }
  dpctl('add-flow', 'dp', `recirc_id(0),in_port(${b}),eth(),eth_type(0x0800),ipv4(frag=no)`, a);
  dpctl(
    'add-flow',
    'dp',
    `recirc_id(0),in_port(${a}),eth(),eth_type(0x0800),ipv4(frag=no)`,
    'set(ipv4(ttl=33)),recirc(0x5)',
  );
  const again = `recirc_id(0x5),in_port(${a}),eth(),eth_type(0x0800),ipv4(ttl=33,frag=no)`;
  /** Packets of the two flows that IPv4 from a meets. */
  const counts = () =>
    ['recirc_id(0),', 'recirc_id(0x5),'].map((start) => {
      const line = dpctl('dump-flows', 'dp')
        .split('\n')
        .find((each) => each.includes(start) && each.includes(`in_port(${a})`) && each.includes('0x0800'));
      return Number(/packets:(\d+)/.exec(line ?? '')?.[1] ?? -1);
    });
  return { dpctl, again, counts, b };
}

const portA = () => world.json<OffloadInfo>('offload', 'show').ports.find(({ port }) => port === 'a');
const carried = () => portA()?.carriedPackets ?? 0;
const punted = () => portA()?.puntedPackets ?? 0;
const lost = () => {
  const { punts = 0, refused = 0, failed = 0 } = portA()?.lost ?? {};
  return punts + refused + failed;
};
const drops = () => world.json<{ reason: string; packets: number }[]>('drops');
/** Not of what nobody hears of, such as what hosts say over IPv6. */
const otherDrops = () => drops().filter(({ reason }) => !reason.endsWith('UPCALL_LOST'));

test('pings and super-packets go on in the engine where the kernel does not know the look-up, and in the kernel when it does', async () => {
  const { dpctl, again, counts, b } = datapath();
  // Nobody hears of a miss: it is a drop, and is counted as that.
  expect(
    run('ip', ['netns', 'exec', world.namespace('a'), 'ping', '-c', '2', '-i', '0.1', '-W', '1', '10.7.0.2']).code,
  ).not.toBe(0);
  await until('misses are counted', () =>
    drops().some(({ reason, packets }) => reason.endsWith('UPCALL_LOST') && packets >= 2),
  );

  // A clone that does more than output is not for the kernel.
  dpctl('add-flow', 'dp', again, `clone(ct_clear),${b}`);
  expect(world.pings('a', '10.7.0.2', 5)).toBe(true);
  await until('the kernel carries the first pass', () => carried() > 0);
  const before = { counts: counts(), punted: punted(), carried: carried() };
  expect(world.pings('a', '10.7.0.2', 20)).toBe(true);
  expect(counts().map((count, i) => count - before.counts[i])).toEqual([20, 20]);
  // What the hosts say besides, such as ARP, is counted there, too.
  expect(punted() - before.punted).toBeGreaterThanOrEqual(20);
  expect(carried() - before.carried).toBeGreaterThanOrEqual(20);
  expect(otherDrops()).toEqual([]);

  const server = world.spawn('ip', ['netns', 'exec', world.namespace('b'), 'iperf3', '-s', '-1', '--forceflush']);
  await until('iperf3 listens', () =>
    run('ip', ['netns', 'exec', world.namespace('b'), 'ss', '-Hltn']).stdout.includes('5201'),
  );
  const start = { counts: counts(), bytes: portA()?.carriedBytes ?? 0, packets: carried(), lost: lost() };
  const report = must('ip', 'netns', 'exec', world.namespace('a'), 'iperf3', '-J', '-n', '20M', '-c', '10.7.0.2');
  const { end } = JSON.parse(report) as { end: Record<'sum_sent' | 'sum_received', { bytes: number }> };
  expect(end.sum_sent.bytes).toBeGreaterThanOrEqual(20 << 20);
  // The server counts up to where it hears of the end.
  expect(end.sum_received.bytes).toBeGreaterThan(10 << 20);
  server.kill();
  // A burst may be more than the port's share of the punt path, or than the ring holds.
  await until('every packet of the first pass has come to the second, or is counted as lost', () => {
    const [first, second] = counts().map((count, i) => count - start.counts[i]);
    return second + lost() - start.lost === first;
  });
  // They came as super-packets, and stayed so.
  expect(((portA()?.carriedBytes ?? 0) - start.bytes) / (carried() - start.packets)).toBeGreaterThan(4000);

  dpctl('mod-flow', 'dp', again, b);
  await until('the kernel does all of it', () => {
    const then = punted();
    expect(world.pings('a', '10.7.0.2', 5)).toBe(true);
    return punted() === then;
  });
  const [whole] = [counts()];
  expect(world.pings('a', '10.7.0.2', 20)).toBe(true);
  expect(counts().map((count, i) => count - whole[i])).toEqual([20, 20]);
});
