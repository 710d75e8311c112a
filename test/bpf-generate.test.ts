/** The generator and the receiver over a veth: every frame is counted, made as asked, and the rest of the traffic is left alone. */
import { afterEach, expect, test } from 'vitest';
import { DeliveryError, type GenerateOptions, generate, NoInterfaceError, Receiver } from '../src/bpf/index.ts';
import { NetworkNamespace } from '../src/host/index.ts';
import { openDescriptors } from '../src/host/sys/index.ts';
import { type Host, Lab } from './support/index.ts';

let lab = new Lab();
afterEach(() => {
  lab.close();
  lab = new Lab();
});

function wired(): { a: Host; b: Host } {
  const [a, b] = lab.hosts(2);
  if (a === undefined || b === undefined) throw new Error('no hosts');
  lab.veth(a, 'eth0', b, 'eth0');
  a.address('eth0', '10.0.0.1/24');
  b.address('eth0', '10.0.0.2/24');
  return { a, b };
}

/** Generate on this thread inside a namespace for as long as it takes. */
async function generateIn(host: Host, options: Partial<GenerateOptions>) {
  const home = NetworkNamespace.current();
  const there = NetworkNamespace.byName(host.name);
  try {
    there.enter();
    return await generate({ netdev: 'eth0', ...options });
  } finally {
    home.enter();
    home.close();
    there.close();
  }
}

/** A receiver in a namespace. */
function receiverIn(host: Host, flows = 1024): Receiver {
  return lab.own(host.inside(() => new Receiver({ netdev: 'eth0', flows })));
}

test('every frame sent is counted in its flow, and pings pass meanwhile', async () => {
  const { a, b } = wired();
  const receiver = receiverIn(b);
  const open = openDescriptors();
  const sent = await generateIn(a, { count: 100_000, flows: 100 });
  expect(openDescriptors()).toBe(open);
  expect(sent).toMatchObject({ sent: 100_000, flows: 100, sizeBytes: 60, interrupted: false });
  const counts = receiver.read();
  expect(counts).toMatchObject({ received: 100_000, bytes: 6_000_000, lost: 0, late: 0, lossRatio: 0 });
  expect(counts.flows).toHaveLength(100);
  expect(counts.flows.every(({ received }) => received === 1000)).toBe(true);
  expect(a.ping('10.0.0.2')).toBe(true);
});

test('several runs in turn are each counted from their first frame', async () => {
  const { a, b } = wired();
  const receiver = receiverIn(b, 4);
  await generateIn(a, { count: 1000, flows: 4 });
  expect(receiver.read()).toMatchObject({ received: 1000, lost: 0 });
  await generateIn(a, { count: 2000, flows: 2, vary: 'address' });
  expect(receiver.read()).toMatchObject({ received: 3000, lost: 0 });
  expect(receiver.read().flows.map(({ received }) => received)).toEqual([1250, 1250, 250, 250]);
});

test('frames dropped on the way are loss of their flow', async () => {
  const { a, b } = wired();
  const receiver = receiverIn(b, 10);
  setTimeout(() => b.ip('link set eth0 down'), 100);
  setTimeout(() => b.ip('link set eth0 up'), 200);
  const { sent } = await generateIn(a, { pps: 20_000, durationMs: 400, flows: 10 });
  const { received, lost, late, flows } = receiver.read();
  expect(lost).toBeGreaterThan(500);
  expect(late).toBe(0);
  expect(received + lost).toBe(sent);
  expect(flows.every((flow) => flow.lost > 50)).toBe(true);
});

test.each([
  ['port', /198\.18\.0\.1\.(1024|1025|1026) > 198\.19\.0\.1\.9/],
  ['address', /198\.18\.0\.(0|1|2)\.1024 > 198\.19\.0\.1\.9/],
  ['mac', /02:00:00:00:00:0[012] > 02:00:00:00:00:02/],
] as const)('frames that vary by %s are right to their checksums', async (vary, pattern) => {
  const { a, b } = wired();
  b.run('ethtool', ['-K', 'eth0', 'gro', 'on']);
  const capture = b.start('tcpdump', ['-n', '-e', '-vv', '-i', 'eth0', '-c', '6', 'udp port 9']);
  await capture.printed(/listening on/);
  await generateIn(a, { count: 6, flows: 3, pps: 100, vary });
  const text = await capture.result();
  expect(text.match(/length 60/g)).toHaveLength(6);
  expect(text.match(new RegExp(pattern, 'g'))?.length).toBe(6);
  expect(text).not.toContain('bad cksum');
  expect(new Set(text.match(new RegExp(pattern, 'g'))).size).toBe(3);
});

test('frames carry the tags, size and addresses that were asked for', async () => {
  const { a, b } = wired();
  const receiver = receiverIn(b);
  await generateIn(a, { count: 10, vlan: [{ id: 100, priority: 5, tpid: 0x88a8 }, { id: 7 }], sizeBytes: 1400 });
  expect(receiver.read()).toMatchObject({ received: 10, bytes: 14_000 });
  receiver.close();
  b.run('ethtool', ['-K', 'eth0', 'gro', 'on']);
  const dump = b.start('tcpdump', ['-n', '-e', '-i', 'eth0', '-c', '1', 'vlan 100']);
  await dump.printed(/listening on/);
  await generateIn(a, {
    count: 1,
    vlan: [{ id: 100, priority: 5, tpid: 0x88a8 }, { id: 7 }],
    sizeBytes: 200,
    destinationMac: 'ff:ff:ff:ff:ff:ff',
    sourceAddress: '192.0.2.7',
    destinationPort: 4000,
  });
  const text = await dump.result();
  expect(text).toMatch(/ff:ff:ff:ff:ff:ff, ethertype 802\.1Q-QinQ.*length 200: vlan 100, p 5.*vlan 7, p 0/);
  expect(text).toMatch(/192\.0\.2\.7\.1024 > 198\.19\.0\.1\.4000/);
});

test('a rate is kept, and a signal ends a run with what was sent', async () => {
  const { a, b } = wired();
  const receiver = receiverIn(b);
  const paced = await generateIn(a, { pps: 20_000, durationMs: 500 });
  expect(paced.sent).toBeGreaterThan(9_000);
  expect(paced.sent).toBeLessThan(11_000);
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 200);
  const cut = await generateIn(a, { pps: 1000, count: 1_000_000, signal: controller.signal });
  expect(cut.interrupted).toBe(true);
  expect(cut.sent).toBeGreaterThan(100);
  expect(cut.durationMs).toBeLessThan(1500);
  expect(receiver.read().received).toBe(paced.sent + cut.sent);
});

test('a veth whose peer takes no frames is refused with what to do, or prepared for the time of the run', async () => {
  const { a, b } = wired();
  await expect(generateIn(a, { count: 10 })).rejects.toThrow(DeliveryError);
  await expect(generateIn(a, { count: 10 })).rejects.toThrow(`ip netns exec ${b.name} ethtool -K eth0 gro on`);
  const gro = () => /generic-receive-offload: (\w+)/.exec(b.run('ethtool', ['-k', 'eth0']))?.[1];
  expect(gro()).toBe('off');
  const before = Number(b.run('cat', ['/sys/class/net/eth0/statistics/rx_packets']));
  const { sent } = await generateIn(a, { count: 5000, prepare: true });
  expect(sent).toBe(5000);
  expect(Number(b.run('cat', ['/sys/class/net/eth0/statistics/rx_packets'])) - before).toBeGreaterThanOrEqual(5000);
  expect(gro()).toBe('off');
  expect(a.ip('link')).not.toContain('mrgen');
});

test('impossible wishes are refused before anything is sent', async () => {
  const { a } = wired();
  await expect(generateIn(a, { netdev: 'eth9' })).rejects.toThrow(NoInterfaceError);
  await expect(generateIn(a, { netdev: 'lo' })).rejects.toThrow(DeliveryError);
  for (const [options, message] of [
    [{ flows: 0 }, /number of flows 0 is outside/],
    [{ pps: 0 }, /rate of 0/],
    [{ sizeBytes: 20 }, /frame size 20/],
    [{ sourceMac: 'nonsense' }, /no MAC address/],
    [{ destinationAddress: '1.2.3' }, /no IPv4 address/],
    [{ vlan: [{ id: 5000 }] }, /VLAN id 5000/],
    [{ batch: 1000 }, /batch 1000/],
  ] as const) {
    await expect(generateIn(a, options)).rejects.toThrow(message);
  }
});
