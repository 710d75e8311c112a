/**
 * Connections in eBPF beside those of the engine: random packets of random connections go through a program over mapped tables and through a tracker over a copy, which
 * have to say the same of each packet, change it in the same way, and leave the same tables; what the program hands up a tracker over the mapped tables takes.
 */
import { afterEach, describe, expect, test } from 'vitest';
import { ArrayMap, at, bytes, R1, R2, R3, R5, type TickClock, tickClock, XDP } from '../src/bpf/index.ts';
import { LiveFrameRun } from '../src/bpf/program/test-run.ts';
import {
  BUCKET_WORDS,
  bucketsFor,
  ConnectionAction,
  type ConnectionMemory,
  type ConnectionRequest,
  ConnectionState,
  ConnectionTable,
  ControlWord,
  ENTRY_MASK,
  firstBucket,
  Kind,
  kindOf,
  LastPart,
  plainMemory,
  RECORD_WORDS,
  RecordWord,
  Removal,
  SideFlag,
  STATE_MASK,
  STREAM_AT,
  Status,
  secondBucket,
  stateText,
  TCP_STATE_NAMES,
  TcpKind,
  TcpState,
  TcpWord,
  Tracked,
  Tracker,
  Tuple,
  TupleWord,
} from '../src/connections/index.ts';
import { type End, echo, end, generic, sctp, tcp, udp, unreachable } from '../src/connections/testing/frames.ts';
import { packetOf } from '../src/connections/testing/lab.ts';
import { Word } from '../src/flow/index.ts';
import { Checksum, HeaderOffsets, IpProtocol, type TcpOption } from '../src/net/index.ts';
import { ofTracked } from '../src/offload/connections/code.ts';
import { TrackRequest } from '../src/offload/connections/request.ts';
import { eitherSide } from '../src/offload/connections/tcp.ts';
import { TranslateResult } from '../src/offload/connections/translate.ts';
import { TrackedWord } from '../src/offload/layout/sizes.ts';
import { Found } from '../src/offload/program/facts.ts';
import type { Stage } from '../src/offload/program/stage.ts';
import { ConnectionMaps } from '../src/offload/testing/connection-maps.ts';
import { RandomSource, runSeed } from '../src/offload/testing/random.ts';
import { trackStage } from '../src/offload/testing/track-stage.ts';
import {
  CONNECTION_KEY_WORDS,
  loadStages,
  mapsWithPort,
  TrackingProgram,
} from '../src/offload/testing/tracking-program.ts';

const CAPACITY = 60;
const SECRET = [0x1234_5678, 0x9abc_def0 | 0] as const;

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

function own<T extends { close(): void }>(one: T): T {
  cleanups.push(() => one.close());
  return one;
}

/** Numbers that both trackers draw alike. */
function sameNumbers(): () => number {
  const source = new RandomSource(7);
  return () => source.word() / 2 ** 32;
}

/** What a tracker says of a packet, as the words of the flow key. */
function keyWordsOf(tracked: Tracked, isIpv6: boolean): Uint32Array {
  const words = new Uint32Array(CONNECTION_KEY_WORDS);
  const place = (word: number) => word - Word.CT;
  const kind = tracked.originalKind;
  words[place(Word.CT_MARK)] = tracked.mark;
  words.set(tracked.label, place(Word.CT_LABEL));
  // A connection that was announced by one of the other IP version shows no tuple.
  if (((kind & Kind.IPV6) !== 0) !== isIpv6) {
    words[0] = (tracked.state << 24) | tracked.zone;
    return words;
  }
  const protocol = (kind >>> 8) & 0xff;
  const [ports] = tracked.original;
  const isIcmp = protocol === IpProtocol.ICMPV4 || protocol === IpProtocol.ICMPV6;
  words[0] = (tracked.state << 24) | (protocol << 16) | tracked.zone;
  words[place(Word.CT_PORTS)] = isIcmp ? (((ports >>> 8) & 0xff) << 16) | (ports & 0xff) : ports;
  if (isIpv6) words.set(tracked.original.subarray(1), place(Word.CT_SOURCE));
  else words.set([tracked.original[1], tracked.original[5]], place(Word.CT_SOURCE));
  return words;
}

/** One of the two tables. */
class Side {
  readonly memory: ConnectionMemory;
  readonly table: ConnectionTable;
  readonly tracker: Tracker;
  readonly #headers = new HeaderOffsets();

  constructor(memory: ConnectionMemory, nowMs: () => number) {
    this.memory = memory;
    this.table = ConnectionTable.format(memory, CAPACITY, SECRET, { nowMs });
    this.tracker = new Tracker({ table: this.table, random: sameNumbers(), verifiesChecksums: false });
  }

  track(frame: Uint8Array, action: ConnectionAction, tracked: Tracked): { refusal: number; frame: Uint8Array } {
    const packet = packetOf(frame);
    packet.checksum = Checksum.UNKNOWN;
    this.#headers.parse(packet);
    const refusal = this.tracker.track(packet, this.#headers, action, tracked);
    return { refusal, frame: packet.frame().slice() };
  }
}

const CLOCK: TickClock | 'ktime_get_ns' = tickClock() ?? 'ktime_get_ns';

class World {
  nowMs = 0;
  readonly maps = own(ConnectionMaps.create(CAPACITY));
  readonly mapped = new Side(this.maps.memory, () => this.nowMs);
  readonly plain = new Side(plainMemory(CAPACITY), () => this.nowMs);
  readonly program: TrackingProgram;
  carried = 0;
  translated = 0;
  up = 0;

  constructor(hook: 'tc' | 'xdp') {
    this.program = own(new TrackingProgram(hook, this.maps, CLOCK));
  }

  /** Send a packet through both. @returns what is known of it */
  send(frame: Uint8Array, request: ConnectionRequest = {}): Tracked {
    const action = new ConnectionAction(request);
    const asked =
      (action.nat !== null ? TrackRequest.TRANSLATES : 0) |
      (action.isLiberal ? TrackRequest.LIBERAL : 0) |
      (action.isForced ? TrackRequest.FORCED : 0);
    const before = this.mapped.memory.records.slice();
    let run = this.program.run(frame, action.zone, asked);
    for (let attempt = 0; run.isUnsteady && attempt < 100; attempt += 1) {
      this.mapped.memory.records.set(before);
      run = this.program.run(frame, action.zone, asked);
    }
    if (run.nowMs !== null) this.nowMs = run.nowMs;
    const tracked = new Tracked();
    const expected = this.plain.track(frame, action, tracked);
    if (run.key === null) {
      this.up += 1;
      expect(run.frame).toEqual(frame);
      const own = this.mapped.track(frame, action, new Tracked());
      expect(own).toEqual(expected);
    } else {
      this.carried += 1;
      expect(expected.refusal).toBe(0);
      expect(stateText(run.key[0] >>> 24)).toBe(stateText(tracked.state));
      expect(run.key).toEqual(keyWordsOf(tracked, frame[12] === 0x86));
      expect(run.translated).toBe(TranslateResult.DONE);
      expect(run.frame).toEqual(expected.frame);
      if ((tracked.state & ConnectionState.NAT) !== 0) this.translated += 1;
    }
    this.compare();
    return tracked;
  }

  /** Both tables hold the same. */
  compare(): void {
    for (const name of ['records', 'index'] as const) {
      const [one, other] = [this.mapped.memory[name], this.plain.memory[name]];
      const length = Math.min(one.length, other.length);
      const isSame = Buffer.from(one.buffer, one.byteOffset, length * 4).equals(
        Buffer.from(other.buffer, other.byteOffset, length * 4),
      );
      if (isSame) continue;
      const differences: string[] = [];
      for (let i = 0; i < length && differences.length < 10; i += 1) {
        if (one[i] !== other[i])
          differences.push(`${name} ${Math.floor(i / RECORD_WORDS)}.${i % RECORD_WORDS}: ${one[i]} ${other[i]}`);
      }
      expect(differences).toEqual([]);
    }
    for (const word of [ControlWord.FRESH, ControlWord.LAST_ID]) {
      expect(this.mapped.memory.control[word]).toBe(this.plain.memory.control[word]);
    }
  }

  word(record: number, word: number): number {
    return this.plain.memory.records[record * RECORD_WORDS + word];
  }

  /** Change a word of a record in both tables. */
  poke(record: number, word: number, change: (value: number) => number): void {
    const value = change(this.word(record, word));
    for (const { memory } of [this.mapped, this.plain]) memory.records[record * RECORD_WORDS + word] = value;
  }

  liveRecords(): number[] {
    const { table } = this.plain;
    return Array.from({ length: table.fresh - 1 }, (_, i) => i + 1).filter((record) => table.isLive(record));
  }

  tuple(record: number, direction: number): Tuple {
    const tuple = new Tuple();
    const { records } = this.plain.memory;
    tuple.read(
      records[record * RECORD_WORDS],
      records,
      record * RECORD_WORDS + (direction === 0 ? RecordWord.ORIGINAL : RecordWord.REPLY),
    );
    return tuple;
  }
}

function addressText(words: Int32Array, isIpv6: boolean): string {
  if (!isIpv6) return [24, 16, 8, 0].map((shift) => (words[0] >>> shift) & 0xff).join('.');
  return [...words].map((word) => `${(word >>> 16).toString(16)}:${(word & 0xffff).toString(16)}`).join(':');
}

function endsOf(tuple: Tuple): { from: End; to: End } {
  const { words, isIpv6 } = tuple;
  return {
    from: end(addressText(words.subarray(1, 5), isIpv6), tuple.sourcePort),
    to: end(addressText(words.subarray(5, 9), isIpv6), tuple.destinationPort),
  };
}

const CLIENTS = ['10.0.0.1', '10.0.0.2', '2001:db8::1', '2001:db8::2'];
const SERVERS = { v4: ['192.0.2.1', '192.0.2.2'], v6: ['2001:db8:1::1', '2001:db8:1::2'] };
const NAT: Record<'v4' | 'v6', ConnectionRequest['nat'][]> = {
  v4: [
    { source: { addresses: ['198.51.100.1', '198.51.100.3'], ports: [2000, 3000] } },
    { destination: { addresses: ['203.0.113.7', '203.0.113.7'], ports: [8080, 8080] } },
    { source: { addresses: ['198.51.100.9', '198.51.100.9'] } },
    {},
  ],
  v6: [
    { source: { addresses: ['2001:db8:99::1', '2001:db8:99::3'], ports: [2000, 3000] } },
    { destination: { addresses: ['2001:db8:98::7', '2001:db8:98::7'], ports: [8080, 8080] } },
    {},
  ],
};

/** Random steps in a world. */
class Steps {
  readonly #world: World;
  readonly #random: RandomSource;

  constructor(world: World, random: RandomSource) {
    this.#world = world;
    this.#random = random;
  }

  step(): void {
    const random = this.#random;
    const live = this.#world.liveRecords();
    if (live.length === 0 || random.once(12)) this.#begin();
    else if (random.once(20)) this.#disturb(random.pick(live));
    else if (random.once(60)) this.#odd(random.pick(live));
    else this.#goOn(random.pick(live));
  }

  #request(isIpv6: boolean, isFirst: boolean): ConnectionRequest {
    const random = this.#random;
    const nat = random.pick([undefined, ...NAT[isIpv6 ? 'v6' : 'v4']]);
    return {
      zone: random.pick([0, 0, 7]),
      commit: isFirst || nat?.source !== undefined || nat?.destination !== undefined,
      liberal: random.once(4),
      force: !isFirst && random.once(30),
      ...(nat === undefined ? {} : { nat }),
    };
  }

  #begin(): void {
    const random = this.#random;
    const client = random.pick(CLIENTS);
    const isIpv6 = client.includes(':');
    const from = end(client, 1000 + random.below(6));
    const to = end(random.pick(SERVERS[isIpv6 ? 'v6' : 'v4']), random.pick([53, 80]));
    const request = this.#request(isIpv6, true);
    const options: TcpOption[] = [{ kind: 'mss', mss: 1460 }];
    if (!random.once(4)) options.push({ kind: 'sack-permitted' });
    if (!random.once(4)) options.push({ kind: 'window-scale', shift: random.below(15) });
    const frames = [
      () => tcp(from, to, 'S', { sequence: random.word(), window: random.below(65_536), options }),
      () =>
        tcp(
          from,
          to,
          '.',
          { sequence: random.word(), acknowledgment: random.word(), window: random.below(65_536) },
          'middle',
        ),
      () => udp(from, to, 'question'),
      () => echo(from, to),
    ];
    this.#world.send(random.pick([...frames, frames[0], frames[0]])(), request);
  }

  /** A packet of a connection, most likely one that fits. */
  #goOn(record: number): void {
    const random = this.#random;
    const world = this.#world;
    const direction = random.below(2);
    const tuple = world.tuple(record, direction);
    const { from, to } = endsOf(tuple);
    const request = { ...this.#request(tuple.isIpv6, false), zone: tuple.zone };
    // Packets come by the tuple of their own direction.
    if (tuple.protocol === IpProtocol.UDP) world.send(udp(from, to, 'x'.repeat(1 + random.below(40))), request);
    else if (tuple.protocol === IpProtocol.TCP) {
      const frame = this.#segment(record, direction, from, to);
      // Sent again and again, now and then.
      for (let left = random.once(12) ? 1 + random.below(9) : 1; left > 0; left -= 1) world.send(frame, request);
    } else {
      const isAnswer = (tuple.destinationPort >>> 8) % 2 === (tuple.isIpv6 ? 1 : 0) && direction === 1;
      const id = tuple.sourcePort;
      world.send(echo(end(from.address, id), end(to.address, id), isAnswer), request);
    }
  }

  #segment(record: number, direction: number, from: End, to: End): Uint8Array {
    const random = this.#random;
    const world = this.#world;
    const side = (which: number, word: number) => world.word(record, RecordWord.PROTOCOL + which * 4 + word);
    const around = (value: number, spread: readonly number[]) => (value + random.pick(spread)) >>> 0;
    const state = world.word(record, RecordWord.STATE) & STATE_MASK;
    const highest = side(direction, 1);
    let flags = random.pick(['.', '.', '.', 'P.', 'P.', '.', '.', '.', 'U.']);
    if (state === TcpState.SYN_SENT && direction === 1 && !random.once(5)) flags = 'S.';
    else if (random.once(40)) flags = random.pick(['S', 'S.', 'F.', 'R', 'R.', 'F', 'SF']);
    const near = [0, 0, 0, 0, 0, -1, 1, -100, 100, 1448, -70_000, 70_000, random.word()];
    let sequence = around(side(direction, 0), near);
    if (random.once(10)) sequence = around(highest, [-1, 0, 1, -100, 100, 1000]);
    const acknowledgment = around(side(1 - direction, 0), [
      0,
      0,
      0,
      0,
      0,
      -1,
      1,
      -100,
      -1448,
      -65_999,
      -66_001,
      -70_000,
      random.word(),
    ]);
    const payload = 'x'.repeat(random.pick([0, 0, 1, 100, 700]));
    const window = random.pick([0, 1, 500, 500, 65_535, random.below(65_536)]);
    return tcp(
      from,
      to,
      flags,
      { sequence, acknowledgment, window, options: this.#options(acknowledgment, flags) },
      payload,
    );
  }

  #options(acknowledgment: number, flags: string): TcpOption[] {
    const random = this.#random;
    if (flags.includes('S')) return [{ kind: 'sack-permitted' }, { kind: 'window-scale', shift: random.below(15) }];
    const nothing: TcpOption = { kind: 'no-operation' };
    const stamp: TcpOption[] = [
      nothing,
      nothing,
      { kind: 'timestamps', value: random.word(), echoReply: random.word() },
    ];
    const edges = (most: number): TcpOption[] => {
      const blocks = Array.from({ length: 1 + random.below(most) }, () => {
        const start = (acknowledgment + random.pick([0, 100, 1448, 60_000, -100])) >>> 0;
        return { start, end: (start + random.pick([1, 1448, 0, 0x2000_0000])) >>> 0 };
      });
      return [nothing, nothing, { kind: 'sack', blocks }];
    };
    return random.pick([
      () => [],
      () => [],
      () => stamp,
      () => stamp,
      () => [...stamp, ...edges(3)],
      () => edges(4),
      () => [...edges(1), ...stamp],
      () => [{ kind: 'unknown', number: 30, data: Uint8Array.of(1, 2) } as TcpOption],
    ])();
  }

  /** Something happens to a connection. */
  #disturb(record: number): void {
    const random = this.#random;
    const world = this.#world;
    const live = world.liveRecords();
    const parent = random.pick(live);
    random.pick([
      () =>
        world.poke(record, RecordWord.LAST_SEEN, (seen) => seen - random.pick([1000, 31_000, 200_000, 400_000_000])),
      () => {
        // It expires right now.
        const place = (world.word(record, RecordWord.STATE) >>> 8) & 0xff;
        world.poke(record, RecordWord.LAST_SEEN, () => world.nowMs - world.plain.table.timeOuts.get(0, place));
        this.#goOn(record);
      },
      () =>
        world.poke(record, STREAM_AT, (at) => (world.tuple(record, 0).protocol === IpProtocol.UDP ? at - 3000 : at)),
      () => world.poke(record, RecordWord.MARK, () => random.word()),
      () => world.poke(record, RecordWord.LABEL + random.below(4), () => random.word()),
      () => world.poke(record, RecordWord.PARENT, () => (random.once(2) ? 0 : random.word())),
      () => {
        world.poke(record, RecordWord.PARENT, () => (world.word(parent, RecordWord.ID) << 22) | parent);
        // One without a helper is another connection by now.
        if (!random.once(4)) world.poke(parent, RecordWord.STATUS, (status) => status | Status.HELPER);
      },
      () =>
        world.poke(
          record,
          RecordWord.STATUS,
          (status) => status ^ (random.once(3) ? Status.SEQUENCE_ADJUSTED : Status.ASSURED),
        ),
      () =>
        world.poke(record, TcpWord.OPTIONS, (options) =>
          world.tuple(record, 0).protocol === IpProtocol.TCP ? options ^ eitherSide(SideFlag.LIBERAL) : options,
        ),
      () => {
        for (const { table } of [world.mapped, world.plain]) table.remove(record, Removal.FLUSHED);
      },
    ])();
  }

  /** Packets that no program tells anything of. */
  #odd(record: number): void {
    const random = this.#random;
    const { from, to } = endsOf(this.#world.tuple(record, random.below(2)));
    const request = this.#request(from.address.includes(':'), true);
    random.pick([
      () => this.#world.send(unreachable(to.address, from.address, udp(from, to)), request),
      () => this.#world.send(generic(from.address, to.address, 47), request),
      () => this.#world.send(sctp(from, to, 0, []), request),
      () => {
        const frame = udp(from, to, 'cut off somewhere behind the headers');
        this.#world.send(frame.subarray(0, frame.length - 1 - random.below(20)), request);
      },
    ])();
  }
}

const ROUNDS = Number(process.env.MILLRACE_FUZZ ?? 2);

describe.each(['tc', 'xdp'] as const)('at %s', (hook) => {
  test('of random packets program and tracker say the same, change the same, and leave the same tables', () => {
    const sums = { carried: 0, translated: 0, up: 0 };
    for (let round = 0; round < ROUNDS; round += 1) {
      const seed = (runSeed() + round * 7919) % 0x7fff_ffff;
      const world = new World(hook);
      const steps = new Steps(world, new RandomSource(seed));
      try {
        for (let i = 0; i < 1500; i += 1) steps.step();
      } catch (error) {
        throw new Error(`seed ${seed}`, { cause: error });
      }
      sums.carried += world.carried;
      sums.translated += world.translated;
      sums.up += world.up;
      for (const cleanup of cleanups.splice(0).reverse()) cleanup();
    }
    // It would say nothing if hardly any packet was carried.
    expect(sums.carried).toBeGreaterThan(ROUNDS * 150);
    expect(sums.translated).toBeGreaterThan(ROUNDS * 30);
  });

  test('a TCP connection opens and closes through the engine, and what lies between is carried', () => {
    const world = new World(hook);
    const [a, c] = [end('10.0.0.1', 4000), end('10.0.0.2', 80)];
    const state = () => TCP_STATE_NAMES[world.word(1, RecordWord.STATE) & STATE_MASK];
    world.send(tcp(a, c, 'S', { sequence: 100 }), { commit: true });
    world.send(tcp(c, a, 'S.', { sequence: 500, acknowledgment: 101 }));
    world.send(tcp(a, c, '.', { sequence: 101, acknowledgment: 501 }));
    expect([world.carried, world.up, state()]).toEqual([0, 3, 'ESTABLISHED']);
    for (let i = 0; i < 20; i += 1) {
      world.send(tcp(a, c, 'P.', { sequence: 101 + i * 5, acknowledgment: 501 }, 'hello'));
      world.send(tcp(c, a, '.', { sequence: 501, acknowledgment: 106 + i * 5 }));
    }
    expect([world.carried, world.up]).toEqual([40, 3]);
    world.send(tcp(a, c, 'F.', { sequence: 201, acknowledgment: 501 }));
    expect([world.carried, world.up, state()]).toEqual([40, 4, 'FIN_WAIT']);
    // Closing stays the engine's.
    world.send(tcp(c, a, '.', { sequence: 501, acknowledgment: 202 }));
    expect([world.carried, world.up, state()]).toEqual([40, 5, 'CLOSE_WAIT']);
  });

  test('a connection that has expired, or that a helper watches, goes up', () => {
    const world = new World(hook);
    const [a, c] = [end('10.0.0.1', 4000), end('10.0.0.2', 53)];
    world.send(udp(a, c), { commit: true });
    world.send(udp(c, a));
    world.send(udp(a, c));
    expect([world.carried, world.up]).toEqual([1, 2]);
    world.poke(1, RecordWord.STATUS, (status) => status | Status.SEQUENCE_ADJUSTED);
    world.send(udp(a, c));
    world.poke(1, RecordWord.STATUS, (status) => status & ~Status.SEQUENCE_ADJUSTED);
    world.poke(1, RecordWord.LAST_SEEN, (seen) => seen - 40_000);
    world.send(udp(a, c));
    expect([world.carried, world.up, world.plain.table.size]).toEqual([1, 4, 0]);
  });
});

test('a connection is found in its second bucket as well', () => {
  const world = new World('xdp');
  const [a, c] = [end('10.0.0.1', 4000), end('10.0.0.2', 53)];
  world.send(udp(a, c), { commit: true });
  world.send(udp(c, a));
  const tuple = world.tuple(1, 0);
  const hash = world.plain.table.hash(tuple);
  const buckets = bucketsFor(CAPACITY);
  const [first, second] = [firstBucket(hash, buckets), secondBucket(hash, buckets)].map((one) => one * BUCKET_WORDS);
  expect(first).not.toBe(second);
  for (const { index } of [world.mapped.memory, world.plain.memory]) {
    const place = index.findIndex((word, at) => word !== 0 && (word & ENTRY_MASK) === 2 && at >= first);
    // Making room moves entries in this order.
    index[index.indexOf(0, second)] = index[place];
    index[place] = 0;
  }
  world.send(udp(a, c));
  expect([world.carried, world.up]).toEqual([1, 2]);
});

/** Counts packets whose connection has the mark that its ports make, and those of which it has another. */
function markStage(counts: ArrayMap<Uint8Array>): Stage {
  return {
    name: 'the mark says which connection it is',
    needs: [Found.CONNECTION, Found.CPU],
    key: [[Word.PORTS, 0xffff_ffff]],
    maps: [counts],
    emit(writer) {
      const { b } = writer;
      b.load(R1, 'u32', ofTracked(TrackedWord.KEY + Word.CT_MARK - Word.CT, R5));
      b.load(R2, 'u32', writer.key(Word.PORTS));
      b.loadMapValue(R3, counts);
      b.if(
        R1,
        '==',
        R2,
        () => b.mov(R2, 0),
        () => b.mov(R2, 8),
      );
      b.add(R3, R2);
      b.mov(R1, 1);
      b.atomic('add', 'u64', at(R3), R1);
      b.return(XDP.DROP);
    },
  };
}

test('no program takes one connection for another while the engine frees and reuses records', async () => {
  const capacity = 1024;
  const maps = own(ConnectionMaps.create(capacity));
  const nowMs = () => Number(process.hrtime.bigint() / 1_000_000n);
  const table = ConnectionTable.format(maps.memory, capacity, SECRET, { nowMs, restMs: 200 });
  const counts = own(ArrayMap.create({ name: 'counts', value: bytes(16), maxEntries: 1, mappable: true }));
  const values = counts.map();
  const flows = own(mapsWithPort());
  const loaded = own(loadStages('xdp', flows, [trackStage(maps, 7), markStage(counts)]));
  /** A connection that was answered, between the same ends as all others but for one port. */
  const begin = (port: number): number => {
    const now = nowMs() | 0;
    const record = table.take(now);
    if (record === 0) return 0;
    const original = new Tuple();
    original.begin(7, IpProtocol.UDP, false);
    original.words.set([(port << 16) | 53], TupleWord.PORTS);
    original.words[TupleWord.SOURCE] = 0x0a00_0001;
    original.words[TupleWord.DESTINATION] = 0x0a00_0002;
    const reply = new Tuple();
    reply.invert(original);
    const place = table.at(record);
    table.records.set(original.words, place + RecordWord.ORIGINAL);
    table.records.set(reply.words, place + RecordWord.REPLY);
    table.records[place + RecordWord.STATUS] = Status.SEEN_REPLY | Status.ASSURED | Status.CONFIRMED;
    table.records[place + RecordWord.LAST_SEEN] = now;
    table.records[place + RecordWord.STATE] = 13 << 8;
    table.records[place + RecordWord.MARK] = (port << 16) | 53;
    return table.publish(record, kindOf(7, IpProtocol.UDP, false)) ? record : 0;
  };
  const PORT = 4000;
  const run = new LiveFrameRun(loaded.program.fd, 'marks', { data: udp(end('10.0.0.1', PORT), end('10.0.0.2', 53)) });
  let isRunning = true;
  let reused = 0;
  // On a quick machine the first frames are through before a record has rested.
  const frames = async () => {
    for (let round = 0; round < 100; round += 1) {
      await run.runOnThread(400_000);
      if (values.count(0) > 0 && reused > capacity) return;
    }
  };
  const done = frames().finally(() => {
    isRunning = false;
  });
  for (let turn = 0; isRunning; turn += 1) {
    // The one that packets come of is there half of the time, among others in the same buckets.
    const made = Array.from({ length: 8 }, (_, i) =>
      begin(turn % 2 === 0 && i === 3 ? PORT : 5000 + ((turn * 8 + i) % 50_000)),
    );
    if (turn % 50 === 0) await new Promise(setImmediate);
    for (const record of made) {
      if (record === 0) continue;
      table.remove(record, Removal.FLUSHED);
      reused += 1;
    }
  }
  await done;
  expect(values.count(8)).toBe(0);
  expect(values.count(0)).toBeGreaterThan(0);
  expect(reused).toBeGreaterThan(capacity);
});

/** Counts packets that programs have gone on with. */
function carriedStage(counts: ArrayMap<Uint8Array>): Stage {
  return {
    name: 'carried',
    needs: [Found.CONNECTION, Found.CPU],
    key: [],
    maps: [counts],
    emit({ b }) {
      b.loadMapValue(R3, counts);
      b.mov(R1, 1);
      b.atomic('add', 'u64', at(R3), R1);
      b.return(XDP.DROP);
    },
  };
}

test('no program undoes a reset that the engine has taken while acknowledgments of the same connection pass', async () => {
  const maps = own(ConnectionMaps.create(CAPACITY));
  const nowMs = () => Number(process.hrtime.bigint() / 1_000_000n);
  const table = ConnectionTable.format(maps.memory, CAPACITY, SECRET, { nowMs, restMs: 20 });
  const tracker = new Tracker({ table });
  const counts = own(ArrayMap.create({ name: 'counts', value: bytes(8), maxEntries: 1, mappable: true }));
  const carried = counts.map();
  const loaded = own(loadStages('xdp', own(mapsWithPort()), [trackStage(maps, 7), carriedStage(counts)]));
  const headers = new HeaderOffsets();
  const send = (frame: Uint8Array, commit = false) => {
    const packet = packetOf(frame);
    headers.parse(packet);
    tracker.track(packet, headers, new ConnectionAction({ zone: 7, liberal: true, commit }), new Tracked());
  };
  const [a, c] = [end('10.0.0.1', 4000), end('10.0.0.2', 80)];
  send(tcp(a, c, 'S', { sequence: 100 }), true);
  send(tcp(c, a, 'S.', { sequence: 500, acknowledgment: 101 }));
  send(tcp(a, c, '.', { sequence: 101, acknowledgment: 501 }));
  const { records } = table;
  const state = table.at(1) + RecordWord.STATE;
  const last = table.at(1) + TcpWord.LAST;
  const established = records[state];
  const acknowledged = records[last] & ~LastPart.WINDOW;
  expect(established & STATE_MASK).toBe(TcpState.ESTABLISHED);

  const acknowledgment = tcp(c, a, '.', { sequence: 501, acknowledgment: 101 });
  const run = new LiveFrameRun(loaded.program.fd, 'acks', { data: acknowledgment, batch: 1 });
  const reset = tcp(a, c, 'R', { sequence: 101 });
  let resets = 0;
  let undone = 0;
  let forgotten = 0;
  let isRunning = true;
  // A small machine may run both on one CPU for a while: then nothing meets.
  const frames = async () => {
    for (let round = 0; round < 40 && (round < 4 || resets < 20_000); round += 1) await run.runOnThread(300_000);
  };
  const done = frames().finally(() => {
    isRunning = false;
  });
  while (isRunning) {
    for (let k = 0; k < 500; k += 1) {
      // The connection is established again, and its last segment is not the one that comes: program and engine have each something to store.
      Atomics.store(records, last, acknowledged | (k + 1));
      Atomics.store(records, state, established);
      const before = carried.count(0);
      for (let spin = 0; spin < 3000 && carried.count(0) === before; spin += 1);
      if (carried.count(0) === before) continue;
      send(reset);
      resets += 1;
      for (let spin = 0; spin < 2000; spin += 1) Atomics.load(records, state);
      if ((Atomics.load(records, state) & STATE_MASK) !== TcpState.CLOSE) undone += 1;
      else if ((Atomics.load(records, last) & LastPart.KIND) >>> LastPart.KIND_SHIFT !== TcpKind.RST) forgotten += 1;
    }
    await new Promise(setImmediate);
  }
  await done;
  expect(resets).toBeGreaterThan(1000);
  expect({ undone, forgotten }).toEqual({ undone: 0, forgotten: 0 });
}, 120_000);
