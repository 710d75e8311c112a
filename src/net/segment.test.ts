import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Offload } from './adapter.ts';
import { Batch } from './batch.ts';
import { crc32c } from './crc32c.ts';
import { Checksum, Gso, type Packet } from './packet.ts';
import { PacketPool } from './pool.ts';
import { requiredOffloads, segment } from './segment.ts';
import { completeChecksum } from './segment-checksum.ts';
import { SegmentResult, segmentResultName } from './segment-result.ts';
import { fuzzRounds, mutate, randomNumbers } from './wire/testing.ts';

/*
 * Frames are laid out by hand here and checksums verified by a plain sum, so that nothing of the code under test vouches
 * for itself.
 */

const sources = new PacketPool({ packets: 1, bufferBytes: 70_000, headroomBytes: 64 });
const segments = new PacketPool({ packets: 256, bufferBytes: 2048, headroomBytes: 33 });

interface Shape {
  isV6: boolean;
  isTcp: boolean;
  tags: number;
  /** IPv4 options or IPv6 extension headers, and TCP options: multiples of 4 and 8 bytes. */
  ipExtra: Uint8Array;
  tcpOptions: Uint8Array;
  payload: Uint8Array;
  tcpFlags: number;
}

function plainSum(...parts: Uint8Array[]): number {
  const bytes = Buffer.concat(parts);
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 1) sum += i % 2 === 0 ? bytes[i] * 256 : bytes[i];
  while (sum > 0xffff) sum = (sum % 0x1_0000) + Math.floor(sum / 0x1_0000);
  return sum;
}

/** The pseudo header as of IPv6; IPv4's has the same sum. */
function pseudo(addresses: Uint8Array, protocol: number, length: number): Uint8Array {
  return Buffer.concat([addresses, Uint8Array.of(0, length >>> 16, length >>> 8, length, 0, 0, 0, protocol)]);
}

/** A frame whose transport checksum field holds the pseudo header's sum, as for Checksum.PARTIAL. */
function layOut(shape: Shape): { frame: Buffer; l3: number; l4: number; payloadAt: number } {
  const macs = Buffer.from('02000000000a02000000000b', 'hex');
  const tags = Buffer.concat(Array.from({ length: shape.tags }, (_, i) => Uint8Array.of(0x81, 0, 0, 10 + i)));
  const addresses = shape.isV6
    ? Buffer.from('fd000000000000000000000000000001fd0000000000000000000000000000ff', 'hex')
    : Buffer.from('0a0000010a0000ff', 'hex');
  const protocol = shape.isTcp ? 6 : 17;
  const transport = Buffer.alloc((shape.isTcp ? 20 + shape.tcpOptions.length : 8) + shape.payload.length);
  transport.writeUInt16BE(40_000, 0);
  transport.writeUInt16BE(443, 2);
  transport.set(shape.payload, transport.length - shape.payload.length);
  const partial = plainSum(pseudo(addresses, protocol, transport.length));
  if (shape.isTcp) {
    transport.writeUInt32BE(0xffff_f000, 4);
    transport[12] = (5 + shape.tcpOptions.length / 4) << 4;
    transport[13] = shape.tcpFlags;
    transport.writeUInt16BE(partial, 16);
    transport.set(shape.tcpOptions, 20);
  } else {
    transport.writeUInt16BE(transport.length, 4);
    transport.writeUInt16BE(partial, 6);
  }
  let ip: Buffer;
  if (shape.isV6) {
    ip = Buffer.alloc(40);
    ip[0] = 0x60;
    ip.writeUInt16BE(shape.ipExtra.length + transport.length, 4);
    ip[6] = shape.ipExtra.length > 0 ? 0 : protocol;
    ip[7] = 64;
    ip.set(addresses, 8);
  } else {
    ip = Buffer.alloc(20);
    ip[0] = 0x45 + shape.ipExtra.length / 4;
    ip.writeUInt16BE(20 + shape.ipExtra.length + transport.length, 2);
    ip.writeUInt16BE(0xfffe, 4);
    ip[6] = 0x40;
    ip[8] = 64;
    ip[9] = protocol;
    ip.set(addresses, 12);
    ip.writeUInt16BE(~plainSum(ip, shape.ipExtra) & 0xffff, 10);
  }
  const type = Buffer.from(shape.isV6 ? '86dd' : '0800', 'hex');
  const l3 = 14 + shape.tags * 4;
  const l4 = l3 + ip.length + shape.ipExtra.length;
  return {
    frame: Buffer.concat([macs, tags, type, ip, shape.ipExtra, transport]),
    l3,
    l4,
    payloadAt: l4 + transport.length - shape.payload.length,
  };
}

function superPacket(frame: Uint8Array, gsoType: number, gsoSizeBytes: number): Packet {
  const packet = sources.allocate();
  if (packet === null) throw new Error('a test kept its packet');
  packet.bytes.set(frame, packet.offset);
  packet.length = frame.length;
  packet.gsoType = gsoType;
  packet.gsoSizeBytes = gsoSizeBytes;
  packet.timestampSeconds = 7;
  return packet;
}

/** The frames that a super-packet becomes. All segments go back to the pool. */
function segmentsOf(packet: Packet): Buffer[] {
  const before = Buffer.from(packet.frame());
  const out = new Batch();
  expect(segmentResultName(segment(packet, segments, out))).toBe('done');
  const frames: Buffer[] = [];
  for (let i = 0; i < out.count; i += 1) {
    const made = out.packets[i];
    expect(made).toMatchObject({ checksum: Checksum.UNKNOWN, gsoType: 0, references: 1, timestampSeconds: 7 });
    frames.push(Buffer.from(made.frame()));
  }
  out.releaseAll();
  expect(segments.available).toBe(segments.capacity);
  expect(Buffer.from(packet.frame()).equals(before)).toBe(true);
  packet.release();
  return frames;
}

function verifyChecksums(frame: Buffer, shape: Shape, l3: number, l4: number): void {
  if (!shape.isV6) expect(plainSum(frame.subarray(l3, l4))).toBe(0xffff);
  const addresses = shape.isV6 ? frame.subarray(l3 + 8, l3 + 40) : frame.subarray(l3 + 12, l3 + 20);
  const transport = frame.subarray(l4);
  expect(plainSum(pseudo(addresses, shape.isTcp ? 6 : 17, transport.length), transport)).toBe(0xffff);
}

/** Hop-by-hop options (padding) in front of TCP or UDP; or IPv4 No Operations. */
function extra(isV6: boolean, isTcp: boolean, units: number): Uint8Array {
  if (!isV6) return new Uint8Array(units * 4).fill(1);
  if (units === 0) return new Uint8Array(0);
  const header = new Uint8Array(units * 8);
  header.set([isTcp ? 6 : 17, units - 1, 1, header.length - 4]);
  return header;
}

const shapes = (isTcp: boolean): fc.Arbitrary<Shape> =>
  fc
    .record({
      isV6: fc.boolean(),
      tags: fc.nat(2),
      units: fc.nat(3),
      optionWords: fc.nat(10),
      payload: fc.uint8Array({ minLength: 0, maxLength: 6000, size: 'max' }),
      tcpFlags: fc.nat(255),
    })
    .map(({ isV6, units, optionWords, ...rest }) => ({
      ...rest,
      isV6,
      isTcp,
      ipExtra: extra(isV6, isTcp, units),
      tcpOptions: new Uint8Array(isTcp ? optionWords * 4 : 0).fill(1),
    }));

function markPartial(packet: Packet, l4: number, offset: number): void {
  packet.checksum = Checksum.PARTIAL;
  packet.checksumStart = l4;
  packet.checksumOffset = offset;
}

test('TCP segments carry the whole payload in order, with sound headers and checksums', () => {
  fc.assert(
    fc.property(shapes(true), fc.integer({ min: 50, max: 1400 }), fc.boolean(), (shape, size, isPartial) => {
      const { frame, l3, l4, payloadAt } = layOut(shape);
      const packet = superPacket(frame, (shape.isV6 ? Gso.TCPV6 : Gso.TCPV4) | Gso.ECN, size);
      if (isPartial) markPartial(packet, l4, 16);
      const made = segmentsOf(packet);
      expect(Buffer.concat(made.map((each) => each.subarray(payloadAt))).equals(shape.payload)).toBe(true);
      expect(made.length).toBe(Math.max(1, Math.ceil(shape.payload.length / size)));
      made.forEach((each, index) => {
        verifyChecksums(each, shape, l3, l4);
        const isLast = index === made.length - 1;
        if (!isLast) expect(each.length).toBe(payloadAt + size);
        if (shape.isV6) expect(each.readUInt16BE(l3 + 4)).toBe(each.length - l3 - 40);
        else {
          expect(each.readUInt16BE(l3 + 2)).toBe(each.length - l3);
          expect(each.readUInt16BE(l3 + 4)).toBe((0xfffe + index) & 0xffff);
        }
        expect(each.readUInt32BE(l4 + 4)).toBe((0xffff_f000 + index * size) % 2 ** 32);
        const kept = (isLast ? 0xff : 0xf6) & (index === 0 ? 0xff : 0x7f);
        expect(each[l4 + 13]).toBe(shape.tcpFlags & kept);
        expect(each.subarray(0, l3).equals(frame.subarray(0, l3))).toBe(true);
        expect(each.subarray(l4 + 20, payloadAt).equals(shape.tcpOptions)).toBe(true);
      });
    }),
  );
});

test('UDP datagrams of a super-packet are whole datagrams', () => {
  fc.assert(
    fc.property(shapes(false), fc.integer({ min: 50, max: 1400 }), fc.boolean(), (shape, size, isPartial) => {
      const { frame, l3, l4, payloadAt } = layOut(shape);
      const packet = superPacket(frame, Gso.UDP_L4, size);
      if (isPartial) markPartial(packet, l4, 6);
      const made = segmentsOf(packet);
      expect(Buffer.concat(made.map((each) => each.subarray(payloadAt))).equals(shape.payload)).toBe(true);
      for (const each of made) {
        verifyChecksums(each, shape, l3, l4);
        expect(each.readUInt16BE(l4 + 4)).toBe(each.length - l4);
        expect(each.readUInt16BE(l4 + 6)).not.toBe(0);
      }
    }),
  );
});

test('UDP over IPv4 without a checksum stays without', () => {
  const shape: Shape = {
    isV6: false,
    isTcp: false,
    tags: 0,
    ipExtra: new Uint8Array(0),
    tcpOptions: new Uint8Array(0),
    payload: new Uint8Array(300).fill(5),
    tcpFlags: 0,
  };
  const { frame, l4 } = layOut(shape);
  frame.writeUInt16BE(0, l4 + 6);
  for (const each of segmentsOf(superPacket(frame, Gso.UDP_L4, 100))) expect(each.readUInt16BE(l4 + 6)).toBe(0);
});

test('IP fragments of a UDP datagram reassemble to it, with its checksum finished', () => {
  fc.assert(
    fc.property(shapes(false), fc.integer({ min: 64, max: 1400 }), (shape, size) => {
      const { frame, l3, l4 } = layOut(shape);
      const packet = superPacket(frame, Gso.UDP, size);
      markPartial(packet, l4, 6);
      const made = segmentsOf(packet);
      const unit = size - (size % 8);
      const isCut = frame.length - l4 > unit;
      expect(made.length).toBe(Math.ceil((frame.length - l4) / unit));
      const fragmentHeader = shape.isV6 && isCut ? 8 : 0;
      const whole = Buffer.concat(made.map((each) => each.subarray(l4 + fragmentHeader)));
      const addresses = shape.isV6 ? frame.subarray(l3 + 8, l3 + 40) : frame.subarray(l3 + 12, l3 + 20);
      expect(whole.length).toBe(frame.length - l4);
      expect(plainSum(pseudo(addresses, 17, whole.length), whole)).toBe(0xffff);
      expect(whole.subarray(8).equals(shape.payload)).toBe(true);
      made.forEach((each, index) => {
        const more = index < made.length - 1 ? 1 : 0;
        if (shape.isV6) {
          expect(each.readUInt16BE(l3 + 4)).toBe(each.length - l3 - 40);
          if (!isCut) return;
          expect(each[shape.ipExtra.length > 0 ? l3 + 40 : l3 + 6]).toBe(44);
          expect(each[l4]).toBe(17);
          expect(each.readUInt16BE(l4 + 2)).toBe(index * unit + more);
          expect(each.readUInt32BE(l4 + 4)).toBe(made[0].readUInt32BE(l4 + 4));
        } else {
          expect(plainSum(each.subarray(l3, l4))).toBe(0xffff);
          expect(each.readUInt16BE(l3 + 2)).toBe(each.length - l3);
          expect(each.readUInt16BE(l3 + 4)).toBe(0xfffe);
          expect(each.readUInt16BE(l3 + 6)).toBe(isCut ? (index * unit) / 8 + more * 0x2000 : 0x4000);
        }
      });
    }),
  );
});

test('options of IPv4 that are for the first fragment only are blanked in the others', () => {
  // Record Route (7, not copied) and a loose source route (131, copied), one No Operation to fill up.
  const options = Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 131, 7, 4, 10, 0, 0, 9, 0, 0);
  const { frame, l3 } = layOut({
    isV6: false,
    isTcp: false,
    tags: 1,
    ipExtra: options,
    tcpOptions: new Uint8Array(0),
    payload: new Uint8Array(1000),
    tcpFlags: 0,
  });
  const [first, second] = segmentsOf(superPacket(frame, Gso.UDP, 512));
  expect([...first.subarray(l3 + 20, l3 + 36)]).toEqual([...options]);
  expect([...second.subarray(l3 + 20, l3 + 36)]).toEqual([1, 1, 1, 1, 1, 1, 1, 131, 7, 4, 10, 0, 0, 9, 0, 0]);
  expect(plainSum(second.subarray(l3, l3 + 36))).toBe(0xffff);
});

const TCP4: Shape = {
  isV6: false,
  isTcp: true,
  tags: 0,
  ipExtra: new Uint8Array(0),
  tcpOptions: new Uint8Array(0),
  payload: new Uint8Array(3000),
  tcpFlags: 0x10,
};

/** A routing header with one segment left, and destination options behind it. */
const ROUTED = Buffer.from(
  '3c 02 04 01 00000000 fd000000000000000000000000000003 11 00 01 04 00000000'.replaceAll(' ', ''),
  'hex',
);

test('under a routing header the checksum that the sender began is kept, and one that cannot be known is refused', () => {
  const shape: Shape = { ...TCP4, isV6: true, isTcp: false, ipExtra: ROUTED, payload: new Uint8Array(100).fill(3) };
  const { frame, l3, l4 } = layOut(shape);
  frame[l3 + 6] = 43;
  // The sender sums the last address of the route, which here differs from the fixed header's by 0xff - 3.
  frame.writeUInt16BE(frame.readUInt16BE(l4 + 6) - 0xfc, l4 + 6);
  const packet = superPacket(frame, Gso.UDP_L4, 60);
  expect(segmentResultName(segment(packet, segments, new Batch()))).toBe('checksum-place');
  markPartial(packet, l4, 6);
  const addresses = Buffer.concat([frame.subarray(l3 + 8, l3 + 24), ROUTED.subarray(8, 24)]);
  const made = segmentsOf(packet);
  expect(made).toHaveLength(2);
  for (const each of made) expect(plainSum(pseudo(addresses, 17, each.length - l4), each.subarray(l4))).toBe(0xffff);
});

test('fragments repeat headers up to the routing header, and cut what follows it', () => {
  const shape: Shape = { ...TCP4, isV6: true, isTcp: false, ipExtra: ROUTED, payload: new Uint8Array(100).fill(3) };
  const { frame, l3, l4 } = layOut(shape);
  frame[l3 + 6] = 43;
  const packet = superPacket(frame, Gso.UDP, 64);
  markPartial(packet, l4, 6);
  const made = segmentsOf(packet);
  expect(made).toHaveLength(2);
  for (const each of made) {
    expect([each[l3 + 6], each[l3 + 40], each[l3 + 64]]).toEqual([43, 44, 60]);
    expect(each.readUInt16BE(l3 + 4)).toBe(each.length - l3 - 40);
  }
  const whole = Buffer.concat(made.map((each) => each.subarray(l3 + 72)));
  expect(whole.subarray(0, 8).equals(ROUTED.subarray(24))).toBe(true);
  expect(whole.subarray(16).equals(shape.payload)).toBe(true);
});

test('a 64 KB super-packet becomes full segments', () => {
  const shape: Shape = {
    isV6: false,
    isTcp: true,
    tags: 0,
    ipExtra: new Uint8Array(0),
    tcpOptions: new Uint8Array(12).fill(1),
    payload: Uint8Array.from({ length: 65_483 }, (_, i) => i * 31),
    tcpFlags: 0x18,
  };
  const { frame, l3, l4 } = layOut(shape);
  const packet = superPacket(frame, Gso.TCPV4, 1448);
  markPartial(packet, l4, 16);
  const made = segmentsOf(packet);
  expect(made.length).toBe(46);
  for (const each of made) verifyChecksums(each, shape, l3, l4);
});

test('a partial checksum is finished in place, over padding and all', () => {
  fc.assert(
    fc.property(fc.boolean().chain(shapes), fc.boolean(), (shape, isPadded) => {
      const { frame, l3, l4 } = layOut(shape);
      const packet = superPacket(isPadded ? Buffer.concat([frame, Buffer.alloc(6)]) : frame, Gso.NONE, 0);
      expect(completeChecksum(packet)).toBe(SegmentResult.NOTHING_CLAIMED);
      markPartial(packet, l4, shape.isTcp ? 16 : 6);
      expect(requiredOffloads(packet)).toBe(Offload.CHECKSUM);
      expect(completeChecksum(packet)).toBe(SegmentResult.DONE);
      verifyChecksums(Buffer.from(packet.frame().subarray(0, frame.length)), shape, l3, l4);
      expect(requiredOffloads(packet)).toBe(0);
      packet.release();
    }),
  );
});

test('a partial checksum of SCTP is a CRC32c, lowest byte first', () => {
  const frame = Buffer.from(
    '02000000000a02000000000b08004500002400000000408400000a0000010a000002' +
      '0001000200000000 00000000 03000004'.replaceAll(' ', ''),
    'hex',
  );
  const packet = superPacket(frame, Gso.NONE, 0);
  markPartial(packet, 34, 8);
  expect(completeChecksum(packet)).toBe(SegmentResult.DONE);
  expect(Buffer.from(packet.frame()).readUInt32LE(42)).toBe(crc32c(frame, 34, 16));
  packet.release();
});

test.each<[string, (packet: Packet) => void, Partial<Shape>]>([
  ['nothing-claimed', (packet) => Object.assign(packet, { gsoType: Gso.NONE }), {}],
  ['unknown-type', (packet) => Object.assign(packet, { gsoType: 2 }), {}],
  ['unknown-type', (packet) => Object.assign(packet, { gsoType: Gso.UDP_L4 | Gso.ECN }), {}],
  ['segment-size', (packet) => Object.assign(packet, { gsoSizeBytes: 0 }), {}],
  ['segment-size', (packet) => Object.assign(packet, { gsoSizeBytes: 1.5 }), {}],
  ['segment-size', (packet) => Object.assign(packet, { gsoType: Gso.UDP, gsoSizeBytes: 7 }), { isTcp: false }],
  ['too-many-segments', (packet) => Object.assign(packet, { gsoSizeBytes: 1 }), {}],
  ['pool-empty', (packet) => Object.assign(packet, { gsoSizeBytes: 10 }), {}],
  ['pool-empty', (packet) => Object.assign(packet, { gsoType: Gso.UDP, gsoSizeBytes: 8 }), { isTcp: false }],
  ['buffer-size', (packet) => Object.assign(packet, { gsoSizeBytes: 2900 }), {}],
  ['wrong-headers', (packet) => Object.assign(packet, { gsoType: Gso.TCPV6 }), {}],
  ['wrong-headers', (packet) => Object.assign(packet, { gsoType: Gso.UDP_L4 }), {}],
  ['wrong-headers', () => undefined, { isTcp: false }],
  [
    'headers',
    (packet) => packet.bytes.fill(0xff, packet.offset + 46, packet.offset + 47),
    { payload: new Uint8Array(1) },
  ],
  ['headers', () => undefined, { tags: 9 }],
  ['headers', (packet) => Object.assign(packet, { length: 30 }), {}],
  ['checksum-place', (packet) => markPartial(packet, 33, 16), {}],
  ['checksum-place', (packet) => markPartial(packet, 34, 6), {}],
])('a super-packet that cannot be cut gives the reason %s and takes nothing from the pool', (reason, spoil, change) => {
  const packet = superPacket(layOut({ ...TCP4, ...change }).frame, Gso.TCPV4, 1000);
  spoil(packet);
  const out = new Batch();
  expect(segmentResultName(segment(packet, segments, out))).toBe(reason);
  expect(out.count).toBe(0);
  expect(segments.available).toBe(segments.capacity);
  packet.release();
});

test.each([
  [0, 0],
  [13, 16],
  [34, 5],
  [34, 65_535],
  [65_535, 16],
  [3054, 0],
  [-40, 100],
  [Number.NaN, 0],
])('a checksum that starts at %i and goes to %i more is refused', (start, offset) => {
  const { frame } = layOut(TCP4);
  const packet = superPacket(frame, Gso.NONE, 0);
  markPartial(packet, start, offset);
  expect(completeChecksum(packet)).toBe(SegmentResult.CHECKSUM_PLACE);
  expect(Buffer.from(packet.frame()).equals(frame)).toBe(true);
  packet.release();
});

test('mutated super-packets with invented metadata are cut or refused, and no packet is lost', () => {
  const random = randomNumbers(977);
  const seeds = [false, true].flatMap((isV6) =>
    [false, true].map(
      (isTcp) => layOut({ ...TCP4, isV6, isTcp, ipExtra: extra(isV6, isTcp, 2), payload: new Uint8Array(600) }).frame,
    ),
  );
  const types = [Gso.TCPV4, Gso.TCPV6, Gso.UDP, Gso.UDP_L4, Gso.TCPV4 | Gso.ECN, 9];
  const out = new Batch();
  let cut = 0;
  for (let round = fuzzRounds(5000); round > 0; round -= 1) {
    const packet = superPacket(
      mutate(seeds[random(4)], random),
      types[random(6)],
      random(4) === 0 ? random(65_536) : random(400),
    );
    if (random(2) === 0) markPartial(packet, random(2) === 0 ? random(100) : 34, random(2) === 0 ? 16 : 6);
    if (segment(packet, segments, out) === SegmentResult.DONE) cut += 1;
    out.releaseAll();
    completeChecksum(packet);
    packet.release();
    if (segments.available !== segments.capacity) expect.fail('a segment was lost');
  }
  expect(cut).toBeGreaterThan(100);
});
