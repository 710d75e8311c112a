/**
 * Packet sockets against the running kernel: hosts talk through two ports and a wire between them; super-packets, VLAN tags, full
 * rings, bad frames, and frames that are held.
 */
import { afterEach, describe, expect, test } from 'vitest';
import { openPacketSocket, type PacketSocket, type PacketSocketOptions } from '../src/host/index.ts';
import { Batch, Checksum, Gso, internetChecksum, type Packet, TagAction } from '../src/net/index.ts';
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
  sleep,
  testFrame,
  wire,
} from './support/index.ts';
import { transfer } from './support/transfer.ts';

let lab = new Lab();
afterEach(() => {
  lab.close();
  lab = new Lab();
});

function openPort(host: Host, interfaceName: string, options: Partial<PacketSocketOptions> = {}): PacketSocket {
  return lab.own(host.inside(() => openPacketSocket({ interfaceName, ...options })));
}

/** Two hosts a and b, each on a veth into the namespace `middle`, where the ports sa and sb are. */
function twoHosts(options: Partial<PacketSocketOptions> = {}) {
  const [a, b, middle] = lab.hosts(3);
  lab.veth(middle, 'sa', a, 'eth0');
  lab.veth(middle, 'sb', b, 'eth0');
  a.address('eth0', '10.0.0.1/24');
  b.address('eth0', '10.0.0.2/24');
  a.address('eth0', 'fd00::1/64');
  b.address('eth0', 'fd00::2/64');
  return { a, b, middle, sa: openPort(middle, 'sa', options), sb: openPort(middle, 'sb', options) };
}

/** A port and another at the far end of its link, which takes frames as they were on the wire. */
function portAndFarEnd(options: Partial<PacketSocketOptions> = {}) {
  const [near, far] = lab.hosts(2);
  lab.veth(near, 'port', far, 'eth0');
  return { near, far, port: openPort(near, 'port', options), farEnd: openPort(far, 'eth0') };
}

const source = new FrameSource();

describe.each(['sendmmsg', 'ring'] as const)('ports that transmit by %s', (transmit) => {
  test('carry TCP over IPv4 and IPv6 in super-packets, every byte as it was', async () => {
    const { a, b, sa, sb } = twoHosts({ transmit });
    const loop = labLoop(lab);
    let longest = 0;
    let partial = 0;
    const look = (packet: Packet): void => {
      longest = Math.max(longest, packet.length);
      if (packet.checksum === Checksum.PARTIAL) partial += 1;
      if (packet.length > 1514) expect([Gso.TCPV4, Gso.TCPV6]).toContain(packet.gsoType & ~Gso.ECN);
    };
    wire(loop, sa, sb, { aToB: { look } });
    for (const address of ['10.0.0.2', 'fd00::2']) {
      const { sent, received } = await runWhile(loop, transfer(a, b, address, 24 << 20));
      expect(received).toBe(sent);
    }
    expect(longest).toBeGreaterThan(20_000);
    expect(partial).toBeGreaterThan(100);
    expect(sa.counters.transmitDropped + sb.counters.transmitDropped).toBe(0);
    expect(sa.counters.receivedBytes).toBeGreaterThan(48 << 20);
    expect(sb.counters.transmittedBytes).toBe(sa.counters.receivedBytes);
  });

  test('push, strip and replace VLAN tags without touching the frame', async () => {
    const { port, farEnd } = portAndFarEnd({ transmit });
    const plain = testFrame(100);
    const tagged = new Uint8Array([...plain.subarray(0, 12), 0x81, 0x00, 0x60, 0x07, ...plain.subarray(12)]);
    const pushed = new Uint8Array([...plain.subarray(0, 12), 0x81, 0x00, 0x20, 0x2a, ...plain.subarray(12)]);
    const twice = new Uint8Array([...plain.subarray(0, 12), 0x81, 0x00, 0x20, 0x2a, ...tagged.subarray(12)]);
    const push = TagAction.PUSH | 0x202a;
    const cases: [Uint8Array, number, Uint8Array][] = [
      [plain, TagAction.KEEP, plain],
      [tagged, TagAction.KEEP, tagged],
      [plain, push, pushed],
      [tagged, push, twice],
      [tagged, TagAction.STRIP, plain],
      [tagged, TagAction.STRIP | push, pushed],
      [plain, TagAction.STRIP, plain],
    ];
    for (const [frame, tag, expected] of cases) {
      source.send(port, [frame], tag);
      expect((await collect(farEnd, 1, isTestFrame))[0]).toEqual(expected);
    }
    expect(port.counters.transmittedPackets).toBe(cases.length);
    expect(port.counters.transmittedBytes).toBe(cases.reduce((sum, [, , frame]) => sum + frame.length, 0));
  });

  test('drop a bad frame alone, under its own reason, and send the others', async () => {
    const { port, farEnd } = portAndFarEnd({ transmit });
    const packets = [1, 2, 3, 4, 5, 6].map((mark) => source.packet(testFrame(200, mark)));
    const [, nonsense, , long, , short] = packets;
    nonsense.checksum = Checksum.PARTIAL;
    nonsense.checksumStart = 5000;
    nonsense.checksumOffset = 16;
    long.length = 3000;
    short.length = 9;
    for (const packet of packets) port.transmit(packet, TagAction.KEEP);
    port.flush();
    for (const packet of packets) packet.release();
    const frames = await collect(farEnd, 3, isTestFrame);
    expect(frames).toEqual([1, 3, 5].map((mark) => testFrame(200, mark)));
    expect(port.counters).toMatchObject({
      transmittedPackets: 3,
      transmittedBytes: 600,
      transmitTooLong: 1,
      transmitRejected: 2,
      transmitDropped: 3,
    });
  });

  test('send full-size frames with two tags, in their order among others, whatever puts the tags on', async () => {
    const { near, port, farEnd } = portAndFarEnd({ transmit });
    const plain = testFrame(1514, 1);
    const tags = (...tcis: number[]) =>
      new Uint8Array([...plain.subarray(0, 12), ...tcis.flatMap((tci) => [0x81, 0, 0, tci]), ...plain.subarray(12)]);
    const provider = tags(5, 7);
    provider[12] = 0x88;
    provider[13] = 0xa8;
    const partial = source.packet(tags(5, 7));
    // Where the sum belongs there is what a sender leaves there: 0, for a pseudo header of nothing.
    partial.checksum = Checksum.PARTIAL;
    partial.checksumStart = 22;
    partial.checksumOffset = 0;
    partial.bytes.fill(0, partial.offset + 22, partial.offset + 24);
    near.inside(() => {
      source.send(port, [testFrame(60, 2), provider, testFrame(60, 3)]);
      source.send(port, [tags(9)], TagAction.PUSH | 8);
      source.send(port, [tags(6, 7)], TagAction.STRIP | TagAction.PUSH | 5);
      port.transmit(partial, TagAction.KEEP);
      port.flush();
      source.send(port, [tags(5, 6, 7)]);
    });
    partial.release();
    const frames = await collect(farEnd, 6, isTestFrame);
    expect(frames.slice(0, 5)).toEqual([testFrame(60, 2), provider, testFrame(60, 3), tags(8, 9), tags(5, 7)]);
    expect(frames[5]).toHaveLength(1522);
    expect(internetChecksum(frames[5], 22, 1500)).toBe(0);
    expect(port.counters).toMatchObject({ transmittedPackets: 6, transmitTooLong: 1, transmitDropped: 1 });
    expect(port.counters.transmittedBytes).toBe(120 + 4 * 1522);
  });

  test('send more frames than a batch holds, in order', async () => {
    const { port, farEnd } = portAndFarEnd({ transmit });
    const frames = Array.from({ length: 200 }, (_, i) => testFrame(60 + i, i));
    const sending = frames.slice();
    const arrived: Uint8Array[] = [];
    while (sending.length > 0) {
      source.send(port, sending.splice(0, 100));
      arrived.push(...(await collect(farEnd, 100, isTestFrame)));
    }
    expect(arrived).toEqual(frames);
  });
});

test('a trunk of tagged super-packets carries TCP: tags are pushed, kept by the kernel beside the frame, and stripped again', async () => {
  const { a, b, middle, sa, sb } = twoHosts();
  lab.veth(middle, 't1', middle, 't2');
  const [t1, t2] = [openPort(middle, 't1'), openPort(middle, 't2')];
  const loop = labLoop(lab);
  let taggedPartial = 0;
  const look = (packet: Packet): void => {
    expect(packet.bytes[packet.offset + 12]).toBe(0x81);
    expect(packet.bytes[packet.offset + 15]).toBe(10);
    if (packet.checksum === Checksum.PARTIAL && packet.length > 1518) taggedPartial += 1;
  };
  const push = { tag: TagAction.PUSH | 10 };
  const strip = { tag: TagAction.STRIP, look };
  wire(loop, sa, t1, { aToB: push, bToA: strip });
  wire(loop, t2, sb, { aToB: strip, bToA: push });
  const { sent, received } = await runWhile(loop, transfer(a, b, '10.0.0.2', 16 << 20));
  expect(received).toBe(sent);
  expect(taggedPartial).toBeGreaterThan(50);
});

test('received frames are as on the wire, whatever tags they have, with headroom before them', async () => {
  const { port, farEnd } = portAndFarEnd();
  const tags = [
    '',
    '8100 6064',
    '88a8 0064',
    '8100 0001 8100 0fff',
    '88a8 00c8 8100 0064',
    '8100 0001 8100 0002 8100 0003',
  ];
  const frames = tags.map((tag) => {
    const frame = testFrame(120);
    return new Uint8Array([...frame.subarray(0, 12), ...hex(tag), ...frame.subarray(12)]);
  });
  source.send(farEnd, frames);
  const batch = new Batch();
  await eventually('all frames arrive', () => {
    port.receive(batch, frames.length - batch.count);
    return batch.count === frames.length;
  });
  for (let i = 0; i < frames.length; i += 1) {
    const packet = batch.packets[i];
    expect(packet.frame()).toEqual(frames[i]);
    expect(packet.offset - packet.headroomStart).toBeGreaterThanOrEqual(128);
    expect(Math.abs(packet.timestampSeconds - Date.now() / 1000)).toBeLessThan(5);
  }
  batch.releaseAll();
});

test('tcpdump at the far end reads the pushed tag', async () => {
  const [near, far] = lab.hosts(2);
  lab.veth(near, 'port', far, 'eth0');
  const port = openPort(near, 'port');
  const tcpdump = far.start('tcpdump', ['-i', 'eth0', '-e', '-nn', '-l', '-c', '1', 'vlan']);
  await tcpdump.printed(/listening/);
  source.send(port, [testFrame(64)], TagAction.PUSH | 0x6123);
  expect(await tcpdump.result()).toMatch(/ethertype 802\.1Q \(0x8100\).*vlan 291, p 3/);
});

test.each(['sendmmsg', 'ring'] as const)(
  'taps on a port see what it receives and what it sends by %s',
  async (transmit) => {
    const { near, port, farEnd } = portAndFarEnd({ transmit });
    const tcpdump = near.start('tcpdump', ['-i', 'port', '-e', '-nn', '-l', 'ether', 'proto', '0x88b5']);
    await tcpdump.printed(/listening/);
    source.send(port, [testFrame(100, 1)]);
    source.send(farEnd, [testFrame(200, 2)]);
    expect(await collect(farEnd, 1, isTestFrame)).toEqual([testFrame(100, 1)]);
    // Of its own frames the port hears nothing.
    expect(await collect(port, 1, isTestFrame)).toEqual([testFrame(200, 2)]);
    await tcpdump.printed(/length 100:[\s\S]*length 200:|length 200:[\s\S]*length 100:/);
    await tcpdump.stop();
  },
);

test('a full ring loses frames with a count, and goes on', async () => {
  const { port, farEnd } = portAndFarEnd({ receiveSlots: 30 });
  for (let round = 0; round < 2; round += 1) {
    source.send(
      farEnd,
      Array.from({ length: 100 }, (_, i) => testFrame(80, i)),
    );
    await sleep(50);
    const before = port.counters.receiveRingFull;
    const frames = await collect(port, 30, isTestFrame);
    expect(frames[29]).toEqual(testFrame(80, 29));
    expect(before).toBe(70 * (round + 1));
    expect(port.counters.receiveDropped).toBe(before);
  }
});

test('packets may be released in any order, and a held one is never delivered twice', async () => {
  const { port, farEnd } = portAndFarEnd({ receiveSlots: 15 });
  const batch = new Batch();
  const take = async (count: number): Promise<void> => {
    await eventually(`${count} packets`, () => {
      port.receive(batch, 64);
      return batch.count >= count;
    });
    expect(batch.count).toBe(count);
  };
  source.send(
    farEnd,
    Array.from({ length: 15 }, (_, i) => testFrame(80, i)),
  );
  await take(15);
  const first = batch.packets[0];
  const rest = batch.packets.slice(1, 15);
  batch.clear();
  // Backwards, all but the first: the kernel waits for that one.
  for (const packet of rest.reverse()) packet.release();
  source.send(farEnd, [testFrame(80, 100)]);
  await sleep(30);
  expect(port.receive(batch, 64)).toBe(0);
  expect(first.frame()).toEqual(testFrame(80, 0));
  first.release();
  source.send(
    farEnd,
    Array.from({ length: 15 }, (_, i) => testFrame(80, 50 + i)),
  );
  await take(15);
  expect(batch.packets[14].frame()).toEqual(testFrame(80, 64));
  batch.releaseAll();
  expect(port.counters.receiveRingFull).toBe(1);
});

test('frames longer than a slot are dropped with a count', async () => {
  const { a, b, sa, sb } = twoHosts();
  // IPv6 jumbo super-packets of TCP ("BIG TCP") are the only frames beyond 64 KB that there are.
  a.ip('link set dev eth0 gso_max_size 180000');
  const loop = labLoop(lab);
  wire(loop, sa, sb);
  const pending = transfer(a, b, 'fd00::2', 40 << 20);
  pending.catch(() => {});
  await runWhile(
    loop,
    eventually('a truncated frame', () => sa.counters.receiveTruncated > 0, 15_000),
  );
  expect(sa.counters.receiveDropped).toBeGreaterThanOrEqual(sa.counters.receiveTruncated);
});

test('a frame that is still held when its port closes stays readable', async () => {
  const { port, farEnd } = portAndFarEnd();
  const batch = new Batch();
  source.send(farEnd, [testFrame(300, 9)]);
  await eventually('the frame', () => port.receive(batch, 1) === 1);
  port.close();
  expect(batch.packets[0].frame()).toEqual(testFrame(300, 9));
  batch.releaseAll();
  // The memory is the kernel's no more, but reading it is harmless.
  expect(batch.packets[0].bytes[0]).toBe(0);
});
