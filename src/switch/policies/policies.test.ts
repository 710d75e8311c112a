/** Security, access control, guards, address and bandwidth limits, malformed frames. */
import { expect, test } from 'vitest';
import { Checksum, Gso } from '../../net/index.ts';
import { Bench, batchOf, frame, ipv4, ipv6, mac, udp } from '../testing.ts';

function twoPorts(property: object, nic: { macAddress?: Uint8Array } = {}): Bench {
  const bench = new Bench();
  bench.port(1, {}, nic);
  bench.port(2);
  bench.sw.setPortProperty(1, property).result();
  return bench;
}

test('security: only the own MAC address, unless spoofing is allowed; nothing when the own address is not known', () => {
  const bench = twoPorts({ type: 'security' }, { macAddress: mac(1) });
  bench.receive(1, frame({ from: mac(1) }), frame({ from: mac(2) }));
  expect(bench.drops(1)).toEqual({ MAC_SPOOFED: 1 });
  bench.sw.updateNic(1, 0, { macAddress: mac(2) }).result();
  bench.receive(1, frame({ from: mac(2) }));
  expect(bench.reached()).toEqual([2, 2]);
  bench.sw.setPortProperty(1, { type: 'security', allowMacSpoofing: true }).result();
  bench.receive(1, frame({ from: mac(9) }));
  expect(bench.reached()).toEqual([2]);
  const unknown = twoPorts({ type: 'security' });
  unknown.receive(1, frame({ from: mac(1) }));
  expect(unknown.drops(1)).toEqual({ MAC_SPOOFED: 1 });
});

test('security: teaming lets a port use the address of another port that allows it too', () => {
  const bench = new Bench();
  for (const portId of [1, 2, 3]) {
    bench.port(portId, {}, { macAddress: mac(portId) });
    bench.sw.setPortProperty(portId, { type: 'security', allowTeaming: portId !== 3 }).result();
  }
  bench.receive(1, frame({ from: mac(2) }), frame({ from: mac(3) }));
  bench.receive(3, frame({ from: mac(1) }));
  expect(bench.drops(1)).toEqual({ MAC_SPOOFED: 1 });
  expect(bench.drops(3)).toEqual({ MAC_SPOOFED: 1 });
});

test('security: priority bits are cleared unless they are allowed', () => {
  const bench = twoPorts({ type: 'security', allowMacSpoofing: true });
  bench.receive(1, frame({ tags: [(5 << 13) | 9] }));
  bench.sw.setPortProperty(1, { type: 'security', allowMacSpoofing: true, allowIeeePriorityTag: true }).result();
  bench.receive(1, frame({ tags: [(5 << 13) | 9] }));
  expect(
    bench
      .nicOf(2)
      .take()
      .map((sent) => sent.tag),
  ).toEqual([0x3_0009, 0]);
});

test('security: a port uses only so many IP addresses; silent ones make room, and packets without one pass', () => {
  const bench = twoPorts({ type: 'security', allowMacSpoofing: true, dynamicIpAddressLimit: 2 });
  const from = (n: number) =>
    frame({ type: 0x0800, payload: ipv4([10, 0, 0, n], [10, 0, 0, 99], 17, udp(1000, 2000)) });
  const arp = (n: number) =>
    frame({ type: 0x0806, payload: [0, 1, 8, 0, 6, 4, 0, 1, ...mac(1), 10, 0, 0, n, 0, 0, 0, 0, 0, 0, 10, 0, 0, 9] });
  bench.receive(1, from(1), arp(1), from(2), from(3), arp(4), frame(), from(1));
  expect(bench.drops(1)).toEqual({ ADDRESS_LIMIT: 2 });
  bench.host.advance(200_000);
  bench.receive(1, from(1));
  bench.host.advance(200_000);
  bench.receive(1, from(3), from(2));
  expect(bench.drops(1)).toEqual({ ADDRESS_LIMIT: 3 });
  const icmp6 = (n: number) => frame({ type: 0x86dd, payload: ipv6(n, 58, [128, 0, 0, 0]) });
  const other = twoPorts({ type: 'security', allowMacSpoofing: true, dynamicIpAddressLimit: 1 });
  other.receive(1, icmp6(1), icmp6(2), icmp6(1));
  expect(other.drops(1)).toEqual({ ADDRESS_LIMIT: 1 });
});

test('access control: heavier rules come first, equal ones in order, and no rule means pass', () => {
  const bench = twoPorts({
    type: 'acl',
    rules: [
      { direction: 'in', action: 'deny', remoteIp: '10.1.0.0/16' },
      { direction: 'in', action: 'allow', remoteIp: '10.1.2.3', weight: 10 },
      { direction: 'in', action: 'deny', protocol: 17, remotePort: 53, localIp: '10.0.0.0/9' },
      { direction: 'in', action: 'deny', localMac: '02:00:00:00:00:07' },
      { direction: 'in', action: 'deny', remoteMac: '02:00:00:00:00:08' },
      { direction: 'in', action: 'deny', remoteIp: '2001:db8::/33' },
    ],
  });
  const packet = (destination: number[], port: number, source = [10, 0, 0, 1]) =>
    frame({ type: 0x0800, payload: ipv4(source, destination, 17, udp(5000, port)) });
  const v6 = (byte4: number) => {
    const payload = ipv6(1, 59, []);
    payload.splice(24, 5, 0x20, 0x01, 0x0d, 0xb8, byte4);
    return frame({ type: 0x86dd, payload });
  };
  const passes = (bytes: Uint8Array): boolean => {
    bench.receive(1, bytes);
    return bench.reached().length === 1;
  };
  expect(passes(packet([10, 1, 9, 9], 80))).toBe(false);
  expect(passes(packet([10, 1, 2, 3], 80))).toBe(true);
  expect(passes(packet([10, 2, 0, 1], 53))).toBe(false);
  expect(passes(packet([10, 2, 0, 1], 54))).toBe(true);
  expect(passes(packet([10, 2, 0, 1], 53, [10, 128, 0, 1]))).toBe(true);
  expect(passes(frame({ from: mac(7) }))).toBe(false);
  expect(passes(frame({ to: mac(8) }))).toBe(false);
  expect(passes(frame())).toBe(true);
  expect(passes(v6(0x7f))).toBe(false);
  expect(passes(v6(0x80))).toBe(true);
  expect(passes(frame({ tags: [5], type: 0x0800, payload: ipv4([10, 0, 0, 1], [10, 1, 9, 9], 17, udp(1, 2)) }))).toBe(
    false,
  );
});

test('access control: a rule with ports does not match later fragments, and headers that lie are not let through', () => {
  const bench = twoPorts({ type: 'acl', rules: [{ direction: 'in', action: 'deny', protocol: 17, remotePort: 53 }] });
  const later = ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, udp(5000, 53));
  later[7] = 1;
  const lying = ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, udp(5000, 53));
  lying[2] = 0xff;
  bench.receive(1, frame({ type: 0x0800, payload: later }), frame({ type: 0x0800, payload: lying }));
  expect(bench.reached()).toEqual([2]);
  expect(bench.drops(1)).toEqual({ BAD_LENGTH: 1 });
});

test('access control: states of connections are checked before anything is changed', () => {
  const bench = new Bench();
  bench.port(1);
  const set = (state: unknown) =>
    bench.sw.setPortProperty(1, { type: 'acl', rules: [{ direction: 'in', action: 'deny', state }] }).result();
  expect(() => set(['old'])).toThrow('rules[0].state[0]');
  expect(() => set([])).toThrow('a list of one or more of new, established, related, invalid, each once');
  expect(() => set(['new', 'new'])).toThrow('each once');
  expect(() => set('new')).toThrow('rules[0].state');
  set(['invalid']);
});

test('access control towards a port leaves the other copies alone', () => {
  const bench = new Bench();
  for (const portId of [1, 2, 3]) bench.port(portId);
  bench.sw.setPortProperty(2, {
    type: 'acl',
    rules: [{ direction: 'out', action: 'deny', remoteMac: '02:00:00:00:00:01' }],
  });
  bench.receive(1, frame({ from: mac(1) }));
  expect(bench.reached()).toEqual([3]);
  expect(bench.drops(2)).toEqual({ ACL_DENIED: 1 });
  expect(bench.sw.counters).toMatchObject({ delivered: 1, copiesDelivered: 1, copiesDropped: 1 });
});

test('DHCP guard: server messages are refused, client messages pass', () => {
  const bench = twoPorts({ type: 'guard', dhcp: true });
  const v4 = (from: number, to: number) =>
    frame({ type: 0x0800, payload: ipv4([10, 0, 0, 1], [255, 255, 255, 255], 17, udp(from, to)) });
  const v6 = (from: number, to: number) => frame({ type: 0x86dd, payload: ipv6(1, 17, udp(from, to)) });
  bench.receive(1, v4(68, 67), v6(546, 547));
  expect(bench.reached()).toEqual([2, 2]);
  bench.receive(1, v4(67, 68), v4(67, 67), v6(547, 546), v6(547, 547));
  expect(bench.reached()).toEqual([]);
  expect(bench.drops(1)).toEqual({ DHCP_GUARD: 4 });
});

test('router guard: advertisements and redirects are refused, behind extension headers too, solicitations pass', () => {
  const bench = twoPorts({ type: 'guard', router: true });
  const icmp6 = (type: number) => [type, 0, 0, 0, 0, 0, 0, 0];
  const v6 = (next: number, payload: number[]) => frame({ type: 0x86dd, payload: ipv6(1, next, payload) });
  bench.receive(1, v6(58, icmp6(133)), v6(58, icmp6(135)));
  expect(bench.reached()).toEqual([2, 2]);
  const hopByHop = [58, 0, 1, 4, 0, 0, 0, 0];
  const fragment = [58, 0, 0, 1, 0, 0, 0, 9];
  bench.receive(
    1,
    v6(58, icmp6(134)),
    v6(58, icmp6(137)),
    v6(0, [...hopByHop, ...icmp6(134)]),
    v6(44, [...fragment, ...icmp6(134)]),
  );
  expect(bench.drops(1)).toEqual({ ROUTER_GUARD: 4 });
  bench.receive(1, v6(44, fragment), v6(0, [60, 200, 0, 0, 0, 0, 0, 0]));
  expect(bench.drops(1)).toEqual({ ROUTER_GUARD: 4, BAD_LENGTH: 2 });
  const v4 = (type: number) =>
    frame({ type: 0x0800, payload: ipv4([10, 0, 0, 1], [10, 0, 0, 2], 1, [type, 0, 0, 0, 0, 0, 0, 0]) });
  bench.receive(1, v4(9), v4(5), v4(8));
  expect(bench.reached()).toEqual([2]);
});

test('a bandwidth limit holds on average and lets a burst through', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  bench.sw.setPortProperty(2, { type: 'qos', maxRateBps: 8_000_000, burstBytes: 10_000 }).result();
  const burst = Array.from({ length: 20 }, () => frame({ length: 1000 }));
  bench.receive(1, ...burst);
  expect(bench.reached()).toHaveLength(10);
  bench.host.advance(5);
  bench.receive(1, ...burst);
  expect(bench.reached()).toHaveLength(5);
  expect(bench.drops(2)).toEqual({ RATE_LIMIT: 25 });
});

test('malformed frames are named drops, and nothing is thrown', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  bench.receive(
    1,
    new Uint8Array(0),
    new Uint8Array(13),
    frame({ tags: [1, 2], length: 22 }).subarray(0, 17),
    frame({ type: 100, length: 60 }),
    frame({ from: Uint8Array.of(3, 0, 0, 0, 0, 1) }),
    frame({ from: new Uint8Array(6) }),
    frame({ to: Uint8Array.of(1, 0x80, 0xc2, 0, 0, 0) }),
  );
  expect(bench.reached()).toEqual([]);
  expect(bench.drops(1)).toEqual({
    RUNT_FRAME: 3,
    BAD_LENGTH: 1,
    INVALID_SOURCE_MAC: 2,
    LINK_LOCAL_CONTROL: 1,
  });
  expect(bench.outstanding).toBe(0);
});

test('a descriptor or an offload request that does not fit the frame is a named drop', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const beyond = bench.packet(frame());
  beyond.length = 80_000;
  const checksum = bench.packet(frame());
  checksum.checksum = Checksum.PARTIAL;
  checksum.checksumStart = 50;
  checksum.checksumOffset = 9;
  const segments = bench.packet(frame());
  segments.gsoType = Gso.TCPV4;
  const unknown = bench.packet(frame());
  unknown.gsoType = 9;
  unknown.gsoSizeBytes = 100;
  bench.sw.receive(1, 0, batchOf(beyond, checksum, segments, unknown));
  expect(bench.drops(1)).toEqual({ BAD_LENGTH: 1, BAD_OFFLOAD: 3 });
  expect(bench.outstanding).toBe(0);
});

test('link-local control frames are forwarded where that is configured', () => {
  const bench = new Bench({ forwardLinkLocal: true });
  bench.port(1);
  bench.port(2);
  bench.receive(1, frame({ to: Uint8Array.of(1, 0x80, 0xc2, 0, 0, 0x0e) }));
  expect(bench.reached()).toEqual([2]);
});

test('a super-packet crosses whole, with its metadata', () => {
  const bench = new Bench();
  bench.port(1);
  const out = bench.port(2);
  const packet = bench.packet(frame({ type: 0x0800, length: 65_000 }));
  packet.gsoType = Gso.TCPV4;
  packet.gsoSizeBytes = 1448;
  packet.checksum = Checksum.PARTIAL;
  packet.checksumStart = 34;
  packet.checksumOffset = 16;
  let metadata = '';
  out.transmit = (sent) => {
    metadata = `${sent.length} ${sent.gsoType} ${sent.gsoSizeBytes} ${sent.checksum}`;
  };
  bench.sw.receive(1, 0, batchOf(packet));
  expect(metadata).toBe('65000 1 1448 1');
});
