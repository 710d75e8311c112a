import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  formatIpv4,
  formatIpv6,
  formatMac,
  parseIpv4Address,
  parseIpv6Address,
  parseIpv6Into,
  parseMac,
} from './address.ts';
import { WireError } from './error.ts';

const bytesOf = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });

test('every address survives format and parse', () => {
  fc.assert(
    fc.property(bytesOf(6), bytesOf(4), bytesOf(16), fc.nat(0xff), (mac, ipv4, ipv6, keep) => {
      expect(parseMac(formatMac(mac))).toEqual(mac);
      expect(parseIpv4Address(formatIpv4(ipv4))).toEqual(ipv4);
      const sparse = ipv6.map((byte, i) => (((keep >>> (i >>> 1)) & 1) === 1 ? byte : 0));
      expect(parseIpv6Address(formatIpv6(sparse))).toEqual(sparse);
      expect(formatIpv6(parseIpv6Address(formatIpv6(sparse)))).toBe(formatIpv6(sparse));
    }),
  );
});

test.each([
  ['::', '::'],
  ['::1', '0:0:0:0:0:0:0:1'],
  ['1::', '1:0:0:0:0:0:0:0'],
  ['2001:db8::1', '2001:0db8:0000:0000:0000:0000:0000:0001'],
  ['2001:db8:0:1:1:1:1:1', '2001:db8::1:1:1:1:1'],
  ['2001:db8::1:0:0:1', '2001:db8:0:0:1:0:0:1'],
  ['2001:0:0:1::1', '2001:0:0:1:0:0:0:1'],
  ['::ffff:192.0.2.128', '::ffff:c000:280'],
  ['64:ff9b::c000:201', '64:ff9b::192.0.2.1'],
  ['fe80::ff:fe00:a', 'FE80:0:0:0:0:FF:FE00:000A'],
])('RFC 5952 writes %s for %s', (canonical, other) => {
  expect(formatIpv6(parseIpv6Address(other))).toBe(canonical);
  expect(formatIpv6(parseIpv6Address(canonical))).toBe(canonical);
});

test.each([
  '',
  ':',
  ':::',
  '1',
  '1:2:3:4:5:6:7',
  '1:2:3:4:5:6:7:8:9',
  '1::2::3',
  '12345::',
  'g::',
  '1:2:3:4:5:6:7::8',
  'fe80::1%eth0',
  '1.2.3.4::',
  '::1.2.3',
  '::1.2.3.4:5',
  '::256.0.0.1',
  ' ::1',
])("'%s' is not an IPv6 address", (text) => {
  const bytes = new Uint8Array(16).fill(7);
  expect(parseIpv6Into(text, bytes, 0)).toBe(false);
  expect(bytes.every((byte) => byte === 7)).toBe(true);
  expect(() => parseIpv6Address(text)).toThrow(WireError);
});

test.each(['', '1.2.3', '1.2.3.4.5', '256.1.1.1', '01.2.3.4', '1.2.3.-4', '1.2.3.4 ', 'a.b.c.d'])(
  "'%s' is not an IPv4 address",
  (text) => {
    expect(() => parseIpv4Address(text)).toThrow(WireError);
  },
);

test('a MAC address has colons or dashes, one kind of them, and any case', () => {
  expect(formatMac(parseMac('02-00-5E-10-00-0a'))).toBe('02:00:5e:10:00:0a');
  for (const wrong of [
    '02005e10000a',
    '02:00:5e:10:00',
    '02:00:5e:10:00:0a:01',
    '02:00-5e:10:00:0a',
    '2:0:5e:10:0:a',
  ]) {
    expect(() => parseMac(wrong)).toThrow(WireError);
  }
});
