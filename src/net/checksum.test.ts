import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  finishSum,
  internetChecksum,
  pseudoHeaderSum4,
  pseudoHeaderSum6,
  sumBytes,
  updateChecksum16,
  updateChecksum32,
} from './checksum.ts';
import { crc32c, sctpChecksum } from './crc32c.ts';

/** RFC 1071 as it is written: one word at a time, with a number that is big enough. */
function plainSum(bytes: Uint8Array): number {
  let sum = 0n;
  for (let i = 0; i < bytes.length; i += 2) sum += BigInt((bytes[i] << 8) | (bytes[i + 1] ?? 0));
  while (sum > 0xffffn) sum = (sum & 0xffffn) + (sum >> 16n);
  return Number(sum);
}

test('the sum of the example of RFC 1071 is 0xddf2', () => {
  const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
  expect(sumBytes(bytes, 0, 8)).toBe(0xddf2);
  expect(internetChecksum(bytes, 0, 8)).toBe(0x220d);
});

test('a captured IPv4 header that holds its checksum checks to zero', () => {
  const header = Buffer.from('45000073000040004011b861c0a80001c0a800c7', 'hex');
  expect(internetChecksum(header, 0, 20)).toBe(0);
});

test('the sum agrees with the plain definition at every offset and length', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.nat(40), fc.nat(0xffff), (bytes, skip, initial) => {
      const offset = Math.min(skip, bytes.length);
      const whole = Uint8Array.of(initial >>> 8, initial & 0xff, ...bytes.subarray(offset));
      expect(sumBytes(bytes, offset, bytes.length - offset, initial)).toBe(plainSum(whole));
    }),
  );
});

test('sums of 64 KB and more do not overflow', () => {
  for (const length of [65_534, 65_535, 65_536, 65_550, 400_001]) {
    const bytes = new Uint8Array(length + 1).fill(0xff);
    expect(sumBytes(bytes, 1, length, 0xffff)).toBe(length % 2 === 0 ? 0xffff : 0xff00);
    bytes[1] = 0x12;
    expect(sumBytes(bytes, 1, length)).toBe(plainSum(bytes.subarray(1)));
  }
});

test('an incremental update gives what a new sum would give', () => {
  const body = fc.uint8Array({ minLength: 8, maxLength: 64 });
  fc.assert(
    fc.property(body, fc.nat(0xffff), fc.nat(0xffff_ffff), (bytes, after16, after32) => {
      const even = bytes.subarray(0, bytes.length & ~1);
      // A checksum field of its own, so that the all-zero data whose two representations differ cannot arise.
      const withMark = Uint8Array.of(0x45, ...even.subarray(1));
      const view = new DataView(withMark.buffer);
      const before16 = view.getUint16(2);
      const first = internetChecksum(withMark, 0, withMark.length);
      view.setUint16(2, after16);
      const second = internetChecksum(withMark, 0, withMark.length);
      expect(updateChecksum16(first, before16, after16)).toBe(second);
      const before32 = view.getUint32(4);
      view.setUint32(4, after32);
      expect(updateChecksum32(second, before32, after32)).toBe(internetChecksum(withMark, 0, withMark.length));
    }),
  );
});

test('RFC 1624: the update of its example does not yield the wrong zero', () => {
  expect(updateChecksum16(0xdd2f, 0x5555, 0x3285)).toBe(0x0000);
});

test('pseudo headers are summed as if they stood before the transport header', () => {
  // 10.0.0.1:1 -> 10.0.0.2:2, UDP with the payload 'ab': 0a000001 + 0a000002 + 17 + 10 + ports + length + 'ab'.
  const addresses = Uint8Array.of(10, 0, 0, 1, 10, 0, 0, 2);
  const udp = Uint8Array.of(0, 1, 0, 2, 0, 10, 0, 0, 0x61, 0x62);
  const sum = sumBytes(udp, 0, udp.length, pseudoHeaderSum4(addresses, 0, 17, udp.length));
  expect(finishSum(sum)).toBe(~(0x0a00 + 1 + 0x0a00 + 2 + 17 + 10 + 1 + 2 + 10 + 0x6162) & 0xffff);
  const fixedHeader = Buffer.from(
    '6000000000183afffe8000000000000000000000000000010000000000000000000000000000000000',
    'hex',
  );
  expect(pseudoHeaderSum6(fixedHeader, 8, 58, 24)).toBe(
    plainSum(Uint8Array.of(...fixedHeader.subarray(8, 40), 0, 58, 0, 24)),
  );
});

test('CRC32c of the known vectors', () => {
  expect(crc32c(Buffer.from('123456789'), 0, 9)).toBe(0xe3069283);
  // RFC 3720, appendix B.4.
  expect(crc32c(new Uint8Array(32), 0, 32)).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(0xff), 0, 32)).toBe(0x62a8ab43);
  expect(
    crc32c(
      Uint8Array.from({ length: 32 }, (_, i) => i),
      0,
      32,
    ),
  ).toBe(0x46dd794e);
});

test('CRC32c can be carried from one stretch to the next, and of SCTP skips its own field', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 12, maxLength: 200 }), fc.nat(12), (bytes, cut) => {
      const whole = crc32c(bytes, 0, bytes.length);
      expect(crc32c(bytes, cut, bytes.length - cut, crc32c(bytes, 0, cut))).toBe(whole);
      const cleared = bytes.slice();
      cleared.fill(0, 8, 12);
      expect(sctpChecksum(bytes, 0, bytes.length)).toBe(crc32c(cleared, 0, cleared.length));
    }),
  );
});
