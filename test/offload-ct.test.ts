/**
 * Flows with ct in programs beside the engine: a stateful firewall with translation, marks and several zones, over two tables of connections that begin alike. What a program carries
 * is what the engine does, what it hands up goes on as in the engine, and in the end the same packets stand at every flow.
 */
import { afterEach, describe, expect, test } from 'vitest';
import {
  type ConnectionMemory,
  Connections,
  ConnectionTable,
  plainMemory,
  RecordWord,
  STATE_MASK,
  TcpState,
  Tuple,
} from '../src/connections/index.ts';
import { type End, echo, end, tcp, udp } from '../src/connections/testing/frames.ts';
import { PutMode, parseActions, parseFlowKey } from '../src/flow/index.ts';
import { formatIpv4, formatIpv6, IpProtocol } from '../src/net/index.ts';
import { ConnectionMaps } from '../src/offload/testing/connection-maps.ts';
import { DownSide } from '../src/offload/testing/down-rounds.ts';
import { GeneratedCarrier } from '../src/offload/testing/generated-carrier.ts';
import { RandomSource, runSeed } from '../src/offload/testing/random.ts';
import { compareCounters, EngineSide } from '../src/offload/testing/table-rounds.ts';

const CAPACITY = 500;
const SECRET = [0x1234_5678, 0x9abc_def0 | 0] as const;
const IFINDEXES = [1, 2, 3, 4];

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

function own<T extends { close(): void }>(one: T): T {
  cleanups.push(() => one.close());
  return one;
}

const IPV4 = 'eth(),eth_type(0x0800),ipv4(frag=no)';
const IPV6 = 'eth(),eth_type(0x86dd),ipv6(frag=no)';

type Flows = readonly (readonly [flow: string, actions: string])[];

/** Flows, and by which port packets of connections come. */
interface Scenario {
  readonly flows: Flows;
  readonly clients: readonly string[];
  readonly servers: readonly string[];
  /** Where new connections come from. */
  readonly begin: readonly number[];
  port(zone: number, direction: number): number;
}

const matching =
  (ip: string) =>
  (recirculation: number, port: number, state = '') =>
    `recirc_id(${recirculation}),in_port(${port}),${state}${ip}`;

const at = matching(IPV4);

const V4_ENDS = { clients: ['10.0.0.1', '10.0.0.2', '10.0.0.3'], servers: ['192.0.2.1', '192.0.2.2'] };

/** Behind port 1 hosts that go out by port 2 under another address; ports 3 and 4 have marks and a second zone. */
const ONE_AT_A_TIME: Scenario = {
  ...V4_ENDS,
  begin: [1, 1, 3],
  port: (zone, direction) => (zone === 1 ? 1 : 3) + direction,
  flows: [
    [at(0, 1), 'ct(zone=1,nat),recirc(0x1)'],
    [at(1, 1, 'ct_state(-new+est+trk),'), '2'],
    [at(1, 1, 'ct_state(+new-est+trk),'), 'ct(commit,zone=1,nat(src=198.51.100.1-198.51.100.4)),recirc(0x11)'],
    [at(0x11, 1), '2'],
    [at(0, 2), 'set(eth(src=02:00:00:00:00:99)),ct(zone=1,nat),recirc(0x2)'],
    [at(2, 2, 'ct_state(+est+rpl+trk),'), 'set(ipv4(ttl=9)),1'],
    [at(2, 2, 'ct_state(+new+trk),'), 'drop'],
    [at(2, 2, 'ct_state(+inv+trk),'), 'drop'],
    [at(0, 3), 'ct(commit,zone=5,mark=0x5/0xf,label=0x7/0xff),recirc(0x3)'],
    [at(3, 3, 'ct_state(+trk),ct_zone(5),ct_mark(0x5/0xf),'), 'ct(commit,zone=6,mark=0x6/0xf),recirc(0x33)'],
    [at(0x33, 3, 'ct_state(+est+trk),ct_zone(6),'), 'ct_clear,recirc(0x333)'],
    [at(0x33, 3, 'ct_state(+new+trk),ct_zone(6),'), '4'],
    [at(0x333, 3, 'ct_state(-trk),'), '4'],
    [at(0, 4), 'ct_clear,ct(zone=5),recirc(0x4)'],
    [at(4, 4, 'ct_state(+est+rpl+trk),ct_zone(5),'), 'ct(zone=6),3'],
    [at(4, 4, 'ct_state(-est+trk),'), 'drop'],
  ],
};

/**
 * The same two sides, each connection in three zones or four: zone 4 sees it as the host does, zone 2 behind the translation of zone 1, and zone 3 between two look-ups.
 * So packets are found by tuples that they do not have yet.
 */
function severalAtATime(ip: string, ends: Pick<Scenario, 'clients' | 'servers'>, addresses: string): Scenario {
  const flow = matching(ip);
  const header = ip === IPV4 ? 'ipv4(ttl=9)' : 'ipv6(hlimit=9)';
  const MAC = 'set(eth(src=02:00:00:00:00:99))';
  return {
    ...ends,
    begin: [1],
    port: (zone, direction) => (zone === 4 && direction === 1 ? 3 : 1 + direction),
    flows: [
      [
        flow(0, 1),
        `ct(commit,zone=4),ct(commit,zone=1,nat(src=${addresses})),${MAC},ct(commit,zone=2,mark=0x3/0xf),recirc(0x1)`,
      ],
      [
        flow(1, 1, 'ct_state(+trk),ct_zone(2),'),
        `ct(zone=2),ct_clear,ct(commit,zone=3,label=0x1/0x1),${MAC},recirc(0x2)`,
      ],
      [flow(2, 1, 'ct_state(+est+trk),ct_zone(3),ct_label(0x1/0x1),'), `set(${header}),2`],
      [flow(2, 1, 'ct_state(-est+trk),'), '2'],
      [flow(0, 2), 'ct(zone=3),ct(zone=2),ct(zone=1,nat),ct(zone=4),recirc(0x3)'],
      [flow(3, 2, 'ct_state(+est+rpl+trk),ct_zone(4),'), `ct(zone=4),ct(commit,zone=3,mark=0x1),${MAC},recirc(0x4)`],
      [flow(3, 2, 'ct_state(-est+trk),'), 'drop'],
      [flow(4, 2, 'ct_state(+trk),ct_zone(3),ct_mark(0x1),'), 'ct_clear,1'],
      // Half of what they see is of nobody: the tuples of hosts come by the wrong side.
      [flow(0, 3), 'ct(zone=4),ct(zone=4),ct(zone=2,nat),recirc(0x5)'],
      [flow(5, 3, 'ct_state(+trk),ct_zone(2),'), '4'],
    ],
  };
}

const SCENARIOS: readonly (readonly [string, Scenario])[] = [
  ['one ct before each look-up', ONE_AT_A_TIME],
  ['several ct before each look-up', severalAtATime(IPV4, V4_ENDS, '198.51.100.1-198.51.100.4')],
  [
    'the same under IPv6',
    severalAtATime(
      IPV6,
      { clients: ['2001:db8::1', '2001:db8::2'], servers: ['2001:db8:1::1', '2001:db8:1::2'] },
      '2001:db8:2::1-2001:db8:2::4',
    ),
  ],
];

class World {
  readonly engine: EngineSide;
  readonly behind: EngineSide;
  readonly carrier: GeneratedCarrier;
  readonly table: ConnectionTable;
  /** The one that the program reads. */
  readonly mapped: ConnectionTable;
  readonly verdicts = new Map<string, number>();
  readonly #down: DownSide | null;

  readonly scenario: Scenario;

  /** @param handsDown whether packets begin in the engine, which hands them down to the program */
  constructor(hook: 'tc' | 'xdp', scenario: Scenario, handsDown = false) {
    this.scenario = scenario;
    const plain = plainMemory(CAPACITY);
    const maps = own(ConnectionMaps.create(CAPACITY));
    const [one, other] = [this.#connections(plain), this.#connections(maps.memory)];
    this.engine = new EngineSide(IFINDEXES, 1, one);
    this.#down = handsDown ? new DownSide(IFINDEXES, 1, other) : null;
    this.behind = this.#down ?? new EngineSide(IFINDEXES, 1, other);
    for (const { table } of [this.engine, this.behind]) {
      for (const [flow, actions] of scenario.flows) {
        const { key, mask } = parseFlowKey(flow);
        table.put({ key, mask, actions: parseActions(actions), ufid: null, mode: PutMode.CREATE });
      }
    }
    this.carrier = own(new GeneratedCarrier(this.behind.table, hook, this.engine.datapath.hashSecret, IFINDEXES, maps));
    if (this.#down !== null) this.#down.carrier = this.carrier;
    this.table = one.tracker.table;
    this.mapped = other.tracker.table;
    expect(this.carrier.refusals).toEqual([]);
  }

  /** Tables with the same secret, so that the same ports are chosen. */
  #connections(memory: ConnectionMemory): Connections {
    const nowMs = () => Number(process.hrtime.bigint() / 1_000_000n);
    ConnectionTable.format(memory, CAPACITY, SECRET, { nowMs });
    const store = { restMs: 0, left: () => memory, make: () => memory, close: () => {} };
    const numbers = new RandomSource(3);
    const connections = new Connections({ nowMs, store, random: () => numbers.word() / 2 ** 32 });
    connections.adopt();
    return connections;
  }

  /** The packet begins in the engine, and its later look-ups are the program's. */
  #sendDown(down: DownSide, frame: Uint8Array, port: number): void {
    this.engine.run(Array.from(frame), port);
    const before = down.handedDown;
    down.run(Array.from(frame), port);
    const cameUp = down.settle();
    const verdict = `${down.handedDown === before ? 'run' : cameUp > 0 ? 'come up' : 'sent'} from ${port}`;
    this.verdicts.set(verdict, (this.verdicts.get(verdict) ?? 0) + 1);
    if (down.takeDropped()) down.fate = this.engine.fate;
    expect(down.outcome).toBe(this.engine.outcome);
  }

  send(frame: Uint8Array, port: number): void {
    if (this.#down !== null) {
      this.#sendDown(this.#down, frame, port);
      return;
    }
    const run = this.carrier.run(frame, port);
    const verdict = `${run.verdict} from ${port}`;
    this.verdicts.set(verdict, (this.verdicts.get(verdict) ?? 0) + 1);
    this.engine.run(Array.from(frame), port);
    const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
    if (run.verdict === 'punted' && run.sent.length === 0) {
      this.behind.run(Array.from(frame), port);
      expect(this.behind.outcome).toBe(this.engine.outcome);
      return;
    }
    if (run.resumed !== undefined) {
      this.behind.resume(run.resumed.frame, port, run.resumed.record);
      expect(this.behind.outcome).toBe(this.engine.outcome);
      return;
    }
    const expected = [
      this.engine.missed ? 'missed' : this.engine.sent.length > 0 ? 'sent' : 'dropped',
      ...this.engine.sent,
    ];
    expect([run.verdict, ...run.sent.map((each) => `${each.ifindex} ${hex(each.frame)}`)]).toEqual(expected);
  }

  /** A connection loses its mark, so that the next commit has something to do. */
  unmark(record: number): void {
    for (const table of [this.table, this.mapped]) table.records[table.at(record) + RecordWord.MARK] = 0;
  }

  settle(): void {
    this.carrier.sync();
    compareCounters(this.engine.table, this.behind.table, 'flows with ct');
  }
}

function endsOf(table: ConnectionTable, record: number, direction: number): { from: End; to: End; protocol: number } {
  const tuple = new Tuple();
  const place = table.at(record);
  tuple.read(table.records[place], table.records, place + (direction === 0 ? RecordWord.ORIGINAL : RecordWord.REPLY));
  const address = (word: number) => {
    const bytes = new Uint8Array(16);
    for (let i = 0; i < 4; i += 1) new DataView(bytes.buffer).setInt32(i * 4, tuple.words[word + i]);
    return tuple.isIpv6 ? formatIpv6(bytes) : formatIpv4(bytes);
  };
  return {
    from: end(address(1), tuple.sourcePort),
    to: end(address(5), tuple.destinationPort),
    protocol: tuple.protocol,
  };
}

/** A packet of a connection that there is, or of a new one. */
function step(world: World, random: RandomSource): void {
  const { table, scenario } = world;
  const live = Array.from({ length: table.fresh - 1 }, (_, i) => i + 1).filter((record) => table.isLive(record));
  if (live.length === 0 || random.once(15)) {
    const from = end(random.pick(scenario.clients), 1000 + random.below(5));
    const to = end(random.pick(scenario.servers), 80);
    const port = random.pick(scenario.begin);
    const frames = [() => tcp(from, to, 'S', { sequence: random.word() }), () => udp(from, to), () => echo(from, to)];
    world.send(random.pick(frames)(), port);
    return;
  }
  const record = random.pick(live);
  const direction = random.below(2);
  const { from, to, protocol } = endsOf(table, record, direction);
  const place = table.at(record);
  const port = scenario.port(table.records[place] >>> 16, direction);
  if (random.once(30)) world.unmark(record);
  if (protocol === IpProtocol.UDP) world.send(udp(from, to), port);
  else if (protocol === IpProtocol.TCP) {
    const side = (which: number) => table.records[place + RecordWord.PROTOCOL + which * 4];
    const state = table.records[place + RecordWord.STATE] & STATE_MASK;
    const flags =
      state === TcpState.SYN_SENT && direction === 1 ? 'S.' : random.once(40) ? random.pick(['F.', 'R', 'S']) : '.';
    const numbers = { sequence: side(direction) >>> 0, acknowledgment: side(1 - direction) >>> 0 };
    world.send(tcp(from, to, flags, numbers, random.once(2) ? '' : 'some data'), port);
  } else {
    // The identifier is where the tuple has the source port.
    const id = from.port;
    world.send(echo(end(from.address, id), end(to.address, id), direction === 1), port);
  }
}

const ROUNDS = Number(process.env.MILLRACE_FUZZ ?? 2);

test.each(SCENARIOS)(
  'what the engine hands down goes on with what it was told of the connection: %s',
  (_, scenario) => {
    for (let round = 0; round < ROUNDS; round += 1) {
      const seed = (runSeed() + round * 7919) % 0x7fff_ffff;
      const world = new World('tc', scenario, true);
      const random = new RandomSource(seed);
      try {
        for (let i = 0; i < 1000; i += 1) step(world, random);
        world.settle();
      } catch (error) {
        throw new Error(`seed ${seed}`, { cause: error });
      }
      for (const port of [1, 2]) expect(world.verdicts.get(`sent from ${port}`) ?? 0).toBeGreaterThan(40);
      for (const cleanup of cleanups.splice(0).reverse()) cleanup();
    }
  },
);

describe.each(['tc', 'xdp'] as const)('at %s', (hook) => {
  test.each(SCENARIOS)(
    'flows that track, translate and mark do what they do in the engine, and count the same: %s',
    (_, scenario) => {
      for (let round = 0; round < ROUNDS; round += 1) {
        const seed = (runSeed() + round * 7919) % 0x7fff_ffff;
        const world = new World(hook, scenario);
        const random = new RandomSource(seed);
        try {
          for (let i = 0; i < 1000; i += 1) step(world, random);
          world.settle();
        } catch (error) {
          throw new Error(`seed ${seed}`, { cause: error });
        }
        for (const port of [1, 2]) expect(world.verdicts.get(`sent from ${port}`) ?? 0).toBeGreaterThan(40);
        for (const cleanup of cleanups.splice(0).reverse()) cleanup();
      }
    },
  );
});
