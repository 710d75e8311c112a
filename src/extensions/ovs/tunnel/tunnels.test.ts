/** Tunnels of datapaths, in memory: two servers whose outer packets are handed from one to the other, and a host whose tables say what tests want. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Drop, dropName, parseActions, parseFlowKey } from '../../../flow/index.ts';
import { Batch, Checksum, Gso, newCounters, type Packet, PathState } from '../../../net/index.ts';
import { Command, DatapathAttribute, Family, FlowAttribute, VportAttribute, VportType } from '../abi.ts';
import type { OvsDevice } from '../host.ts';
import { MemoryWorld, Program, request } from '../testing-memory.ts';
import { encodeActions } from '../translate/actions.ts';
import { encodeKey } from '../translate/key-encode.ts';
import { TestTables } from './testing-tables.ts';

const ACK = 4;
const CREATE = 0x400;
const LOCAL_INDEX = 10;
const CARD_INDEX = 99;
const TUNNEL_NUMBER = 3;

/** A card of the host: what was sent by it. */
class Card implements OvsDevice {
  readonly interfaceIndex = CARD_INDEX;
  readonly offloads = 0;
  readonly counters = newCounters();
  readonly sent: Uint8Array[] = [];
  readonly #queued: Uint8Array[] = [];
  isOpen = true;
  transmit(packet: Packet): boolean {
    this.#queued.push(packet.frame().slice());
    return true;
  }
  flush(): void {
    this.sent.push(...this.#queued.splice(0));
  }
  close(): void {
    this.isOpen = false;
  }
}

/** A chassis: a datapath with the ports eth1 (1) and eth2 (2), and a tunnel (3). */
class Chassis {
  readonly tables = new TestTables();
  readonly cards: Card[] = [];
  readonly world: MemoryWorld;
  readonly #program: Program;

  constructor(type: number, destinationPort = 0) {
    const openInterface = (index: number) => {
      if (index !== CARD_INDEX) return null;
      const card = new Card();
      this.cards.push(card);
      return card;
    };
    const tunnels = { tables: () => this.tables, openInterface, warn: () => undefined };
    this.world = new MemoryWorld(LOCAL_INDEX, {}, tunnels);
    this.#program = new Program(this.world.server);
    this.#ask(Family.DATAPATH, 0, (writer) => {
      writer.string(DatapathAttribute.NAME, 'dp');
      writer.u32(DatapathAttribute.UPCALL_PID, 0);
    });
    for (const name of ['eth1', 'eth2']) this.#port(name, VportType.NETDEV);
    this.#port('tun', type, destinationPort);
  }

  #try(family: number, index: number, write: Parameters<typeof request>[4], flags = ACK): number {
    const answers = this.#program.request(request(family, Command.NEW, flags, index, write));
    return answers[0].errno;
  }

  #ask(family: number, index: number, write: Parameters<typeof request>[4], flags = ACK): void {
    expect(this.#try(family, index, write, flags)).toBe(0);
  }

  #port(name: string, type: number, destinationPort = 0): void {
    expect(this.tryPort(name, type, destinationPort)).toBe(0);
  }

  /** @returns the errno */
  tryPort(name: string, type: number, destinationPort = 0): number {
    return this.#try(Family.VPORT, LOCAL_INDEX, (writer) => {
      writer.string(VportAttribute.NAME, name);
      writer.u32(VportAttribute.TYPE, type);
      writer.bytes(VportAttribute.UPCALL_PID, new Uint8Array(4));
      if (destinationPort === 0 && type !== VportType.GENEVE) return;
      const options = writer.beginNested(VportAttribute.OPTIONS);
      writer.u16(1, destinationPort);
      writer.endNested(options);
    });
  }

  flow(match: string, actions: string): void {
    const { key, mask } = parseFlowKey(match);
    const write: Parameters<typeof request>[4] = (writer) => {
      encodeKey(writer, FlowAttribute.KEY, key, key);
      encodeKey(writer, FlowAttribute.MASK, key, mask);
      encodeActions(writer, FlowAttribute.ACTIONS, parseActions(actions));
    };
    this.#ask(Family.FLOW, LOCAL_INDEX, write, ACK | CREATE);
  }

  arrive(bytes: Uint8Array, change: (packet: Packet) => void = () => undefined, device = 'eth1'): void {
    const { pool, largePool } = this.world;
    const packet = (bytes.length > pool.maxFrameBytes ? largePool : pool).allocate();
    if (packet === null) throw new Error('no buffer is free');
    packet.bytes.set(bytes, packet.offset);
    packet.length = bytes.length;
    change(packet);
    const batch = new Batch();
    batch.push(packet);
    this.world.devices.get(device)?.receive(batch);
  }

  /** What a device has sent since this was last asked. */
  sent(device: string): Uint8Array[] {
    return this.world.devices.get(device)?.sent.splice(0) ?? [];
  }

  byCard(): Uint8Array[] {
    return this.cards.flatMap(({ sent }) => sent.splice(0));
  }

  get drops(): string[] {
    return this.world.dropped.splice(0).map(dropName);
  }

  get tunnel() {
    const [datapath] = this.world.server.datapaths.values();
    for (const port of datapath.ports.values()) if (port.number === TUNNEL_NUMBER) return port;
    throw new Error('the tunnel is gone');
  }

  /** Every buffer is free. */
  isClean(): boolean {
    const { pool, largePool } = this.world;
    return pool.available === pool.capacity && largePool.available === largePool.capacity;
  }

  remove(name: string): void {
    const write: Parameters<typeof request>[4] = (writer) => writer.string(VportAttribute.NAME, name);
    const answers = this.#program.request(request(Family.VPORT, Command.DEL, ACK, LOCAL_INDEX, write));
    expect(answers.map(({ errno }) => errno)).toEqual([0]);
  }
}

const A4 = 0xc000_0201;
const B4 = 0xc000_0202;
const A6 = [0xfd00_0000, 0, 0, 1] as const;
const B6 = [0xfd00_0000, 0, 0, 2] as const;

/** A UDP frame between hosts inside, DF set. */
function frame(payloadBytes = 40): Uint8Array {
  const bytes = new Uint8Array(42 + payloadBytes);
  const view = new DataView(bytes.buffer);
  bytes.set([0x52, 0, 0, 0, 0, 2, 0x52, 0, 0, 0, 0, 1, 8, 0, 0x45, 0]);
  view.setUint16(16, 28 + payloadBytes);
  bytes.set([0x40, 0, 64, 17], 20);
  bytes.set([10, 0, 0, 1, 10, 0, 0, 2], 26);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(24, ~sum & 0xffff);
  view.setUint16(34, 1000);
  view.setUint16(36, 53);
  view.setUint16(38, 8 + payloadBytes);
  for (let i = 42; i < bytes.length; i += 1) bytes[i] = i & 0xff;
  return bytes;
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

const TUNNEL4 = 'dst=192.0.2.2,ttl=64';
const TUNNEL6 = 'ipv6_dst=fd00::2,ttl=64';
const KINDS = [
  ['VXLAN', VportType.VXLAN, 4789, 'flags(df|key)', ''],
  ['VXLAN with checksums', VportType.VXLAN, 4789, 'flags(df|csum|key)', ''],
  ['Geneve with options', VportType.GENEVE, 6081, 'geneve({class=0x102,type=0x80,len=4,0xa}),flags(df|csum|key)', ''],
  ['GRE', VportType.GRE, 0, 'flags(df|key)', ''],
  ['STT', VportType.STT, 7471, 'flags(df|key)', ''],
] as const;

/** Two ends: A sends what comes by eth1 into the tunnel, B what comes out of it to eth2. */
function ends(type: number, port: number, flags: string, isIpv6: boolean): { a: Chassis; b: Chassis } {
  const [a, b] = [new Chassis(type, port), new Chassis(type, port)];
  a.tables.path.source.set(isIpv6 ? A6 : [A4]);
  b.tables.add(LOCAL_INDEX, isIpv6, ...(isIpv6 ? B6 : [B4]));
  const to = isIpv6 ? TUNNEL6 : TUNNEL4;
  a.flow('in_port(1),eth(),eth_type(0x0800),ipv4()', `set(tunnel(tun_id=0x7,${to},${flags})),3`);
  b.flow(`in_port(1),eth(),eth_type(${isIpv6 ? '0x86dd),ipv6()' : '0x0800),ipv4()'}`, '0');
  const from = isIpv6 ? 'ipv6_src=fd00::1,ipv6_dst=fd00::2' : 'src=192.0.2.1,dst=192.0.2.2';
  b.flow(`tunnel(tun_id=0x7,${from},flags(+key)),in_port(3),eth(),eth_type(0x0800),ipv4()`, '2');
  return { a, b };
}

test.each(
  KINDS.flatMap(([name, type, port, flags]) => [
    [name, 'IPv4', type, port, flags, false] as const,
    [name, 'IPv6', type, port, flags, true] as const,
  ]),
)(
  '%s over %s: what goes in at one end comes out at the other, and is counted at both',
  (...[, , type, port, flags, isIpv6]) => {
    const { a, b } = ends(type, port, flags, isIpv6);
    a.arrive(frame());
    const outer = a.byCard();
    expect(outer).toHaveLength(1);
    expect(hex(outer[0].subarray(0, 12))).toBe('020000000002020000000001');
    b.arrive(outer[0]);
    expect(b.sent('eth2').map(hex)).toEqual([hex(frame())]);
    expect(b.sent('dp')).toEqual([]);
    expect(a.tunnel.counters).toMatchObject({ transmittedPackets: 1, transmittedBytes: 82, receivedPackets: 0 });
    expect(b.tunnel.counters).toMatchObject({ receivedPackets: 1, receivedBytes: 82, transmittedPackets: 0 });
    expect([a.drops, b.drops]).toEqual([[], []]);
    expect([a.isClean(), b.isClean()]).toEqual([true, true]);
  },
);

test('the tunnel says to the tables what its key says', () => {
  const a = new Chassis(VportType.VXLAN, 4789);
  const key = 'tun_id=0x7,src=192.0.2.9,dst=192.0.2.2,tos=0xb8,ttl=64,flags(key)';
  a.flow('in_port(1),eth(),eth_type(0x0800),ipv4()', `set(tunnel(${key})),3`);
  a.arrive(frame());
  const { isIpv6, trafficClass, source, destination } = a.tables.asked;
  expect({ isIpv6, trafficClass }).toEqual({ isIpv6: false, trafficClass: 0xb8 });
  expect([source[0] >>> 0, destination[0] >>> 0]).toEqual([0xc000_0209, B4]);
});

test('an outer packet that leaves by the own port of a bridge enters that bridge there; one by another port goes out', () => {
  const { a } = ends(VportType.VXLAN, 4789, 'flags(df|key)', false);
  a.tables.path.interfaceIndex = LOCAL_INDEX;
  a.flow('in_port(0),eth(),eth_type(0x0800),ipv4()', '2');
  a.arrive(frame());
  expect(a.sent('eth2')).toHaveLength(1);
  expect(a.byCard()).toEqual([]);
  a.tables.path.interfaceIndex = LOCAL_INDEX + 2;
  a.arrive(frame());
  expect(a.sent('eth2')).toHaveLength(1);
  expect(a.isClean()).toBe(true);
});

test('a tunnel that leads into itself ends by a limit, under a name, and gives all back', () => {
  const { a } = ends(VportType.VXLAN, 4789, 'flags(key)', false);
  a.tables.path.interfaceIndex = LOCAL_INDEX;
  a.tables.path.mtuBytes = 9000;
  a.flow('in_port(0),eth(),eth_type(0x0800),ipv4()', `set(tunnel(tun_id=0x8,${TUNNEL4},flags(key))),3`);
  a.arrive(frame());
  expect(a.drops).toContain('reentry-limit');
  expect(a.isClean()).toBe(true);
});

test.each([
  ['LOCAL', 'tunnel-to-itself'],
  ['NO_ROUTE', 'tunnel-no-route'],
  ['BLACKHOLE', 'tunnel-no-route'],
  ['UNREACHABLE', 'tunnel-no-route'],
  ['PROHIBITED', 'tunnel-no-route'],
  ['NO_SOURCE', 'tunnel-no-source'],
  ['LINK_DOWN', 'tunnel-link-down'],
  ['NO_NEIGHBOUR', 'tunnel-no-neighbour'],
  ['NO_ROOM', 'tunnel-no-room'],
] as const)('a path in the state %s drops the packet as %s', (state, name) => {
  const { a } = ends(VportType.VXLAN, 4789, 'flags(df|key)', false);
  a.tables.path.state = PathState[state];
  a.arrive(frame());
  expect([a.drops, a.byCard()]).toEqual([[name], []]);
  expect(a.tunnel.unsent).toBe(1);
  expect(a.isClean()).toBe(true);
});

test('a packet without a tunnel key, by an interface that cannot send, or without Ethernet is dropped by name', () => {
  const { a } = ends(VportType.VXLAN, 4789, 'flags(df|key)', false);
  a.tables.path.interfaceIndex = 77;
  a.arrive(frame());
  a.tables.path.interfaceIndex = CARD_INDEX;
  a.tables.path.hasEthernet = false;
  a.arrive(frame());
  a.flow('in_port(2),eth(),eth_type(0x0800),ipv4()', '3');
  a.arrive(frame(), undefined, 'eth2');
  expect(a.drops).toEqual(['tunnel-no-interface', 'tunnel-no-interface', 'tunnel-key-missing']);
});

test('packets wait for their way, go on with their own keys, and are dropped by name when there is none or no room', () => {
  const { a } = ends(VportType.VXLAN, 4789, 'flags(df|key)', false);
  a.tables.path.state = PathState.RESOLVING;
  a.tables.room = 2;
  for (let i = 0; i < 3; i += 1) a.arrive(frame(40 + i));
  expect([a.drops, a.byCard()]).toEqual([['tunnel-no-room'], []]);
  a.tables.settle(PathState.READY);
  expect(a.byCard().map(({ length }) => length)).toEqual([82 + 50, 83 + 50]);
  a.tables.path.state = PathState.RESOLVING;
  a.arrive(frame());
  a.tables.settle(PathState.NO_NEIGHBOUR);
  expect(a.drops).toEqual(['tunnel-no-neighbour']);
  a.tables.path.state = PathState.RESOLVING;
  a.arrive(frame());
  a.remove('tun');
  expect([a.drops, a.byCard(), a.tables.waiting]).toEqual([['port-missing'], [], []]);
  expect(a.isClean()).toBe(true);
});

test('what has waited for a way by another port of the datapath goes out at once', () => {
  const { a } = ends(VportType.VXLAN, 4789, 'flags(df|key)', false);
  a.tables.path.interfaceIndex = LOCAL_INDEX + 2;
  a.tables.path.state = PathState.RESOLVING;
  a.arrive(frame());
  a.tables.settle(PathState.READY);
  expect(a.sent('eth2')).toHaveLength(1);
});

test('the sender of a packet that is too big for the path hears of it by the tunnel, with the length that fits', () => {
  const { a } = ends(VportType.VXLAN, 4789, 'flags(df|key)', false);
  a.tables.path.mtuBytes = 1000;
  a.flow('tunnel(tun_id=0x7,src=192.0.2.2,dst=192.0.2.1,flags(+key)),in_port(3),eth(),eth_type(0x0800),ipv4()', '1');
  a.arrive(frame(1200));
  expect([a.drops, a.byCard()]).toEqual([['tunnel-too-big'], []]);
  const [answer] = a.sent('eth1');
  // ICMP "fragmentation needed", and the next hop's MTU.
  expect([...answer.subarray(34, 36), (answer[40] << 8) | answer[41]]).toEqual([3, 4, 950]);
  expect(a.isClean()).toBe(true);
});

test('where fragments are allowed the outer packet leaves in pieces', () => {
  const { a } = ends(VportType.VXLAN, 4789, 'flags(key)', false);
  a.tables.path.mtuBytes = 1000;
  a.arrive(frame(1200));
  const outer = a.byCard();
  expect(outer.length).toBeGreaterThan(1);
  expect(outer.every(({ length }) => length <= 1014)).toBe(true);
  expect(a.isClean()).toBe(true);
});

test('a super-packet goes in by pieces that fit, with whole checksums, and the other end has all of it', () => {
  const { a, b } = ends(VportType.GENEVE, 6081, 'flags(df|key)', false);
  a.arrive(frame(3000), (packet) => {
    packet.gsoType = Gso.UDP_L4;
    packet.gsoSizeBytes = 1000;
    packet.checksum = Checksum.PARTIAL;
    packet.checksumStart = 34;
    packet.checksumOffset = 6;
  });
  for (const outer of a.byCard()) b.arrive(outer);
  expect(b.sent('eth2').map(({ length }) => length)).toEqual([1042, 1042, 1042]);
  expect([a.drops, b.drops, a.isClean(), b.isClean()]).toEqual([[], [], true, true]);
});

test('frames for other hosts, of tunnels that there are not, and fragments go to the port that they are for', () => {
  const { a, b } = ends(VportType.VXLAN, 4789, 'flags(df|key)', false);
  a.arrive(frame());
  const [outer] = a.byCard();
  const change = (at: number, value: number) => Uint8Array.from(outer, (byte, i) => (i === at ? value : byte));
  const others = [change(33, 77), change(37, 77), change(20, 0x20), frame()];
  for (const other of others) b.arrive(other);
  expect(b.sent('dp').map(hex)).toEqual(others.map(hex));
  expect(b.sent('eth2')).toEqual([]);
});

test('a mark of congestion is written into the packet inside, and into no copy that others have', () => {
  const { a, b } = ends(VportType.VXLAN, 4789, 'flags(df|key)', false);
  const marked = frame();
  // ECT(0), and what that adds to the checksum of the header.
  marked[15] = 2;
  const view = new DataView(marked.buffer);
  view.setUint16(24, view.getUint16(24) - 2);
  a.arrive(marked);
  const [outer] = a.byCard();
  const ecn = outer.slice();
  ecn[15] |= 3;
  new DataView(ecn.buffer).setUint16(24, new DataView(ecn.buffer).getUint16(24) - 1);
  b.flow('in_port(2),eth(),eth_type(0x0800),ipv4()', '1,0');
  b.arrive(ecn, undefined, 'eth2');
  expect(b.sent('eth2').map((inner) => inner[15])).toEqual([3]);
  expect(b.sent('eth1').map(hex)).toEqual([hex(ecn)]);
});

test('which of the own ports flows may not go past follows tunnels and addresses; all ends with the last tunnel', () => {
  const { b } = ends(VportType.VXLAN, 4789, 'flags(df|key)', false);
  expect(b.tables.isHeard).toBe(true);
  b.remove('tun');
  expect(b.tables.isHeard).toBe(false);
  b.arrive(frame());
  expect(b.sent('dp')).toHaveLength(1);
});

test.each([
  ['without a port', 0, 22],
  ['on the port of another kind', 4789, 17],
])('a tunnel %s is refused, and nothing of it is left', (_, port, errno) => {
  const { a } = ends(VportType.VXLAN, 4789, 'flags(df|key)', false);
  expect(a.tryPort('more', VportType.GENEVE, port)).toBe(errno);
  expect(a.tryPort('more', VportType.GENEVE, 6081)).toBe(0);
});

test('a port that becomes the exit of a tunnel has its packets from then on', () => {
  const { a } = ends(VportType.VXLAN, 4789, 'flags(df|key)', false);
  a.tables.path.interfaceIndex = LOCAL_INDEX + 3;
  a.arrive(frame());
  expect(a.drops).toEqual(['tunnel-no-interface']);
  expect(a.tryPort('eth3', VportType.NETDEV)).toBe(0);
  a.arrive(frame());
  expect(a.sent('eth3')).toHaveLength(1);
  a.remove('eth3');
  a.arrive(frame());
  expect(a.drops).toEqual(['tunnel-no-interface']);
});

test('an interface is opened once, and closed with the last tunnel', () => {
  const { a } = ends(VportType.VXLAN, 4789, 'flags(df|key)', false);
  a.arrive(frame());
  a.arrive(frame());
  expect(a.cards.map(({ isOpen }) => isOpen)).toEqual([true]);
  a.remove('tun');
  expect(a.cards.map(({ isOpen }) => isOpen)).toEqual([false]);
});

test('whatever a tunnel packet is made into on its way, it is one packet, one drop with a name, or goes to its port; nothing is kept', () => {
  const rounds = 200 * Number(process.env.MILLRACE_FUZZ ?? 1);
  const pairs = KINDS.map(([, type, port, flags]) => ends(type, port, flags, false));
  const outers = pairs.map(({ a }) => {
    a.arrive(frame());
    return a.byCard()[0];
  });
  fc.assert(
    fc.property(
      fc.nat(pairs.length - 1),
      fc.array(fc.tuple(fc.nat(150), fc.nat(255)), { maxLength: 4 }),
      fc.option(fc.nat(150)),
      (which, changes, length) => {
        const { b } = pairs[which];
        const bytes = outers[which].slice(0, length === null ? undefined : Math.max(14, length));
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        b.arrive(bytes);
        const out = b.sent('eth2').length + b.sent('dp').length + b.drops.length;
        expect(out).toBeLessThanOrEqual(1);
        expect(b.isClean()).toBe(true);
      },
    ),
    { numRuns: rounds },
  );
  expect(Drop.TUNNEL_BAD_LENGTH).toBeGreaterThan(0);
}, 120_000);
