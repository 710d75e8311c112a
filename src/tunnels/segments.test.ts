/** Super-packets into tunnels: what comes out of the pieces at the other end is what segmentation without a tunnel would have made. */
import { expect, test } from 'vitest';
import { TunnelFlag } from '../flow/index.ts';
import {
  Batch,
  Checksum,
  completeChecksum,
  composeFrame,
  EtherType,
  Gso,
  IpProtocol,
  type Packet,
  type PacketPool,
  segment,
} from '../net/index.ts';
import { Decapsulator } from './decapsulate.ts';
import { TunnelKind, TunnelPort, TunnelPorts } from './port.ts';
import { TunnelResult, tunnelResultName } from './result.ts';
import { encapsulateSegments } from './segments.ts';
import {
  encapsulatorOf,
  ethernet,
  ipv4,
  ipv6,
  isSound,
  packetOf,
  pathOf,
  payloadOf,
  smallPool,
  tcp,
  udp,
  wordsOf,
} from './testing.ts';

const encapsulator = encapsulatorOf();

function superPacket(kind: number, isIpv6: boolean, length = 20_000): Packet {
  const isTcp = kind !== Gso.UDP_L4;
  const protocol = isTcp ? IpProtocol.TCP : IpProtocol.UDP;
  const frame = composeFrame(
    [
      ethernet(isIpv6 ? EtherType.IPV6 : EtherType.IPV4),
      isIpv6 ? ipv6(protocol) : ipv4(protocol),
      isTcp ? tcp() : udp(),
    ],
    payloadOf(length),
  );
  const packet = packetOf(frame);
  Object.assign(packet, { gsoType: kind, gsoSizeBytes: 1300 });
  return packet;
}

function run(
  packet: Packet,
  port: TunnelPort,
  pool: PacketPool,
  out: Batch,
  key = {},
  l3Type = 0,
  mtuBytes = 1500,
): string {
  const words = wordsOf(key);
  const path = pathOf(words[10] >>> 24 === 6, mtuBytes);
  expect(encapsulator.encapsulate(packet, l3Type, port, words, 0, path)).toBe(TunnelResult.SEGMENT_FIRST);
  return tunnelResultName(encapsulateSegments(encapsulator, packet, l3Type, port, words, 0, path, pool, out));
}

test.each([TunnelKind.VXLAN, TunnelKind.GENEVE, TunnelKind.GRE])(
  'pieces through tunnel %i are those of the packet inside',
  (kind) => {
    const port = new TunnelPort({ kind });
    const ports = new TunnelPorts();
    ports.add(port);
    const decapsulator = new Decapsulator(ports);
    for (const [type, isIpv6] of [
      [Gso.TCPV4, false],
      [Gso.TCPV6, true],
      [Gso.UDP_L4, false],
    ] as const) {
      for (const key of [{ flags: TunnelFlag.KEY | TunnelFlag.CHECKSUM }, { destination: 'fd00:1::2' }]) {
        const packet = superPacket(type, isIpv6);
        const before = Buffer.from(packet.frame());
        const wanted = new Batch();
        segment(packet, smallPool(), wanted);
        const out = new Batch();
        expect(run(packet, port, smallPool(), out, key)).toBe('done');
        expect(before.equals(packet.frame())).toBe(true);
        expect(out.count).toBe(wanted.count);
        for (let i = 0; i < out.count; i += 1) {
          const piece = out.packets[i];
          completeChecksum(piece);
          expect(isSound(piece.frame())).toBe(true);
          expect(decapsulator.decapsulate(piece, new Uint32Array(77))).toBe(TunnelResult.DONE);
          expect(Buffer.compare(piece.frame(), wanted.packets[i].frame())).toBe(0);
        }
      }
    }
  },
);

test('a super-packet without an Ethernet header goes through GRE in pieces', () => {
  const port = new TunnelPort({ kind: TunnelKind.GRE, layer3: true });
  const packet = superPacket(Gso.TCPV4, false);
  const wanted = new Batch();
  segment(packet, smallPool(), wanted);
  packet.offset += 14;
  packet.length -= 14;
  const out = new Batch();
  expect(run(packet, port, smallPool(), out, {}, EtherType.IPV4)).toBe('done');
  expect(out.count).toBe(wanted.count);
  for (let i = 0; i < out.count; i += 1) {
    expect(Buffer.compare(out.packets[i].frame().subarray(14 + 20 + 8), wanted.packets[i].frame().subarray(14))).toBe(
      0,
    );
  }
});

test('a partial checksum of SCTP is finished where the outer checksum runs over it', () => {
  const packet = packetOf(composeFrame([ethernet(EtherType.IPV4), ipv4(IpProtocol.SCTP)], payloadOf(40)));
  Object.assign(packet, { checksum: Checksum.PARTIAL, checksumStart: 34, checksumOffset: 8 });
  const out = new Batch();
  const port = new TunnelPort({ kind: TunnelKind.VXLAN });
  expect(run(packet, port, smallPool(), out, { flags: TunnelFlag.CHECKSUM })).toBe('done');
  expect([out.count, out.packets[0].checksum, out.packets[0].checksumStart]).toEqual([1, Checksum.PARTIAL, 34]);
});

test('either all pieces are made, or none and the pool is as full as before', () => {
  const port = new TunnelPort({ kind: TunnelKind.VXLAN });
  const cases: [PacketPool, Packet, object, string][] = [
    [smallPool(10), superPacket(Gso.TCPV4, false), {}, 'no-buffer'],
    [smallPool(100), superPacket(Gso.TCPV4, true), {}, 'bad-offload'],
    [smallPool(100), Object.assign(superPacket(Gso.TCPV4, false), { gsoSizeBytes: 1460 }), { flags: 1 }, 'too-big'],
  ];
  for (const [pool, packet, key, wanted] of cases) {
    const out = new Batch();
    const available = pool.available;
    expect(run(packet, port, pool, out, key)).toBe(wanted);
    expect([out.count, pool.available]).toEqual([0, available]);
  }
  const out = new Batch();
  const large = Object.assign(superPacket(Gso.TCPV4, false), { gsoSizeBytes: 1460 });
  expect(run(large, port, smallPool(), out)).toBe('to-fragment');
  expect(out.count).toBe(14);
});
