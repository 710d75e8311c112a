/** Bytes on the wire, written out by hand from the drawings of RFC 7348, RFC 8926, RFC 2784 and RFC 2890, and of draft-smith-vxlan-group-policy: both directions have to agree with them. */
import { expect, test } from 'vitest';
import { TunnelFlag, TunnelOptions } from '../flow/index.ts';
import { Checksum, completeChecksum, EtherType, SegmentResult } from '../net/index.ts';
import { Decapsulator } from './decapsulate.ts';
import { TunnelWord } from './key.ts';
import { TunnelKind, TunnelPort, type TunnelPortSettings, TunnelPorts } from './port.ts';
import { TunnelResult, tunnelResultName } from './result.ts';
import { encapsulatorOf, hex, isSound, type Key, packetOf, pathOf, wordsOf } from './testing.ts';

/** A frame of an EtherType for experiments, and a packet of IPv4 with nothing in it. */
const FRAME = hex('020000000002 020000000001 88b5 aabbccdd');
const IPV4_PACKET = hex('4500 0014 0000 0000 40fd f899 c0a80001 c0a80002');

interface Vector {
  title: string;
  settings: TunnelPortSettings;
  key: Key;
  /** Sequence number of GRE. */
  number?: number;
  l3Type?: number;
  wire: string;
  /** Whether the checksum stands there unfinished: the pseudo header's sum. */
  isPartial?: boolean;
}

const VECTORS: Vector[] = [
  {
    title: 'VXLAN over IPv4',
    settings: { kind: TunnelKind.VXLAN },
    key: { id: 0x123456n, sourcePort: 0xc000, flags: TunnelFlag.KEY | TunnelFlag.DONT_FRAGMENT },
    wire: `02000000000b 02000000000a 0800
      4500 0036 0000 4000 40 11 26b3 0a010001 0a010002
      c000 12b5 0022 0000
      08 000000 123456 00`,
  },
  {
    title: 'VXLAN with group policy: group 0x123, do not learn, policy applied',
    settings: { kind: TunnelKind.VXLAN, groupPolicy: true, transportPort: 4790 },
    key: {
      id: 1n,
      sourcePort: 0xc000,
      kind: TunnelOptions.VXLAN_GBP,
      options: hex('00480123'),
      tos: 0xb8,
      ttl: 3,
    },
    wire: `02000000000b 02000000000a 0800
      45b8 0036 0000 0000 03 11 a2fb 0a010001 0a010002
      c000 12b6 0022 0000
      88 48 0123 000001 00`,
  },
  {
    title: 'Geneve over IPv6: control, a critical option, checksum',
    settings: { kind: TunnelKind.GENEVE },
    key: {
      id: 0xabcdn,
      sourcePort: 0xc000,
      destination: 'fd00:1::2',
      tos: 0xb8,
      ttl: 255,
      flags: TunnelFlag.KEY | TunnelFlag.OAM | TunnelFlag.CHECKSUM,
      options: hex('0102 81 01 deadbeef'),
    },
    wire: `02000000000b 02000000000a 86dd
      6b8 LABEL 002a 11 ff fd000001000000000000000000000001 fd000001000000000000000000000002
      c000 17c1 002a fa41
      02 c0 6558 00abcd 00 0102 81 01 deadbeef`,
    isPartial: true,
  },
  {
    title: 'GRE with checksum, key and sequence number',
    settings: { kind: TunnelKind.GRE, numbered: true },
    key: { id: 0xdeadbeefn, flags: TunnelFlag.KEY | TunnelFlag.CHECKSUM },
    number: 5,
    wire: `02000000000b 02000000000a 0800
      4500 0036 0000 0000 40 2f 6695 0a010001 0a010002
      b000 6558 0000 0000 deadbeef 00000005`,
    isPartial: true,
  },
  {
    title: 'GRE of layer 3, plain',
    settings: { kind: TunnelKind.GRE, layer3: true },
    key: { flags: 0 },
    l3Type: EtherType.IPV4,
    wire: `02000000000b 02000000000a 0800
      4500 002c 0000 0000 40 2f 669f 0a010001 0a010002
      0000 0800`,
  },
];

test.each(VECTORS)('$title is written as it is read', ({ settings, key, number, l3Type = 0, wire, isPartial }) => {
  const inside = l3Type === 0 ? FRAME : IPV4_PACKET;
  const port = new TunnelPort(settings);
  const path = pathOf(key.destination?.includes(':'));
  port.nextNumber = number ?? 0;
  const packet = packetOf(inside);
  const words = wordsOf(key);
  expect(encapsulatorOf().encapsulate(packet, l3Type, port, words, 0, path)).toBe(TunnelResult.DONE);
  const written = packet.frame().slice();
  // The label follows from a secret.
  const label = Buffer.from(written).toString('hex').slice(31, 36);
  expect(written).toEqual(Uint8Array.from([...hex(wire.replace('LABEL', label)), ...inside]));
  expect(packet.checksum).toBe(isPartial ? Checksum.PARTIAL : Checksum.UNKNOWN);
  if (number !== undefined) expect(port.nextNumber).toBe(number + 1);
  if (isPartial) expect(completeChecksum(packet)).toBe(SegmentResult.DONE);
  expect(isSound(packet.frame())).toBe(true);

  const ports = new TunnelPorts();
  ports.add(port);
  const decapsulator = new Decapsulator(ports);
  const read = new Uint32Array(words.length);
  expect(tunnelResultName(decapsulator.decapsulate(packet, read))).toBe('done');
  expect(packet.frame()).toEqual(inside);
  expect([decapsulator.port, decapsulator.l3Type]).toEqual([port, l3Type]);
  const wanted = words.slice();
  wanted.set(path.source, TunnelWord.SOURCE);
  if (settings.kind !== TunnelKind.GRE) wanted[TunnelWord.PORTS] |= port.transportPort;
  expect(read).toEqual(wanted);
});
