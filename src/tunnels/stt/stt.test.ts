/** STT: bytes by the published description, segments in any order, bounds, and frames that never end. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TunnelFlag } from '../../flow/index.ts';
import {
  Batch,
  Checksum,
  completeChecksum,
  composeFrame,
  EtherType,
  Gso,
  header,
  IpProtocol,
  type Packet,
  type PacketPool,
  SegmentResult,
  segment,
  VlanTag,
} from '../../net/index.ts';
import { Decapsulator } from '../decapsulate.ts';
import { TunnelWord } from '../key.ts';
import { TunnelKind, TunnelPort, TunnelPorts } from '../port.ts';
import { TunnelResult, tunnelResultName } from '../result.ts';
import {
  anyFrame,
  encapsulatorOf,
  ethernet,
  hex,
  ipv4,
  isSound,
  type Key,
  largePool,
  packetOf,
  pathOf,
  payloadOf,
  SECRET,
  smallPool,
  tcp,
  udp,
  udpFrame,
  wordsOf,
} from '../testing.ts';
import { SttReceiver, type SttReceiverSettings } from './receiver.ts';

const port = new TunnelPort({ kind: TunnelKind.STT });

/** The STT header behind Ethernet, IPv4 and what looks like TCP. */
const STT = 54;

class World {
  nowMs = 1000;
  readonly pool: PacketPool;
  readonly receiver: SttReceiver;
  readonly decapsulator: Decapsulator;
  words = new Uint32Array(77);
  #out: Packet | null = null;

  constructor(settings: Partial<SttReceiverSettings> = {}, buffers = 8) {
    this.pool = settings.pool ?? largePool(buffers);
    this.receiver = new SttReceiver({ nowMs: () => this.nowMs, pool: this.pool, secret: SECRET, ...settings });
    const ports = new TunnelPorts();
    ports.add(port);
    this.decapsulator = new Decapsulator(ports, this.receiver);
  }

  receive(frame: Uint8Array): string {
    this.words = new Uint32Array(77);
    const packet = packetOf(frame);
    const result = this.decapsulator.decapsulate(packet, this.words);
    if (result === TunnelResult.DONE) this.#out = this.decapsulator.whole ?? packet;
    return tunnelResultName(result);
  }

  /** The packet that came out last. */
  get out(): Packet {
    if (this.#out === null) throw new Error('nothing came out');
    return this.#out;
  }

  /** Its bytes; a buffer goes back. */
  take(): Uint8Array {
    const frame = this.out.frame().slice();
    this.out.release();
    return frame;
  }
}

/** A packet through the sender and, where it is longer than the path, through segmentation of net/: what is on the wire. */
function onTheWire(packet: Packet, mtuBytes = 1500, key: Key = {}, encapsulator = encapsulatorOf()): Uint8Array[] {
  const words = wordsOf(key);
  const isIpv6 = words[TunnelWord.IP] >>> 24 === 6;
  const result = encapsulator.encapsulate(packet, 0, port, words, 0, pathOf(isIpv6, mtuBytes));
  expect(tunnelResultName(result)).toBe('done');
  if (packet.gsoType === Gso.NONE) {
    expect(completeChecksum(packet)).toBe(SegmentResult.DONE);
    return [packet.frame().slice()];
  }
  const pool = smallPool(1300);
  const out = new Batch();
  expect(segment(packet, pool, out)).toBe(SegmentResult.DONE);
  const frames = out.packets.slice(0, out.count).map((each) => each.frame().slice());
  for (const frame of frames) expect(frame.length - 14).toBeLessThanOrEqual(mtuBytes);
  return frames;
}

/** A TCP packet of IPv4 as a host with offloads hands it over: its checksum partial, to be cut in segments of a size, if any. */
function tcpPacket(length: number, segmentSize = 0, flags = 0x18): Packet {
  const packet = packetOf(
    composeFrame([ethernet(EtherType.IPV4), ipv4(IpProtocol.TCP), tcp(1000, 80, flags)], payloadOf(length)),
  );
  let sum = 0xc0a8 + 1 + 0xc0a8 + 2 + 6 + 20 + length;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  packet.region.view.setUint16(packet.offset + 50, sum);
  Object.assign(packet, { checksum: Checksum.PARTIAL, checksumStart: 34, checksumOffset: 16 });
  if (segmentSize > 0) Object.assign(packet, { gsoType: Gso.TCPV4, gsoSizeBytes: segmentSize, headerLengthBytes: 54 });
  return packet;
}

const metadataOf = ({ checksum, checksumStart, checksumOffset, gsoType, gsoSizeBytes }: Packet) => ({
  checksum,
  checksumStart,
  checksumOffset,
  gsoType,
  gsoSizeBytes,
});

test('the bytes are those of the published description', () => {
  // draft-davie-stt-08, section 3. Inside are an Ethernet header and four bytes; with the STT header the frame has 36 = 0x24.
  const inside = hex('020000000002 020000000001 88b5 aabbccdd');
  const parts = {
    ethernet: '02000000000b 02000000000a 0800',
    // 20 + 20 + 36 = 76 = 0x4c bytes; protocol 6.
    ip: '4500 004c 0000 0000 40 06 66a8 0a010001 0a010002',
    // The source port is the flow's, the destination is 7471.
    ports: 'c000 1d2f',
    // Sequence number: the frame's length, and where in it this segment begins.
    sequence: '0024 0000',
    // Acknowledgment: the number of the frame.
    acknowledgment: '00000000',
    // Five words, ACK and PSH; window.
    offsetAndFlags: '5018 ffff',
    // Summed by hand over pseudo header, this header and the frame.
    checksum: '1bd9',
    urgent: '0000',
    // Version, flags (nothing is known of the checksum inside), offset of layer 4, reserved.
    version: '00 00 00 00',
    // Largest segment of the TCP inside, and the tag: there is neither.
    segmentAndTag: '0000 0000',
    contextId: '0123456789abcdef',
    padding: '0000',
  };
  const vector = Uint8Array.from([...hex(Object.values(parts).join('')), ...inside]);
  const key = { id: 0x0123_4567_89ab_cdefn, sourcePort: 0xc000 };
  expect(onTheWire(packetOf(inside), 1500, key)).toEqual([vector]);
  const world = new World();
  expect(world.receive(vector)).toBe('done');
  expect(world.take()).toEqual(inside);
  const { words } = world;
  expect([words[TunnelWord.ID_HIGH], words[TunnelWord.ID]]).toEqual([0x0123_4567, 0x89ab_cdef]);
  expect([words[TunnelWord.SOURCE], words[TunnelWord.DESTINATION]]).toEqual([0x0a01_0001, 0x0a01_0002]);
  expect(words[TunnelWord.PORTS]).toBe(0xc000_1d2f);
  expect(words[TunnelWord.IP]).toBe(0x0400_4000);
  expect(words[TunnelWord.FLAGS]).toBe((TunnelFlag.KEY | TunnelFlag.CHECKSUM) << 16);
});

test('what is said beside a packet is in the header: partial checksum, TCP over IPv4, its place, the segment size', () => {
  const [first] = onTheWire(tcpPacket(3000, 1000));
  expect([...first.subarray(STT, STT + 8)]).toEqual([...hex('00 0e 22 00 03e8 0000')]);
  expect([...onTheWire(tcpPacket(100))[0].subarray(STT, STT + 8)]).toEqual([...hex('00 0e 22 00 0000 0000')]);
  const checked = packetOf(udpFrame());
  checked.checksum = Checksum.VALID;
  expect(onTheWire(checked)[0][STT + 1]).toBe(1);
});

test('a super-packet of 64 KB is one frame in segments of the path, and comes out as it went in', () => {
  for (const destination of ['10.1.0.2', 'fd00:1::2']) {
    for (const flags of [0x18, 0x98]) {
      const world = new World();
      const packet = tcpPacket(64_000, 1448, flags);
      if (flags === 0x98) packet.gsoType |= Gso.ECN;
      const inside = packet.frame().slice();
      const metadata = metadataOf(packet);
      const wire = onTheWire(packet, 1500, { destination, id: 5n });
      expect(wire.length).toBeGreaterThan(40);
      expect(wire.every(isSound)).toBe(true);
      const results = wire.map((frame) => world.receive(frame));
      expect(results.pop()).toBe('done');
      expect(new Set(results)).toEqual(new Set(['waiting']));
      expect(Buffer.compare(world.out.frame(), inside)).toBe(0);
      expect(metadataOf(world.out)).toEqual(metadata);
      expect(world.words[TunnelWord.ID]).toBe(5);
      world.take();
      expect([world.receiver.waiting, world.pool.available]).toEqual([0, world.pool.capacity]);
    }
  }
});

test('segments in any order, some of them twice, make the frame that they were cut from', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 100, max: 5000 }),
      fc.integer({ min: 128, max: 1500 }),
      fc.infiniteStream(fc.nat(1000)),
      fc.nat(5),
      (length, mtuBytes, order, twice) => {
        const world = new World();
        const packet = tcpPacket(length);
        const inside = packet.frame().slice();
        const wire = onTheWire(packet, mtuBytes).map((frame) => ({ frame, rank: order.next().value ?? 0 }));
        wire.sort((one, other) => one.rank - other.rank);
        wire.forEach(({ frame }, i) => {
          const isLast = i === wire.length - 1;
          expect(world.receive(frame)).toBe(isLast ? 'done' : 'waiting');
          if (i < twice && !isLast) expect(world.receive(frame)).toBe('duplicate-segment');
        });
        expect(Buffer.compare(world.take(), inside)).toBe(0);
        expect([world.receiver.waiting, world.pool.available]).toEqual([0, world.pool.capacity]);
      },
    ),
    { numRuns: 60 },
  );
});

test('any frame comes out as it went in, over both families', () => {
  const encapsulator = encapsulatorOf();
  fc.assert(
    fc.property(
      anyFrame,
      fc.constantFrom('10.1.0.2', 'fd00:1::2'),
      fc.bigInt(0n, (1n << 64n) - 1n),
      (frame, destination, id) => {
        const world = new World();
        const [wire] = onTheWire(packetOf(frame), 1500, { destination, id }, encapsulator);
        expect(world.receive(wire)).toBe('done');
        expect(world.take()).toEqual(frame);
        expect((BigInt(world.words[TunnelWord.ID_HIGH]) << 32n) | BigInt(world.words[TunnelWord.ID])).toBe(id);
      },
    ),
    { numRuns: Number(process.env.MILLRACE_FUZZ ?? 100) },
  );
});

/** A frame of one segment with some bytes of it changed, and its checksum right again. */
function edited(frame: Uint8Array, edits: Record<number, number>): Uint8Array {
  const packet = packetOf(frame);
  for (const [at, value] of Object.entries(edits)) packet.bytes[packet.offset + Number(at)] = value;
  const { view } = packet.region;
  const length = frame.length - 34;
  let sum = 6 + length;
  for (let at = 26; at < 34; at += 2) sum += view.getUint16(packet.offset + at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(packet.offset + 50, sum);
  Object.assign(packet, { checksum: Checksum.PARTIAL, checksumStart: 34, checksumOffset: 16 });
  completeChecksum(packet);
  return packet.frame().slice();
}

test('lengths, flags, checksums and headers that lie have their names', () => {
  const [frame] = onTheWire(packetOf(udpFrame()));
  const [partial] = onTheWire(tcpPacket(100));
  const wrong = frame.slice();
  wrong[frame.length - 1] ^= 1;
  const cases: [Uint8Array, string][] = [
    [edited(frame, {}), 'done'],
    [wrong, 'bad-checksum'],
    // A frame of fewer bytes than are here, of fewer than its own header, and a segment behind the frame's end.
    [edited(frame, { 39: 40 }), 'bad-length'],
    [edited(frame, { 38: 0, 39: 31 }), 'bad-length'],
    [edited(frame, { 40: 1 }), 'bad-length'],
    [edited(frame, { 47: 0x12 }), 'bad-flags'],
    [edited(frame, { 47: 0x11 }), 'bad-flags'],
    [edited(frame, { 47: 0x14 }), 'bad-flags'],
    [edited(frame, { [STT]: 1 }), 'bad-flags'],
    // Layer 4 inside of the Ethernet header, of the IP header, and behind the end.
    [edited(partial, { [STT + 2]: 10 }), 'bad-offload'],
    [edited(partial, { [STT + 2]: 33 }), 'bad-offload'],
    [edited(partial, { [STT + 2]: 255 }), 'bad-offload'],
    [edited(partial, { [STT + 2]: 34 }), 'done'],
  ];
  for (const [bytes, wanted] of cases) expect(new World().receive(bytes)).toBe(wanted);
});

test('a tag in the header is put into the frame', () => {
  const world = new World();
  const [frame] = onTheWire(packetOf(udpFrame()));
  // Priority 5, there is a tag, VLAN 7.
  expect(world.receive(edited(frame, { [STT + 6]: 0xb0, [STT + 7]: 7 }))).toBe('done');
  const tag = header(VlanTag, { priority: 5, dropEligible: false, vlanId: 7, etherType: EtherType.IPV4 });
  expect(world.take()).toEqual(
    composeFrame([ethernet(EtherType.VLAN), tag, ipv4(IpProtocol.UDP), udp()], payloadOf(20)),
  );
  // Without V there is none, whatever the rest says.
  expect(world.receive(edited(frame, { [STT + 6]: 0xa0, [STT + 7]: 7 }))).toBe('done');
  expect(world.take()).toEqual(udpFrame());
});

test('congestion on one segment is congestion of the frame', () => {
  for (const [ecn, wanted] of [
    [2, 'done'],
    [0, 'congestion'],
  ] as const) {
    const world = new World();
    const wire = onTheWire(packetOf(udpFrame(3000, { ecn })), 1500);
    const marked = wire[1].slice();
    // The mark, and the header checksum with it.
    marked[15] |= 3;
    marked.fill(0, 24, 26);
    let sum = 0;
    for (let at = 14; at < 34; at += 2) sum += (marked[at] << 8) | marked[at + 1];
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    marked.set([(~sum >>> 8) & 0xff, ~sum & 0xff], 24);
    const results = [wire[0], marked, wire[2]].map((frame) => world.receive(frame));
    expect(results).toEqual(['waiting', 'waiting', wanted]);
    if (wanted === 'done') expect(world.take()).toEqual(udpFrame(3000, { ecn: 3 }));
    expect(world.pool.available).toBe(world.pool.capacity);
  }
});

test('segments that overlap or contradict each other end their frame', () => {
  const wire = onTheWire(tcpPacket(3000), 1000);
  const at = (frame: Uint8Array, place: number, total?: number) =>
    edited(frame, {
      40: place >>> 8,
      41: place,
      ...(total === undefined ? {} : { 38: total >>> 8, 39: total }),
    });
  const cases: [Uint8Array[], string][] = [
    [[wire[0], at(wire[1], 900)], 'overlapping-segment'],
    [[wire[1], at(wire[0], 10)], 'overlapping-segment'],
    [[wire[0], at(wire[1], 960, 4000)], 'bad-segment'],
  ];
  for (const [frames, wanted] of cases) {
    const world = new World();
    const results = frames.map((frame) => world.receive(frame));
    expect(results).toEqual([...results.slice(0, -1).map(() => 'waiting'), wanted]);
    expect([world.receiver.waiting, world.pool.available]).toEqual([0, world.pool.capacity]);
  }
  const world = new World();
  const many = onTheWire(tcpPacket(60_000), 120).map((frame) => world.receive(frame));
  expect(many.indexOf('too-many-segments')).toBe(160);
});

test('frames that never end are given up when their time is over, and go for newer ones when there is no room', () => {
  const world = new World({ frames: 6, framesOfSource: 2 });
  const encapsulator = encapsulatorOf();
  const firstOf = (source: string) => onTheWire(tcpPacket(3000), 1500, { source }, encapsulator);
  const victim = firstOf('10.2.0.1');
  expect(world.receive(victim[0])).toBe('waiting');
  // Somebody's unfinished frames push out their own alone.
  for (let i = 0; i < 50; i += 1) {
    world.nowMs += 1;
    expect(world.receive(firstOf('10.2.0.2')[0])).toBe('waiting');
  }
  expect([world.receiver.waiting, world.receiver.evicted]).toEqual([3, 48]);
  expect(victim.slice(1).map((frame) => world.receive(frame))).toEqual(['waiting', 'done']);
  world.take();
  // Many sources: the oldest go.
  for (let i = 0; i < 20; i += 1) {
    world.nowMs += 1;
    expect(world.receive(firstOf(`10.3.0.${i + 1}`)[0])).toBe('waiting');
    expect(world.receiver.waiting).toBeLessThanOrEqual(6);
  }
  world.nowMs += 1000;
  world.receiver.sweep();
  expect([world.receiver.waiting, world.receiver.expired, world.pool.available]).toEqual([0, 6, world.pool.capacity]);
  const late = firstOf('10.2.0.1');
  world.receive(late[0]);
  world.receiver.close();
  expect(world.pool.available).toBe(world.pool.capacity);
});

test('with fewer buffers than places the oldest frame goes, and a frame longer than a buffer is refused', () => {
  const world = new World({ frames: 8, framesOfSource: 8 }, 2);
  const encapsulator = encapsulatorOf();
  for (let i = 0; i < 5; i += 1) {
    world.nowMs += 1;
    expect(world.receive(onTheWire(tcpPacket(3000), 1500, {}, encapsulator)[0])).toBe('waiting');
  }
  expect([world.receiver.waiting, world.receiver.evicted]).toEqual([2, 3]);
  const small = new World({ pool: smallPool(2) });
  expect(small.receive(onTheWire(tcpPacket(3000), 1500)[0])).toBe('no-buffer');
});

test('what the header cannot say has to be cut or finished before', () => {
  const encapsulate = (packet: Packet, mtuBytes = 1500) =>
    tunnelResultName(encapsulatorOf().encapsulate(packet, 0, port, wordsOf({}), 0, pathOf(false, mtuBytes)));
  const datagrams = packetOf(udpFrame(3000));
  Object.assign(datagrams, {
    checksum: Checksum.PARTIAL,
    checksumStart: 34,
    checksumOffset: 6,
    gsoType: Gso.UDP_L4,
    gsoSizeBytes: 1000,
  });
  expect(encapsulate(datagrams)).toBe('segment-first');
  const elsewhere = tcpPacket(100);
  elsewhere.checksumStart = 36;
  expect(encapsulate(elsewhere)).toBe('segment-first');
  // No more than 64 KB, and a path that takes the headers and something of the frame.
  expect(encapsulate(tcpPacket(65_480, 1448))).toBe('segment-first');
  expect(encapsulate(tcpPacket(65_450))).toBe('too-big');
  expect(encapsulate(tcpPacket(100), 58)).toBe('too-big');
});
