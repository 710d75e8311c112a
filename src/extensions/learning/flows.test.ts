/** Flows of what the learning extension decides: what they carry is what the switch does, whatever changes. */
import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { type FlowSource, FlowTable, formatFlow, KEY_WORDS, Word } from '../../flow/index.ts';
import { toPortId } from '../../net/index.ts';
import { Twins } from '../../switch/decider/testing/twins.ts';
import { createSwitch, type ExtensionFactory, type ExtensionHandle, type VirtualSwitch } from '../../switch/index.ts';
import { Bench, passing, TestHost } from '../../switch/testing.ts';
import { learningExtension } from './index.ts';

/** A pair of switches with ports 1 to `ports` and the learning extension. */
function twins(ports: number, configuration: unknown = {}): Twins {
  const pair = new Twins();
  pair.enable(learningExtension, configuration);
  for (let port = 1; port <= ports; port += 1) pair.addPort(port);
  return pair;
}

interface FrameParts {
  readonly tags?: readonly number[];
  readonly tpid?: number;
  readonly type?: number;
  readonly payload?: readonly number[];
}

/** A frame between hosts; host 255 is everybody. */
function frame(
  from: number,
  to: number,
  { tags = [], tpid = 0x8100, type = 0x88b5, payload = [] }: FrameParts = {},
): Uint8Array {
  const destination = to === 255 ? [255, 255, 255, 255, 255, 255] : [2, 0, 0, 0, 0, to];
  const bytes = [...destination, 2, 0, 0, 0, 0, from];
  for (const tci of tags) bytes.push(tpid >> 8, tpid & 255, tci >> 8, tci & 255);
  bytes.push(type >> 8, type & 255, ...payload);
  while (bytes.length < 60) bytes.push(0);
  return Uint8Array.from(bytes);
}

/** Both hosts are heard of, then talk to each other until there are flows both ways. */
function acquaint(
  pair: Twins,
  a: [port: number, host: number],
  b: [port: number, host: number],
  parts: FrameParts = {},
): void {
  pair.send(a[0], frame(a[1], 255, parts));
  pair.send(b[0], frame(b[1], 255, parts));
  pair.send(a[0], frame(a[1], b[1], parts));
  pair.send(b[0], frame(b[1], a[1], parts));
}

function texts(pair: Twins): string[] {
  const table = pair.carrier.source?.table;
  const found: string[] = [];
  if (!(table instanceof FlowTable)) throw new Error('no table of decisions is offered');
  for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1)) {
    found.push(formatFlow(table, slot, 0).replace(/, packets:.*actions:/, ' ->'));
  }
  return found.sort();
}

test('two hosts that talk get a flow each way, and what flows carry is counted everywhere', () => {
  const pair = twins(3);
  acquaint(pair, [1, 1], [2, 2]);
  expect([pair.flows, pair.unicastFlows]).toEqual([4, 2]);
  for (let i = 0; i < 10; i += 1) expect(pair.send(1, frame(1, 2))).toEqual([2]);
  expect(pair.carried).toBe(10);
  pair.compare();
  expect(pair.quick.sw.port(1).counters.receivedPackets).toBe(12);
  expect(texts(pair)[0]).toContain('in_port(1)');
});

test('floods are flows: those to everybody until ports change, those to an unknown address until it is known', () => {
  const pair = twins(3);
  for (let i = 0; i < 3; i += 1) {
    expect(pair.send(1, frame(1, 255))).toEqual([2, 3]);
    expect(pair.send(1, frame(1, 2))).toEqual([2, 3]);
  }
  expect([pair.flows, pair.carried]).toEqual([2, 4]);
  pair.send(2, frame(2, 1));
  expect(pair.send(1, frame(1, 2))).toEqual([2]);
  expect(pair.flows).toBe(3);
  pair.addPort(4);
  // Those between two addresses stay.
  expect(pair.flows).toBe(2);
  expect(pair.send(1, frame(1, 255))).toEqual([2, 3, 4]);
  pair.compare();
  expect(pair.quick.sw.extensions()[0].counters.flooded).toBe(7);
});

test('what would go back to where it came from is dropped by a flow, until one of the two is elsewhere', () => {
  const pair = twins(3, { ageingSeconds: 20, flows: { idleSeconds: 3600 } });
  pair.send(1, frame(1, 255));
  for (let i = 0; i < 4; i += 1) expect(pair.send(1, frame(3, 1))).toEqual([]);
  expect([pair.dropFlows, pair.dropped]).toEqual([1, 3]);
  // To itself, which needs no second address.
  for (let i = 0; i < 3; i += 1) expect(pair.send(1, frame(3, 3))).toEqual([]);
  expect([pair.dropFlows, pair.dropped]).toEqual([2, 5]);
  pair.compare();

  pair.send(2, frame(1, 255));
  expect(pair.dropFlows).toBe(1);
  expect(pair.send(1, frame(3, 1))).toEqual([2]);
  pair.send(1, frame(1, 255));
  for (let i = 0; i < 3; i += 1) pair.send(1, frame(3, 1));
  // What is dropped keeps its sender young, and nobody else.
  for (let second = 0; second < 20; second += 1) {
    pair.advance(1000);
    expect(pair.send(1, frame(3, 1))).toEqual([]);
  }
  pair.advance(1000);
  expect(pair.send(1, frame(3, 1))).toEqual([2, 3]);
  expect(pair.send(2, frame(2, 3))).toEqual([1]);
  pair.compare();
});

test('an address that moves ends its flows both ways, and only those', () => {
  const pair = twins(4);
  acquaint(pair, [1, 1], [2, 2]);
  acquaint(pair, [1, 4], [3, 3]);
  expect(pair.unicastFlows).toBe(4);
  pair.send(4, frame(1, 255));
  expect(pair.unicastFlows).toBe(2);
  expect(pair.send(2, frame(2, 1))).toEqual([4]);
  pair.compare();
});

test("what is done to one port ends that port's flows, and no others", () => {
  const acl = { type: 'acl' as const, rules: [{ direction: 'in' as const, action: 'deny' as const, protocol: 6 }] };
  const events: Record<string, (sw: VirtualSwitch) => void> = {
    mtu: (sw) => sw.updateNic(3, 0, { mtuBytes: 1400 }).result(),
    address: (sw) => sw.updateNic(3, 0, { macAddress: Uint8Array.of(2, 0, 0, 0, 0, 9) }).result(),
    rename: (sw) => sw.updatePort(3, { name: 'other' }).result(),
    disconnect: (sw) => sw.disconnectNic(3).result(),
    remove: (sw) => sw.removePort(3).result(),
    acl: (sw) => sw.setPortProperty(3, acl).result(),
    vlan: (sw) => sw.setPortProperty(3, { type: 'vlan', mode: 'access', vlanId: 5 }).result(),
    settings: (sw) => void sw.extensionCommand('learning', 'ports', { p3: { limit: 7 } }),
  };
  for (const [name, event] of Object.entries(events)) {
    const pair = twins(3, { flows: { idleSeconds: 3600 } });
    acquaint(pair, [1, 1], [2, 2]);
    acquaint(pair, [3, 3], [1, 1]);
    expect(pair.unicastFlows).toBe(4);
    // One more port that comes and goes is nobody's business at all.
    pair.addPort(4);
    pair.both((sw) => sw.removePort(4).result());
    expect(pair.unicastFlows, name).toBe(4);
    pair.both(event);
    expect(pair.unicastFlows, name).toBeLessThan(4);
    const before = pair.carried;
    for (let i = 0; i < 5; i += 1) expect(pair.send(1, frame(1, 2))).toEqual([2]);
    expect(pair.carried - before, name).toBe(5);
    pair.compare();
  }
});

test('what judges between ports ends the flows of all when it changes: mirrors, private VLANs, teams', () => {
  const security = { type: 'security', allowMacSpoofing: true, allowIeeePriorityTag: true, virtualSubnetId: 0 };
  const events: Record<string, object> = {
    private: { type: 'vlan', mode: 'private', privateMode: 'isolated', primaryVlanId: 5, secondaryVlanId: 8 },
    team: { ...security, allowTeaming: true, dynamicIpAddressLimit: 0 },
  };
  for (const [name, property] of Object.entries(events)) {
    const pair = twins(3);
    acquaint(pair, [1, 1], [2, 2]);
    pair.set(3, property);
    expect(pair.flows, name).toBe(0);
    acquaint(pair, [1, 1], [2, 2]);
    expect(pair.unicastFlows, name).toBe(2);
  }
});

test('a full address table ends the flows of whoever gave up, and of nobody else', () => {
  const pair = twins(3, { maximum: 6, flows: { idleSeconds: 3600 } });
  acquaint(pair, [1, 1], [2, 2]);
  acquaint(pair, [3, 3], [1, 1]);
  expect(pair.unicastFlows).toBe(4);
  for (let host = 10; host < 60; host += 1) pair.send(3, frame(host, 255));
  expect(pair.unicastFlows).toBe(2);
  const before = pair.carried;
  for (let i = 0; i < 5; i += 1) expect(pair.send(2, frame(2, 1))).toEqual([1]);
  expect(pair.carried - before).toBe(5);
  pair.compare();
});

test('flows go when they are idle, and stay while packets are carried', () => {
  const pair = twins(2, { flows: { idleSeconds: 5 } });
  acquaint(pair, [1, 1], [2, 2]);
  for (let i = 0; i < 6; i += 1) {
    pair.advance(2000);
    pair.send(1, frame(1, 2));
  }
  expect(pair.carried).toBe(6);
  expect(pair.flows).toBe(1);
  pair.advance(6000);
  expect(pair.flows).toBe(0);
  pair.compare();
});

test('what flows carry keeps the source young; the destination ages all the same, to the second', () => {
  const pair = twins(3, { ageingSeconds: 20, flows: { idleSeconds: 3600 } });
  acquaint(pair, [1, 1], [2, 2]);
  for (let i = 0; i < 20; i += 1) {
    pair.advance(1000);
    expect(pair.send(1, frame(1, 2))).toEqual([2]);
  }
  expect(pair.carried).toBe(20);
  pair.advance(1000);
  expect(pair.send(1, frame(1, 2))).toEqual([2, 3]);
  expect(pair.send(3, frame(3, 1))).toEqual([1]);
  pair.compare();
});

test('an address is as young as its last carried packet, also for those who only send to it', () => {
  const pair = twins(3, { ageingSeconds: 3, flows: { idleSeconds: 3600 } });
  acquaint(pair, [1, 1], [2, 2]);
  acquaint(pair, [3, 3], [1, 1]);
  for (let i = 0; i < 12; i += 1) {
    pair.advance(900);
    pair.send(1, frame(1, 2));
    pair.send(2, frame(2, 1));
    expect(pair.send(3, frame(3, 1))).toEqual([1]);
  }
  expect(pair.carried).toBeGreaterThan(30);
  pair.compare();
});

test('tags are pushed, popped and kept as ports want them', () => {
  const pair = twins(4);
  pair.both((sw) => {
    sw.setPortProperty(1, { type: 'vlan', mode: 'access', vlanId: 5 }).result();
    sw.setPortProperty(2, {
      type: 'vlan',
      mode: 'trunk',
      nativeVlanId: 7,
      trunkVlanIds: [5, 6],
      pruneVlanIds: [],
    }).result();
    sw.setPortProperty(3, { type: 'vlan', mode: 'access', vlanId: 7 }).result();
  });
  pair.send(1, frame(1, 255));
  pair.send(2, frame(2, 255, { tags: [5] }));
  pair.send(2, frame(2, 255));
  pair.send(3, frame(3, 255));
  for (let i = 0; i < 3; i += 1) {
    pair.send(1, frame(1, 2));
    pair.send(2, frame(2, 1, { tags: [5] }));
    pair.send(2, frame(2, 1, { tags: [(6 << 13) | 0x1000 | 5] }));
    pair.send(3, frame(3, 2));
    pair.send(2, frame(2, 3));
  }
  expect(pair.carried).toBe(11);
  expect(texts(pair).map((text) => text.split('->')[1])).toMatchInlineSnapshot(`
    [
      "push_vlan(vid=5,pcp=0),2",
      "push_vlan(vid=5,pcp=0),2,4",
      "pop_vlan,1",
      "3",
      "3,push_vlan(vid=7,pcp=0),4",
      "4,pop_vlan,1",
      "2",
      "2,push_vlan(vid=7,pcp=0),4",
    ]
  `);
  pair.compare();
});

test('what a key cannot hold comes up: tags that are written anew, 802.3', () => {
  const pair = twins(2);
  for (let i = 0; i < 2; i += 1) acquaint(pair, [1, 3], [2, 4], { type: 40 });
  expect(pair.carried).toBe(0);
  pair.both((sw) => {
    const security = {
      type: 'security',
      allowMacSpoofing: true,
      allowIeeePriorityTag: false,
      virtualSubnetId: 0,
      allowTeaming: false,
      dynamicIpAddressLimit: 0,
    };
    for (const port of [1, 2]) sw.setPortProperty(port, security).result();
  });
  for (let i = 0; i < 2; i += 1) acquaint(pair, [1, 5], [2, 6], { tags: [(3 << 13) | 9] });
  expect(pair.carried).toBe(0);
  pair.compare();
});

test('what another extension is handed comes up, unless that says otherwise; what it says may change', () => {
  const pair = twins(2);
  let passes = true;
  const handles: ExtensionHandle[] = [];
  const watcher = (asked: boolean): ExtensionFactory => ({
    descriptor: { name: 'watcher', type: 'filtering', version: '1' },
    create: (handle) => {
      handles.push(handle);
      return {
        onEgress: (batch, flags) => handle.indicateEgress(batch, flags),
        ...(asked ? { passByPort: () => passes } : {}),
      };
    },
  });
  /** How many of six packets flows carry. */
  const carried = (): number => {
    acquaint(pair, [1, 1], [2, 2]);
    const before = pair.carried;
    for (let i = 0; i < 3; i += 1) {
      expect(pair.send(1, frame(1, 2))).toEqual([2]);
      expect(pair.send(2, frame(2, 1))).toEqual([1]);
    }
    return pair.carried - before;
  };
  expect(carried()).toBe(6);
  pair.enable(watcher(false));
  expect(carried()).toBe(0);
  pair.both((sw) => sw.disableExtension('watcher').result());
  pair.enable(watcher(true));
  expect(carried()).toBe(6);
  passes = false;
  for (const handle of handles) handle.shortcuts.changed();
  expect(carried()).toBe(0);
  pair.compare();
});

test('an extension that fails when it is asked is disabled, and traffic goes on', () => {
  const services: Record<string, unknown> = {};
  const bench = new Bench({
    host: { ...new TestHost(), nowMs: () => 5_000_000, log: () => {}, services, setTimer: () => ({ cancel() {} }) },
  });
  bench.failuresExpected = true;
  const sources: FlowSource[] = [];
  services.flows = {
    strict: true,
    register: (source: FlowSource) => {
      sources.push(source);
      return { portsChanged: () => {}, close: () => {} };
    },
  };
  bench.sw.enableExtension(learningExtension).result();
  bench.enable('broken', 'filtering', (handle) => ({
    ...passing(handle),
    passByPort: () => {
      throw new Error('broken');
    },
  }));
  for (const at of [1, 2]) bench.port(at);
  expect(sources[0].isOpen?.(toPortId(1))).toBe(false);
  expect(bench.sw.extensions().find(({ name }) => name === 'broken')?.failure).toContain('broken');
  bench.receive(1, frame(1, 255));
  bench.receive(2, frame(2, 1), frame(2, 1));
  expect(bench.reached().length).toBe(3);
});

test('there are never more flows than the maximum, and none without timers or with a maximum of 0', () => {
  const pair = twins(2, { flows: { maximum: 3 } });
  for (let other = 2; other < 10; other += 1) acquaint(pair, [1, 1], [2, other]);
  expect(pair.flows).toBe(3);
  expect(twins(2, { flows: { maximum: 0 } }).carrier.source).toBeNull();
  const register = vi.fn();
  const host = { nowMs: () => 0, log: () => {}, services: { flows: { register, strict: true } } };
  const sw = createSwitch({ name: 'timeless', host });
  sw.activate().result();
  sw.enableExtension(learningExtension).result();
  expect(register).not.toHaveBeenCalled();
});

test('access control of a port drops in flows, on the way in and on the way out', () => {
  const pair = twins(3);
  const acl = (direction: 'in' | 'out') => ({
    type: 'acl' as const,
    rules: [
      { direction, action: 'meter' as const, weight: 1 },
      { direction, action: 'deny' as const, protocol: 6, remotePort: direction === 'in' ? 80 : 99 },
    ],
  });
  const web = ipv4(6, tcp(80));
  pair.set(1, acl('in'));
  for (let i = 0; i < 4; i += 1) expect(pair.send(1, frame(1, 2, web))).toEqual([]);
  expect([pair.flows, pair.dropFlows, pair.dropped]).toEqual([1, 1, 3]);
  pair.compare();
  pair.unset(1, 'acl');
  pair.set(2, acl('out'));
  expect(pair.flows).toBe(0);
  acquaint(pair, [1, 1], [2, 2], web);
  for (let i = 0; i < 4; i += 1) expect(pair.send(1, frame(1, 2, web))).toEqual([]);
  expect([pair.flows, pair.dropFlows]).toEqual([4, 1]);
  expect(pair.dropped).toBe(7);
  // The drop is no reason to forget who sends.
  pair.compare();
  // Frames that are too long for the port are excluded before anybody asks how long they are.
  pair.both((sw) => sw.updateNic(2, 0, { mtuBytes: 40 }).result());
  for (let i = 0; i < 3; i += 1) expect(pair.send(1, frame(1, 2, web))).toEqual([]);
  expect(pair.dropFlows).toBe(1);
  pair.compare();
});

test('answers of DHCP servers to a port that learns from them come up, and nothing else', () => {
  const pair = twins(3);
  pair.set(1, { type: 'binding', addresses: [{ ip: '0.0.0.0/0' }], dhcp: true });
  const [answer, other] = [68, 99].map((to) => ipv4(17, [0, to - 1, 0, to, 0, 12, 0, 0, 0, 0, 0, 0]));
  acquaint(pair, [1, 1], [2, 2], other);
  for (let i = 0; i < 4; i += 1) pair.send(2, frame(2, 1, answer));
  expect(pair.carried).toBe(0);
  for (let i = 0; i < 4; i += 1) pair.send(2, frame(2, 1, other));
  expect(pair.carried).toBe(4);
  pair.compare();
});

test('a learned address that goes takes the flows of what comes in at its port, and no others', () => {
  const pair = twins(3);
  pair.set(1, { type: 'binding', nd: true, limit: 1 });
  const address = (last: number) => [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
  const v6 = (source: readonly number[], next: number, payload: readonly number[], to = address(9)) => ({
    type: 0x86dd,
    payload: [0x60, 0, 0, 0, 0, payload.length, next, 255, ...source, ...to, ...payload],
  });
  /** A test for duplicates, to those who would hear that it is theirs. */
  const claim = (last: number) => {
    const group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, last];
    const solicitation = [135, 0, 0, 0, 0, 0, 0, 0, ...address(last)];
    const made = frame(1, 255, v6(new Array<number>(16).fill(0), 58, solicitation, group));
    made.set([0x33, 0x33, ...group.slice(12)]);
    return made;
  };
  pair.send(1, claim(1));
  pair.advance(600);
  acquaint(pair, [2, 2], [3, 3]);
  acquaint(pair, [1, 1], [2, 2], v6(address(1), 17, [0, 99, 0, 99, 0, 8, 0, 0]));
  expect(pair.unicastFlows).toBe(4);
  pair.send(1, claim(2));
  expect(pair.unicastFlows).toBe(3);
  expect(texts(pair).some((text) => text.includes('in_port(1)'))).toBe(false);
  pair.compare();
});

test('what is mirrored comes up, and so does GRE from the external port, of which some is NVGRE', () => {
  const pair = new Twins();
  pair.enable(learningExtension);
  pair.addPort(1, { type: 'external' });
  for (const at of [2, 3]) pair.addPort(at);
  const gre = ipv4(47, [0, 0, 8, 0]);
  const nvgre = ipv4(47, [0x20, 0, 0x65, 0x58, 0, 0, 0, 9]);
  acquaint(pair, [1, 1], [2, 2], gre);
  for (let i = 0; i < 3; i += 1) {
    for (const parts of [gre, nvgre, ipv4(6, tcp(80))]) {
      pair.send(1, frame(1, 2, parts));
      pair.send(2, frame(2, 1, parts));
    }
  }
  // From inside all of IPv4, from outside TCP alone.
  expect(pair.unicastFlows).toBe(2);
  pair.set(2, { type: 'monitor', mode: 'source' });
  pair.set(3, { type: 'monitor', mode: 'destination' });
  acquaint(pair, [1, 1], [2, 2]);
  const { carried } = pair;
  for (let i = 0; i < 3; i += 1) expect(pair.send(1, frame(1, 2))).toEqual([2, 3]);
  expect(pair.carried).toBe(carried);
  pair.compare();
});

test('a second tag is told from none, and an address beyond the limit of its port stays unknown', () => {
  const pair = twins(2, { ports: { p1: { limit: 1 } } });
  pair.set(1, { type: 'vlan', mode: 'access', vlanId: 5 });
  acquaint(pair, [1, 1], [2, 2], { tags: [5] });
  for (let i = 0; i < 3; i += 1) {
    expect(pair.send(1, frame(1, 2, { tags: [5] }))).toEqual([2]);
    expect(pair.send(1, frame(1, 2, { tags: [5, 6] }))).toEqual([]);
    expect(pair.send(1, frame(3, 2, { tags: [5] }))).toEqual([2]);
  }
  expect(pair.carried).toBe(7);
  pair.compare();
  expect(pair.quick.sw.extensions()[0].counters.overLimit).toBe(3);
});

test('a carrier that does not look closely at headers gets no flows', () => {
  for (const strict of [false, true]) {
    const pair = new Twins({}, strict);
    pair.enable(learningExtension);
    for (const at of [1, 2]) pair.addPort(at);
    acquaint(pair, [1, 1], [2, 2]);
    expect(pair.flows).toBe(strict ? 4 : 0);
  }
});

const security = (allowMacSpoofing: boolean, allowIeeePriorityTag: boolean) => ({
  type: 'security',
  allowMacSpoofing,
  allowIeeePriorityTag,
  virtualSubnetId: 0,
  allowTeaming: false,
  dynamicIpAddressLimit: 0,
});
const privateVlan = (privateMode: 'isolated' | 'community', secondaryVlanId: number) => ({
  type: 'vlan',
  mode: 'private',
  privateMode,
  primaryVlanId: 5,
  secondaryVlanId,
});
const tcpOnly = {
  type: 'acl',
  rules: [
    { direction: 'in', action: 'meter', remoteMac: '02:00:00:00:00:02' },
    { direction: 'in', action: 'deny', protocol: 6, remotePort: 80 },
    { direction: 'out', action: 'deny', localIp: '10.0.0.1', protocol: 17 },
    { direction: 'out', action: 'meter' },
  ],
};
const properties = [
  { type: 'vlan', mode: 'access', vlanId: 5 },
  { type: 'vlan', mode: 'access', vlanId: 6 },
  { type: 'vlan', mode: 'trunk', nativeVlanId: 5, trunkVlanIds: [5, 6], pruneVlanIds: [] },
  { type: 'vlan', mode: 'trunk', nativeVlanId: 0, trunkVlanIds: 'all', pruneVlanIds: [6] },
  privateVlan('isolated', 8),
  privateVlan('community', 9),
  { type: 'vlan', mode: 'private', privateMode: 'promiscuous', primaryVlanId: 5, secondaryVlanIds: [8, 9] },
  security(false, true),
  security(true, false),
  { type: 'monitor', mode: 'source' },
  { type: 'monitor', mode: 'destination' },
  { type: 'guard', dhcp: true, router: true },
  { type: 'qos', maxRateBps: 1_000_000_000, burstBytes: 100_000 },
  tcpOnly,
];

const port = fc.integer({ min: 1, max: 4 });
const host = fc.integer({ min: 1, max: 5 });
const vlanTags = fc.constantFrom([], [], [], [], [5], [5], [6], [0], [(5 << 13) | 5], [0x1005], [5, 6], [8], [5, 6, 7]);
const ipv4 = (protocol: number, rest: readonly number[], total = 20 + rest.length, fragment = 0) => ({
  type: 0x0800,
  payload: [
    0x45,
    0,
    0,
    total,
    0,
    0,
    fragment >> 8,
    fragment & 255,
    64,
    protocol,
    0,
    0,
    10,
    0,
    0,
    1,
    10,
    0,
    0,
    2,
    ...rest,
  ],
});
const tcp = (portNumber: number) => [
  0,
  99,
  portNumber >> 8,
  portNumber & 255,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  0x50,
  2,
  0,
  0,
  0,
  0,
  0,
  0,
];
const udp = (from: number, length = 8) => [from >> 8, from & 255, 0, 53, 0, length, 0, 0];
const contents = fc.constantFrom<FrameParts>(
  {},
  {},
  { type: 0x0806, payload: [0, 1, 8, 0, 6, 4, 0, 1] },
  { type: 46 },
  { type: 0x0600 },
  { type: 9 },
  ipv4(6, tcp(80)),
  ipv4(6, tcp(81)),
  ipv4(6, tcp(81), 200),
  ipv4(6, tcp(81), 20),
  ipv4(17, udp(53)),
  ipv4(17, udp(67)),
  ipv4(17, udp(53, 90)),
  ipv4(17, udp(53), 28, 0x2000),
  ipv4(17, udp(53), 28, 9),
  ipv4(1, [8, 0, 0, 0]),
  ipv4(47, [0x20, 0, 0x65, 0x58, 0, 0, 0, 9]),
  ipv4(47, [0, 0, 8, 0]),
  { type: 0x86dd, payload: [0x60, 0, 0, 0, 0, 20, 6, 64, ...new Array<number>(32).fill(1), ...tcp(80)] },
  { type: 0x86dd, payload: [0x60, 0, 0, 0, 0, 8, 58, 64, ...new Array<number>(32).fill(1), 134, 0, 0, 0, 0, 0, 0, 0] },
);

interface Step {
  /** What fails is shown with it. */
  readonly name: string;
  run(pair: Twins, ageingSeconds: number): void;
}

/** Who talks to whom in a run, in what ways: few, so that changes meet flows. */
interface Talk {
  readonly from: number;
  readonly to: number;
  readonly variants: readonly FrameParts[];
}

const variant = fc
  .tuple(vlanTags, contents, fc.constantFrom(0x8100, 0x8100, 0x88a8))
  .map(([tags, parts, tpid]): FrameParts => ({ ...parts, tags, tpid }));
const talks = fc.array(
  fc.record<Talk>({ from: host, to: host, variants: fc.array(variant, { minLength: 1, maxLength: 3 }) }),
  { minLength: 3, maxLength: 3 },
);

const portOf = (number: number) => ((number - 1) % 4) + 1;

/** The hosts of a talk speak in turn, from where they belong. */
function speak(pair: Twins, { from, to, variants }: Talk): void {
  for (const parts of variants) {
    for (const [a, b] of [
      [from, to],
      [to, from],
      [from, to],
      [to, from],
      [from, to],
    ]) {
      pair.send(portOf(a), frame(a, b, parts));
    }
  }
}

const sending = fc.tuple(port, host, fc.constantFrom(1, 2, 3, 4, 5, 255), variant).map(
  ([at, from, to, parts]): Step => ({
    name: `send at ${at} ${from}>${to}`,
    run: (pair) => void pair.send(at, frame(from, to, parts)),
  }),
);
const order = (name: string, run: Step['run']): Step => ({
  name,
  // What is refused is refused by both alike.
  run: (pair, ageingSeconds) => {
    try {
      run(pair, ageingSeconds);
    } catch (error) {
      if (!(error instanceof Error) || error.name === 'AssertionError') throw error;
    }
  },
});
const changing = fc.oneof(
  fc.integer({ min: 100, max: 9000 }).map((ms) => order(`advance ${ms}`, (pair) => pair.advance(ms))),
  fc
    .tuple(port, fc.constantFrom(...properties))
    .map(([at, property]) => order(`property ${at} ${JSON.stringify(property)}`, (pair) => pair.set(at, property))),
  fc
    .tuple(port, fc.constantFrom(...properties))
    .map(([at, { type }]) => order(`no property ${at} ${type}`, (pair) => pair.unset(at, type as 'vlan'))),
  fc
    .tuple(port, host, fc.constantFrom(0, 5, 6))
    .map(([at, number, vlan]) =>
      order(`static ${number} at ${at} in ${vlan}`, (pair) =>
        pair.both((sw) =>
          sw.extensionCommand('learning', 'add', { mac: `02:00:00:00:00:0${number}`, vlan, port: `p${at}` }),
        ),
      ),
    ),
  fc
    .tuple(host, fc.constantFrom(0, 5, 6))
    .map(([number, vlan]) =>
      order(`del ${number} in ${vlan}`, (pair) =>
        pair.both((sw) => sw.extensionCommand('learning', 'del', { mac: `02:00:00:00:00:0${number}`, vlan })),
      ),
    ),
  fc
    .constantFrom({}, { port: 'p2' }, { vlan: 5 }, { static: true })
    .map((filter) =>
      order(`flush ${JSON.stringify(filter)}`, (pair) =>
        pair.both((sw) => sw.extensionCommand('learning', 'flush', filter)),
      ),
    ),
  port.map((at) =>
    order(`reconnect ${at}`, (pair) =>
      pair.both((sw, side) => {
        sw.disconnectNic(at).result();
        sw.deleteNic(at).result();
        sw.createNic(at, { name: `again${at}`, backend: side.nic(at) }).result();
        sw.connectNic(at).result();
      }),
    ),
  ),
  fc
    .tuple(port, fc.constantFrom(0, 40, 60, 1500), host)
    .map(([at, mtuBytes, number]) =>
      order(`nic ${at} ${mtuBytes} ${number}`, (pair) =>
        pair.both((sw) =>
          sw
            .updateNic(at, 0, { mtuBytes: Math.max(mtuBytes, 0), macAddress: Uint8Array.of(2, 0, 0, 0, 0, number) })
            .result(),
        ),
      ),
    ),
  port.map((at) => order(`disconnect ${at}`, (pair) => pair.both((sw) => sw.disconnectNic(at).result()))),
  port.map((at) => order(`remove ${at}`, (pair) => pair.both((sw) => sw.removePort(at).result()))),
  port.map((at) => order(`add ${at}`, (pair) => pair.addPort(at))),
  fc
    .constantFrom({}, { p1: { enabled: false } }, { p2: { limit: 1 } }, { p3: { limit: 1, onLimit: 'drop' } })
    .map((settings) =>
      order(`ports ${JSON.stringify(settings)}`, (pair, ageingSeconds) => {
        // What has aged counts towards limits until it is swept, at random.
        if (ageingSeconds === 7) return;
        pair.both((sw) => sw.extensionCommand('learning', 'ports', settings));
      }),
    ),
  port.map((at) => order(`rename ${at}`, (pair) => pair.both((sw) => sw.updatePort(at, { name: `q${at}` }).result()))),
  fc
    .constantFrom(
      {},
      { flows: { idleSeconds: 2 } },
      { flows: { maximum: 3 } },
      { ports: { p1: { enabled: false } } },
      { ports: { p2: { limit: 1 }, p3: { limit: 1, onLimit: 'drop' } } },
      { static: [{ mac: '02:00:00:00:00:03', port: 'p3' }] },
    )
    .map((configuration) =>
      order(`configure ${JSON.stringify(configuration)}`, (pair, ageingSeconds) => {
        // What has aged counts towards limits until it is swept, at random.
        if (ageingSeconds === 7 && JSON.stringify(configuration).includes('limit')) return;
        pair.both((sw) => sw.reconfigureExtension('learning', { ageingSeconds, ...configuration }).result());
      }),
    ),
);

const steps = fc.array(fc.oneof({ weight: 1, arbitrary: sending }, { weight: 4, arbitrary: changing }), {
  minLength: 3,
  maxLength: 30,
});

test('a switch with flows does what a switch without them does, whatever comes and changes', () => {
  let carried = 0;
  let dropped = 0;
  fc.assert(
    fc.property(fc.boolean(), fc.constantFrom(0, 7, 300), talks, steps, (external, ageingSeconds, all, list) => {
      const pair = new Twins();
      pair.enable(learningExtension, { ageingSeconds });
      pair.addPort(1, external ? { type: 'external' } : {});
      for (const at of [2, 3, 4]) pair.addPort(at, at === 2 ? { macAddress: Uint8Array.of(2, 0, 0, 0, 0, 2) } : {});
      for (const talk of all) speak(pair, talk);
      for (const step of list) {
        step.run(pair, ageingSeconds);
        for (const talk of all) speak(pair, talk);
      }
      pair.compare({ ages: ageingSeconds === 7 });
      carried += pair.carried;
      dropped += pair.dropped;
    }),
    { numRuns: Number(process.env.MILLRACE_FUZZ ?? 80) },
  );
  expect(carried).toBeGreaterThan(2000);
  expect(dropped).toBeGreaterThan(100);
}, 240_000);

test('flows that still run after a restart are flows again, with their addresses, as far as the switch would make them now', () => {
  const before = twins(3);
  acquaint(before, [1, 1], [2, 2]);
  before.send(1, frame(1, 2, { tags: [5] }));
  before.send(2, frame(2, 1, { tags: [5] }));
  before.send(1, frame(1, 2, { tags: [5] }));
  const table = before.carrier.source?.table;
  if (table === undefined) throw new Error('nobody offers flows');
  expect(table.size).toBeGreaterThan(2);

  const after = twins(3);
  // Somebody moved and was seen: what still runs is older than that.
  for (const tags of [[], [5]]) after.send(3, frame(9, 255, { tags }));
  for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1)) {
    const key = new Uint32Array(KEY_WORDS);
    table.readKey(slot, key);
    const portId = key[Word.IN_PORT];
    after.carrier.source?.recall?.({ portId: toPortId(portId), outputPortIds: [toPortId(3 - portId)], key });
    after.carrier.source?.recall?.({ portId: toPortId(7), outputPortIds: [toPortId(3 - portId)], key });
    key[Word.MAC + 2] = 9;
    after.carrier.source?.recall?.({ portId: toPortId(portId), outputPortIds: [toPortId(3 - portId)], key });
  }
  const recalled = texts(after).filter((text) => !text.includes('in_port(3)'));
  expect(recalled).toEqual(texts(before));
  expect(after.quick.sw.extensionCommand('learning', 'show', { port: 'p3' })).toMatchObject([
    { mac: '02:00:00:00:00:09' },
    { mac: '02:00:00:00:00:09' },
  ]);
});
