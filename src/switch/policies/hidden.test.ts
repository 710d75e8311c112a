/**
 * Guards and access control against packets in disguise: whatever a forbidden packet is wrapped in, it does not pass a port that forbids it, and
 * ordinary traffic does.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EtherType, IpProtocol } from '../../net/index.ts';
import { Bench, BROADCAST, frame, ipv4, ipv6, mac, udp } from '../testing.ts';

const RUNS = Number(process.env.MILLRACE_FUZZ ?? 1) * 400;

/** A packet of layer 3 under its EtherType. */
interface Inner {
  readonly etherType: number;
  readonly bytes: readonly number[];
}

const A = [10, 0, 0, 1];
const B = [255, 255, 255, 255];
const tcp = (to: number) => [0, 99, to >> 8, to & 255, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0];
const icmp = (type: number) => [type, 0, 0, 0, ...new Array<number>(20).fill(0)];

/** Each is a next header, the IP version and the transport. */
const FORBIDDEN = [
  [6, IpProtocol.ICMPV6, icmp(134)],
  [6, IpProtocol.ICMPV6, icmp(137)],
  [4, IpProtocol.ICMPV4, icmp(9)],
  [4, IpProtocol.UDP, udp(67, 68)],
  [6, IpProtocol.UDP, udp(547, 546)],
  [4, IpProtocol.TCP, tcp(25)],
  [6, IpProtocol.TCP, tcp(25)],
] as const;

const ORDINARY = [
  [6, IpProtocol.ICMPV6, icmp(133)],
  [6, IpProtocol.ICMPV6, icmp(135)],
  [6, IpProtocol.ICMPV6, icmp(128)],
  [4, IpProtocol.ICMPV4, icmp(8)],
  [4, IpProtocol.UDP, udp(68, 67)],
  [6, IpProtocol.UDP, udp(546, 547)],
  [4, IpProtocol.TCP, tcp(443)],
  [6, IpProtocol.TCP, tcp(443)],
  [4, IpProtocol.ESP, icmp(1)],
  [4, 89, icmp(1)],
] as const;

type Transport = (typeof FORBIDDEN)[number] | (typeof ORDINARY)[number];

/** Headers between IP and transport: names of those that change nothing for the receiver. */
const EXTENSIONS = ['hop', 'destination', 'routing', 'authentication', 'atomic', 'first'] as const;

function extension(name: (typeof EXTENSIONS)[number], next: number): number[] {
  if (name === 'authentication') return [next, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
  if (name === 'atomic') return [next, 0, 0, 0, 0, 0, 0, 9];
  if (name === 'first') return [next, 0, 0, 1, 0, 0, 0, 9];
  if (name === 'routing') return [next, 0, 4, 0, 0, 0, 0, 0];
  return [next, 0, 1, 4, 0, 0, 0, 0];
}

const NUMBER: Readonly<Record<(typeof EXTENSIONS)[number], number>> = {
  hop: IpProtocol.HOP_BY_HOP,
  destination: IpProtocol.DESTINATION,
  routing: IpProtocol.ROUTING,
  authentication: IpProtocol.AUTHENTICATION,
  atomic: IpProtocol.FRAGMENT,
  first: IpProtocol.FRAGMENT,
};

function network([version, protocol, transport]: Transport, extensions: readonly (typeof EXTENSIONS)[number][]): Inner {
  let next: number = protocol;
  let bytes: number[] = [...transport];
  for (const name of extensions) {
    // IPv4 knows no other.
    if (version === 4 && name !== 'authentication') continue;
    bytes = [...extension(name, next), ...bytes];
    next = NUMBER[name];
  }
  if (version === 4) return { etherType: EtherType.IPV4, bytes: ipv4(A, B, next, bytes) };
  return { etherType: EtherType.IPV6, bytes: ipv6(1, next, bytes) };
}

/** What layer 2 wraps a packet in. Those of the first list are ordinary. */
const PLAIN_WRAPS = ['tag', 'priority'] as const;
const WRAPS = [
  ...PLAIN_WRAPS,
  'service',
  '9100',
  '9200',
  'snap',
  'snap-f8',
  'snap-length',
  'snap-control',
  'sap',
] as const;
type Wrap = (typeof WRAPS)[number];

function wrapped(inner: Inner, wrap: Wrap, liedLength: number): Inner {
  const under = [inner.etherType >> 8, inner.etherType & 255, ...inner.bytes];
  const llc = [0xaa, 0xaa, wrap === 'snap-control' ? 0xf3 : 3, 0, 0, wrap === 'snap-f8' ? 0xf8 : 0, ...under];
  switch (wrap) {
    case 'tag':
      return { etherType: EtherType.VLAN, bytes: [0, 5, ...under] };
    case 'priority':
      return { etherType: EtherType.VLAN, bytes: [0, 0, ...under] };
    case 'service':
      return { etherType: EtherType.SERVICE_VLAN, bytes: [0, 0, ...under] };
    case '9100':
      return { etherType: 0x9100, bytes: [0, 0, ...under] };
    case '9200':
      return { etherType: 0x9200, bytes: [0, 0, ...under] };
    case 'snap-length':
      return { etherType: liedLength, bytes: llc };
    case 'sap':
      return { etherType: inner.bytes.length + 3, bytes: [0x06, 0x06, 3, ...inner.bytes] };
    default:
      return { etherType: llc.length, bytes: llc };
  }
}

function framed(inner: Inner): Uint8Array {
  return frame({ to: BROADCAST, from: mac(1), type: inner.etherType, payload: inner.bytes });
}

function guarded(): Bench {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  bench.sw.setPortProperty(1, { type: 'guard', dhcp: true, router: true }).result();
  const rules = [{ direction: 'in', action: 'deny', protocol: 6, remotePort: 25 }];
  bench.sw.setPortProperty(1, { type: 'acl', rules }).result();
  return bench;
}

const extensionLists = fc.array(fc.constantFrom(...EXTENSIONS), { maxLength: 4 });

test('a forbidden packet never passes a guarded port, whatever it is wrapped in, and the drop has a name', () => {
  const bench = guarded();
  fc.assert(
    fc.property(
      fc.constantFrom(...FORBIDDEN),
      extensionLists,
      fc.array(fc.tuple(fc.constantFrom(...WRAPS), fc.nat(7)), { maxLength: 10 }),
      (transport, extensions, wraps) => {
        let inner = network(transport, extensions);
        for (const [wrap, lie] of wraps) inner = wrapped(inner, wrap, lie);
        const dropped = bench.sw.counters.dropped;
        bench.receive(1, framed(inner));
        expect(bench.reached()).toEqual([]);
        expect(bench.sw.counters.dropped).toBe(dropped + 1);
      },
    ),
    { numRuns: RUNS },
  );
  const named = Object.keys(bench.drops(1)).sort();
  expect(named).toContain('NOT_JUDGEABLE');
  expect(named).toContain('ROUTER_GUARD');
});

test('ordinary traffic passes a guarded port, tagged, with extension headers, or under SNAP', () => {
  const bench = guarded();
  fc.assert(
    fc.property(
      fc.constantFrom(...ORDINARY),
      extensionLists,
      fc.array(fc.constantFrom(...PLAIN_WRAPS), { maxLength: 7 }),
      fc.constantFrom<Wrap | null>('snap', 'snap-f8', null),
      (transport, extensions, wraps, snap) => {
        let inner = network(transport, extensions);
        if (snap !== null) inner = wrapped(inner, snap, 0);
        for (const wrap of wraps) inner = wrapped(inner, wrap, 0);
        bench.receive(1, framed(inner));
        expect(bench.reached()).toEqual([2]);
      },
    ),
    { numRuns: RUNS },
  );
  const others: [string, Inner][] = [
    ['spanning tree', { etherType: 38, bytes: [0x42, 0x42, 3, ...new Array<number>(35).fill(0)] }],
    ['CDP', { etherType: 40, bytes: [0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0, ...new Array<number>(32).fill(0)] }],
    ['IS-IS', { etherType: 40, bytes: [0xfe, 0xfe, 3, ...new Array<number>(37).fill(0)] }],
    ['LLDP', { etherType: EtherType.LLDP, bytes: [0, 0] }],
    ['MPLS', { etherType: EtherType.MPLS, bytes: [0, 0, 1, 64] }],
    ['ARP', { etherType: EtherType.ARP, bytes: [0, 1, 8, 0, 6, 4, 0, 1, ...mac(1), ...A, ...mac(0), 10, 0, 0, 2] }],
  ];
  for (const [name, inner] of others) {
    bench.receive(1, framed(inner));
    expect(bench.reached(), name).toEqual([2]);
  }
});

test('the first fragment must hold all headers, and what comes behind unknown extension headers is refused', () => {
  const bench = guarded();
  const inDestinationOptions = [60, 0, 0, 1, 0, 0, 0, 9, 58, 0, 1, 4, 0, 0, 0, 0];
  bench.receive(1, framed({ etherType: EtherType.IPV6, bytes: ipv6(1, 44, inDestinationOptions) }));
  bench.receive(1, framed({ etherType: EtherType.IPV6, bytes: ipv6(1, 135, [58, 0, 0, 0, 0, 0, 0, 0, ...icmp(134)]) }));
  expect(bench.reached()).toEqual([]);
  expect(bench.drops(1)).toEqual({ BAD_LENGTH: 1, NOT_JUDGEABLE: 1 });
});

test('a ninth tag is too many for a port that looks inside, and for no other', () => {
  const bench = guarded();
  const tags = new Array<number>(9).fill(5);
  bench.receive(1, frame({ tags, type: 0x0800 }));
  expect(bench.drops(1)).toEqual({ TOO_MANY_TAGS: 1 });
  bench.receive(2, frame({ tags, type: 0x0800 }));
  expect(bench.reached()).toEqual([1]);
});

test('access control towards a port refuses what it cannot read, too', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  bench.sw.setPortProperty(2, { type: 'acl', rules: [{ direction: 'out', action: 'deny', protocol: 6 }] }).result();
  const hidden = wrapped(network(FORBIDDEN[5], []), '9100', 0);
  bench.receive(1, framed(hidden), framed(network(FORBIDDEN[5], ['authentication'])));
  expect(bench.reached()).toEqual([]);
  expect(bench.drops(2)).toEqual({ NOT_JUDGEABLE: 1, ACL_DENIED: 1 });
});

test('a port with rules on MAC addresses alone minds no disguise', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const rules = [{ direction: 'in', action: 'deny', localMac: '02:00:00:00:00:09' }];
  bench.sw.setPortProperty(1, { type: 'acl', rules }).result();
  bench.receive(1, framed(wrapped(network(FORBIDDEN[5], []), '9100', 0)), frame({ from: mac(9) }));
  expect(bench.reached()).toEqual([2]);
});
