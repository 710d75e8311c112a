/**
 * Packets that the engine hands down: it runs what programs cannot, and the kernel goes on with the look-ups behind that. Random tables through engine and programs, records that make no
 * sense, and a datapath under ovs-dpctl, super-packets and tags included.
 */
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { OffloadInfo } from '../src/daemon/client.ts';
import {
  Drop,
  FlowKey,
  PutMode,
  parseActions,
  parseFlowKey,
  ResumeByte,
  resumeByteOf,
  Word,
} from '../src/flow/index.ts';
import { type Packet, toKeyPort } from '../src/net/index.ts';
import { DownByte, MAXIMUM_DOWN_HEADER_BYTES } from '../src/offload/down/header.ts';
import { type DownTally, downBytes, downRound } from '../src/offload/testing/down-rounds.ts';
import { GeneratedCarrier } from '../src/offload/testing/generated-carrier.ts';
import { packetOf } from '../src/offload/testing/packets.ts';
import { runSeed } from '../src/offload/testing/random.ts';
import { EngineSide } from '../src/offload/testing/table-rounds.ts';
import { must, run, until, World } from './daemon-world.ts';
import { useLab } from './support/index.ts';

const TABLES = 20 * Math.max(1, Number(process.env.MILLRACE_FUZZ) || 1);

describe('programs beside the engine', () => {
  const lab = useLab();

  test('what is handed down ends as in the engine: frames, order, drops, counters', () => {
    const [host] = lab.hosts(1);
    const ifindexes = Array.from({ length: 4 }, (_, i) => {
      host.ip(`tuntap add dev port${i} mode tap`);
      host.ip(`link set port${i} up`);
      return Number(host.ip(`-o link show dev port${i}`).split(':')[0]);
    });
    const seed = runSeed();
    const tables = process.env.MILLRACE_SEED === undefined ? TABLES : 1;
    const tally: DownTally = { packets: 0, handedDown: 0, cameUp: 0, dropped: 0 };
    host.inside(() => {
      for (let i = 0; i < tables; i += 1) downRound((...of) => new GeneratedCarrier(...of), ifindexes, seed + i, tally);
    });
    if (process.env.MILLRACE_FUZZ !== undefined) console.log(seed, tally);
    if (tables === 1) return;
    expect(tally.handedDown).toBeGreaterThan(tally.packets / 50);
    expect(tally.cameUp).toBeGreaterThan(tables);
    expect(tally.handedDown - tally.cameUp).toBeGreaterThan(tables * 2);
    expect(tally.dropped).toBeGreaterThan(0);
  });
});

describe('each field of what lies before a frame is checked', () => {
  const IFINDEX = 1;
  const HEADER = MAXIMUM_DOWN_HEADER_BYTES - 4;
  const FRAME = [
    ...[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 50],
    ...[0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 5, 0, 6, 0, 30, 0, 0],
    ...new Array<number>(22).fill(7),
  ];
  let carrier: GeneratedCarrier;
  beforeEach(() => {
    const { table, datapath } = new EngineSide([IFINDEX], 1);
    const { key, mask } = parseFlowKey('recirc_id(0x5),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)');
    table.put({ key, mask, actions: parseActions('1'), ufid: null, mode: PutMode.CREATE });
    carrier = new GeneratedCarrier(table, 'tc', datapath.hashSecret, [IFINDEX]);
  });
  afterEach(() => carrier.close());

  const bytesOf = (change: (key: FlowKey) => void = () => {}): Uint8Array => {
    const key = new FlowKey();
    key.begin(toKeyPort(1));
    key.words[Word.RECIRC_ID] = 5;
    key.recirculations = 1;
    change(key);
    const packet: Packet = packetOf(FRAME);
    return downBytes(packet, key, IFINDEX, 9);
  };
  const record = (byte: number) => HEADER + byte;
  const dropped = () => carrier.drops().get(Drop.RESUME_MALFORMED) ?? 0;

  test('with all of them right it goes on, whatever is known of its connection', () => {
    const sent = carrier.handDown(bytesOf());
    expect([sent.verdict, sent.sent.map(({ frame }) => [...frame])]).toEqual(['sent', [FRAME]]);
    const tracked = bytesOf(({ words }) => words.fill(0x1234_5678, Word.CT, Word.L2));
    expect(carrier.handDown(tracked).verdict).toBe('sent');
    expect(dropped()).toBe(0);
  });

  test.each<[string, (bytes: Uint8Array) => unknown]>([
    ['an interface that is no port', (bytes) => bytes.set([0, 0, 0, 77], DownByte.INTERFACE)],
    ['an interface beyond all ports', (bytes) => bytes.set([0, 1, 0, 0], DownByte.INTERFACE)],
    ['another length', (bytes) => bytes.set([96], record(ResumeByte.LENGTH + 1))],
    ['another version', (bytes) => bytes.set([2], record(ResumeByte.VERSION))],
    ['another position', (bytes) => bytes.set([1], record(ResumeByte.POSITION))],
    ['no pass before', (bytes) => bytes.set([0], record(ResumeByte.PASSES))],
    ['too many passes', (bytes) => bytes.set([9], record(ResumeByte.PASSES))],
    ['a tunnel', (bytes) => bytes.set([13], record(ResumeByte.TUNNEL_WORDS))],
    ['no recirculation id', (bytes) => bytes.set([0, 0, 0, 0], record(resumeByteOf(Word.RECIRC_ID)))],
    ['another port', (bytes) => bytes.set([0, 0, 0, 2], record(resumeByteOf(Word.IN_PORT)))],
    ['a mark', (bytes) => bytes.set([1], record(resumeByteOf(Word.MARK)))],
    ['a priority', (bytes) => bytes.set([1], record(resumeByteOf(Word.PRIORITY)))],
    ['another EtherType than the frame', (bytes) => bytes.set([0x86, 0xdd], DownByte.TYPE)],
  ])('%s', (_, spoil) => {
    const bytes = bytesOf();
    spoil(bytes);
    expect(carrier.handDown(bytes)).toEqual({ verdict: 'dropped', sent: [] });
    expect(dropped()).toBe(1);
  });

  test('a frame that is cut off', () => {
    for (const length of [40, HEADER + 92, HEADER + 92 + 13]) {
      const before = dropped();
      expect(carrier.handDown(bytesOf().subarray(0, length)).verdict).toBe('dropped');
      expect(dropped()).toBe(before + 1);
    }
  });

  test('what finds no flow comes up with the record that it went down with, and its ticket', () => {
    const key = new FlowKey();
    const bytes = bytesOf((each) => {
      each.words[Word.RECIRC_ID] = 6;
      each.words[Word.DP_HASH] = 77;
      each.words.fill(0x1234_5678, Word.CT, Word.L2);
      key.copyFrom(each);
    });
    const { verdict, sent, resumed } = carrier.handDown(bytes);
    expect([verdict, sent, [...(resumed?.frame ?? [])]]).toEqual(['resumed', [], FRAME]);
    expect([...(resumed?.record ?? [])]).toEqual([...bytes.subarray(HEADER, HEADER + 92)]);
  });
});

/** Look-ups behind the first one. */
const LOOK_UPS = 8;

describe('under ovs-dpctl', () => {
  let world: World;
  beforeEach(() => {
    world = new World();
    world.host('a', '10.7.0.1/24');
    world.host('b', '10.7.0.2/24');
  });
  afterEach(() => world.end());

  const show = () => world.json<OffloadInfo>('offload', 'show');
  const table = () => show().tables[0];
  const otherDrops = () =>
    world.json<{ reason: string }[]>('drops').filter(({ reason }) => !reason.endsWith('UPCALL_LOST'));

  test('the engine does the first look-up, the kernel those behind it, of long packets: pings, super-packets and counts are whole', async () => {
    const socket = join(world.folder, 'nl.sock');
    world.up(`offload: require\nextensions: [{ name: ovs, config: { socket: ${socket} } }]\n`);
    const dpctl = (...args: string[]) => world.ok('ovs', 'dpctl', ...args);
    const [a, b] = ports(dpctl);
    const ip = `in_port(${a}),eth(),eth_type(0x0800),ipv4(frag=no)`;
    dpctl('add-flow', 'dp', `recirc_id(0),in_port(${b}),eth(),eth_type(0x0800),ipv4(frag=no)`, a);
    chain(dpctl, ip, `set(ipv4(ttl=32)),${b}`);
    const counts = () => {
      const lines = dpctl('dump-flows', 'dp').split('\n');
      return Array.from({ length: LOOK_UPS + 1 }, (_, id) => {
        const start = id === 0 ? 'recirc_id(0),' : `recirc_id(0x${id}),`;
        const line = lines.find(
          (each) => each.includes(start) && each.includes(`in_port(${a})`) && each.includes('0x0800'),
        );
        return Number(/packets:(\d+)/.exec(line ?? '')?.[1] ?? -1);
      });
    };

    await until('the kernel goes on with what the engine begins', () => {
      longPings(5);
      return table().handedDown > 0;
    });
    const before = { counts: counts(), down: table().handedDown };
    longPings(20);
    expect(counts().map((count, i) => count - before.counts[i])).toEqual(before.counts.map(() => 20));
    expect(table().handedDown - before.down).toBeGreaterThanOrEqual(18);
    expect(table().cameUpAgain).toBe(0);
    // Short ones cost the engine less.
    const { handedDown } = table();
    expect(world.pings('a', '10.7.0.2', 5)).toBe(true);
    expect(table().handedDown).toBe(handedDown);
    expect(otherDrops()).toEqual([]);

    const start = { counts: counts(), down: table().handedDown };
    const server = world.spawn('ip', ['netns', 'exec', world.namespace('b'), 'iperf3', '-s', '-1', '--forceflush']);
    await until('iperf3 listens', () =>
      run('ip', ['netns', 'exec', world.namespace('b'), 'ss', '-Hltn']).stdout.includes('5201'),
    );
    const report = must('ip', 'netns', 'exec', world.namespace('a'), 'iperf3', '-J', '-n', '20M', '-c', '10.7.0.2');
    const { end } = JSON.parse(report) as { end: Record<'sum_sent' | 'sum_received', { bytes: number }> };
    expect(end.sum_received.bytes).toBeGreaterThan(10 << 20);
    server.kill();
    await until('every packet that the engine began has come to the end', () => {
      const now = counts().map((count, i) => count - start.counts[i]);
      return now.every((count) => count === now[0]) && now[0] > 100;
    });
    // More than a few of them went down, as the super-packets that they are.
    expect(table().handedDown - start.down).toBeGreaterThan(50);
    expect(otherDrops()).toEqual([]);
  });

  test('where the kernel lacks the end of the way, packets come up once, and then stay with the engine', async () => {
    const socket = join(world.folder, 'nl.sock');
    world.up(`offload: require\nextensions: [{ name: ovs, config: { socket: ${socket} } }]\n`);
    const dpctl = (...args: string[]) => world.ok('ovs', 'dpctl', ...args);
    const [a, b] = ports(dpctl);
    const ip = `in_port(${a}),eth(),eth_type(0x0800),ipv4(frag=no)`;
    dpctl('add-flow', 'dp', `recirc_id(0),in_port(${b}),eth(),eth_type(0x0800),ipv4(frag=no)`, a);
    chain(dpctl, ip, `clone(ct_clear),set(ipv4(ttl=32)),${b}`);
    await until('one has come up again', () => {
      longPings(5);
      return table().cameUpAgain > 0;
    });
    const { handedDown } = table();
    longPings(7);
    expect(table().handedDown - handedDown).toBeLessThanOrEqual(3);
    expect(otherDrops()).toEqual([]);
  });

  /** Flows of packets that the engine begins with: a clone that does more than output is not for the kernel. @param last what the last of them does */
  function chain(dpctl: (...args: string[]) => string, ip: string, last: string): void {
    dpctl('add-flow', 'dp', `recirc_id(0),${ip}`, 'clone(ct_clear),recirc(0x1)');
    for (let id = 1; id < LOOK_UPS; id += 1) dpctl('add-flow', 'dp', `recirc_id(0x${id}),${ip}`, `recirc(0x${id + 1})`);
    dpctl('add-flow', 'dp', `recirc_id(0x${LOOK_UPS}),${ip}`, last);
  }

  /** Pings for which it pays. */
  function longPings(count: number): void {
    const ping = ['ping', '-s', '1400', '-c', String(count), '-i', '0.05', '-W', '5', '10.7.0.2'];
    must('ip', 'netns', 'exec', world.namespace('a'), ...ping);
  }

  /** A datapath with both hosts, which answers ARP. */
  function ports(dpctl: (...args: string[]) => string): [a: string, b: string] {
    dpctl('add-dp', 'dp');
    for (const name of ['a', 'b']) dpctl('add-if', 'dp', name);
    const port = (name: string) => new RegExp(`port (\\d+): ${name}\\n`).exec(dpctl('show', 'dp'))?.[1] ?? '';
    const [a, b] = [port('a'), port('b')];
    for (const [from, to] of [
      [a, b],
      [b, a],
    ])
      dpctl('add-flow', 'dp', `in_port(${from}),eth(),eth_type(0x0806),arp()`, to);
    return [a, b];
  }
});
