/** VLANs, private VLANs and isolation: who hears whom, and what happens to the tag. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { applyTagAction, TagAction } from '../../net/index.ts';
import { Bench, frame, mac } from '../testing.ts';

/** The frame as it is on the wire of a port: with the tag action carried out. */
function wire(bench: Bench, portId: number): Uint8Array[] {
  return bench
    .nicOf(portId)
    .take()
    .map(({ frame: bytes, tag }) => {
      const packet = bench.packet(bytes);
      expect(applyTagAction(packet, tag)).toBe(0);
      const result = packet.frame().slice();
      packet.release();
      return result;
    });
}

/** TCI of the outer tag, or null. */
function tagOf(bytes: Uint8Array): number | null {
  return bytes[12] === 0x81 && bytes[13] === 0 ? (bytes[14] << 8) | bytes[15] : null;
}

const access = (vlanId: number) => ({ type: 'vlan', mode: 'access', vlanId });
const trunk = (nativeVlanId: number, trunkVlanIds: number[] | 'all' = 'all', pruneVlanIds: number[] = []) => ({
  type: 'vlan',
  mode: 'trunk',
  nativeVlanId,
  trunkVlanIds,
  pruneVlanIds,
});

/** A switch whose ports 1, 2, ... have these properties. */
function withPorts(...properties: (object | null)[]): Bench {
  const bench = new Bench();
  properties.forEach((property, index) => {
    bench.port(index + 1);
    if (property !== null) bench.sw.setPortProperty(index + 1, property).result();
  });
  return bench;
}

test('access ports of one VLAN hear each other untagged; a trunk hears them tagged; another VLAN hears nothing', () => {
  const bench = withPorts(access(5), access(5), access(6), trunk(0));
  bench.receive(1, frame());
  expect(wire(bench, 2).map(tagOf)).toEqual([null]);
  expect(wire(bench, 3)).toEqual([]);
  expect(wire(bench, 4).map(tagOf)).toEqual([5]);
  bench.receive(4, frame({ from: mac(4), tags: [6] }));
  expect(wire(bench, 3).map(tagOf)).toEqual([null]);
  expect(bench.reached()).toEqual([]);
});

test('VLAN 4095 is one like others where a port has no VLAN policy, and in no list', () => {
  const bench = withPorts(null, null, trunk(0));
  bench.receive(1, frame({ tags: [4095] }));
  expect(wire(bench, 2).map(tagOf)).toEqual([4095]);
  expect(wire(bench, 3)).toEqual([]);
  bench.receive(3, frame({ from: mac(3), tags: [4095] }));
  expect(bench.drops(3)).toEqual({ VLAN_NOT_ALLOWED: 1 });
});

test('addresses are learned per VLAN', () => {
  const bench = withPorts(access(5), access(6), trunk(0), access(5));
  bench.receive(1, frame({ from: mac(1) }));
  bench.reached();
  bench.receive(3, frame({ from: mac(9), to: mac(1), tags: [5] }));
  expect(bench.reached()).toEqual([1]);
  bench.receive(3, frame({ from: mac(9), to: mac(1), tags: [6] }));
  expect(bench.reached()).toEqual([2]);
});

test('an access port refuses foreign tags and stacked tags, and takes priority tags', () => {
  const bench = withPorts(access(5), trunk(5));
  bench.receive(1, frame({ tags: [6] }), frame({ tags: [5, 7] }), frame({ tags: [0, 7] }));
  expect(bench.drops(1)).toEqual({ VLAN_TAGGED_ON_ACCESS: 3 });
  bench.receive(1, frame({ tags: [0] }), frame({ tags: [5] }));
  expect(wire(bench, 2).map(tagOf)).toEqual([null, null]);
});

test('a trunk carries its list, its native VLAN untagged, and not what is pruned', () => {
  const bench = withPorts(trunk(10, [20, 30], [30]), trunk(0, 'all'));
  bench.receive(1, frame(), frame({ tags: [20] }), frame({ tags: [30] }), frame({ tags: [40] }), frame({ tags: [10] }));
  expect(wire(bench, 2).map(tagOf)).toEqual([10, 20, 10]);
  expect(bench.drops(1)).toEqual({ VLAN_NOT_ALLOWED: 2 });
  bench.receive(
    2,
    frame({ from: mac(2), tags: [10] }),
    frame({ from: mac(2), tags: [30] }),
    frame({ from: mac(2), tags: [20] }),
  );
  expect(wire(bench, 1).map(tagOf)).toEqual([null, 20]);
});

test('a second tag does not surface on the native VLAN of a trunk', () => {
  const bench = withPorts(null, trunk(5));
  bench.receive(1, frame({ tags: [5, 20] }), frame({ tags: [5] }));
  expect(wire(bench, 2).map(tagOf)).toEqual([5, null]);
});

test('priority travels on trunks and not to access ports', () => {
  const bench = withPorts(trunk(0), trunk(7), access(9), access(7));
  bench.receive(1, frame({ tags: [(6 << 13) | 9] }), frame({ tags: [(6 << 13) | 7] }));
  expect(wire(bench, 3).map(tagOf)).toEqual([null]);
  expect(wire(bench, 2).map(tagOf)).toEqual([(6 << 13) | 9, 6 << 13]);
  expect(wire(bench, 4).map(tagOf)).toEqual([null]);
});

test('a port without VLAN property carries frames as they are', () => {
  const bench = withPorts(null, null);
  const frames = [frame(), frame({ tags: [5] }), frame({ tags: [0] }), frame({ tags: [(3 << 13) | 0x1000 | 8, 4] })];
  bench.receive(1, ...frames);
  expect(
    bench
      .nicOf(2)
      .take()
      .map((sent) => sent.tag),
  ).toEqual([TagAction.KEEP, TagAction.KEEP, TagAction.KEEP, TagAction.KEEP]);
});

const isolated = { type: 'vlan', mode: 'private', privateMode: 'isolated', primaryVlanId: 100, secondaryVlanId: 101 };
const community = (secondaryVlanId: number) => ({
  type: 'vlan',
  mode: 'private',
  privateMode: 'community',
  primaryVlanId: 100,
  secondaryVlanId,
});
const promiscuous = (...secondaryVlanIds: number[]) => ({
  type: 'vlan',
  mode: 'private',
  privateMode: 'promiscuous',
  primaryVlanId: 100,
  secondaryVlanIds,
});

test('private VLANs: isolated ports hear promiscuous ones only, communities themselves and promiscuous ones', () => {
  const bench = withPorts(
    isolated,
    isolated,
    community(102),
    community(102),
    community(103),
    promiscuous(101, 102, 103),
    promiscuous(102),
  );
  const heardBy: Record<number, number[]> = {};
  for (let portId = 1; portId <= 7; portId += 1) {
    bench.receive(portId, frame({ from: mac(portId) }));
    heardBy[portId] = bench.reached();
  }
  expect(heardBy).toEqual({
    1: [6],
    2: [6],
    3: [4, 6, 7],
    4: [3, 6, 7],
    5: [6],
    6: [1, 2, 3, 4, 5, 7],
    7: [3, 4, 6],
  });
});

test('private VLANs: unicast obeys the same, and says why it is dropped', () => {
  const bench = withPorts(isolated, isolated, promiscuous(101));
  bench.receive(2, frame({ from: mac(2) }));
  bench.reached();
  bench.receive(1, frame({ from: mac(1), to: mac(2) }));
  expect(bench.reached()).toEqual([]);
  expect(bench.drops(2)).toEqual({ PRIVATE_VLAN: 1 });
  bench.receive(3, frame({ from: mac(3), to: mac(2) }));
  expect(bench.reached()).toEqual([2]);
});

test('private VLANs on a trunk: the secondary is on the wire from a secondary port, the primary from a promiscuous one', () => {
  const bench = withPorts(isolated, promiscuous(101), trunk(0), community(102));
  bench.receive(1, frame({ from: mac(1) }));
  expect(wire(bench, 3).map(tagOf)).toEqual([101]);
  bench.receive(2, frame({ from: mac(2) }));
  expect(wire(bench, 3).map(tagOf)).toEqual([100]);
  bench.reached();
  bench.receive(3, frame({ from: mac(3), tags: [101] }));
  expect(bench.reached()).toEqual([2]);
  bench.receive(3, frame({ from: mac(3), tags: [100] }));
  expect(bench.reached()).toEqual([1, 2, 4]);
});

test('a secondary VLAN has one primary and one kind', () => {
  const bench = withPorts(isolated, null);
  expect(() => bench.sw.setPortProperty(2, community(101)).result()).toThrow('secondary VLAN 101 is isolated');
  expect(() => bench.sw.setPortProperty(2, { ...isolated, primaryVlanId: 200 }).result()).toThrow(
    'under primary VLAN 100',
  );
});

test('isolation by VLAN: the default id untagged, others by routing domain', () => {
  const bench = withPorts({ type: 'isolation', mode: 'vlan', defaultIsolationId: 10 }, trunk(0), access(10));
  bench.receive(1, frame(), frame({ tags: [11] }));
  expect(wire(bench, 2).map(tagOf)).toEqual([10]);
  expect(bench.drops(1)).toEqual({ ISOLATION_ID: 1 });
  bench.sw.setPortProperty(1, { type: 'routingDomain', domains: [{ id: 'red', isolationIds: [11, 12] }] }).result();
  bench.receive(1, frame({ tags: [11] }), frame({ tags: [13] }));
  expect(wire(bench, 2).map(tagOf)).toEqual([11]);
  expect(bench.drops(1)).toEqual({ ISOLATION_ID: 1, ROUTING_DOMAIN: 1 });
  bench.reached();
  bench.receive(
    2,
    frame({ from: mac(2), tags: [10] }),
    frame({ from: mac(2), tags: [12] }),
    frame({ from: mac(2), tags: [14] }),
  );
  expect(wire(bench, 1).map(tagOf)).toEqual([null, 12]);
  bench.sw
    .setPortProperty(1, { type: 'isolation', mode: 'vlan', defaultIsolationId: 10, allowUntagged: false })
    .result();
  bench.receive(1, frame());
  expect(bench.drops(1)).toMatchObject({ ISOLATION_UNTAGGED: 1 });
});

test('virtual subnets keep ports apart, with the same addresses in each', () => {
  const subnet = (id: number) => ({ type: 'isolation', mode: 'nativeVirtualSubnet', defaultIsolationId: id });
  const bench = withPorts(
    subnet(70_000),
    { type: 'security', allowMacSpoofing: true, virtualSubnetId: 70_000 },
    subnet(80_000),
    subnet(80_000),
    null,
  );
  bench.receive(1, frame({ from: mac(1) }));
  expect(bench.reached()).toEqual([2]);
  bench.receive(3, frame({ from: mac(1) }));
  expect(bench.reached()).toEqual([4]);
  bench.receive(2, frame({ from: mac(2), to: mac(1) }));
  expect(bench.reached()).toEqual([1]);
  bench.receive(5, frame({ from: mac(5) }));
  expect(bench.reached()).toEqual([]);
  bench.receive(1, frame({ tags: [5] }));
  expect(bench.drops(1)).toEqual({ ISOLATION_ID: 1 });
});

test('a changed or deleted VLAN property is in force for the next frame', () => {
  const bench = withPorts(access(5), access(6));
  bench.receive(1, frame());
  expect(bench.drops(1)).toEqual({ NO_DESTINATION: 1 });
  bench.sw.setPortProperty(2, access(5)).result();
  bench.receive(1, frame());
  expect(bench.reached()).toEqual([2]);
  bench.sw.deletePortProperty(1, 'vlan').result();
  bench.sw.deletePortProperty(2, 'vlan').result();
  bench.receive(1, frame({ tags: [77] }));
  expect(
    bench
      .nicOf(2)
      .take()
      .map((sent) => sent.tag),
  ).toEqual([TagAction.KEEP]);
  expect(() => bench.sw.deletePortProperty(2, 'vlan').result()).toThrow('has no property vlan');
});

test('whatever the ports are, a frame that crosses keeps its payload, and its VLAN is one the port carries', () => {
  const port = fc.oneof(
    fc.constant(null),
    fc.integer({ min: 1, max: 4 }).map(access),
    fc
      .tuple(fc.integer({ min: 0, max: 4 }), fc.uniqueArray(fc.integer({ min: 1, max: 4 })))
      .map(([native, ids]) => trunk(native, ids)),
  );
  const tags = fc.array(
    fc.tuple(fc.nat(7), fc.nat(4)).map(([priority, vlan]) => (priority << 13) | vlan),
    { maxLength: 2 },
  );
  fc.assert(
    fc.property(port, port, tags, (from, to, tci) => {
      const bench = withPorts(from, to);
      const sent = frame({ tags: tci, payload: [1, 2, 3, 4, 5, 6, 7, 8] });
      bench.receive(1, sent);
      const payload = sent.subarray(14 + tci.length * 4);
      for (const bytes of wire(bench, 2)) {
        const tag = tagOf(bytes);
        expect(bytes.subarray(bytes.length - payload.length)).toEqual(payload);
        const inner = tci.length === 2 ? tci[1] : null;
        if (to !== null && 'vlanId' in to) expect(tag).toBe(inner);
        if (to !== null && 'trunkVlanIds' in to && tag !== null && (tag & 0xfff) !== 0) {
          const { nativeVlanId, trunkVlanIds } = to as { nativeVlanId: number; trunkVlanIds: number[] };
          // The native VLAN is untagged, save for a frame whose second tag would surface.
          if ((tag & 0xfff) === nativeVlanId) expect(inner).not.toBeNull();
          else expect(trunkVlanIds).toContain(tag & 0xfff);
        }
        if (from === null && to === null) expect(bytes).toEqual(sent);
      }
      expect(bench.outstanding).toBe(0);
      const { received, delivered, dropped } = bench.sw.counters;
      expect(received).toBe(delivered + dropped);
    }),
    { numRuns: 200 },
  );
});
