/** Rows of datagrams: what a network card makes of them is what they were made of. */
import { expect, test } from 'vitest';
import { TunnelFlag } from '../flow/index.ts';
import {
  Batch,
  completeChecksum,
  composeFrame,
  EtherType,
  Gso,
  IpProtocol,
  type Packet,
  type PacketPool,
  requiredOffloads,
  segment,
} from '../net/index.ts';
import { Decapsulator } from './decapsulate.ts';
import { TunnelKind, TunnelPort, TunnelPorts } from './port.ts';
import { TunnelResult, tunnelResultName } from './result.ts';
import { RowEncapsulator } from './rows.ts';
import { encapsulateSegments } from './segments.ts';
import {
  encapsulatorOf,
  ethernet,
  hex,
  ipv4,
  isSound,
  type Key,
  largePool,
  packetOf,
  pathOf,
  payloadOf,
  smallPool,
  tcp,
  wordsOf,
} from './testing.ts';

const vxlan = new TunnelPort({ kind: TunnelKind.VXLAN });

function superPacket(length: number, size = 1300): Packet {
  const packet = packetOf(composeFrame([ethernet(EtherType.IPV4), ipv4(IpProtocol.TCP), tcp()], payloadOf(length)));
  return Object.assign(packet, { gsoType: Gso.TCPV4, gsoSizeBytes: size });
}

function singles(packet: Packet, destination: string, flags: number): Batch {
  const out = new Batch();
  const path = pathOf(destination.includes(':'));
  const words = wordsOf({ destination, flags });
  const result = encapsulateSegments(encapsulatorOf(), packet, 0, vxlan, words, 0, path, smallPool(256), out);
  expect(result).toBe(TunnelResult.DONE);
  return out;
}

function rowsOf(
  packet: Packet,
  pool: PacketPool,
  key: Key = {},
  port = vxlan,
  mtuBytes = 1500,
): { result: string; out: Batch } {
  const out = new Batch();
  const rows = new RowEncapsulator(encapsulatorOf(), pool);
  const path = pathOf(key.destination?.includes(':'), mtuBytes);
  const result = tunnelResultName(rows.encapsulate(packet, port, wordsOf(key), 0, path, out));
  return { result, out };
}

const framesOf = (batch: Batch) =>
  batch.packets.slice(0, batch.count).map((packet) => Buffer.from(packet.frame()).toString('hex'));

test.each(['10.1.0.2', 'fd00:1::2'])('rows to %s are cut into the very datagrams that go one by one', (destination) => {
  const flags = TunnelFlag.KEY | TunnelFlag.CHECKSUM;
  for (const [length, size, count] of [
    [1000, 1300, 1],
    [2000, 1300, 1],
    [13_000, 1300, 1],
    [60_000, 1300, 1],
    [65_000, 1300, 2],
    // More pieces than go into a row, and one piece left over for the last.
    [64_000, 700, 2],
    [45_500, 700, 2],
  ]) {
    const single = singles(superPacket(length, size), destination, flags);
    for (let i = 0; i < single.count; i += 1) completeChecksum(single.packets[i]);
    const pool = largePool();
    const packet = superPacket(length, size);
    const before = Buffer.from(packet.bytes);
    const { result, out } = rowsOf(packet, pool, { destination, flags });
    expect([result, out.count]).toEqual(['done', count]);
    expect(before.equals(packet.bytes)).toBe(true);
    const cut = new Batch();
    for (let i = 0; i < out.count; i += 1) {
      const row = out.packets[i];
      expect(row.length - 14).toBeLessThanOrEqual(65_535 + 40);
      if (row.gsoType === Gso.NONE) {
        completeChecksum(row);
        cut.push(row);
        continue;
      }
      expect(requiredOffloads(row)).toBe(9);
      expect(segment(row, smallPool(), cut)).toBe(0);
    }
    expect(framesOf(cut)).toEqual(framesOf(single));
    for (let i = 0; i < out.count; i += 1) if (out.packets[i].references > 0) out.packets[i].release();
    expect(pool.available).toBe(pool.capacity);
  }
});

test('Geneve has its options before each piece', () => {
  const geneve = new TunnelPort({ kind: TunnelKind.GENEVE });
  const { out } = rowsOf(superPacket(5000), largePool(), { options: hex('0102 80 01 00010002') }, geneve);
  const cut = new Batch();
  expect(segment(out.packets[0], smallPool(), cut)).toBe(0);
  expect(cut.count).toBe(4);
  for (let i = 0; i < cut.count; i += 1) {
    expect(cut.packets[i].frame().subarray(42, 58)).toEqual(hex('0240655800000000 0102800100010002'));
    expect(isSound(cut.packets[i].frame())).toBe(true);
  }
});

test('a row that comes in has to be cut first, and then each datagram comes out', () => {
  const ports = new TunnelPorts();
  ports.add(vxlan);
  const decapsulator = new Decapsulator(ports);
  const packet = superPacket(20_000);
  const wanted = new Batch();
  segment(packet, smallPool(), wanted);
  const { out } = rowsOf(packet, largePool());
  expect(out.count).toBe(1);
  expect(decapsulator.decapsulate(out.packets[0], new Uint32Array(77))).toBe(TunnelResult.SEGMENT_FIRST);
  const cut = new Batch();
  expect(segment(out.packets[0], smallPool(), cut)).toBe(0);
  for (let i = 0; i < cut.count; i += 1) {
    expect(decapsulator.decapsulate(cut.packets[i], new Uint32Array(77))).toBe(TunnelResult.DONE);
  }
  expect(framesOf(cut)).toEqual(framesOf(wanted));
});

test('what makes no rows says why, and no buffer is kept', () => {
  const pool = largePool(1);
  const plain = packetOf(superPacket(1000).frame());
  const malformed = superPacket(5000);
  malformed.bytes[malformed.offset + 14] = 0x41;
  const gre = new TunnelPort({ kind: TunnelKind.GRE });
  const cases: [ReturnType<typeof rowsOf>, string][] = [
    [rowsOf(superPacket(5000), pool, {}, gre), 'segment-first'],
    [rowsOf(plain, pool), 'segment-first'],
    [rowsOf(malformed, pool), 'bad-offload'],
    [rowsOf(Object.assign(superPacket(5000), { gsoType: Gso.TCPV6 }), pool), 'bad-offload'],
    // Two rows, and one buffer.
    [rowsOf(superPacket(65_000), pool), 'segment-first'],
    [rowsOf(superPacket(60_000, 100), largePool(20)), 'segment-first'],
    [rowsOf(superPacket(5000), pool, {}, vxlan, 1300), 'segment-first'],
    [rowsOf(superPacket(5000), pool, { flags: TunnelFlag.DONT_FRAGMENT }, vxlan, 1300), 'too-big'],
    [rowsOf(superPacket(5000), pool, { destination: '0.0.0.0' }), 'bad-key'],
  ];
  for (const [{ result, out }, wanted] of cases) expect([result, out.count]).toEqual([wanted, 0]);
  expect(pool.available).toBe(1);
});
