/** Flows of ports with policies: what is carried elsewhere is judged, tagged and counted as what comes through the switch. */
import { expect, test } from 'vitest';
import { RandomState, randomDecider } from '../../decide/testing/random-decider.ts';
import { ethernet, fuzzRounds, ipv4, tcp, udp } from '../../flow/testing/frames.ts';
import { type FrameKind, hostileFrame, randomFrame, randomKind } from '../../offload/testing/frames.ts';
import { RandomSource, runSeed } from '../../offload/testing/random.ts';
import type { PortPropertyType } from '../control/properties.ts';
import type { ExtensionFactory } from '../extension.ts';
import { randomProperty, settle } from '../policies/testing.ts';
import { extension, passing } from '../testing.ts';
import { defineDecider } from './define.ts';
import { isAdmitted } from './testing/admitted.ts';
import { type Twins, twins } from './testing/twins.ts';

const PORTS = [1, 2, 3, 4];

const frame = (source: string, port = 80) =>
  Uint8Array.from(ethernet(0x0800, ipv4(6, tcp({ dst: port }), { src: source })));

/** Sends everything to all others. */
const hub = (): ExtensionFactory =>
  defineDecider({
    descriptor: { name: 'hub', type: 'forwarding', version: '1.0.0' },
    create: () => ({ decide: (_, decision) => decision.flood() }),
  });

/** Rules and how often they were hit, on both sides. */
function hits(pair: Twins, portId: number, bytes = true, where = ''): unknown {
  const [quick, plain] = [pair.quick, pair.plain].map(({ sw }) => {
    const { in: inward, out } = sw.featureStatus('acl', portId).result() as Record<string, { packets: number }[]>;
    return bytes ? { in: inward, out } : { in: inward.map((one) => one.packets), out: out.map((one) => one.packets) };
  });
  expect(quick, where).toEqual(plain);
  return quick;
}

/** What is said of flows that drop. */
function drops(pair: Twins): (string | null | undefined)[] {
  const { source } = pair.carrier;
  const found: (string | null | undefined)[] = [];
  if (source === null) return found;
  for (let slot = source.table.next(0); slot !== -1; slot = source.table.next(slot + 1))
    found.push(source.describe?.(slot).drop);
  return found;
}

test('denied packets are dropped elsewhere and counted at their port, rules with them', () => {
  const pair = twins(hub());
  pair.set(1, {
    type: 'acl',
    rules: [
      { direction: 'in', action: 'meter' },
      { direction: 'in', action: 'deny', localIp: '10.1.0.0/16' },
    ],
  });
  for (let i = 0; i < 3; i += 1) {
    expect(pair.send(1, frame('10.1.2.3'))).toEqual([]);
    expect(pair.send(1, frame('10.2.2.3'))).toEqual([2, 3, 4]);
  }
  expect([pair.carried, pair.dropped]).toEqual([4, 2]);
  expect(drops(pair)).toContain('port policies:ACL_DENIED');
  expect(hits(pair, 1)).toMatchObject({ in: [{ packets: 6 }, { packets: 3 }] });
  pair.compare();
  expect(pair.quick.sw.drops(1).map(({ name, packets }) => [name, packets])).toEqual([['ACL_DENIED', 3]]);
});

test('a change of rules ends what rests on them, and no flow of another port', () => {
  const pair = twins(hub());
  const acl = (port: number) => ({ type: 'acl', rules: [{ direction: 'in', action: 'deny', remotePort: port }] });
  pair.set(1, acl(80));
  pair.set(2, acl(80));
  for (const port of [1, 2]) {
    expect(pair.send(port, frame('10.0.0.1', 80))).toEqual([]);
    expect(pair.send(port, frame('10.0.0.1', 81))).toEqual(PORTS.filter((other) => other !== port));
  }
  expect(pair.flows).toBe(4);
  pair.set(1, acl(81));
  // One of the flows from port 2 goes to port 1, whose rules are others now; that which goes nowhere does not rest on it.
  expect(pair.flows).toBe(1);
  expect(pair.send(1, frame('10.0.0.1', 80))).toEqual([2, 3, 4]);
  expect(pair.send(1, frame('10.0.0.1', 81))).toEqual([]);
  pair.compare();
});

test('who refuses an output counts it, also when no other output is left', () => {
  const pair = twins(hub());
  pair.set(2, { type: 'acl', rules: [{ direction: 'out', action: 'deny', localPort: 22 }] });
  pair.set(3, { type: 'vlan', mode: 'access', vlanId: 7 });
  pair.set(4, { type: 'vlan', mode: 'access', vlanId: 7 });
  for (let i = 0; i < 3; i += 1) expect(pair.send(1, frame('10.0.0.1', 22))).toEqual([]);
  expect(pair.carried).toBe(2);
  pair.compare();
  expect(pair.quick.sw.drops(2).map(({ name, packets }) => [name, packets])).toEqual([['ACL_DENIED', 3]]);
  expect(pair.quick.sw.drops(3).map(({ name, packets }) => [name, packets])).toEqual([['VLAN_NOT_ALLOWED', 3]]);
});

test('tags are put in and taken out on the way, for each port as its policy says', () => {
  const pair = twins(hub());
  pair.set(1, { type: 'vlan', mode: 'access', vlanId: 5 });
  pair.set(2, { type: 'vlan', mode: 'access', vlanId: 5 });
  pair.set(3, { type: 'vlan', mode: 'trunk', nativeVlanId: 9 });
  pair.set(4, { type: 'vlan', mode: 'trunk', nativeVlanId: 5 });
  for (let i = 0; i < 2; i += 1) expect(pair.send(1, frame('10.0.0.1'))).toEqual([2, 3, 4]);
  const tagged = Uint8Array.from([
    ...frame('10.0.0.1').subarray(0, 12),
    0x81,
    0,
    0,
    5,
    ...frame('10.0.0.1').subarray(12),
  ]);
  for (let i = 0; i < 2; i += 1) expect(pair.send(3, tagged)).toEqual([1, 2, 4]);
  expect(pair.carried).toBe(2);
  pair.compare();
});

test('guards, and sources that are not who they say they are', () => {
  const pair = twins(hub());
  pair.set(1, { type: 'guard', dhcp: true, router: true });
  pair.set(2, { type: 'security', macAddresses: ['02:00:00:00:00:09'] });
  const offer = Uint8Array.from(ethernet(0x0800, ipv4(17, udp({ src: 67, dst: 68 }))));
  for (let i = 0; i < 2; i += 1) {
    expect(pair.send(1, offer)).toEqual([]);
    expect(pair.send(2, frame('10.0.0.1'))).toEqual([]);
  }
  expect(pair.dropped).toBe(2);
  expect(drops(pair).sort()).toEqual(['port policies:DHCP_GUARD', 'port policies:MAC_SPOOFED']);
  pair.compare();
});

test('an address that is not bound is refused until it is, and what a server gave ends with it', () => {
  const pair = twins(hub());
  pair.set(1, { type: 'binding', addresses: [{ ip: '10.0.0.0/24' }], dhcp: true, nd: false });
  for (let i = 0; i < 2; i += 1) {
    expect(pair.send(1, frame('10.0.0.1'))).toEqual([2, 3, 4]);
    expect(pair.send(1, frame('10.9.0.1'))).toEqual([]);
  }
  expect(pair.carried).toBe(2);
  pair.set(1, { type: 'binding', addresses: [{ ip: '10.9.0.0/24' }], dhcp: true, nd: false });
  expect(pair.send(1, frame('10.0.0.1'))).toEqual([]);
  expect(pair.send(1, frame('10.9.0.1'))).toEqual([2, 3, 4]);
  pair.compare();
});

test('what keeps state for each packet has its packets come up, and says why', () => {
  const pair = twins(hub());
  pair.set(1, { type: 'security', allowMacSpoofing: true, dynamicIpAddressLimit: 3 });
  pair.set(4, { type: 'qos', maxRateBps: 1e12, burstBytes: 1e9 });
  for (let i = 0; i < 3; i += 1) {
    pair.send(1, frame('10.0.0.1'));
    pair.send(2, frame('10.0.0.1'));
  }
  expect(pair.carried).toBe(0);
  expect(pair.quick.sw.extensionStatus('hub')).toMatchObject({
    reasons: {
      'port policies: the addresses of its port are counted': expect.any(Number),
      'port policies: the bandwidth of a port is limited': expect.any(Number),
    },
  });
  const apart = pair.carrier.source?.apart?.() ?? {};
  expect(apart['port policies: the bandwidth of a port is limited']).toBeGreaterThan(0);
});

test('packets of mirrored ports, and of ports that somebody with handlers looks at, come up', () => {
  const pair = twins(hub());
  pair.set(1, { type: 'guard', dhcp: true, router: false });
  pair.set(1, { type: 'monitor', mode: 'source' });
  pair.set(4, { type: 'monitor', mode: 'destination' });
  for (let i = 0; i < 2; i += 1) {
    pair.send(1, frame('10.0.0.1'));
    pair.send(2, frame('10.0.0.1'));
  }
  pair.unset(1, 'monitor');
  pair.enable(extension('watcher', 'filtering', (handle) => passing(handle)).factory);
  for (let i = 0; i < 2; i += 1) pair.send(1, frame('10.0.0.1'));
  expect(pair.carried).toBe(0);
});

test('whatever ports want and deciders decide, and whatever changes, what is carried is what is done here', () => {
  const seed = runSeed();
  let carried = 0;
  let dropped = 0;
  for (let round = 0; round < fuzzRounds(40); round += 1) {
    const where = seed + round * 7;
    const states: RandomState[] = [];
    const random = (type: 'filtering' | 'forwarding', name: string, offset: number): ExtensionFactory =>
      defineDecider({
        descriptor: { name, type, version: '1.0.0' },
        create(handle) {
          const state = new RandomState();
          states.push(state);
          const counters = [handle.counter('a'), handle.counter('b')];
          return randomDecider(new RandomSource(where + offset), state, counters, type === 'forwarding');
        },
      });
    const isHub = round % 2 === 0;
    const pair = isHub ? twins(hub()) : twins(random('filtering', 'one', 1), random('forwarding', 'two', 2));
    const source = new RandomSource(where);
    const change = () => {
      const portId = source.pick(PORTS);
      const { type, property } = randomProperty(source);
      try {
        if (property === null) pair.unset(portId, type as PortPropertyType);
        else pair.set(portId, property);
      } catch {
        // Two that contradict each other, or one that is not there: refused on both sides.
      }
    };
    for (let i = 0; i < 8; i += 1) change();
    const kinds: FrameKind[] = Array.from({ length: 5 }, () => randomKind(source));
    for (let i = 0; i < 200; i += 1) {
      if (source.once(12)) change();
      if (source.once(10)) {
        const word = source.word();
        for (const state of states) state.change(new RandomSource(word));
      }
      const kind = source.pick(kinds);
      let bytes = randomFrame(source, kind);
      settle(source, bytes, kind);
      if (source.once(6)) bytes = hostileFrame(source, bytes, kind);
      if (!isAdmitted(bytes)) continue;
      const portId = source.pick(PORTS);
      try {
        pair.send(portId, Uint8Array.from(bytes));
      } catch (error) {
        throw new Error(
          `MILLRACE_SEED=${where}, packet ${i} of port ${portId}: ${Buffer.from(bytes).toString('hex')}`,
          {
            cause: error,
          },
        );
      }
    }
    pair.compare({ sums: isHub });
    for (const portId of PORTS) hits(pair, portId, isHub, `MILLRACE_SEED=${where}`);
    carried += pair.carried;
    dropped += pair.dropped;
  }
  expect(carried).toBeGreaterThan(200);
  expect(dropped).toBeGreaterThan(20);
}, 120_000);
