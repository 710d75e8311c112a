import { expect, test } from 'vitest';
import { BpfError } from '../errors.ts';
import { buildFrame, headerSum, parseIpv4, parseMac } from './frame.ts';

test('the shortest frame is right to the last field', () => {
  const { bytes, ip, udp, payload } = buildFrame({});
  expect([bytes.length, ip, udp, payload]).toEqual([60, 14, 34, 42]);
  // Summed by hand: 4500 002e 0000 0000 4011 c612 0001 c613 0001 give 1168, whose complement is ee97.
  expect(Buffer.from(bytes.subarray(0, 42)).toString('hex')).toBe(
    [
      '020000000002',
      '020000000001',
      '0800',
      '4500002e000000004011ee97',
      'c6120001',
      'c6130001',
      '04000009001a0000',
    ].join(''),
  );
});

test('the header checksum makes the sum of all ones', () => {
  for (const sourceAddress of ['1.2.3.4', '255.255.255.255', '198.18.0.1']) {
    const { bytes, ip } = buildFrame({ sourceAddress, vlan: [{ id: 9 }] });
    expect(headerSum(new DataView(bytes.buffer), ip)).toBe(0xffff);
  }
});

test('tags come from the outside in, and move the rest back', () => {
  const { bytes, ip } = buildFrame({ vlan: [{ id: 100, priority: 5, tpid: 0x88a8 }, { id: 7 }], sizeBytes: 100 });
  expect(ip).toBe(22);
  expect(bytes.length).toBe(100);
  expect(Buffer.from(bytes.subarray(12, 22)).toString('hex')).toBe('88a8a064810000070800');
});

test('addresses are read strictly', () => {
  expect(parseMac('0a:B:ff:00:1:02')).toEqual(Uint8Array.of(10, 11, 255, 0, 1, 2));
  expect(parseIpv4('198.18.0.255')).toEqual(Uint8Array.of(198, 18, 0, 255));
  for (const text of ['', '1:2:3:4:5', '1:2:3:4:5:100', 'g:0:0:0:0:0']) expect(() => parseMac(text)).toThrow(BpfError);
  for (const text of ['', '1.2.3', '1.2.3.256', '1.2.3.4.5', 'a.b.c.d'])
    expect(() => parseIpv4(text)).toThrow(BpfError);
  expect(() => buildFrame({ vlan: [{ id: 1 }, { id: 2 }, { id: 3 }] })).toThrow('3 VLAN tags are more than the two');
});
