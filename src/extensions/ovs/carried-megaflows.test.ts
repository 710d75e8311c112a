/** Megaflows on ports with policies and filters: what is carried elsewhere is what the switch would do, and counts as the megaflow's, the rules' and the filter's. */
import { expect, test } from 'vitest';
import { RandomState, randomDecider } from '../../decide/testing/random-decider.ts';
import { formatActions } from '../../flow/index.ts';
import { ethernet, fuzzRounds, ipv4, tcp, udp } from '../../flow/testing/frames.ts';
import { ACK, SYN, segment } from '../../flow/testing/talk.ts';
import { KnownConnections } from '../../flow/testing/tracking.ts';
import { newCounters, toPortId } from '../../net/index.ts';
import { type FrameKind, hostileFrame, randomFrame, randomKind } from '../../offload/testing/frames.ts';
import { RandomSource, runSeed } from '../../offload/testing/random.ts';
import type { PortPropertyType } from '../../switch/control/properties.ts';
import { isAdmitted } from '../../switch/decider/testing/admitted.ts';
import { Twins } from '../../switch/decider/testing/twins.ts';
import { defineDecider, type ExtensionFactory, type JsonValue } from '../../switch/index.ts';
import { randomProperty, settle } from '../../switch/policies/testing.ts';
import { extension, passing } from '../../switch/testing.ts';
import { OvsErrno, OvsError, type OvsSurroundings, ovsExtension } from './index.ts';

const PORTS = [1, 2, 3, 4];
/** The port of the datapath's own name. */
const LOCAL = toPortId(9);

const frame = (source: string, port = 80) =>
  Uint8Array.from(ethernet(0x0800, ipv4(6, tcp({ dst: port }), { src: source })));

/** A datapath with ports 1 to 4, which have these numbers in it and in the switch. */
class Bridge {
  readonly pair = new Twins({}, true, (nowMs) => new KnownConnections(nowMs));

  constructor(...filters: ExtensionFactory[]) {
    const { pair } = this;
    for (const side of [pair.plain, pair.quick]) {
      const surroundings: OvsSurroundings = {
        nowMs: () => side.clock.nowMs,
        listen: () => ({ close: () => {} }),
        open: (_kind, name) => {
          const portId = name === 'dp' ? LOCAL : side.sw.findPort(name);
          if (portId === null) throw new OvsError(OvsErrno.ENODEV, name);
          return { portId, interfaceIndex: 100 + portId, counters: newCounters(), close: () => {} };
        },
      };
      side.services.ovs = surroundings;
    }
    for (const port of [...PORTS, LOCAL]) pair.addPort(port);
    for (const filter of filters) pair.enable(filter);
    pair.both((sw) => sw.enableExtension(ovsExtension, { socket: '/memory' }, filters.length).result());
    this.command('add-dp', { datapath: 'dp' });
    for (const port of PORTS) this.command('add-if', { port: `p${port}` });
  }

  command(name: string, args: JsonValue): JsonValue {
    return this.pair.both((sw) => sw.extensionCommand('ovs', name, args));
  }

  flow(flow: string, actions: string): void {
    this.command('add-flow', { flow, actions });
  }

  set(portId: number, property: object): void {
    this.pair.set(portId, property);
  }

  unset(portId: number, type: PortPropertyType): void {
    this.pair.unset(portId, type);
  }

  /** Both sides count alike: ports, extensions, megaflows and rules. */
  compare(sums = true): void {
    this.pair.compare({ sums });
    const [quick, plain] = [this.pair.quick, this.pair.plain].map(({ sw }) => ({
      flows: (
        sw.extensionCommand('ovs', 'dump-flows', {}) as { flows: { match: string; packets: number }[] }
      ).flows.map(({ match, packets }) => [match, packets]),
      rules: PORTS.map((portId) => {
        const hits = sw.featureStatus('acl', portId).result() as Record<string, { packets: number }[]>;
        return [hits.in, hits.out].map((rules) => rules.map(({ packets }) => packets));
      }),
    }));
    expect(quick).toEqual(plain);
  }

  get status(): JsonValue {
    const { datapaths } = this.pair.quick.sw.extensionStatus('ovs') as { datapaths: { decided: JsonValue }[] };
    return datapaths[0].decided;
  }
}

/** Hears nothing of flows. */
const DEAF = { flowAdded: () => {}, flowModified: () => {}, flowRemoved: () => {}, flowsFlushed: () => {} };

const deny = (port: number) => ({ type: 'acl', rules: [{ direction: 'in', action: 'deny', remotePort: port }] });

/** Drops what comes from a list of prefixes. */
const wall = (): ExtensionFactory =>
  defineDecider({
    descriptor: { name: 'wall', type: 'filtering', version: '1.0.0' },
    create(handle) {
      const denied = handle.state.prefixes<true>('denied');
      const all = handle.counter('all');
      return {
        decide(packet, decision) {
          decision.count(all);
          if (packet.ipv4 !== null && denied.covers(packet.ipv4.source)) decision.drop('DENIED');
        },
        command(_, prefix) {
          denied.set(String(prefix), true);
          return null;
        },
      };
    },
  });

test('rules of a port that go by connections: megaflows carry what is established, and count it', () => {
  const bridge = new Bridge();
  const { pair } = bridge;
  for (const [from, to] of [
    [1, 2],
    [2, 1],
  ])
    bridge.flow(`recirc_id(0),ct_state(-trk),in_port(${from}),eth(),eth_type(0x0800),ipv4()`, String(to));
  const known = { direction: 'out', action: 'allow', state: ['established', 'related'] };
  bridge.set(1, { type: 'acl', rules: [known, { direction: 'out', action: 'deny', remoteIp: '0.0.0.0/0' }] });
  expect(pair.send(2, segment(2, 1, SYN, [4000, 80]))).toEqual([]);
  expect(pair.send(1, segment(1, 2, SYN, [4000, 80]))).toEqual([2]);
  expect(pair.send(2, segment(2, 1, SYN | ACK, [80, 4000]))).toEqual([1]);
  const before = pair.carried;
  for (let i = 0; i < 4; i += 1) {
    expect(pair.send(1, segment(1, 2, ACK, [4000, 80]))).toEqual([2]);
    expect(pair.send(2, segment(2, 1, ACK, [80, 4000]))).toEqual([1]);
  }
  expect(pair.carried - before).toBeGreaterThanOrEqual(6);
  expect(pair.send(2, segment(2, 1, SYN, [4000, 81]))).toEqual([]);
  bridge.compare();
});

test('where nothing looks, megaflows are offered at the put, and else as decisions', () => {
  const bridge = new Bridge();
  const { pair } = bridge;
  bridge.flow('recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()', '2,3');
  bridge.flow('recirc_id(0),in_port(2),eth(),eth_type(0x0800),ipv4()', '3');
  expect(bridge.status).toBeNull();
  expect(pair.send(1, frame('10.0.0.1'))).toEqual([2, 3]);
  expect(pair.carried).toBe(1);
  bridge.set(1, deny(22));
  expect(bridge.status).toMatchObject({ deciders: ['port policies', 'ovs'] });
  // Of packets from port 2 nobody says more than the megaflow does.
  expect(pair.send(2, frame('10.0.0.1'))).toEqual([3]);
  expect(pair.carried).toBe(2);
  for (let i = 0; i < 3; i += 1) {
    expect(pair.send(1, frame('10.0.0.1'))).toEqual([2, 3]);
    expect(pair.send(1, frame('10.0.0.1', 22))).toEqual([]);
  }
  expect([pair.carried, pair.dropped]).toEqual([6, 2]);
  bridge.compare();
  bridge.unset(1, 'acl');
  expect(bridge.status).toBeNull();
  expect(pair.send(1, frame('10.0.0.1', 22))).toEqual([2, 3]);
  expect(pair.carried).toBe(7);
  bridge.compare();
});

/** What becomes of flows that are offered, by the port that they come in by. */
function news({ pair }: Bridge): string[] {
  const table = pair.carrier.source?.table;
  if (table === undefined) throw new Error('nothing is offered');
  const told: string[] = [];
  const tell = (what: string) => (slot: number) => told.push(`${what} ${table.portOf(slot)}`);
  table.observe({
    flowAdded: tell('added'),
    flowModified: tell('modified'),
    flowRemoved: tell('removed'),
    flowWithdrawn: tell('withdrawn'),
    flowsFlushed: () => told.push('flushed'),
  });
  return told;
}

test('policies of a port come and go, and megaflows between others are offered all the while', () => {
  const bridge = new Bridge();
  const { pair } = bridge;
  for (const [port, to] of [
    [1, '2'],
    [2, '1'],
    [3, '1,2'],
    [4, '3'],
  ] as const)
    bridge.flow(`recirc_id(0),in_port(${port}),eth(),eth_type(0x0800),ipv4()`, to);
  const told = news(bridge);
  const send = () => {
    expect(pair.send(1, frame('10.0.0.1'))).toEqual([2]);
    expect(pair.send(2, frame('10.0.0.2'))).toEqual([1]);
    expect(pair.send(3, frame('10.0.0.3'))).toEqual([1, 2]);
    expect(pair.send(4, frame('10.0.0.4'))).toEqual([3]);
  };
  for (let round = 0; round < 3; round += 1) {
    bridge.set(4, deny(22));
    expect(told.splice(0)).toEqual(['withdrawn 4']);
    expect(pair.flows).toBe(3);
    send();
    bridge.set(3, deny(22));
    expect(told.splice(0)).toEqual(['added 4', 'removed 4', 'withdrawn 3']);
    expect(pair.flows).toBe(2);
    send();
    expect(pair.send(4, frame('10.0.0.4', 22))).toEqual([]);
    expect(told.splice(0)).toEqual(['added 3', 'added 4', 'added 4']);
    bridge.unset(4, 'acl');
    bridge.unset(3, 'acl');
    expect(told.filter((what) => what.endsWith('1') || what.endsWith('2'))).toEqual([]);
    told.length = 0;
    expect(pair.flows).toBe(4);
    send();
    bridge.compare();
  }
  // Two of three or four each time: those of the port that has just changed come up once.
  expect(pair.carried).toBeGreaterThanOrEqual(3 * (3 + 2 + 4));
});

test('what is looked up again between other ports is carried while a port has policies, and comes up where it goes there', () => {
  const bridge = new Bridge();
  bridge.set(3, deny(22));
  bridge.flow('recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()', 'ct(zone=5),recirc(0x1)');
  bridge.flow('recirc_id(0x1),in_port(1),ct_state(+est),eth(),eth_type(0x0800),ipv4(dst=10.0.0.2)', '2');
  bridge.flow('recirc_id(0x1),in_port(1),ct_state(+est),eth(),eth_type(0x0800),ipv4(dst=10.0.0.3)', '3');
  const table = bridge.pair.carrier.source?.table;
  const offered: string[] = [];
  for (let slot = table?.next(0) ?? -1; slot !== -1; slot = table?.next(slot + 1) ?? -1)
    offered.push(formatActions(table?.actionsOf(slot) ?? new Int32Array(0)));
  expect(offered).toEqual(['ct(zone=5),recirc(0x1)', '2']);
});

test("a megaflow under the recirculation id that is the switch's own stays in the engine, and so does what leads there", () => {
  const bridge = new Bridge();
  bridge.flow('recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()', 'clone(recirc(0x7fffffff)),2');
  bridge.flow('recirc_id(0x7fffffff),in_port(1),eth(),eth_type(0x0800),ipv4()', '2');
  bridge.flow('recirc_id(0),in_port(2),eth(),eth_type(0x0800),ipv4()', '1');
  expect(bridge.pair.flows).toBe(1);
});

test('an extension that only watches ends no flow, and a filter those alone that come to it', () => {
  const bridge = new Bridge();
  const { pair } = bridge;
  bridge.set(1, deny(22));
  bridge.flow('recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()', '2');
  bridge.flow('recirc_id(0),in_port(2),eth(),eth_type(0x0800),ipv4()', '3');
  for (const port of [80, 22]) pair.send(1, frame('10.0.0.1', port));
  const told = news(bridge);
  pair.enable(extension('watcher', 'capturing', (handle) => passing(handle)).factory);
  pair.both((sw) => sw.disableExtension('watcher').result());
  expect(told.splice(0)).toEqual([]);
  // It stands above the policies.
  pair.both((sw) => sw.enableExtension(wall(), {}, 0).result());
  expect(told.filter((what) => what.startsWith('withdrawn'))).toEqual(['withdrawn 2']);
  for (const port of [80, 22]) expect(pair.send(1, frame('10.0.0.1', port))).toEqual(port === 22 ? [] : [2]);
  bridge.compare();
});

test('a megaflow that changes or goes takes along what rests on it, and keeps its counts', () => {
  const bridge = new Bridge();
  const { pair } = bridge;
  const match = 'recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()';
  bridge.set(1, deny(22));
  bridge.flow(match, '2');
  for (let i = 0; i < 3; i += 1) expect(pair.send(1, frame('10.0.0.1'))).toEqual([2]);
  expect(pair.flows).toBe(1);
  bridge.command('mod-flow', { flow: match, actions: '3' });
  expect(pair.flows).toBe(0);
  for (let i = 0; i < 3; i += 1) expect(pair.send(1, frame('10.0.0.1'))).toEqual([3]);
  bridge.compare();
  bridge.command('del-flow', { flow: match });
  expect(pair.flows).toBe(0);
  // A miss is nothing that is kept.
  for (let i = 0; i < 3; i += 1) expect(pair.send(1, frame('10.0.0.1'))).toEqual([]);
  expect(pair.flows).toBe(0);
  expect(pair.carried).toBe(4);
  bridge.compare();
});

test('a place that another megaflow took is no place of the first', () => {
  const bridge = new Bridge();
  const { pair } = bridge;
  const match = (port: number) => `recirc_id(0),in_port(${port}),eth(),eth_type(0x0800),ipv4()`;
  for (const port of [1, 2]) {
    bridge.set(port, deny(22));
    bridge.flow(match(port), '3');
  }
  pair.send(1, frame('10.0.0.1'));
  bridge.set(1, deny(23));
  expect(pair.flows).toBe(0);
  for (const port of [2, 1]) pair.send(port, frame('10.0.0.1'));
  expect(pair.flows).toBe(2);
  const table = pair.carrier.source?.table;
  if (table === undefined) throw new Error('nothing is offered');
  const asked: number[] = [];
  table.observe({ ...DEAF, statisticsWanted: (slot) => asked.push(table.portOf(slot)) });
  for (const port of [2, 1]) bridge.command('get-flow', { flow: match(port) });
  expect(asked).toEqual([2, 1]);
  bridge.compare();
});

test('a port that leaves the datapath takes along what is sent to it, and what comes from it', () => {
  const bridge = new Bridge();
  const { pair } = bridge;
  bridge.set(1, deny(22));
  bridge.flow('recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()', '2,3');
  bridge.flow('recirc_id(0),in_port(2),eth(),eth_type(0x0800),ipv4()', '3');
  bridge.set(2, deny(22));
  for (let i = 0; i < 2; i += 1) {
    expect(pair.send(1, frame('10.0.0.1'))).toEqual([2, 3]);
    expect(pair.send(2, frame('10.0.0.1'))).toEqual([3]);
  }
  expect(pair.flows).toBe(2);
  bridge.command('del-if', { port: 'p2' });
  // The megaflow of a port that is not there is nobody's.
  expect(pair.flows).toBe(1);
  for (let i = 0; i < 2; i += 1) {
    expect(pair.send(1, frame('10.0.0.1'))).toEqual([3]);
    expect(pair.send(2, frame('10.0.0.1'))).toEqual([]);
  }
  bridge.compare();
});

test('a filter above is asked along, drops elsewhere, and its list changes what runs', () => {
  const bridge = new Bridge(wall());
  const { pair } = bridge;
  bridge.flow('recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()', '2');
  expect(bridge.status).toMatchObject({ deciders: ['wall', 'port policies', 'ovs'] });
  for (let i = 0; i < 3; i += 1) expect(pair.send(1, frame('10.1.0.1'))).toEqual([2]);
  pair.both((sw) => sw.extensionCommand('wall', 'deny', '10.1.0.0/16'));
  for (let i = 0; i < 3; i += 1) expect(pair.send(1, frame('10.1.0.1'))).toEqual([]);
  expect([pair.carried, pair.dropped]).toEqual([4, 2]);
  bridge.compare();
  const counters = pair.quick.sw.extensions().find(({ name }) => name === 'wall')?.counters;
  expect(counters).toEqual({ all: 6 });
});

test('rewriting, tags of the datapath and tags of ports come together', () => {
  const bridge = new Bridge();
  const { pair } = bridge;
  bridge.set(2, { type: 'vlan', mode: 'access', vlanId: 7 });
  bridge.set(4, { type: 'vlan', mode: 'trunk', nativeVlanId: 7 });
  bridge.flow(
    'recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()',
    '3,push_vlan(vid=7,pcp=0),set(eth(dst=02:00:00:00:00:09)),2,4,3',
  );
  for (let i = 0; i < 3; i += 1) expect(pair.send(1, frame('10.0.0.1'))).toEqual([2, 3, 3, 4]);
  expect(pair.carried).toBe(3);
  bridge.compare(false);
});

test('what only the engine can do stays there, and says why', () => {
  const bridge = new Bridge();
  const { pair } = bridge;
  bridge.set(1, deny(22));
  bridge.flow('recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()', 'recirc(0x1)');
  bridge.flow('recirc_id(0x1),in_port(1),eth(),eth_type(0x0800),ipv4()', '2');
  for (let i = 0; i < 3; i += 1) expect(pair.send(1, frame('10.0.0.1'))).toEqual([2]);
  expect(pair.carried).toBe(0);
  expect(bridge.status).toMatchObject({ reasons: { 'ovs: its flow has the action recirc': 1 } });
  bridge.compare();
});

const ACTIONS = [
  '2',
  '1,3',
  '2,3,4',
  'push_vlan(vid=5,pcp=0),2,3',
  '3,push_vlan(vid=7,pcp=2),4',
  'set(eth(dst=02:00:00:00:00:02)),3,4',
  'pop_vlan,2,1',
  'set(eth(src=02:00:00:00:00:03)),1,push_vlan(vid=6,pcp=0),2',
  'drop',
  'recirc(0x5)',
  '9,2',
];

test('whatever policies, filters and programs want, what is carried is what is done here', () => {
  const seed = runSeed();
  let carried = 0;
  let dropped = 0;
  for (let round = 0; round < fuzzRounds(30); round += 1) {
    const where = seed + round * 7;
    const source = new RandomSource(where);
    const states: RandomState[] = [];
    const filter = defineDecider({
      descriptor: { name: 'one', type: 'filtering', version: '1.0.0' },
      create(handle) {
        const state = new RandomState();
        states.push(state);
        const decider = randomDecider(new RandomSource(where + 1), state, [handle.counter('a')], false);
        return { ...decider };
      },
    });
    const bridge = round % 2 === 0 ? new Bridge() : new Bridge(filter);
    const { pair } = bridge;
    const matches = PORTS.flatMap((port) =>
      [
        'eth_type(0x0800),ipv4(proto=6,frag=no)',
        'eth_type(0x0800),ipv4(proto=17,frag=no)',
        'eth_type(0x86dd),ipv6(proto=6)',
        'eth_type(0x86dd),ipv6(proto=17)',
        'eth_type(0x0806)',
        'eth_type(0x8100),vlan(vid=5),encap(eth_type(0x0800))',
        'eth_type(0x8100),vlan(vid=6),encap(eth_type(0x86dd))',
      ].map((rest) => `recirc_id(0),in_port(${port}),eth(),${rest}`),
    );
    const put = new Set<string>();
    const program = () => {
      const flow = source.pick(matches);
      const actions = source.pick(ACTIONS);
      if (!put.has(flow)) bridge.flow(flow, actions);
      else if (source.once(2)) {
        // Of megaflows that are offered as they are, what was not told yet counts by the actions that they have then.
        pair.carrier.bringAll();
        bridge.command('mod-flow', { flow, actions });
      } else {
        bridge.command('del-flow', { flow });
        put.delete(flow);
        return;
      }
      put.add(flow);
    };
    const change = () => {
      const { type, property } = randomProperty(source);
      const portId = source.pick(PORTS);
      try {
        if (property === null) bridge.unset(portId, type as PortPropertyType);
        else bridge.set(portId, property);
      } catch {
        // Two that contradict each other, or one that is not there: refused on both sides.
      }
    };
    for (let i = 0; i < 30; i += 1) program();
    for (let i = 0; i < 6; i += 1) change();
    const kinds: FrameKind[] = Array.from({ length: 6 }, () => ({
      ...randomKind(source),
      tags: source.pick([0, 0, 1]),
    }));
    for (let i = 0; i < 200; i += 1) {
      if (source.once(15)) change();
      if (source.once(15)) program();
      if (source.once(15)) {
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
    try {
      bridge.compare(false);
    } catch (error) {
      throw new Error(`MILLRACE_SEED=${where}`, { cause: error });
    }
    carried += pair.carried;
    dropped += pair.dropped;
  }
  expect(carried).toBeGreaterThan(200);
  expect(dropped).toBeGreaterThan(20);
}, 120_000);

test('a datagram of DHCP that is guarded is no megaflow', () => {
  const bridge = new Bridge();
  bridge.set(1, { type: 'guard', dhcp: true, router: false });
  bridge.flow('recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()', '2');
  const offer = Uint8Array.from(ethernet(0x0800, ipv4(17, udp({ src: 67, dst: 68 }))));
  for (let i = 0; i < 3; i += 1) expect(bridge.pair.send(1, offer)).toEqual([]);
  expect(bridge.pair.dropped).toBe(2);
  bridge.compare();
});
