/** Fragments put together, and cut again: whatever order they come in, whatever is wrong with them. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  Batch,
  Checksum,
  describe as describeFrame,
  fragmentPacket,
  Gso,
  HeaderOffsets,
  type Packet,
  PacketPool,
  SegmentResult,
  segmentResultName,
} from '../../net/index.ts';
import { fuzzRounds, mutate, randomNumbers } from '../../net/wire/testing.ts';
import { echo, end, tcp, udp } from '../testing/frames.ts';
import { Lab, packetOf } from '../testing/lab.ts';
import { Reassembler } from './reassembler.ts';
import { FRAGMENT_RESULT_NAMES } from './result.ts';

const headers = new HeaderOffsets();

class World {
  nowMs = 1000;
  readonly pool = new PacketPool({ packets: 2048, bufferBytes: 2048 });
  readonly large = new PacketPool({ packets: 2, bufferBytes: 66_000 });
  readonly reassembler: Reassembler;

  constructor(maximumBytes?: number) {
    this.reassembler = new Reassembler({
      nowMs: () => this.nowMs,
      pool: this.large,
      ...(maximumBytes === undefined ? {} : { maximumBytes }),
    });
  }

  /** @returns the name of the result */
  add(frame: Uint8Array, zone = 0): string {
    const packet = packetOf(frame);
    headers.parse(packet);
    return FRAGMENT_RESULT_NAMES[this.reassembler.add(packet, headers, zone)] ?? '?';
  }

  /** The frame that is whole now; its buffer goes back. */
  takeWhole(): Uint8Array {
    const { whole } = this.reassembler;
    if (whole === null) throw new Error('nothing is whole');
    const frame = whole.frame().slice();
    whole.release();
    return frame;
  }

  /** Cut a frame as a router with an MTU would. */
  cut(frame: Uint8Array, mtuBytes: number, identification = 77): Uint8Array[] {
    const out = new Batch();
    const packet = packetOf(frame);
    headers.parse(packet);
    const result = fragmentPacket(packet, headers, mtuBytes, identification, this.pool, out);
    expect(result).toBe(SegmentResult.DONE);
    const frames = out.packets.slice(0, out.count).map((each) => each.frame().slice());
    for (const each of frames) expect(each.length - 14).toBeLessThanOrEqual(mtuBytes);
    out.releaseAll();
    return frames;
  }
}

/** Without what a cut changes over IPv4: Don't Fragment and the header's checksum. */
function normal(frame: Uint8Array): Uint8Array {
  const copy = frame.slice();
  if (copy[12] === 8 && copy[13] === 0) copy.fill(0, 20, 22).fill(0, 24, 26);
  return copy;
}

const isGood = (frame: Uint8Array) =>
  describeFrame(frame).every(({ error, fields }) => error === undefined && (fields.checksumState ?? 'good') === 'good');

const [a4, b4] = [end('10.0.0.1', 1), end('10.0.0.2', 2)];
const [a6, b6] = [end('fd00::1', 1), end('fd00::2', 2)];
const payload = (length: number) => Uint8Array.from({ length }, (_, i) => i * 7);

test('fragments in any order, some of them twice, make the packet that they were cut from', () => {
  const datagram = fc.record({
    isIpv6: fc.boolean(),
    isTcp: fc.boolean(),
    length: fc.integer({ min: 100, max: 5000 }),
    mtu: fc.integer({ min: 88, max: 1500 }),
    order: fc.infiniteStream(fc.nat(1000)),
    twice: fc.nat(5),
  });
  fc.assert(
    fc.property(datagram, ({ isIpv6, isTcp, length, mtu, order, twice }) => {
      const world = new World();
      const [from, to] = isIpv6 ? [a6, b6] : [a4, b4];
      const frame = isTcp ? tcp(from, to, '.', {}, payload(length)) : udp(from, to, payload(length));
      if (frame.length - 14 <= mtu) return;
      const pieces = world.cut(frame, mtu).map((piece) => ({ piece, rank: order.next().value ?? 0 }));
      pieces.sort((one, other) => one.rank - other.rank);
      const largest = Math.max(...pieces.map(({ piece }) => piece.length - 14));
      pieces.forEach(({ piece }, i) => {
        const isLast = i === pieces.length - 1;
        expect(world.add(piece)).toBe(isLast ? 'whole' : 'waiting');
        if (i < twice && !isLast) expect(world.add(piece)).toBe('duplicate-fragment');
      });
      const { largestBytes, identification } = world.reassembler;
      expect(identification).toBe(isIpv6 ? 77 : 1);
      const whole = world.takeWhole();
      expect(normal(whole)).toEqual(normal(frame));
      expect(isGood(whole)).toBe(true);
      expect([largestBytes, world.reassembler.size, world.reassembler.bytes]).toEqual([largest, 0, 0]);
      // In pieces no larger than it came.
      for (const piece of world.cut(whole, largestBytes, identification)) world.add(piece);
      expect(normal(world.takeWhole())).toEqual(normal(frame));
      expect([world.pool.available, world.large.available]).toEqual([2048, 2]);
    }),
    { numRuns: 60 },
  );
});

test('the largest packet that there is comes through', () => {
  for (const [from, to, length] of [
    [a4, b4, 65_507],
    [a6, b6, 65_519],
  ] as const) {
    const world = new World();
    const frame = udp(from, to, payload(length));
    const results = world.cut(frame, 1500).map((piece) => world.add(piece));
    expect(results.pop()).toBe('whole');
    expect(normal(world.takeWhole())).toEqual(normal(frame));
  }
});

test('a reassembled packet is tracked, translated, and goes on in pieces that make the translated packet', () => {
  const world = new World();
  const lab = new Lab();
  const frame = udp(a4, b4, payload(3000));
  for (const piece of world.cut(frame, 1500)) {
    expect(lab.send(piece).state).toBe('inv|trk');
    world.add(piece);
  }
  const nat = { source: { addresses: ['198.51.100.1', '198.51.100.1'], ports: [9, 9] } } as const;
  const out = lab.send(world.takeWhole(), { commit: true, nat });
  expect(out.state).toBe('new|trk|snat');
  for (const piece of world.cut(out.frame, world.reassembler.largestBytes)) world.add(piece);
  expect(normal(world.takeWhole())).toEqual(normal(udp(end('198.51.100.1', 9), b4, payload(3000))));
});

test('fragments of other zones, addresses, identifications or protocols are of other datagrams', () => {
  const world = new World();
  const [first, second] = world.cut(udp(a4, b4, payload(2000)), 1500);
  expect(world.add(first, 1)).toBe('waiting');
  expect(world.add(second, 2)).toBe('waiting');
  const other = second.slice();
  other[19] ^= 1;
  expect(world.add(other, 1)).toBe('waiting');
  const icmp = second.slice();
  icmp[23] = 1;
  expect(world.add(icmp, 1)).toBe('waiting');
  expect(world.add(second, 1)).toBe('whole');
  world.takeWhole();
});

test('a datagram is gone as a whole when fragments overlap, lie about their length or contradict each other', () => {
  const [first, second, third] = new World().cut(udp(a4, b4, payload(3000)), 1500);
  const odd = new World().cut(udp(a4, b4, payload(3001)), 1500)[2];
  const moved = (frame: Uint8Array, word: number) => {
    const copy = frame.slice();
    copy[20] = word >>> 8;
    copy[21] = word;
    return copy;
  };
  const cases: [Uint8Array[], string][] = [
    [[first, moved(second, 0x2000 | 180)], 'overlapping-fragment'],
    [[second, moved(first, 0x2000 | 1)], 'overlapping-fragment'],
    [[first, moved(third, 0x2000 | 185), moved(second, 0x2000 | 185)], 'overlapping-fragment'],
    [[third, moved(second, 0x2000 | 500)], 'bad-fragment'],
    [[third, moved(third, 400)], 'bad-fragment'],
    // More fragments follow, so this one would have to be a multiple of eight bytes.
    [[moved(odd, 0x2000 | 370)], 'bad-fragment'],
    [[moved(first, 0x3fff)], 'bad-fragment'],
  ];
  for (const [frames, wanted] of cases) {
    const world = new World();
    const results = frames.map((frame) => world.add(frame));
    expect(results.pop()).toBe(wanted);
    expect([world.reassembler.size, world.reassembler.bytes]).toEqual([0, 0]);
  }
});

test('what is no fragment is none: whole packets, atomic fragments, and what cannot be read', () => {
  const world = new World();
  const atomic = world.cut(udp(a6, b6, payload(2000)), 1500)[0].slice();
  atomic[57] = 0;
  for (const frame of [udp(a4, b4), echo(a6, b6), atomic, new Uint8Array(10)]) {
    expect(world.add(frame)).toBe('no-fragment');
  }
  expect(world.reassembler.size).toBe(0);
});

test('a fragment within a fragment is refused', () => {
  const world = new World();
  const [first] = world.cut(udp(a6, b6, payload(2000)), 1500);
  const nested = first.slice();
  nested[54] = 44;
  nested.set([17, 0, 0, 1, 0, 0, 0, 9], 62);
  expect(world.add(nested)).toBe('bad-fragment');
});

test('what cannot be cut is left alone, with the reason', () => {
  const pool = new PacketPool({ packets: 2, bufferBytes: 1700 });
  const cut = (frame: Uint8Array, mtuBytes: number, change: (packet: Packet) => void = () => {}) => {
    const packet = packetOf(frame);
    change(packet);
    headers.parse(packet);
    const out = new Batch();
    const result = fragmentPacket(packet, headers, mtuBytes, 1, pool, out);
    expect([out.count, pool.available]).toEqual([0, 2]);
    return segmentResultName(result);
  };
  const frame = udp(a4, b4, payload(3000));
  const partial = (packet: Packet) => {
    packet.checksum = Checksum.PARTIAL;
  };
  const superPacket = (packet: Packet) => {
    packet.gsoType = Gso.UDP;
  };
  const [first] = new World().cut(frame, 1500);
  const [first6] = new World().cut(udp(a6, b6, payload(3000)), 1500);
  expect([
    cut(frame, 3028),
    cut(frame, 27),
    cut(frame, 1500, partial),
    cut(frame, 1500, superPacket),
    cut(first, 1000),
    cut(first6, 1000),
    cut(frame, 1600),
    cut(frame, 1000),
    cut(new Uint8Array(20), 10),
  ]).toEqual([
    'nothing-claimed',
    'segment-size',
    'checksum-place',
    'wrong-headers',
    'wrong-headers',
    'wrong-headers',
    'buffer-size',
    'pool-empty',
    'headers',
  ]);
});

test('what is not complete after 30 seconds is given up', () => {
  const world = new World();
  const [first, second] = world.cut(udp(a4, b4, payload(2000)), 1500);
  world.add(first);
  world.nowMs += 29_999;
  expect(world.reassembler.sweep(10)).toBe(0);
  world.nowMs += 1;
  expect(world.reassembler.sweep(10)).toBe(1);
  expect(world.add(second)).toBe('waiting');
  expect([world.reassembler.counters.expired, world.reassembler.size]).toEqual([1, 1]);
});

test('memory is bounded: the oldest datagrams go for new ones, and a new one gets through a flood', () => {
  const world = new World(100_000);
  const [first, second] = world.cut(udp(a4, b4, payload(2000)), 1500);
  for (let i = 0; i < 1000; i += 1) {
    const flood = first.slice();
    flood[18] = (i >>> 8) + 1;
    flood[19] = i;
    world.add(flood);
    expect(world.reassembler.bytes).toBeLessThanOrEqual(100_000);
  }
  expect(world.reassembler.counters.evicted).toBeGreaterThan(900);
  expect([world.add(first), world.add(second)]).toEqual(['waiting', 'whole']);
  world.takeWhole();
});

test('a datagram of very many pieces is not kept, nor one for which there is no buffer', () => {
  const world = new World();
  const results = world.cut(udp(a4, b4, payload(60_000)), 100).map((piece) => world.add(piece));
  expect(results.indexOf('too-many-fragments')).toBe(256);
  const small = new Reassembler({ nowMs: () => 0, pool: new PacketPool({ packets: 1, bufferBytes: 2048 }) });
  const names = world.cut(udp(a4, b4, payload(3000)), 1500).map((piece) => {
    const packet: Packet = packetOf(piece);
    headers.parse(packet);
    return FRAGMENT_RESULT_NAMES[small.add(packet, headers, 0)];
  });
  expect([names, small.size]).toEqual([['waiting', 'waiting', 'no-fragment-buffer'], 0]);
});

test('mutated fragments throw nothing, and nothing is kept for longer than it may', () => {
  const world = new World(200_000);
  const random = randomNumbers(4711);
  const frames = [
    ...world.cut(udp(a4, b4, payload(4000)), 1000),
    ...world.cut(udp(a6, b6, payload(4000)), 1000),
    ...world.cut(tcp(a4, b4, '.', {}, payload(300)), 68),
  ];
  for (let round = fuzzRounds(3000); round > 0; round -= 1) {
    world.nowMs += random(100);
    const frame = frames[random(frames.length)];
    if (world.add(random(3) === 0 ? frame : mutate(frame, random), random(2)) === 'whole') world.takeWhole();
    expect(world.reassembler.bytes).toBeLessThanOrEqual(270_000);
  }
  world.nowMs += 30_000;
  world.reassembler.sweep(100_000);
  expect([world.reassembler.size, world.reassembler.bytes, world.large.available]).toEqual([0, 0, 2]);
});
