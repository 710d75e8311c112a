/** For this room's tests and benchmark only: packets with headroom, keys, frames with sound checksums, random ones of all that there are. */
import fc from 'fast-check';
import { HashSecret, TUNNEL_WORDS, TunnelFlag, TunnelOptions } from '../flow/index.ts';
import {
  composeFrame,
  describe,
  Ethernet,
  EtherType,
  type HeaderLayer,
  type HostPath,
  header,
  Icmpv4,
  IpProtocol,
  Ipv4,
  type Ipv4Record,
  Ipv6,
  type Ipv6Record,
  Packet,
  PacketPool,
  PathState,
  parseIpv4Into,
  parseIpv6Into,
  Region,
  Tcp,
  Udp,
  VlanTag,
} from '../net/index.ts';
import { Encapsulator } from './encapsulate.ts';
import { TunnelWord } from './key.ts';

export const SECRET = new HashSecret([0x1234_5678, 0x9abc_def0]);
const HEADROOM = 400;

/** Bytes from hexadecimal text; spaces and line ends are ignored. */
export function hex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'));
}

/** A packet of its own memory, with room before it and none behind. */
export function packetOf(frame: Uint8Array, headroom = HEADROOM): Packet {
  const region = new Region(new ArrayBuffer(headroom + frame.length));
  const packet = new Packet({ recycle: () => {} }, region, 0);
  packet.bytes.set(frame, headroom);
  packet.offset = headroom;
  packet.length = frame.length;
  packet.limit = headroom + frame.length;
  packet.references = 1;
  return packet;
}

/** Buffers that take any packet, with headroom for any outer header. */
export const largePool = (packets = 8) => new PacketPool({ packets, bufferBytes: 66_500, headroomBytes: HEADROOM });
export const smallPool = (packets = 128) => new PacketPool({ packets, bufferBytes: 2500, headroomBytes: HEADROOM });

/** The tunnel part of a key in plain terms. */
export interface Key {
  id?: bigint;
  source?: string;
  destination?: string;
  tos?: number;
  ttl?: number;
  flags?: number;
  sourcePort?: number;
  destinationPort?: number;
  options?: Uint8Array;
  /** One of TunnelOptions. */
  kind?: number;
}

/** The words of a key: by default to 10.1.0.2 with an id. */
export function wordsOf(key: Key): Uint32Array {
  const words = new Uint32Array(TUNNEL_WORDS);
  const id = key.id ?? 0n;
  words[TunnelWord.ID_HIGH] = Number(id >> 32n);
  words[TunnelWord.ID] = Number(id & 0xffff_ffffn);
  const destination = key.destination ?? '10.1.0.2';
  const isIpv6 = destination.includes(':');
  setAddress(words, TunnelWord.DESTINATION, destination);
  if (key.source !== undefined) setAddress(words, TunnelWord.SOURCE, key.source);
  const options = key.options ?? new Uint8Array(0);
  const kind = key.kind ?? (options.length > 0 ? TunnelOptions.GENEVE : TunnelOptions.NONE);
  words[TunnelWord.IP] = ((isIpv6 ? 6 : 4) << 24) | ((key.tos ?? 0) << 16) | ((key.ttl ?? 64) << 8) | kind;
  words[TunnelWord.PORTS] = ((key.sourcePort ?? 0) << 16) | (key.destinationPort ?? 0);
  words[TunnelWord.FLAGS] = ((key.flags ?? TunnelFlag.KEY) << 16) | (options.length << 8);
  const view = new DataView(options.buffer, options.byteOffset);
  for (let i = 0; i < options.length; i += 4) words[TunnelWord.OPTIONS + i / 4] = view.getUint32(i);
  return words;
}

export function setAddress(words: Uint32Array, at: number, text: string): void {
  const bytes = new Uint8Array(16);
  if (text.includes(':')) parseIpv6Into(text, bytes, 0);
  else parseIpv4Into(text, bytes, 0);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < 4; i += 1) words[at + i] = view.getUint32(i * 4);
}

/** A path from 10.1.0.1 and fd00:1::1, MAC addresses 02:..:0a to 02:..:0b. */
export function pathOf(isIpv6 = false, mtuBytes = 1500, source = isIpv6 ? 'fd00:1::1' : '10.1.0.1'): HostPath {
  const words = new Uint32Array(4);
  setAddress(words, 0, source);
  return {
    state: PathState.READY,
    interfaceIndex: 1,
    mtuBytes,
    source: Int32Array.from(words),
    hasEthernet: true,
    sourceMac: hex('02000000000a'),
    destinationMac: hex('02000000000b'),
  };
}

/** An encapsulator whose identifications begin at 0 and whose hash is always the same. */
export const encapsulatorOf = () => new Encapsulator({ secret: SECRET, random: () => 0 });

const MACS = { destination: '02:00:00:00:00:02', source: '02:00:00:00:00:01' };
export const ethernet = (etherType: number) => header(Ethernet, { ...MACS, etherType });

export const ipv4 = (protocol: number, change: Partial<Ipv4Record> = {}) =>
  header(Ipv4, {
    dscp: 0,
    ecn: 0,
    payloadLength: 0,
    identification: 7,
    dontFragment: true,
    moreFragments: false,
    fragmentOffset: 0,
    timeToLive: 64,
    protocol,
    source: '192.168.0.1',
    destination: '192.168.0.2',
    options: [],
    ...change,
  });

export const ipv6 = (nextHeader: number, change: Partial<Ipv6Record> = {}) =>
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

export const udp = (sourcePort = 1000, destinationPort = 53) =>
  header(Udp, { sourcePort, destinationPort, payloadLength: 0 });

export const tcp = (sourcePort = 1000, destinationPort = 80, flags = 0x18) =>
  header(Tcp, {
    sourcePort,
    destinationPort,
    sequence: 1000,
    acknowledgment: 2000,
    flags,
    window: 500,
    urgentPointer: 0,
    options: [],
  });

export const payloadOf = (length: number) => Uint8Array.from({ length }, (_, i) => i * 7);

/** A frame of UDP over IPv4. */
export function udpFrame(length = 20, change: Partial<Ipv4Record> = {}): Uint8Array {
  return composeFrame([ethernet(EtherType.IPV4), ipv4(IpProtocol.UDP, change), udp()], payloadOf(length));
}

/** Layers, and payload, of any sound frame: with tags, of both families, of all transports, and of neither. */
export const anyFrame: fc.Arbitrary<Uint8Array> = fc
  .record({
    tags: fc.array(fc.nat(0xfff), { maxLength: 2 }),
    network: fc.constantFrom('ipv4', 'ipv6', 'other'),
    transport: fc.constantFrom('tcp', 'udp', 'icmp'),
    ecn: fc.nat(3),
    ports: fc.tuple(fc.nat(0xffff), fc.nat(0xffff)),
    host: fc.nat(0xffff),
    payload: fc.uint8Array({ maxLength: 300 }),
  })
  .map(({ tags, network, transport, ecn, ports, host, payload }) => {
    const type = network === 'ipv4' ? EtherType.IPV4 : network === 'ipv6' ? EtherType.IPV6 : 0x88b5;
    const tagLayers = tags.map((vlanId, i) =>
      header(VlanTag, {
        priority: 0,
        dropEligible: false,
        vlanId,
        etherType: i === tags.length - 1 ? type : EtherType.VLAN,
      }),
    );
    const first = ethernet(tags.length > 0 ? EtherType.VLAN : type);
    if (network === 'other') return composeFrame([first, ...tagLayers], payload);
    const protocol = transport === 'tcp' ? IpProtocol.TCP : transport === 'udp' ? IpProtocol.UDP : IpProtocol.ICMPV4;
    const l4: HeaderLayer =
      transport === 'tcp'
        ? tcp(...ports)
        : transport === 'udp'
          ? udp(...ports)
          : header(Icmpv4, { kind: 'echo-request', code: 0, identifier: 1, sequence: 1 });
    const l3 =
      network === 'ipv4'
        ? ipv4(protocol, { ecn, source: `192.168.${host >>> 8}.${host & 0xff}` })
        : ipv6(protocol, { trafficClass: ecn, source: `fd00::${host.toString(16)}` });
    return composeFrame([first, ...tagLayers, l3, l4], payload);
  });

/** Whether all layers of a frame can be read and all its checksums are right. */
export function isSound(frame: Uint8Array): boolean {
  return describe(frame).every(
    ({ error, fields }) => error === undefined && ['good', 'none', undefined].includes(fields.checksumState as string),
  );
}
