/** The tracker: protocols without states, errors, zones, marks, limits, events, and garbage. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Checksum, finishSum, pseudoHeaderSum4, pseudoHeaderSum6, type SctpChunk, sumBytes } from '../net/index.ts';
import { fuzzRounds, mutate, randomNumbers } from '../net/wire/testing.ts';
import { ConnectionAction, Tracked } from './action.ts';
import { describeConnection } from './describe.ts';
import { ConnectionEvent, type EventBatch } from './events.ts';
import { POLICIES, plainMemory, RECORD_WORDS, RecordWord } from './layout.ts';
import { Untracked } from './packet-tuple.ts';
import { SCTP_STATE_NAMES } from './sctp.ts';
import { ConnectionTable, Removal } from './table.ts';
import { authenticated, echo, end, generic, sctp, tcp, udp, unreachable } from './testing/frames.ts';
import { Lab, packetOf } from './testing/lab.ts';
import { Tracker } from './tracker.ts';

const commit = { commit: true };
const ENDS = [
  [end('10.0.0.1', 4000), end('10.0.0.2', 53)],
  [end('2001:db8::1', 4000), end('2001:db8::2', 53)],
] as const;

test.each(ENDS)(
  'UDP from $address is new until it is answered, then established, and a stream after two seconds',
  (a, b) => {
    const lab = new Lab();
    expect(lab.send(udp(a, b)).state).toBe('new|trk');
    expect(lab.table.size).toBe(0);
    expect(lab.send(udp(a, b), commit).state).toBe('new|trk');
    const { record } = lab.send(udp(a, b)).tracked;
    expect([lab.leftSeconds(record), lab.table.zones.unreplied(0)]).toEqual([30, 1]);
    expect(lab.send(udp(b, a)).state).toBe('est|rpl|trk');
    expect([lab.leftSeconds(record), lab.table.zones.unreplied(0)]).toEqual([30, 0]);
    expect(lab.send(udp(a, b)).state).toBe('est|trk');
    lab.nowMs += 2001;
    expect(lab.send(udp(a, b)).state).toBe('est|trk');
    expect([lab.leftSeconds(record), lab.isAssured(record)]).toEqual([120, true]);
    expect(lab.drain()).toEqual({ size: 0, zones: 0, ports: 0, index: 0 });
  },
);

test('over IPv4 what comes behind an authentication header is a connection without ports, with its errors and translation', () => {
  const lab = new Lab();
  const [[a, b]] = ENDS;
  const frame = authenticated(tcp(a, b, 'S'), a.address, b.address);
  const nat = { source: { addresses: ['198.51.100.1', '198.51.100.1'] as const } };
  const out = lab.send(frame, { commit: true, nat });
  expect([out.state, describeConnection(lab.table, 1).protocol]).toEqual(['new|trk|snat', 51]);
  // What it vouches for stays as it is, ports and checksum included.
  expect(out.frame.slice(34)).toEqual(frame.slice(34));
  const back = authenticated(tcp(b, a, '.'), b.address, '198.51.100.1');
  expect(lab.send(back, { nat: {} }).state).toBe('est|rpl|trk|dnat');
  expect(lab.send(unreachable('192.0.2.1', '198.51.100.1', out.frame), { nat: {} }).state).toBe('rel|rpl|trk|dnat');
  // A port is nothing to it.
  expect(lab.send(authenticated(tcp(end(a.address, 9), b, 'S'), a.address, b.address)).state).toBe('est|trk');
});

test.each(ENDS)(
  'a checksum of $address is summed once, whatever the number of zones, and a wrong one in each',
  (a, b) => {
    for (const frame of [tcp(a, b, 'S'), udp(a, b), echo(a, b), sctp(a, b, 0, [])]) {
      const lab = new Lab();
      const packet = packetOf(frame);
      lab.sendPacket(packet, { zone: 1 });
      expect(packet.checksum).toBe(Checksum.VALID);
      // Nobody looks at it any more.
      packet.bytes[packet.offset + packet.length - 1] ^= 1;
      expect(lab.sendPacket(packet, { zone: 2 }).tracked.reason).toBe(Untracked.NOTHING);
      packet.checksum = Checksum.UNKNOWN;
      for (const zone of [1, 2]) expect(lab.sendPacket(packet, { zone }).tracked.reason).toBe(Untracked.CHECKSUM);
    }
    // Where there is none to sum, nobody has checked anything.
    const without = packetOf(udp(a, b));
    without.bytes.fill(
      0,
      without.offset + (a.address.includes(':') ? 60 : 40),
      without.offset + (a.address.includes(':') ? 62 : 42),
    );
    new Lab().sendPacket(without, {});
    expect(without.checksum).toBe(Checksum.UNKNOWN);
  },
);

test.each(ENDS)(
  'a UDP datagram of $address that is shorter than its IP packet may have either summed, and nothing else',
  (a, b) => {
    const frame = udp(a, b, 'twelve bytes');
    const isIpv6 = a.address.includes(':');
    const l4 = isIpv6 ? 54 : 34;
    // It says that it has no payload.
    frame.set([0, 8, 0, 0], l4 + 4);
    const summed = (length: number) => {
      const copy = frame.slice();
      const pseudo = isIpv6 ? pseudoHeaderSum6(frame, 22, 17, length) : pseudoHeaderSum4(frame, 26, 17, length);
      const sum = finishSum(sumBytes(frame, l4, length, pseudo));
      copy.set([sum >>> 8, sum & 0xff], l4 + 6);
      return copy;
    };
    expect([8, 20, 12].map((length) => new Lab().send(summed(length)).state)).toEqual([
      'new|trk',
      'new|trk',
      'inv|trk',
    ]);
  },
);

test.each(ENDS)('an echo request of $address begins a connection, an answer alone does not', (a, b) => {
  const lab = new Lab();
  expect(lab.send(echo(b, a, true), commit).state).toBe('inv|trk');
  expect(lab.send(echo(a, b), commit).state).toBe('new|trk');
  expect(lab.send(echo(b, a, true), commit).state).toBe('est|rpl|trk');
  expect(lab.send(echo(b, end(a.address, 1), true), commit).state).toBe('inv|trk');
  expect(lab.send(echo(a, b), commit).state).toBe('est|trk');
  expect(lab.table.size).toBe(1);
});

test.each(ENDS)('an error about a packet of $address is related to its connection, from whichever router', (a, b) => {
  const lab = new Lab();
  const router = a.address.includes(':') ? '2001:db8::99' : '10.0.0.99';
  const packet = udp(a, b, 'a question');
  expect(lab.send(unreachable(router, a.address, packet)).state).toBe('inv|trk');
  lab.send(packet, commit);
  const error = lab.send(unreachable(router, a.address, packet));
  expect([error.state, error.tracked.record]).toEqual(['rel|rpl|trk', 1]);
  // About the answer, from the client's side.
  expect(lab.send(unreachable(router, b.address, udp(b, a))).state).toBe('rel|trk');
  // It is addressed to somebody who has not sent the packet.
  expect(lab.send(unreachable(router, router, packet)).state).toBe('inv|trk');
  // As little as an error has to quote, and one byte less than that.
  const header = a.address.includes(':') ? 40 : 20;
  expect(lab.send(unreachable(router, a.address, packet, header + 4)).state).toBe('rel|rpl|trk');
  expect(lab.send(unreachable(router, a.address, packet, header + 3)).state).toBe('inv|trk');
});

test('protocols that are not known have connections by their addresses', () => {
  const lab = new Lab();
  expect(lab.send(generic('10.0.0.1', '10.0.0.2', 253), commit).state).toBe('new|trk');
  expect(lab.send(generic('10.0.0.2', '10.0.0.1', 253)).state).toBe('est|rpl|trk');
  expect(lab.send(generic('10.0.0.2', '10.0.0.1', 254)).state).toBe('new|trk');
  expect(lab.leftSeconds(1)).toBe(600);
});

const init = (kind: 'init' | 'init-ack', initiateTag: number): SctpChunk => ({
  kind,
  flags: 0,
  initiateTag,
  receiverWindow: 1,
  outboundStreams: 1,
  inboundStreams: 1,
  initialTsn: 1,
  parameters: new Uint8Array(0),
});
const chunk = (type: number, flags = 0): SctpChunk => ({ kind: 'other', type, flags, value: new Uint8Array(4) });

test('SCTP associations open by four steps with the tags that both sides have told, and close by three', () => {
  const lab = new Lab();
  const [a, b] = [end('10.0.0.1', 5000), end('10.0.0.2', 6000)];
  const state = () => SCTP_STATE_NAMES[lab.stateOf(1)];
  expect(lab.send(sctp(a, b, 5, [init('init', 111)]), commit).state).toBe('inv|trk');
  expect(lab.send(sctp(a, b, 0, [init('init', 111)]), commit).state).toBe('new|trk');
  expect(lab.send(sctp(b, a, 1, [init('init-ack', 222)]), commit).state).toBe('inv|trk');
  expect(lab.send(sctp(b, a, 111, [init('init-ack', 222)]), commit).state).toBe('est|rpl|trk');
  expect(state()).toBe('COOKIE_WAIT');
  expect(lab.send(sctp(a, b, 111, [chunk(10)]), commit).state).toBe('inv|trk');
  expect(lab.send(sctp(a, b, 222, [chunk(10)]), commit).state).toBe('est|trk');
  expect(state()).toBe('COOKIE_ECHOED');
  expect(lab.send(sctp(b, a, 111, [chunk(11)]), commit).state).toBe('est|rpl|trk');
  expect([state(), lab.leftSeconds(1), lab.isAssured(1)]).toEqual(['ESTABLISHED', 210, true]);
  expect(lab.send(sctp(a, b, 3, [chunk(0)]), commit).state).toBe('inv|trk');
  expect(lab.send(sctp(a, b, 222, [chunk(7)]), commit).state).toBe('est|trk');
  expect(state()).toBe('SHUTDOWN_SENT');
  expect(lab.send(sctp(b, a, 111, [chunk(8)]), commit).state).toBe('est|rpl|trk');
  expect(state()).toBe('SHUTDOWN_ACK_SENT');
  expect(lab.send(sctp(a, b, 222, [chunk(14)]), commit).state).toBe('est|trk');
  expect(state()).toBe('CLOSED');
});

test('an abort with the reflected tag ends an association, one with a tag of its own making does not', () => {
  const lab = new Lab();
  const [a, b] = [end('10.0.0.1', 5000), end('10.0.0.2', 6000)];
  lab.send(sctp(a, b, 0, [init('init', 111)]), commit);
  lab.send(sctp(b, a, 111, [init('init-ack', 222)]), commit);
  lab.send(sctp(a, b, 222, [chunk(10)]), commit);
  lab.send(sctp(b, a, 111, [chunk(11)]), commit);
  expect(lab.send(sctp(b, a, 999, [chunk(6)]), commit).state).toBe('inv|trk');
  expect(lab.send(sctp(b, a, 222, [chunk(6)]), commit).state).toBe('inv|trk');
  expect(lab.send(sctp(b, a, 222, [chunk(6, 1)]), commit).state).toBe('est|rpl|trk');
  expect(SCTP_STATE_NAMES[lab.stateOf(1)]).toBe('CLOSED');
});

test('zones know nothing of each other', () => {
  const lab = new Lab();
  const [a, b] = ENDS[0];
  lab.send(udp(a, b), { commit: true, zone: 1 });
  expect(lab.send(udp(b, a), { zone: 2 }).state).toBe('new|trk');
  expect(lab.send(udp(b, a), { zone: 1 }).state).toBe('est|rpl|trk');
  expect(lab.send(udp(a, b), { commit: true, zone: 65_535 }).tracked.zone).toBe(65_535);
  expect([...lab.table.zones.counts()]).toEqual([
    [1, 1],
    [65_535, 1],
  ]);
});

test('a packet that goes through two zones has the state of each', () => {
  const lab = new Lab();
  const [a, b] = ENDS[0];
  const first = lab.send(udp(a, b), { commit: true, zone: 1 });
  expect(lab.send(udp(a, b), { commit: true, zone: 2 }, 0, first.tracked).state).toBe('new|trk');
  const answer = lab.send(udp(b, a), { zone: 1 });
  expect(lab.send(udp(b, a), { zone: 2 }, 0, answer.tracked).state).toBe('est|rpl|trk');
  expect(lab.table.zones.unreplied(2)).toBe(0);
});

test('a zone takes no more connections than its limit, and others are not bound by it', () => {
  const lab = new Lab();
  const b = ENDS[0][1];
  lab.tracker.limits.set(7, 2);
  const send = (port: number, zone: number) => lab.send(udp(end('10.0.0.1', port), b), { commit: true, zone }).state;
  expect([send(1, 7), send(2, 7), send(3, 7), send(1, 7)]).toEqual(['new|trk', 'new|trk', 'zone-limit', 'new|trk']);
  lab.tracker.limits.default = 1;
  expect([send(1, 8), send(2, 8)]).toEqual(['new|trk', 'zone-limit']);
  lab.tracker.limits.set(8, 0);
  expect(send(2, 8)).toBe('new|trk');
  expect(lab.tracker.limits.count(7)).toBe(2);
  lab.tracker.limits.remove(8);
  expect(lab.tracker.limits.of(8)).toBe(1);
  lab.nowMs += 30_000;
  expect(send(3, 7)).toBe('new|trk');
});

test('what has expired does not count for a limit, wherever it lies in the table', () => {
  const lab = new Lab(65_536);
  const b = ENDS[0][1];
  const udpOf = (i: number, zone: number) =>
    lab.send(udp(end(`10.${zone}.${(i >> 8) & 255}.${i & 255}`, 1000), b), { commit: true, zone }).state;
  for (let i = 0; i < 20_000; i += 1) udpOf(i, 1);
  lab.tracker.limits.set(5, 10);
  for (let i = 0; i < 10; i += 1) expect(udpOf(i, 5)).toBe('new|trk');
  expect(udpOf(10, 5)).toBe('zone-limit');
  lab.nowMs += 31_000;
  expect(udpOf(11, 5)).toBe('new|trk');
  expect(lab.tracker.limits.count(5)).toBe(1);
  expect(lab.drain()).toEqual({ size: 0, zones: 0, ports: 0, index: 0 });
});

test('connections of a zone that were closed or reset make room for new ones when its limit is reached; open ones stay', () => {
  const lab = new Lab();
  const [, server] = ENDS[0];
  const request = { commit: true, zone: 5 };
  lab.tracker.limits.default = 4;
  const open = (port: number) => {
    const client = end('10.0.0.1', port);
    const { state } = lab.send(tcp(client, server, 'S', { sequence: 0 }), request);
    lab.send(tcp(server, client, 'S.', { sequence: 100, acknowledgment: 1 }), request);
    lab.send(tcp(client, server, '.', { sequence: 1, acknowledgment: 101 }), request);
    return state;
  };
  for (const port of [1, 2, 3, 4]) open(port);
  expect(open(5)).toBe('zone-limit');
  for (const port of [2, 3]) lab.send(tcp(end('10.0.0.1', port), server, 'R', { sequence: 1 }), request);
  expect([open(6), open(7), open(8)]).toEqual(['new|trk', 'new|trk', 'zone-limit']);
  expect([1, 2, 4].map((record) => lab.table.isLive(record))).toContain(true);
  expect(lab.send(tcp(server, end('10.0.0.1', 1), '.', { sequence: 101, acknowledgment: 1 }), request).state).toBe(
    'est|rpl|trk',
  );
  expect(lab.send(tcp(server, end('10.0.0.1', 4), '.', { sequence: 101, acknowledgment: 1 }), request).state).toBe(
    'est|rpl|trk',
  );
  // A limit that is lowered ends none that is open.
  lab.tracker.limits.set(5, 1);
  expect([open(9), lab.tracker.limits.count(5)]).toEqual(['zone-limit', 4]);
});

test('of whatever begins and ends under limits that change, the zones know their connections', () => {
  const step = fc.record({
    host: fc.nat(30),
    zone: fc.nat(3),
    limit: fc.option(fc.nat(6), { freq: 8 }),
    waitMs: fc.constantFrom(0, 0, 20_000),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const lab = new Lab(64);
      for (const { host, zone, limit, waitMs } of steps) {
        if (limit !== null) lab.tracker.limits.set(zone, limit);
        lab.nowMs += waitMs;
        const { state } = lab.send(udp(end(`10.0.0.${host}`, 7), ENDS[0][1]), { commit: true, zone });
        if (state !== 'zone-limit') continue;
        // Nobody of the zone has expired then.
        const left: number[] = [];
        lab.table.walk(1, 1000, (record) => {
          if (lab.table.records[lab.table.at(record)] >>> 16 === zone) left.push(record);
        });
        expect(left.length).toBeGreaterThanOrEqual(lab.tracker.limits.of(zone));
      }
      expect(lab.drain()).toEqual({ size: 0, zones: 0, ports: 0, index: 0 });
    }),
    { numRuns: 100 },
  );
});

test('mark and label change by their masks, when a connection is committed and whenever it is again', () => {
  const lab = new Lab();
  const [a, b] = ENDS[0];
  const label = (value: number, mask: number) => ({ value: [0, 0, value, 0], mask: [0, 0, mask, 0] });
  lab.send(udp(a, b), { commit: true, mark: { value: 0xff, mask: 0x0f }, label: label(0x30, 0xf0) });
  const seen = lab.send(udp(b, a)).tracked;
  expect([seen.mark, [...seen.label]]).toEqual([0x0f, [0, 0, 0x30, 0]]);
  const again = lab.send(udp(b, a), { commit: true, mark: { value: 0, mask: 1 }, label: label(-1, 0x1) }).tracked;
  expect([again.mark, [...again.label]]).toEqual([0x0e, [0, 0, 0x31, 0]]);
  expect(lab.send(udp(b, a), { mark: { value: 0, mask: -1 } }).tracked.mark).toBe(0x0e);
});

test('a commit by force turns a connection round', () => {
  const lab = new Lab();
  const [a, b] = ENDS[0];
  lab.send(udp(a, b), commit);
  expect(lab.send(udp(b, a), { force: true }).state).toBe('new|trk');
  expect(lab.send(udp(a, b)).state).toBe('est|rpl|trk');
  expect([lab.table.size, lab.table.counters.removed[Removal.REPLACED]]).toEqual([1, 1]);
});

test('a policy sets how long the connections of an action last; those that have it when it is removed keep it', () => {
  const lab = new Lab();
  const [a, b] = ENDS[0];
  const { timeOuts } = lab.table;
  const policy = timeOuts.define('ovs_tp_0_udp4', { udp: { unreplied: 5000, replied: 7000 } });
  lab.send(udp(a, b), { commit: true, policy });
  expect(lab.leftSeconds(1)).toBe(5);
  timeOuts.define('ovs_tp_0_udp4', { udp: { unreplied: 9000 } });
  expect(lab.leftSeconds(1)).toBe(9);
  expect(timeOuts.valuesOf(policy).udp).toEqual({ unreplied: 9000, replied: 120_000 });
  expect([timeOuts.remove('ovs_tp_0_udp4'), timeOuts.remove('ovs_tp_0_udp4')]).toEqual([true, false]);
  expect([timeOuts.names(), timeOuts.numberOf('ovs_tp_0_udp4'), lab.leftSeconds(1)]).toEqual([[], undefined, 9]);
  const other = timeOuts.define('other', { udp: { unreplied: 1000 } });
  expect([other === policy, lab.leftSeconds(1)]).toEqual([false, 9]);
  const { table: adopted, report } = ConnectionTable.adopt(lab.memory, { nowMs: () => lab.nowMs });
  expect([report.unsound, adopted.leftMs(1, lab.nowMs), adopted.timeOuts.names()]).toEqual([0, 9000, ['other']]);
  expect(lab.drain().size).toBe(0);
  expect([timeOuts.define('third', {}), timeOuts.define('fourth', {})]).toEqual([policy, other + 1]);
  for (const name of timeOuts.names()) timeOuts.remove(name);
  timeOuts.setDefaults({ udp: { unreplied: 1000 } });
  lab.send(udp(a, b), { commit: true, policy });
  expect(lab.leftSeconds(1)).toBe(1);
});

test('a helper is told with the connection that has it from its begin, and by itself when a later commit brings it', () => {
  const lab = new Lab();
  const told: number[] = [];
  lab.tracker.events.listen(({ count, bits }: EventBatch) => told.push(...bits.subarray(0, count)));
  const server = end('10.0.0.2', 21);
  lab.send(tcp(end('10.0.0.1', 1), server, 'S'), { commit: true, helper: 'ftp' });
  lab.send(tcp(end('10.0.0.1', 2), server, 'S'), { commit: true });
  lab.send(tcp(end('10.0.0.1', 2), server, 'S'), { commit: true, helper: 'ftp' });
  lab.send(tcp(end('10.0.0.1', 2), server, 'S'), { commit: true, helper: 'ftp' });
  lab.tracker.events.flush();
  expect(told).toEqual([ConnectionEvent.NEW | ConnectionEvent.HELPER, ConnectionEvent.NEW, ConnectionEvent.HELPER]);
});

test('policies that cannot be are refused in words', () => {
  const { timeOuts } = new Lab().table;
  expect(() => timeOuts.define('', {})).toThrow(/1 to 31 bytes/);
  expect(() => timeOuts.define('x'.repeat(32), {})).toThrow(/1 to 31 bytes/);
  expect(() => timeOuts.define('x', { tcp: { sleeping: 1 } })).toThrow(/no time-out tcp.sleeping/);
  expect(() => timeOuts.define('x', { constructor: { name: 1 } })).toThrow(/no time-out constructor.name/);
  expect(() => timeOuts.define('x', { tcp: { close: -1 } })).toThrow(/whole number of milliseconds/);
  expect(timeOuts.names()).toEqual([]);
  for (let i = 1; i < POLICIES; i += 1) timeOuts.define(`p${i}`, {});
  expect(() => timeOuts.define('one more', {})).toThrow(/4095 time-out policies already/);
});

test('a policy of any number is held beside a helper and the events of a connection', () => {
  const lab = new Lab();
  const { timeOuts } = lab.table;
  const numbers = Array.from({ length: 4095 }, (_, i) => timeOuts.define(`p${i}`, { tcp: { syn_sent: (i + 1) * 10 } }));
  expect(new Set(numbers).size).toBe(4095);
  const policy = numbers[4000];
  const [a, b] = [end('10.0.0.1', 4000), end('10.0.0.2', 21)];
  lab.send(tcp(a, b, 'S'), { commit: true, policy, helper: 'ftp', events: ConnectionEvent.DESTROY });
  expect([lab.leftSeconds(1), timeOuts.users(policy)]).toEqual([40.01, 1]);
  expect(describeConnection(lab.table, 1)).toMatchObject({ helper: 'ftp' });
  lab.table.flush();
  expect(timeOuts.users(policy)).toBe(0);
});

test('limits of zones are there for the next process, as they were set', () => {
  const memory = plainMemory(10);
  const table = ConnectionTable.format(memory, 10, [1, 2], { nowMs: () => 1 });
  const { limits } = new Tracker({ table });
  limits.default = 7;
  for (const zone of [0, 31, 32, 0xffff]) limits.set(zone, zone);
  limits.set(5, 0xffff_ffff);
  limits.set(6, 1);
  limits.remove(6);
  const next = new Tracker({ table: ConnectionTable.adopt(memory, { nowMs: () => 2 }).table }).limits;
  expect([next.default, next.zones()]).toEqual([7, [0, 5, 31, 32, 0xffff]]);
  expect([0, 5, 6, 31, 0xffff].map((zone) => next.of(zone))).toEqual([0, 0xffff_ffff, 7, 31, 0xffff]);
  expect(() => next.set(0x1_0000, 1)).toThrow(/no zone/);
  expect(() => next.set(1, 2 ** 32)).toThrow(/no number of connections/);
});

test('events come in batches, in order, as the action asks, and say why a connection ended', () => {
  const lab = new Lab();
  const seen: [bits: number, reason: number, port: number][] = [];
  lab.tracker.events.listen((events: EventBatch) => {
    for (let i = 0; i < events.count; i += 1) {
      const port = events.records[i * RECORD_WORDS + RecordWord.ORIGINAL] >>> 16;
      seen.push([events.bits[i], events.reasons[i], port]);
    }
  });
  const [a, b] = ENDS[0];
  lab.send(udp(a, b), commit);
  lab.send(udp(b, a));
  lab.send(udp(a, b), { commit: true, mark: { value: 1, mask: 1 } });
  lab.send(udp(end('10.0.0.1', 9), b), { commit: true, events: ConnectionEvent.DESTROY });
  expect(seen).toEqual([]);
  lab.table.flush();
  lab.tracker.events.flush();
  expect(seen).toEqual([
    [ConnectionEvent.NEW, 0, 4000],
    [ConnectionEvent.REPLY, 0, 4000],
    [ConnectionEvent.MARK, 0, 4000],
    [ConnectionEvent.DESTROY, Removal.FLUSHED, 4000],
    [ConnectionEvent.DESTROY, Removal.FLUSHED, 9],
  ]);
  for (let port = 1; port <= 200; port += 1) lab.send(udp(end('10.0.0.3', port), b), commit);
  expect(seen.length).toBe(5 + 192);
});

test('packets that cannot be tracked are invalid, and it is said why', () => {
  const lab = new Lab();
  const [a, b] = ENDS[0];
  const broken = udp(a, b);
  broken[broken.length - 1] ^= 1;
  const first = udp(a, b);
  first[20] = 0x20;
  const arp = udp(a, b);
  arp[13] = 6;
  const reasons = [broken, first, arp, udp(a, b).slice(0, 36)].map((frame) => {
    const { state, tracked } = lab.send(frame, commit);
    return [state, tracked.reason];
  });
  expect(reasons).toEqual([
    ['inv|trk', 4],
    ['inv|trk', 3],
    ['inv|trk', 1],
    ['inv|trk', 2],
  ]);
  expect([lab.tracker.counters.invalid, lab.table.size]).toEqual([4, 0]);
});

test('requests that cannot be are refused in words', () => {
  expect(() => new ConnectionAction({ zone: 65_536 })).toThrow(/no zone/);
  expect(() => new ConnectionAction({ policy: 4096 })).toThrow(/no policy/);
  expect(() => new ConnectionAction({ nat: { source: { addresses: ['10.0.0.1', '10.0.0.1'] } } })).toThrow(/committed/);
  const nat = (source: object) => () => new ConnectionAction({ commit: true, nat: { source } });
  expect(nat({ addresses: ['10.0.0.2', '10.0.0.1'] })).toThrow(/ends before it begins/);
  expect(nat({ addresses: ['10.0.0.2', 'fe80::1'] })).toThrow(/no IPv4 address/);
  expect(nat({ ports: [5, 4] })).toThrow(/ports are a range/);
  expect(nat({ ports: [0, 65_536] })).toThrow(/ports are a range/);
});

test('a cleared packet is as one that was never tracked', () => {
  const lab = new Lab();
  const { tracked } = lab.send(udp(...ENDS[0]), { commit: true, mark: { value: 1, mask: 1 } });
  tracked.clear();
  expect(tracked).toEqual(new Tracked());
});

/** A small model of protocols without states: who has spoken to whom, in which zone, and when last. */
test('random traffic of UDP and ICMP in zones is tracked as a plain model says', () => {
  const packet = fc.record({
    pair: fc.integer({ min: 0, max: 5 }),
    isBack: fc.boolean(),
    isUdp: fc.boolean(),
    zone: fc.constantFrom(0, 3),
    isKept: fc.boolean(),
    waitMs: fc.constantFrom(0, 0, 0, 1000, 29_999, 30_000),
  });
  fc.assert(
    fc.property(fc.array(packet, { maxLength: 80 }), fc.boolean(), (packets, isIpv6) => {
      const lab = new Lab();
      const model = new Map<string, { first: boolean; answered: boolean; untilMs: number; streamMs: number }>();
      const host = (n: number) => (isIpv6 ? `2001:db8::${n}` : `10.0.0.${n}`);
      for (const { pair, isBack, isUdp, zone, isKept, waitMs } of packets) {
        lab.nowMs += waitMs;
        const [a, b] = [end(host(1), 100 + pair), end(host(2), isUdp ? 53 : 0)];
        const [from, to] = isBack ? [b, a] : [a, b];
        const frame = isUdp ? udp(from, to) : echo(from, to, isBack);
        const name = `${zone} ${isUdp} ${pair}`;
        let there = model.get(name);
        if (there !== undefined && there.untilMs <= lab.nowMs) {
          model.delete(name);
          there = undefined;
        }
        const { state } = lab.send(frame, { zone, commit: isKept });
        if (there === undefined) {
          const isQuery = isUdp || !isBack;
          expect(state).toBe(isQuery ? 'new|trk' : 'inv|trk');
          const [untilMs, streamMs] = [lab.nowMs + 30_000, lab.nowMs + 2000];
          if (isQuery && isKept) model.set(name, { first: isBack, answered: false, untilMs, streamMs });
          continue;
        }
        const isReply = there.first !== isBack;
        expect(state).toBe(isReply ? 'est|rpl|trk' : there.answered ? 'est|trk' : 'new|trk');
        const isStream = isUdp && there.answered && lab.nowMs > there.streamMs;
        there.untilMs = lab.nowMs + (isStream ? 120_000 : 30_000);
        there.answered ||= isReply;
      }
      lab.table.sweep(1000);
      const alive = [...model.values()].filter((each) => each.untilMs > lab.nowMs);
      expect(lab.table.size).toBe(alive.length);
      const unreplied = [0, 3].reduce((sum, zone) => sum + lab.table.zones.unreplied(zone), 0);
      expect(unreplied).toBe(alive.filter((each) => !each.answered).length);
      expect(lab.drain()).toEqual({ size: 0, zones: 0, ports: 0, index: 0 });
    }),
    { numRuns: 150 },
  );
});

test('garbage between packets of connections does no harm: nothing throws, nothing is written beyond the frame, nothing is left', () => {
  const random = randomNumbers(20_261_130);
  const lab = new Lab(64, { verifiesChecksums: false });
  const [a, b] = ENDS[0];
  const [c, d] = ENDS[1];
  const frames = [
    udp(a, b),
    udp(b, a),
    udp(c, d),
    tcp(a, b, 'S'),
    tcp(b, a, 'S.', { acknowledgment: 1 }),
    tcp(a, b, '.', { options: [{ kind: 'sack', blocks: [{ start: 1, end: 2 }] }] }, 'data'),
    tcp(a, b, 'R.'),
    echo(c, d),
    echo(a, b),
    unreachable('10.0.0.9', a.address, udp(a, b)),
    unreachable('2001:db8::9', c.address, udp(c, d)),
    unreachable('10.0.0.9', a.address, tcp(a, b, '.', {}, 'data')),
    unreachable('10.0.0.9', a.address, echo(a, b)),
    sctp(a, b, 0, [init('init', 7)]),
    sctp(b, a, 7, [init('init-ack', 8)]),
    sctp(a, b, 8, [chunk(10), chunk(0)]),
    sctp(a, b, 8, [chunk(4)]),
    generic('10.0.0.1', '10.0.0.2', 47),
  ];
  const requests = [
    {},
    { commit: true },
    { commit: true, nat: { source: { addresses: ['1.1.1.1', '1.1.1.3'], ports: [1, 9] } } },
    { commit: true, nat: { destination: { addresses: ['2001:db8::7', '2001:db8::8'] } } },
    { nat: {} },
    { force: true, nat: {} },
  ].map((request) => new ConnectionAction(request as ConstructorParameters<typeof ConnectionAction>[0]));
  for (let round = fuzzRounds(4000); round > 0; round -= 1) {
    const frame = frames[random(frames.length)];
    const packet = packetOf(random(3) === 0 ? frame : mutate(frame, random));
    lab.nowMs += random(50) === 0 ? random(200_000) : random(10);
    const { length } = packet;
    packet.bytes.fill(0xa5, packet.offset + length);
    lab.sendPacket(packet, requests[random(requests.length)], random(3));
    expect(packet.length).toBe(length);
    expect(packet.bytes.subarray(packet.offset + length).every((byte) => byte === 0xa5)).toBe(true);
    expect(packet.bytes.subarray(0, packet.offset).every((byte) => byte === 0)).toBe(true);
    if (random(20) === 0) lab.table.sweep(10);
  }
  expect(lab.table.counters.created).toBeGreaterThan(20);
  expect(lab.drain()).toEqual({ size: 0, zones: 0, ports: 0, index: 0 });
});
