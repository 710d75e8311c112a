/**
 * Random and mutated frames through a switch with every policy: no exception, every packet given back exactly once, and deliveries
 * and drops add up. MILLRACE_FUZZ sets how many frames.
 */
import { expect, test } from 'vitest';
import { Batch, Packet, type PacketOwner, Region } from '../net/index.ts';
import { DropReason } from './index.ts';
import { Bench, frame, ipv4, ipv6, mac, passing, udp } from './testing.ts';

const FRAMES = Number(process.env.MILLRACE_FUZZ ?? 100_000);

/** A small generator that can be repeated (xorshift). */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 1;
  }

  next(bound: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % bound;
  }
}

/** Hands out descriptors with hostile contents and checks that each comes back once. */
class HostilePool implements PacketOwner {
  readonly region = new Region(new ArrayBuffer(64 * 2048));
  readonly out: boolean[] = [];
  readonly #free: Packet[] = [];
  returned = 0;

  constructor() {
    for (let slot = 0; slot < 64; slot += 1) this.#free.push(new Packet(this, this.region, slot));
  }

  take(bytes: Uint8Array, random: Random): Packet {
    const packet = this.#free.pop();
    if (packet === undefined) throw new Error('a packet did not come back');
    this.out[packet.slot] = true;
    const base = packet.slot * 2048;
    packet.headroomStart = base;
    packet.offset = base + 64;
    packet.length = bytes.length;
    packet.limit = base + 2048;
    packet.references = 1;
    packet.resetMetadata();
    packet.bytes.set(bytes, packet.offset);
    if (random.next(50) === 0) packet.length = random.next(200_000);
    if (random.next(50) === 0) packet.offset = base + random.next(64);
    if (random.next(20) === 0) packet.gsoType = random.next(256);
    if (random.next(20) === 0) packet.gsoSizeBytes = random.next(65_536);
    if (random.next(20) === 0) {
      packet.checksum = random.next(4);
      packet.checksumStart = random.next(300);
      packet.checksumOffset = random.next(100);
    }
    return packet;
  }

  recycle(packet: Packet): void {
    if (!this.out[packet.slot]) throw new Error('a packet came back twice');
    this.out[packet.slot] = false;
    packet.attachment = null;
    this.returned += 1;
    this.#free.push(packet);
  }
}

/** Sound frames to start from. */
const SEEDS: readonly Uint8Array[] = [
  frame(),
  frame({ to: mac(2) }),
  frame({ to: mac(3), tags: [10] }),
  frame({ tags: [0xa00a, 20] }),
  frame({ type: 0x0800, payload: ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, udp(67, 68)) }),
  frame({ type: 0x0800, payload: ipv4([10, 1, 0, 1], [10, 0, 0, 2], 6, new Array(20).fill(0x50)) }),
  frame({ type: 0x0800, payload: ipv4([10, 0, 0, 1], [10, 0, 0, 2], 47, [0x20, 0, 0x65, 0x58, 0, 0, 0, 0]) }),
  frame({ type: 0x86dd, payload: ipv6(1, 58, [134, 0, 0, 0]) }),
  frame({ type: 0x86dd, payload: ipv6(1, 0, [44, 0, 0, 0, 0, 0, 0, 0, 58, 0, 0, 1, 0, 0, 0, 0, 134, 0, 0, 0]) }),
  frame({ type: 0x0806, payload: [0, 1, 8, 0, 6, 4, 0, 1, ...mac(1), 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2] }),
  frame({ type: 46 }),
  frame({ to: Uint8Array.of(1, 0x80, 0xc2, 0, 0, 1) }),
];

function hostileFrame(random: Random): Uint8Array {
  if (random.next(8) === 0) {
    const bytes = new Uint8Array(random.next(120));
    for (let i = 0; i < bytes.length; i += 1) bytes[i] = random.next(256);
    return bytes;
  }
  const bytes = SEEDS[random.next(SEEDS.length)].slice();
  bytes[11] = 1 + random.next(6);
  if (random.next(3) === 0) bytes[5] = 1 + random.next(6);
  for (let changes = random.next(4); changes > 0; changes -= 1) bytes[random.next(bytes.length)] = random.next(256);
  return random.next(6) === 0 ? bytes.subarray(0, random.next(bytes.length + 1)) : bytes;
}

function configure(bench: Bench): void {
  const properties: [number, object][] = [
    [1, { type: 'vlan', mode: 'trunk', nativeVlanId: 10, trunkVlanIds: [10, 20, 30] }],
    [1, { type: 'monitor', mode: 'source' }],
    [2, { type: 'vlan', mode: 'access', vlanId: 10 }],
    [2, { type: 'guard', dhcp: true, router: true }],
    [2, { type: 'security', allowMacSpoofing: true, dynamicIpAddressLimit: 8 }],
    [
      3,
      {
        type: 'acl',
        rules: [
          { direction: 'in', action: 'deny', remoteIp: '10.1.0.0/16' },
          { direction: 'in', action: 'meter', protocol: 17 },
          { direction: 'out', action: 'deny', protocol: 6, localPort: 22 },
          { direction: 'out', action: 'deny', localIp: 'fe80::/10' },
        ],
      },
    ],
    [3, { type: 'qos', maxRateBps: 8_000_000, burstBytes: 20_000 }],
    [4, { type: 'monitor', mode: 'destination' }],
    [5, { type: 'vlan', mode: 'private', privateMode: 'isolated', primaryVlanId: 20, secondaryVlanId: 30 }],
    [6, { type: 'vlan', mode: 'private', privateMode: 'promiscuous', primaryVlanId: 20, secondaryVlanIds: [30] }],
  ];
  for (const [portId, property] of properties) bench.sw.setPortProperty(portId, property).result();
}

for (const extensions of [false, true]) {
  test(`hostile frames ${extensions ? 'with' : 'without'} extensions: nothing is thrown, nothing is lost, and the counts add up`, () => {
    const bench = new Bench({ verifyData: false });
    for (const portId of [1, 2, 3, 4, 5, 6])
      bench.port(portId, portId === 1 ? { type: 'external' } : {}, { mtuBytes: 1500 });
    configure(bench);
    if (extensions) {
      bench.enable('capture', 'capturing', passing);
      bench.enable('filter', 'filtering', (handle) => ({
        onIngress: (batch, flags) => {
          const drop = new Batch();
          let kept = 0;
          for (let i = 0; i < batch.count; i += 1) {
            const packet = batch.packets[i];
            if (packet.bytes[packet.offset + 11] === 6) drop.push(packet);
            else batch.packets[kept++] = packet;
          }
          batch.count = kept;
          if (drop.count > 0) {
            const { sourcePortId } = handle.context(drop.packets[0]);
            handle.dropIngress(drop, sourcePortId, DropReason.EXTENSION_FILTER, true);
          }
          handle.sendIngress(batch, flags);
        },
      }));
    }
    const random = new Random(extensions ? 7 : 42);
    const pool = new HostilePool();
    const batch = new Batch();
    const total = Math.ceil(FRAMES / 2);
    let sent = 0;
    while (sent < total) {
      const count = 1 + random.next(32);
      for (let i = 0; i < count; i += 1) batch.push(pool.take(hostileFrame(random), random));
      bench.sw.receive(1 + random.next(7), 0, batch);
      sent += count;
      expect(pool.returned).toBe(sent);
      if (random.next(4) === 0) bench.host.advance(random.next(20));
      for (const nic of bench.nics.values()) nic.take();
    }
    const { received, delivered, dropped, consumed, copiesDropped, contextsInUse } = bench.sw.counters;
    expect(received).toBe(sent);
    expect(received).toBe(delivered + dropped + consumed);
    expect(contextsInUse).toBe(0);
    let reasons = 0;
    for (let portId = 0; portId <= 6; portId += 1) {
      for (const drop of bench.sw.drops(portId)) reasons += drop.packets;
    }
    expect(reasons).toBe(dropped + copiesDropped);
    expect(delivered).toBeGreaterThan(sent / 20);
    expect(bench.events.filter((event) => event.type === 'extension-failed' || event.type === 'nic-failed')).toEqual(
      [],
    );
  });
}
