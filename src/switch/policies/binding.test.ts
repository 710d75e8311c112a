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

function v6(host: number, source: readonly number[], next: number, payload: readonly number[]): Uint8Array {
  const head = [0x60, 0, 0, 0, payload.length >> 8, payload.length & 255, next, 255];
  const destination = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
  return frame({ from: mac(host), type: 0x86dd, payload: [...head, ...source, ...destination, ...payload] });
}

/** A neighbour solicitation (135) or advertisement (136) for an address, with a link-layer address in its option. */
const nd = (type: number, target: readonly number[], option: number, address: Uint8Array) => [
  ...[type, 0, 0, 0, 0, 0, 0, 0],
  ...target,
  ...[option, 1, ...address],
];
const duplicateTest = (host: number, last: number) =>
  v6(host, UNSPECIFIED, 58, [135, 0, 0, 0, 0, 0, 0, 0, ...V6(last)]);

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

const request = (client: number, source = 0) => dhcp(client, { op: 1, type: 3, client }, source);
const acknowledge = (client: number, yours: number, more: Partial<Dhcp> = {}) =>
  dhcp(3, { op: 2, type: 5, client, yours, ...more }, 3);

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
  const message = (from: number, ports: number[], bytes: number[]) =>
    v6(from, V6(from), 17, [...ports, 0, bytes.length + 8, 0, 0, ...bytes]);
  const association = [
    0,
    3,
    0,
    40,
    0,
    0,
    0,
    1,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    5,
    0,
    24,
    ...V6(0x55),
    0,
    0,
    0,
    30,
    0,
    0,
    0,
    60,
  ];
  expect(passes(1, message(1, [2, 34, 2, 35], [3, 0, 0, 9, ...association]))).toBe(true);
  bench.receive(3, message(3, [2, 35, 2, 34], [7, 0, 0, 8, ...association]));
  bench.reached();
  expect(passes(1, v6(1, V6(0x55), 59, []))).toBe(false);
  bench.receive(3, message(3, [2, 35, 2, 34], [7, 0, 0, 9, ...association]));
  bench.reached();
  expect(passes(1, v6(1, V6(0x55), 59, []))).toBe(true);
  bench.host.advance(61_000);
  expect(passes(1, v6(1, V6(0x55), 59, []))).toBe(false);
  bench.receive(1, message(1, [2, 34, 2, 35], [3, 0, 0, 9, ...association]));
  bench.receive(3, message(3, [2, 35, 2, 34], [7, 0, 0, 9, ...association]));
  bench.receive(1, message(1, [2, 34, 2, 35], [8, 0, 0, 10, ...association]));
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
