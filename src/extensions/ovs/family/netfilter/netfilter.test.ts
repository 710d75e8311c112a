/** Netfilter's messages about connections, as programs under the shim see them. The errno are those that Linux 6.18 gives for the same bytes (test/ovs-netfilter.test.ts asks it). */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  ConnectionAction,
  type ConnectionRequest,
  kindOf,
  Removal,
  Status,
  Tracked,
  Tuple,
} from '../../../../connections/index.ts';
import { type End, echo, end, generic, sctp, tcp, udp } from '../../../../connections/testing/frames.ts';
import { packetOf } from '../../../../connections/testing/lab.ts';
import { HeaderOffsets, SctpChunkType } from '../../../../net/index.ts';
import { fuzzRounds, mutate, randomNumbers } from '../../../../net/wire/testing.ts';
import { fields, MessageWriter, policy } from '../../../../netlink/index.ts';
import { type Answer, MemoryWorld, Program } from '../../testing-memory.ts';
import { readTuple, writeTuple } from './tuple.ts';

const REQUEST = 1;
const ACK = 4;
const DUMP = 0x300;
const DONE = 3;
const ERROR = 2;
const NEW = 0x100;
const GET = 0x101;
const DELETE = 0x102;
const [ENOENT, ENOMEM, EBUSY, EEXIST, EINVAL, ERANGE, EOPNOTSUPP] = [2, 12, 16, 17, 22, 34, 95];
const AF_INET = 2;
const AF_INET6 = 10;

const ipPolicy = policy({
  source4: [1, fields.be32()],
  destination4: [2, fields.be32()],
  source6: [3, fields.binary({ minBytes: 16, maxBytes: 16 })],
  destination6: [4, fields.binary({ minBytes: 16, maxBytes: 16 })],
});
const protocolPolicy = policy({
  number: [1, fields.u8()],
  sourcePort: [2, fields.be16()],
  destinationPort: [3, fields.be16()],
  id: [4, fields.be16()],
  type: [5, fields.u8()],
  code: [6, fields.u8()],
  id6: [7, fields.be16()],
  type6: [8, fields.u8()],
  code6: [9, fields.u8()],
});
const tuplePolicy = policy({ ip: [1, fields.nested(ipPolicy)], protocol: [2, fields.nested(protocolPolicy)] });
const tcpPolicy = policy({
  state: [1, fields.u8()],
  scaleOriginal: [2, fields.u8()],
  scaleReply: [3, fields.u8()],
  flagsOriginal: [4, fields.binary({ minBytes: 2, maxBytes: 2 })],
  flagsReply: [5, fields.binary({ minBytes: 2, maxBytes: 2 })],
});
const sctpPolicy = policy({ state: [1, fields.u8()], original: [2, fields.be32()], reply: [3, fields.be32()] });
const infoPolicy = policy({ tcp: [1, fields.nested(tcpPolicy)], sctp: [3, fields.nested(sctpPolicy)] });
const helperPolicy = policy({ name: [1, fields.string({ terminated: true })] });
/** Strict: what is not here must not be in an answer. */
const connectionPolicy = policy({
  original: [1, fields.nested(tuplePolicy)],
  reply: [2, fields.nested(tuplePolicy)],
  status: [3, fields.be32()],
  info: [4, fields.nested(infoPolicy)],
  helper: [5, fields.nested(helperPolicy)],
  timeOut: [7, fields.be32()],
  mark: [8, fields.be32()],
  use: [11, fields.be32()],
  id: [12, fields.be32()],
  master: [14, fields.nested(tuplePolicy)],
  zone: [18, fields.be16()],
  labels: [22, fields.binary({ minBytes: 16, maxBytes: 16 })],
});
const dataPolicy = policy({ 1: [1, fields.be32()], 2: [2, fields.be32()], 3: [3, fields.be32()] });
const timeOutPolicy = policy({
  name: [1, fields.string({ terminated: true })],
  family: [2, fields.be16()],
  protocol: [3, fields.u8()],
  data: [4, fields.nested(dataPolicy)],
  use: [5, fields.be32()],
});

type Write = (writer: MessageWriter) => void;

/** A message of netfilter. */
function message(type: number, flags: number, write: Write = () => {}, family = 0, version = 0): Uint8Array {
  const writer = new MessageWriter();
  writer.begin(type, flags | REQUEST, 7);
  writer.raw(Uint8Array.of(family, version, 0, 0));
  write(writer);
  writer.end();
  return writer.take();
}

class Netfilter {
  readonly world = new MemoryWorld();
  readonly program = new Program(this.world.server);
  readonly #headers = new HeaderOffsets();

  get table() {
    return this.world.connections.tracker.table;
  }

  /** A packet is tracked. */
  track(frame: Uint8Array, request: ConnectionRequest = {}): void {
    const packet = packetOf(frame);
    this.#headers.parse(packet);
    this.world.connections.tracker.track(packet, this.#headers, new ConnectionAction(request), new Tracked());
  }

  ask(type: number, flags: number, write?: Write, family = 0, version = 0): Answer[] {
    return this.program.request(message(type, flags, write, family, version));
  }

  /** The errno of an acknowledgement; -1 for any other answer. */
  errno(type: number, write?: Write, family = 0, version = 0): number {
    const answers = this.ask(type, ACK, write, family, version);
    const [last] = answers.slice(-1);
    return last?.type === ERROR ? last.errno : -1;
  }

  dump(write?: Write, family = 0) {
    const answers = this.ask(GET, DUMP, write, family);
    expect(answers.at(-1)?.type).toBe(DONE);
    return answers.slice(0, -1).map(connectionOf);
  }
}

function connectionOf({ type, bytes }: Answer) {
  expect([type, bytes[17], bytes[18], bytes[19]]).toEqual([NEW, 0, 0, 0]);
  return { family: bytes[16], ...connectionPolicy.decode(bytes, 20, { strict: true }) };
}

const A = end('10.0.0.1', 4000);
const B = end('192.0.2.9', 80);

/** A tuple of UDP or TCP over IPv4. */
function tuple(type: number, protocol: number, from: End, to: End): Write {
  return (writer) => {
    const words = new Tuple();
    words.begin(0, protocol, false);
    for (const [at, { address }] of [from, to].entries()) {
      const value = address.split('.').reduce((sum, part) => (sum << 8) | Number(part), 0);
      words.words[1 + at * 4] = value;
    }
    words.sourcePort = from.port;
    words.destinationPort = to.port;
    writeTuple(writer, type, words.kind, words.words, 0);
  };
}

function together(...writes: Write[]): Write {
  return (writer) => {
    for (const write of writes) write(writer);
  };
}

const zone =
  (number: number): Write =>
  (writer) =>
    writer.be16(18, number);

test('a dump tells all that is known of each connection', () => {
  const netfilter = new Netfilter();
  const label = { value: [1, 2, 3, 0xffff_fffe | 0], mask: [-1, -1, -1, -1] };
  const source = { addresses: ['198.51.100.1', '198.51.100.1'], ports: [7, 7] } as const;
  netfilter.track(tcp(A, B, 'S', { options: [{ kind: 'window-scale', shift: 7 }] }), {
    commit: true,
    zone: 5,
    mark: { value: 0xdead_beef, mask: 0xffff_ffff },
    label,
    nat: { source },
    helper: 'ftp',
  });
  netfilter.track(udp(end('fd00::1', 1), end('fd00::2', 53)), { commit: true });
  netfilter.track(udp(end('fd00::2', 53), end('fd00::1', 1)));
  netfilter.track(echo(end('10.0.0.1', 77), end('10.0.0.2')), { commit: true });
  netfilter.track(echo(end('fd00::1', 78), end('fd00::2')), { commit: true });
  netfilter.track(generic('10.0.0.1', '10.0.0.2', 99), { commit: true });
  netfilter.track(generic('10.0.0.1', '10.0.0.2', 47), { commit: true });
  netfilter.world.nowMs += 1500;
  const [first, second, third, fourth, fifth, sixth] = netfilter.dump();
  expect(first).toEqual({
    family: AF_INET,
    original: {
      ip: { source4: 0x0a00_0001, destination4: 0xc000_0209 },
      protocol: { number: 6, sourcePort: 4000, destinationPort: 80 },
    },
    reply: {
      ip: { source4: 0xc000_0209, destination4: 0xc633_6401 },
      protocol: { number: 6, sourcePort: 80, destinationPort: 7 },
    },
    // CONFIRMED, SRC_NAT, SRC_NAT_DONE, HELPER
    status: 0x2098,
    info: {
      tcp: {
        state: 1,
        scaleOriginal: 7,
        scaleReply: 0,
        flagsOriginal: Uint8Array.of(1, 0),
        flagsReply: Uint8Array.of(0, 0),
      },
    },
    helper: { name: 'ftp' },
    timeOut: 118,
    mark: 0xdead_beef,
    use: 1,
    id: 1,
    zone: 5,
    labels: Uint8Array.of(0xfe, 0xff, 0xff, 0xff, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0),
  });
  expect(second).toMatchObject({ family: AF_INET6, mark: 0, id: 2, timeOut: 28 });
  expect([second?.zone, second?.labels, second?.info, second?.helper]).toEqual([
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
  expect(second?.original?.ip?.source6).toEqual(Uint8Array.of(0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1));
  expect((second?.status ?? 0) & Status.SEEN_REPLY).toBe(Status.SEEN_REPLY);
  expect(third?.original?.protocol).toEqual({ number: 1, id: 77, type: 8, code: 0 });
  expect(third?.reply?.protocol).toEqual({ number: 1, id: 77, type: 0, code: 0 });
  expect(fourth?.original?.protocol).toEqual({ number: 58, id6: 78, type6: 128, code6: 0 });
  expect(fifth?.original?.protocol).toEqual({ number: 99 });
  expect(sixth?.original?.protocol).toEqual({ number: 47, sourcePort: 0, destinationPort: 0 });
});

test('an association tells its state and both tags, a connection that was announced who announced it', () => {
  const netfilter = new Netfilter();
  const init = { kind: 'other' as const, type: SctpChunkType.INIT, flags: 0, value: new Uint8Array(16).fill(9) };
  netfilter.track(sctp(A, B, 0, [init]), { commit: true });
  const [association] = netfilter.dump();
  expect(association?.info?.sctp).toEqual({ state: 1, original: 0, reply: 0x0909_0909 });
  const ftp = { commit: true, helper: 'ftp' } as const;
  const control = end('192.0.2.9', 21);
  netfilter.track(tcp(A, control, 'S', { sequence: 100 }), ftp);
  netfilter.track(tcp(control, A, 'S.', { sequence: 500, acknowledgment: 101 }), ftp);
  netfilter.track(tcp(A, control, '.', { sequence: 101, acknowledgment: 501 }), ftp);
  const line = '227 Entering Passive Mode (192,0,2,9,16,1)\r\n';
  netfilter.track(tcp(control, A, 'P.', { sequence: 501, acknowledgment: 101 }, line), ftp);
  netfilter.track(tcp(end('10.0.0.1', 4001), end('192.0.2.9', 4097), 'S', { sequence: 1 }), { commit: true });
  const data = netfilter.dump().find(({ original }) => original?.protocol?.destinationPort === 4097);
  expect(data?.master?.protocol).toEqual({ number: 6, sourcePort: 4000, destinationPort: 21 });
  expect((data?.status ?? 0) & Status.EXPECTED).toBe(Status.EXPECTED);
});

test('a filter picks by zone, family, mark and status, and the answers say that there was one', () => {
  const netfilter = new Netfilter();
  for (const [number, mark] of [
    [0, 1],
    [5, 2],
    [6, 3],
  ] as const) {
    netfilter.track(udp(A, B), { commit: true, zone: number, mark: { value: mark, mask: 0xff } });
  }
  netfilter.track(udp(end('fd00::1', 1), end('fd00::2', 53)), { commit: true });
  const zones = (write?: Write, family = 0) => netfilter.dump(write, family).map((each) => each.zone ?? 0);
  expect(zones()).toEqual([0, 5, 6, 0]);
  expect(zones(zone(0))).toEqual([0, 0]);
  expect(zones(zone(5))).toEqual([5]);
  expect(zones(zone(9))).toEqual([]);
  expect(zones(undefined, AF_INET6)).toEqual([0]);
  expect(zones(zone(0), AF_INET)).toEqual([0]);
  expect(zones((writer) => writer.be32(8, 2))).toEqual([5]);
  expect(
    zones(
      together(
        (writer) => writer.be32(8, 1),
        (writer) => writer.be32(21, 1),
      ),
    ),
  ).toEqual([0, 6]);
  expect(zones((writer) => writer.be32(3, Status.SEEN_REPLY))).toEqual([]);
  expect(zones((writer) => writer.be32(3, Status.CONFIRMED))).toEqual([0, 5, 6, 0]);
  expect(netfilter.ask(GET, DUMP, zone(5)).map(({ flags }) => flags)).toEqual([0x22, 2]);
  expect(netfilter.ask(GET, DUMP, (writer) => writer.be32(3, 0))[0]?.errno).toBe(EINVAL);
});

test('one connection is found by either tuple, in its zone alone', () => {
  const netfilter = new Netfilter();
  netfilter.track(udp(A, B), { commit: true, zone: 5 });
  const find = (write: Write) =>
    netfilter.ask(GET, 0, write, AF_INET).map((each) => (each.type === NEW ? connectionOf(each).id : each.errno));
  expect(find(together(tuple(1, 17, A, B), zone(5)))).toEqual([1]);
  expect(find(together(tuple(2, 17, B, A), zone(5)))).toEqual([1]);
  expect(find(tuple(1, 17, A, B))).toEqual([ENOENT]);
  // A zone of the tuple's own is that of its direction.
  const own =
    (from: End, to: End): Write =>
    (writer) => {
      const nest = writer.beginNested(1);
      const whole = new MessageWriter();
      whole.begin(1, 0, 1);
      tuple(1, 17, from, to)(whole);
      whole.end();
      const inner = whole.view().subarray(20);
      for (let at = 0; at < inner.length; ) {
        const length = inner[at] | (inner[at + 1] << 8);
        writer.bytes((inner[at + 2] | (inner[at + 3] << 8)) & 0x3fff, inner.slice(at + 4, at + length));
        at += (length + 3) & ~3;
      }
      writer.be16(3, 5);
      writer.endNested(nest);
    };
  expect(find(own(A, B))).toEqual([1]);
  expect(find(own(B, A))).toEqual([ENOENT]);
  expect(find(together(own(A, B), zone(5)))).toEqual([EINVAL]);
  expect(find(together(tuple(1, 6, A, B), zone(5)))).toEqual([ENOENT]);
  netfilter.world.nowMs += 40_000;
  expect(find(together(tuple(1, 17, A, B), zone(5)))).toEqual([ENOENT]);
});

test('a connection is deleted by tuple, zone and id, and by nothing less', () => {
  const netfilter = new Netfilter();
  for (const number of [0, 5]) netfilter.track(udp(A, B), { commit: true, zone: number });
  const id =
    (value: number): Write =>
    (writer) =>
      writer.be32(12, value);
  expect(netfilter.errno(DELETE, together(tuple(1, 17, A, B), zone(5), id(1)), AF_INET)).toBe(ENOENT);
  expect(netfilter.errno(DELETE, together(tuple(1, 17, A, B), zone(6)), AF_INET)).toBe(ENOENT);
  expect(netfilter.table.size).toBe(2);
  expect(netfilter.errno(DELETE, together(tuple(1, 17, A, B), zone(5), id(2)), AF_INET)).toBe(0);
  expect(netfilter.dump().map(({ id: each }) => each)).toEqual([1]);
  expect(netfilter.table.counters.removed[Removal.FLUSHED]).toBe(1);
});

test('a flush ends all, those of a zone, or those of a filter; what has expired is freed with them', () => {
  const fill = () => {
    const netfilter = new Netfilter();
    for (const number of [0, 5, 6]) netfilter.track(udp(A, B), { commit: true, zone: number });
    return netfilter;
  };
  const left = (write?: Write, family = 0, version = 0) => {
    const netfilter = fill();
    expect(netfilter.errno(DELETE, write, family, version)).toBe(0);
    return netfilter.table.size;
  };
  expect(left()).toBe(0);
  expect(left(zone(5))).toBe(2);
  expect(left(zone(0))).toBe(2);
  expect(left((writer) => writer.be32(8, 1))).toBe(3);
  // A family counts from version 1 on.
  expect(left(undefined, AF_INET6)).toBe(0);
  expect(left(undefined, AF_INET6, 1)).toBe(3);
  const netfilter = fill();
  netfilter.world.nowMs += 40_000;
  expect([netfilter.dump().length, netfilter.table.size]).toEqual([0, 3]);
  // Nobody waits for this one.
  expect(netfilter.ask(DELETE, 0)).toEqual([]);
  expect(netfilter.table.size).toBe(0);
});

test('dumps and flushes of many stop between parts, also while nothing is found', () => {
  const netfilter = new Netfilter();
  netfilter.world.connections.maximum = 60_000;
  for (let i = 0; i < 50_000; i += 1) {
    netfilter.track(udp(end('10.0.0.1', i), end('192.0.2.9', i >> 8)), { commit: true, zone: i < 49_000 ? 1 : 2 });
  }
  const frame = (payload: Uint8Array) => {
    const bytes = new Uint8Array(payload.length + 4);
    bytes.set(payload, 4);
    return bytes;
  };
  const more = new Uint8Array(Uint32Array.of(5, 32_768).buffer);
  const { connection } = netfilter.program;
  // The first part looks at records of another zone only.
  connection.onDatagram(frame(message(GET, DUMP, zone(2))));
  expect([netfilter.program.take(), connection.isDumping]).toEqual([[], true]);
  expect(netfilter.ask(GET, DUMP)[0]).toMatchObject({ type: ERROR, errno: EBUSY });
  expect(connection.isDumping).toBe(false);
  connection.onDatagram(frame(message(DELETE, ACK, zone(1))));
  let turns = 1;
  for (; connection.isDumping; turns += 1) {
    const before = netfilter.table.size;
    connection.onDatagram(more);
    expect(before - netfilter.table.size).toBeLessThanOrEqual(1024);
  }
  expect(turns).toBeGreaterThan(40);
  const [{ type, errno, flags }, ...others] = netfilter.program.take();
  expect([type, errno, flags, others]).toEqual([ERROR, 0, 0x100, []]);
  expect(netfilter.table.size).toBe(1000);
  expect(netfilter.dump().length).toBe(1000);
});

test('a flush that nobody waits for goes on when packets have had their turn, and not many at once', () => {
  const netfilter = new Netfilter();
  netfilter.world.connections.maximum = 10_000;
  for (let i = 0; i < 5000; i += 1) {
    netfilter.track(udp(end('10.0.0.1', i), end('192.0.2.9', 9)), { commit: true, zone: 1 });
  }
  expect(netfilter.ask(DELETE, 0, zone(1))).toEqual([]);
  expect(netfilter.table.size).toBe(5000 - 1024);
  const { later } = netfilter.world;
  for (let i = 1; i < 16; i += 1) expect(netfilter.ask(DELETE, 0, zone(2))).toEqual([]);
  for (let left = 5000 - 1024; left > 0; left = netfilter.table.size) {
    for (const work of later.splice(0)) work();
    expect(left - netfilter.table.size).toBe(Math.min(1024, left));
  }
  for (const work of later.splice(0)) work();
  expect(later).toEqual([]);
  expect(netfilter.ask(GET, DUMP)[0]).toMatchObject({ type: DONE });
});

test.each<[string, number, number, Write?, number?]>([
  ['a look-up without a tuple', EINVAL, GET],
  ['a look-up without a family', EOPNOTSUPP, GET, tuple(1, 17, A, B)],
  ['a look-up of nothing', ENOENT, GET, tuple(1, 17, A, B), AF_INET],
  ['a zone of one byte', ERANGE, GET, (writer) => writer.bytes(18, Uint8Array.of(1)), AF_INET],
  ['a mark of one byte where none is asked for', ERANGE, GET, (writer) => writer.bytes(8, Uint8Array.of(1))],
  ['labels of 17 bytes', ERANGE, DELETE, (writer) => writer.bytes(22, new Uint8Array(17))],
  ['a nest of two bytes', ERANGE, DELETE, (writer) => writer.bytes(1, new Uint8Array(2)), AF_INET],
  ['an empty nest', EINVAL, DELETE, (writer) => writer.bytes(1, new Uint8Array(0)), AF_INET],
  ['connections from programs', EOPNOTSUPP, NEW, tuple(1, 17, A, B), AF_INET],
  ['a flush by parts of tuples', EOPNOTSUPP, DELETE, (writer) => writer.bytes(25, new Uint8Array(0))],
  ['a command that there is not', EINVAL, 0x108],
  ['dying connections one by one', EOPNOTSUPP, 0x106],
  ['statistics of a processor one by one', 0, 0x104],
  ['an expectation without a tuple', EINVAL, 0x201],
  ['a command of expectations that there is not', EINVAL, 0x204],
  ['a command of time-outs that there is not', EINVAL, 0x805],
])('%s gives errno %i', (_, errno, type, write, family = 0) => {
  expect(new Netfilter().errno(type, write, family)).toBe(errno);
});

test('what asks makes no table, and totals tell the room that there would be', () => {
  const netfilter = new Netfilter();
  for (const type of [GET, 0x104, 0x106, 0x107, 0x201, 0x801])
    expect(netfilter.ask(type, DUMP).at(-1)?.type).toBe(DONE);
  for (const type of [DELETE, 0x202, 0x802]) expect(netfilter.errno(type)).toBe(0);
  const totals = () => {
    const [answer] = netfilter.ask(0x105, 0);
    return policy({ entries: [1, fields.be32()], maximum: [2, fields.be32()] }).decode(
      answer?.bytes ?? new Uint8Array(0),
      20,
    );
  };
  expect(totals()).toEqual({ entries: 0, maximum: 1000 });
  expect(netfilter.world.connections.table).toBe(null);
  netfilter.track(udp(A, B), { commit: true });
  expect(totals()).toEqual({ entries: 1, maximum: 1000 });
});

/** A policy of time-outs. */
function timeOut(name: string | null, family: number, protocol: number, values: Record<number, number> = {}): Write {
  return (writer) => {
    if (name !== null) writer.string(1, name);
    writer.be16(2, family);
    writer.u8(3, protocol);
    const nest = writer.beginNested(4);
    for (const [type, seconds] of Object.entries(values)) writer.be32(Number(type), seconds);
    writer.endNested(nest);
  };
}
const named =
  (name: string): Write =>
  (writer) =>
    writer.string(1, name);

test('time-out policies are defined, replaced, told and removed as in the kernel', () => {
  const netfilter = new Netfilter();
  const define = (flags: number, write: Write) => netfilter.ask(0x800, ACK | 0x400 | flags, write)[0]?.errno;
  const [EXCL, REPLACE] = [0x200, 0x100];
  expect(define(REPLACE, timeOut('ovs_tp_0_tcp4', AF_INET, 6, { 1: 5, 3: 0xffff_ffff }))).toBe(0);
  expect(define(EXCL, timeOut('ovs_tp_0_tcp4', AF_INET, 6))).toBe(EEXIST);
  expect(define(0, timeOut('ovs_tp_0_tcp4', AF_INET, 6))).toBe(EBUSY);
  expect(define(REPLACE, timeOut('ovs_tp_0_tcp4', AF_INET, 17))).toBe(EINVAL);
  expect(define(REPLACE, timeOut('ovs_tp_0_tcp4', AF_INET6, 6))).toBe(EINVAL);
  const show = (answer: Answer | undefined) => timeOutPolicy.decode(answer?.bytes ?? new Uint8Array(0), 20);
  const [shown] = netfilter.ask(0x801, ACK, named('ovs_tp_0_tcp4'));
  // Longer than 11 days is cut to that.
  expect(show(shown)).toEqual({
    name: 'ovs_tp_0_tcp4',
    family: AF_INET,
    protocol: 6,
    data: { 1: 5, 2: 60, 3: 1_000_000 },
    use: 1,
  });
  expect(shown?.type).toBe(0x800);
  expect(define(REPLACE, timeOut('ovs_tp_0_tcp4', AF_INET, 6, { 2: 7 }))).toBe(0);
  expect(define(0, timeOut('ovs_tp_0_udp6', AF_INET6, 17, { 1: 3, 2: 4 }))).toBe(0);
  expect(netfilter.ask(0x801, DUMP).map((answer) => (answer.type === DONE ? null : show(answer)))).toEqual([
    { name: 'ovs_tp_0_tcp4', family: AF_INET, protocol: 6, data: { 1: 120, 2: 7, 3: 432_000 }, use: 1 },
    { name: 'ovs_tp_0_udp6', family: AF_INET6, protocol: 17, data: { 1: 3, 2: 4 }, use: 1 },
    null,
  ]);
  netfilter.track(udp(A, B), { commit: true, policy: netfilter.table.timeOuts.numberOf('ovs_tp_0_udp6') ?? 0 });
  expect(show(netfilter.ask(0x801, 0, named('ovs_tp_0_udp6'))[0]).use).toBe(2);
  expect(netfilter.errno(0x802, named('ovs_tp_0_udp6'))).toBe(0);
  expect(netfilter.errno(0x802, named('ovs_tp_0_udp6'))).toBe(ENOENT);
  expect(netfilter.dump()[0]?.timeOut).toBe(3);
  expect(netfilter.errno(0x802)).toBe(0);
  expect(netfilter.ask(0x801, DUMP).map(({ type }) => type)).toEqual([DONE]);
});

test('the defaults are set and told by protocol', () => {
  const netfilter = new Netfilter();
  expect(netfilter.errno(0x803, timeOut(null, AF_INET, 17, { 1: 9 }))).toBe(0);
  const [answer] = netfilter.ask(0x804, 0, timeOut(null, AF_INET6, 17));
  expect(answer?.type).toBe(0x803);
  expect(timeOutPolicy.decode(answer?.bytes ?? new Uint8Array(0), 20)).toEqual({
    family: AF_INET6,
    protocol: 17,
    data: { 1: 9, 2: 120 },
  });
  netfilter.track(udp(A, B), { commit: true });
  expect(netfilter.dump()[0]?.timeOut).toBe(9);
});

test.each<[string, number, number, Write]>([
  ['a policy without a name', EINVAL, 0x800, timeOut(null, AF_INET, 6)],
  ['a name of 32 bytes', EINVAL, 0x800, timeOut('x'.repeat(32), AF_INET, 6)],
  ['a name of 31 bytes', 0, 0x800, timeOut('x'.repeat(31), AF_INET, 6)],
  [
    'a name that does not end',
    EINVAL,
    0x800,
    together((writer) => writer.bytes(1, Uint8Array.of(120)), timeOut(null, AF_INET, 6)),
  ],
  ['an empty name', ENOENT, 0x801, named('')],
  ['a policy with an empty name', EINVAL, 0x800, timeOut('', AF_INET, 6)],
  ['a protocol without time-outs', EOPNOTSUPP, 0x800, timeOut('x', AF_INET, 99)],
  ['all other protocols', 0, 0x800, timeOut('x', AF_INET, 255, { 1: 4 })],
  [
    'a time-out of two bytes',
    ERANGE,
    0x800,
    (writer) => {
      timeOut('x', AF_INET, 6)(writer);
      const nest = writer.beginNested(4);
      writer.be16(1, 1);
      writer.endNested(nest);
    },
  ],
  ['a policy that is asked for and is not there', ENOENT, 0x801, named('x')],
  ['no name', EINVAL, 0x801, () => {}],
  ['a policy that is removed and is not there', ENOENT, 0x802, named('x')],
  ['defaults without data', EINVAL, 0x803, (writer) => writer.be16(2, 2)],
  ['defaults of a protocol without time-outs', EOPNOTSUPP, 0x804, timeOut(null, AF_INET, 99)],
])('of time-outs, %s gives errno %i', (_, errno, type, write) => {
  expect(new Netfilter().errno(type, write)).toBe(errno);
});

test('there is room for 4,095 policies', () => {
  const netfilter = new Netfilter();
  const errnos = Array.from({ length: 4096 }, (_, i) => netfilter.errno(0x800, timeOut(`p${i}`, AF_INET, 17)));
  expect([errnos.slice(0, 4095).every((errno) => errno === 0), errnos[4095]]).toEqual([true, ENOMEM]);
});

test('statistics count what tracking has done', () => {
  const netfilter = new Netfilter();
  netfilter.track(udp(A, B), { commit: true });
  netfilter.track(tcp(A, B, 'SF'), { commit: true });
  const [answer, done] = netfilter.ask(0x104, DUMP);
  const statistics = policy({
    invalid: [4, fields.be32()],
    inserted: [8, fields.be32()],
    dropped: [10, fields.be32()],
  });
  expect(statistics.decode(answer?.bytes ?? new Uint8Array(0), 20)).toEqual({ invalid: 1, inserted: 1, dropped: 0 });
  expect(done?.type).toBe(DONE);
});

test('what is written of a tuple is read again as it was', () => {
  const word = fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff });
  const protocol = fc.oneof(fc.constantFrom(1, 6, 17, 47, 58, 99, 132), fc.nat(255));
  const types = fc.constantFrom(0, 8, 13, 14, 15, 16, 17, 18, 128, 129, 139, 140);
  fc.assert(
    fc.property(
      fc.nat(0xffff),
      protocol,
      fc.boolean(),
      fc.array(word, { minLength: 9, maxLength: 9 }),
      types,
      (number, proto, isIpv6, words, type) => {
        const before = new Tuple();
        before.begin(number, proto, isIpv6);
        before.words.set(words);
        if (!isIpv6) for (const at of [2, 3, 4, 6, 7, 8]) before.words[at] = 0;
        const isIcmp = proto === (isIpv6 ? 58 : 1);
        if (isIcmp) before.words[0] = (words[0] & ~0xff00) | (type << 8);
        else if (![6, 17, 47, 132].includes(proto)) before.words[0] = 0;
        const mayBe = !isIcmp || new Tuple().invert(before);
        // The kernel asks for the fields of the other ICMP, and no connection has them.
        fc.pre(mayBe && proto !== (isIpv6 ? 1 : 58));
        const writer = new MessageWriter();
        writer.begin(1, 0, 1);
        writeTuple(writer, 1, before.kind, before.words, 0);
        writer.end();
        const { tuple: after } = readTuple(writer.take().subarray(20), isIpv6 ? AF_INET6 : AF_INET, number);
        expect(after.equals(before)).toBe(true);
        expect(after.kind).toBe(kindOf(number, proto, isIpv6));
      },
    ),
    { numRuns: fuzzRounds(500) },
  );
});

test('whatever the bytes, a request is answered or passed over, and the table stays whole', () => {
  const random = randomNumbers(12);
  const netfilter = new Netfilter();
  const seeds = [
    message(GET, DUMP, zone(5)),
    message(GET, ACK, together(tuple(1, 17, A, B), zone(5)), AF_INET),
    message(
      DELETE,
      ACK,
      together(tuple(2, 17, B, A), zone(5), (writer) => writer.be32(12, 1)),
      AF_INET,
    ),
    message(
      DELETE,
      ACK,
      together(
        (writer) => writer.be32(8, 1),
        (writer) => writer.be32(21, 1),
      ),
    ),
    message(0x104, DUMP),
    message(0x800, ACK | 0x500, timeOut('ovs_tp_0_tcp4', AF_INET, 6, { 1: 5, 2: 6 })),
    message(0x801, DUMP),
    message(0x801, ACK, named('ovs_tp_0_tcp4')),
    message(0x802, ACK, named('ovs_tp_0_tcp4')),
    message(0x803, ACK, timeOut(null, AF_INET, 17, { 1: 30 })),
    message(0x804, ACK, timeOut(null, AF_INET, 17)),
  ];
  for (let round = 0; round < fuzzRounds(4000); round += 1) {
    if (netfilter.world.connections.table === null || netfilter.table.size < 20) {
      netfilter.track(udp(end('10.0.0.1', round & 0xffff), B), { commit: true, zone: random(8) });
    }
    const seed = seeds[random(seeds.length)] ?? seeds[0];
    const datagram = mutate(seed, random);
    // The length of the message says what is there, so that its attributes are looked at.
    if (datagram.length >= 16 && random(8) !== 0) new DataView(datagram.buffer).setUint32(0, datagram.length, true);
    for (const { type, bytes } of netfilter.program.request(datagram)) {
      if (type === NEW) connectionPolicy.decode(bytes, 20, { strict: true });
    }
  }
  const { table } = netfilter;
  netfilter.errno(DELETE);
  expect([table.size, [...table.zones.counts()].length]).toEqual([0, 0]);
});
