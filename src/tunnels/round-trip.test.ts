/** What goes in comes out: random packets, keys and metadata through every kind of tunnel, and every tunnel is what tunnels of net/ would say that it is. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TunnelFlag, TunnelOptions } from '../flow/index.ts';
import { Checksum, completeChecksum, describe, HeaderOffsets, IpProtocol, type Packet } from '../net/index.ts';
import { Decapsulator } from './decapsulate.ts';
import { TunnelWord } from './key.ts';
import { TunnelKind, TunnelPort, TunnelPorts } from './port.ts';
import { TunnelResult } from './result.ts';
import { anyFrame, encapsulatorOf, isSound, type Key, packetOf, pathOf, wordsOf } from './testing.ts';

const option = fc
  .record({ head: fc.uint8Array({ minLength: 3, maxLength: 3 }), words: fc.nat(4) })
  .map(({ head, words }) => {
    const bytes = new Uint8Array(4 + words * 4);
    bytes.set(head);
    bytes[3] = words;
    return [...bytes];
  });

const address = fc.constantFrom('10.1.0.2', 'fd00:1::2');

interface Tunnel {
  port: TunnelPort;
  key: Key;
}

const anyTunnel: fc.Arbitrary<Tunnel> = fc
  .record({
    kind: fc.constantFrom(TunnelKind.VXLAN, TunnelKind.GENEVE, TunnelKind.GRE),
    groupPolicy: fc.boolean(),
    policy: fc.nat(0xffff),
    id: fc.nat(0xffffff),
    hasKey: fc.boolean(),
    destination: address,
    tos: fc.nat(63),
    ttl: fc.integer({ min: 1, max: 255 }),
    flags: fc.nat(3),
    isControl: fc.boolean(),
    sourcePort: fc.integer({ min: 1, max: 0xffff }),
    options: fc.array(option, { maxLength: 5 }),
    numbered: fc.boolean(),
  })
  .map((made) => {
    const { kind, id, hasKey, flags, isControl, sourcePort } = made;
    const isGre = kind === TunnelKind.GRE;
    const port = new TunnelPort({ kind, groupPolicy: made.groupPolicy, numbered: made.numbered });
    const options =
      kind === TunnelKind.GENEVE
        ? Uint8Array.from(made.options.flat())
        : port.groupPolicy && made.policy !== 0
          ? Uint8Array.of(0, 0, made.policy >>> 8, made.policy)
          : new Uint8Array(0);
    const optionKind = kind === TunnelKind.GENEVE ? TunnelOptions.GENEVE : TunnelOptions.VXLAN_GBP;
    const key: Key = {
      id: BigInt(isGre && !hasKey ? 0 : id),
      destination: made.destination,
      tos: made.tos << 2,
      ttl: made.ttl,
      flags:
        flags |
        (isGre && !hasKey ? 0 : TunnelFlag.KEY) |
        (kind === TunnelKind.GENEVE && isControl ? TunnelFlag.OAM : 0),
      sourcePort: isGre ? 0 : sourcePort,
      options,
      kind: options.length > 0 ? optionKind : TunnelOptions.NONE,
    };
    return { port, key };
  });

const headers = new HeaderOffsets();

/** Make the transport checksum inside a partial one, as Linux hands packets over. @returns whether there is one */
function makePartial(packet: Packet): boolean {
  headers.parse(packet);
  const { ipProtocol, ipVersion } = headers;
  const place = ipProtocol === IpProtocol.TCP ? 16 : ipProtocol === IpProtocol.UDP ? 6 : -1;
  if (ipVersion === 0 || place === -1) return false;
  const { bytes, offset } = packet;
  const ip = offset + headers.l3Offset;
  const length = headers.l3End - headers.l4Offset;
  let sum = ipProtocol + length;
  const [from, to] = ipVersion === 4 ? [12, 20] : [8, 40];
  for (let i = from; i < to; i += 2) sum += (bytes[ip + i] << 8) | bytes[ip + i + 1];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  const field = offset + headers.l4Offset + place;
  bytes[field] = sum >>> 8;
  bytes[field + 1] = sum;
  packet.checksum = Checksum.PARTIAL;
  packet.checksumStart = headers.l4Offset;
  packet.checksumOffset = place;
  return true;
}

function decapsulated(port: TunnelPort, packet: Packet): { result: number; words: Uint32Array } {
  const ports = new TunnelPorts();
  ports.add(port);
  const words = new Uint32Array(77);
  return { result: new Decapsulator(ports).decapsulate(packet, words), words };
}

test('a packet comes out as it went in, with the key that it went in by', () => {
  const encapsulator = encapsulatorOf();
  fc.assert(
    fc.property(anyTunnel, anyFrame, fc.boolean(), fc.boolean(), ({ port, key }, frame, partial, finished) => {
      const packet = packetOf(frame);
      const isPartial = partial && makePartial(packet);
      const inside = packet.frame().slice();
      const path = pathOf(key.destination?.includes(':'));
      const words = wordsOf(key);
      expect(encapsulator.encapsulate(packet, 0, port, words, 0, path)).toBe(TunnelResult.DONE);
      if (finished) {
        completeChecksum(packet);
        expect(isSound(packet.frame())).toBe(true);
      }
      const tos = packet.bytes[packet.offset + 15];
      const out = decapsulated(port, packet);
      expect(out.result).toBe(TunnelResult.DONE);
      if (isPartial && !finished) {
        expect(packet.checksum).toBe(Checksum.PARTIAL);
        expect(packet.frame()).toEqual(inside);
        completeChecksum(packet);
      }
      expect(packet.checksum).toBe(Checksum.UNKNOWN);
      // A finished checksum of 0 is written as 0xffff, and then it is another one by the bytes.
      expect(isSound(packet.frame())).toBe(isSound(frame));
      if (!isPartial) expect(packet.frame()).toEqual(frame);
      const wanted = words.slice();
      wanted.set(path.source, TunnelWord.SOURCE);
      const isIpv6 = key.destination?.includes(':') === true;
      if (isIpv6) wanted[TunnelWord.FLAGS] &= ~(TunnelFlag.DONT_FRAGMENT << 16);
      else wanted[TunnelWord.IP] |= (tos & 3) << 16;
      out.words[TunnelWord.IP] &= isIpv6 ? ~(3 << 16) : -1;
      if (port.kind !== TunnelKind.GRE) wanted[TunnelWord.PORTS] |= port.transportPort;
      expect(out.words).toEqual(wanted);
    }),
    { numRuns: Number(process.env.MILLRACE_FUZZ ?? 400) },
  );
});

test('net/ reads the outer headers as the tunnel that was meant, and the packet inside behind them', () => {
  const encapsulator = encapsulatorOf();
  const names: Record<number, string> = {
    [TunnelKind.VXLAN]: 'vxlan',
    [TunnelKind.GENEVE]: 'geneve',
    [TunnelKind.GRE]: 'gre',
  };
  fc.assert(
    fc.property(anyTunnel, anyFrame, ({ port, key }, frame) => {
      const packet = packetOf(frame);
      const path = pathOf(key.destination?.includes(':'));
      encapsulator.encapsulate(
        packet,
        0,
        port,
        wordsOf({ ...key, flags: (key.flags ?? 0) & ~TunnelFlag.OAM }),
        0,
        path,
      );
      completeChecksum(packet);
      const layers = describe(packet.frame());
      const at = layers.findIndex((layer) => layer.protocol === names[port.kind]);
      const inside = describe(frame);
      const behind = layers.slice(at + 1);
      expect(behind.map(({ protocol }) => protocol)).toEqual(inside.map(({ protocol }) => protocol));
      expect(behind.map(({ fields }) => fields)).toEqual(inside.map(({ fields }) => fields));
    }),
    { numRuns: 100 },
  );
});
