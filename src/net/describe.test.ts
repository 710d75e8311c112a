import { expect, test } from 'vitest';
import { composeFrame, header } from './compose.ts';
import { describe, type Layer, layerText, MAXIMUM_LAYERS } from './describe.ts';
import { HeaderOffsets } from './dissect.ts';
import { Arp } from './wire/arp.ts';
import { Ethernet } from './wire/ethernet.ts';
import { Geneve } from './wire/geneve.ts';
import { Gre } from './wire/gre.ts';
import { Icmpv4 } from './wire/icmpv4.ts';
import { Icmpv6 } from './wire/icmpv6.ts';
import { Ipv4, type Ipv4Record } from './wire/ipv4.ts';
import { Ipv6, type Ipv6Record } from './wire/ipv6.ts';
import { ipv6ExtensionCodec } from './wire/ipv6-extension.ts';
import { Mpls } from './wire/mpls.ts';
import { EtherType, IpProtocol } from './wire/numbers.ts';
import { Sctp } from './wire/sctp.ts';
import { Tcp, TcpFlag } from './wire/tcp.ts';
import { fuzzRounds, mutate, randomNumbers } from './wire/testing.ts';
import { Udp } from './wire/udp.ts';
import { VlanTag } from './wire/vlan-tag.ts';
import { Vxlan } from './wire/vxlan.ts';

/** Frames that a Linux kernel (6.x) sent over a veth without offloads. */
const CAPTURED = {
  tcpSyn:
    '02000000000b02000000000a08004500003c2d4640004006f9730a0000010a000002e1b20051e7a3501c00000000a002faf010300000020405b40402080aa1796d9c000000000103030a',
  udp6: '02000000000b02000000000a86dd600d34ac000d1140fd000000000000000000000000000001fd000000000000000000000000000002a97f0009000d187568656c6c6f',
  solicitation:
    '3333ff00000202000000000a86dd6000000000203afffd000000000000000000000000000001ff0200000000000000000001ff00000287007d8e00000000fd000000000000000000000000000002010102000000000a',
  listenerReport:
    '33330000001602000000000a86dd600000000038000100000000000000000000000000000000ff0200000000000000000000000000163a000502000001008f006d650000000204000000ff0200000000000000000001ff00000a04000000ff0200000000000000000001ff000001',
  portUnreachable:
    '02000000000a02000000000b080045c0003b65030000400100fd0a0000020a0000010303111c000000004500001fdf294000401147a20a0000010a000002cb840009000b3ee2686579',
  arp: '02000000000a02000000000b0806000108000604000202000000000b0a00000202000000000a0a000001',
};

function describeHex(hex: string): Layer[] {
  return describe(Buffer.from(hex, 'hex'));
}

const protocols = (layers: readonly Layer[]): string[] => layers.map((layer) => layer.protocol);

const ethernet = (etherType: number) =>
  header(Ethernet, { destination: '02:00:00:00:00:0b', source: '02:00:00:00:00:0a', etherType });

const ipv4 = (protocol: number, change: Partial<Ipv4Record> = {}) =>
  header(Ipv4, {
    dscp: 0,
    ecn: 0,
    payloadLength: 0,
    identification: 1,
    dontFragment: true,
    moreFragments: false,
    fragmentOffset: 0,
    timeToLive: 64,
    protocol,
    source: '10.0.0.1',
    destination: '10.0.0.2',
    options: [],
    ...change,
  });

const ipv6 = (nextHeader: number, change: Partial<Ipv6Record> = {}) =>
  header(Ipv6, {
    trafficClass: 0,
    flowLabel: 0,
    payloadLength: 0,
    nextHeader,
    hopLimit: 64,
    source: 'fd00::1',
    destination: 'fd00::2',
    ...change,
  });

const udp = (destinationPort: number) => header(Udp, { sourcePort: 5000, destinationPort, payloadLength: 0 });

const tcp = header(Tcp, {
  sourcePort: 40_000,
  destinationPort: 443,
  sequence: 1,
  acknowledgment: 2,
  flags: TcpFlag.ACK | TcpFlag.PSH,
  window: 500,
  urgentPointer: 0,
  options: [{ kind: 'timestamps', value: 1, echoReply: 2 }],
});

test('a SYN of Linux is decoded to its last option, checksums and all', () => {
  const layers = describeHex(CAPTURED.tcpSyn);
  expect(layers).toMatchObject([
    { protocol: 'ethernet', offset: 0, lengthBytes: 14, fields: { source: '02:00:00:00:00:0a', etherType: 0x0800 } },
    { protocol: 'ipv4', offset: 14, fields: { source: '10.0.0.1', dontFragment: true, checksumState: 'good' } },
    {
      protocol: 'tcp',
      offset: 34,
      lengthBytes: 40,
      fields: {
        destinationPort: 81,
        flags: ['SYN'],
        checksum: 0x1030,
        checksumState: 'good',
        options: [
          { kind: 'mss', mss: 1460 },
          { kind: 'sack-permitted' },
          { kind: 'timestamps', value: 0xa1796d9c, echoReply: 0 },
          { kind: 'no-operation' },
          { kind: 'window-scale', shift: 10 },
        ],
      },
    },
  ]);
  expect(JSON.parse(JSON.stringify(layers))).toEqual(layers);
});

test('what Linux sent over IPv6 and in ICMP is decoded with good checksums', () => {
  expect(describeHex(CAPTURED.udp6)).toMatchObject([
    {},
    { fields: { source: 'fd00::1', flowLabel: 0xd34ac } },
    { protocol: 'udp', fields: { payloadLength: 5, checksumState: 'good' } },
    { protocol: 'payload', fields: { data: '68656c6c6f' } },
  ]);
  expect(describeHex(CAPTURED.solicitation)[2]).toMatchObject({
    protocol: 'icmpv6',
    fields: {
      kind: 'neighbor-solicitation',
      target: 'fd00::2',
      options: [{ kind: 'source-link-address', mac: '02:00:00:00:00:0a' }],
      checksumState: 'good',
    },
  });
  const report = describeHex(CAPTURED.listenerReport);
  expect(protocols(report)).toEqual(['ethernet', 'ipv6', 'ipv6-hop-by-hop', 'icmpv6', 'payload']);
  expect(report[2].fields.options).toEqual([{ type: 5, data: '0000' }]);
  expect(report[3].fields.checksumState).toBe('good');
  expect(describeHex(CAPTURED.portUnreachable)[2]).toMatchObject({
    protocol: 'icmpv4',
    fields: { kind: 'unreachable', code: 3, checksumState: 'good' },
  });
  expect(describeHex(CAPTURED.arp)[1].fields).toEqual({
    operation: 2,
    senderMac: '02:00:00:00:00:0b',
    senderIp: '10.0.0.2',
    targetMac: '02:00:00:00:00:0a',
    targetIp: '10.0.0.1',
  });
});

test('composing the records of a captured frame gives the captured bytes', () => {
  const frame = composeFrame([
    ethernet(EtherType.IPV4),
    ipv4(IpProtocol.TCP, { identification: 0x2d46 }),
    header(Tcp, {
      sourcePort: 0xe1b2,
      destinationPort: 81,
      sequence: 0xe7a3501c,
      acknowledgment: 0,
      flags: TcpFlag.SYN,
      window: 0xfaf0,
      urgentPointer: 0,
      options: [
        { kind: 'mss', mss: 1460 },
        { kind: 'sack-permitted' },
        { kind: 'timestamps', value: 0xa1796d9c, echoReply: 0 },
        { kind: 'no-operation' },
        { kind: 'window-scale', shift: 10 },
      ],
    }),
  ]);
  expect(Buffer.from(frame).toString('hex')).toBe(CAPTURED.tcpSyn);
  const datagram = composeFrame(
    [
      ethernet(EtherType.IPV6),
      ipv6(IpProtocol.UDP, { flowLabel: 0xd34ac }),
      header(Udp, { sourcePort: 0xa97f, destinationPort: 9, payloadLength: 0 }),
    ],
    new TextEncoder().encode('hello'),
  );
  expect(Buffer.from(datagram).toString('hex')).toBe(CAPTURED.udp6);
});

/** One frame of each kind that can be composed, by the layers that must come out. */
const COMPOSED: readonly [string, Uint8Array][] = [
  [
    'ethernet vlan vlan ipv4 tcp payload',
    composeFrame(
      [
        ethernet(EtherType.SERVICE_VLAN),
        header(VlanTag, { priority: 3, dropEligible: false, vlanId: 100, etherType: EtherType.VLAN }),
        header(VlanTag, { priority: 0, dropEligible: true, vlanId: 5, etherType: EtherType.IPV4 }),
        ipv4(IpProtocol.TCP, { options: [{ kind: 148, data: Uint8Array.of(0, 0) }] }),
        tcp,
      ],
      new Uint8Array(100),
    ),
  ],
  [
    'ethernet ipv6 ipv6-hop-by-hop ipv6-routing ipv6-authentication ipv6-destination tcp payload',
    composeFrame(
      [
        ethernet(EtherType.IPV6),
        ipv6(IpProtocol.HOP_BY_HOP),
        header(ipv6ExtensionCodec(IpProtocol.HOP_BY_HOP), {
          kind: 'hop-by-hop',
          nextHeader: IpProtocol.ROUTING,
          options: [{ type: 5, data: Uint8Array.of(0, 0) }],
        }),
        header(ipv6ExtensionCodec(IpProtocol.ROUTING), {
          kind: 'routing',
          nextHeader: IpProtocol.AUTHENTICATION,
          routingType: 4,
          segmentsLeft: 0,
          data: new Uint8Array(20),
        }),
        header(ipv6ExtensionCodec(IpProtocol.AUTHENTICATION), {
          kind: 'authentication',
          nextHeader: IpProtocol.DESTINATION,
          spi: 1,
          sequence: 2,
          icv: new Uint8Array(12),
        }),
        header(ipv6ExtensionCodec(IpProtocol.DESTINATION), {
          kind: 'destination',
          nextHeader: IpProtocol.TCP,
          options: [],
        }),
        tcp,
      ],
      new Uint8Array(11),
    ),
  ],
  [
    'ethernet ipv4 sctp',
    composeFrame([
      ethernet(EtherType.IPV4),
      ipv4(IpProtocol.SCTP),
      header(Sctp, {
        sourcePort: 1,
        destinationPort: 2,
        verificationTag: 3,
        chunks: [
          {
            kind: 'init',
            flags: 0,
            initiateTag: 9,
            receiverWindow: 65_536,
            outboundStreams: 10,
            inboundStreams: 10,
            initialTsn: 1,
            parameters: new Uint8Array(0),
          },
          {
            kind: 'data',
            flags: 3,
            tsn: 1,
            stream: 0,
            streamSequence: 0,
            payloadProtocol: 0,
            data: Uint8Array.of(1, 2, 3),
          },
        ],
      }),
    ]),
  ],
  [
    'ethernet ipv4 udp vxlan ethernet ipv4 icmpv4 payload',
    composeFrame(
      [
        ethernet(EtherType.IPV4),
        ipv4(IpProtocol.UDP),
        udp(4789),
        header(Vxlan, { vni: 4242 }),
        ethernet(EtherType.IPV4),
        ipv4(IpProtocol.ICMPV4),
        header(Icmpv4, { kind: 'echo-request', code: 0, identifier: 1, sequence: 1 }),
      ],
      new Uint8Array(56),
    ),
  ],
  [
    'ethernet ipv6 udp geneve ethernet arp',
    composeFrame([
      ethernet(EtherType.IPV6),
      ipv6(IpProtocol.UDP),
      udp(6081),
      header(Geneve, {
        control: false,
        protocol: EtherType.TRANSPARENT_ETHERNET,
        vni: 77,
        options: [{ optionClass: 0x0102, type: 0x80, data: Uint8Array.of(0, 1, 0, 2) }],
      }),
      ethernet(EtherType.ARP),
      header(Arp, {
        operation: 1,
        senderMac: '02:00:00:00:00:0a',
        senderIp: '10.0.0.1',
        targetMac: '00:00:00:00:00:00',
        targetIp: '10.0.0.2',
      }),
    ]),
  ],
  [
    'ethernet ipv4 gre ipv6 icmpv6',
    composeFrame([
      ethernet(EtherType.IPV4),
      ipv4(IpProtocol.GRE),
      header(Gre, { protocol: EtherType.IPV6, hasChecksum: true, key: 7, sequence: 8 }),
      ipv6(IpProtocol.ICMPV6),
      header(Icmpv6, {
        kind: 'router-advertisement',
        hopLimit: 64,
        managed: false,
        otherConfiguration: true,
        routerLifetimeSeconds: 1800,
        reachableTimeMs: 0,
        retransmitTimerMs: 0,
        options: [
          { kind: 'mtu', mtu: 1500 },
          {
            kind: 'prefix',
            prefixLength: 64,
            onLink: true,
            autonomous: true,
            validLifetimeSeconds: 7200,
            preferredLifetimeSeconds: 3600,
            prefix: 'fd00::',
          },
        ],
      }),
    ]),
  ],
  [
    'ethernet mpls ipv4 udp payload',
    composeFrame(
      [
        ethernet(EtherType.MPLS),
        header(Mpls, {
          entries: [
            { label: 16, trafficClass: 0, timeToLive: 64 },
            { label: 1_048_575, trafficClass: 7, timeToLive: 1 },
          ],
        }),
        ipv4(IpProtocol.UDP),
        udp(53),
      ],
      new Uint8Array(9),
    ),
  ],
];

test.each(COMPOSED)('%s: composed layers are found again, every checksum good', (expected, frame) => {
  const layers = describe(frame);
  expect(protocols(layers).join(' ')).toBe(expected);
  for (const layer of layers) {
    expect(layer.error).toBeUndefined();
    if ('checksumState' in layer.fields)
      expect([layer.protocol, layer.fields.checksumState]).toEqual([layer.protocol, 'good']);
  }
});

test.each(COMPOSED)('%s: a changed byte of the last layer makes a checksum bad', (_, frame) => {
  const changed = frame.slice();
  changed[changed.length - 1] ^= 0x55;
  const states = describe(changed).flatMap((layer) =>
    'checksumState' in layer.fields ? [layer.fields.checksumState] : [],
  );
  expect(states).toContain('bad');
});

test('a malformed layer ends the list with what was wrong and where', () => {
  const frame = Buffer.from(CAPTURED.tcpSyn, 'hex');
  frame[46] = 0x40;
  expect(describe(frame).at(-1)).toEqual({
    protocol: 'tcp',
    offset: 34,
    lengthBytes: 40,
    fields: {},
    error: { reason: 'data offset is under 20 bytes or beyond the end', offset: 46 },
  });
  expect(describe(new Uint8Array(0))).toMatchObject([
    { protocol: 'ethernet', error: { reason: 'shorter than 14 bytes' } },
  ]);
});

test('a checksum that is partial, absent, or of a fragment is not called bad', () => {
  const frame = Buffer.from(CAPTURED.tcpSyn, 'hex');
  frame[50] ^= 0xff;
  expect(describe(frame)[2].fields.checksumState).toBe('bad');
  expect(describe(frame, { partialChecksumStart: 34 })[2].fields.checksumState).toBe('partial');
  const datagram = composeFrame([ethernet(EtherType.IPV4), ipv4(IpProtocol.UDP), udp(53)], new Uint8Array(16));
  datagram.fill(0, 40, 42);
  expect(describe(datagram)[2].fields.checksumState).toBe('none');
  const first = composeFrame(
    [ethernet(EtherType.IPV4), ipv4(IpProtocol.UDP, { moreFragments: true }), udp(4789)],
    new Uint8Array(16),
  );
  expect(describe(first)[2]).toMatchObject({ protocol: 'udp', fields: { checksumState: 'unverified' } });
  const later = composeFrame(
    [ethernet(EtherType.IPV4), ipv4(IpProtocol.UDP, { fragmentOffset: 8 })],
    new Uint8Array(16),
  );
  expect(protocols(describe(later))).toEqual(['ethernet', 'ipv4', 'payload']);
});

test('padding behind the IP packet is a layer of its own', () => {
  const layers = describe(Buffer.concat([Buffer.from(CAPTURED.arp, 'hex'), Buffer.alloc(18, 0xaa)]));
  expect(layers.at(-1)).toMatchObject({
    protocol: 'padding',
    offset: 42,
    lengthBytes: 18,
    fields: { data: 'aa'.repeat(18) },
  });
});

test('802.3 frames show their LLC header', () => {
  const layers = describeHex('0180c200000002000000000a0026424203000000000080000200000000');
  expect(protocols(layers)).toEqual(['ethernet', 'llc', 'payload']);
  const stp = describeHex(`0180c200000002000000000a0007424203${'00'.repeat(4)}${'ee'.repeat(39)}`);
  expect(protocols(stp)).toEqual(['ethernet', 'llc', 'payload', 'padding']);
});

test('an endless stack of tags stops', () => {
  const layers = describe(Uint8Array.from({ length: 4000 }, (_, i) => (i < 12 ? 2 : [0x81, 0, 0, 1][i % 4])));
  expect(layers).toHaveLength(MAXIMUM_LAYERS + 1);
  expect(layers.at(-1)?.error?.reason).toMatch(/more than/);
});

test('a layer is one line of plain text', () => {
  expect(describeHex(CAPTURED.arp).map(layerText)).toEqual([
    'ethernet 0..14 destination=02:00:00:00:00:0a source=02:00:00:00:00:0b etherType=0x0806',
    'arp 14..42 operation=2 senderMac=02:00:00:00:00:0b senderIp=10.0.0.2 targetMac=02:00:00:00:00:0a targetIp=10.0.0.1',
  ]);
  expect(layerText(describeHex('0102')[0])).toBe('ethernet 0..2 MALFORMED at 0: shorter than 14 bytes');
  expect(layerText(describeHex(CAPTURED.tcpSyn)[2])).toContain('options=[{kind=mss mss=1460} {kind=sack-permitted}');
});

test('mutated frames are described without an exception, as JSON, and agree with the header parser on what is sound', () => {
  const random = randomNumbers(31337);
  const seeds = [
    ...Object.values(CAPTURED).map((hex) => new Uint8Array(Buffer.from(hex, 'hex'))),
    ...COMPOSED.map(([, frame]) => frame),
  ];
  const headers = new HeaderOffsets();
  for (let round = fuzzRounds(50_000); round > 0; round -= 1) {
    const frame = mutate(seeds[random(seeds.length)], random);
    const layers = describe(frame);
    const malformed = headers.parseBytes(frame, 0, frame.length);
    const last = layers[layers.length - 1];
    let problem = '';
    if (layers.length === 0 || last.offset + last.lengthBytes > frame.length)
      problem = 'a layer leads out of the frame';
    // A layer that the parser found sound down to its ports must have been decoded as such.
    const transport = layers.find((layer) => layer.offset === headers.l4Offset);
    if (malformed === 0 && headers.sourcePort !== 0 && transport !== undefined && transport.error === undefined) {
      const seen = transport.fields.sourcePort;
      if (seen !== undefined && seen !== headers.sourcePort) problem = `port ${seen} is not ${headers.sourcePort}`;
    }
    if (round % 50 === 0) expect(JSON.parse(JSON.stringify(layers))).toEqual(layers);
    if (problem !== '') expect.fail(`${problem}: ${Buffer.from(frame).toString('hex')}`);
  }
}, 60_000);

test('a tunnel over IPv6 may have no UDP checksum, all others must have one (RFC 6935)', () => {
  const stateTo = (port: number) => {
    const frame = composeFrame([ethernet(EtherType.IPV6), ipv6(IpProtocol.UDP), udp(port)], new Uint8Array(30));
    frame.fill(0, 60, 62);
    return describe(frame)[2].fields.checksumState;
  };
  expect([4789, 6081, 53].map(stateTo)).toEqual(['none', 'none', 'bad']);
});
