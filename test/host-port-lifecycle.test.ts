/** Ports while their device is renamed, set down, changed or pulled away under traffic; what is refused; and that nothing leaks. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import {
  EventLoop,
  LinkWatch,
  NetworkNamespace,
  openDescriptors,
  openPacketSocket,
  openTap,
  type PacketSocketOptions,
} from '../src/host/index.ts';
import { Batch } from '../src/net/index.ts';
import {
  collect,
  FrameSource,
  type Host,
  isTestFrame,
  Lab,
  labLoop,
  runUntil,
  sleep,
  testFrame,
  wire,
} from './support/index.ts';

let lab = new Lab();
afterEach(() => {
  lab.close();
  lab = new Lab();
});

const source = new FrameSource();

function openPort(host: Host, interfaceName: string, options: Partial<PacketSocketOptions> = {}) {
  return lab.own(host.inside(() => openPacketSocket({ interfaceName, ...options })));
}

/** Host a floods pings to host b through two ports; the loop carries them. */
function underTraffic(options: Partial<PacketSocketOptions> = {}) {
  const [a, b, middle] = lab.hosts(3);
  lab.veth(middle, 'sa', a, 'eth0');
  lab.veth(middle, 'sb', b, 'eth0');
  a.address('eth0', '10.0.0.1/24');
  b.address('eth0', '10.0.0.2/24');
  const [sa, sb] = [openPort(middle, 'sa', options), openPort(middle, 'sb', options)];
  const loop = labLoop(lab);
  wire(loop, sa, sb);
  a.start('ping', ['-f', '-q', '10.0.0.2']);
  const flows = (): void => {
    const before = sa.counters.transmittedPackets;
    runUntil(loop, 'traffic flows', () => sa.counters.transmittedPackets > before + 50);
  };
  flows();
  return { a, b, middle, sa, sb, loop, flows };
}

describe.each(['sendmmsg', 'ring'] as const)('under traffic, transmitting by %s', (transmit) => {
  test('a rename does not disturb the port', () => {
    const { middle, sb, flows } = underTraffic({ transmit });
    middle.ip('link set sb name other');
    flows();
    expect(sb.refresh()).toBe('up');
    expect(sb.interfaceName).toBe('other');
  });

  test('a port that is set down drops with a count, and works again when it is up', () => {
    const { middle, sb, loop, flows } = underTraffic({ transmit });
    middle.ip('link set sb down');
    runUntil(loop, 'drops are counted', () => sb.counters.transmitDown > 10);
    expect(sb.state).toBe('down');
    expect(sb.carrier).toBe(false);
    middle.ip('link set sb up');
    flows();
    expect(sb.refresh()).toBe('up');
  });

  test('a smaller MTU drops what does not fit any more', () => {
    const { a, middle, sb, loop, flows } = underTraffic({ transmit });
    middle.ip('link set sb mtu 600');
    expect(sb.refresh()).toBe('up');
    expect(sb.mtuBytes).toBe(600);
    a.start('ping', ['-f', '-q', '-s', '1000', '10.0.0.2']);
    runUntil(loop, 'long frames are counted', () => sb.counters.transmitTooLong > 10);
    flows();
  });

  test('a device that is pulled away leaves a port that is gone, and no exception', () => {
    const { b, sa, sb, loop } = underTraffic({ transmit });
    b.ip('link delete eth0');
    runUntil(loop, 'the port is gone', () => sb.state === 'gone');
    runUntil(loop, 'drops are counted', () => sb.counters.transmitDown > 10);
    expect(sb.refresh()).toBe('gone');
    expect(sa.refresh()).toBe('up');
    loop.remove(sb.fileDescriptor);
    sb.close();
    expect(sb.receive(new Batch(), 64)).toBe(0);
    source.send(sb, [testFrame(64)]);
  });
});

test('a loop with a port that went away sleeps again: no busy loop', () => {
  const { a, b, loop } = underTraffic();
  b.ip('link delete eth0');
  a.ip('link set eth0 down');
  const until = performance.now() + 200;
  while (performance.now() < until) loop.poll(10);
  const before = process.cpuUsage();
  const end = performance.now() + 500;
  while (performance.now() < end) loop.poll(100);
  const { user, system } = process.cpuUsage(before);
  expect((user + system) / 1000).toBeLessThan(50);
});

test('the link watch tells when a device comes back under its name, and a new port can take it', async () => {
  const [near, far] = lab.hosts(2);
  lab.veth(near, 'port', far, 'eth0');
  const watch = lab.own(near.inside(() => new LinkWatch()));
  const first = openPort(near, 'port');
  watch.process();
  far.ip('link delete eth0');
  expect(watch.process().at(-1)).toMatchObject({ type: 'removed', link: { index: first.interfaceIndex } });
  expect(first.refresh()).toBe('gone');
  first.close();
  lab.veth(near, 'port', far, 'eth0');
  expect(watch.process()[0]).toMatchObject({ type: 'added' });
  const second = openPort(near, 'port');
  const farEnd = openPort(far, 'eth0');
  source.send(farEnd, [testFrame(64)]);
  expect(await collect(second, 1, isTestFrame)).toHaveLength(1);
});

test('a device that is moved to another namespace is gone here', () => {
  const [near, far, elsewhere] = lab.hosts(3);
  lab.veth(near, 'port', far, 'eth0');
  const port = openPort(near, 'port');
  near.ip(`link set port netns ${elsewhere.name}`);
  expect(port.refresh()).toBe('gone');
});

test('what makes no sense as a port is refused with the reason', () => {
  const [near, far] = lab.hosts(2);
  lab.veth(near, 'port', far, 'eth0');
  near.ip('link add br0 type bridge');
  near.ip('link set port master br0');
  const attempt =
    (interfaceName: string, options: Partial<PacketSocketOptions> = {}) =>
    () =>
      openPort(near, interfaceName, options);
  expect(attempt('port')).toThrow(
    /port belongs to the bridge br0; take it out first \(ip link set dev port nomaster\)/,
  );
  near.ip('link set port nomaster');
  expect(attempt('lo')).toThrow(/lo is the loopback interface/);
  expect(attempt('nothing')).toThrow(
    /cannot find interface nothing: ioctl failed with ENODEV \(there is no such interface/,
  );
  expect(attempt('a-name-that-is-too-long')).toThrow(/1 to 15 bytes/);
  expect(attempt('port', { receiveSlots: 0 })).toThrow(/receiveSlots must be a whole number/);
  near.run('ip', ['tuntap', 'add', 'tun9', 'mode', 'tun']);
  expect(attempt('tun9')).toThrow(/tun9 is no Ethernet interface/);
  const port = openPort(near, 'port');
  expect(attempt('port')).toThrow(/cannot take over port: .*EBUSY.*another Millrace port holds this interface/);
  port.close();
  openPort(near, 'port').close();
});

test('without the privilege it says which one is missing', () => {
  const [near, far] = lab.hosts(2);
  lab.veth(near, 'port', far, 'eth0');
  const script = fileURLToPath(new URL('support/hold-port.ts', import.meta.url));
  const without = ['--bounding-set', '-net_raw', '--inh-caps', '-net_raw'];
  const run = () =>
    near.run('setpriv', [...without, process.execPath, '--import', 'jiti/register', script, 'port', '--once']);
  expect(run).toThrow(/cannot take over port: socket failed with EPERM \(needs CAP_NET_RAW/);
});

test('hundreds of ports and TAPs that open and close leave no descriptor, memory or namespace behind', async () => {
  const [near, far] = lab.hosts(2);
  lab.veth(near, 'port', far, 'eth0');
  const home = lab.own(NetworkNamespace.current()).identity;
  const batch = new Batch();
  const cycle = (): void => {
    const loop = new EventLoop();
    const tap = openTap({ interfaceName: 'tap0', receiveBuffers: 4 });
    const port = openPacketSocket({ interfaceName: 'port', receiveSlots: 30, transmit: 'ring' });
    loop.add(port.fileDescriptor, { onReady: () => {}, onError: () => {} });
    source.send(port, [testFrame(64)]);
    port.receive(batch, 64);
    batch.releaseAll();
    expect(() => openPacketSocket({ interfaceName: 'port' })).toThrow(/EBUSY/);
    loop.remove(port.fileDescriptor);
    port.close();
    tap.close();
    loop.close();
  };
  const descriptors = (): number => readdirSync('/proc/self/fd').length;
  near.inside(cycle);
  const before = { all: descriptors(), ours: openDescriptors() };
  for (let i = 0; i < 50; i += 1) near.inside(cycle);
  expect(openDescriptors()).toBe(before.ours);
  expect(descriptors()).toBe(before.all);
  const now = NetworkNamespace.current();
  expect(now.identity).toBe(home);
  now.close();
  await sleep(0);
  // 50 rings of 6 MB and as many pools were in use; they are not any more.
  expect(process.memoryUsage.rss()).toBeLessThan(500e6);
});
