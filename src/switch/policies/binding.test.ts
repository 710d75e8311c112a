/** Address bindings: who may use which IP address, by list and by what was learned from DHCP and neighbour discovery. */
import { beforeEach, expect, test } from 'vitest';
import { Bench, BROADCAST, frame, ipv4, mac, udp } from '../testing.ts';

let bench: Bench;
/** Ports 1 and 2 have hosts 1 and 2; 3 is where servers and routers are. */
beforeEach(() => {
  bench = new Bench();
  for (const portId of [1, 2, 3]) bench.port(portId);
});

function bind(portId: number, property: object): void {
  bench.sw.setPortProperty(portId, { type: 'binding', ...property }).result();
}

const bindings = (portId: number) =>
  bench.sw.port(portId).bindings?.map(({ address, origin }) => `${origin} ${address}`) ?? [];

/** Whether a frame that comes in through a port goes anywhere. */
function passes(portId: number, bytes: Uint8Array): boolean {
  bench.receive(portId, bytes);
  return bench.reached().length > 0;
}

const V6 = (last: number) => [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
const UNSPECIFIED = new Array<number>(16).fill(0);

const v4 = (host: number, source: number, payload = udp(1000, 2000)) =>
  frame({ from: mac(host), type: 0x0800, payload: ipv4([10, 0, 0, source], [10, 0, 0, 99], 17, payload) });

const arp = (host: number, sender: number, claimed = mac(host)) =>
  frame({
    from: mac(host),
    type: 0x0806,
    payload: [
      0,
      1,
      8,
      0,
      6,
      4,
      0,
      1,
      ...claimed,
      ...(sender === 0 ? [0, 0, 0, 0] : [10, 0, 0, sender]),
      ...mac(0),
      10,
      0,
      0,
      9,
    ],
  });

const ALL_NODES = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const solicitedNode = (last: number) => [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, last];

function v6(
  host: number,
  source: readonly number[],
  next: number,
  payload: readonly number[],
  destination: readonly number[] = ALL_NODES,
  to: Uint8Array = Uint8Array.of(0x33, 0x33, ...destination.slice(12)),
  hopLimit = 255,
): Uint8Array {
  const head = [0x60, 0, 0, 0, payload.length >> 8, payload.length & 255, next, hopLimit];
  return frame({ to, from: mac(host), type: 0x86dd, payload: [...head, ...source, ...destination, ...payload] });
}

/** A neighbour solicitation (135) or advertisement (136) for an address, with a link-layer address in its option. */
const nd = (type: number, target: readonly number[], option: number, address: Uint8Array) => [
  ...[type, 0, 0, 0, 0, 0, 0, 0],
  ...target,
  ...[option, 1, ...address],
];
const duplicateTest = (host: number, last: number) =>
  v6(host, UNSPECIFIED, 58, [135, 0, 0, 0, 0, 0, 0, 0, ...V6(last)], solicitedNode(last));

interface Dhcp {
  readonly op: number;
  readonly type: number;
  readonly client: number;
  readonly transaction?: number;
  readonly yours?: number;
  readonly leaseSeconds?: number;
  readonly own?: number;
}

function dhcp(from: number, message: Dhcp, source = 0): Uint8Array {
  const bytes = new Array<number>(240).fill(0);
  bytes.splice(0, 3, message.op, 1, 6);
  bytes[7] = message.transaction ?? message.client;
  if (message.own !== undefined) bytes.splice(12, 4, 10, 0, 0, message.own);
  if (message.yours !== undefined) bytes.splice(16, 4, 10, 0, 0, message.yours);
  bytes.splice(28, 6, ...mac(message.client));
  bytes.splice(236, 4, 0x63, 0x82, 0x53, 0x63);
  const lease = message.leaseSeconds ?? 600;
  bytes.push(53, 1, message.type, 51, 4, 0, 0, lease >> 8, lease & 255, 255);
  const ports = message.op === 1 ? [0, 68, 0, 67] : [0, 67, 0, 68];
  const length = bytes.length + 8;
  const datagram = [...ports, length >> 8, length & 255, 0, 0, ...bytes];
  const address = source === 0 ? [0, 0, 0, 0] : [10, 0, 0, source];
  return frame({
    to: BROADCAST,
    from: mac(from),
    type: 0x0800,
    payload: ipv4(address, [255, 255, 255, 255], 17, datagram),
  });
}

const request = (client: number, source = 0) =>
  dhcp(client, { op: 1, type: 3, client, ...(source === 0 ? {} : { own: source }) }, source);
const acknowledge = (client: number, yours: number, more: Partial<Dhcp> = {}) =>
  dhcp(3, { op: 2, type: 5, client, yours, ...more }, 3);

const dhcpv6 = (from: number, [source, target]: number[], bytes: number[], address = from) =>
  v6(from, V6(address), 17, [
    source >> 8,
    source & 255,
    target >> 8,
    target & 255,
    0,
    bytes.length + 8,
    0,
    0,
    ...bytes,
  ]);
/** An association with an address, for a minute. */
const association = (last: number) => [
  ...[0, 3, 0, 40, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
  ...[0, 5, 0, 24, ...V6(last), 0, 0, 0, 30, 0, 0, 0, 60],
];
/** A server gives a host behind a port, which has fd00::HOST, one more address. */
function leaseOfV6(host: number, last: number): void {
  bench.receive(host, dhcpv6(host, [546, 547], [3, 0, 0, 9, ...association(last)]));
  bench.receive(3, dhcpv6(3, [547, 546], [7, 0, 0, 9, ...association(last)]));
  bench.reached();
}

test('only bound addresses may be sources, of IPv4 and IPv6', () => {
  bind(1, { addresses: [{ ip: '10.0.0.1' }, { ip: 'fd00::/120', mac: '02:00:00:00:00:01' }] });
  expect(passes(1, v4(1, 1))).toBe(true);
  expect(passes(1, v4(1, 2))).toBe(false);
  expect(passes(1, v6(1, V6(7), 59, []))).toBe(true);
  expect(passes(1, v6(9, V6(7), 59, []))).toBe(false);
  expect(passes(1, v6(1, UNSPECIFIED, 59, []))).toBe(false);
  expect(passes(1, frame({ from: mac(1), type: 0x88cc }))).toBe(true);
  expect(passes(2, v4(2, 1))).toBe(true);
  expect(bench.drops(1)).toEqual({ SOURCE_NOT_BOUND: 3 });
});

test('ARP claims only what is bound, by its own MAC address; who asks whether an address is free may', () => {
  bind(1, { addresses: [{ ip: '10.0.0.1' }] });
  expect(passes(1, arp(1, 1))).toBe(true);
  expect(passes(1, arp(1, 0))).toBe(true);
  expect(passes(1, arp(1, 2))).toBe(false);
  expect(passes(1, arp(1, 1, mac(2)))).toBe(false);
  expect(passes(1, frame({ from: mac(1), type: 0x0806, payload: [0, 6, 8, 0, 6, 4, 0, 1] }))).toBe(false);
  expect(bench.drops(1)).toEqual({ CLAIM_NOT_BOUND: 2, NOT_JUDGEABLE: 1 });
});

test('neighbour discovery claims only what is bound, with its own link-layer address', () => {
  bind(1, { addresses: [{ ip: 'fd00::1' }] });
  expect(passes(1, v6(1, V6(1), 58, nd(136, V6(1), 2, mac(1))))).toBe(true);
  expect(passes(1, v6(1, V6(1), 58, nd(135, V6(2), 1, mac(1))))).toBe(true);
  expect(passes(1, duplicateTest(1, 1))).toBe(true);
  expect(passes(1, v6(1, V6(1), 58, nd(136, V6(2), 2, mac(1))))).toBe(false);
  expect(passes(1, v6(1, V6(1), 58, nd(136, V6(1), 2, mac(2))))).toBe(false);
  expect(passes(1, v6(1, V6(1), 58, nd(135, V6(2), 1, mac(2))))).toBe(false);
  expect(passes(1, duplicateTest(1, 2))).toBe(false);
  expect(bench.drops(1)).toEqual({ CLAIM_NOT_BOUND: 4 });
  const inFragment = [58, 0, 0, 0, 0, 0, 0, 9, ...nd(135, V6(1), 1, mac(1))];
  expect(passes(1, v6(1, V6(1), 44, inFragment))).toBe(false);
  expect(passes(1, v6(1, V6(1), 58, [135, 0, 0, 0, 0, 0, 0, 0]))).toBe(false);
  expect(bench.drops(1)).toMatchObject({ NOT_JUDGEABLE: 2 });
});

test('an address that a DHCP server gives is bound to the port that asked, for the time of the lease', () => {
  bind(1, { dhcp: true });
  expect(passes(1, v4(1, 5))).toBe(false);
  expect(passes(1, request(1))).toBe(true);
  bench.receive(3, acknowledge(1, 5));
  expect(bindings(1)).toEqual(['dhcp 10.0.0.5']);
  expect(passes(1, v4(1, 5))).toBe(true);
  expect(passes(1, arp(1, 5))).toBe(true);
  expect(passes(1, v4(1, 6))).toBe(false);
  expect(passes(1, v4(2, 5))).toBe(false);
  bench.host.advance(599_000);
  expect(passes(1, request(1, 5))).toBe(true);
  bench.receive(3, acknowledge(1, 5));
  bench.host.advance(599_000);
  expect(passes(1, v4(1, 5))).toBe(true);
  bench.host.advance(2_000);
  expect(bindings(1)).toEqual([]);
  expect(passes(1, v4(1, 5))).toBe(false);
  // Who believes to have it may ask for it.
  expect(passes(1, request(1, 5))).toBe(true);
});

test('only a server that was asked, behind a port that is not guarded, gives addresses', () => {
  bind(1, { dhcp: true });
  bind(2, { dhcp: true });
  bench.receive(3, acknowledge(1, 5));
  bench.receive(1, request(1));
  bench.receive(2, acknowledge(1, 5));
  bench.receive(3, acknowledge(1, 5, { transaction: 77 }));
  bench.receive(3, acknowledge(2, 5, { transaction: 1 }));
  bench.sw.setPortProperty(3, { type: 'guard', dhcp: true }).result();
  bench.receive(3, acknowledge(1, 5));
  expect(bindings(1)).toEqual([]);
  bench.sw.deletePortProperty(3, 'guard').result();
  bench.receive(3, acknowledge(1, 5));
  expect(bindings(1)).toEqual(['dhcp 10.0.0.5']);
});

test('a client asks for itself alone, and gives back what it has', () => {
  bind(1, { dhcp: true });
  expect(passes(1, dhcp(1, { op: 1, type: 3, client: 2 }))).toBe(false);
  bench.receive(1, request(1));
  bench.receive(3, acknowledge(1, 5));
  bench.reached();
  const release = (source: number) => dhcp(1, { op: 1, type: 7, client: 1, own: 5 }, source);
  expect(passes(1, release(6))).toBe(false);
  expect(bindings(1)).toHaveLength(1);
  expect(passes(1, release(5))).toBe(true);
  expect(bindings(1)).toEqual([]);
});

test('an address moves with its lease, and never away from where it is fixed', () => {
  bind(1, { dhcp: true });
  bind(2, { dhcp: true });
  for (const host of [1, 2]) {
    bench.receive(host, request(host));
    bench.receive(3, acknowledge(host, 5));
  }
  expect([bindings(1), bindings(2)]).toEqual([[], ['dhcp 10.0.0.5']]);
  bind(2, { addresses: [{ ip: '10.0.0.7' }], dhcp: true });
  expect(bindings(2)).toEqual(['fixed 10.0.0.7', 'dhcp 10.0.0.5']);
  bench.receive(1, request(1));
  bench.receive(3, acknowledge(1, 7));
  expect(bindings(1)).toEqual([]);
});

test('an address of DHCPv6 is bound for its valid lifetime', () => {
  bind(1, { addresses: [{ ip: 'fd00::1' }], dhcp: true });
  expect(passes(1, dhcpv6(1, [546, 547], [3, 0, 0, 9, ...association(0x55)]))).toBe(true);
  bench.receive(3, dhcpv6(3, [547, 546], [7, 0, 0, 8, ...association(0x55)]));
  bench.reached();
  expect(passes(1, v6(1, V6(0x55), 59, []))).toBe(false);
  bench.receive(3, dhcpv6(3, [547, 546], [7, 0, 0, 9, ...association(0x55)]));
  bench.reached();
  expect(passes(1, v6(1, V6(0x55), 59, []))).toBe(true);
  bench.host.advance(61_000);
  expect(passes(1, v6(1, V6(0x55), 59, []))).toBe(false);
  bench.receive(1, dhcpv6(1, [546, 547], [3, 0, 0, 9, ...association(0x55)]));
  bench.receive(3, dhcpv6(3, [547, 546], [7, 0, 0, 9, ...association(0x55)]));
  bench.receive(1, dhcpv6(1, [546, 547], [8, 0, 0, 10, ...association(0x55)]));
  expect(bindings(1)).toEqual(['fixed fd00::1']);
});

test('an address that was tested for duplicates is bound when nobody objects', () => {
  bind(1, { nd: true });
  bind(2, { nd: true });
  expect(passes(1, v6(1, V6(1), 59, []))).toBe(false);
  expect(passes(1, duplicateTest(1, 1))).toBe(true);
  expect(passes(1, v6(1, V6(1), 59, []))).toBe(false);
  bench.host.advance(600);
  expect(passes(1, v6(1, V6(1), 59, []))).toBe(true);
  // Port 2 wants the same, and port 1 objects; then a router has it.
  expect(passes(2, duplicateTest(2, 1))).toBe(true);
  expect(passes(1, v6(1, V6(1), 58, nd(136, V6(1), 2, mac(1))))).toBe(true);
  expect(passes(2, duplicateTest(2, 9))).toBe(true);
  expect(passes(3, v6(3, V6(9), 58, nd(136, V6(9), 2, mac(3))))).toBe(true);
  bench.host.advance(600);
  expect(bindings(2)).toEqual([]);
  // Who is gone does not object: the address moves.
  bench.receive(2, duplicateTest(2, 1));
  bench.host.advance(600);
  expect([bindings(1), bindings(2)]).toEqual([[], ['nd fd00::1']]);
});

test('a fixed address is not to be claimed elsewhere', () => {
  bind(1, { addresses: [{ ip: 'fd00::1' }] });
  bind(2, { nd: true });
  expect(passes(2, duplicateTest(2, 1))).toBe(false);
  expect(bench.drops(2)).toEqual({ CLAIM_NOT_BOUND: 1 });
});

test('a port learns a bounded number of addresses: the one that was used longest ago gives way', () => {
  bind(1, { nd: true, limit: 2 });
  for (const last of [1, 2]) bench.receive(1, duplicateTest(1, last));
  bench.host.advance(600);
  bench.receive(1, v6(1, V6(1), 59, []));
  bench.receive(1, duplicateTest(1, 3));
  expect(bindings(1)).toEqual(['nd fd00::1', 'nd fd00::3']);
});

test('what rests on a port is void only when an address goes by which something was let in', () => {
  bind(1, { nd: true, dhcp: true, limit: 4 });
  const voided: number[] = [];
  bench.enable('watching', 'filtering', (handle) => {
    handle.shortcuts.watch((portId) => voided.push(portId));
    return {};
  });
  voided.length = 0;
  const claim = (last: number) => passes(1, duplicateTest(1, last));
  // A flood of claims pushes out what nobody used, and in a second not more than some.
  const taken = Array.from({ length: 200 }, (_, last) => claim(last)).filter((isTaken) => isTaken);
  expect([taken.length, voided]).toEqual([8, []]);
  expect(bindings(1)).toHaveLength(4);
  bench.host.advance(1_000);
  claim(100);
  bench.receive(3, v6(3, V6(100), 58, nd(136, V6(100), 2, mac(3))));
  expect([bindings(1).length, voided]).toEqual([3, []]);
  // A lease that is renewed stays what it is.
  for (let i = 0; i < 2; i += 1) {
    bench.receive(1, request(1, i === 0 ? 0 : 5));
    bench.receive(3, acknowledge(1, 5));
    expect(passes(1, v4(1, 5))).toBe(true);
  }
  expect(voided).toEqual([]);
  bench.receive(1, dhcp(1, { op: 1, type: 7, client: 1, own: 5 }, 5));
  expect(voided).toEqual([1]);
});

test('what a server gave is not to be claimed elsewhere, nor what was fixed for another station of the port', () => {
  bind(1, { dhcp: true, addresses: [{ ip: 'fd00::1', mac: '02:00:00:00:00:01' }] });
  bind(2, { nd: true, addresses: [{ ip: 'fd00::7', mac: '02:00:00:00:00:02' }] });
  leaseOfV6(1, 0x55);
  expect(bindings(1)).toContain('dhcp fd00::55');
  expect(passes(2, duplicateTest(2, 0x55))).toBe(false);
  expect(passes(2, duplicateTest(9, 7))).toBe(false);
  bench.host.advance(1_000);
  expect(bindings(1)).toContain('dhcp fd00::55');
  expect(passes(1, v6(1, V6(0x55), 59, []))).toBe(true);
  // The server takes it away from who has claimed it before.
  bench.host.advance(61_000);
  expect(passes(2, duplicateTest(2, 0x55))).toBe(true);
  leaseOfV6(1, 0x55);
  bench.host.advance(1_000);
  expect(bindings(2)).toEqual(['fixed fd00::7']);
  expect(passes(1, v6(1, V6(0x55), 59, []))).toBe(true);
});

test('a client gives back only what is its own', () => {
  bind(1, { dhcp: true, addresses: [{ ip: 'fd00::1' }] });
  leaseOfV6(1, 0x55);
  bench.receive(1, dhcpv6(9, [546, 547], [8, 0, 0, 10, ...association(0x55)], 1));
  expect(bindings(1)).toContain('dhcp fd00::55');
  bench.receive(1, dhcpv6(1, [546, 547], [8, 0, 0, 10, ...association(0x55)]));
  expect(bindings(1)).toEqual(['fixed fd00::1']);
});

test('a port that is full of leases says so once, and lets nobody claim an address in vain', () => {
  bind(1, { dhcp: true, nd: true, limit: 1 });
  const full = () => bench.events.filter(({ type }) => type === 'bindings-full');
  for (const address of [5, 6, 7]) {
    bench.receive(1, dhcp(address, { op: 1, type: 3, client: address }));
    bench.receive(3, acknowledge(address, address));
  }
  expect(bindings(1)).toEqual(['dhcp 10.0.0.5']);
  expect(full()).toEqual([{ type: 'bindings-full', portId: 1, limit: 1 }]);
  bench.reached();
  expect(passes(1, duplicateTest(1, 1))).toBe(false);
  expect(full()).toHaveLength(1);
  bind(1, { dhcp: true, limit: 2 });
  bench.receive(1, dhcp(6, { op: 1, type: 3, client: 6 }));
  bench.receive(3, acknowledge(6, 6));
  expect(bindings(1)).toEqual(['dhcp 10.0.0.5', 'dhcp 10.0.0.6']);
});

test('what was learned outlasts a link that is down for a moment, and no longer', () => {
  bind(1, { dhcp: true });
  bench.receive(1, request(1));
  bench.receive(3, acknowledge(1, 5));
  bench.sw.setNicLink(1, 0, false);
  bench.host.advance(20_000);
  bench.sw.setNicLink(1, 0, true);
  bench.host.advance(60_000);
  expect(bindings(1)).toEqual(['dhcp 10.0.0.5']);
  bench.sw.setNicLink(1, 0, false);
  bench.host.advance(31_000);
  expect(bindings(1)).toEqual([]);
});

test('many addresses of a port are told apart', () => {
  bind(1, { dhcp: true, limit: 256 });
  const hosts = Array.from({ length: 200 }, (_, i) => i + 1);
  for (const host of hosts) {
    bench.receive(1, dhcp(host, { op: 1, type: 3, client: host }));
    bench.receive(3, acknowledge(host, host));
  }
  bench.reached();
  for (const host of hosts) {
    expect(passes(1, v4(host, host))).toBe(true);
    expect(passes(1, v4(host, (host % 200) + 1))).toBe(false);
  }
});

test('what was learned ends with the NIC, and with the property, and a change of the property keeps it', () => {
  bind(1, { dhcp: true });
  const learn = () => {
    bench.receive(1, request(1));
    bench.receive(3, acknowledge(1, 5));
    expect(bindings(1)).toContain('dhcp 10.0.0.5');
  };
  learn();
  bind(1, { dhcp: true, addresses: [{ ip: '10.0.0.7' }] });
  expect(bindings(1)).toEqual(['fixed 10.0.0.7', 'dhcp 10.0.0.5']);
  bench.sw.disconnectNic(1).result();
  expect(bindings(1)).toEqual(['fixed 10.0.0.7']);
  bench.sw.deleteNic(1).result();
  bench.nic(1, 0);
  learn();
  bench.sw.deletePortProperty(1, 'binding').result();
  bind(1, { dhcp: true });
  expect(bindings(1)).toEqual([]);
});

test('a trace tells of bindings, and learns nothing', () => {
  bind(1, { nd: true });
  const packet = bench.packet(duplicateTest(1, 1));
  const drops = bench.sw.trace(packet, 1).filter((step) => step.drop !== undefined);
  packet.release();
  expect(drops).toEqual([]);
  expect(bindings(1)).toEqual([]);
});

test('an address that is none is refused', () => {
  expect(() => bind(1, { addresses: [{ ip: '10.0.0' }] })).toThrow('address binding: "10.0.0" is not an IP address');
});

test('an address is claimed only where whoever has it would hear that, and from this link', () => {
  bind(1, { nd: true });
  const solicitation = [135, 0, 0, 0, 0, 0, 0, 0, ...V6(5)];
  const claims: [string, Uint8Array][] = [
    ['to all nodes', v6(1, UNSPECIFIED, 58, solicitation)],
    ['to the group of another address', v6(1, UNSPECIFIED, 58, solicitation, solicitedNode(6))],
    ['in a frame to nobody', v6(1, UNSPECIFIED, 58, solicitation, solicitedNode(5), mac(77))],
    ['through a router', v6(1, UNSPECIFIED, 58, solicitation, solicitedNode(5), undefined, 254)],
  ];
  for (const [how, claim] of claims) expect([how, passes(1, claim)]).toEqual([how, false]);
  expect(passes(1, duplicateTest(1, 5))).toBe(true);
});

test('a client of DHCP speaks for itself: under no other address, and for no relay', () => {
  bind(1, { dhcp: true });
  expect(passes(1, request(1))).toBe(true);
  expect(passes(1, request(1, 7))).toBe(true);
  expect(passes(1, dhcp(1, { op: 1, type: 3, client: 1, own: 8 }, 7))).toBe(false);
  const relayed = request(1);
  relayed[14 + 20 + 8 + 24] = 10;
  expect(passes(1, relayed)).toBe(false);
});

test('IGMP without an address goes to groups alone', () => {
  bind(1, { dhcp: true });
  const igmp = (to: number[]) =>
    frame({ from: mac(1), type: 0x0800, payload: ipv4([0, 0, 0, 0], to, 2, [0x16, 0, 0, 0, 224, 0, 0, 9]) });
  expect(passes(1, igmp([224, 0, 0, 22]))).toBe(true);
  expect(passes(1, igmp([10, 0, 0, 9]))).toBe(false);
});
