/**
 * The generator and the receiver over a veth: every frame is counted, made as asked, and the rest of the traffic is left alone.
 * A veth's ring has 256 places, which are emptied by ksoftirqd when the machine is busy: where no frame may be lost, fewer are sent at once.
 */
import { afterEach, expect, test } from 'vitest';
import {
  DeliveryError,
  type GenerateOptions,
  generate,
  NoInterfaceError,
  type ReceiveOptions,
  Receiver,
  receive,
} from '../src/bpf/index.ts';
import { NetworkNamespace } from '../src/host/index.ts';
import { openDescriptors } from '../src/host/sys/index.ts';
import { eventually, type Host, Lab } from './support/index.ts';

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

/** Wait until a receiver has counted so many frames. */
function arrived(receiver: Receiver, count: number): Promise<void> {
  return eventually(`${count} frames have come`, () => receiver.received >= count);
}

/** A receiver in a namespace. */
function receiverIn(host: Host, flows = 1024): Receiver {
  return lab.own(host.inside(() => new Receiver({ netdev: 'eth0', flows })));
}

test('every frame sent is counted in its flow, and pings pass meanwhile', async () => {
  const { a, b } = wired();
  const receiver = receiverIn(b);
  const open = openDescriptors();
  const sent = await generateIn(a, { count: 200, flows: 50 });
  expect(openDescriptors()).toBe(open);
  expect(sent).toMatchObject({ sent: 200, flows: 50, sizeBytes: 60, interrupted: false });
  await arrived(receiver, 200);
  const counts = receiver.read();
  expect(counts).toMatchObject({ received: 200, bytes: 12_000, lost: 0, late: 0, lossRatio: 0 });
  expect(counts.flows).toHaveLength(50);
  expect(counts.flows.every(({ received }) => received === 4)).toBe(true);
  expect(a.ping('10.0.0.2')).toBe(true);
});

test('several runs in turn are each counted from their first frame', async () => {
  const { a, b } = wired();
  const receiver = receiverIn(b, 4);
  await generateIn(a, { count: 100, flows: 4 });
  await arrived(receiver, 100);
  expect(receiver.read()).toMatchObject({ received: 100, lost: 0 });
  await generateIn(a, { count: 200, flows: 2, vary: 'address' });
  await arrived(receiver, 300);
  expect(receiver.read()).toMatchObject({ received: 300, lost: 0 });
  expect(receiver.read().flows.map(({ received }) => received)).toEqual([125, 125, 25, 25]);
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
  // What is lost at the very end nobody can know of.
  expect(received + lost).toBeLessThanOrEqual(sent);
  expect(received + lost).toBeGreaterThan(sent - 500);
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
  await arrived(receiver, 10);
  expect(receiver.read()).toMatchObject({ received: 10, bytes: 14_000 });
  await expect(generateIn(a, { count: 1, sizeBytes: 9000 })).rejects.toThrow('a live frame of 9000 bytes is too long');
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
  expect(receiver.read().received).toBeGreaterThan((paced.sent + cut.sent) * 0.9);
  expect(receiver.read().received).toBeLessThanOrEqual(paced.sent + cut.sent);
});

test('a veth whose peer takes no frames is refused with what to do, or prepared for the time of the run', async () => {
  const { a, b } = wired();
  await expect(generateIn(a, { count: 10 })).rejects.toThrow(DeliveryError);
  await expect(generateIn(a, { count: 10 })).rejects.toThrow(`ip netns exec ${b.name} ethtool -K eth0 gro on`);
  const gro = () => /generic-receive-offload: (\w+)/.exec(b.run('ethtool', ['-k', 'eth0']))?.[1];
  expect(gro()).toBe('off');
  const packets = () => Number(b.run('cat', ['/sys/class/net/eth0/statistics/rx_packets']));
  const before = packets();
  const { sent } = await generateIn(a, { count: 200, prepare: true });
  expect(sent).toBe(200);
  await eventually('the frames came', () => packets() - before >= 200);
  expect(gro()).toBe('off');
  expect(a.ip('link')).not.toContain('mrgen');
});

/** Receive in a namespace; the result is wrapped, as what runs inside must not be asynchronous. */
function receiveIn(host: Host, options: Partial<ReceiveOptions> = {}) {
  return host.inside(() => ({ done: receive({ netdev: 'eth0', ...options }) })).done;
}

test('receiving ends by count, by silence, by time and by a signal', async () => {
  const { a, b } = wired();
  // What should end by something else ends by time too, far off, and then says what it has counted.
  const durationMs = 20_000;
  const byCount = receiveIn(b, { count: 100, durationMs });
  await generateIn(a, { count: 120, durationMs });
  expect((await byCount).received).toBeGreaterThanOrEqual(100);
  const byIdle = receiveIn(b, { idleMs: 150, durationMs });
  await generateIn(a, { count: 40, flows: 4, durationMs });
  expect(await byIdle).toMatchObject({ received: 40, lost: 0, netdev: 'eth0' });
  expect(await receiveIn(b, { durationMs: 100 })).toMatchObject({ received: 0, flows: [], packetsPerSecond: 0 });
  const controller = new AbortController();
  const told: number[] = [];
  const bySignal = receiveIn(b, { signal: controller.signal, onProgress: ({ received }) => told.push(received) });
  await generateIn(a, { pps: 100, durationMs: 1200 });
  controller.abort();
  expect((await bySignal).received).toBeGreaterThan(100);
  expect(told.length).toBeGreaterThan(0);
});

test('an interface that vanishes ends both ends with an error that says so', async () => {
  const { a, b } = wired();
  // Either end may be the first to notice.
  const deaf = expect(receiveIn(b)).rejects.toThrow(/go on receiving: there is no interface eth0/);
  setTimeout(() => b.ip('link del eth0'), 150);
  await Promise.all([expect(generateIn(a, { pps: 1000 })).rejects.toThrow(NoInterfaceError), deaf]);
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
