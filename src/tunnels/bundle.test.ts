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
  requiredOffloads,
  segment,
} from '../net/index.ts';
import { bundleDatagrams } from './bundle.ts';
import { Decapsulator } from './decapsulate.ts';
import { TunnelKind, TunnelPort, TunnelPorts } from './port.ts';
import { TunnelResult } from './result.ts';
import { encapsulateSegments } from './segments.ts';
import {
  encapsulatorOf,
  ethernet,
  ipv4,
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

function pieces(packet: Packet, destination: string, flags: number, port = vxlan): Batch {
  const out = new Batch();
  const path = pathOf(destination.includes(':'));
  const words = wordsOf({ destination, flags });
  expect(encapsulateSegments(encapsulatorOf(), packet, 0, port, words, 0, path, smallPool(), out)).toBe(
    TunnelResult.DONE,
  );
  return out;
}

const framesOf = (batch: Batch) => batch.packets.slice(0, batch.count).map((packet) => packet.frame().slice());

test.each(['10.1.0.2', 'fd00:1::2'])(
  'a row to %s is cut into the very datagrams that it was made of',
  (destination) => {
    for (const length of [2000, 13_000, 60_000, 65_000]) {
      const single = pieces(superPacket(length), destination, TunnelFlag.KEY | TunnelFlag.CHECKSUM);
      for (let i = 0; i < single.count; i += 1) completeChecksum(single.packets[i]);
      const wanted = framesOf(single);
      const batch = pieces(superPacket(length), destination, TunnelFlag.KEY | TunnelFlag.CHECKSUM);
      const pool = largePool();
      bundleDatagrams(batch, 0, pool);
      expect(batch.count).toBeLessThanOrEqual(2);
      const cut = new Batch();
      for (let i = 0; i < batch.count; i += 1) {
        expect(requiredOffloads(batch.packets[i])).toBe(9);
        expect(segment(batch.packets[i], smallPool(), cut)).toBe(0);
      }
      expect(framesOf(cut)).toEqual(wanted);
      batch.releaseAll();
      expect(pool.available).toBe(pool.capacity);
    }
  },
);

test('a row that comes in has to be cut first, and then each datagram comes out', () => {
  const ports = new TunnelPorts();
  ports.add(vxlan);
  const decapsulator = new Decapsulator(ports);
  const packet = superPacket(20_000);
  const wanted = new Batch();
  segment(packet, smallPool(), wanted);
  const batch = pieces(packet, '10.1.0.2', TunnelFlag.KEY);
  bundleDatagrams(batch, 0, largePool());
  expect(batch.count).toBe(1);
  expect(decapsulator.decapsulate(batch.packets[0], new Uint32Array(77))).toBe(TunnelResult.SEGMENT_FIRST);
  const cut = new Batch();
  expect(segment(batch.packets[0], smallPool(), cut)).toBe(0);
  for (let i = 0; i < cut.count; i += 1)
    expect(decapsulator.decapsulate(cut.packets[i], new Uint32Array(77))).toBe(TunnelResult.DONE);
  expect(framesOf(cut)).toEqual(framesOf(wanted));
});

test('what does not go together stays as it is: GRE, other packets before, one piece, no buffer', () => {
  const gre = pieces(superPacket(5000), '10.1.0.2', TunnelFlag.KEY, new TunnelPort({ kind: TunnelKind.GRE }));
  const asItWas = framesOf(gre);
  bundleDatagrams(gre, 0, largePool());
  expect(framesOf(gre)).toEqual(asItWas);

  const batch = pieces(superPacket(5000), '10.1.0.2', TunnelFlag.KEY);
  const before = framesOf(batch);
  bundleDatagrams(batch, batch.count - 1, largePool());
  expect(framesOf(batch)).toEqual(before);
  bundleDatagrams(batch, 0, smallPool());
  expect(framesOf(batch)).toEqual(before);
  const pool = largePool(1);
  pool.allocate();
  bundleDatagrams(batch, 0, pool);
  expect(framesOf(batch)).toEqual(before);
  bundleDatagrams(batch, 1, largePool());
  expect([batch.count, batch.packets[0].frame().slice()]).toEqual([2, before[0]]);
});
