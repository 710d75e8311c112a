import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TagAction } from './adapter.ts';
import { Checksum, type Packet } from './packet.ts';
import { PacketPool } from './pool.ts';
import { applyTagAction, outerTag, outerVlanId, TagResult } from './vlan.ts';

const ADDRESSES = '02000000000a02000000000b';

function packetOf(hex: string, headroomBytes = 16): Packet {
  const frame = Buffer.from(hex, 'hex');
  const packet = new PacketPool({ packets: 1, bufferBytes: 2048, headroomBytes }).allocate();
  if (packet === null) throw new Error('a fresh pool is empty');
  packet.bytes.set(frame, packet.offset);
  packet.length = frame.length;
  return packet;
}

function hexOf(packet: Packet): string {
  return Buffer.from(packet.frame()).toString('hex');
}

test('push puts an 802.1Q tag before the type and moves the checksum start', () => {
  const packet = packetOf(`${ADDRESSES}0800aabb`);
  packet.checksum = Checksum.PARTIAL;
  packet.checksumStart = 34;
  packet.headerLengthBytes = 54;
  expect(applyTagAction(packet, TagAction.PUSH | 0x6005)).toBe(TagResult.DONE);
  expect(hexOf(packet)).toBe(`${ADDRESSES}810060050800aabb`);
  expect(packet.checksumStart).toBe(38);
  expect(packet.headerLengthBytes).toBe(58);
  expect(outerTag(packet)).toBe(0x8100_6005);
  expect(outerVlanId(packet)).toBe(5);
});

test('strip removes the outer tag only, and is nothing to a frame without one', () => {
  const packet = packetOf(`${ADDRESSES}88a8006481000005 0800aabb`.replace(' ', ''));
  packet.checksumStart = 42;
  expect(applyTagAction(packet, TagAction.STRIP)).toBe(TagResult.DONE);
  expect(hexOf(packet)).toBe(`${ADDRESSES}810000050800aabb`);
  expect(packet.checksumStart).toBe(38);
  applyTagAction(packet, TagAction.STRIP);
  expect(applyTagAction(packet, TagAction.STRIP)).toBe(TagResult.DONE);
  expect(hexOf(packet)).toBe(`${ADDRESSES}0800aabb`);
  expect(outerTag(packet)).toBe(0);
  expect(outerVlanId(packet)).toBe(-1);
});

test('strip and push together replace the tag without needing headroom', () => {
  const packet = packetOf(`${ADDRESSES}88a800640800aabb`, 0);
  expect(applyTagAction(packet, TagAction.STRIP | TagAction.PUSH | 7)).toBe(TagResult.DONE);
  expect(hexOf(packet)).toBe(`${ADDRESSES}810000070800aabb`);
});

test('a push without headroom and a strip of half a tag change nothing', () => {
  const tight = packetOf(`${ADDRESSES}0800aabb`, 3);
  expect(applyTagAction(tight, TagAction.PUSH | 7)).toBe(TagResult.NO_HEADROOM);
  expect(hexOf(tight)).toBe(`${ADDRESSES}0800aabb`);
  const half = packetOf(`${ADDRESSES}8100ff`);
  expect(applyTagAction(half, TagAction.STRIP)).toBe(TagResult.TRUNCATED);
  expect(hexOf(half)).toBe(`${ADDRESSES}8100ff`);
  expect(outerTag(half)).toBe(0);
  const tiny = packetOf('0102');
  expect(applyTagAction(tiny, TagAction.PUSH)).toBe(TagResult.TRUNCATED);
});

test('push and then strip gives the frame back', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 14, maxLength: 80 }), fc.nat(0xffff), (frame, tci) => {
      const packet = packetOf(Buffer.from(frame).toString('hex'));
      const offset = packet.offset;
      expect(applyTagAction(packet, TagAction.PUSH | tci)).toBe(TagResult.DONE);
      expect(packet.length).toBe(frame.length + 4);
      expect(outerTag(packet)).toBe((0x8100_0000 | tci) >>> 0);
      applyTagAction(packet, TagAction.STRIP);
      expect(packet.offset).toBe(offset);
      expect(packet.frame()).toEqual(frame);
    }),
  );
});
