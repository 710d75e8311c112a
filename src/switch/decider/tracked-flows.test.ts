/** Flows that go by connections: packets are tracked where they run, and what they carry is judged and counted as what comes through the switch. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fuzzRounds } from '../../flow/testing/frames.ts';
import { ACK, datagram, frameFor, ruleStates, SYN, saying, segment } from '../../flow/testing/talk.ts';
import { KnownConnections } from '../../flow/testing/tracking.ts';
import { Bench } from '../testing.ts';
import { defineDecider } from './define.ts';
import { Twins } from './testing/twins.ts';

const PORTS = [1, 2, 3];

/** Sends to host n by port n, and everything else to all. */
const wired = () =>
  defineDecider({
    descriptor: { name: 'wired', type: 'forwarding', version: '1.0.0' },
    create: () => ({
      decide(packet, decision) {
        for (const port of PORTS)
          if (packet.ethernet.destination.is(`02:00:00:00:00:0${port}`)) return decision.output(port);
        decision.flood();
      },
    }),
  });

function twins(): Twins {
  const pair = new Twins({}, true, (nowMs) => new KnownConnections(nowMs));
  pair.enable(wired());
  for (const port of PORTS) pair.addPort(port);
  return pair;
}

function setAcl(pair: Twins, portId: number, rules: readonly object[]): void {
  pair.set(portId, { type: 'acl', rules });
}

/** The guest behind port 1 may begin, and others may only answer. */
const GUEST = [
  { direction: 'in', action: 'allow', state: ['new', 'established'] },
  { direction: 'out', action: 'allow', state: ['established', 'related'] },
  { direction: 'in', action: 'deny', localIp: '0.0.0.0/0' },
  { direction: 'out', action: 'deny', remoteIp: '0.0.0.0/0' },
];

test('a port that only gets answers: what is established runs elsewhere, what others begin is denied', () => {
  const pair = twins();
  setAcl(pair, 1, GUEST);
  expect(pair.send(2, segment(2, 1, SYN, [4000, 80]))).toEqual([]);
  expect(pair.send(1, segment(1, 2, SYN, [4000, 80]))).toEqual([2]);
  expect(pair.send(2, segment(2, 1, SYN | ACK, [80, 4000]))).toEqual([1]);
  const before = pair.carried;
  for (let i = 0; i < 5; i += 1) {
    expect(pair.send(1, segment(1, 2, ACK, [4000, 80]))).toEqual([2]);
    expect(pair.send(2, segment(2, 1, ACK, [80, 4000]))).toEqual([1]);
  }
  expect(pair.carried - before).toBeGreaterThanOrEqual(8);
  pair.compare();
  expect(pair.quick.sw.drops(1).map(({ name, packets }) => [name, packets])).toEqual([['ACL_DENIED', 1]]);
});

test('what another port refuses on the way out begins no connection', () => {
  const pair = twins();
  setAcl(pair, 1, GUEST);
  setAcl(pair, 2, [{ direction: 'out', action: 'deny', protocol: 6, localPort: 25 }]);
  for (let i = 0; i < 2; i += 1) expect(pair.send(1, segment(1, 2, SYN, [4000, 25]))).toEqual([]);
  expect(pair.quick.tracking?.list()).toEqual([]);
  expect(pair.send(2, segment(2, 1, SYN | ACK, [25, 4000]))).toEqual([]);
  pair.compare();
});

test('packets between ports whose rules do not go by connections are not tracked', () => {
  const pair = twins();
  setAcl(pair, 1, GUEST);
  for (let i = 0; i < 3; i += 1) expect(pair.send(2, datagram(2, 3, [5000, 53]))).toEqual([3]);
  expect(pair.carried).toBe(2);
  expect(pair.quick.tracking?.list()).toEqual([]);
  pair.compare();
});

const aclRule = fc.record(
  {
    direction: fc.constantFrom('in', 'out'),
    action: fc.constantFrom('allow', 'deny', 'meter'),
    weight: fc.integer({ min: 0, max: 2 }),
    state: ruleStates,
    protocol: fc.option(fc.constantFrom(1, 6, 17), { nil: undefined }),
  },
  { requiredKeys: ['direction', 'action'] },
);

test('whatever hosts say and rules of ports are, flows elsewhere and packets that come by are judged alike', () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(aclRule, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 2 }),
      fc.array(saying, { minLength: 5, maxLength: 60 }),
      (acls, sayings) => {
        const pair = twins();
        for (const [i, rules] of acls.entries()) setAcl(pair, i + 1, JSON.parse(JSON.stringify(rules)));
        for (const one of sayings) if (one.from !== one.to) pair.send(one.from, frameFor(one));
        pair.compare();
      },
    ),
    { numRuns: fuzzRounds(25) },
  );
});

test('a port that floods with connections takes none from others', () => {
  const known = new KnownConnections(() => 1_000_000, 128);
  const { connections } = known;
  const bench = new Bench({ host: { nowMs: () => 1_000_000, log: () => {}, services: { connections } } });
  bench.sw.enableExtension(wired(), {}).result();
  for (const port of PORTS) bench.port(port);
  const rule = { direction: 'in', action: 'allow', state: ['new', 'established'] };
  bench.sw.setPortProperty(3, { type: 'acl', rules: [rule] }).result();
  for (let i = 0; i < 10; i += 1) {
    bench.receive(1, datagram(1, 3, [1000 + i, 53]));
    bench.receive(3, datagram(3, 1, [53, 1000 + i]));
  }
  for (let i = 0; i < 3000; i += 1) bench.receive(2, segment(2, 3, SYN, [10_000 + i, 80]));
  expect(known.list().filter((one) => one.includes('port 1:')).length).toBe(10);
  expect(known.list().length).toBeLessThanOrEqual(128);
});

test('a packet for whose connection there is no room is dropped by name, and the connections that are there stay', () => {
  let nowMs = 1_000_000;
  const known = new KnownConnections(() => nowMs, 64);
  const services = { connections: known.connections };
  const bench = new Bench({ host: { nowMs: () => nowMs, log: () => {}, services } });
  bench.sw.enableExtension(wired(), {}).result();
  for (const port of PORTS) bench.port(port);
  const rule = { direction: 'in', action: 'allow', state: ['new', 'established'] };
  bench.sw.setPortProperty(1, { type: 'acl', rules: [rule] }).result();
  // Both sides go on after some seconds: what speaks for so long is no flood, and stays.
  for (let round = 0; round < 2; round += 1) {
    for (let i = 0; i < 60; i += 1) {
      bench.receive(1, datagram(1, 3, [1000 + i, 53]));
      bench.receive(3, datagram(3, 1, [53, 1000 + i]));
    }
    nowMs += 3000;
  }
  bench.receive(1, datagram(1, 3, [4000, 53]));
  const kept = known.list();
  expect(kept.length).toBeGreaterThan(50);
  const refused = () => bench.sw.drops(3).find(({ name }) => name === 'CONNECTIONS_FULL')?.packets ?? 0;
  const before = refused();
  expect(before).toBeGreaterThan(0);
  bench.nicOf(3).take();
  bench.receive(1, datagram(1, 3, [5000, 53]));
  expect(refused()).toBe(before + 1);
  expect(bench.nicOf(3).take()).toEqual([]);
  expect(known.list()).toEqual(kept);
});
