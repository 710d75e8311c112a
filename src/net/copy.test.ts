import fc from 'fast-check';
import { expect, test } from 'vitest';
import { sumBytes } from './checksum.ts';
import { copyAndSum, copyBytes, copyPacket } from './copy.ts';
import { Checksum } from './packet.ts';
import { PacketPool } from './pool.ts';
import { Region } from './region.ts';

test('a copy at any alignment is exact, touches nothing around it, and sums what it copied', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(7), fc.nat(7), (data, from, to) => {
      const source = new Region(new ArrayBuffer(300));
      source.bytes.set(data, from);
      for (const copy of [copyBytes, copyAndSum]) {
        const target = new Region(new ArrayBuffer(300));
        target.bytes.fill(0xee);
        const sum = copy(source, from, target, to, data.length);
        expect(target.bytes.subarray(to, to + data.length)).toEqual(data);
        expect(target.bytes.filter((byte, i) => (i < to || i >= to + data.length) && byte !== 0xee)).toHaveLength(0);
        if (copy === copyAndSum) expect(sum).toBe(sumBytes(data, 0, data.length));
      }
    }),
  );
});

test('the sum of 128 KB of ones does not overflow', () => {
  const source = new Region(new ArrayBuffer(131_072));
  source.bytes.fill(0xff);
  expect(copyAndSum(source, 0, new Region(new ArrayBuffer(131_072)), 0, 131_072)).toBe(0xffff);
});

test('a copied packet has its own bytes and the same offloads; a pool that cannot hold it gives null', () => {
  const pool = new PacketPool({ packets: 2, bufferBytes: 256, headroomBytes: 64 });
  const packet = pool.allocate();
  if (packet === null) throw new Error('a fresh pool is empty');
  packet.length = 100;
  packet.frame().fill(9);
  packet.checksum = Checksum.PARTIAL;
  packet.checksumStart = 34;
  const copy = copyPacket(packet, pool);
  expect(copy).toMatchObject({ length: 100, checksum: Checksum.PARTIAL, checksumStart: 34, references: 1 });
  packet.frame().fill(0);
  expect(copy?.frame().every((byte) => byte === 9)).toBe(true);
  expect(copyPacket(packet, pool)).toBeNull();
  copy?.release();
  packet.length = 193;
  expect(copyPacket(packet, pool)).toBeNull();
  expect(pool.available).toBe(1);
});
