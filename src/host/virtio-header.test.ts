import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Checksum, Gso, PacketPool } from '../net/index.ts';
import { readVirtioHeader, VIRTIO_HEADER_BYTES, writeVirtioHeader } from './virtio-header.ts';

const pool = new PacketPool({ packets: 2, bufferBytes: 70_000 });

function packet(length: number) {
  const made = pool.allocate();
  if (made === null) throw new Error('pool is empty');
  made.length = length;
  return made;
}

function header(): DataView {
  return new DataView(new ArrayBuffer(VIRTIO_HEADER_BYTES));
}

test('what is written is read again', () => {
  const length = fc.integer({ min: 60, max: 65_000 });
  const kind = fc.constantFrom(Gso.NONE, Gso.TCPV4, Gso.TCPV6, Gso.TCPV4 | Gso.ECN, Gso.UDP_L4, Gso.UDP);
  fc.assert(
    fc.property(
      length,
      kind,
      fc.integer({ min: 1, max: 9000 }),
      fc.integer({ min: 14, max: 40 }),
      fc.boolean(),
      (size, gsoType, segment, start, partial) => {
        const [from, to] = [packet(size), packet(size)];
        from.gsoType = gsoType;
        from.gsoSizeBytes = gsoType === Gso.NONE ? 0 : segment;
        from.headerLengthBytes = gsoType === Gso.NONE ? 0 : 54;
        from.checksum = partial ? Checksum.PARTIAL : Checksum.UNKNOWN;
        from.checksumStart = partial ? start : 0;
        from.checksumOffset = partial ? 16 : 0;
        const words = header();
        writeVirtioHeader(words, 0, from, 0);
        expect(readVirtioHeader(words, 0, to)).toBe(true);
        for (const field of [
          'gsoType',
          'gsoSizeBytes',
          'headerLengthBytes',
          'checksum',
          'checksumStart',
          'checksumOffset',
        ] as const) {
          expect(to[field]).toBe(from[field]);
        }
        from.release();
        to.release();
      },
    ),
  );
});

test('a tag that is pushed or stripped moves where summing starts and where headers end', () => {
  const from = packet(2000);
  Object.assign(from, {
    checksum: Checksum.PARTIAL,
    checksumStart: 34,
    checksumOffset: 16,
    gsoType: Gso.TCPV4,
    gsoSizeBytes: 1448,
    headerLengthBytes: 66,
  });
  for (const shift of [-4, 4]) {
    const words = header();
    writeVirtioHeader(words, 0, from, shift);
    const to = packet(2000 + shift);
    expect(readVirtioHeader(words, 0, to)).toBe(true);
    expect([to.checksumStart, to.checksumOffset, to.headerLengthBytes]).toEqual([34 + shift, 16, 66 + shift]);
    to.release();
  }
  from.release();
});

test('any ten bytes are either refused or leave metadata that fits the frame', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 10, maxLength: 10 }),
      fc.integer({ min: 0, max: 65_000 }),
      (header, length) => {
        const to = packet(length);
        const fine = readVirtioHeader(new DataView(header.buffer, header.byteOffset), 0, to);
        if (fine && to.checksum === Checksum.PARTIAL) {
          expect(to.checksumStart + to.checksumOffset + 2).toBeLessThanOrEqual(length);
        }
        if (fine && to.gsoType !== Gso.NONE) expect(to.gsoSizeBytes).toBeGreaterThan(0);
        to.release();
      },
    ),
  );
});

test('a super-packet without a hint gets one, so that the kernel need not find 64 KB in one piece', () => {
  const from = packet(60_000);
  Object.assign(from, { gsoType: Gso.TCPV4, gsoSizeBytes: 1448 });
  const words = header();
  writeVirtioHeader(words, 0, from, 0);
  const to = packet(60_000);
  readVirtioHeader(words, 0, to);
  expect(to.headerLengthBytes).toBe(128);
  from.release();
  to.release();
});
