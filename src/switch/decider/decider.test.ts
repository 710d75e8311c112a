/** Deciders in the stack of a switch: what they decide is done here and elsewhere alike, and is counted once, whatever stands above them. */
import { expect, test } from 'vitest';
import { RandomState, randomDecider } from '../../decide/testing/random-decider.ts';
import { learningExtension } from '../../extensions/learning/index.ts';
import type { FlowRegistry, FlowSource } from '../../flow/index.ts';
import { ethernet, fuzzRounds, ipv4, tcp, udp } from '../../flow/testing/frames.ts';
import { type FrameKind, hostileFrame, randomFrame, randomKind } from '../../offload/testing/frames.ts';
import { RandomSource, runSeed } from '../../offload/testing/random.ts';
import type { VirtualSwitch } from '../api.ts';
import type { ExtensionFactory } from '../extension.ts';
import { Bench, extension, passing } from '../testing.ts';
import { type DeciderHandle, defineDecider } from './define.ts';
import { isAdmitted } from './testing/admitted.ts';
import { type Twins, twins } from './testing/twins.ts';

const frame = (source: string, port = 80) =>
  Uint8Array.from(ethernet(0x0800, ipv4(6, tcp({ dst: port }), { src: source })));

/** Drops what comes from a list of prefixes, and what goes to one port. */
function wall(onHandle: (handle: DeciderHandle) => void = () => {}): ExtensionFactory {
  return defineDecider({
    descriptor: { name: 'wall', type: 'filtering', version: '1.0.0' },
    create(handle) {
      onHandle(handle);
      const denied = handle.state.prefixes<string>('denied');
      const hits = handle.counter('denied');
      handle.dropReason('DENIED', 'The source is on the list.');
      return {
        decide(packet, decision) {
          if (packet.ipv4 === null) return;
          const found = denied.find(packet.ipv4.source);
          if (found === undefined) return;
          decision.count(hits);
          decision.drop('DENIED', () => `${found.prefix} is denied: ${found.value}`);
        },
        decideOutput(packet, portId, decision) {
          if (portId === 3 && packet.tcp?.destination.between(0, 79) === true) decision.drop('LOW_PORT');
        },
        command(name, args) {
          if (name === 'deny') denied.set(String(args), 'by command');
          else denied.delete(String(args));
          return null;
        },
      };
    },
  });
}

/** Sends everything to all others, and marks what comes from port 2. */
function hub(): ExtensionFactory {
  return defineDecider({
    descriptor: { name: 'hub', type: 'forwarding', version: '1.0.0' },
    create: () => ({
      decide(packet, decision) {
        if (packet.inPort === 2 && packet.ipv4 !== null) decision.ipv4.dscp = 46;
        decision.flood();
      },
    }),
  });
}

/** What is changed here is consumed and originated, and elsewhere delivered. */
function compare(pair: Twins): void {
  pair.compare({ sums: false });
}

/** Hands on all that it is handed. */
const watcher = extension('watcher', 'filtering', (handle) => passing(handle));

test('a filter above a forwarding decider is decided along, and its list changes what runs', () => {
  const pair = twins(wall(), hub());
  expect(pair.quick.sw.extensionStatus('hub')).toMatchObject({ decidedAlong: ['wall'] });
  expect(pair.send(1, frame('10.1.2.3'))).toEqual([2, 3, 4]);
  expect(pair.send(1, frame('10.1.2.3'))).toEqual([2, 3, 4]);
  expect(pair.carried).toBe(1);
  pair.both((sw) => sw.extensionCommand('wall', 'deny', '10.1.0.0/16'));
  expect(pair.flows).toBe(0);
  expect(pair.send(1, frame('10.1.2.3'))).toEqual([]);
  expect(pair.send(1, frame('10.1.9.9'))).toEqual([]);
  expect(pair.carried).toBe(2);
  expect(pair.send(1, frame('10.2.0.1'))).toEqual([2, 3, 4]);
  expect(pair.send(1, frame('10.2.0.1', 22))).toEqual([2, 4]);
  pair.both((sw) => sw.extensionCommand('wall', 'allow', '10.1.0.0/16'));
  expect(pair.send(1, frame('10.1.2.3'))).toEqual([2, 3, 4]);
  expect(pair.send(2, frame('10.1.2.3'))).toEqual([1, 3, 4]);
  compare(pair);
  const [denied] = pair.quick.sw.extensions().filter(({ name }) => name === 'wall');
  expect(denied.counters.denied).toBe(2);
});

test('what no decision can be made about counts no copies of the packet before it', () => {
  const pair = twins(wall(), hub());
  expect(pair.send(1, frame('10.1.2.3', 50))).toEqual([2, 4]);
  const refused = () => pair.quick.sw.drops(3).map(({ name, packets }) => [name, packets]);
  expect(refused()).toEqual([['wall:LOW_PORT', 1]]);
  // A header of service chaining that is cut off.
  for (let i = 0; i < 3; i += 1) expect(pair.send(1, Uint8Array.from(ethernet(0x894f, [0, 0])))).toEqual([]);
  expect(refused()).toEqual([['wall:LOW_PORT', 1]]);
});

test('a port that comes or goes changes floods, and nothing else', () => {
  const pair = twins(hub());
  pair.send(1, frame('10.0.0.1'));
  expect(pair.flows).toBe(1);
  pair.both((sw) => sw.disconnectNic(4).result());
  expect(pair.send(1, frame('10.0.0.1'))).toEqual([2, 3]);
  pair.addPort(5);
  expect(pair.send(1, frame('10.0.0.1'))).toEqual([2, 3, 5]);
  compare(pair);
});

test('a filter above one with handlers stands by itself and does the same', () => {
  const bench = new Bench();
  for (const factory of [watcher.factory, wall(), hub()]) bench.sw.enableExtension(factory).result();
  for (let port = 1; port <= 4; port += 1) bench.port(port);
  expect(bench.sw.extensionStatus('hub')).toMatchObject({ decidedAlong: [] });
  bench.sw.extensionCommand('wall', 'deny', '10.1.0.0/16');
  bench.receive(1, frame('10.1.2.3'), frame('10.2.2.3'), frame('10.1.2.4'), frame('10.2.2.3', 22));
  expect(bench.nicOf(2).sent).toHaveLength(2);
  expect(bench.nicOf(3).sent).toHaveLength(1);
  expect(bench.sw.extensions().find(({ name }) => name === 'wall')?.counters.denied).toBe(2);
  expect(bench.sw.drops(1).map(({ name, packets }) => [name, packets])).toEqual([['wall:DENIED', 2]]);
  expect(bench.sw.drops(3).map(({ name, packets }) => [name, packets])).toEqual([['wall:LOW_PORT', 1]]);
  expect(bench.pool.available).toBe(bench.pool.capacity);
});

/** Drops what goes to ports on a list, and counts the rest by where it goes. */
const gate = defineDecider({
  descriptor: { name: 'gate', type: 'filtering', version: '1.0.0' },
  create(handle) {
    const closed = handle.state.set('closed');
    const left = handle.counter('left');
    return {
      decide(packet, decision) {
        if (packet.tcp !== null && closed.has(packet.tcp.destinationPort)) decision.drop('CLOSED');
      },
      decideOutput: (_packet, _portId, decision) => decision.count(left),
      command(name, args) {
        if (name === 'close') closed.add(Number(args));
        else closed.delete(Number(args));
        return null;
      },
    };
  },
});

test('what a filter above the learning switch decides is part of the flows, until what it rests on changes', () => {
  const pair = twins(learningExtension, gate);
  const between = (from: number, to: number, port: number) => {
    const bytes = frame(`10.0.0.${from}`, port);
    bytes.set([2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from]);
    return bytes;
  };
  const talk = () => {
    for (const port of [22, 80])
      for (const [from, to] of [
        [1, 2],
        [2, 1],
      ])
        pair.send(from, between(from, to, port));
  };
  for (let i = 0; i < 3; i += 1) talk();
  expect(pair.flows).toBe(4);
  expect(pair.carried).toBeGreaterThan(3);
  const { carried } = pair;
  pair.both((sw) => sw.extensionCommand('gate', 'close', 22));
  expect(pair.flows).toBe(2);
  for (let i = 0; i < 3; i += 1) talk();
  expect(pair.dropFlows).toBe(2);
  expect(pair.carried).toBe(carried + 10);
  compare(pair);
  expect(pair.quick.sw.drops(1).map(({ name }) => name)).toContain('gate:CLOSED');
});

test('copies count where they leave, as many as there are', () => {
  const pair = twins(gate, hub());
  for (let i = 0; i < 3; i += 1) pair.send(1, frame('10.0.0.1'));
  const counted = (sw: VirtualSwitch) => sw.extensions().find(({ name }) => name === 'gate')?.counters.left;
  compare(pair);
  expect(counted(pair.quick.sw)).toBe(9);
});

test('the VLAN that the switch holds a packet in is that of its port, and changes with the policies of the port alone', () => {
  const seen: number[] = [];
  const asks = defineDecider({
    descriptor: { name: 'asks', type: 'filtering', version: '1.0.0' },
    create: (handle) => ({ decide: (packet) => void seen.push(handle.vlanOf(packet)) }),
  });
  const bench = new Bench();
  for (const factory of [asks, hub()]) bench.sw.enableExtension(factory).result();
  for (let port = 1; port <= 2; port += 1) bench.port(port);
  const tagged = Uint8Array.from(ethernet(0x0800, ipv4(6, tcp()), [[0x8100, 7]]));
  const send = () => {
    for (const port of [1, 2]) bench.receive(port, frame('10.0.0.1'), frame('10.0.0.1'), tagged);
    return seen.splice(0);
  };
  expect(send()).toEqual([0, 7, 0, 7]);
  expect(send()).toEqual([]);
  bench.sw.setPortProperty(1, { type: 'vlan', mode: 'access', vlanId: 5 }).result();
  // What is tagged otherwise is not let in there.
  expect(send()).toEqual([5]);
});

test('one that has nothing to say is asked nothing', () => {
  let isAwake = false;
  let asked = 0;
  const sleeper = defineDecider({
    descriptor: { name: 'sleeper', type: 'filtering', version: '1.0.0' },
    create: () => ({
      mayDecide: () => isAwake,
      decide() {
        asked += 1;
      },
      decideOutput() {
        asked += 1;
      },
    }),
  });
  const bench = new Bench();
  for (const factory of [watcher.factory, sleeper, hub()]) bench.sw.enableExtension(factory).result();
  for (let port = 1; port <= 2; port += 1) bench.port(port);
  bench.receive(1, frame('10.0.0.1'));
  expect(asked).toBe(0);
  isAwake = true;
  bench.receive(1, frame('10.0.0.1'), frame('10.0.0.1'));
  expect(asked).toBe(2);
  expect(bench.nicOf(2).sent).toHaveLength(3);
});

test('a filter that stands by itself can change packets', () => {
  const marker = defineDecider({
    descriptor: { name: 'marker', type: 'filtering', version: '1.0.0' },
    create: () => ({
      decide(packet, decision) {
        if (packet.udp !== null) decision.pushVlan({ id: 7 });
      },
    }),
  });
  const bench = new Bench();
  for (const factory of [watcher.factory, marker, hub()]) bench.sw.enableExtension(factory).result();
  for (let port = 1; port <= 2; port += 1) bench.port(port);
  bench.receive(1, Uint8Array.from(ethernet(0x0800, ipv4(17, udp()))), frame('10.0.0.1'));
  const sent = bench.nicOf(2).sent.map(({ frame: bytes }) => Buffer.from(bytes.subarray(12, 16)).toString('hex'));
  expect(sent.sort()).toEqual(['08004500', '81000007']);
  expect(bench.pool.available).toBe(bench.pool.capacity);
});

test('a trace says what was looked at, by whom, what it rests on, and what extensions say', () => {
  const bench = new Bench();
  for (const factory of [wall(), hub()]) bench.sw.enableExtension(factory).result();
  for (let port = 1; port <= 3; port += 1) bench.port(port);
  bench.sw.extensionCommand('wall', 'deny', '10.1.0.0/16');
  const text = bench.sw
    .trace(bench.packet(frame('10.1.2.3')), 1)
    .map((step) => step.text)
    .join('\n');
  expect(text).toContain('wall looks at ipv4.source: the first 16 of 32 bits');
  expect(text).toContain('it rests on denied');
  expect(text).toContain('wall: 10.1.0.0/16 is denied: by command');
  expect(bench.sw.extensionStatus('hub')).toMatchObject({ flows: 0 });
});

test('a trace tells one pass once, and names ports that a filter refuses', () => {
  const bench = new Bench();
  for (const factory of [wall(), hub()]) bench.sw.enableExtension(factory).result();
  for (let port = 1; port <= 4; port += 1) bench.port(port);
  const steps = bench.sw.trace(bench.packet(frame('10.1.2.3', 22)), 1);
  expect(steps.filter(({ text }) => text.startsWith('wall looks at ipv4.source'))).toHaveLength(0);
  expect(steps.filter(({ text }) => text.startsWith('wall looks at tcp.destination'))).toHaveLength(1);
  expect(steps.filter(({ drop }) => drop !== undefined)).toMatchObject([{ portId: 3, drop: 'wall:LOW_PORT' }]);
  expect(steps.filter(({ stage }) => stage === 'delivery').map(({ portId }) => portId)).toEqual([2, 4]);
});

test('flows say whose decision they are, and why they drop', () => {
  const sources: FlowSource[] = [];
  const registry: FlowRegistry = {
    strict: true,
    register(source) {
      sources.push(source);
      return { portsChanged: () => {}, close: () => {} };
    },
  };
  const bench = new Bench();
  Object.assign(bench.host, { services: { flows: registry } });
  const silent = defineDecider({
    descriptor: { name: 'silent', type: 'filtering', version: '1.0.0' },
    create: () => ({ decideOutput: () => {} }),
  });
  for (const factory of [silent, wall(), hub()]) bench.sw.enableExtension(factory).result();
  for (let port = 1; port <= 2; port += 1) bench.port(port);
  bench.sw.extensionCommand('wall', 'deny', '10.1.0.0/16');
  bench.receive(1, frame('10.1.2.3'), frame('10.2.2.3'));
  const [{ table, describe }] = sources;
  const described = [];
  for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1)) described.push(describe?.(slot));
  expect(described).toEqual([
    { deciders: ['wall'], drop: 'wall:DENIED' },
    { deciders: ['wall', 'silent', 'hub'], drop: null },
  ]);
});

test('a decider is told of ports, and says who decides along what it decides', () => {
  const seen: string[][] = [];
  const follower = defineDecider({
    descriptor: { name: 'follower', type: 'filtering', version: '1.0.0' },
    create: ({ ports }) => ({ portsChanged: () => seen.push(ports.all().map(({ name }) => name)) && undefined }),
  });
  const bench = new Bench();
  bench.port(1);
  bench.sw.enableExtension(follower).result();
  expect(seen.at(-1)).toEqual(['p1']);
  expect(bench.sw.extensionStatus('follower')).toMatchObject({ decidedBy: null, flows: 0 });
  bench.sw.enableExtension(hub()).result();
  expect(bench.sw.extensionStatus('follower')).toEqual({ decidedBy: 'hub' });
  bench.port(2);
  expect(seen.at(-1)).toEqual(['p1', 'p2']);
  bench.sw.disconnectNic(1).result();
  expect(seen.at(-1)).toEqual(['p2']);
});

test('an effect that throws is the failure of who asked for it', () => {
  const faulty = defineDecider({
    descriptor: { name: 'faulty', type: 'filtering', version: '1.0.0' },
    create: () => ({
      decide(_, decision) {
        decision.effect(() => {
          throw new Error('no effect');
        });
      },
    }),
  });
  const bench = new Bench();
  bench.failuresExpected = true;
  for (const factory of [faulty, hub()]) bench.sw.enableExtension(factory).result();
  for (let port = 1; port <= 2; port += 1) bench.port(port);
  bench.receive(1, frame('10.0.0.1'));
  bench.receive(1, frame('10.0.0.1'));
  expect(bench.nicOf(2).sent).toHaveLength(2);
  const enabled = (name: string) => bench.sw.extensions().find((one) => one.name === name)?.enabled;
  expect([enabled('faulty'), enabled('hub')]).toEqual([false, true]);
});

test('counters of who is decided along are brought when they are read', () => {
  const counters: { packets: number }[] = [];
  const counting = defineDecider({
    descriptor: { name: 'counting', type: 'filtering', version: '1.0.0' },
    create(handle) {
      const all = handle.counter('all');
      counters.push(all);
      return { decide: (_, decision) => decision.count(all) };
    },
  });
  const bench = new Bench();
  for (const factory of [counting, hub()]) bench.sw.enableExtension(factory).result();
  for (let port = 1; port <= 2; port += 1) bench.port(port);
  for (let i = 1; i <= 3; i += 1) {
    bench.receive(1, frame('10.0.0.1'));
    expect(counters[0].packets).toBe(i);
    expect(bench.sw.extensions().find(({ name }) => name === 'counting')?.counters.all).toBe(i);
  }
});

test('a decider that throws is disabled and named, and traffic goes on by the others', () => {
  const faulty = defineDecider({
    descriptor: { name: 'faulty', type: 'filtering', version: '1.0.0' },
    create: () => ({
      decide(packet) {
        if (packet.tcp !== null) throw new Error('no idea');
      },
    }),
  });
  const bench = new Bench();
  bench.failuresExpected = true;
  for (const factory of [faulty, hub()]) bench.sw.enableExtension(factory).result();
  for (let port = 1; port <= 2; port += 1) bench.port(port);
  bench.receive(1, frame('10.0.0.1'));
  bench.receive(1, frame('10.0.0.1'));
  expect(bench.nicOf(2).sent).toHaveLength(2);
  const failed = bench.sw.extensions().find(({ name }) => name === 'faulty');
  expect(failed).toMatchObject({ enabled: false, failure: expect.stringContaining('no idea') });
  expect(bench.pool.available).toBe(bench.pool.capacity);
});

test.each([
  [
    'sets what is not there',
    (decide: { ipv6: { ttl: number } }) => {
      decide.ipv6.ttl = 3;
    },
    'IPv6',
  ],
  [
    'names a reason that is none',
    (decide: { drop(reason: string): void }) => decide.drop('no good'),
    'no name of a reason',
  ],
  [
    'says too much',
    (decide: { note(text: () => string): void }) => {
      for (let i = 0; i < 5000; i += 1) decide.note(() => '');
    },
    'more than',
  ],
] as const)('a decider that %s is disabled with a sentence', (_, act, text) => {
  const bench = new Bench();
  bench.failuresExpected = true;
  const faulty = defineDecider({
    descriptor: { name: 'faulty', type: 'forwarding', version: '1.0.0' },
    create: () => ({ decide: (_packet, decision) => act(decision) }),
  });
  bench.sw.enableExtension(faulty).result();
  for (let port = 1; port <= 2; port += 1) bench.port(port);
  bench.receive(1, frame('10.0.0.1'), frame('10.0.0.1'));
  expect(bench.sw.extensions().find(({ name }) => name === 'faulty')?.failure).toContain(text);
  expect(bench.pool.available).toBe(bench.pool.capacity);
});

test('whatever deciders decide, and whatever changes, flows that run elsewhere do and count what is done here', () => {
  const seed = runSeed();
  let carried = 0;
  for (let round = 0; round < fuzzRounds(25); round += 1) {
    const states: RandomState[] = [];
    const random = (type: 'filtering' | 'forwarding', name: string, offset: number): ExtensionFactory =>
      defineDecider({
        descriptor: { name, type, version: '1.0.0' },
        create(handle) {
          const state = new RandomState();
          states.push(state);
          const counters = [handle.counter('a'), handle.counter('b')];
          return randomDecider(new RandomSource(seed + round * 7 + offset), state, counters, type === 'forwarding');
        },
      });
    const pair = twins(random('filtering', 'one', 1), random('filtering', 'two', 2), random('forwarding', 'three', 3));
    const source = new RandomSource(seed + round * 7);
    const kinds: FrameKind[] = Array.from({ length: 5 }, () => randomKind(source));
    for (let i = 0; i < 150; i += 1) {
      if (source.once(10)) {
        const change = source.word();
        for (const state of states) state.change(new RandomSource(change));
      }
      const kind = source.pick(kinds);
      let bytes = randomFrame(source, kind);
      if (source.once(6)) bytes = hostileFrame(source, bytes, kind);
      if (!isAdmitted(bytes)) continue;
      pair.send(1 + source.below(4), Uint8Array.from(bytes));
    }
    compare(pair);
    carried += pair.carried;
  }
  expect(carried).toBeGreaterThan(100);
}, 120_000);
