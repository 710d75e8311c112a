/** The rtnetlink client against a peer that answers as the kernel does while its table changes: no part of a dump is taken for the whole. */
import { expect, test } from 'vitest';
import { DUMP_ATTEMPTS, MessageWriter, NlmFlag, parseMessages, writeDone } from '../netlink/index.ts';
import { RouteClient } from './route-client.ts';
import { DumpInterruptedError } from './sys/index.ts';

const NEW_LINK = 16;

/** Answers each dump with one link; the first answers are flagged as disturbed. */
function changingTable(disturbed: number) {
  let asked = 0;
  const waiting: Uint8Array[] = [];
  return {
    get asked() {
      return asked;
    },
    send(bytes: Uint8Array) {
      asked += 1;
      const [request] = parseMessages(bytes);
      const flags = NlmFlag.MULTI | (asked <= disturbed ? NlmFlag.DUMP_INTR : 0);
      const writer = new MessageWriter();
      writer.begin(NEW_LINK, flags, request.sequence);
      // struct ifinfomsg of link 7.
      writer.raw(Uint8Array.of(0, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
      writer.end();
      writeDone(writer, request);
      waiting.push(writer.take().slice());
    },
    receive: () => waiting.shift() ?? null,
    wait: () => false,
    close() {},
  };
}

test('a dump that changes disturb is asked for again until one is whole', () => {
  const peer = changingTable(DUMP_ATTEMPTS - 1);
  const client = new RouteClient(peer);
  expect(client.links().map(({ index }) => index)).toEqual([7]);
  expect(peer.asked).toBe(DUMP_ATTEMPTS);
});

test('a dump that is disturbed every time is an error, which has what was read', () => {
  const peer = changingTable(Number.POSITIVE_INFINITY);
  const client = new RouteClient(peer);
  let failure: unknown = null;
  try {
    client.links();
  } catch (error) {
    failure = error;
  }
  expect(failure).toBeInstanceOf(DumpInterruptedError);
  expect(failure).toMatchObject({ errno: 11, message: expect.stringContaining('each of 8 attempts') });
  expect(failure).toMatchObject({ replies: [{ type: NEW_LINK }] });
  expect(peer.asked).toBe(DUMP_ATTEMPTS);
  expect(client.linksAsFarAsKnown()).toMatchObject({ isWhole: false, links: [{ index: 7 }] });
});
