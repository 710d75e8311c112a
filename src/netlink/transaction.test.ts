import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type ExtendedAck, parseDone, parseError, writeAcknowledgement, writeDone } from './acknowledgement.ts';
import { NlmFlag, Nlmsg } from './constants.ts';
import { NetlinkError } from './error.ts';
import { type Message, parseMessages } from './message.ts';
import { type Request, Transaction } from './transaction.ts';
import { MessageWriter } from './writer.ts';

const request: Request = {
  type: 18,
  flags: 0,
  doing: 'get link eth0',
  write: (writer) => writer.raw(new Uint8Array([1, 2, 3, 4])),
};

function encoded(transaction: Transaction): Message {
  const writer = new MessageWriter();
  transaction.encode(writer);
  return parseMessages(writer.take())[0];
}

function written(write: (writer: MessageWriter) => void): Message {
  const writer = new MessageWriter();
  write(writer);
  return parseMessages(writer.take())[0];
}

const reply = (sequence: number, type = 16, flags = 0): Message =>
  written((writer) => {
    writer.begin(type, flags, sequence);
    writer.end();
  });

test('a plain request asks for an acknowledgement and ends with it', () => {
  const transaction = new Transaction(request, 7);
  const sent = encoded(transaction);
  expect(sent).toMatchObject({ type: 18, flags: NlmFlag.REQUEST | NlmFlag.ACK, sequence: 7 });
  expect(transaction.offer(reply(8))).toBe('other');
  expect(transaction.offer(reply(7))).toBe('more');
  expect(transaction.offer(reply(7, Nlmsg.NOOP))).toBe('more');
  expect(transaction.offer(written((writer) => writeAcknowledgement(writer, sent, 0)))).toBe('done');
  expect(transaction.replies).toHaveLength(1);
  expect(transaction.failure).toBeNull();
  expect(transaction.offer(reply(7))).toBe('other');
});

test('a dump ends with DONE, and an interruption on any part is kept', () => {
  const transaction = new Transaction({ ...request, dump: true }, 3);
  const sent = encoded(transaction);
  expect(sent.flags).toBe(NlmFlag.REQUEST | NlmFlag.DUMP);
  expect(transaction.offer(reply(3, 16, NlmFlag.MULTI))).toBe('more');
  expect(transaction.interrupted).toBe(false);
  expect(transaction.offer(reply(3, 16, NlmFlag.MULTI | NlmFlag.DUMP_INTR))).toBe('more');
  expect(transaction.offer(written((writer) => writeDone(writer, sent)))).toBe('done');
  expect(transaction.interrupted).toBe(true);
  expect(transaction.replies).toHaveLength(2);
});

test('replies stay valid when the receive buffer is reused', () => {
  const transaction = new Transaction(request, 1);
  const message = reply(1);
  transaction.offer(message);
  message.bytes.fill(0xee);
  expect(transaction.replies[0].bytes[0]).toBe(16);
});

test('an error carries errno, the sentence of the peer and what was being done', () => {
  const transaction = new Transaction(request, 1);
  const sent = encoded(transaction);
  const extended = { message: 'no such thing', offset: 20, missingType: 3 };
  const error = written((writer) => writeAcknowledgement(writer, sent, 19, { extended }));
  expect(transaction.offer(error)).toBe('failed');
  expect(transaction.failure).toEqual({
    errno: 19,
    extended,
    text: 'cannot get link eth0: errno 19, no such thing, attribute at byte 20, attribute type 3 is missing',
  });
});

test('a dump that fails half-way, and lost messages, fail the transaction', () => {
  const dump = new Transaction({ ...request, dump: true }, 1);
  const sent = encoded(dump);
  expect(dump.offer(written((writer) => writeDone(writer, sent, 105)))).toBe('failed');
  expect(dump.failure?.errno).toBe(105);
  const lost = new Transaction(request, 2);
  expect(lost.offer(reply(2, Nlmsg.OVERRUN))).toBe('failed');
  expect(lost.failure?.text).toContain('messages were lost');
});

test('acknowledgements are read back as written, capped or whole', () => {
  const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
  const extended: fc.Arbitrary<ExtendedAck> = fc.record({
    message: maybe(fc.string({ unit: 'grapheme-ascii' })),
    offset: maybe(fc.nat()),
    cookie: maybe(fc.uint8Array({ maxLength: 20 })),
    missingType: maybe(fc.nat()),
    missingNest: maybe(fc.nat()),
  });
  fc.assert(
    fc.property(
      extended,
      fc.nat(4095),
      fc.boolean(),
      fc.uint8Array({ maxLength: 33 }),
      (details, errno, capped, body) => {
        const sent = written((writer) => {
          writer.begin(30, 5, 77, 88);
          writer.raw(body);
          writer.end();
        });
        const message = written((writer) => writeAcknowledgement(writer, sent, errno, { capped, extended: details }));
        expect(message).toMatchObject({ type: Nlmsg.ERROR, sequence: 77, port: 88 });
        const read = parseError(message);
        expect(read).toMatchObject({ errno, requestType: 30 });
        const present = Object.fromEntries(Object.entries(details).filter(([, value]) => value !== undefined));
        expect(read.extended).toEqual(present);
      },
    ),
  );
});

test('acknowledgements that are too short or quote too much are refused', () => {
  const short = reply(1, Nlmsg.ERROR);
  expect(() => parseError(short)).toThrow(NetlinkError);
  const sent = encoded(new Transaction(request, 1));
  const error = written((writer) => writeAcknowledgement(writer, sent, 5, { extended: { message: 'x' } }));
  error.bytes[20] = 0xff;
  expect(() => parseError(error)).toThrow('quoted request of 255 bytes does not fit');
  expect(parseDone(reply(1, Nlmsg.DONE)).errno).toBe(0);
  expect(() =>
    parseDone(
      written((writer) => {
        writer.begin(Nlmsg.DONE, NlmFlag.ACK_TLVS, 1);
        writer.raw(new Uint8Array([0, 0, 0, 0, 9, 9]));
        writer.end();
      }),
    ),
  ).toThrow(NetlinkError);
});
