/** For tests only: every format of this folder with an arbitrary record of it. */
import fc from 'fast-check';
import { formatIpv4, formatIpv6, formatMac } from './address.ts';
import { Arp, ArpView } from './arp.ts';
import { Ethernet, EthernetView } from './ethernet.ts';
import { Geneve, GeneveView } from './geneve.ts';
import { Gre, GreView } from './gre.ts';
import { Icmpv4, Icmpv4View } from './icmpv4.ts';
import { Icmpv6, Icmpv6View } from './icmpv6.ts';
import { Ipv4, Ipv4View } from './ipv4.ts';
import { Ipv6, Ipv6View } from './ipv6.ts';
import {
  type Ipv6ExtensionRecord,
  Ipv6ExtensionView,
  ipv6ExtensionCodec,
  ipv6ExtensionType,
} from './ipv6-extension.ts';
import { Mpls, MplsView } from './mpls.ts';
import type { NdOption } from './nd-options.ts';
import type { RawOption } from './options.ts';
import { Sctp, SctpView } from './sctp.ts';
import { Tcp, TcpView } from './tcp.ts';
import type { TcpOption } from './tcp-options.ts';
import { Udp, UdpView } from './udp.ts';
import type { Codec, View } from './view.ts';
import { VlanTag, VlanTagView } from './vlan-tag.ts';
import { Vxlan, VxlanView } from './vxlan.ts';

const u = (bits: number): fc.Arbitrary<number> => fc.integer({ min: 0, max: 2 ** bits - 1 });
const data = (maxLength: number, unit = 1, minLength = 0): fc.Arbitrary<Uint8Array> =>
  fc
    .integer({ min: minLength / unit, max: maxLength / unit })
    .chain((units) => fc.uint8Array({ minLength: units * unit, maxLength: units * unit }));
const fixed = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });
const mac = fixed(6).map((bytes) => formatMac(bytes));
const ipv4 = fixed(4).map((bytes) => formatIpv4(bytes));
const ipv6 = fc
  .tuple(fixed(16), fc.nat(0xffff))
  .map(([bytes, keep]) => formatIpv6(bytes.map((byte, i) => (((keep >>> (i >>> 1)) & 1) === 1 ? byte : 0))));

const rawOptions: fc.Arbitrary<RawOption[]> = fc.array(
  fc.oneof(
    fc.constant({ kind: 1, data: new Uint8Array(0) }),
    fc.record({ kind: fc.integer({ min: 2, max: 255 }), data: data(6) }),
  ),
  { maxLength: 5 },
);

const tcpOption: fc.Arbitrary<TcpOption> = fc.oneof(
  fc.constant<TcpOption>({ kind: 'no-operation' }),
  fc.record({ kind: fc.constant('mss' as const), mss: u(16) }),
  fc.record({ kind: fc.constant('window-scale' as const), shift: u(8) }),
  fc.constant<TcpOption>({ kind: 'sack-permitted' }),
  fc.record({
    kind: fc.constant('sack' as const),
    blocks: fc.array(fc.record({ start: u(32), end: u(32) }), { minLength: 1, maxLength: 4 }),
  }),
  fc.record({ kind: fc.constant('timestamps' as const), value: u(32), echoReply: u(32) }),
  fc.record({ kind: fc.constant('unknown' as const), number: fc.integer({ min: 9, max: 255 }), data: data(10) }),
);

const ndOption: fc.Arbitrary<NdOption> = fc.oneof(
  fc.record({ kind: fc.constantFrom('source-link-address' as const, 'target-link-address' as const), mac }),
  fc.record({
    kind: fc.constant('prefix' as const),
    prefixLength: u(8),
    onLink: fc.boolean(),
    autonomous: fc.boolean(),
    validLifetimeSeconds: u(32),
    preferredLifetimeSeconds: u(32),
    prefix: ipv6,
  }),
  fc.record({ kind: fc.constant('redirected' as const), packet: data(64, 8) }),
  fc.record({ kind: fc.constant('mtu' as const), mtu: u(32) }),
  fc.record({
    kind: fc.constant('unknown' as const),
    type: fc.integer({ min: 6, max: 255 }),
    data: data(40, 8).chain((bytes) => fixed(bytes.length + 6)),
  }),
);
const ndOptions = fc.array(ndOption, { maxLength: 4 });

const ipv6Options = fc
  .array(
    fc.oneof(
      fc.constant({ type: 0, data: new Uint8Array(0) }),
      fc.record({ type: fc.integer({ min: 1, max: 255 }), data: data(12) }),
    ),
    { maxLength: 5 },
  )
  // Padding at the end is emit's, not the record's.
  .map((options) => {
    while (options.length > 0 && options[options.length - 1].type <= 1) options.pop();
    return options;
  });

/** One format under test. The codec is a function where it depends on what announced the header. */
export interface FormatCase {
  name: string;
  records: fc.Arbitrary<object>;
  codecFor(record: object): Codec<object>;
  viewFor(record: object): View;
}

function format<R extends object>(codec: Codec<R>, makeView: () => View, records: fc.Arbitrary<R>): FormatCase {
  return {
    name: codec.protocol,
    records,
    codecFor: () => codec as unknown as Codec<object>,
    viewFor: makeView,
  };
}

const extensions: fc.Arbitrary<Ipv6ExtensionRecord> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('hop-by-hop' as const, 'destination' as const),
    nextHeader: u(8),
    options: ipv6Options,
  }),
  fc.record({
    kind: fc.constant('routing' as const),
    nextHeader: u(8),
    routingType: u(8),
    segmentsLeft: u(8),
    data: data(64, 8).chain((bytes) => fixed(bytes.length + 4)),
  }),
  fc.record({
    kind: fc.constant('fragment' as const),
    nextHeader: u(8),
    fragmentOffset: u(13).map((units) => units * 8),
    moreFragments: fc.boolean(),
    identification: u(32),
  }),
  fc.record({
    kind: fc.constant('authentication' as const),
    nextHeader: u(8),
    spi: u(32),
    sequence: u(32),
    icv: data(32, 4),
  }),
);

const extensionFormat: FormatCase = {
  name: 'ipv6-extension',
  records: extensions,
  codecFor: (record) =>
    ipv6ExtensionCodec(ipv6ExtensionType((record as Ipv6ExtensionRecord).kind)) as unknown as Codec<object>,
  viewFor: (record) => {
    const view = new Ipv6ExtensionView();
    view.type = ipv6ExtensionType((record as Ipv6ExtensionRecord).kind);
    return view;
  },
};

/** All formats. */
export const formats: readonly FormatCase[] = [
  format(Ethernet, () => new EthernetView(), fc.record({ destination: mac, source: mac, etherType: u(16) })),
  format(
    VlanTag,
    () => new VlanTagView(),
    fc.record({ priority: u(3), dropEligible: fc.boolean(), vlanId: u(12), etherType: u(16) }),
  ),
  format(
    Arp,
    () => new ArpView(),
    fc.record({ operation: u(16), senderMac: mac, senderIp: ipv4, targetMac: mac, targetIp: ipv4 }),
  ),
  format(
    Ipv4,
    () => new Ipv4View(),
    fc.record({
      dscp: u(6),
      ecn: u(2),
      payloadLength: fc.constant(0),
      identification: u(16),
      dontFragment: fc.boolean(),
      moreFragments: fc.boolean(),
      fragmentOffset: u(13).map((units) => units * 8),
      timeToLive: u(8),
      protocol: u(8),
      source: ipv4,
      destination: ipv4,
      options: rawOptions,
    }),
  ),
  format(
    Ipv6,
    () => new Ipv6View(),
    fc.record({
      trafficClass: u(8),
      flowLabel: u(20),
      payloadLength: fc.constant(0),
      nextHeader: u(8),
      hopLimit: u(8),
      source: ipv6,
      destination: ipv6,
    }),
  ),
  extensionFormat,
  format(
    Icmpv4,
    () => new Icmpv4View(),
    fc.oneof(
      fc.record({
        kind: fc.constantFrom('echo-request' as const, 'echo-reply' as const),
        code: u(8),
        identifier: u(16),
        sequence: u(16),
      }),
      fc.record({ kind: fc.constant('unreachable' as const), code: u(8), mtu: u(16) }),
      fc.record({ kind: fc.constant('redirect' as const), code: u(8), gateway: ipv4 }),
      fc.record({ kind: fc.constant('time-exceeded' as const), code: u(8) }),
      fc.record({ kind: fc.constant('parameter-problem' as const), code: u(8), pointer: u(8) }),
      fc.record({
        kind: fc.constant('other' as const),
        type: fc.integer({ min: 13, max: 255 }),
        code: u(8),
        rest: u(32),
      }),
    ),
  ),
  format(
    Icmpv6,
    () => new Icmpv6View(),
    fc.oneof(
      fc.record({
        kind: fc.constantFrom('echo-request' as const, 'echo-reply' as const),
        code: u(8),
        identifier: u(16),
        sequence: u(16),
      }),
      fc.record({ kind: fc.constantFrom('unreachable' as const, 'time-exceeded' as const), code: u(8) }),
      fc.record({ kind: fc.constant('packet-too-big' as const), code: u(8), mtu: u(32) }),
      fc.record({ kind: fc.constant('parameter-problem' as const), code: u(8), pointer: u(32) }),
      fc.record({ kind: fc.constant('router-solicitation' as const), options: ndOptions }),
      fc.record({
        kind: fc.constant('router-advertisement' as const),
        hopLimit: u(8),
        managed: fc.boolean(),
        otherConfiguration: fc.boolean(),
        routerLifetimeSeconds: u(16),
        reachableTimeMs: u(32),
        retransmitTimerMs: u(32),
        options: ndOptions,
      }),
      fc.record({ kind: fc.constant('neighbor-solicitation' as const), target: ipv6, options: ndOptions }),
      fc.record({
        kind: fc.constant('neighbor-advertisement' as const),
        router: fc.boolean(),
        solicited: fc.boolean(),
        override: fc.boolean(),
        target: ipv6,
        options: ndOptions,
      }),
      fc.record({ kind: fc.constant('redirect' as const), target: ipv6, destination: ipv6, options: ndOptions }),
      fc.record({
        kind: fc.constant('other' as const),
        type: fc.integer({ min: 138, max: 255 }),
        code: u(8),
        rest: u(32),
      }),
    ),
  ),
  format(
    Tcp,
    () => new TcpView(),
    fc
      .record({
        sourcePort: u(16),
        destinationPort: u(16),
        sequence: u(32),
        acknowledgment: u(32),
        flags: u(12),
        window: u(16),
        urgentPointer: u(16),
        options: fc.array(tcpOption, { maxLength: 4 }),
      })
      .filter((record) => Tcp.byteLength(record) <= 60),
  ),
  format(
    Udp,
    () => new UdpView(),
    fc.record({ sourcePort: u(16), destinationPort: u(16), payloadLength: fc.constant(0) }),
  ),
  format(
    Sctp,
    () => new SctpView(),
    fc.record({
      sourcePort: u(16),
      destinationPort: u(16),
      verificationTag: u(32),
      chunks: fc.array(
        fc.oneof(
          fc.record({
            kind: fc.constant('data' as const),
            flags: u(8),
            tsn: u(32),
            stream: u(16),
            streamSequence: u(16),
            payloadProtocol: u(32),
            data: data(30),
          }),
          fc.record({
            kind: fc.constantFrom('init' as const, 'init-ack' as const),
            flags: u(8),
            initiateTag: u(32),
            receiverWindow: u(32),
            outboundStreams: u(16),
            inboundStreams: u(16),
            initialTsn: u(32),
            parameters: data(30),
          }),
          fc.record({
            kind: fc.constant('other' as const),
            type: fc.integer({ min: 3, max: 255 }),
            flags: u(8),
            value: data(30),
          }),
        ),
        { maxLength: 4 },
      ),
    }),
  ),
  format(
    Mpls,
    () => new MplsView(),
    fc.record({
      entries: fc.array(fc.record({ label: u(20), trafficClass: u(3), timeToLive: u(8) }), {
        minLength: 1,
        maxLength: 5,
      }),
    }),
  ),
  format(
    Gre,
    () => new GreView(),
    fc.record({
      protocol: u(16),
      hasChecksum: fc.boolean(),
      key: fc.option(u(32), { nil: null }),
      sequence: fc.option(u(32), { nil: null }),
    }),
  ),
  format(Vxlan, () => new VxlanView(), fc.record({ vni: u(24) })),
  format(
    Geneve,
    () => new GeneveView(),
    fc.record({
      control: fc.boolean(),
      protocol: u(16),
      vni: u(24),
      options: fc.array(fc.record({ optionClass: u(16), type: u(8), data: data(40, 4) }), { maxLength: 4 }),
    }),
  ),
];
