/** The tables against a kernel of memory: what is asked, when it is asked again, who waits and for how long. model.test.ts has random orders. */
import { expect, test } from 'vitest';
import { type HostPath, type Packet, PacketPool, PathQuery, PathState, type PathTaker } from '../../net/index.ts';
import { AddressFlag, NeighbourState } from '../../netlink/index.ts';
import { Errno } from '../sys/index.ts';
import { LinuxTables } from './linux-tables.ts';
import { ENETUNREACH, FakeKernel, macOf } from './testing-kernel.ts';
import { fillWords } from './words.ts';

const EHOSTUNREACH = 113;
const bytesOf = (address: string) => Uint8Array.from(address.split('.').map(Number));

function queryTo(
  address: string,
  more: Partial<Pick<PathQuery, 'mark' | 'asker' | 'trafficClass'>> & { source?: string } = {},
): PathQuery {
  const query = new PathQuery();
  const bytes = bytesOf(address);
  query.isIpv6 = bytes.length === 16;
  fillWords(query.destination, bytes);
  if (more.source !== undefined) fillWords(query.source, bytesOf(more.source));
  query.mark = more.mark ?? 0;
  query.asker = more.asker ?? 0;
  query.trafficClass = more.trafficClass ?? 0;
  return query;
}

/** Two links, a route to 10.0.0.9 by the first, and its neighbour. */
function lab(options: { paths?: number } = {}) {
  const kernel = new FakeKernel();
  kernel.setLink(2, { mac: 0x22 });
  kernel.setLink(3, { mac: 0x33 });
  kernel.setAddress('2/10.0.0.1/24');
  kernel.setRoute('10.0.0.9/0', { interfaceIndex: 2, preferredSource: bytesOf('10.0.0.1') });
  kernel.setNeighbour('2/10.0.0.9', { state: NeighbourState.REACHABLE, mac: 9 });
  const warnings: string[] = [];
  const tables = new LinuxTables({
    loop: kernel.tablesLoop,
    sockets: kernel.sockets,
    nowMs: () => kernel.loop.nowMs,
    warn: (message) => warnings.push(message),
    ...options,
  });
  kernel.loop.pass(1000);
  return { kernel, tables, warnings };
}

const pool = new PacketPool({ packets: 256, bufferBytes: 2048 });

/** Takes packets back, and says of each in which state and when. */
class Taker implements PathTaker {
  readonly taken: { readonly state: number; readonly atMs: number; readonly first: number }[] = [];
  readonly #kernel: FakeKernel;

  constructor(kernel: FakeKernel) {
    this.#kernel = kernel;
  }

  onPath(packet: Packet, _path: HostPath, state: number): void {
    this.taken.push({ state, atMs: this.#kernel.loop.nowMs, first: packet.bytes[packet.offset] });
    packet.release();
  }

  get states(): number[] {
    return this.taken.map(({ state }) => state);
  }
}

function packetOf(first: number): Packet {
  const packet = pool.allocate();
  if (packet === null) throw new Error('the pool is empty');
  packet.length = 100;
  packet.bytes[packet.offset] = first;
  return packet;
}

test('a path is asked for once, and is whole at once: interface, source, both MAC addresses, length', () => {
  const { kernel, tables } = lab();
  const path = tables.find(queryTo('10.0.0.9'));
  expect(path).toMatchObject({ state: PathState.READY, interfaceIndex: 2, mtuBytes: 1500, hasEthernet: true });
  expect([path.sourceMac, path.destinationMac]).toEqual([macOf(0x22), macOf(9)]);
  expect(path.source[0]).toBe(0x0a00_0001);
  for (let i = 0; i < 100; i += 1) expect(tables.find(queryTo('10.0.0.9'))).toBe(path);
  expect(kernel.asked).toEqual({ routes: 1, links: 0, neighbours: 1, uses: 0 });
  expect(tables.describe()).toMatchObject({
    paths: 1,
    lookups: 101,
    misses: 1,
    neighbours: 1,
    addresses: 1,
    interfaces: 2,
  });
});

test('what rules go by tells paths apart, and the bits of ECN do not', () => {
  const { kernel, tables } = lab();
  kernel.setRoute('10.0.0.9/7', { interfaceIndex: 3, gateway: bytesOf('10.9.9.1') });
  kernel.setNeighbour('3/10.9.9.1', { state: NeighbourState.PERMANENT, mac: 0x91 });
  kernel.loop.pass(100);
  const marked = tables.find(queryTo('10.0.0.9', { mark: 7 }));
  expect(marked).toMatchObject({ state: PathState.READY, interfaceIndex: 3 });
  expect(marked.destinationMac).toEqual(macOf(0x91));
  const plain = tables.find(queryTo('10.0.0.9'));
  expect(plain.interfaceIndex).toBe(2);
  expect(tables.find(queryTo('10.0.0.9', { trafficClass: 3 }))).toBe(plain);
  expect(tables.find(queryTo('10.0.0.9', { trafficClass: 4 }))).not.toBe(plain);
});

test('why there is no path is what Linux says', () => {
  const { kernel, tables } = lab();
  const said: [string, { errno?: number; type?: number }, number][] = [
    ['10.1.0.1', { errno: ENETUNREACH }, PathState.NO_ROUTE],
    ['10.1.0.2', { errno: Errno.EINVAL }, PathState.BLACKHOLE],
    ['10.1.0.3', { errno: EHOSTUNREACH }, PathState.UNREACHABLE],
    ['10.1.0.4', { errno: Errno.EACCES }, PathState.PROHIBITED],
    ['10.1.0.5', { type: 2 }, PathState.LOCAL],
  ];
  for (const [address, route, state] of said) {
    kernel.setRoute(`${address}/0`, route);
    expect([address, tables.find(queryTo(address)).state]).toEqual([address, state]);
  }
  // The same errno, and a source that the host does not have.
  expect(tables.find(queryTo('10.1.0.2', { source: '10.7.7.7' })).state).toBe(PathState.NO_SOURCE);
  expect(tables.find(queryTo('10.1.0.2', { source: '10.0.0.1' })).state).toBe(PathState.BLACKHOLE);
});

test('packets to groups and to all, and those of interfaces without ARP, need no neighbour', () => {
  const { kernel, tables } = lab();
  kernel.setLink(3, { hasArp: false });
  kernel.setRoute('239.129.2.3/0', { interfaceIndex: 2, type: 5 });
  kernel.setRoute('10.0.0.255/0', { interfaceIndex: 2, type: 3 });
  kernel.setRoute('255.2.0.0.0.0.0.0.0.0.0.0.1.2.3.4/0', { interfaceIndex: 2 });
  kernel.setRoute('10.3.0.1/0', { interfaceIndex: 3 });
  kernel.loop.pass(200);
  const mac = (address: string) => {
    const path = tables.find(queryTo(address));
    expect(path.state).toBe(PathState.READY);
    return Buffer.from(path.destinationMac).toString('hex');
  };
  expect(mac('239.129.2.3')).toBe('01005e010203');
  expect(mac('10.0.0.255')).toBe('ffffffffffff');
  expect(mac('255.2.0.0.0.0.0.0.0.0.0.0.1.2.3.4')).toBe('333301020304');
  expect(mac('10.3.0.1')).toBe('020000000033');
  expect(kernel.asked.uses).toBe(0);
});

test('a change of routes counts for the next packet, and for each path it is asked for once', () => {
  const { kernel, tables } = lab();
  tables.find(queryTo('10.0.0.9'));
  kernel.setRoute('10.0.0.9/0', { interfaceIndex: 3 });
  kernel.setNeighbour('3/10.0.0.9', { state: NeighbourState.REACHABLE, mac: 0x39 });
  kernel.loop.turn();
  const path = tables.find(queryTo('10.0.0.9'));
  expect(path).toMatchObject({ state: PathState.READY, interfaceIndex: 3 });
  expect(path.destinationMac).toEqual(macOf(0x39));
  for (let i = 0; i < 100; i += 1) tables.find(queryTo('10.0.0.9'));
  expect(kernel.asked.routes).toBe(2);
  // The former next hop is none of anybody's any more.
  expect(tables.describe().neighbours).toBe(1);
});

test('answers that come late are each taken for what was asked, and none for younger than news that came before it', () => {
  const { kernel, tables } = lab();
  kernel.setRoute('10.0.0.7/0', { interfaceIndex: 3, gateway: bytesOf('10.9.9.1') });
  kernel.setNeighbour('3/10.9.9.1', { state: NeighbourState.REACHABLE, mac: 0x91 });
  kernel.loop.pass(200);
  kernel.holds = true;
  const [one, other] = ['10.0.0.9', '10.0.0.7'].map((address) => tables.find(queryTo(address)));
  expect([one.state, other.state]).toEqual([PathState.RESOLVING, PathState.RESOLVING]);
  // The route is another when its answer comes, and the next packet asks again.
  kernel.setRoute('10.0.0.9/0', { interfaceIndex: 3, gateway: bytesOf('10.9.9.1') });
  kernel.loop.turn();
  kernel.answer();
  kernel.loop.turn();
  expect([one.interfaceIndex, other.interfaceIndex]).toEqual([2, 3]);
  // So is the next hop.
  kernel.setNeighbour('3/10.9.9.1', { state: NeighbourState.REACHABLE, mac: 0x92 });
  kernel.loop.turn();
  kernel.answer();
  kernel.loop.turn();
  expect(other.destinationMac).toEqual(macOf(0x92));
  kernel.holds = false;
  expect(tables.find(queryTo('10.0.0.9'))).toMatchObject({ state: PathState.READY, interfaceIndex: 3 });
  expect(tables.find(queryTo('10.0.0.7'))).toMatchObject({ state: PathState.READY, interfaceIndex: 3 });
});

test('a burst of 100,000 changes of routes costs a few looks at the socket, though it overflows', () => {
  const { kernel, tables, warnings } = lab();
  kernel.bell.room = 8;
  tables.find(queryTo('10.0.0.9'));
  const before = tables.describe();
  for (let i = 0; i < 100_000; i += 1) {
    kernel.ring();
    // A tenth of a second in all.
    if (i % 1000 === 0) kernel.loop.pass(1);
    if (i % 100 === 0) expect(tables.find(queryTo('10.0.0.9')).state).toBe(PathState.READY);
  }
  kernel.loop.pass(20);
  const after = tables.describe();
  expect(after.changes - before.changes).toBeLessThan(15);
  expect(after.questions - before.questions).toBeLessThan(20);
  expect([after.overflows, warnings]).toEqual([0, []]);
});

test('when more is asked than may be, the former answer goes on, and each path has its turn', () => {
  const { kernel, tables } = lab();
  const addresses = Array.from({ length: 300 }, (_, i) => `10.2.${i >> 8}.${i & 255}`);
  for (const address of addresses) {
    kernel.setRoute(`${address}/0`, { interfaceIndex: 2, gateway: bytesOf('10.0.0.9') });
  }
  kernel.loop.pass(1000);
  const states = () => addresses.map((address) => tables.find(queryTo(address)).state);
  const first = states();
  expect(first.filter((state) => state === PathState.READY).length).toBeGreaterThanOrEqual(50);
  expect(first).toContain(PathState.RESOLVING);
  kernel.loop.pass(300);
  expect(new Set(states())).toEqual(new Set([PathState.READY]));
  for (const address of addresses) {
    kernel.setRoute(`${address}/0`, { interfaceIndex: 2, gateway: bytesOf('10.0.0.9'), mtuBytes: 1400 });
  }
  kernel.loop.turn();
  expect(new Set(states())).toEqual(new Set([PathState.READY]));
  kernel.loop.pass(300);
  expect(new Set(addresses.map((address) => tables.find(queryTo(address)).mtuBytes))).toEqual(new Set([1400]));
});

test('a path in use is asked again every few seconds, as of path MTU that Linux learns it tells nobody', () => {
  const { kernel, tables } = lab();
  expect(tables.find(queryTo('10.0.0.9')).mtuBytes).toBe(1500);
  kernel.routes.set('10.0.0.9/0', { interfaceIndex: 2, mtuBytes: 1300 });
  for (let second = 0; second < 7; second += 1) {
    kernel.loop.pass(1000);
    tables.find(queryTo('10.0.0.9'));
  }
  expect(tables.find(queryTo('10.0.0.9')).mtuBytes).toBe(1300);
  expect(kernel.asked.routes).toBeLessThan(5);
});

test('a path that nobody uses goes, and then the clock stops', () => {
  const { kernel, tables } = lab();
  tables.find(queryTo('10.0.0.9'));
  kernel.loop.pass(70_000);
  expect(tables.describe()).toMatchObject({ paths: 0, neighbours: 0 });
  expect(kernel.loop.timers.untilNextMs(kernel.loop.nowMs)).toBe(Number.POSITIVE_INFINITY);
});

test('a link that goes down, changes its length or its address counts at once', () => {
  const { kernel, tables } = lab();
  const path = tables.find(queryTo('10.0.0.9'));
  kernel.setLink(2, { mtuBytes: 1280, mac: 0x77 });
  kernel.loop.turn();
  expect(path).toMatchObject({ state: PathState.READY, mtuBytes: 1280 });
  expect(path.sourceMac).toEqual(macOf(0x77));
  kernel.setLink(2, { isUp: false });
  kernel.loop.turn();
  expect(path.state).toBe(PathState.LINK_DOWN);
  kernel.setLink(2, { isUp: true });
  kernel.loop.turn();
  expect(tables.find(queryTo('10.0.0.9')).state).toBe(PathState.READY);
});

test('routes that go after the news of their link are asked for once more a little later', () => {
  const { kernel, tables } = lab();
  tables.find(queryTo('10.0.0.9'));
  kernel.setAddress('2/10.0.0.2/24');
  kernel.loop.turn();
  tables.find(queryTo('10.0.0.9'));
  // Linux takes the routes away without a word.
  kernel.routes.delete('10.0.0.9/0');
  expect(tables.find(queryTo('10.0.0.9')).state).toBe(PathState.READY);
  kernel.loop.pass(150);
  expect(tables.find(queryTo('10.0.0.9')).state).toBe(PathState.NO_ROUTE);
});

test('a neighbour that is missing is resolved by Linux while packets wait, in their order', () => {
  const { kernel, tables } = lab();
  kernel.setRoute('10.0.0.8/0', { interfaceIndex: 2 });
  kernel.loop.pass(100);
  const taker = new Taker(kernel);
  const path = tables.find(queryTo('10.0.0.8'));
  expect(path.state).toBe(PathState.RESOLVING);
  expect(kernel.neighbours.get('2/10.0.0.8')?.state).toBe(NeighbourState.INCOMPLETE);
  for (let i = 0; i < 3; i += 1) expect(tables.wait(path, packetOf(i), taker)).toBe(true);
  expect(pool.available).toBe(pool.capacity);
  kernel.loop.pass(500);
  expect(taker.taken).toEqual([]);
  kernel.setNeighbour('2/10.0.0.8', { state: NeighbourState.REACHABLE, mac: 8 });
  kernel.loop.turn();
  expect(taker.taken.map(({ state, first }) => [state, first])).toEqual([0, 1, 2].map((i) => [PathState.READY, i]));
  expect(path.destinationMac).toEqual(macOf(8));
  expect(kernel.asked.uses).toBe(1);
  expect(tables.describe()).toMatchObject({ waiting: 0, waitingCounters: { kept: 3, refused: 0, failed: 0 } });
});

test('a neighbour that does not answer fails its packets, is left alone for a second, and is then tried again', () => {
  const { kernel, tables } = lab();
  kernel.setRoute('10.0.0.8/0', { interfaceIndex: 2 });
  kernel.loop.pass(100);
  const taker = new Taker(kernel);
  const path = tables.find(queryTo('10.0.0.8'));
  tables.wait(path, packetOf(1), taker);
  kernel.setNeighbour('2/10.0.0.8', { state: NeighbourState.FAILED, mac: 0 });
  kernel.loop.turn();
  expect(taker.states).toEqual([PathState.NO_NEIGHBOUR]);
  expect(tables.find(queryTo('10.0.0.8')).state).toBe(PathState.NO_NEIGHBOUR);
  expect(tables.wait(path, packetOf(2), taker)).toBe(true);
  expect(taker.states).toEqual([PathState.NO_NEIGHBOUR, PathState.NO_NEIGHBOUR]);
  kernel.loop.pass(900);
  tables.find(queryTo('10.0.0.8'));
  expect(kernel.asked.uses).toBe(1);
  kernel.loop.pass(2000);
  expect(tables.find(queryTo('10.0.0.8')).state).toBe(PathState.RESOLVING);
  expect(kernel.asked.uses).toBe(2);
});

test('a wait is bounded: so many packets for a path, and so long, though Linux says nothing', () => {
  const { kernel, tables } = lab();
  kernel.setRoute('10.0.0.8/0', { interfaceIndex: 2 });
  kernel.loop.pass(100);
  const taker = new Taker(kernel);
  const path = tables.find(queryTo('10.0.0.8'));
  let refused = 0;
  for (let i = 0; i < 40; i += 1) {
    const packet = packetOf(i);
    if (tables.wait(path, packet, taker)) continue;
    refused += 1;
    packet.release();
  }
  expect(refused).toBe(24);
  kernel.loop.pass(6000);
  expect(taker.states).toEqual(new Array(16).fill(PathState.NO_NEIGHBOUR));
  expect(pool.available).toBe(pool.capacity);
});

test('one asker with many dead neighbours leaves others room to wait', () => {
  const { kernel, tables } = lab();
  const taker = new Taker(kernel);
  const wait = (address: string, asker: number): boolean => {
    kernel.routes.set(`${address}/0`, { interfaceIndex: 2 });
    const packet = packetOf(asker);
    const isKept = tables.wait(tables.find(queryTo(address, { asker })), packet, taker);
    if (!isKept) packet.release();
    return isKept;
  };
  let kept = 0;
  for (let i = 0; i < 600; i += 1) {
    kernel.loop.pass(1);
    if (wait(`10.4.${i >> 8}.${i & 255}`, 1)) kept += 1;
  }
  expect(kept).toBe(128);
  expect(wait('10.5.0.1', 2)).toBe(true);
  tables.giveBack(taker);
  expect(taker.taken).toHaveLength(129);
  expect(tables.describe().waiting).toBe(0);
});

test('a stale neighbour that is in use is told to Linux, which probes; one that nobody uses, and a permanent one, are not', () => {
  const { kernel, tables } = lab();
  kernel.setRoute('10.0.0.7/0', { interfaceIndex: 2 });
  kernel.setRoute('10.0.0.6/0', { interfaceIndex: 2 });
  for (const [last, state] of [
    [9, NeighbourState.STALE],
    [7, NeighbourState.STALE],
    [6, NeighbourState.PERMANENT],
  ] as const) {
    kernel.setNeighbour(`2/10.0.0.${last}`, { state, mac: last });
  }
  kernel.loop.pass(100);
  tables.find(queryTo('10.0.0.7'));
  for (let second = 0; second < 10; second += 1) {
    for (const last of [9, 6]) expect(tables.find(queryTo(`10.0.0.${last}`)).state).toBe(PathState.READY);
    kernel.loop.pass(1000);
  }
  expect(kernel.neighbours.get('2/10.0.0.9')?.state).toBe(NeighbourState.DELAY);
  expect(kernel.neighbours.get('2/10.0.0.6')?.state).toBe(NeighbourState.PERMANENT);
  // Once for each of the two that were stale and in use in some second.
  expect(tables.describe().neighbourCounters).toMatchObject({ refreshments: 2, resolutions: 0 });
});

test('a neighbour that moves to another MAC address is followed', () => {
  const { kernel, tables } = lab();
  const path = tables.find(queryTo('10.0.0.9'));
  kernel.setNeighbour('2/10.0.0.9', { state: NeighbourState.STALE, mac: 0x99 });
  kernel.loop.turn();
  expect(path.destinationMac).toEqual(macOf(0x99));
  expect(path.state).toBe(PathState.READY);
});

test('news of neighbours that were lost are asked for again, and it is said once', () => {
  const { kernel, tables, warnings } = lab();
  const path = tables.find(queryTo('10.0.0.9'));
  kernel.news.room = 2;
  for (let round = 0; round < 3; round += 1) {
    for (let i = 0; i < 10; i += 1) kernel.setNeighbour(`2/10.8.0.${i}`, { state: NeighbourState.REACHABLE, mac: i });
    kernel.setNeighbour('2/10.0.0.9', { state: NeighbourState.REACHABLE, mac: 0x40 + round });
    kernel.loop.turn();
    expect(tables.find(queryTo('10.0.0.9'))).toBe(path);
    expect(path.destinationMac).toEqual(macOf(0x40 + round));
  }
  expect(tables.describe().overflows).toBe(3);
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toMatch(/neighbours that notifications of the kernel were lost/);
});

test('links and addresses are read whole again when news were lost, and what is gone is gone', () => {
  const { kernel, tables } = lab();
  const { addresses } = tables;
  kernel.interfaces.room = 3;
  for (let i = 0; i < 10; i += 1) kernel.setAddress(`2/10.0.7.${i}/24`);
  kernel.addresses.delete('2/10.0.0.1/24');
  kernel.links.delete(3);
  kernel.loop.pass(10);
  expect(addresses.has(false, 0x0a00_0001, 0, 0, 0, 0)).toBe(false);
  expect(addresses.has(false, 0x0a00_0705, 0, 0, 0, 2)).toBe(true);
  expect(tables.describe()).toMatchObject({ interfaces: 1, addresses: 10 });
  // Dumps that are disturbed are asked for again, and do not take anything for gone.
  kernel.disturbances = 3;
  for (let i = 0; i < 10; i += 1) kernel.setAddress(`2/10.0.6.${i}/24`);
  kernel.loop.pass(10);
  expect(tables.describe().addresses).toBe(20);
  expect(addresses.isComplete).toBe(true);
  kernel.disturbances = 100;
  for (let i = 0; i < 10; i += 1) kernel.setAddress(`2/10.0.5.${i}/24`);
  kernel.loop.pass(500);
  expect(addresses.isComplete).toBe(false);
  kernel.disturbances = 0;
  kernel.loop.pass(2000);
  expect(addresses.isComplete).toBe(true);
  expect(tables.describe().addresses).toBe(30);
});

test('an address may be used when it is settled and its interface is up, and who listens is told of changes', () => {
  const { kernel, tables } = lab();
  const { addresses } = tables;
  let told = 0;
  const end = addresses.listen(() => {
    told += 1;
  });
  const has = (index = 0) => addresses.has(false, 0x0a01_0101, 0, 0, 0, index);
  kernel.setAddress('3/10.1.1.1/24', AddressFlag.TENTATIVE);
  kernel.loop.turn();
  expect([has(), told]).toEqual([false, 1]);
  kernel.setAddress('3/10.1.1.1/24');
  kernel.loop.turn();
  expect([has(), has(3), has(2), told]).toEqual([true, true, false, 2]);
  kernel.setAddress('3/10.1.1.1/24');
  kernel.loop.turn();
  expect(told).toBe(2);
  kernel.setLink(3, { isUp: false });
  kernel.loop.turn();
  expect([has(), told]).toEqual([false, 3]);
  kernel.setLink(3, { isUp: true });
  kernel.loop.turn();
  expect([has(), told]).toEqual([true, 4]);
  kernel.removeLink(3);
  kernel.loop.turn();
  expect([has(), told]).toEqual([false, 5]);
  end();
  kernel.removeAddress('2/10.0.0.1/24');
  kernel.loop.turn();
  expect([told, addresses.list()]).toEqual([5, []]);
});

test('who follows a path is told of each change, without asking', () => {
  const { kernel, tables } = lab();
  const told: string[] = [];
  const followed = tables.follow(queryTo('10.0.0.9'), {
    onPathChanged: ({ state, mtuBytes, destinationMac }) => told.push(`${state} ${mtuBytes} ${destinationMac[5]}`),
  });
  expect(followed?.path.state).toBe(PathState.READY);
  kernel.setRoute('10.0.0.9/0', { interfaceIndex: 2, mtuBytes: 1400 });
  kernel.loop.pass(50);
  kernel.setNeighbour('2/10.0.0.9', { state: NeighbourState.REACHABLE, mac: 0x29 });
  kernel.loop.pass(50);
  kernel.setRoute('10.0.0.9/0', null);
  kernel.loop.pass(50);
  kernel.ring();
  kernel.loop.pass(100_000);
  expect(told).toEqual(['0 1400 9', '0 1400 41', `${PathState.NO_ROUTE} 1400 41`]);
  followed?.close();
  kernel.setRoute('10.0.0.9/0', { interfaceIndex: 2 });
  kernel.loop.pass(70_000);
  expect([told.length, tables.describe().paths]).toEqual([3, 0]);
});

test('when all places are taken, the path that was used longest ago goes, and an asker with many gives up its own', () => {
  const { kernel, tables } = lab({ paths: 16 });
  const route = (address: string) =>
    kernel.routes.set(`${address}/0`, { interfaceIndex: 2, gateway: bytesOf('10.0.0.9') });
  const find = (address: string, asker: number) => {
    route(address);
    return tables.find(queryTo(address, { asker }));
  };
  const quiet = find('10.6.0.1', 1);
  kernel.loop.pass(3000);
  for (let i = 0; i < 40; i += 1) find(`10.7.0.${i}`, 2);
  expect(find('10.6.0.1', 1)).toBe(quiet);
  expect(tables.describe()).toMatchObject({ paths: 16, neighbours: 1 });
  // One that is followed stays; when all are, there is no room.
  const follower = { onPathChanged: () => {} };
  for (let i = 0; i < 15; i += 1) {
    route(`10.8.0.${i}`);
    expect(tables.follow(queryTo(`10.8.0.${i}`, { asker: 2 }), follower)).not.toBeNull();
  }
  expect(tables.follow(queryTo('10.6.0.1', { asker: 1 }), follower)).not.toBeNull();
  expect(tables.find(queryTo('10.6.0.2', { asker: 3 })).state).toBe(PathState.NO_ROOM);
  expect(tables.follow(queryTo('10.6.0.2', { asker: 3 }), follower)).toBeNull();
});

test('when the tables close, packets that wait go back, and nothing is watched any more', () => {
  const { kernel, tables } = lab();
  kernel.routes.set('10.0.0.8/0', { interfaceIndex: 2 });
  const taker = new Taker(kernel);
  tables.wait(tables.find(queryTo('10.0.0.8')), packetOf(1), taker);
  tables.close();
  expect(taker.states).toEqual([PathState.NO_NEIGHBOUR]);
  expect(kernel.loop.watched).toBe(0);
  expect([kernel.questions, kernel.bell, kernel.interfaces, kernel.news].every(({ isClosed }) => isClosed)).toBe(true);
  expect(tables.find(queryTo('10.9.9.9')).state).toBe(PathState.NO_ROOM);
  kernel.loop.pass(10_000);
  tables.close();
});
