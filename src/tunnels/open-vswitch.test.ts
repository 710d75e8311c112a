/** Packets of Open vSwitch's own tests (tests/tunnel-push-pop.at, Apache-2.0), with what its userspace datapath reads from them: an independent word on VXLAN, Geneve and GRE. */
import { expect, test } from 'vitest';
import { FlowKey, parseFlowKey, Word } from '../flow/index.ts';
import { Decapsulator } from './decapsulate.ts';
import { TunnelKind, TunnelPort, type TunnelPortSettings, TunnelPorts } from './port.ts';
import { tunnelResultName } from './result.ts';
import { hex, packetOf } from './testing.ts';

/** Inside of them all: a ping, with and without an Ethernet header. */
const PING =
  '45000054ba200000400184861e0000011e00000200004227e75400030af3195500000000f2650100000000001011121314' +
  '15161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637';
const FRAME = `fe71d883724fbeb6f4e1494a0800${PING}`;
const MACS = 'aa55aa550000001b213cab64';

interface Case {
  title: string;
  settings: TunnelPortSettings;
  packet: string;
  /** Flow text of the key, or the name of the drop. */
  key?: string;
  drop?: string;
  inside?: string;
}

const CASES: Case[] = [
  {
    title: 'GRE with a key',
    settings: { kind: TunnelKind.GRE },
    packet: `${MACS}08004500007e79464000402fba550101025c0101025820006558000001c8${FRAME}`,
    key: 'tun_id=0x1c8,src=1.1.2.92,dst=1.1.2.88,tos=0,ttl=64,flags(+df-csum+key)',
    inside: FRAME,
  },
  {
    title: 'GRE with a key, without an Ethernet header inside',
    settings: { kind: TunnelKind.GRE, layer3: true },
    packet: `${MACS}08004500007079464000402fba630101025c0101025820000800000001c8${PING}`,
    key: 'tun_id=0x1c8,src=1.1.2.92,dst=1.1.2.88,tos=0,ttl=64,flags(+df-csum+key)',
    inside: PING,
  },
  {
    title: 'GRE with congestion that the packet inside cannot be told of',
    settings: { kind: TunnelKind.GRE, layer3: true },
    packet: `${MACS}08004503007079464000402fba600101025c0101025820000800000001c8${PING}`,
    drop: 'congestion',
  },
  {
    title: 'Geneve with two options, one of them critical',
    settings: { kind: TunnelKind.GENEVE },
    packet: `${MACS}080045000096794640004011ba5b0101025c01010258308817c1008200000400655800007b00ffff80010000000affff00010000000b${FRAME}`,
    key: 'tun_id=0x7b,src=1.1.2.92,dst=1.1.2.88,tos=0,ttl=64,tp_src=12424,tp_dst=6081,geneve({class=0xffff,type=0x80,len=4,0xa}{class=0xffff,type=0,len=4,0xb}),flags(+df-csum+key)',
    inside: FRAME,
  },
  {
    title: "VXLAN's generic protocol extension, where it was not asked for",
    settings: { kind: TunnelKind.VXLAN },
    packet:
      'aa55aa550000f8bc1244cafe08004500004e00010000401173e90101025c01010258c85312b5003a8cd40c00000300007b00' +
      'ffffffffffff00000000000008004500001c0001000040117cce7f0000017f0000010035003500080172',
    drop: 'bad-flags',
  },
];

test.each(CASES)('$title', ({ settings, packet: text, key, drop, inside }) => {
  const ports = new TunnelPorts();
  ports.add(new TunnelPort(settings));
  const packet = packetOf(hex(text));
  const read = new FlowKey();
  const result = tunnelResultName(new Decapsulator(ports).decapsulate(packet, read.words, Word.TUNNEL));
  expect(result).toBe(drop ?? 'done');
  if (key === undefined || inside === undefined) return;
  expect(packet.frame()).toEqual(hex(inside));
  const wanted = parseFlowKey(`tunnel(${key}),in_port(1)`).key;
  expect(read.words.subarray(Word.TUNNEL)).toEqual(wanted.subarray(Word.TUNNEL));
});

test('the same VXLAN packet without the extension is taken, over IPv4 and IPv6, its checksum looked at', () => {
  const ports = new TunnelPorts();
  ports.add(new TunnelPort({ kind: TunnelKind.VXLAN }));
  const inside = 'ffffffffffff00000000000008004500001c0001000040117cce7f0000017f0000010035003500080172';
  const packets = [
    // The flags are 4 less and the next protocol 3 less, so the checksum is as much more.
    `aa55aa550000f8bc1244cafe08004500004e00010000401173e90101025c01010258c85312b5003a90d708000000 00007b00${inside}`,
    `aa55aa550000f8bc1244cafe86dd60000000003a11402001cafe0000000000000000000000922001cafe000000000000000000000088c85312b5003ac07308000000 00007b00${inside}`,
  ];
  for (const text of packets) {
    const packet = packetOf(hex(text));
    expect(tunnelResultName(new Decapsulator(ports).decapsulate(packet, new Uint32Array(77)))).toBe('done');
    expect(packet.frame()).toEqual(hex(inside));
    const wrong = packetOf(hex(text));
    wrong.bytes[wrong.offset + wrong.length - 1] ^= 1;
    expect(tunnelResultName(new Decapsulator(ports).decapsulate(wrong, new Uint32Array(77)))).toBe('bad-checksum');
  }
});
