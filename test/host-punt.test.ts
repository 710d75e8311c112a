/**
 * The punt channel against the running kernel: programs on ports hand packets up, and they arrive as a socket on the port would have got
 * them, with their port, in order; nothing else lives at the far end; a killed process leaves the devices to the next.
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { attachTcx, loadProgram, ProgramBuilder, R1, R6, TC } from '../src/bpf/index.ts';
import { FlowKey, readResumeRecord, Word } from '../src/flow/index.ts';
import {
  openDescriptors,
  openPacketSocket,
  openPuntChannel,
  type PacketSocket,
  type PuntChannel,
  type PuntChannelOptions,
  removeLeftPuntPair,
  withRouteClient,
} from '../src/host/index.ts';
import {
  BATCH_SIZE,
  Batch,
  Checksum,
  Gso,
  type InterfaceIndex,
  type Packet,
  TagAction,
  toInterfaceIndex,
  toKeyPort,
} from '../src/net/index.ts';
import { emitPunt, type PuntOrigin } from '../src/offload/punt/punt.ts';
import { emitResumeRecord } from '../src/offload/punt/record.ts';
import {
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
} from './support/index.ts';
import { transfer } from './support/transfer.ts';

let lab = new Lab();
afterEach(() => {
  lab.close();
  lab = new Lab();
});

const source = new FrameSource();

function openChannel(middle: Host, options: Partial<PuntChannelOptions> = {}): PuntChannel {
  return lab.own(middle.inside(() => openPuntChannel({ interfaceName: 'mrpunt', ...options })));
}

function indexOf(host: Host, name: string): InterfaceIndex {
  return toInterfaceIndex(host.inside(() => withRouteClient((client) => client.link(name).index)));
}

/** Have everything that comes in by a device go up. */
function puntFrom(host: Host, name: string, channel: PuntChannel, origin: PuntOrigin = 'marked'): void {
  const b = new ProgramBuilder('punt_all');
  b.mov(R6, R1);
  emitPunt(b, R6, channel.interfaceIndex, origin);
  host.inside(() => {
    const program = lab.own(loadProgram({ type: 'sched_cls', code: b }));
    lab.own(attachTcx({ program, netdev: name, direction: 'ingress', position: 'first' }));
  });
}

/** What a packet is, as a handler sees it. */
interface Seen {
  frame: Uint8Array;
  checksum: number;
  gsoType: number;
  timestampSeconds: number;
}

function take(channel: PuntChannel, interfaceIndex: InterfaceIndex, look: (packet: Packet) => void = () => {}): Seen[] {
  const seen: Seen[] = [];
  channel.claim(interfaceIndex, {
    onPunted(batch) {
      for (let i = 0; i < batch.count; i += 1) {
        const packet = batch.packets[i];
        look(packet);
        const { checksum, gsoType, timestampSeconds } = packet;
        if (isTestFrame(packet.frame())) {
          seen.push({ frame: packet.frame().slice(), checksum, gsoType, timestampSeconds });
        }
      }
      batch.releaseAll();
    },
  });
  return seen;
}

/** Two hosts on ports whose packets all go up, and are sent out of the other port. */
function twoHosts(look: (packet: Packet) => void = () => {}) {
  const [a, b, middle] = lab.hosts(3);
  lab.veth(middle, 'sa', a, 'eth0');
  lab.veth(middle, 'sb', b, 'eth0');
  for (const [host, last] of [
    [a, 1],
    [b, 2],
  ] as const) {
    host.address('eth0', `10.0.0.${last}/24`);
    host.address('eth0', `fd00::${last}/64`);
  }
  const channel = openChannel(middle);
  const loop = labLoop(lab);
  loop.add(channel.fileDescriptor, { onReady: () => void channel.receive(), onError: () => {} });
  const open = (interfaceName: string): PacketSocket =>
    lab.own(middle.inside(() => openPacketSocket({ interfaceName, receive: false })));
  const [sa, sb] = [open('sa'), open('sb')];
  const join = (from: PacketSocket, to: PacketSocket): void => {
    puntFrom(middle, from.interfaceName, channel);
    channel.claim(from.interfaceIndex, {
      onPunted(batch) {
        for (let i = 0; i < batch.count; i += 1) {
          look(batch.packets[i]);
          to.transmit(batch.packets[i], TagAction.KEEP);
        }
        to.flush();
        batch.releaseAll();
      },
    });
  };
  join(sa, sb);
  join(sb, sa);
  return { a, b, middle, channel, loop, sa, sb };
}

test('TCP passes in super-packets with partial checksums, UDP and ping too, every byte as it was', async () => {
  let longest = 0;
  let partial = 0;
  const { a, b, channel, loop, sa } = twoHosts((packet) => {
    longest = Math.max(longest, packet.length);
    if (packet.checksum === Checksum.PARTIAL) partial += 1;
  });
  for (const address of ['10.0.0.2', 'fd00::2']) {
    const { sent, received } = await runWhile(loop, transfer(a, b, address, 24 << 20));
    expect(received).toBe(sent);
  }
  expect(longest).toBeGreaterThan(20_000);
  expect(partial).toBeGreaterThan(100);
  const server = b.start('iperf3', ['-s', '-1', '--forceflush']);
  await server.printed(/listening/);
  const client = a.start('iperf3', ['-u', '-b', '20M', '-t', '1', '-c', '10.0.0.2']);
  const report = await runWhile(loop, client.result());
  expect(report).toMatch(/ 0\/\d+ \(0%\) {2}receiver/);
  await server.result();
  expect(channel.counters).toMatchObject({ ringFull: 0, truncated: 0, malformed: 0, unclaimed: 0 });
  expect(channel.counters.receivedBytes).toBeGreaterThan(48 << 20);
  // What only sends has received nothing, and still knows its device.
  expect(sa.counters.receivedPackets).toBe(0);
  expect(sa.refresh()).toBe('up');
}, 60_000);

test.each(['first-device', 'marked'] as const)(
  'tagged frames of two ports at once keep port and order: %s',
  (origin) => {
    const [a, b, middle] = lab.hosts(3);
    lab.veth(middle, 'sa', a, 'eth0');
    lab.veth(middle, 'sb', b, 'eth0');
    const channel = openChannel(middle);
    const open = (host: Host) => lab.own(host.inside(() => openPacketSocket({ interfaceName: 'eth0' })));
    const [fromA, fromB] = [open(a), open(b)];
    const ports = ['sa', 'sb'].map((name) => {
      puntFrom(middle, name, channel, origin);
      return take(channel, indexOf(middle, name));
    });
    const frames = (base: number): Uint8Array[] =>
      [...Array(40).keys()].map((i) => {
        const plain = testFrame(100 + i, base + i);
        const tags = [[], hex('8100 6007'), hex('88a8 0064 8100 2007')][i % 3] ?? [];
        return new Uint8Array([...plain.subarray(0, 12), ...tags, ...plain.subarray(12)]);
      });
    for (let i = 0; i < 40; i += 1) {
      source.send(fromA, [frames(0)[i]]);
      source.send(fromB, [frames(100)[i]]);
    }
    const before = Math.floor(Date.now() / 1000) - 5;
    for (let turn = 0; turn < 20 && channel.receive() > 0; turn += 1);
    expect(ports[0].map(({ frame }) => frame)).toEqual(frames(0));
    expect(ports[1].map(({ frame }) => frame)).toEqual(frames(100));
    for (const { timestampSeconds } of ports.flat()) expect(timestampSeconds).toBeGreaterThan(before);
  },
);

/** Send a packet of each kind through both interfaces of a host. */
function sendAllKinds(host: Host): void {
  const senders = ['eth0', 'eth1'].map((interfaceName) =>
    lab.own(host.inside(() => openPacketSocket({ interfaceName }))),
  );
  for (const [gsoType, tags, lengthBytes] of KINDS) {
    for (const sender of senders) {
      const packet = superPacket(gsoType, hex(tags), lengthBytes);
      sender.transmit(packet, TagAction.KEEP);
      sender.flush();
      packet.release();
    }
  }
}

test('frames, super-packets, partial checksums and tags are, bit for bit, what a socket on the port gives', async () => {
  const [a, middle] = lab.hosts(2);
  lab.veth(middle, 'sa', a, 'eth0');
  lab.veth(middle, 'sb', a, 'eth1');
  const channel = openChannel(middle);
  puntFrom(middle, 'sa', channel);
  const punted: ReturnType<typeof all>[] = [];
  channel.claim(indexOf(middle, 'sa'), {
    onPunted(batch) {
      for (let i = 0; i < batch.count; i += 1) punted.push(all(batch.packets[i]));
      batch.releaseAll();
    },
  });
  const direct = lab.own(middle.inside(() => openPacketSocket({ interfaceName: 'sb' })));
  sendAllKinds(a);
  const received: ReturnType<typeof all>[] = [];
  const batch = new Batch();
  await eventually('both have all', () => {
    channel.receive();
    direct.receive(batch, BATCH_SIZE);
    for (let i = 0; i < batch.count; i += 1) received.push(all(batch.packets[i]));
    batch.releaseAll();
    return received.length >= 7 && punted.length >= 7;
  });
  expect(punted).toEqual(received);
  expect(punted.filter(({ gsoType }) => gsoType !== Gso.NONE).length).toBe(5);
  expect(punted.filter(({ checksum }) => checksum === Checksum.PARTIAL).length).toBe(5);
});

/** Have everything that comes in by a device go up with a record before it, as if it were to be looked up under an id. */
function resumeFrom(host: Host, name: string, channel: PuntChannel, recircId: number): void {
  const b = new ProgramBuilder('resume_all');
  const failed = b.label('failed');
  b.mov(R6, R1);
  const places = [1, recircId, 77, 3].map((value) => {
    const place = b.stack(4);
    b.store('u32', place, value);
    return place;
  });
  const [inPort, id, dpHash, passes] = places;
  emitResumeRecord(b, { inPort, recircId: id, dpHash, passes }, failed);
  emitPunt(b, R6, channel.interfaceIndex, 'record');
  b.place(failed);
  b.return(TC.SHOT);
  host.inside(() => {
    const program = lab.own(loadProgram({ type: 'sched_cls', code: b }));
    lab.own(attachTcx({ program, netdev: name, direction: 'ingress', position: 'first' }));
  });
}

const KINDS = [
  [Gso.NONE, '', 60],
  [Gso.NONE, '8100 0007', 1500],
  [Gso.TCPV4, '', 3000],
  [Gso.TCPV4 | Gso.ECN, '', 40_000],
  [Gso.TCPV4, '8100 6007', 65_000],
  [Gso.UDP_L4, '88a8 0007', 20_000],
  [Gso.UDP_L4, '88a8 0007 8100 0008', 9000],
] as const;

test('with a record before them, frames, super-packets, partial checksums and tags are the same, and the record is whole', async () => {
  const [a, middle] = lab.hosts(2);
  lab.veth(middle, 'sa', a, 'eth0');
  lab.veth(middle, 'sb', a, 'eth1');
  const channel = openChannel(middle);
  resumeFrom(middle, 'sa', channel, 0x1234_5678);
  const resumed: ReturnType<typeof all>[] = [];
  const plain: Packet[] = [];
  const keys: FlowKey[] = [];
  const claim = channel.claim(indexOf(middle, 'sa'), {
    onPunted(batch) {
      plain.push(...batch.packets.slice(0, batch.count));
      batch.releaseAll();
    },
    onResumed(packet, record) {
      const key = new FlowKey();
      // The kernel of the far end sends frames of its own, which go up as well.
      const isOurs = packet.frame()[5] === 2;
      if (isOurs) {
        expect(readResumeRecord(record, toKeyPort(1), key)).toBeNull();
        keys.push(key);
        resumed.push(all(packet));
        expect(packet.timestampSeconds).toBeGreaterThan(1_000_000_000);
      }
      packet.release();
    },
  });
  const direct = lab.own(middle.inside(() => openPacketSocket({ interfaceName: 'sb' })));
  sendAllKinds(a);
  const received: ReturnType<typeof all>[] = [];
  const batch = new Batch();
  await eventually('both have all', () => {
    channel.receive();
    direct.receive(batch, BATCH_SIZE);
    for (let i = 0; i < batch.count; i += 1) {
      if (batch.packets[i].frame()[5] === 2) received.push(all(batch.packets[i]));
    }
    batch.releaseAll();
    return received.length >= KINDS.length && resumed.length >= KINDS.length;
  });
  expect(resumed).toEqual(received);
  for (const { recircId, words, recirculations } of keys) {
    expect([recircId, words[Word.DP_HASH], recirculations]).toEqual([0x1234_5678, 77, 3]);
  }
  expect(plain).toEqual([]);
  expect(claim.handled).toBeGreaterThanOrEqual(KINDS.length);
  expect(channel.counters).toMatchObject({ truncated: 0, malformed: 0, unclaimed: 0 });
});

test('packets with and without a record keep their order; who takes none with one has them counted', async () => {
  const [a, middle] = lab.hosts(2);
  lab.veth(middle, 'sa', a, 'eth0');
  const channel = openChannel(middle);
  const seen: string[] = [];
  channel.claim(indexOf(middle, 'sa'), {
    onPunted(batch) {
      for (let i = 0; i < batch.count; i += 1) if (isTestFrame(batch.packets[i].frame())) seen.push('plain');
      batch.releaseAll();
    },
    onResumed(packet) {
      if (isTestFrame(packet.frame())) seen.push('resumed');
      packet.release();
    },
  });
  const far = lab.own(a.inside(() => openPacketSocket({ interfaceName: 'eth0' })));
  const order: string[] = [];
  for (let i = 0; i < 6; i += 1) {
    const isResumed = i % 3 === 1;
    if (isResumed) resumeFrom(middle, 'sa', channel, 5);
    else puntFrom(middle, 'sa', channel);
    source.send(far, [testFrame(60, i), testFrame(60, i)]);
    order.push(...Array(2).fill(isResumed ? 'resumed' : 'plain'));
  }
  await eventually('all have come', () => {
    channel.receive();
    return seen.length >= order.length;
  });
  expect(seen).toEqual(order);

  channel.disclaim(indexOf(middle, 'sa'));
  const others = take(channel, indexOf(middle, 'sa'));
  resumeFrom(middle, 'sa', channel, 5);
  const before = channel.counters.unclaimed;
  source.send(far, [testFrame(60, 1)]);
  await eventually('it is counted', () => {
    channel.receive();
    return channel.counters.unclaimed > before;
  });
  expect(others).toEqual([]);
});

test('a frame that is said to have a record, and has not, is dropped and counted', async () => {
  const [a, middle] = lab.hosts(2);
  lab.veth(middle, 'sa', a, 'eth0');
  const channel = openChannel(middle);
  // The first bytes of a frame are no length that leaves room for a frame.
  puntFrom(middle, 'sa', channel, 'record');
  const seen = take(channel, indexOf(middle, 'sa'));
  const far = lab.own(a.inside(() => openPacketSocket({ interfaceName: 'eth0' })));
  source.send(far, [testFrame(60, 1)]);
  await eventually('it is counted', () => {
    channel.receive();
    return channel.counters.malformed > 0;
  });
  expect(seen).toEqual([]);
});

/** All that a packet says, but the time. */
function all(packet: Packet) {
  const { checksum, checksumStart, checksumOffset, gsoType, gsoSizeBytes, headerLengthBytes } = packet;
  const frame = Buffer.from(packet.frame()).toString('hex');
  return { frame, checksum, checksumStart, checksumOffset, gsoType, gsoSizeBytes, headerLengthBytes };
}

/** An IPv4 packet that its receiver would have to cut, or a plain one. */
function superPacket(gsoType: number, tags: Uint8Array, lengthBytes: number): Packet {
  const isTcp = (gsoType & ~Gso.ECN) === Gso.TCPV4;
  const frame = new Uint8Array(lengthBytes);
  frame.set(hex('020000000002 020000000001'));
  frame.set(tags, 12);
  const ip = 14 + tags.length;
  frame.set(hex(`0800 4500 0000 0000 4000 40${isTcp ? '06' : '11'} 0000 0a000001 0a000002`), ip - 2);
  new DataView(frame.buffer).setUint16(ip + 2, lengthBytes - ip);
  frame.set(isTcp ? hex('0400 0400 00000001 00000001 5010 ffff 0000 0000') : hex('0400 0400 0000 0000'), ip + 20);
  if (!isTcp) new DataView(frame.buffer).setUint16(ip + 24, lengthBytes - ip - 20);
  const packet = source.packet(frame);
  if (gsoType === Gso.NONE) return packet;
  packet.gsoType = gsoType;
  packet.gsoSizeBytes = 1000;
  packet.checksum = Checksum.PARTIAL;
  packet.checksumStart = ip + 20;
  packet.checksumOffset = isTcp ? 16 : 6;
  packet.headerLengthBytes = ip + 20 + (isTcp ? 20 : 8);
  return packet;
}

test('a port on top of another device is told by its mark, though the packet first came in below', async () => {
  const [a, middle] = lab.hosts(2);
  lab.veth(middle, 'lower', a, 'eth0');
  middle.ip('link add link lower name upper type macvlan mode private');
  middle.ip('link set upper up');
  const channel = openChannel(middle);
  puntFrom(middle, 'upper', channel, 'first-device');
  const upper = take(channel, indexOf(middle, 'upper'));
  const lower = take(channel, indexOf(middle, 'lower'));
  const far = lab.own(a.inside(() => openPacketSocket({ interfaceName: 'eth0' })));
  const frame = testFrame(80, 1);
  frame.set(hex(middle.macAddress('upper').replaceAll(':', '')));
  source.send(far, [frame]);
  await eventually('the frame comes up', () => channel.receive() > 0 && lower.length + upper.length === 1);
  expect(lower.length).toBe(1);
  puntFrom(middle, 'upper', channel, 'marked');
  source.send(far, [frame]);
  await eventually('the frame comes up', () => channel.receive() > 0 && lower.length + upper.length === 2);
  expect(upper.map((seen) => seen.frame)).toEqual([frame]);
});

test('nothing at the far end answers, sends or is seen, while the channel is open and when it is not', async () => {
  const [a, middle] = lab.hosts(2);
  lab.veth(middle, 'sa', a, 'eth0');
  a.address('eth0', '10.0.0.1/24');
  a.address('eth0', 'fd00::1/64');
  const folder = mkdtempSync(join(tmpdir(), 'millrace-punt-'));
  lab.onClose(() => rmSync(folder, { recursive: true, force: true }));
  const namespacePath = join(folder, 'punt');
  const channel = openChannel(middle, { namespacePath });
  lab.onClose(() => removeLeftInside(middle, namespacePath));
  puntFrom(middle, 'sa', channel);
  const addresses = channel.namespace.run(() => withRouteClient((client) => client.links().map((link) => link.name)));
  expect(addresses.sort()).toEqual(['lo', 'punt']);
  const counts = () =>
    middle.inside(() => withRouteClient((client) => client.link('mrpunt').statistics))?.receivedPackets ?? -1;
  for (const open of [true, false]) {
    if (!open) channel.close();
    for (const address of ['10.0.0.9', '10.0.0.255', 'fd00::9', '255.255.255.255']) {
      expect(a.ping(address, { count: 1, timeoutMs: 100 })).toBe(false);
    }
    a.ip('neigh flush all');
    await sleep(50);
    // What the inner end's stack sent would have come out of the outer end.
    expect(counts()).toBe(0);
  }
});

function removeLeftInside(host: Host, path: string): void {
  host.inside(() => removeLeftPuntPair('mrpunt', path));
}

test('packets of ports that nobody claims are counted and let go, also when a port is given up while it is served', async () => {
  const [a, middle] = lab.hosts(2);
  lab.veth(middle, 'sa', a, 'eth0');
  const channel = openChannel(middle, { receiveSlots: 15 });
  puntFrom(middle, 'sa', channel);
  const far = lab.own(a.inside(() => openPacketSocket({ interfaceName: 'eth0' })));
  const seen = take(channel, indexOf(middle, 'sa'), () => channel.disclaim(indexOf(middle, 'sa')));
  expect(() => take(channel, indexOf(middle, 'sa'))).toThrow(/claimed already/);
  for (let round = 0; round < 10; round += 1) {
    source.send(far, [testFrame(60, round), testFrame(60, round + 1)]);
    channel.receive();
  }
  expect(seen.length).toBe(2);
  expect(channel.counters.unclaimed).toBeGreaterThanOrEqual(18);
  expect(channel.counters.ringFull).toBe(0);
});

test('packets that find the ring full are counted as lost', async () => {
  const [a, middle] = lab.hosts(2);
  lab.veth(middle, 'sa', a, 'eth0');
  const channel = openChannel(middle, { receiveSlots: 15 });
  puntFrom(middle, 'sa', channel);
  const seen = take(channel, indexOf(middle, 'sa'));
  const far = lab.own(a.inside(() => openPacketSocket({ interfaceName: 'eth0' })));
  for (let i = 0; i < 40; i += 1) source.send(far, [testFrame(60, i)]);
  while (channel.receive() > 0);
  expect(seen.length).toBe(15);
  expect(channel.counters.ringFull).toBeGreaterThanOrEqual(25);
});

test('the devices outlive a process that is killed, with the same number, and the next process takes up; removing leaves nothing', async () => {
  const [a, middle] = lab.hosts(2);
  lab.veth(middle, 'sa', a, 'eth0');
  const folder = mkdtempSync(join(tmpdir(), 'millrace-punt-'));
  lab.onClose(() => rmSync(folder, { recursive: true, force: true }));
  const namespacePath = join(folder, 'punt');
  lab.onClose(() => removeLeftInside(middle, namespacePath));
  const script = fileURLToPath(new URL('support/hold-punt.ts', import.meta.url));
  // `ip netns exec` would give it mounts of its own, which end with it.
  const holder = lab.start('nsenter', [
    `--net=/run/netns/${middle.name}`,
    ...[process.execPath, '--import', 'jiti/register', script, 'mrpunt', namespacePath],
  ]);
  await holder.printed(/holds \d+ false/, 20_000);
  const index = Number(/holds (\d+)/.exec(holder.output())?.[1]);
  expect(() => openChannel(middle, { namespacePath })).toThrow(/EBUSY|another Millrace/);
  await holder.stop('SIGKILL');

  const channel = openChannel(middle, { namespacePath });
  expect(channel).toMatchObject({ adopted: true, interfaceIndex: index });
  puntFrom(middle, 'sa', channel);
  const seen = take(channel, indexOf(middle, 'sa'));
  const far = lab.own(a.inside(() => openPacketSocket({ interfaceName: 'eth0' })));
  source.send(far, [testFrame(60, 1)]);
  await eventually('the frame comes up', () => channel.receive() > 0 && seen.length === 1);
  channel.remove();
  expect(middle.ip('link')).not.toContain('mrpunt');
  expect(existsSync(namespacePath)).toBe(false);
});

test('a file that keeps no namespace any more, and half a pair, are replaced; a stranger with the name is left alone', () => {
  const middle = lab.host();
  const folder = mkdtempSync(join(tmpdir(), 'millrace-punt-'));
  lab.onClose(() => rmSync(folder, { recursive: true, force: true }));
  const namespacePath = join(folder, 'punt');
  lab.onClose(() => removeLeftInside(middle, namespacePath));
  writeFileSync(namespacePath, '');
  const first = openChannel(middle, { namespacePath });
  expect(first.adopted).toBe(false);
  first.close();
  middle.ip('link delete mrpunt');
  const second = openChannel(middle, { namespacePath });
  expect(second.adopted).toBe(false);
  second.remove();
  middle.ip('link add mrpunt type ifb');
  expect(() => openChannel(middle)).toThrow(/another interface has this name/);
  expect(() => openChannel(middle, { namespacePath })).toThrow(/another interface has this name/);
  expect(existsSync(namespacePath)).toBe(false);
  expect(middle.inside(() => removeLeftPuntPair('mrpunt', namespacePath))).toBe(false);
  expect(middle.ip('link')).toContain('mrpunt');
});

test('devices that somebody deletes are noticed, and a channel opens anew; nothing stays open', async () => {
  const middle = lab.host();
  const folder = mkdtempSync(join(tmpdir(), 'millrace-punt-'));
  lab.onClose(() => rmSync(folder, { recursive: true, force: true }));
  const before = openDescriptors();
  for (const namespacePath of [null, join(folder, 'punt')]) {
    for (let round = 0; round < 3; round += 1) {
      const channel = openChannel(middle, { namespacePath });
      const loop = labLoop(lab);
      let errors = 0;
      loop.add(channel.fileDescriptor, { onReady: () => {}, onError: () => (errors += 1) });
      expect(channel.refresh()).toBe('up');
      middle.ip('link delete mrpunt');
      while (loop.poll(10));
      expect(errors).toBeGreaterThan(0);
      expect(channel.refresh()).toBe('gone');
      expect(channel.receive()).toBe(0);
      loop.close();
      channel.remove();
      channel.close();
    }
  }
  expect(openDescriptors()).toBe(before);
});

test('a punted packet costs about as much as one that a socket on the port receives', () => {
  const [a, middle] = lab.hosts(2);
  lab.veth(middle, 'sa', a, 'eth0');
  lab.veth(middle, 'sb', a, 'eth1');
  const channel = openChannel(middle);
  puntFrom(middle, 'sa', channel);
  let punted = 0;
  const claim = channel.claim(indexOf(middle, 'sa'), {
    onPunted(batch) {
      punted += batch.count;
      batch.releaseAll();
    },
  });
  const open = (host: Host, interfaceName: string) => lab.own(host.inside(() => openPacketSocket({ interfaceName })));
  const direct = open(middle, 'sb');
  const batch = new Batch();
  let received = 0;
  const receiveDirectly = (): number => {
    const count = direct.receive(batch, BATCH_SIZE);
    received += count;
    batch.releaseAll();
    return count;
  };
  const frames = [...Array(BATCH_SIZE).keys()].map((mark) => testFrame(60, mark));
  const round = (port: PacketSocket, receive: () => number): number => {
    const start = performance.now();
    for (let i = 0; i < 20; i += 1) {
      source.send(port, frames);
      while (receive() > 0);
    }
    return performance.now() - start;
  };
  const [toPunt, toDirect] = [open(a, 'eth0'), open(a, 'eth1')];
  let [puntMs, directMs] = [Infinity, Infinity];
  for (let i = 0; i < 60; i += 1) {
    directMs = Math.min(directMs, round(toDirect, receiveDirectly));
    puntMs = Math.min(
      puntMs,
      round(toPunt, () => channel.receive()),
    );
  }
  expect(claim.handled).toBe(punted);
  expect(punted).toBeGreaterThanOrEqual(60 * 20 * BATCH_SIZE);
  expect(received).toBeGreaterThanOrEqual(60 * 20 * BATCH_SIZE);
  expect(puntMs).toBeLessThan(directMs * 1.3);
});
