/** Rules that go by connections: who may begin one, who may only answer, and that it does not matter where packets run. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { packetOf, udp } from '../../flow/testing/frames.ts';
import {
  ACK,
  datagram,
  frameFor,
  frameOf,
  ip,
  ruleStates,
  SYN,
  saying,
  segment,
  unreachable,
} from '../../flow/testing/talk.ts';
import { KnownConnections } from '../../flow/testing/tracking.ts';
import { fuzzRounds } from '../../net/wire/testing.ts';
import { Twins } from '../../switch/decider/testing/twins.ts';
import type { ExtensionFactory } from '../../switch/index.ts';
import { extension, passing } from '../../switch/testing.ts';
import { learningExtension } from '../learning/index.ts';
import { filterExtension } from './index.ts';

/** Host n is behind port n, and has the address 10.0.0.n. */
const [INSIDE, OUTSIDE, OTHER] = [1, 2, 3];
const HOSTS = [INSIDE, OUTSIDE, OTHER];

const FIREWALL = {
  default: 'drop',
  rules: [
    { name: 'broken', action: 'drop', state: ['invalid'] },
    { name: 'known', action: 'allow', state: ['established', 'related'] },
    { name: 'begin', action: 'allow', state: ['new'], direction: 'in', ports: ['p1'] },
    { name: 'begin-out', action: 'allow', state: ['new'], direction: 'out', ports: ['p2'] },
  ],
};

function twins(configuration: unknown, ...between: ExtensionFactory[]): Twins {
  const pair = new Twins({}, true, (nowMs) => new KnownConnections(nowMs));
  pair.enable(learningExtension);
  for (const port of HOSTS) pair.addPort(port);
  // Everybody is known, so that nothing is flooded.
  for (const host of HOSTS) pair.send(host, frameOf(host, 255, [0x88, 0xb5]));
  for (const one of between) pair.enable(one);
  pair.enable(filterExtension, configuration);
  return pair;
}

const PORTS = [4000, 80] as const;
const BACK = [80, 4000] as const;
const states = (pair: Twins): unknown =>
  (pair.quick.sw.extensionStatus('filter') as { rules: { name: string; packets: number }[] }).rules.map(
    ({ name, packets }) => `${name} ${packets}`,
  );

test('whoever is inside may begin, whoever is outside may only answer, and what is established runs elsewhere', () => {
  const pair = twins(FIREWALL);
  expect(pair.send(OUTSIDE, segment(OUTSIDE, INSIDE, SYN, PORTS))).toEqual([]);
  expect(pair.send(INSIDE, segment(INSIDE, OUTSIDE, SYN, PORTS))).toEqual([OUTSIDE]);
  expect(pair.send(OUTSIDE, segment(OUTSIDE, INSIDE, SYN | ACK, BACK))).toEqual([INSIDE]);
  const before = pair.carried;
  for (let i = 0; i < 5; i += 1) {
    expect(pair.send(INSIDE, segment(INSIDE, OUTSIDE, ACK, PORTS))).toEqual([OUTSIDE]);
    expect(pair.send(OUTSIDE, segment(OUTSIDE, INSIDE, ACK, BACK))).toEqual([INSIDE]);
  }
  // The first of each direction came up, and the rest did not.
  expect(pair.carried - before).toBeGreaterThanOrEqual(8);
  expect(pair.send(OUTSIDE, segment(OUTSIDE, INSIDE, SYN, [81, 4000]))).toEqual([]);
  expect(pair.send(OUTSIDE, segment(OUTSIDE, OTHER, SYN, PORTS))).toEqual([]);
  pair.compare();
});

test('an error about a connection is related, one about nothing is invalid, and so is a fragment', () => {
  const pair = twins(FIREWALL);
  const question = datagram(INSIDE, OUTSIDE, [5000, 53]);
  expect(pair.send(OUTSIDE, unreachable(OUTSIDE, INSIDE, question))).toEqual([]);
  expect(pair.send(INSIDE, question)).toEqual([OUTSIDE]);
  expect(pair.send(OUTSIDE, unreachable(OUTSIDE, INSIDE, question))).toEqual([INSIDE]);
  const piece = ip(INSIDE, OUTSIDE, 17, udp({ src: 5000, dst: 53 }), 0x2000);
  expect(pair.send(INSIDE, piece)).toEqual([]);
  expect(states(pair)).toContain('broken 2');
  pair.compare();
});

test('a connection that FTP announces is related, and one that it does not is new', () => {
  const pair = twins(FIREWALL);
  const control = [4000, 21] as const;
  pair.send(INSIDE, segment(INSIDE, OUTSIDE, SYN, control));
  pair.send(OUTSIDE, segment(OUTSIDE, INSIDE, SYN | ACK, [21, 4000]));
  pair.send(INSIDE, segment(INSIDE, OUTSIDE, ACK, control));
  expect(pair.send(OUTSIDE, segment(OUTSIDE, INSIDE, SYN, [20, 1025]))).toEqual([]);
  pair.send(INSIDE, segment(INSIDE, OUTSIDE, ACK, control, 'PORT 10,0,0,1,4,1\r\n'));
  expect(pair.send(OUTSIDE, segment(OUTSIDE, INSIDE, SYN, [20, 1026]))).toEqual([]);
  expect(pair.send(OUTSIDE, segment(OUTSIDE, INSIDE, SYN, [20, 1025]))).toEqual([INSIDE]);
  expect(pair.send(INSIDE, segment(INSIDE, OUTSIDE, SYN | ACK, [1025, 20]))).toEqual([OUTSIDE]);
  pair.compare();
});

test('a connection is kept when its first packet goes out, and not when a rule on the way out refuses it', () => {
  const pair = twins({
    default: 'drop',
    rules: [
      { name: 'known', action: 'allow', state: ['established'] },
      { name: 'begin', action: 'allow', state: ['new'], direction: 'in', ports: ['p1'] },
      { name: 'only-web', action: 'allow', direction: 'out', ports: ['p2'], protocol: 'tcp', destinationPort: 80 },
    ],
  });
  expect(pair.send(INSIDE, segment(INSIDE, OUTSIDE, SYN, [4000, 25]))).toEqual([]);
  expect(pair.send(OUTSIDE, segment(OUTSIDE, INSIDE, SYN | ACK, [25, 4000]))).toEqual([]);
  expect(pair.quick.tracking?.list()).toEqual([]);
  expect(pair.send(INSIDE, segment(INSIDE, OUTSIDE, SYN, PORTS))).toEqual([OUTSIDE]);
  expect(pair.quick.tracking?.list().length).toBe(1);
  pair.compare();
});

test('without a rule that goes by them nothing is tracked, and rules come and go while packets do', () => {
  const pair = twins({});
  const replace = (args: object) => pair.both((sw) => void sw.extensionCommand('filter', 'replace', { ...args }));
  expect(pair.send(INSIDE, segment(INSIDE, OUTSIDE, SYN, PORTS))).toEqual([OUTSIDE]);
  expect(pair.quick.tracking?.list()).toEqual([]);
  replace(FIREWALL);
  expect(pair.send(INSIDE, segment(INSIDE, OUTSIDE, SYN, PORTS))).toEqual([OUTSIDE]);
  expect(pair.send(OUTSIDE, segment(OUTSIDE, INSIDE, SYN | ACK, BACK))).toEqual([INSIDE]);
  for (let i = 0; i < 3; i += 1) pair.send(INSIDE, segment(INSIDE, OUTSIDE, ACK, PORTS));
  replace({ rules: [] });
  expect(pair.send(OUTSIDE, segment(OUTSIDE, INSIDE, SYN, [9, 9]))).toEqual([INSIDE]);
  replace(FIREWALL);
  // What was known is known still.
  expect(pair.send(OUTSIDE, segment(OUTSIDE, INSIDE, ACK, BACK))).toEqual([INSIDE]);
  expect(pair.send(OUTSIDE, segment(OUTSIDE, INSIDE, SYN, [9, 9]))).toEqual([]);
  pair.compare();
});

test('a trace tells the state and the rule, and changes nothing', () => {
  const pair = twins(FIREWALL);
  const trace = (port: number, frame: Uint8Array) => {
    const packet = packetOf(frame);
    const steps = pair.quick.sw.trace(packet, port).map(({ stage, text }) => `${stage}: ${text}`);
    packet.release();
    return steps;
  };
  const first = trace(INSIDE, segment(INSIDE, OUTSIDE, SYN, PORTS));
  expect(first).toContain('ingress: its connection is new');
  expect(first.join('\n')).toContain('rule 3 "begin" matches: allow');
  expect(pair.quick.tracking?.list()).toEqual([]);
  pair.send(INSIDE, segment(INSIDE, OUTSIDE, SYN, PORTS));
  const answer = trace(OUTSIDE, segment(OUTSIDE, INSIDE, SYN | ACK, BACK)).join('\n');
  expect(answer).toContain('ingress: its connection is established');
  expect(answer).toContain('rule 2 "known" matches: allow');
  pair.compare();
});

const rule = fc.record(
  {
    action: fc.constantFrom('allow', 'drop', 'count'),
    state: ruleStates,
    direction: fc.constantFrom('in', 'out', 'both'),
    ports: fc.option(fc.uniqueArray(fc.constantFrom('p1', 'p2', 'p3'), { minLength: 1 }), { nil: undefined }),
    protocol: fc.option(fc.constantFrom('tcp', 'udp', 'icmp'), { nil: undefined }),
  },
  { requiredKeys: ['action'] },
);

test.each([false, true])(
  'whatever hosts say and rules are, it is decided alike from flows, from flows elsewhere and afresh (by itself in the stack: %s)',
  (isAlone) => {
    fc.assert(
      fc.property(
        fc.constantFrom('allow', 'drop'),
        fc.array(rule, { minLength: 1, maxLength: 4 }),
        fc.array(saying, { minLength: 5, maxLength: 60 }),
        (byDefault, rules, sayings) => {
          const named = rules.map((one, i) => ({ name: `r${i}`, ...JSON.parse(JSON.stringify(one)) }));
          // With somebody who sees packets between, the filter has flows of its own.
          const between = isAlone
            ? [extension('between', 'filtering', (handle) => ({ ...passing(handle), passByPort: () => true })).factory]
            : [];
          const pair = twins({ default: byDefault, rules: named }, ...between);
          for (const one of sayings) if (one.from !== one.to) pair.send(one.from, frameFor(one));
          pair.compare();
        },
      ),
      { numRuns: fuzzRounds(25) },
    );
  },
);
