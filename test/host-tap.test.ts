/** TAPs against the running kernel: a host whose only link is a TAP of ours, super-packets both ways, and all that can happen to it. */
import { afterEach, expect, test } from 'vitest';
import { EventLoop, NetworkNamespace, openPacketSocket, openTap, type TapOptions } from '../src/host/index.ts';
import { Batch, Checksum, type Packet, TagAction } from '../src/net/index.ts';
import {
  collect,
  eventually,
  FrameSource,
  type Host,
  hex,
  isTestFrame,
  Lab,
  labLoop,
  runWhile,
  TakenDescriptors,
  testFrame,
  wire,
} from './support/index.ts';
import { transfer } from './support/transfer.ts';

let lab = new Lab();
afterEach(() => {
  lab.close();
  lab = new Lab();
});

const source = new FrameSource();

function openIn(host: Host, options: Partial<TapOptions> = {}) {
  return lab.own(host.inside(() => openTap({ interfaceName: 'tap0', ...options })));
}

test('TCP runs between a host on a TAP and one on a veth, in super-packets both ways, every byte as it was', async () => {
  const [a, b, middle] = lab.hosts(3);
  lab.veth(middle, 'sb', b, 'eth0');
  const tap = openIn(a);
  const port = lab.own(middle.inside(() => openPacketSocket({ interfaceName: 'sb' })));
  a.address('tap0', '10.0.0.1/24');
  a.address('tap0', 'fd00::1/64');
  b.address('eth0', '10.0.0.2/24');
  b.address('eth0', 'fd00::2/64');
  const longest = { fromTap: 0, toTap: 0 };
  const loop = labLoop(lab);
  wire(loop, tap, port, {
    aToB: { look: (packet: Packet) => (longest.fromTap = Math.max(longest.fromTap, packet.length)) },
    bToA: { look: (packet: Packet) => (longest.toTap = Math.max(longest.toTap, packet.length)) },
  });
  for (const [from, to, address] of [
    [a, b, '10.0.0.2'],
    [b, a, '10.0.0.1'],
    [a, b, 'fd00::2'],
    [b, a, 'fd00::1'],
  ] as const) {
    const { sent, received } = await runWhile(loop, transfer(from, to, address, 12 << 20));
    expect(received).toBe(sent);
  }
  expect(longest.fromTap).toBeGreaterThan(20_000);
  expect(longest.toTap).toBeGreaterThan(20_000);
  expect(tap.counters.transmitDropped + tap.counters.receiveDropped).toBe(0);
});

test('UDP super-packets pass from a TAP to another with their segment size', async () => {
  const [a, b] = lab.hosts(2);
  const [tapA, tapB] = [openIn(a), openIn(b)];
  a.address('tap0', '10.0.0.1/24');
  b.address('tap0', '10.0.0.2/24');
  const sizes: number[] = [];
  const loop = labLoop(lab);
  const look = (packet: Packet): void => {
    if (packet.gsoType === 5) sizes.push(packet.gsoSizeBytes);
  };
  wire(loop, tapA, tapB, { aToB: { look } });
  const receive = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 7000)); s.settimeout(10); print('listening', flush=True)
total = b''.join(s.recv(65536) for _ in range(20)); print(len(total), total == bytes(range(250)) * 80)`;
  // UDP_SEGMENT is option 103 at level SOL_UDP.
  const send = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(17, 103, 1000); s.sendto(bytes(range(250)) * 80, ('10.0.0.2', 7000))`;
  const receiver = b.start('python3', ['-c', receive]);
  await receiver.printed(/listening/);
  a.start('python3', ['-c', send]);
  expect(await runWhile(loop, receiver.result())).toContain('20000 True');
  // The kernel may cut it itself where the driver does not carry UDP segmentation.
  if ((tapA.offloads & 8) !== 0) expect(sizes).toEqual([1000]);
});

test('a TAP is what it was asked to be, and vanishes with its adapter', () => {
  const [a] = lab.hosts(1);
  const macAddress = hex('02 00 5e 10 20 30');
  const tap = openIn(a, { macAddress, mtuBytes: 9000, interfaceName: 'tap%d' });
  expect(tap).toMatchObject({ interfaceName: 'tap0', name: 'tap0', mtuBytes: 9000, state: 'up', carrier: true });
  expect(tap.macAddress).toEqual(macAddress);
  expect(a.ip('link show tap0')).toMatch(/mtu 9000 [\s\S]*02:00:5e:10:20:30/);
  tap.setCarrier(false);
  expect(tap.carrier).toBe(false);
  expect(a.ip('link show tap0')).toContain('NO-CARRIER');
  tap.setCarrier(true);
  expect(tap.carrier).toBe(true);
  tap.close();
  expect(() => a.ip('link show tap0')).toThrow();
});

test('a name that is taken, or impossible, is refused with what to do', () => {
  const [a, b] = lab.hosts(2);
  lab.veth(a, 'tap0', b, 'eth0');
  expect(() => openIn(a)).toThrow(/cannot make TAP tap0.*EBUSY.*the name is taken; choose another/);
  const first = openIn(a, { interfaceName: 'tap1' });
  expect(() => openIn(a, { interfaceName: 'tap1' })).toThrow(/the name is taken/);
  expect(first.refresh()).toBe('up');
  expect(() => openIn(a, { interfaceName: 'a-name-too-long-for-linux' })).toThrow(RangeError);
  expect(() => openIn(a, { interfaceName: 'a/b' })).toThrow(RangeError);
  expect(() => a.inside(() => openPacketSocket({ interfaceName: 'tap1' }))).toThrow(/another Millrace port holds/);
});

test('a TAP is put into a namespace, and followed into others', async () => {
  const [a, b, outside] = lab.hosts(3);
  const namespace = lab.own(NetworkNamespace.byName(a.name));
  const tap = outside.inside(() => lab.own(openTap({ interfaceName: 'tap0', namespace })));
  expect(tap.state).toBe('up');
  expect(a.ip('link show tap0')).toContain('UP');
  a.ip(`link set tap0 netns ${b.name}`);
  expect(tap.refresh()).toBe('down');
  b.ip('link set tap0 name renamed');
  b.ip('link set renamed up');
  expect(tap.refresh()).toBe('up');
  expect(tap.interfaceName).toBe('renamed');
  const tcpdump = b.start('tcpdump', ['-i', 'renamed', '-nn', '-l', '-c', '1', 'ether proto 0x88b5']);
  await tcpdump.printed(/listening/);
  source.send(tap, [testFrame(70)]);
  expect(await tcpdump.result()).toContain('1 packet captured');
});

test('a TAP in another namespace is what it was while nothing more can be opened', () => {
  const [a, outside] = lab.hosts(2);
  const namespace = lab.own(NetworkNamespace.byName(a.name));
  const tap = outside.inside(() => lab.own(openTap({ interfaceName: 'tap0', namespace })));
  const descriptors = new TakenDescriptors();
  try {
    for (const spared of [0, 1, 1]) {
      descriptors.spare(spared);
      expect([tap.refresh(), tap.isElsewhere]).toEqual(['up', true]);
    }
  } finally {
    descriptors.end();
  }
  a.ip('link set tap0 down');
  expect(tap.refresh()).toBe('down');
});

test('tags are pushed and stripped on the way into a TAP; bad frames are counted alone', async () => {
  const [a] = lab.hosts(1);
  const tap = openIn(a);
  const tcpdump = a.start('tcpdump', [
    '-i',
    'tap0',
    '-e',
    '-nn',
    '-l',
    '-x',
    '-c',
    '3',
    'ether host 02:00:00:00:00:0a',
  ]);
  await tcpdump.printed(/listening/);
  const plain = testFrame(64);
  const tagged = new Uint8Array([...plain.subarray(0, 12), ...hex('8100 0007'), ...plain.subarray(12)]);
  source.send(tap, [plain], TagAction.PUSH | 42);
  source.send(tap, [tagged], TagAction.STRIP);
  source.send(tap, [hex('ffff')]);
  const nonsense = source.packet(plain);
  nonsense.checksum = Checksum.PARTIAL;
  nonsense.checksumStart = 60_000;
  tap.transmit(nonsense, TagAction.KEEP);
  nonsense.release();
  source.send(tap, [tagged], TagAction.STRIP | TagAction.PUSH | 9);
  const lines = (await tcpdump.result()).split('\n').filter((line) => line.includes('02:00:00:00:00:0a >'));
  expect(lines).toHaveLength(3);
  expect(lines[0]).toMatch(/vlan 42,/);
  expect(lines[1]).toMatch(/ethertype Unknown \(0x88b5\)/);
  expect(lines[2]).toMatch(/vlan 9,/);
  expect(tap.counters).toMatchObject({ transmittedPackets: 3, transmitRejected: 2, transmitDropped: 2 });
});

test('frames that the kernel tags leave the TAP with their tag inside', async () => {
  const [a] = lab.hosts(1);
  const tap = openIn(a);
  const sendTagged = `
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('tap0', 0))
s.send(bytes.fromhex('ffffffffffff02000000000a8100600788b5') + bytes(46))`;
  a.run('python3', ['-c', sendTagged]);
  const [frame] = await collect(tap, 1, isTestFrame);
  expect(frame.subarray(12, 18)).toEqual(hex('8100 6007 88b5'));
});

test('a TAP set down drops with a count, works again when up, and is gone when it is deleted', async () => {
  const [a] = lab.hosts(1);
  const tap = openIn(a);
  const loop = new EventLoop();
  const errors: number[] = [];
  loop.add(tap.fileDescriptor, {
    onReady: () => {},
    onError: (errno) => {
      errors.push(errno);
      tap.refresh();
    },
  });
  a.ip('link set tap0 down');
  source.send(tap, [testFrame(64)]);
  expect(tap.counters.transmitDown).toBe(1);
  expect(tap.refresh()).toBe('down');
  a.ip('link set tap0 up');
  expect(tap.refresh()).toBe('up');
  source.send(tap, [testFrame(64)]);
  expect(tap.counters.transmittedPackets).toBe(1);

  a.ip('link delete tap0');
  await eventually('the loop reports it', () => {
    loop.poll(0);
    return errors.length > 0;
  });
  expect(tap.state).toBe('gone');
  expect(errors).toEqual([-1]);
  source.send(tap, [testFrame(64)]);
  expect(tap.receive(new Batch(), 64)).toBe(0);
  expect(tap.counters.transmitDown).toBe(2);
  loop.close();
});

test('no more packets are out than there are buffers; the rest waits in the kernel', async () => {
  const [a] = lab.hosts(1);
  const tap = openIn(a, { receiveBuffers: 4 });
  const sendMany = `
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('tap0', 0))
for i in range(10): s.send(bytes.fromhex('ffffffffffff02000000000a88b5') + bytes([i]) * 46)`;
  a.run('python3', ['-c', sendMany]);
  const marks: number[] = [];
  const batch = new Batch();
  const take = (): void => {
    for (let i = 0; i < batch.count; i += 1) {
      const frame = batch.packets[i].frame();
      if (isTestFrame(frame)) marks.push(frame[14]);
    }
    batch.releaseAll();
  };
  expect(tap.receive(batch, 64)).toBe(4);
  expect(tap.receive(batch, 64)).toBe(0);
  take();
  while (tap.receive(batch, 64) > 0) take();
  expect(marks).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});
