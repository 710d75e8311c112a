/**
 * What it costs a program to track and translate a packet of an established connection: test runs of a program that parses and does that, beside one that parses alone. Neighbour:
 * connections.ts measures the engine's side.
 */
import { tickClock } from '../src/bpf/index.ts';
import { ConnectionTable, kindOf, RecordWord, Status, Tuple, TupleWord } from '../src/connections/index.ts';
import { IpProtocol } from '../src/net/index.ts';
import type { OffloadHook } from '../src/offload/actions/contract.ts';
import { TrackRequest } from '../src/offload/connections/request.ts';
import { ConnectionMaps } from '../src/offload/testing/connection-maps.ts';
import { TrackingProgram } from '../src/offload/testing/tracking-program.ts';
import { median } from './statistics.ts';

/** Nanoseconds of one packet. */
export interface TrackingCost {
  /** Of the program that only parses. */
  readonly parsedNs: number;
  readonly trackedNs: number;
  readonly translatedNs: number;
  /** Instructions of the program, and those that the verifier has followed. */
  readonly instructions: number;
  readonly verified: number;
}

const CAPACITY = 1000;
const REPEAT = 300_000;
const ROUNDS = 7;
const UDP_STREAM = 13 << 8;
const FROM = [0x0a00_0001, 4000] as const;
const TRANSLATED = [0xc633_6401 | 0, 5000] as const;
const TO = [0x0a00_0002, 53] as const;

function tuple(source: readonly [number, number], destination: readonly [number, number]): Tuple {
  const made = new Tuple();
  made.begin(0, IpProtocol.UDP, false);
  made.words[TupleWord.PORTS] = (source[1] << 16) | destination[1];
  made.words[TupleWord.SOURCE] = source[0];
  made.words[TupleWord.DESTINATION] = destination[0];
  return made;
}

/** A connection between two tuples, answered for long. @param translated what packets of the first one become */
function begin(table: ConnectionTable, original: Tuple, translated: Tuple): void {
  const record = table.take(table.nowMs() | 0);
  const at = table.at(record);
  const reply = new Tuple();
  reply.invert(translated);
  table.records.set(original.words, at + RecordWord.ORIGINAL);
  table.records.set(reply.words, at + RecordWord.REPLY);
  const nat = original.equals(translated) ? 0 : Status.SOURCE_NAT;
  table.records[at + RecordWord.STATUS] = Status.SEEN_REPLY | Status.ASSURED | Status.CONFIRMED | nat;
  table.records[at + RecordWord.STATE] = UDP_STREAM;
  table.records[at + RecordWord.LAST_SEEN] = table.nowMs();
  if (!table.publish(record, kindOf(0, IpProtocol.UDP, false))) throw new Error('the index has no room');
}

/** UDP over IPv4, 64 bytes. */
function frame(): Uint8Array {
  const bytes = new Uint8Array(64);
  bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0]);
  bytes.set([10, 0, 0, 1, 10, 0, 0, 2, FROM[1] >>> 8, FROM[1] & 0xff, 0, 53, 0, 30, 0x12, 0x34], 26);
  return bytes;
}

/** @throws what loading programs throws, where the kernel does not allow that */
export function benchTracking(hook: OffloadHook): TrackingCost {
  const clock = tickClock() ?? 'ktime_get_ns';
  const maps = ConnectionMaps.create(CAPACITY);
  const programs: TrackingProgram[] = [];
  const load = (withTracking: boolean) => {
    const program = new TrackingProgram(hook, maps, clock, withTracking);
    programs.push(program);
    return program;
  };
  try {
    const table = ConnectionTable.format(maps.memory, CAPACITY, [1, 2], {
      nowMs: () => Number(process.hrtime.bigint() / 1_000_000n),
    });
    // A test run goes on with the packet that the run before has left: it is translated there and back.
    begin(table, tuple(FROM, TO), tuple(TRANSLATED, TO));
    begin(table, tuple(TRANSLATED, TO), tuple(FROM, TO));
    const tracking = load(true);
    const parsing = load(false);
    for (const request of [0, TrackRequest.TRANSLATES]) {
      if (tracking.run(frame(), 0, request).key === null) throw new Error('the packet of a connection went up');
    }
    const rounds = Array.from({ length: ROUNDS }, () => ({
      parsed: parsing.timeNs(frame(), 0, 0, REPEAT),
      tracked: tracking.timeNs(frame(), 0, 0, REPEAT),
      translated: tracking.timeNs(frame(), 0, TrackRequest.TRANSLATES, REPEAT),
    }));
    return {
      parsedNs: median(rounds.map(({ parsed }) => parsed)),
      trackedNs: median(rounds.map(({ tracked }) => tracked)),
      translatedNs: median(rounds.map(({ translated }) => translated)),
      instructions: tracking.loaded.instructions,
      verified: tracking.loaded.program.info().verifiedInstructions,
    };
  } finally {
    for (const program of programs) program.close();
    maps.close();
  }
}
