/** What `millrace capture` tells of a capture that it has written. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PcapngWriter } from '../net/index.ts';
import { CaptureTally } from './capture-tally.ts';

/** A capture of two ports in which packets were lost. */
function capture(): Uint8Array {
  const pieces: Uint8Array[] = [];
  const writer = new PcapngWriter((bytes) => pieces.push(bytes.slice()), { application: 'a test' });
  const ports = ['a', 'b'].map((name) => writer.addInterface({ name }));
  for (let i = 0; i < 7; i += 1) {
    writer.packet(ports[i & 1], { seconds: i, nanoseconds: 0, data: new Uint8Array(60 + i), originalLengthBytes: 99 });
  }
  for (const port of ports) writer.statistics(port, { seconds: 9, nanoseconds: 0, received: 9, dropped: 3 + port });
  writer.flush();
  return Buffer.concat(pieces);
}

test('packets and losses are counted, however the capture comes in pieces', () => {
  const bytes = capture();
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 300 }), { maxLength: 50 }), (lengths) => {
      const tally = new CaptureTally();
      let at = 0;
      for (const length of [...lengths, bytes.length]) {
        tally.push(bytes.subarray(at, at + length));
        at += length;
      }
      expect(tally).toMatchObject({ packets: 7, lost: 7 });
    }),
  );
});
