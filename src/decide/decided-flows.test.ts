/** Flows that are kept of decisions: what ends them, and their bounds. */
import { expect, test } from 'vitest';
import { ethernet, ipv4, tcp } from '../flow/testing/frames.ts';
import { toPortId } from '../net/index.ts';
import { keyOf } from '../offload/testing/packets.ts';
import { FlowCounter } from './counter.ts';
import { DecidedFlows, type DecidedFlowsLimits } from './decided-flows.ts';
import type { Decider } from './decider.ts';
import { portNumber } from './port-number.ts';
import { Anchor } from './state/observed.ts';
import { ObservedPorts } from './state/ports.ts';
import { ObservedPrefixes } from './state/prefixes.ts';
import { ObservedMap } from './state/table.ts';
import { ObservedValue } from './state/value.ts';
import { WeightedChoice } from './state/weighted.ts';

function flowsOf(
  decider: Decider,
  limits: DecidedFlowsLimits = {},
): { flows: DecidedFlows; ports: ObservedPorts; clock: { now: number } } {
  const ports = new ObservedPorts();
  for (let portId = 1; portId <= 4; portId += 1) ports.set(toPortId(portId), `p${portId}`);
  const clock = { now: 1000 };
  const placed = { name: 'it', type: 'forwarding', decider } as const;
  return {
    flows: new DecidedFlows({ ports, deciders: () => [placed], nowMs: () => clock.now, ...limits }),
    ports,
    clock,
  };
}

const key = (source: string, port = 1, dst = 80) =>
  keyOf(ethernet(0x0800, ipv4(6, tcp({ dst }), { src: source })), port);

test('a change ends what rests on it, and nothing else', () => {
  const table = new ObservedPrefixes<number>('table');
  const { flows } = flowsOf({
    decide(packet, decision) {
      if (packet.ipv4 !== null) table.longest(packet.ipv4.source);
      decision.output(2);
    },
  });
  table.set('10.0.0.0/8', 1);
  table.set('10.1.0.0/16', 1);
  for (const source of ['10.0.0.1', '10.1.0.1', '11.0.0.1', '10.128.0.1']) flows.decide(key(source), null);
  expect(flows.table.size).toBe(4);
  table.set('10.1.2.0/24', 3);
  expect(flows.table.size).toBe(3);
  table.delete('10.0.0.0/8');
  expect(flows.table.size).toBe(1);
  table.set('11.0.0.0/7', 1);
  expect(flows.table.size).toBe(0);
  expect(flows.counters.changed).toBe(4);
});

test('many that rest on one entry end at once, and no other; what they have counted is told', () => {
  const addresses = new ObservedMap<number>('addresses');
  const names = new ObservedMap<number>('names');
  const counter = new FlowCounter('all', () => {});
  const { flows } = flowsOf({
    decide(packet, decision) {
      const { ipv4, tcp: header } = packet;
      if (ipv4 === null || header === null) return;
      names.get(ipv4.source.text);
      addresses.get(header.destinationPort);
      decision.count(counter);
      decision.output(2);
    },
  });
  const kept: number[] = [];
  const decide = (source: number, dst: number) => {
    const slot = flows.decide(key(`10.0.${source >> 8}.${source & 255}`, 1 + (source & 1), dst), null);
    if (typeof slot === 'number') kept.push(slot);
  };
  for (let i = 0; i < 1000; i += 1) decide(i, 80);
  for (let i = 0; i < 500; i += 1) decide(i, 81);
  for (const slot of kept) flows.table.count(slot, 60, 0, 1000);
  expect(flows.table.size).toBe(1500);
  addresses.set(80, 1);
  expect([flows.table.size, flows.counters.changed, counter.packets]).toEqual([500, 1000, 1000]);
  for (const slot of kept.slice(1000)) expect(flows.table.has(slot)).toBe(true);
  // What else they rested on is nothing to them any more.
  for (let i = 0; i < 1000; i += 1) names.set(`10.0.${i >> 8}.${i & 255}`, 1);
  expect([flows.table.size, flows.counters.changed]).toEqual([0, 1500]);
  flows.settle();
  expect(counter.packets).toBe(1500);
  for (let i = 0; i < 1000; i += 1) decide(i, 80);
  addresses.set(80, 2);
  expect(flows.table.size).toBe(0);
});

test('entries that were asked for in vain count as well', () => {
  const table = new ObservedMap<number>('table');
  const mode = new ObservedValue('mode', 'open');
  const { flows } = flowsOf({
    decide(packet, decision) {
      if (mode.get() === 'closed') return;
      if (table.get(packet.ethernet.source.text) === undefined) decision.output(2);
    },
  });
  flows.decide(key('10.0.0.1'), null);
  table.set('02:00:00:00:00:07', 1);
  expect(flows.table.size).toBe(1);
  table.set('02:00:00:00:00:01', 1);
  expect(flows.table.size).toBe(0);
  flows.decide(key('10.0.0.1'), null);
  mode.set('open');
  expect(flows.table.size).toBe(1);
  mode.set('closed');
  expect(flows.table.size).toBe(0);
});

test('of a weighted choice only what moves ends, and it is spread by weight', () => {
  const backends = new WeightedChoice<string>('backends');
  const chosen = new Map<string, number>();
  const { flows } = flowsOf({
    decide(packet, decision) {
      const backend = backends.pick(packet.flowHash());
      chosen.set(String(backend), (chosen.get(String(backend)) ?? 0) + 1);
      decision.output(2);
    },
  });
  backends.set('a', 1, 'a');
  backends.set('b', 3, 'b');
  for (let i = 0; i < 1000; i += 1) flows.decide(key(`10.0.${i >> 8}.${i & 255}`), null);
  const share = (chosen.get('b') ?? 0) / 1000;
  expect(share).toBeGreaterThan(0.68);
  expect(share).toBeLessThan(0.82);
  backends.set('c', 1, 'c');
  const left = flows.table.size;
  expect(left).toBeGreaterThan(720);
  expect(left).toBeLessThan(880);
  backends.delete('c');
  expect(flows.table.size).toBe(left);
  backends.set('a', 1, 'another a');
  expect(flows.table.size).toBeLessThan(left * 0.85);
});

test('an effect that changes what was read decides once more, and what is kept stays', () => {
  const known = new ObservedMap<number>('known');
  let learned = 0;
  const { flows } = flowsOf({
    decide(packet, decision) {
      const source = packet.ethernet.source.text;
      if (known.get(source) === undefined) {
        decision.effect(() => {
          learned += 1;
          known.set(source, packet.inPort);
        });
      }
      decision.output(2);
    },
  });
  flows.decide(key('10.0.0.1'), null);
  expect(learned).toBe(1);
  expect(flows.table.size).toBe(1);
  flows.trace(key('10.0.0.1').words, null);
  expect(learned).toBe(1);
  known.delete('02:00:00:00:00:01');
  expect(flows.table.size).toBe(0);
  expect(flows.recall(key('10.0.0.1').words)).not.toBe(-1);
  expect(learned).toBe(1);
});

test('what an effect changes before it is read is decided about once', () => {
  const known = new ObservedMap<number>('known');
  const { flows } = flowsOf({
    decide(packet, decision) {
      const source = packet.ethernet.source.text;
      decision.effect(() => known.set(source, packet.inPort));
      decision.output(known.get(source) === 1 ? 2 : 3);
    },
  });
  flows.decide(key('10.0.0.1'), null);
  expect([flows.counters.decisions, flows.table.size]).toEqual([1, 1]);
  expect([...flows.trace(key('10.0.0.1').words, null).actions]).toEqual([...flows.table.actionsOf(0)]);
});

test('what went on over a restart is learned from when it is decided about again, and not from a packet', () => {
  const known = new ObservedMap<number>('known');
  const { flows } = flowsOf({
    decide(packet, decision) {
      const destination = packet.ethernet.destination.text;
      decision.recall(([portId]) => known.set(destination, portId));
      const portId = known.get(destination);
      if (portId === undefined) decision.flood();
      else decision.output(portId);
    },
  });
  flows.decide(key('10.0.0.1'), null);
  flows.recall(key('10.0.0.1').words);
  expect(known.size).toBe(0);
  expect(flows.recall(key('10.0.0.1').words, null, [toPortId(3)])).not.toBe(-1);
  expect(known.get('02:00:00:00:00:02')).toBe(3);
});

test('several NICs of a port are told apart, in keys and outputs; a flood goes to ports that are meant', () => {
  const { flows } = flowsOf({
    decide(packet, decision) {
      if (packet.inNic === 0) expect(decision.flood((portId) => portId !== 3)).toBe(2);
      else decision.output(packet.inPort + 1, packet.inNic);
    },
  });
  const outputs = (number: number): number[] => {
    const slot = flows.decide(key('10.0.0.1', number), null);
    if (typeof slot !== 'number') throw new Error('it is not kept');
    return [...flows.table.actionsOf(slot)].filter((_, i) => i % 2 === 1);
  };
  expect(outputs(portNumber(toPortId(1), 0))).toEqual([2, 4]);
  expect(outputs(portNumber(toPortId(1), 2))).toEqual([portNumber(toPortId(2), 2)]);
  expect(flows.table.size).toBe(2);
});

test('what is dropped has room of its own, and each port its share of new flows', () => {
  const decider: Decider = {
    decide(packet, decision) {
      packet.ipv4?.source.mark(32);
      if (packet.tcp?.destination.is(22) === true) decision.drop('NO');
      else decision.output(2);
    },
  };
  const { flows } = flowsOf(decider, { maximumFlows: 8 });
  for (let i = 0; i < 5; i += 1) flows.decide(key(`10.0.0.${i}`), null);
  for (let i = 0; i < 100; i += 1) flows.decide(key(`10.0.1.${i}`, 1, 22), null);
  expect(flows.table.size).toBe(5 + 2);
  flows.limit({ maximumFlows: 16 });
  for (let i = 0; i < 100; i += 1) flows.decide(key(`10.0.1.${i}`), null);
  expect(flows.table.size).toBe(16 + 2);

  const shared = flowsOf(decider, { newPerSecond: 8 });
  const decide = (port: number, net: number) => {
    for (const to of [80, 22])
      for (let i = 0; i < 20; i += 1) shared.flows.decide(key(`10.${net}.0.${i}`, port, to), null);
    return shared.flows.table.size;
  };
  expect([decide(1, 1), decide(2, 1), decide(1, 2)]).toEqual([10, 20, 20]);
  expect(shared.flows.counters.overShare).toBe(30 + 30 + 40);
  shared.clock.now += 1000;
  expect(decide(1, 3)).toBe(30);
});

test('what was counted elsewhere is brought when somebody asks who hangs on an anchor, until it is enough', () => {
  const anchor = new Anchor('it');
  const used: (number | undefined)[] = [];
  class Uses extends FlowCounter {
    override add(_packets: number, _bytes: number, usedMs?: number): void {
      used.push(usedMs);
    }
  }
  const counter = new Uses('uses', () => {});
  const { flows } = flowsOf({
    decide(packet, decision) {
      packet.ipv4?.source.mark(32);
      anchor.read();
      decision.count(counter);
      decision.output(2);
    },
  });
  flows.table.observe({
    flowAdded: () => {},
    flowModified: () => {},
    flowRemoved: () => {},
    flowsFlushed: () => {},
    statisticsWanted: (slot) => flows.table.addCounts(slot, 1, 60, 0, 900 + slot),
  });
  for (let i = 0; i < 3; i += 1) flows.decide(key(`10.0.0.${i}`), null);
  anchor.bring(() => used.length === 2);
  expect(used).toHaveLength(2);
  expect(used).not.toContain(undefined);
});

test('one that changes what it reads each time is decided packet by packet', () => {
  const count = new ObservedValue('count', 0);
  const { flows } = flowsOf({
    decide(_, decision) {
      const seen = count.get();
      decision.effect(() => count.set(seen + 1));
      decision.output(2);
    },
  });
  expect(typeof flows.decide(key('10.0.0.1'), null)).toBe('object');
  expect(flows.onlyRecord?.everyPacket).toContain('each time');
  expect(flows.table.size).toBe(0);
});

test('flows go when their time is over, when nobody uses them, and with their ports', () => {
  const { flows, clock, ports } = flowsOf(
    {
      decide(packet, decision) {
        if (packet.ipv4?.source.is('10.0.0.1') === true) decision.until(500);
        decision.output(2);
      },
    },
    { idleMs: 2000 },
  );
  const first = flows.decide(key('10.0.0.1'), null);
  const second = flows.decide(key('10.0.0.2'), null);
  for (const slot of [first, second]) if (typeof slot === 'number') flows.table.count(slot, 60, 0, clock.now);
  flows.advance();
  expect(flows.table.size).toBe(2);
  clock.now += 500;
  flows.advance();
  expect(flows.table.size).toBe(1);
  clock.now += 1500;
  flows.advance();
  expect(flows.table.size).toBe(0);
  flows.decide(key('10.0.0.2'), null);
  ports.delete(toPortId(3));
  expect(flows.table.size).toBe(1);
  ports.delete(toPortId(2));
  expect(flows.table.size).toBe(0);
});

test('a full table takes from the port that has most', () => {
  const { flows } = flowsOf(
    {
      decide(packet, decision) {
        if (packet.ipv4 !== null) packet.ipv4.source.mark(32);
        decision.output(2);
      },
    },
    { maximumFlows: 100 },
  );
  for (let i = 0; i < 10; i += 1) flows.decide(key(`10.0.1.${i}`, 2), null);
  for (let i = 0; i < 500; i += 1) flows.decide(key(`10.1.${i >> 8}.${i & 255}`, 1), null);
  expect(flows.table.size).toBe(100);
  for (let i = 0; i < 10; i += 1) expect(flows.table.match(key(`10.0.1.${i}`, 2).words)).not.toBe(-1);
  for (let i = 0; i < 10; i += 1) expect(typeof flows.decide(key(`10.0.2.${i}`, 3), null)).toBe('number');
  expect(flows.table.size).toBe(100);
});

test('what is not kept for want of a mask takes no place from others', () => {
  const { flows } = flowsOf(
    {
      decide(packet, decision) {
        if (packet.ipv4 !== null) packet.ipv4.source.mark((packet.ipv4.source.peek()[0] & 31) + 1);
        decision.output(2);
      },
    },
    { maximumFlows: 4, maximumMasks: 2 },
  );
  // Two masks, and all the room there is.
  for (const source of ['10.0.0.30', '10.0.1.30', '10.0.0.31', '10.0.1.31']) flows.decide(key(source), null);
  expect(flows.table.size).toBe(4);
  for (let i = 1; i < 20; i += 1) flows.decide(key(`10.0.0.${i}`), null);
  expect(flows.counters).toMatchObject({ tooManyMasks: 19, exchanged: 0 });
  expect(flows.table.size).toBe(4);
});

test('what others decide while a decision is being kept takes nothing from under it', () => {
  const gates = new ObservedMap<number>('gates');
  const { flows } = flowsOf({
    decide(_, decision) {
      gates.get('one');
      decision.output(2);
    },
  });
  const others = flowsOf({
    decide(_, decision) {
      gates.get('one');
      decision.everyPacket('it is tried here');
    },
  }).flows;
  const other = key('10.0.0.9').words;
  others.recall(other);
  flows.table.observe({
    flowAdded: () => void others.recall(other),
    flowModified: () => {},
    flowRemoved: () => {},
    flowsFlushed: () => {},
  });
  flows.decide(key('10.0.0.1'), null);
  expect(flows.table.size).toBe(1);
  gates.set('one', 1);
  expect(flows.table.size).toBe(0);
});

test('once closed, nothing hangs on what decisions rested on', () => {
  let freed = 0;
  class Probe extends Anchor {
    protected override freed(): void {
      freed += 1;
    }
  }
  const probe = new Probe('probe');
  const gate = new ObservedValue('gate', 0);
  const { flows } = flowsOf({
    decide(_, decision) {
      probe.read();
      decision.output(gate.get() + 2);
    },
  });
  flows.decide(key('10.0.0.1'), null);
  gate.set(1);
  expect([flows.table.size, freed]).toEqual([0, 0]);
  flows.close();
  expect(freed).toBeGreaterThan(0);
});

test('masks of one port do not keep out those of others', () => {
  const { flows } = flowsOf(
    {
      decide(packet, decision) {
        // As many bits as the last byte says: every packet is of another mask.
        if (packet.ipv4 !== null) packet.ipv4.source.mark((packet.ipv4.source.peek()[0] & 31) + 1);
        decision.output(2);
      },
    },
    { maximumMasks: 12 },
  );
  for (let i = 0; i < 31; i += 1) flows.decide(key(`10.0.0.${i}`, 1), null);
  expect(flows.table.masks.length).toBe(12);
  expect(flows.counters.tooManyMasks).toBe(19);
  for (let i = 20; i < 24; i += 1) expect(typeof flows.decide(key(`10.0.0.${i}`, 2), null)).toBe('number');
  expect(flows.table.masks.length).toBeLessThanOrEqual(12);
  for (let i = 20; i < 24; i += 1) expect(flows.table.match(key(`10.0.0.${i}`, 2).words)).not.toBe(-1);
});

test('counters count every packet of a decision once, wherever it was counted', () => {
  const holder: { flows?: DecidedFlows } = {};
  const counter = new FlowCounter('hits', () => holder.flows?.settle());
  const gate = new ObservedValue('gate', 0);
  const { flows } = flowsOf({
    decide(_, decision) {
      gate.get();
      decision.count(counter);
      decision.output(2);
    },
  });
  holder.flows = flows;
  const slot = flows.decide(key('10.0.0.1'), null);
  if (typeof slot !== 'number') throw new Error('it was not kept');
  flows.table.count(slot, 100, 0, 1000);
  flows.table.addCounts(slot, 5, 500, 0, 1000);
  expect([counter.packets, counter.bytes]).toEqual([6, 600]);
  flows.table.count(slot, 100, 0, 1000);
  gate.set(1);
  expect([counter.packets, counter.bytes]).toEqual([7, 700]);
});
