/** The host's tables against the running kernel: Linux decides, and what it decides counts for the next packet. */
import { afterEach, expect, test } from 'vitest';
import {
  bind,
  type EventLoop,
  type LinuxTables,
  NativeBlock,
  openHostTables,
  Socket,
  send,
  socket,
  withRouteClient,
} from '../src/host/index.ts';
import {
  composeFrame,
  Ethernet,
  EtherType,
  formatMac,
  type HostPath,
  header,
  IpProtocol,
  Ipv4,
  Ipv6,
  type Packet,
  PacketPool,
  PathQuery,
  PathState,
  parseIpv4Into,
  parseIpv6Into,
  Udp,
} from '../src/net/index.ts';
import { type Host, Lab, labLoop, run, runUntil } from './support/index.ts';

let lab = new Lab();
afterEach(() => {
  lab.close();
  lab = new Lab();
});

type More = { source?: string; mark?: number; trafficClass?: number; port?: number };

function words(into: Int32Array, address: string): boolean {
  const bytes = new Uint8Array(16);
  const isIpv6 = address.includes(':');
  if (!(isIpv6 ? parseIpv6Into(address, bytes, 0) : parseIpv4Into(address, bytes, 0))) throw new Error(address);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < 4; i += 1) into[i] = view.getInt32(i * 4);
  return isIpv6;
}

function queryTo(address: string, more: More = {}): PathQuery {
  const query = new PathQuery();
  query.isIpv6 = words(query.destination, address);
  if (more.source !== undefined) words(query.source, more.source);
  query.mark = more.mark ?? 0;
  query.trafficClass = more.trafficClass ?? 0;
  if (more.port !== undefined) {
    query.protocol = IpProtocol.UDP;
    query.destinationPort = more.port;
  }
  return query;
}

/** The tables of a host, on a loop that runs when a test waits. */
class Watched {
  readonly loop: EventLoop;
  readonly tables: LinuxTables;
  readonly warnings: string[] = [];
  readonly #host: Host;

  constructor(host: Host, options: { receiveBufferBytes?: number } = {}) {
    this.#host = host;
    this.loop = labLoop(lab);
    const warn = (message: string) => void this.warnings.push(message);
    this.tables = lab.own(host.inside(() => openHostTables(this.loop, { warn, ...options })));
    runUntil(this.loop, 'addresses are read', () => this.tables.addresses.isComplete);
  }

  find(address: string, more: More = {}): HostPath {
    return this.tables.find(queryTo(address, more));
  }

  /** Wait until a path is such. */
  until(address: string, wanted: Partial<HostPath> & { mac?: string }, more: More = {}, timeoutMs = 8000): HostPath {
    const { mac, ...rest } = wanted;
    let path = this.find(address, more);
    const isSo = () => {
      path = this.find(address, more);
      const given = Object.entries(rest).every(([name, value]) => Reflect.get(path, name) === value);
      return given && (mac === undefined || formatMac(path.destinationMac) === mac);
    };
    try {
      runUntil(this.loop, `the path to ${address} is ${JSON.stringify(wanted)}`, isSo, timeoutMs);
    } catch (error) {
      throw new Error(`${error}; it is ${JSON.stringify(path)}`, { cause: error });
    }
    return path;
  }

  index(link: string): number {
    return this.#host.inside(() => withRouteClient((client) => client.link(link).index));
  }

  /** Read what has happened. */
  catchUp(): void {
    while (this.loop.poll(0));
  }
}

/** Host a with two neighbours, b by eth0 and c by eth1, of both versions. */
function threeHosts() {
  const [a, b, c] = lab.hosts(3);
  for (const [host, link, net] of [
    [b, 'eth0', 0],
    [c, 'eth1', 1],
  ] as const) {
    lab.veth(a, link, host, 'eth0');
    a.address(link, `10.0.${net}.1/24`);
    host.address('eth0', `10.0.${net}.2/24`);
    a.address(link, `fd00:${net}::1/64`);
    host.address('eth0', `fd00:${net}::2/64`);
    // Linux solicits IPv6 neighbours from link-local addresses, which hosts of the lab have not by themselves.
    a.address(link, `fe80::${net}:1/64`);
    host.address('eth0', `fe80::${net}:2/64`);
  }
  return { a, b, c, watched: new Watched(a) };
}

test('a path has interface, source, MAC addresses and length as Linux would send, for IPv4 and IPv6', () => {
  const { a, b, watched } = threeHosts();
  for (const [to, source] of [
    ['10.0.0.2', '10.0.0.1'],
    ['fd00:0::2', 'fd00:0::1'],
  ]) {
    const path = watched.until(to, { state: PathState.READY, mac: b.macAddress('eth0') });
    const wanted = new Int32Array(4);
    words(wanted, source);
    expect(path).toMatchObject({ interfaceIndex: watched.index('eth0'), mtuBytes: 1500, hasEthernet: true });
    expect(path.source).toEqual(wanted);
    expect(formatMac(path.sourceMac)).toBe(a.macAddress('eth0'));
  }
  expect(watched.find('10.0.0.1').state).toBe(PathState.LOCAL);
  expect(watched.find('fd00:1::1').state).toBe(PathState.LOCAL);
  expect(watched.find('192.0.2.1').state).toBe(PathState.NO_ROUTE);
  expect(watched.find('2001:db8::1').state).toBe(PathState.NO_ROUTE);
  expect(watched.find('10.0.0.2', { source: '10.9.9.9' }).state).toBe(PathState.NO_SOURCE);
});

test('rules by mark, source, class and port decide, and so do metrics and kinds of routes', () => {
  const { a, watched } = threeHosts();
  const [eth0, eth1] = ['eth0', 'eth1'].map((link) => watched.index(link));
  a.ip('route add default via 10.0.0.2');
  a.ip('route add default via 10.0.1.2 table 100 mtu 1300');
  a.ip('route add default via fd00:0::2');
  a.ip('-6 route add default via fd00:1::2 table 100');
  a.ip('rule add fwmark 7 table 100');
  a.ip('rule add from 10.0.1.1 table 100');
  a.ip('rule add tos 0x10 table 100');
  a.ip('rule add ipproto udp dport 4789 table 100');
  a.ip('-6 rule add fwmark 7 table 100');
  for (const [kind, state] of [
    ['blackhole', PathState.BLACKHOLE],
    ['unreachable', PathState.UNREACHABLE],
    ['prohibit', PathState.PROHIBITED],
  ] as const) {
    a.ip(`route add ${kind} 198.51.${state}.0/24`);
    a.ip(`-6 route add ${kind} 2001:db8:${state}::/64`);
  }
  watched.catchUp();
  const by = (more: More) => watched.until('192.0.2.1', { state: PathState.READY }, more);
  expect(by({})).toMatchObject({ interfaceIndex: eth0, mtuBytes: 1500 });
  expect(by({ mark: 7 })).toMatchObject({ interfaceIndex: eth1, mtuBytes: 1300 });
  expect(by({ source: '10.0.1.1' })).toMatchObject({ interfaceIndex: eth1 });
  expect(by({ source: '10.0.0.1' })).toMatchObject({ interfaceIndex: eth0 });
  expect(by({ trafficClass: 0x13 })).toMatchObject({ interfaceIndex: eth1 });
  expect(by({ port: 4789 })).toMatchObject({ interfaceIndex: eth1 });
  expect(by({ port: 6081 })).toMatchObject({ interfaceIndex: eth0 });
  const six = (more: More) => watched.until('2001:db8:ffff::1', { state: PathState.READY }, more).interfaceIndex;
  expect([six({}), six({ mark: 7 })]).toEqual([eth0, eth1]);
  for (const state of [PathState.BLACKHOLE, PathState.UNREACHABLE, PathState.PROHIBITED]) {
    expect(watched.find(`198.51.${state}.1`).state).toBe(state);
    expect(watched.find(`2001:db8:${state}::1`).state).toBe(state);
  }
});

test('another gateway, several next hops, a rule that comes and a route that goes count for the next packet', () => {
  const { a, b, c, watched } = threeHosts();
  a.ip('route add 192.0.2.0/24 via 10.0.0.2');
  watched.until('192.0.2.1', { state: PathState.READY, mac: b.macAddress('eth0') });
  a.ip('route replace 192.0.2.0/24 via 10.0.1.2');
  watched.until('192.0.2.1', { state: PathState.READY, mac: c.macAddress('eth0') });
  a.ip('route add blackhole default table 9');
  a.ip('rule add to 192.0.2.1 table 9');
  watched.until('192.0.2.1', { state: PathState.BLACKHOLE });
  a.ip('rule del to 192.0.2.1 table 9');
  a.ip('route replace 192.0.2.0/24 nexthop via 10.0.0.2 nexthop via 10.0.1.2');
  watched.catchUp();
  const used = new Set<number>();
  for (let i = 1; i < 65; i += 1) {
    used.add(watched.until(`192.0.2.${i}`, { state: PathState.READY }).interfaceIndex);
  }
  expect([...used].sort()).toEqual(['eth0', 'eth1'].map((link) => watched.index(link)).sort());
  a.ip('route del 192.0.2.0/24');
  watched.until('192.0.2.1', { state: PathState.NO_ROUTE });
  // Next-hop objects tell of their own changes.
  a.ip('nexthop add id 5 via 10.0.0.2 dev eth0');
  a.ip('route add 192.0.2.0/24 nhid 5');
  watched.until('192.0.2.1', { state: PathState.READY, mac: b.macAddress('eth0') });
  a.ip('nexthop replace id 5 via 10.0.1.2 dev eth1');
  watched.catchUp();
  watched.until('192.0.2.1', { state: PathState.READY, mac: c.macAddress('eth0') });
});

/** Takes packets back, and says in which state. */
class Taker {
  readonly states: number[] = [];

  onPath(packet: Packet, _path: HostPath, state: number): void {
    this.states.push(state);
    packet.release();
  }
}

test('a packet waits while Linux resolves its next hop, and fails when that does not answer', () => {
  const { a, b, watched } = threeHosts();
  const pool = new PacketPool({ packets: 4, bufferBytes: 2048 });
  const taker = new Taker();
  const wait = (address: string) => {
    const packet = pool.allocate();
    if (packet === null) throw new Error('the pool is empty');
    packet.length = 100;
    expect(watched.tables.wait(watched.find(address), packet, taker)).toBe(true);
  };
  for (const address of ['10.0.0.78', 'fd00:0::78']) {
    taker.states.length = 0;
    expect(watched.find(address).state).toBe(PathState.RESOLVING);
    wait(address);
    watched.catchUp();
    expect(taker.states).toEqual([]);
    // Linux asks once a second.
    b.address('eth0', `${address}/${address.includes(':') ? 64 : 24}`);
    runUntil(watched.loop, `the packet to ${address} may go`, () => taker.states.length === 1);
    expect(taker.states).toEqual([PathState.READY]);
    expect(formatMac(watched.find(address).destinationMac)).toBe(b.macAddress('eth0'));
  }
  for (const address of ['10.0.0.77', 'fd00:0::77']) {
    taker.states.length = 0;
    wait(address);
    runUntil(watched.loop, `the packet to ${address} is given up`, () => taker.states.length === 1, 15_000);
    expect(taker.states).toEqual([PathState.NO_NEIGHBOUR]);
  }
  expect(pool.available).toBe(pool.capacity);
  // It appears: when the failure is a second old, Linux is asked again.
  b.address('eth0', '10.0.0.77/24');
  watched.until('10.0.0.77', { state: PathState.READY, mac: b.macAddress('eth0') }, {}, 15_000);
  expect(a.ip('neigh show 10.0.0.77')).toMatch(/REACHABLE|DELAY|STALE/);
});

test('a next hop that moves to another MAC address is followed, and one that somebody deletes is resolved anew', () => {
  const { a, b, watched } = threeHosts();
  watched.until('10.0.0.2', { state: PathState.READY, mac: b.macAddress('eth0') });
  b.ip('link set eth0 address 02:00:00:00:77:01');
  // What b sends first tells a of it.
  b.ping('10.0.0.1', { count: 1 });
  watched.until('10.0.0.2', { state: PathState.READY, mac: '02:00:00:00:77:01' });
  a.ip('neigh del 10.0.0.2 dev eth0');
  const { resolutions } = watched.tables.describe().neighbourCounters;
  watched.catchUp();
  watched.until('10.0.0.2', { state: PathState.READY, mac: '02:00:00:00:77:01' });
  expect(watched.tables.describe().neighbourCounters.resolutions).toBe(resolutions + 1);
  // A permanent one is used as it is, and stays permanent.
  a.ip('neigh replace 10.0.0.3 lladdr 02:00:00:00:77:03 dev eth0 nud permanent');
  watched.until('10.0.0.3', { state: PathState.READY, mac: '02:00:00:00:77:03' });
  expect(a.ip('neigh show 10.0.0.3')).toContain('PERMANENT');
});

test('a next hop in use is probed when Linux would let it grow stale, as Linux does not see what is sent there', () => {
  const { a, b, watched } = threeHosts();
  a.run('sh', ['-c', 'echo 1 > /proc/sys/net/ipv4/neigh/eth0/delay_first_probe_time']);
  watched.until('10.0.0.2', { state: PathState.READY });
  const isReachable = () => {
    expect(watched.find('10.0.0.2').state).toBe(PathState.READY);
    return a.ip('neigh show 10.0.0.2').includes('REACHABLE');
  };
  for (let times = 1; times <= 2; times += 1) {
    a.ip('neigh change 10.0.0.2 dev eth0 nud stale');
    expect(isReachable()).toBe(false);
    runUntil(watched.loop, 'Linux has probed it', isReachable, 15_000);
    expect(watched.tables.describe().neighbourCounters.refreshments).toBeGreaterThanOrEqual(times);
  }
  // A silent neighbour is found out.
  b.ip('link set eth0 arp off');
  a.ip('neigh change 10.0.0.2 dev eth0 nud stale');
  b.ip('addr flush dev eth0');
  watched.until('10.0.0.2', { state: PathState.NO_NEIGHBOUR }, {}, 30_000);
});

test('an interface that goes down and an address that is removed take their paths with them', () => {
  const { a, watched } = threeHosts();
  a.ip('route add 192.0.2.0/24 via 10.0.0.2 metric 1');
  a.ip('route add 192.0.2.0/24 via 10.0.1.2 metric 2');
  const [eth0, eth1] = ['eth0', 'eth1'].map((link) => watched.index(link));
  watched.until('192.0.2.1', { state: PathState.READY, interfaceIndex: eth0 });
  watched.until('192.0.2.1', { state: PathState.READY, interfaceIndex: eth0 }, { source: '10.0.0.1' });
  watched.until('fd00:0::2', { state: PathState.READY, interfaceIndex: eth0 });
  a.ip('link set eth0 down');
  watched.until('192.0.2.1', { state: PathState.READY, interfaceIndex: eth1 });
  watched.until('fd00:0::2', { state: PathState.NO_ROUTE });
  a.ip('addr del 10.0.0.1/24 dev eth0');
  watched.until('192.0.2.1', { state: PathState.NO_SOURCE }, { source: '10.0.0.1' });
  a.ip('link set eth1 mtu 1400');
  watched.until('192.0.2.1', { state: PathState.READY, mtuBytes: 1400 });
  a.ip('link del eth1');
  watched.until('192.0.2.1', { state: PathState.NO_ROUTE });
});

test('addresses of the host are known with their state, and changes are told', () => {
  const { a, watched } = threeHosts();
  const { addresses } = watched.tables;
  const has = (address: string, link?: string) => {
    const w = new Int32Array(4);
    const isIpv6 = words(w, address);
    return addresses.has(isIpv6, w[0], w[1], w[2], w[3], link === undefined ? 0 : watched.index(link));
  };
  expect([has('10.0.0.1'), has('10.0.0.1', 'eth0'), has('10.0.0.1', 'eth1'), has('10.0.0.2')]).toEqual([
    true,
    true,
    false,
    false,
  ]);
  expect([has('127.0.0.1'), has('::1'), has('fd00:1::1', 'eth1')]).toEqual([true, true, true]);
  let told = 0;
  addresses.listen(() => {
    told += 1;
  });
  // Duplicate address detection takes its time, in which the address is not to be used.
  a.ip('addr add fd00:5::1/64 dev eth0');
  watched.catchUp();
  expect([told > 0, has('fd00:5::1')]).toEqual([true, false]);
  runUntil(watched.loop, 'the address is settled', () => has('fd00:5::1'), 15_000);
  a.ip('link set eth0 down');
  runUntil(watched.loop, 'it is gone', () => !has('fd00:5::1') && !has('10.0.0.1'));
  a.ip('link set eth0 up');
  runUntil(watched.loop, 'IPv4 is back', () => has('10.0.0.1'));
  a.ip('addr del 10.0.0.1/24 dev eth0');
  runUntil(watched.loop, 'the address is removed', () => !has('10.0.0.1'));
});

/** Send one frame past Linux, as a datapath does. */
function sendPast(host: Host, link: string, index: number, frame: Uint8Array): void {
  host.inside(() => {
    const descriptor = socket(Socket.AF_PACKET, Socket.RAW, 0, 'send a frame');
    // struct sockaddr_ll: family, protocol, index.
    const address = new NativeBlock(20);
    address.u16[0] = Socket.AF_PACKET;
    address.i32[1] = index;
    bind(descriptor.number, address, 20, `send a frame by ${link}`);
    send(descriptor.number, frame, 'send a frame');
    descriptor.close();
  });
}

test('path MTU is learned from Linux, and from routers that answer to packets of which Linux knows nothing', () => {
  const { a, b, watched } = threeHosts();
  const d = lab.host('d');
  lab.veth(b, 'eth1', d, 'eth0', { mtuBytes: 1300 });
  for (const [prefix, length] of [
    ['10.0.5.', 24],
    ['fd00:5::', 64],
  ]) {
    b.address('eth1', `${prefix}1/${length}`);
    for (const last of [2, 3]) d.address('eth0', `${prefix}${last}/${length}`);
    a.ip(
      `route add ${prefix}${prefix.toString().includes(':') ? '' : '0'}/${length} via ${length === 24 ? '10.0.0.2' : 'fd00:0::2'}`,
    );
    d.ip(`route add default via ${prefix}1`);
  }
  b.run('sh', ['-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding']);
  watched.catchUp();
  for (const to of ['10.0.5.2', 'fd00:5::2']) {
    watched.until(to, { state: PathState.READY, mtuBytes: 1500 });
    expect(a.ping(to, { sizeBytes: 1400, count: 2 })).toBe(!to.includes(':') || a.ping(to, { sizeBytes: 1400 }));
    a.run('sh', ['-c', `ping -n -c 1 -W 1 -M do -s 1400 ${to} || true`]);
    watched.until(to, { state: PathState.READY, mtuBytes: 1300 }, {}, 15_000);
  }
  const index = watched.index('eth0');
  for (const to of ['10.0.5.3', 'fd00:5::3']) {
    const isIpv6 = to.includes(':');
    const path = watched.until(to, { state: PathState.READY, mtuBytes: 1500 });
    const ethernet = header(Ethernet, {
      destination: formatMac(path.destinationMac),
      source: formatMac(path.sourceMac),
      etherType: isIpv6 ? EtherType.IPV6 : EtherType.IPV4,
    });
    const udp = header(Udp, { sourcePort: 50_001, destinationPort: 4789, payloadLength: 0 });
    const network = isIpv6
      ? header(Ipv6, {
          trafficClass: 0,
          flowLabel: 0,
          payloadLength: 0,
          nextHeader: IpProtocol.UDP,
          hopLimit: 64,
          source: 'fd00:0::1',
          destination: to,
        })
      : header(Ipv4, {
          dscp: 0,
          ecn: 0,
          payloadLength: 0,
          identification: 0,
          dontFragment: true,
          moreFragments: false,
          fragmentOffset: 0,
          timeToLive: 64,
          protocol: IpProtocol.UDP,
          source: '10.0.0.1',
          destination: to,
          options: [],
        });
    sendPast(a, 'eth0', index, composeFrame([ethernet, network, udp], new Uint8Array(1400)));
    watched.until(to, { state: PathState.READY, mtuBytes: 1300 });
    // Linux has not learned it: that is why the errors are read here.
    expect(a.ip(`route get ${to}`)).not.toContain('mtu 1300');
  }
});

test('20,000 routes at once leave paths as they are, and what they change is there afterwards', () => {
  const { a, c, watched } = threeHosts();
  watched.until('10.0.0.2', { state: PathState.READY });
  a.ip('route add 192.0.2.0/24 via 10.0.0.2');
  watched.until('192.0.2.1', { state: PathState.READY });
  const routes = Array.from(
    { length: 20_000 },
    (_, i) => `route add 172.${16 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}/32 via 10.0.0.2`,
  );
  const before = watched.tables.describe();
  const batch = [...routes, 'route replace 192.0.2.0/24 via 10.0.1.2'].join('\n');
  run('ip', ['-n', a.name, '-batch', '-'], { input: batch, timeoutMs: 60_000 });
  watched.until('192.0.2.1', { state: PathState.READY, mac: c.macAddress('eth0') });
  watched.until('172.16.3.7', { state: PathState.READY, interfaceIndex: watched.index('eth0') });
  const after = watched.tables.describe();
  expect(after.overflows).toBe(0);
  expect(watched.warnings).toEqual([]);
  // As the loop did not run meanwhile, all of it is one change and what follows.
  expect(after.changes - before.changes).toBeLessThan(10);
  expect(after.questions - before.questions).toBeLessThan(60);
});

test('news of neighbours and addresses that overflow are made up for, and said once', () => {
  const { a } = threeHosts();
  const watched = new Watched(a, { receiveBufferBytes: 4096 });
  a.ip('neigh replace 10.0.0.50 lladdr 02:00:00:00:50:01 dev eth0 nud permanent');
  watched.until('10.0.0.50', { state: PathState.READY, mac: '02:00:00:00:50:01' });
  const lines = Array.from(
    { length: 2000 },
    (_, i) =>
      `neigh replace 10.0.0.${100 + (i % 100)} lladdr 02:00:00:01:${(i >> 8).toString(16)}:${(i & 255).toString(16)} dev eth0 nud permanent`,
  );
  lines.push('neigh replace 10.0.0.50 lladdr 02:00:00:00:50:02 dev eth0 nud permanent');
  for (let i = 0; i < 200; i += 1) lines.push(`addr add 10.1.${i}.1/24 dev eth1`);
  run('ip', ['-n', a.name, '-batch', '-'], { input: lines.join('\n'), timeoutMs: 60_000 });
  watched.until('10.0.0.50', { state: PathState.READY, mac: '02:00:00:00:50:02' });
  runUntil(watched.loop, 'all addresses are read', () => watched.tables.addresses.has(false, 0x0a01_c701, 0, 0, 0, 0));
  runUntil(watched.loop, 'they are whole', () => watched.tables.addresses.isComplete);
  expect(watched.tables.describe().overflows).toBeGreaterThanOrEqual(2);
  expect(watched.warnings).toHaveLength(1);
});
