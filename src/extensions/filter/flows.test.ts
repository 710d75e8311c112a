/** A filter in front of flows: its rules are part of them, and what they carry is judged and counted as if it had come through. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { KEY_WORDS, Word } from '../../flow/index.ts';
import { Gso, type Packet, toPortId } from '../../net/index.ts';
import { Twins } from '../../switch/decider/testing/twins.ts';
import { learningExtension } from '../learning/index.ts';
import { filterExtension } from './index.ts';

const HOSTS = [1, 2, 3] as const;

/** Host n is behind port n. */
function twins(configuration: unknown): Twins {
  const pair = new Twins();
  pair.enable(learningExtension);
  pair.enable(filterExtension, configuration);
  for (const port of HOSTS) pair.addPort(port);
  return pair;
}

interface Content {
  readonly type: number;
  readonly payload: readonly number[];
}

function frame(from: number, to: number, { type, payload }: Content, tci = -1): Uint8Array {
  const tag = tci === -1 ? [] : [0x81, 0, tci >> 8, tci & 255];
  const bytes = [2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, ...tag, type >> 8, type & 255, ...payload];
  while (bytes.length < 64) bytes.push(0);
  return Uint8Array.from(bytes);
}

const ports = (from: number, to: number) => [from >> 8, from & 255, to >> 8, to & 255];
const tcp = (from: number, to: number, flags = 0x10, offset = 0x50) => [
  ...ports(from, to),
  ...[0, 0, 0, 0, 0, 0, 0, 0, offset, flags, 0, 0, 0, 0, 0, 0],
];
const udp = (from: number, to: number, length = 8) => [...ports(from, to), 0, length, 0, 0];

/** An IPv4 packet between hosts' addresses; `lie` is added to its total length. */
function ipv4(from: number, to: number, protocol: number, rest: readonly number[], fragment = 0, lie = 0): Content {
  const length = 20 + rest.length + lie;
  const head = [0x45, 0, length >> 8, length & 255, 0, 0, fragment >> 8, fragment & 255, 64, protocol, 0, 0];
  return { type: 0x0800, payload: [...head, 10, 0, 0, from, 10, 0, 0, to, ...rest] };
}

/** An IPv6 packet between fd00::from and fd00::to. */
function ipv6(from: number, to: number, next: number, rest: readonly number[], lie = 0): Content {
  const address = (host: number) => [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host];
  const length = rest.length + lie;
  return { type: 0x86dd, payload: [0x60, 0, 0, 0, 0, length, next, 64, ...address(from), ...address(to), ...rest] };
}

type Make = (from: number, to: number) => Content;
const contents: readonly Make[] = [
  (from, to) => ipv4(from, to, 6, tcp(1000, 80)),
  (from, to) => ipv4(from, to, 6, tcp(1000, 22)),
  (from, to) => ipv4(from, to, 6, tcp(1000, 22, 2)),
  (from, to) => ipv4(from, to, 6, tcp(1000, 80, 2)),
  (from, to) => ipv4(9, to, 6, tcp(from, 80)),
  (from, to) => ipv4(from, to, 6, tcp(1000, 80), 0, 40),
  (from, to) => ipv4(from, to, 6, tcp(1000, 80), 0, -10),
  (from, to) => ipv4(from, to, 6, tcp(1000, 80, 0x10, 0xf0)),
  (from, to) => ipv4(from, to, 17, udp(1000, 53)),
  (from, to) => ipv4(from, to, 17, udp(1000, 53, 200)),
  (from, to) => ipv4(from, to, 17, udp(1000, 53), 0x2000),
  (from, to) => ipv4(from, to, 17, udp(1000, 53), 7),
  (from, to) => ipv4(from, to, 1, [8, 0, 0, 0, 0, 0, 0, 0]),
  (from, to) => ipv4(from, to, 1, [8, 0, 0, 0]),
  (from, to) => ipv4(from, to, 47, [0, 0, 8, 0]),
  (from, to) => ipv6(from, to, 6, tcp(1000, 80)),
  (from, to) => ipv6(from, to, 6, tcp(1000, 22)),
  (from, to) => ipv6(from, to, 6, tcp(1000, 80), 90),
  (from, to) => ipv6(from, to, 0, [6, 0, 1, 4, 0, 0, 0, 0, ...tcp(1000, 22)]),
  (from, to) => ipv6(from, to, 44, [6, 0, 0, 0, 0, 0, 0, 0, ...tcp(1000, 22)]),
  (from, to) => ipv6(from, to, 58, [135, 0, 0, 0, 0, 0, 0, 0]),
  (from, to) => ({
    type: 0x0806,
    payload: [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, from, 10, 0, 0, from, 0, 0, 0, 0, 0, 0, 10, 0, 0, to],
  }),
  () => ({ type: 0x88b5, payload: [] }),
  () => ({ type: 30, payload: [0xaa, 0xaa, 3, 0, 0, 0, 8, 0, 0x45] }),
  (from, to) => ipv4(from, to, 6, tcp(2000, 22)),
  (from, to) => ipv4(from, to, 6, tcp(2000, 80)),
  (from, to) => ipv4(from, to, 17, udp(2000, 53)),
];

/** Everybody talks to everybody, so that there are flows wherever there may be. */
function talk(pair: Twins, makes: readonly Make[], tci = -1): void {
  for (let round = 0; round < 3; round += 1) {
    for (const make of makes) {
      for (const from of HOSTS) {
        for (const to of HOSTS) if (from !== to) pair.send(from, frame(from, to, make(from, to), tci));
      }
    }
  }
}

const noSsh = { name: 'no-ssh', action: 'drop', protocol: 'tcp', destinationPort: 22 };

test('packets that a rule drops end in flows, those that none drops go by them, and the rules count both', () => {
  for (const direction of ['in', 'out', 'both']) {
    const pair = twins({
      rules: [
        { name: 'tcp', action: 'count', protocol: 'tcp' },
        { ...noSsh, direction },
      ],
    });
    talk(pair, contents);
    expect(pair.carried).toBeGreaterThan(80);
    expect(pair.dropped).toBeGreaterThan(15);
    // TCP to port 22 over IPv4 and IPv6, from three hosts; on their way out to two others each.
    expect(pair.dropFlows).toBe(direction === 'out' ? 12 : 6);
    pair.compare();
    pair.both((sw) => void sw.extensionCommand('filter', 'reset', null));
    expect(pair.flows).toBe(0);
    talk(pair, contents);
    pair.compare();
  }
});

test('without rules, or with rules on Ethernet alone, one flow serves all that two hosts say', () => {
  const web: readonly Make[] = [contents[0], contents[1], contents[8]];
  const plain = twins({ rules: [{ name: 'arp', action: 'drop', etherType: 'arp' }] });
  talk(plain, web);
  expect(plain.flows).toBe(6);
  const deep = twins({ rules: [noSsh] });
  talk(deep, web);
  // Two destination ports of TCP, of which one is dropped wherever it goes, and UDP.
  expect([deep.flows, deep.dropFlows]).toEqual([15, 3]);
  deep.compare();
});

test('new rules hold at once, for what flows carried too', () => {
  const pair = twins({});
  const web = [contents[0]];
  talk(pair, web);
  expect(pair.flows).toBe(6);
  const replace = (args: object) => pair.both((sw) => void sw.extensionCommand('filter', 'replace', { ...args }));
  replace({ rules: [{ name: 'no-web', action: 'drop', protocol: 'tcp', destinationPort: 80 }] });
  expect(pair.flows).toBe(0);
  talk(pair, web);
  expect([pair.flows, pair.dropFlows]).toEqual([3, 3]);
  replace({ default: 'drop', rules: [{ name: 'web', action: 'allow', protocol: 'tcp', destinationPort: 80 }] });
  talk(pair, web);
  expect(pair.flows).toBe(6);
  pair.compare();
});

test('fragments come up where headers decide: a key takes some for others', () => {
  const whole = { name: 'fragments', action: 'allow', fragment: 'yes' };
  const pair = twins({ default: 'drop', rules: [whole, { name: 'reply', action: 'allow', icmpType: 0 }] });
  const datagram = udp(1000, 53);
  const reply = frame(1, 2, ipv4(1, 2, 1, [0, 0, 0, 0, 0, 0, 0, 0]));
  // Four bytes of ICMP, and nothing behind them.
  const short = frame(1, 2, ipv4(1, 2, 1, [8, 0, 0, 0])).subarray(0, 38);
  pair.send(1, frame(1, 2, ipv4(1, 2, 17, datagram, 0x2000)));
  pair.send(2, frame(2, 1, ipv4(2, 1, 17, datagram, 0x2000)));
  for (let i = 0; i < 3; i += 1) {
    expect(pair.send(1, frame(1, 2, ipv4(1, 2, 17, datagram, 0x2000)))).toEqual([2]);
    expect(pair.send(1, reply)).toEqual([2]);
    expect(pair.send(1, short)).toEqual([]);
    // A super-packet that is to become fragments is none yet.
    const isToBeCut = (packet: Packet) => {
      packet.gsoType = Gso.UDP;
      packet.gsoSizeBytes = 8;
    };
    expect(pair.send(1, frame(1, 2, ipv4(1, 2, 17, datagram)), isToBeCut)).toEqual([]);
  }
  // Answers of ICMP alone are told by a key.
  expect([pair.flows, pair.carried]).toEqual([1, 2]);
  pair.compare();
});

test.each(['in', 'out'])(
  'a flood of what a rule drops, direction %s, takes nothing from flows that forward',
  (direction) => {
    const pair = new Twins();
    pair.enable(learningExtension, { flows: { maximum: 40 } });
    pair.enable(filterExtension, {
      rules: [{ name: 'no-discard', action: 'drop', protocol: 'udp', sourcePort: '0-65000', direction }],
    });
    for (const port of HOSTS) pair.addPort(port);
    for (const from of HOSTS) pair.send(from, frame(from, 255, contents[0](from, 255)));
    for (let i = 0; i < 22_000; i += 1) pair.send(1, frame(1, 2, ipv4(1, 2, 17, udp(i, 9))));
    // A quarter of what there may be of the others, on top.
    expect(pair.dropFlows).toBeLessThanOrEqual(10);
    const { flows } = pair;
    pair.send(1, frame(1, 3, contents[0](1, 3)));
    expect(pair.flows).toBe(flows + 1);
    // Between the same two, in the midst of the flood.
    for (let i = 0; i < 100; i += 1) pair.send(1, frame(1, 2, contents[0](1, 2)));
    expect(pair.flows).toBe(flows + 2);
    pair.compare();
  },
);

test('what access control excludes on its way up the filter counts on its way down alone', () => {
  const count = { name: 'tcp', action: 'count', protocol: 'tcp' };
  const pair = twins({ rules: [count, { name: 'no-dns', action: 'drop', protocol: 'udp', direction: 'out' }] });
  const rules = [{ direction: 'out' as const, action: 'deny' as const, protocol: 6 }];
  pair.set(2, { type: 'acl', rules });
  talk(pair, [contents[0], contents[8]]);
  // TCP to host 2, and UDP to everybody.
  expect(pair.dropFlows).toBe(2 + 6);
  expect(pair.dropped).toBeGreaterThan(8);
  pair.compare();
});

test('a flood from all ports to one that is denied is one flow', () => {
  const pair = twins({
    rules: [{ name: 'no-dns', action: 'drop', protocol: 'udp', destinationPort: 53, direction: 'in' }],
  });
  for (let port = 1; port < 500; port += 1) pair.send(1, frame(1, 2, ipv4(port, 2, 17, udp(port, 53))));
  expect([pair.flows, pair.dropFlows, pair.dropped]).toEqual([1, 1, 498]);
  pair.compare();
});

const field = fc.constantFrom<object>(
  { protocol: 'tcp' },
  { protocol: 'udp', destinationPort: 53 },
  { protocol: 'tcp', destinationPort: [22, '443-500'] },
  { protocol: 'tcp', tcpFlags: 'syn !ack' },
  { protocol: 'udp', sourcePort: 2000 },
  { protocol: 'tcp', sourcePort: '1-1500', destinationPort: 22 },
  { sourceIp: '10.0.0.1' },
  { destinationIp: '10.0.0.2/31' },
  { destinationIp: 'fd00::2' },
  { etherType: 'ipv6' },
  { etherType: 'arp' },
  { fragment: 'yes' },
  { fragment: 'no' },
  { icmpType: 8 },
  { vlan: 5 },
  { sourceMac: '02:00:00:00:00:01' },
  { destinationMac: '02:00:00:00:00:02/00:00:00:00:00:02' },
  { ports: ['p1'] },
  { ports: ['p2', 'p3'] },
  { ports: ['late'] },
);
const rule = fc.record({
  fields: fc.array(field, { maxLength: 2 }),
  action: fc.constantFrom('allow', 'drop', 'count'),
  direction: fc.constantFrom('in', 'out', 'both'),
});
const configuration = fc
  .record({ rules: fc.array(rule, { maxLength: 4 }), default: fc.constantFrom('allow', 'allow', 'drop') })
  .map(({ rules, ...rest }) => ({
    ...rest,
    rules: rules.map(({ fields, ...one }, number) => ({ name: `r${number}`, ...one, ...Object.assign({}, ...fields) })),
  }));

test('whatever the rules, a filter with flows judges and counts as one without', () => {
  let carried = 0;
  let dropped = 0;
  const some = fc.subarray([...contents], { minLength: 2, maxLength: 5 });
  const step = fc.oneof(
    configuration.map(
      (rules) => (pair: Twins) => pair.both((sw) => void sw.extensionCommand('filter', 'replace', rules)),
    ),
    fc
      .constantFrom('late', 'p1', 'other')
      .map((name) => (pair: Twins) => pair.both((sw) => sw.updatePort(3, { name }).result())),
    fc.constant((pair: Twins) => pair.both((sw) => void sw.extensionCommand('filter', 'reset', null))),
    fc
      .constantFrom<readonly ['in' | 'out', number]>(['in', 22], ['in', 80], ['out', 22], ['out', 2000])
      .map(([direction, remotePort]) => (pair: Twins) => {
        const rules = [{ direction, action: 'deny' as const, protocol: 6, remotePort }];
        pair.set(2, { type: 'acl', rules });
      }),
    fc.constant((pair: Twins) => pair.unset(2, 'acl')),
    fc.integer({ min: 500, max: 15_000 }).map((ms) => (pair: Twins) => pair.advance(ms)),
  );
  fc.assert(
    fc.property(some, fc.constantFrom(-1, 5), fc.array(step, { minLength: 1, maxLength: 6 }), (makes, tci, steps) => {
      const pair = twins({});
      talk(pair, makes, tci);
      for (const run of steps) {
        try {
          run(pair);
        } catch (error) {
          // Rules that can never match are refused by both.
          if (!(error instanceof Error) || error.name === 'AssertionError') throw error;
        }
        talk(pair, makes, tci);
      }
      pair.compare();
      carried += pair.carried;
      dropped += pair.dropped;
    }),
    { numRuns: Number(process.env.MILLRACE_FUZZ ?? 60) },
  );
  expect(carried).toBeGreaterThan(1000);
  expect(dropped).toBeGreaterThan(100);
});

/** How many flows drop because of a rule. */
function denied(pair: Twins): number {
  const { source } = pair.carrier;
  let count = 0;
  for (let slot = source?.table.next(0) ?? -1; slot !== -1; slot = source?.table.next(slot + 1) ?? -1)
    if (source?.describe?.(slot).drop?.startsWith('filter:') === true) count += 1;
  return count;
}

test('what was dropped before a restart is dropped by the same flows behind it, if rules still say so', () => {
  const rules = { rules: [noSsh] };
  const before = twins(rules);
  talk(before, contents);
  const table = before.carrier.source?.table;
  if (table === undefined) throw new Error('nobody offers flows');
  const recalled = (configuration: unknown): number => {
    const after = twins(configuration);
    for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1)) {
      const key = new Uint32Array(KEY_WORDS);
      table.readKey(slot, key);
      if (table.actionsOf(slot).length > 0) continue;
      after.carrier.source?.recall?.({ portId: toPortId(key[Word.IN_PORT]), outputPortIds: [], key });
    }
    expect(after.dropFlows).toBe(after.flows);
    const recalledFlows = denied(after);
    talk(after, contents);
    after.compare();
    expect(denied(after)).toBe(recalledFlows);
    return recalledFlows;
  };
  expect(before.dropFlows).toBe(6);
  expect(recalled(rules)).toBe(6);
  expect(recalled({})).toBe(0);
});
