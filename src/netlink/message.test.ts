import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NetlinkError } from './error.ts';
import { parseMessages } from './message.ts';
import { MessageWriter } from './writer.ts';

const u32 = fc.nat(0xffff_ffff);
const u16 = fc.nat(0xffff);

test('messages written one after the other are read back with their headers and payloads', () => {
  const message = fc.record({
    type: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    payload: fc.uint8Array({ maxLength: 99 }),
  });
  fc.assert(
    fc.property(fc.array(message, { maxLength: 8 }), (messages) => {
      const writer = new MessageWriter({ initialBytes: 16 });
      for (const { type, flags, sequence, port, payload } of messages) {
        writer.begin(type, flags, sequence, port);
        writer.raw(payload);
        writer.end();
      }
      const parsed = parseMessages(writer.take());
      expect(parsed.length).toBe(messages.length);
      for (const [i, { payload, ...header }] of messages.entries()) {
        expect(parsed[i]).toMatchObject(header);
        expect(parsed[i].bytes.subarray(16, 16 + payload.length)).toEqual(payload);
        expect(parsed[i].bytes.length).toBe(16 + Math.ceil(payload.length / 4) * 4);
      }
    }),
  );
});

test('a last message without its padding is complete', () => {
  const bytes = new Uint8Array(18);
  bytes[0] = 18;
  expect(parseMessages(bytes)[0].bytes.length).toBe(18);
});

test('a length below the header, one beyond the datagram, and stray bytes are refused with their place', () => {
  const good = new Uint8Array(16);
  good[0] = 16;
  const join = (...parts: number[][]): Uint8Array => new Uint8Array([...good, ...parts.flat()]);
  const wrong: [Uint8Array, RegExp][] = [
    [join([15, ...new Array<number>(15).fill(0)]), /length 15 is below .* at byte 16/],
    [join([17, ...new Array<number>(15).fill(0)]), /message of 17 bytes, but only 16 are there at byte 16/],
    [join([0, 0, 0]), /3 bytes left, too few for a message header at byte 16/],
    [join([0, 0, 0, 0x80, ...new Array<number>(12).fill(0)]), /message of 2147483648 bytes/],
  ];
  for (const [bytes, reason] of wrong) {
    expect(() => parseMessages(bytes)).toThrow(NetlinkError);
    expect(() => parseMessages(bytes)).toThrow(reason);
  }
});

test('a writer refuses what does not fit its field, and messages inside messages', () => {
  const writer = new MessageWriter({ maximumBytes: 200 });
  writer.begin(16, 0, 1);
  expect(() => writer.begin(16, 0, 2)).toThrow('inside another');
  expect(() => writer.u8(1, 256)).toThrow('u8 cannot hold 256');
  expect(() => writer.u16(1, -1)).toThrow('u16 cannot hold -1');
  expect(() => writer.u32(1, 1.5)).toThrow('u32 cannot hold 1.5');
  expect(() => writer.s32(1, 2 ** 31)).toThrow('s32 cannot hold');
  expect(() => writer.u64(1, 2n ** 64n)).toThrow('u64 cannot hold');
  expect(() => writer.string(1, 'a\0b')).toThrow('zero byte');
  expect(() => writer.bytes(1, new Uint8Array(65_532))).toThrow('exceeds 65535');
  expect(() => writer.bytes(1, new Uint8Array(1000))).toThrow('more than 200');
  writer.end();
  expect(() => writer.end()).toThrow('without begin');
  expect(parseMessages(writer.take())).toHaveLength(1);
});

test('what did not fit is taken back and the rest stays whole', () => {
  const writer = new MessageWriter();
  writer.begin(20, 0, 1);
  writer.end();
  const mark = writer.length;
  writer.begin(21, 0, 2);
  writer.u32(1, 5);
  writer.truncate(mark);
  writer.begin(22, 0, 3);
  writer.end();
  expect(parseMessages(writer.take()).map((message) => message.type)).toEqual([20, 22]);
});
