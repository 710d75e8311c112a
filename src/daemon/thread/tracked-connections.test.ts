/** What the control thread is told about connections: pages, flushes, limits, changes, and what people are told when there is no room. */
import { expect, test } from 'vitest';
import {
  ConnectionAction,
  ConnectionEvent,
  type ConnectionRequest,
  Connections,
  Tracked,
} from '../../connections/index.ts';
import { end, tcp, udp } from '../../connections/testing/frames.ts';
import { packetOf } from '../../connections/testing/lab.ts';
import { HeaderOffsets } from '../../net/index.ts';
import type { ConnectionFilterParams } from '../api.ts';
import { TrackedConnections } from './tracked-connections.ts';

class World {
  nowMs = 1_000_000;
  readonly connections: Connections;
  readonly tracked: TrackedConnections;
  readonly #headers = new HeaderOffsets();

  constructor(maximum = 60_000) {
    this.connections = new Connections({ nowMs: () => this.nowMs, maximum });
    this.tracked = new TrackedConnections(
      this.connections,
      () => this.nowMs,
      (port) => `p${port}`,
    );
  }

  /** @returns whether it may go on */
  send(frame: Uint8Array, request: ConnectionRequest = {}, port = 0): boolean {
    const packet = packetOf(frame);
    this.#headers.parse(packet);
    const action = new ConnectionAction(request);
    return this.connections.tracker.track(packet, this.#headers, action, new Tracked(), port) === 0;
  }

  /** UDP connections from 10.0.<i> to port 53. */
  fill(count: number, zoneOf: (i: number) => number = () => 0): void {
    for (let i = 0; i < count; i += 1) {
      this.send(udp(end(`10.0.${i >> 8}.${i & 255}`, 1000), end('192.0.2.9', 53)), { commit: true, zone: zoneOf(i) });
    }
  }

  /** All pages. */
  list(filter: ConnectionFilterParams, limit = 100) {
    const found: number[] = [];
    let pages = 0;
    for (let from = 1; from !== 0; pages += 1) {
      const page = this.tracked.page({ filter, from, limit });
      expect(page.connections.length).toBeLessThanOrEqual(limit);
      found.push(...page.connections.map(({ id }) => id));
      from = page.next;
    }
    return { found, pages };
  }
}

test('where nothing was tracked there is nothing, and no table is made to say so', () => {
  const { tracked, connections } = new World(500);
  expect(tracked.page({ filter: {}, from: 1, limit: 10 })).toEqual({ connections: [], next: 0 });
  expect(tracked.flush({}, 1)).toEqual({ ended: 0, next: 0 });
  expect(tracked.statistics(5)).toMatchObject({ connections: 0, maximum: 500, created: 0, zones: [], zonesInUse: 0 });
  expect([tracked.limits(), tracked.fill, tracked.tick(0)]).toEqual([{ default: null, zones: [] }, null, null]);
  tracked.setLimit(7, null);
  expect(connections.table).toBe(null);
});

test('a connection is told by names', () => {
  const world = new World();
  const source = { addresses: ['198.51.100.1', '198.51.100.1'], ports: [7, 7] } as const;
  const request = { commit: true, zone: 5, mark: { value: 9, mask: 15 }, nat: { source }, helper: 'ftp' } as const;
  world.send(tcp(end('10.0.0.1', 4000), end('192.0.2.9', 80), 'S'), request);
  expect(world.tracked.page({ filter: {}, from: 1, limit: 10 }).connections).toEqual([
    {
      id: 1,
      zone: 5,
      version: 4,
      protocol: 'tcp',
      state: 'SYN_SENT',
      flags: ['source-nat'],
      original: { source: '10.0.0.1', destination: '192.0.2.9', sourcePort: 4000, destinationPort: 80 },
      reply: { source: '192.0.2.9', destination: '198.51.100.1', sourcePort: 80, destinationPort: 7 },
      mark: 9,
      label: '0'.repeat(32),
      helper: 'ftp',
      expiresInSeconds: 120,
      parent: null,
    },
  ]);
});

test('pages are bounded by what they hold and by what they look at, and together hold each connection once', () => {
  const world = new World();
  world.fill(40_000, (i) => (i === 39_999 ? 1 : 0));
  expect(world.list({}, 1000)).toEqual({ found: Array.from({ length: 40_000 }, (_, i) => i + 1), pages: 40 });
  expect(world.list({ zone: 1 })).toEqual({ found: [40_000], pages: 3 });
  expect(world.list({ source: '10.0.1.0/24', protocol: 'udp' }).found.length).toBe(256);
});

test('a filter that cannot be is refused in words', () => {
  const { tracked } = new World();
  expect(() => tracked.page({ filter: { protocol: 'smoke' }, from: 1, limit: 1 })).toThrow(/no protocol "smoke"/);
  expect(() => tracked.flush({ source: 'here' }, 1)).toThrow(/neither an IPv4 nor an IPv6 address/);
});

test('a flush ends what the filter picks, a bounded number at a time', () => {
  const world = new World();
  world.fill(10_000, (i) => i % 2);
  let ended = 0;
  let steps = 0;
  for (let from = 1; from !== 0; steps += 1) {
    const step = world.tracked.flush({ zone: 1 }, from);
    expect(step.ended).toBeLessThanOrEqual(2048);
    ended += step.ended;
    from = step.next;
  }
  expect([ended, steps]).toEqual([5000, 3]);
  expect(world.tracked.statistics(5)).toMatchObject({
    connections: 5000,
    created: 10_000,
    ended: { expired: 0, closed: 0, flushed: 5000, replaced: 0, evicted: 0 },
    zones: [{ zone: 0, connections: 5000, unreplied: 5000, limit: null }],
    zonesInUse: 1,
  });
});

test('limits are set, told and taken back, and who is refused is told once in a while', () => {
  const world = new World();
  world.tracked.setLimit(null, 3);
  world.tracked.setLimit(5, 1);
  world.tracked.setLimit(6, 0);
  world.fill(20, (i) => 5 + (i % 3));
  expect(world.tracked.limits()).toEqual({
    default: 3,
    zones: [
      { zone: 5, limit: 1, connections: 1 },
      { zone: 6, limit: null, connections: 7 },
    ],
  });
  expect(world.tracked.statistics(5).refused).toMatchObject({ 'zone-limit': 9, 'table-full': 0 });
  expect(world.tracked.tick(0)).toBe(
    '9 new connections were refused because their zone has as many as it may (now at it: zone 5, 7); since the start zone 5 has lost most (millrace connections stats)',
  );
  world.fill(20, (i) => 5 + (i % 3));
  expect([world.tracked.tick(59_999), world.tracked.tick(60_000)]).toEqual([null, expect.stringContaining('refused')]);
  expect(world.tracked.tick(200_000)).toBe(null);
  world.tracked.setLimit(5, null);
  world.tracked.setLimit(null, null);
  expect(world.tracked.limits()).toEqual({ default: null, zones: [{ zone: 6, limit: null, connections: 7 }] });
});

test('a full table is told with what made room and what was refused', () => {
  const world = new World(64);
  world.fill(100);
  const told = world.tracked.tick(0) ?? '';
  expect(told).toMatch(/no room for more than 64: 40 that were not established made room for new ones, and 0 new/);
  // The last sixteenth is for others.
  expect(world.tracked.fill).toEqual({ connections: 60, maximum: 64 });
});

test('who watches is told what begins, changes and ends, from where he stopped', () => {
  const world = new World();
  const [a, b] = [end('10.0.0.1', 1000), end('192.0.2.9', 53)];
  world.send(udp(a, end('192.0.2.9', 1)), { commit: true });
  const begin = world.tracked.changes({}, null);
  expect(begin).toEqual({ changes: [], next: 0, lost: 0 });
  // As ovs-vswitchd commits: for whoever listens to it, answers are no events.
  world.send(udp(a, b), { commit: true, zone: 5, events: ConnectionEvent.NEW | ConnectionEvent.DESTROY });
  world.send(udp(b, a), { commit: true, zone: 5, mark: { value: 1, mask: 1 } });
  world.tracked.flush({ zone: 5 }, 1);
  const { changes, next, lost } = world.tracked.changes({}, begin.next);
  expect(changes.map(({ type, what }) => [type, what])).toEqual([
    ['new', []],
    ['changed', ['replied']],
    ['changed', ['mark']],
    ['ended', ['flushed']],
  ]);
  expect(changes[3]?.connection).toMatchObject({ id: 2, zone: 5, mark: 1, flags: ['replied'] });
  expect([next, lost]).toEqual([4, 0]);
  expect(world.tracked.changes({}, next)).toEqual({ changes: [], next: 4, lost: 0 });
  expect(world.tracked.changes({ zone: 9 }, 0)).toEqual({ changes: [], next: 4, lost: 0 });
});

test('who watches slowly loses the oldest changes, and is told how many', () => {
  const world = new World();
  const { next } = world.tracked.changes({}, null);
  world.fill(10_000);
  let seen = 0;
  let lost = 0;
  for (let after = next; after < 10_000; ) {
    const answer = world.tracked.changes({}, after);
    expect(answer.changes.length).toBeLessThanOrEqual(512);
    seen += answer.changes.length;
    lost += answer.lost;
    after = answer.next;
  }
  expect([seen, lost]).toEqual([8192, 1808]);
});

test('who does not ask for ten seconds is forgotten, and begins anew where things are then', () => {
  const world = new World();
  const { next } = world.tracked.changes({}, null);
  world.fill(3);
  world.nowMs += 10_001;
  world.tracked.tick(0);
  world.fill(5, () => 1);
  expect(world.tracked.changes({}, next)).toEqual({ changes: [], next: 3, lost: 3 });
  world.fill(1, () => 2);
  const { changes } = world.tracked.changes({}, 3);
  expect(changes.map(({ connection }) => connection.zone)).toEqual([2]);
  // A place of another daemon, far ahead, is where things are now.
  expect(world.tracked.changes({}, 1_000_000)).toEqual({ changes: [], next: 4, lost: 0 });
});

test('who has lost connections for want of room is told by zone and port, those with most first', () => {
  const world = new World(64);
  expect(world.tracked.statistics(5).pressure).toEqual([]);
  const flood = (count: number, zone: number, port: number) => {
    for (let i = 0; i < count; i += 1) {
      const frame = udp(end(`10.${port}.${i >> 8}.${i & 255}`, 1000), end('192.0.2.9', 53));
      world.send(frame, { commit: true, zone }, port);
    }
  };
  flood(100, 65_535, 3);
  world.tracked.setLimit(7, 1);
  flood(3, 7, 4);
  world.tracked.setLimit(8, 1);
  flood(2, 8, 0);
  expect(world.tracked.statistics(5).pressure).toEqual([
    { zone: 65_535, port: 'p3', evicted: 40, refused: 0 },
    { zone: 7, port: 4, evicted: 0, refused: 2 },
    { zone: 8, port: null, evicted: 0, refused: 1 },
  ]);
  expect(world.tracked.statistics(1).pressure.length).toBe(1);
  expect(world.tracked.tick(0)).toContain('since the start port p3, zone 65535 has lost most');
});
