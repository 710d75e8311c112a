import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { toKeyPort } from '../../net/index.ts';
import { Drop } from '../engine/drops.ts';
import { FlowKey } from '../key/key.ts';
import { TUNNEL_WORDS, Word } from '../key/layout.ts';
import { packetOf } from '../testing/frames.ts';
import { FlowLab } from '../testing/lab.ts';
import {
  MAXIMUM_RESUME_BYTES,
  RESUME_BYTES,
  ResumeByte,
  readResumeRecord,
  resumeByteOf,
  resumeLength,
  resumeTicket,
  writeResumeRecord,
} from './record.ts';

const word = fc.integer({ min: 0, max: 0xffff_ffff });

/** Keys of packets on their way, with and without tunnels and options. */
const keys = fc
  .record({
    metadata: fc.array(word, { minLength: Word.L2, maxLength: Word.L2 }),
    port: fc.integer({ min: 0, max: 0xffff }),
    passes: fc.integer({ min: 0, max: 64 }),
    tunnel: fc.option(
      fc.record({
        words: fc.array(word, { minLength: 13, maxLength: 13 }),
        options: fc.uint8Array({ maxLength: 255 }),
      }),
    ),
  })
  .map(({ metadata, port, passes, tunnel }) => {
    const key = new FlowKey();
    key.words.set(metadata);
    key.words[Word.IN_PORT] = port;
    key.words[Word.RECIRC_ID] = passes === 0 ? 0 : metadata[0] | 1;
    key.recirculations = passes;
    if (tunnel === null) return key;
    key.hasTunnel = true;
    key.words.set(tunnel.words, Word.TUNNEL);
    key.words[Word.TUNNEL_FLAGS] = (tunnel.words[12] & 0xffff_0000) | (tunnel.options.length << 8);
    tunnel.options.forEach((byte, i) => {
      key.words[Word.TUNNEL_OPTIONS + (i >>> 2)] |= byte << (24 - (i & 3) * 8);
    });
    return key;
  });

function recordOf(key: FlowKey, ticket?: number): Uint8Array {
  const bytes = new Uint8Array(resumeLength(key));
  expect(writeResumeRecord(key, bytes, 0, ticket)).toBe(bytes.length);
  return bytes;
}

const ticketIn = (bytes: Uint8Array) => resumeTicket({ bytes, at: 0, length: bytes.length });

function read(bytes: Uint8Array, port: number, key = new FlowKey()): string | null {
  return readResumeRecord({ bytes, at: 0, length: bytes.length }, toKeyPort(port), key);
}

/** A record of port 1 that is to be looked up under id 5. */
function small(change: (bytes: Uint8Array) => void = () => {}): Uint8Array {
  const key = new FlowKey();
  key.begin(toKeyPort(1));
  key.words[Word.RECIRC_ID] = 5;
  key.recirculations = 1;
  const bytes = recordOf(key);
  change(bytes);
  return bytes;
}

describe('the codec', () => {
  test('what is written is read', () => {
    fc.assert(
      fc.property(keys, fc.nat({ max: 0xffff }), (key, ticket) => {
        const bytes = recordOf(key, ticket);
        expect(ticketIn(bytes)).toBe(ticket);
        expect(ticketIn(recordOf(key))).toBe(0);
        expect(bytes.length).toBeLessThanOrEqual(MAXIMUM_RESUME_BYTES);
        const found = new FlowKey();
        // What the key held before must not show.
        found.words.fill(7);
        found.hasTunnel = true;
        expect(read(bytes, key.inPort, found)).toBeNull();
        expect([...found.words.subarray(0, Word.L2)]).toEqual([...key.words.subarray(0, Word.L2)]);
        expect([...found.words.subarray(Word.TUNNEL)]).toEqual([...key.words.subarray(Word.TUNNEL)]);
        expect(found).toMatchObject({ hasTunnel: key.hasTunnel, recirculations: key.recirculations, hasEgress: false });
      }),
    );
  });

  test('whatever the bytes, it is a key that gives the same bytes again, or a sentence', () => {
    const garbage = fc.uint8Array({ maxLength: MAXIMUM_RESUME_BYTES + 8 });
    const spoilt = fc
      .tuple(
        keys,
        fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 }),
        fc.nat({ max: 8 }),
      )
      .map(([key, changes, cut]) => {
        const bytes = recordOf(key);
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        return bytes.slice(0, bytes.length - (cut > 4 ? cut : 0));
      });
    fc.assert(
      fc.property(fc.oneof(garbage, spoilt), (bytes) => {
        const key = new FlowKey();
        const port = bytes.length < RESUME_BYTES ? 1 : new DataView(bytes.buffer).getUint32(resumeByteOf(Word.IN_PORT));
        const flaw = read(bytes, port, key);
        if (flaw !== null) {
          expect(flaw.length).toBeGreaterThan(5);
          // A key that is used again has nothing of it.
          key.begin(toKeyPort(3));
          expect(key.words.subarray(Word.TUNNEL).every((each) => each === 0)).toBe(true);
          return;
        }
        const again = recordOf(key, ticketIn(bytes));
        // The room for a tag means nothing.
        expect([...again.subarray(0, -4)]).toEqual([...bytes.subarray(0, -4)]);
      }),
      { numRuns: 2000 },
    );
  });

  test.each([
    ['it is cut off', (bytes: Uint8Array) => bytes.subarray(0, RESUME_BYTES - 1)],
    ['its version is 2', spoil(ResumeByte.VERSION, 2)],
    ['its position is unknown', spoil(ResumeByte.POSITION, 1)],
    ['its lengths contradict each other', spoil(ResumeByte.LENGTH + 1, RESUME_BYTES + 4)],
    ['its lengths contradict each other', spoil(ResumeByte.TUNNEL_WORDS, 13)],
    ['it has too many passes', spoil(ResumeByte.PASSES, 65)],
    ['it is of another port', spoil(resumeByteOf(Word.IN_PORT) + 3, 2)],
    ['passes and recirculation id contradict each other', spoil(ResumeByte.PASSES, 0)],
  ])('%s', (flaw, change) => {
    expect(read(small(), 1)).toBeNull();
    expect(read(change(small()), 1)).toBe(flaw);
  });

  test('lengths of tunnels are held to what their options say', () => {
    const key = new FlowKey();
    key.begin(toKeyPort(1));
    key.hasTunnel = true;
    key.words[Word.TUNNEL_FLAGS] = 5 << 8;
    const bytes = recordOf(key);
    expect(bytes.length).toBe(RESUME_BYTES + (13 + 2) * 4);
    const options = resumeByteOf(Word.TUNNEL_FLAGS) + 2;
    expect(read(bytes, 1)).toBeNull();
    expect(read(spoil(options, 9)(bytes.slice()), 1)).toBe('the options of its tunnel have a wrong length');
    expect(read(spoil(options + 1, 1)(bytes.slice()), 1)).toBe('bits are set that have no meaning');
    expect(read(spoil(resumeByteOf(Word.TUNNEL_OPTIONS + 1) + 1, 1)(bytes.slice()), 1)).toBe(
      'bits are set that have no meaning',
    );
    const short = new Uint8Array(RESUME_BYTES + 12 * 4);
    short.set(small());
    short[ResumeByte.LENGTH + 1] = short.length;
    short[ResumeByte.TUNNEL_WORDS] = 12;
    expect(read(short, 1)).toBe('its tunnel has a wrong length');
    const long = new Uint8Array(RESUME_BYTES + (TUNNEL_WORDS + 1) * 4);
    long.set(small());
    new DataView(long.buffer).setUint16(ResumeByte.LENGTH, long.length);
    long[ResumeByte.TUNNEL_WORDS] = TUNNEL_WORDS + 1;
    expect(read(long, 1)).toBe('its tunnel has a wrong length');
  });
});

function spoil(at: number, value: number) {
  return (bytes: Uint8Array): Uint8Array => {
    bytes[at] = value;
    return bytes;
  };
}

describe('the engine goes on', () => {
  const FRAME = [
    ...[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 50],
    ...[0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 5, 0, 6, 0, 30, 0, 0],
    ...new Array<number>(22).fill(7),
  ];
  const FIRST = 'recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(proto=17,frag=no)';
  const AGAIN = 'recirc_id(0x5),in_port(1),eth(dst=02:00:00:00:00:09),eth_type(0x0800),ipv4(proto=17,frag=no)';

  function lab(ended: number[]): FlowLab {
    const made = new FlowLab({ ended: (reason) => ended.push(reason) });
    made.flow(FIRST, 'set(eth(dst=02:00:00:00:00:09)),recirc(0x5)');
    return made;
  }

  test('at the look-up of the record, and counts there alone', () => {
    const [wholeEnds, splitEnds]: [number[], number[]] = [[], []];
    const whole = lab(wholeEnds);
    const split = lab(splitEnds);
    for (const each of [whole, split]) each.flow(AGAIN, '2,set(ipv4(ttl=9)),3');
    whole.receive(FRAME);
    const changed = FRAME.with(5, 9);
    const bytes = small();
    split.datapath.resume(packetOf(changed, split.pool), toKeyPort(1), { bytes, at: 0, length: bytes.length });
    expect(split.sent).toEqual(whole.sent);
    expect(split.sent.length).toBe(2);
    expect(splitEnds).toEqual(wholeEnds);
    const counts = ({ datapath: { table } }: FlowLab) => [table.packetsOf(0), table.packetsOf(1), table.bytesOf(1)];
    expect([counts(whole), counts(split)]).toEqual([
      [1, 1, 64],
      [0, 1, 64],
    ]);
    expect(split.held).toBe(0);
  });

  test('with a miss, where no flow is for the look-up', () => {
    const missed: FlowKey[] = [];
    const ended: number[] = [];
    const made = new FlowLab({
      ended: (reason) => ended.push(reason),
      miss: (_packet, key) => {
        const own = new FlowKey();
        own.copyFrom(key);
        missed.push(own);
        return true;
      },
    });
    const bytes = small((each) => new DataView(each.buffer).setUint32(resumeByteOf(Word.DP_HASH), 77));
    made.datapath.resume(packetOf(FRAME, made.pool), toKeyPort(1), { bytes, at: 0, length: bytes.length });
    expect(
      missed.map(({ recircId, words, inPort, recirculations }) => [
        recircId,
        words[Word.DP_HASH],
        inPort,
        recirculations,
      ]),
    ).toEqual([[5, 77, 1, 1]]);
    expect([ended, made.held]).toEqual([[0], 0]);
  });

  test('not with a record that makes no sense: the packet is dropped, by name, and counted once', () => {
    const ended: number[] = [];
    const made = lab(ended);
    const bytes = small(spoil(ResumeByte.VERSION, 9));
    made.datapath.resume(packetOf(FRAME, made.pool), toKeyPort(1), { bytes, at: 0, length: bytes.length });
    expect(made.datapath.drops.toRecord()).toEqual({ 'resume-malformed': 1 });
    expect([ended, made.sent, made.missed, made.held]).toEqual([[Drop.RESUME_MALFORMED], [], [], 0]);
  });
});
