/** For this room's tests only: frames between two ends, with right checksums. */
import {
  composeFrame,
  Ethernet,
  EtherType,
  type HeaderLayer,
  header,
  Icmpv4,
  Icmpv6,
  IpProtocol,
  Ipv4,
  Ipv6,
  Sctp,
  type SctpChunk,
  Tcp,
  TcpFlag,
  type TcpRecord,
  Udp,
} from '../../net/index.ts';

/** An address with a port, or with an identifier of ICMP. */
export interface End {
  readonly address: string;
  readonly port: number;
}

export function end(address: string, port = 0): End {
  return { address, port };
}

/** The headers up to IP; what version follows from the addresses. */
function under(from: string, to: string, protocol: number): HeaderLayer[] {
  const isIpv6 = from.includes(':');
  const ethernet = header(Ethernet, {
    destination: '02:00:00:00:00:02',
    source: '02:00:00:00:00:01',
    etherType: isIpv6 ? EtherType.IPV6 : EtherType.IPV4,
  });
  if (isIpv6) {
    const record = { trafficClass: 0, flowLabel: 0, payloadLength: 0, hopLimit: 64, source: from, destination: to };
    return [ethernet, header(Ipv6, { ...record, nextHeader: protocol })];
  }
  return [
    ethernet,
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
      source: from,
      destination: to,
      options: [],
    }),
  ];
}

const FLAGS = { F: TcpFlag.FIN, S: TcpFlag.SYN, R: TcpFlag.RST, P: TcpFlag.PSH, '.': TcpFlag.ACK, U: TcpFlag.URG };

/** A TCP segment. @param flags as tcpdump writes them: S, S., ., P., F., R */
export function tcp(
  from: End,
  to: End,
  flags: string,
  fields: Partial<TcpRecord> = {},
  payload: string | Uint8Array = '',
): Uint8Array {
  const bits = [...flags].reduce((sum, letter) => sum | FLAGS[letter as keyof typeof FLAGS], 0);
  const record: TcpRecord = {
    sourcePort: from.port,
    destinationPort: to.port,
    sequence: 0,
    acknowledgment: 0,
    flags: bits,
    window: 65_535,
    urgentPointer: 0,
    options: [],
    ...fields,
  };
  return composeFrame([...under(from.address, to.address, IpProtocol.TCP), header(Tcp, record)], bytesOf(payload));
}

export function udp(from: End, to: End, payload: string | Uint8Array = 'x'): Uint8Array {
  const record = { sourcePort: from.port, destinationPort: to.port, payloadLength: 0 };
  return composeFrame([...under(from.address, to.address, IpProtocol.UDP), header(Udp, record)], bytesOf(payload));
}

/** An echo request or its answer; the identifier is the port of the side that asks. */
export function echo(from: End, to: End, isAnswer = false): Uint8Array {
  const isIpv6 = from.address.includes(':');
  const identifier = isAnswer ? to.port : from.port;
  const record = { kind: isAnswer ? 'echo-reply' : 'echo-request', code: 0, identifier, sequence: 1 } as const;
  const layers = under(from.address, to.address, isIpv6 ? IpProtocol.ICMPV6 : IpProtocol.ICMPV4);
  return composeFrame([...layers, isIpv6 ? header(Icmpv6, record) : header(Icmpv4, record)], bytesOf('ping'));
}

/** "Destination unreachable" about a frame, from the router or host of an address. @param quotedBytes how much of its IP packet is quoted */
export function unreachable(from: string, to: string, about: Uint8Array, quotedBytes = 1000): Uint8Array {
  const isIpv6 = from.includes(':');
  const layers = under(from, to, isIpv6 ? IpProtocol.ICMPV6 : IpProtocol.ICMPV4);
  const quote = about.slice(14, 14 + quotedBytes);
  const record = { kind: 'unreachable', code: 3 } as const;
  return composeFrame([...layers, isIpv6 ? header(Icmpv6, record) : header(Icmpv4, { ...record, mtu: 0 })], quote);
}

/** A redirect of IPv4 about a frame, to another gateway. */
export function redirect(from: string, to: string, gateway: string, about: Uint8Array): Uint8Array {
  const record = { kind: 'redirect', code: 1, gateway } as const;
  return composeFrame([...under(from, to, IpProtocol.ICMPV4), header(Icmpv4, record)], about.slice(14));
}

/** The TCP segment or datagram of a frame of IPv4 behind an authentication header. */
export function authenticated(frame: Uint8Array, from: string, to: string): Uint8Array {
  const ah = new Uint8Array(24 + frame.length - 34);
  ah[0] = frame[23];
  // Its length is in words of four bytes, less two.
  ah[1] = 4;
  ah.set(frame.subarray(34), 24);
  return composeFrame(under(from, to, IpProtocol.AUTHENTICATION), ah);
}

export function sctp(from: End, to: End, verificationTag: number, chunks: SctpChunk[]): Uint8Array {
  const record = { sourcePort: from.port, destinationPort: to.port, verificationTag, chunks };
  return composeFrame([...under(from.address, to.address, IpProtocol.SCTP), header(Sctp, record)]);
}

/** A packet of a protocol without ports. */
export function generic(from: string, to: string, protocol: number): Uint8Array {
  return composeFrame(under(from, to, protocol), bytesOf('generic payload'));
}

function bytesOf(payload: string | Uint8Array): Uint8Array {
  return typeof payload === 'string' ? new TextEncoder().encode(payload) : payload;
}
