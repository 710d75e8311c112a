/** TCP through the tracker: what segments of both sides make of a connection. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { TcpRecord } from '../net/index.ts';
import type { ConnectionRequest } from './action.ts';
import { RecordWord } from './layout.ts';
import { TCP_STATE_NAMES, TcpState } from './tcp-state.ts';
import { end, tcp } from './testing/frames.ts';
import { Lab } from './testing/lab.ts';

const client = end('10.0.0.1', 40_000);
const server = end('10.0.0.2', 80);
const commit: ConnectionRequest = { commit: true };
const SYN_OPTIONS: TcpRecord['options'] = [{ kind: 'mss', mss: 1460 }, { kind: 'sack-permitted' }];

/** A client and a server, each of which counts what it sends. */
class Pair {
  readonly lab: Lab;
  clientNext = 1_000_000;
  serverNext = 5_000_000;

  constructor(settings: ConstructorParameters<typeof Lab>[1] = {}) {
    this.lab = new Lab(64, settings);
  }

  fromClient(flags: string, payload = '', fields: Partial<TcpRecord> = {}): string {
    const acknowledgment = flags.includes('.') ? this.serverNext : 0;
    const frame = tcp(client, server, flags, { sequence: this.clientNext, acknowledgment, ...fields }, payload);
    const { state } = this.lab.send(frame, commit);
    this.clientNext += payload.length + (/[SF]/.test(flags) ? 1 : 0);
    return state;
  }

  fromServer(flags: string, payload = '', fields: Partial<TcpRecord> = {}): string {
    const acknowledgment = flags.includes('.') ? this.clientNext : 0;
    const frame = tcp(server, client, flags, { sequence: this.serverNext, acknowledgment, ...fields }, payload);
    const { state } = this.lab.send(frame, commit);
    this.serverNext += payload.length + (/[SF]/.test(flags) ? 1 : 0);
    return state;
  }

  open(): void {
    expect(this.fromClient('S', '', { options: SYN_OPTIONS })).toBe('new|trk');
    expect(this.fromServer('S.', '', { options: SYN_OPTIONS })).toBe('est|rpl|trk');
    expect(this.fromClient('.')).toBe('est|trk');
    expect(this.state).toBe('ESTABLISHED');
  }

  /** The record of the connection, the last that was made. */
  get record(): number {
    let last = 0;
    this.lab.table.walk(1, 1000, (record) => {
      last = record;
    });
    return last;
  }

  get id(): number {
    return this.lab.table.records[this.lab.table.at(this.record) + RecordWord.ID];
  }

  get state(): string {
    return this.record === 0 ? 'gone' : TCP_STATE_NAMES[this.lab.stateOf(this.record)];
  }

  get seconds(): number {
    return this.lab.leftSeconds(this.record);
  }
}

test('a connection opens, carries data, closes from both sides, and each state lasts as long as in Linux', () => {
  const pair = new Pair();
  expect(pair.fromClient('S')).toBe('new|trk');
  expect([pair.state, pair.seconds]).toEqual(['SYN_SENT', 120]);
  expect(pair.fromServer('S.')).toBe('est|rpl|trk');
  expect([pair.state, pair.seconds]).toEqual(['SYN_RECV', 60]);
  expect(pair.fromClient('.')).toBe('est|trk');
  expect([pair.state, pair.seconds]).toEqual(['ESTABLISHED', 432_000]);
  expect(pair.lab.isAssured(pair.record)).toBe(true);
  expect(pair.fromClient('P.', 'GET /')).toBe('est|trk');
  // Data that nobody has acknowledged yet.
  expect(pair.seconds).toBe(300);
  expect(pair.fromServer('P.', 'hello')).toBe('est|rpl|trk');
  expect(pair.fromClient('.')).toBe('est|trk');
  expect(pair.seconds).toBe(432_000);
  expect(pair.fromClient('F.')).toBe('est|trk');
  expect([pair.state, pair.seconds]).toEqual(['FIN_WAIT', 120]);
  expect(pair.fromServer('.')).toBe('est|rpl|trk');
  expect([pair.state, pair.seconds]).toEqual(['CLOSE_WAIT', 60]);
  expect(pair.fromServer('F.')).toBe('est|rpl|trk');
  expect([pair.state, pair.seconds]).toEqual(['LAST_ACK', 30]);
  expect(pair.fromClient('.')).toBe('est|trk');
  expect([pair.state, pair.seconds]).toEqual(['TIME_WAIT', 120]);
  expect(pair.lab.drain()).toEqual({ size: 0, zones: 0, ports: 0, index: 0 });
});

test('a SYN that is sent again does not prolong the connection', () => {
  const pair = new Pair();
  pair.fromClient('S');
  pair.lab.nowMs += 100_000;
  pair.clientNext -= 1;
  expect(pair.fromClient('S')).toBe('new|trk');
  expect(pair.seconds).toBe(20);
  pair.lab.nowMs += 20_000;
  expect(pair.state).toBe('gone');
});

test('a reset as the only answer ends the connection at once', () => {
  const pair = new Pair();
  pair.fromClient('S');
  expect(pair.fromServer('R.', '', { sequence: 0 })).toBe('est|rpl|trk');
  expect([pair.state, pair.lab.table.size]).toEqual(['gone', 0]);
});

test('both sides may open at once', () => {
  const pair = new Pair();
  expect(pair.fromClient('S')).toBe('new|trk');
  expect(pair.fromServer('S')).toBe('est|rpl|trk');
  expect(pair.state).toBe('SYN_SENT2');
  expect(pair.fromClient('S.', '', { sequence: 1_000_000 })).toBe('est|trk');
  expect(pair.state).toBe('SYN_RECV');
  pair.clientNext = 1_000_001;
  expect(pair.fromServer('.')).toBe('est|rpl|trk');
  expect(pair.state).toBe('ESTABLISHED');
});

test('the middle of a connection is taken up, and refused where tracking is strict', () => {
  const loose = new Pair();
  expect(loose.fromClient('.', 'data')).toBe('new|trk');
  expect([loose.state, loose.seconds]).toEqual(['ESTABLISHED', 300]);
  expect(loose.fromServer('.', 'data')).toBe('est|rpl|trk');
  expect(loose.fromClient('.', 'more')).toBe('est|trk');
  expect(loose.lab.isAssured(loose.record)).toBe(true);
  const strict = new Pair({ isLoose: false });
  expect(strict.fromClient('.', 'data')).toBe('inv|trk');
  expect(strict.fromClient('S')).toBe('new|trk');
});

test('only resets with the sequence number that is expected next end an established connection', () => {
  const pair = new Pair();
  pair.open();
  pair.fromClient('P.', 'question');
  pair.fromServer('.');
  // Before what was acknowledged: forged or old.
  expect(pair.fromClient('R', '', { sequence: pair.clientNext - 5 })).toBe('inv|trk');
  // In the window, not exact: passes to be challenged, and changes nothing.
  expect(pair.fromClient('R', '', { sequence: pair.clientNext + 100 })).toBe('est|trk');
  expect(pair.state).toBe('ESTABLISHED');
  expect(pair.fromClient('R', '', { sequence: pair.clientNext })).toBe('est|trk');
  expect([pair.state, pair.seconds]).toEqual(['CLOSE', 10]);
});

test('a reset behind all that its side has sent ends a liberal connection, though the other side has spoken since', () => {
  for (const liberal of [false, true]) {
    const pair = new Pair();
    pair.open();
    const near = { sequence: pair.clientNext, acknowledgment: pair.serverNext };
    expect(pair.lab.send(tcp(client, server, '.', near), { liberal }).state).toBe('est|trk');
    pair.fromClient('P.', 'question');
    // It acknowledges nothing new: the reset and this have crossed.
    const crossed = { acknowledgment: pair.clientNext - 'question'.length };
    pair.fromServer('P.', 'greeting', crossed);
    for (let guess = 0; guess < 2; guess += 1) {
      expect(pair.fromClient('R', '', { sequence: pair.clientNext + 100 })).toBe('est|trk');
      expect(pair.state).toBe('ESTABLISHED');
      pair.fromServer('.', '', crossed);
    }
    expect(pair.fromClient('R', '', { sequence: pair.clientNext })).toBe('est|trk');
    expect(pair.state).toBe(liberal ? 'CLOSE' : 'ESTABLISHED');
  }
});

test('a connection between the same ends begins anew after the old one was closed', () => {
  const pair = new Pair();
  pair.open();
  pair.fromClient('F.');
  pair.fromServer('F.');
  pair.fromClient('.');
  const before = pair.id;
  expect(pair.state).toBe('TIME_WAIT');
  pair.clientNext = 900_000;
  expect(pair.fromClient('S')).toBe('new|trk');
  expect(pair.state).toBe('SYN_SENT');
  expect([pair.lab.table.size, pair.id === before]).toEqual([1, false]);
});

test('a SYN into an established connection is let through, and its SYN-ACK brings tracking into step', () => {
  const pair = new Pair();
  pair.open();
  pair.clientNext = 700_000;
  expect(pair.fromClient('S', '', { options: [{ kind: 'window-scale', shift: 7 }] })).toBe('est|trk');
  expect(pair.state).toBe('ESTABLISHED');
  pair.serverNext = 800_000;
  expect(pair.fromServer('S.', '', { options: [{ kind: 'window-scale', shift: 7 }] })).toBe('est|rpl|trk');
  expect(pair.state).toBe('SYN_RECV');
  expect(pair.fromClient('.')).toBe('est|trk');
  expect(pair.fromClient('.', 'x'.repeat(1000))).toBe('est|trk');
  expect(pair.state).toBe('ESTABLISHED');
});

test('a challenge to a SYN is not taken for the last acknowledgment', () => {
  const pair = new Pair();
  pair.open();
  pair.fromServer('F.');
  pair.fromClient('F.');
  expect(pair.state).toBe('LAST_ACK');
  const next = pair.clientNext;
  pair.clientNext = 600_000;
  expect(pair.fromClient('S')).toBe('est|trk');
  pair.clientNext = next;
  expect(pair.fromServer('.')).toBe('est|rpl|trk');
  expect(pair.state).toBe('LAST_ACK');
  expect(pair.fromServer('.')).toBe('est|rpl|trk');
  expect(pair.state).toBe('TIME_WAIT');
});

test('segments beyond the window of the receiver are invalid, a few bytes too many pass', () => {
  const pair = new Pair();
  expect(pair.fromClient('S', '', { window: 1000 })).toBe('new|trk');
  expect(pair.fromServer('S.', '', { window: 1000 })).toBe('est|rpl|trk');
  expect(pair.fromClient('.', '', { window: 1000 })).toBe('est|trk');
  const { clientNext } = pair;
  expect(pair.fromClient('.', 'x', { sequence: clientNext + 100_000, window: 1000 })).toBe('inv|trk');
  expect(pair.fromClient('.', 'x', { sequence: clientNext - 100_000, window: 1000 })).toBe('est|trk');
  // What nobody has sent cannot be acknowledged.
  expect(pair.fromClient('.', '', { acknowledgment: pair.serverNext + 5000, window: 1000 })).toBe('inv|trk');
  pair.clientNext = clientNext + 1001;
  expect(pair.fromClient('.', 'y'.repeat(100), { window: 1000 })).toBe('est|trk');
  expect(pair.fromServer('.', '', { window: 1000 })).toBe('est|rpl|trk');
});

test('liberal tracking calls no segment invalid for its sequence number', () => {
  const pair = new Pair({ isLiberal: true });
  pair.open();
  expect(pair.fromClient('.', 'x', { sequence: pair.clientNext + 10_000_000 })).toBe('est|trk');
  const action = new Pair();
  action.open();
  const far = { sequence: action.clientNext + 10_000_000, acknowledgment: action.serverNext };
  expect(action.lab.send(tcp(client, server, '.', far, 'x'), {}).state).toBe('inv|trk');
  // As openvswitch.ko: once the connection is established, an action makes it liberal.
  const near = { sequence: action.clientNext, acknowledgment: action.serverNext };
  expect(action.lab.send(tcp(client, server, '.', near), { liberal: true }).state).toBe('est|trk');
  expect(action.lab.send(tcp(client, server, '.', far, 'x'), {}).state).toBe('est|trk');
});

test('windows are scaled when both sides say so, and only then', () => {
  const scale = (shift: number): Partial<TcpRecord> => ({ window: 1000, options: [{ kind: 'window-scale', shift }] });
  const scaled = new Pair();
  scaled.fromClient('S', '', scale(4));
  scaled.fromServer('S.', '', scale(4));
  scaled.fromClient('.', '', { window: 1000 });
  scaled.fromServer('.', '', { window: 1000 });
  expect(scaled.fromClient('.', 'x', { sequence: scaled.clientNext + 15_000, window: 1000 })).toBe('est|trk');
  const plain = new Pair();
  plain.fromClient('S', '', scale(4));
  plain.fromServer('S.', '', { window: 1000 });
  plain.fromClient('.', '', { window: 1000 });
  plain.fromServer('.', '', { window: 1000 });
  expect(plain.fromClient('.', 'x', { sequence: plain.clientNext + 15_000, window: 1000 })).toBe('inv|trk');
});

test('what is acknowledged selectively must have been sent, too', () => {
  const pair = new Pair();
  pair.open();
  const block = (start: number): Partial<TcpRecord> => ({
    options: [{ kind: 'sack', blocks: [{ start, end: start + 100 }] }],
  });
  expect(pair.fromServer('.', '', block(pair.clientNext + 100_000))).toBe('inv|trk');
  pair.fromClient('.', 'x'.repeat(300));
  expect(pair.fromServer('.', '', { ...block(pair.clientNext - 100), acknowledgment: pair.clientNext - 300 })).toBe(
    'est|rpl|trk',
  );
});

test('an acknowledgment that is repeated again and again shortens the connection to five minutes', () => {
  const pair = new Pair();
  pair.open();
  for (let i = 0; i < 3; i += 1) pair.fromClient('.');
  expect(pair.seconds).toBe(300);
  expect(pair.lab.isAssured(pair.record)).toBe(true);
});

test('flags that no sender makes are invalid', () => {
  const pair = new Pair();
  for (const flags of ['', 'SF', 'SR', 'F', 'SF.', 'FR', 'U', 'P']) expect(pair.fromClient(flags)).toBe('inv|trk');
  expect(pair.lab.table.size).toBe(0);
});

test('a packet that passes tracking twice is counted once', () => {
  const { lab, ...pair } = new Pair();
  const frame = tcp(client, server, 'S', { sequence: pair.clientNext });
  const first = lab.send(frame);
  expect([first.state, lab.table.size]).toEqual(['new|trk', 0]);
  const second = lab.send(frame, commit, 0, first.tracked);
  expect([second.state, lab.table.size]).toEqual(['new|trk', 1]);
  lab.send(tcp(server, client, 'S.', { sequence: 1, acknowledgment: pair.clientNext + 1 }));
  const ack = tcp(client, server, '.', { sequence: pair.clientNext + 1, acknowledgment: 2 });
  const sent = lab.send(ack);
  for (let i = 0; i < 5; i += 1) lab.send(ack, {}, 0, sent.tracked);
  expect(lab.leftSeconds(sent.tracked.record)).toBe(432_000);
});

test('whatever both sides send, states are states of TCP, counts are right, and nothing is left in the end', () => {
  const segment = fc.record({
    fromClient: fc.boolean(),
    flags: fc.constantFrom('S', 'S.', '.', '.', 'P.', 'F.', 'R', 'R.', 'SF', ''),
    sequence: fc.oneof(fc.integer({ min: 990, max: 1100 }), fc.integer({ min: 0, max: 0xffff_ffff })),
    acknowledgment: fc.oneof(fc.integer({ min: 990, max: 1100 }), fc.integer({ min: 0, max: 0xffff_ffff })),
    window: fc.constantFrom(0, 1, 100, 65_535),
    length: fc.constantFrom(0, 0, 1, 20),
    port: fc.constantFrom(1, 2),
    waitMs: fc.constantFrom(0, 0, 0, 10_000, 100_000, 500_000_000),
    shift: fc.option(fc.integer({ min: 0, max: 14 })),
  });
  fc.assert(
    fc.property(fc.array(segment, { maxLength: 60 }), fc.boolean(), (segments, isLoose) => {
      const lab = new Lab(16, { isLoose });
      for (const { fromClient, flags, length, port, waitMs, shift, ...fields } of segments) {
        lab.nowMs += waitMs;
        // Times are known for 24 days: who is not swept for longer is taken for somebody of later.
        lab.table.sweep(16);
        const [a, b] = [end('10.0.0.1', port), server];
        const options: TcpRecord['options'] = shift === null ? [] : [{ kind: 'window-scale', shift }];
        const [from, to] = fromClient ? [a, b] : [b, a];
        const { state, tracked } = lab.send(tcp(from, to, flags, { ...fields, options }, 'x'.repeat(length)), commit);
        if (tracked.record !== 0) {
          expect(lab.stateOf(tracked.record)).toBeGreaterThan(TcpState.NONE);
          expect(lab.stateOf(tracked.record)).toBeLessThanOrEqual(TcpState.SYN_SENT2);
          expect(lab.leftSeconds(tracked.record)).toBeGreaterThan(0);
          expect(state).not.toContain('inv');
        }
        expect(lab.table.size).toBeLessThanOrEqual(4);
      }
      expect(lab.drain()).toEqual({ size: 0, zones: 0, ports: 0, index: 0 });
    }),
    { numRuns: 300 },
  );
});
