import fc from 'fast-check';
import { expect, test } from 'vitest';
import { summaryOf } from './summary.ts';

const frame = (hex: string) => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));

test('a frame is told by who speaks to whom, in which protocol', () => {
  const arp = frame('ffffffffffff 020000000001 0806 0001080006040001 020000000001 0a000001 000000000000 0a000002');
  expect(summaryOf(arp, 42)).toBe('10.0.0.1 > 10.0.0.2 arp operation=1, 42 bytes');
  const tcp = frame(
    '020000000002 020000000001 8100000a 0800 4500002800004000400600000a0000010a000002 1388005000000001000000025012010000000000',
  );
  expect(summaryOf(tcp, 58)).toMatch(/^vlan 10 10\.0\.0\.1:5000 > 10\.0\.0\.2:80 tcp flags=SYN,ACK .*, 58 bytes$/);
});

test('whatever the bytes are, there is one line without control characters', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      expect(summaryOf(bytes, bytes.length)).toMatch(/^[^\p{Cc}]+$/u);
    }),
  );
});
