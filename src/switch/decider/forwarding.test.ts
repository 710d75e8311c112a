/** Flows of a forwarding decider are in one table from the beginning: policies and filters that come and go change those that rest on them, and no others. */
import { expect, test } from 'vitest';
import { RandomState, randomDecider } from '../../decide/testing/random-decider.ts';
import type { FlowSource } from '../../flow/index.ts';
import { ethernet, fuzzRounds, ipv4, tcp } from '../../flow/testing/frames.ts';
import { type FrameKind, hostileFrame, randomFrame, randomKind } from '../../offload/testing/frames.ts';
import { RandomSource, runSeed } from '../../offload/testing/random.ts';
import type { PortPropertyType } from '../control/properties.ts';
import type { ExtensionFactory } from '../extension.ts';
import { randomProperty, settle } from '../policies/testing.ts';
import { extension, passing } from '../testing.ts';
import { defineDecider } from './define.ts';
import { isAdmitted } from './testing/admitted.ts';
import { Twins, twins } from './testing/twins.ts';

const PORTS = [1, 2, 3, 4];

const frame = (source: string, port = 80) =>
  Uint8Array.from(ethernet(0x0800, ipv4(6, tcp({ dst: port }), { src: source })));

/** A cable between ports 1 and 2, and one between 3 and 4. */
const cables = (): ExtensionFactory =>
  defineDecider({
    descriptor: { name: 'cables', type: 'forwarding', version: '1.0.0' },
    create: () => ({ decide: ({ inPort }, decision) => decision.output(((inPort - 1) ^ 1) + 1) }),
  });

const sourceOf = (pair: Twins): FlowSource => {
  const { source } = pair.carrier;
  if (source === null) throw new Error('nothing is offered');
  return source;
};

/** Ports whose flows end from now on. */
function endsOf(pair: Twins): number[] {
  const ends: number[] = [];
  const { table } = sourceOf(pair);
  table.observe({
    flowAdded: () => {},
    flowModified: (slot) => ends.push(table.portOf(slot)),
    flowRemoved: (slot) => ends.push(table.portOf(slot)),
    flowsFlushed: () => ends.push(-1),
  });
  return ends;
}

test('the first policy ends the flows of its port and those that go out there, and so does the end of the last', () => {
  const pair = twins(cables());
  for (const port of PORTS) expect(pair.send(port, frame('10.0.0.1'))).toHaveLength(1);
  const source = sourceOf(pair);
  const ends = endsOf(pair);
  const carriedOf = (port: number) => {
    const before = pair.carried;
    expect(pair.send(port, frame('10.0.0.1'))).toHaveLength(1);
    return pair.carried - before;
  };
  pair.set(3, { type: 'acl', rules: [{ direction: 'in', action: 'deny', remotePort: 22 }] });
  expect(ends.sort()).toEqual([3, 4]);
  // Those of the others have not come up once.
  expect([1, 2, 1, 2].map(carriedOf)).toEqual([1, 1, 1, 1]);
  expect([3, 4, 3, 4].map(carriedOf)).toEqual([0, 0, 1, 1]);
  ends.length = 0;
  pair.unset(3, 'acl');
  expect(ends.sort()).toEqual([3, 4]);
  expect([1, 2, 1, 2].map(carriedOf)).toEqual([1, 1, 1, 1]);
  expect([3, 4, 3, 4].map(carriedOf)).toEqual([0, 0, 1, 1]);
  expect(sourceOf(pair)).toBe(source);
  expect(source.name).toBe('cables');
  pair.compare();
});

test('the first mirror of all has packets of its port come up, and ends no flow of others', () => {
  const pair = twins(cables());
  for (const port of PORTS) pair.send(port, frame('10.0.0.1'));
  const ends = endsOf(pair);
  pair.set(4, { type: 'monitor', mode: 'destination' });
  pair.set(3, { type: 'monitor', mode: 'source' });
  pair.unset(3, 'monitor');
  pair.set(3, { type: 'monitor', mode: 'source' });
  expect(ends.filter((port) => port !== 3 && port !== 4)).toEqual([]);
  const before = pair.carried;
  for (const port of [1, 2, 3]) pair.send(port, frame('10.0.0.1'));
  expect(pair.carried - before).toBe(2);
  pair.compare();
});

test('while nothing looks at any port the flows that are offered run here as well, and apart from them while something does', () => {
  const pair = twins(cables());
  const status = () =>
    pair.quick.sw.extensionStatus('cables') as { flows: number; decisions: number; apart: { flows: number } | null };
  const source = sourceOf(pair);
  // The packet that was decided about is the flow's, too: it is one flow, and was one decision.
  pair.send(1, frame('10.0.0.1'));
  expect(status()).toMatchObject({ flows: 1, decisions: 1, apart: null });
  expect(source.table.packetsOf(source.table.next(0))).toBe(1);
  pair.set(3, { type: 'guard', dhcp: true, router: false });
  expect(status()).toMatchObject({ deciders: ['port policies', 'cables'], flows: 1, apart: { flows: 0 } });
  // It is judged here before it comes to the forwarder, and with all that is looked at in the flow that is offered.
  pair.send(3, frame('10.0.0.1'));
  expect(status()).toMatchObject({ flows: 2, apart: { flows: 1 } });
  pair.unset(3, 'guard');
  expect(status()).toMatchObject({ flows: 1, apart: null });
  pair.compare();
});

test('a change of the stack ends the flows that somebody joins or leaves, and no others', () => {
  const pair = twins(cables());
  pair.set(1, { type: 'acl', rules: [{ direction: 'in', action: 'deny', remotePort: 22 }] });
  for (const port of PORTS) expect(pair.send(port, frame('10.0.0.1'))).toHaveLength(1);
  expect(pair.send(1, frame('10.0.0.1', 22))).toEqual([]);
  const ends = endsOf(pair);
  const watcher = extension('watcher', 'capturing', (handle) => ({ ...passing(handle), passByPort: () => true }));
  pair.enable(watcher.factory);
  watcher.handle().shortcuts.changed();
  pair.both((sw) => sw.disableExtension('watcher').result());
  expect(ends).toEqual([]);
  const sent = () => {
    const before = pair.carried;
    for (const port of PORTS) expect(pair.send(port, frame('10.0.0.1'))).toHaveLength(1);
    expect(pair.send(1, frame('10.0.0.1', 22))).toEqual([]);
    return pair.carried - before;
  };
  expect(sent()).toBe(5);
  // It stands below the policies: what they drop does not come to it.
  const silent = defineDecider({
    descriptor: { name: 'silent', type: 'filtering', version: '1.0.0' },
    create: () => ({ decide: () => {} }),
  });
  pair.enable(silent);
  expect(ends.splice(0).sort()).toEqual([1, 2, 3, 4]);
  expect(sent()).toBe(1);
  pair.both((sw) => sw.disableExtension('silent').result());
  expect(ends.splice(0).sort()).toEqual([1, 2, 3, 4]);
  pair.compare();
});

test('the first rule that goes by connections ends the flows of its port, and so does the end of the last', () => {
  const pair = twins(cables());
  for (const port of PORTS) pair.send(port, frame('10.0.0.1'));
  const ends = endsOf(pair);
  pair.set(3, { type: 'acl', rules: [{ direction: 'in', action: 'deny', state: ['invalid'] }] });
  expect(ends.splice(0).sort()).toEqual([3, 4]);
  for (const port of PORTS) pair.send(port, frame('10.0.0.1'));
  ends.length = 0;
  pair.unset(3, 'acl');
  expect(ends.filter((port) => port === 1 || port === 2)).toEqual([]);
  const before = pair.carried;
  for (const port of [1, 2]) pair.send(port, frame('10.0.0.1'));
  expect(pair.carried - before).toBe(2);
  pair.compare();
});

test('a trace says what the forwarder looks at and rests on, whether its flows are offered or not', () => {
  const pair = twins(cables());
  const linesOf = () =>
    pair.both((sw, side) => {
      const bytes = frame('10.0.0.1');
      const packet = side.pool.allocate();
      if (packet === null) throw new Error('packets were lost');
      packet.bytes.set(bytes, packet.offset);
      packet.length = bytes.length;
      const steps = sw.trace(packet, 1).map(({ text }) => text);
      packet.release();
      return steps;
    });
  expect(linesOf()).toContain('cables looks at inPort');
  expect(linesOf().filter((text) => text.includes('it rests on'))).toEqual(['it rests on port[2]']);
  pair.checkPools();
});

test('a policy of a port that nothing is connected to yet holds when something is', () => {
  const pair = new Twins();
  pair.enable(cables());
  for (const port of [1, 3, 4]) pair.addPort(port);
  pair.both((sw) => sw.createPort({ portId: 2, name: 'p2' }).result());
  expect(pair.send(1, frame('10.0.0.1', 22))).toEqual([]);
  pair.set(2, { type: 'acl', rules: [{ direction: 'out', action: 'deny', localPort: 22 }] });
  pair.both((sw, side) => {
    sw.createNic(2, { name: 'n2', backend: side.nic(2) }).result();
    sw.connectNic(2).result();
  });
  for (let i = 0; i < 2; i += 1) {
    expect(pair.send(1, frame('10.0.0.1', 22))).toEqual([]);
    expect(pair.send(1, frame('10.0.0.1', 23))).toEqual([2]);
  }
  expect(pair.carried).toBe(2);
  pair.compare();
});

test('whatever policies, filters and state come and go, what is carried and what runs here is what is decided afresh for each packet', () => {
  const seed = runSeed();
  const tally = { carried: 0, here: 0, plain: 0 };
  for (let round = 0; round < fuzzRounds(25); round += 1) {
    const where = seed + round * 11;
    const states: RandomState[] = [];
    /** @param isAfresh nothing is kept of it */
    const random = (type: 'filtering' | 'forwarding', name: string, offset: number, isAfresh: boolean) =>
      defineDecider({
        descriptor: { name, type, version: '1.0.0' },
        create(handle) {
          const state = new RandomState();
          states.push(state);
          const counters = [handle.counter('a'), handle.counter('b')];
          const decider = randomDecider(new RandomSource(where + offset), state, counters, type === 'forwarding');
          if (!isAfresh) return decider;
          return {
            ...decider,
            decide(packet, decision) {
              decider.decide?.(packet, decision);
              decision.everyPacket('afresh');
            },
          };
        },
      });
    const pair = new Twins();
    const enable = (type: 'filtering' | 'forwarding', name: string, offset: number) =>
      pair.both((sw, side) => sw.enableExtension(random(type, name, offset, side === pair.plain), {}, 0).result());
    enable('forwarding', 'two', 2);
    const hasFilter = round % 3 !== 0;
    if (hasFilter) enable('filtering', 'one', 1);
    for (const port of PORTS) pair.addPort(port);
    const source = new RandomSource(where);
    const isPlain = () => (pair.quick.sw.extensionStatus('two') as { apart: unknown }).apart === null;
    let hasWatcher = false;
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
    const clear = () => {
      for (const portId of PORTS)
        for (const type of ['isolation', 'vlan', 'security', 'acl', 'guard', 'binding', 'qos'] as const)
          try {
            pair.unset(portId, type);
          } catch {
            // It has none.
          }
    };
    const kinds: FrameKind[] = Array.from({ length: 4 }, () => randomKind(source));
    for (let i = 0; i < 200; i += 1) {
      if (source.once(15)) change();
      if (source.once(40)) clear();
      if (hasFilter && source.once(60)) {
        // Between the filter and the forwarder: then the filter stands by itself.
        if (hasWatcher) pair.both((sw) => sw.disableExtension('watcher').result());
        else {
          const watcher = extension('watcher', 'filtering', (handle) => ({
            ...passing(handle),
            passByPort: () => true,
          }));
          pair.both((sw) => sw.enableExtension(watcher.factory, {}, 1).result());
        }
        hasWatcher = !hasWatcher;
      }
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
      pair.carrier.isAway = source.once(4);
      if (isPlain()) tally.plain += 1;
      if (pair.carrier.isAway) tally.here += 1;
      try {
        pair.send(portId, Uint8Array.from(bytes));
      } catch (error) {
        const what = `MILLRACE_SEED=${where}, packet ${i} of port ${portId}: ${Buffer.from(bytes).toString('hex')}`;
        throw new Error(what, { cause: error });
      }
    }
    try {
      pair.compare({ sums: false });
    } catch (error) {
      throw new Error(`MILLRACE_SEED=${where}`, { cause: error });
    }
    for (const portId of PORTS) {
      const [quick, plain] = [pair.quick, pair.plain].map(({ sw }) => {
        const hits = sw.featureStatus('acl', portId).result() as Record<string, { packets: number }[]>;
        return [hits.in, hits.out].map((rules) => rules.map(({ packets }) => packets));
      });
      expect(quick, `MILLRACE_SEED=${where}`).toEqual(plain);
    }
    tally.carried += pair.carried;
  }
  for (const count of Object.values(tally)) expect(count).toBeGreaterThan(200);
}, 120_000);
