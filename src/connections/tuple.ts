/**
 * A tuple: the two ends of one direction of a connection, in one zone. What a record holds twice, and what a packet is looked up by.
 * Its words lie as in a record (layout.ts): ports, source address, destination address.
 */
import { IpProtocol } from '../net/index.ts';
import { Kind, TUPLE_WORDS } from './layout.ts';

/** Places in {@link Tuple.words}. */
export const TupleWord = { PORTS: 0, SOURCE: 1, DESTINATION: 5 } as const;

/** Made once and filled again for each packet. */
export class Tuple {
  /** First word of the record of a connection with this tuple. */
  kind = 0;
  readonly words = new Int32Array(TUPLE_WORDS);

  get zone(): number {
    return this.kind >>> 16;
  }

  get protocol(): number {
    return (this.kind >>> 8) & 0xff;
  }

  get isIpv6(): boolean {
    return (this.kind & Kind.IPV6) !== 0;
  }

  /** Empty it for a protocol in a zone. */
  begin(zone: number, protocol: number, isIpv6: boolean): void {
    this.kind = kindOf(zone, protocol, isIpv6);
    this.words.fill(0);
  }

  copy(from: Tuple): void {
    this.kind = from.kind;
    for (let i = 0; i < TUPLE_WORDS; i += 1) this.words[i] = from.words[i];
  }

  /** Take a tuple out of a record. @param at its first word */
  read(kind: number, words: Int32Array, at: number): void {
    this.kind = kind;
    for (let i = 0; i < TUPLE_WORDS; i += 1) this.words[i] = words[at + i];
  }

  /** Whether the tuple stands in a record, for which the kind has been compared already. */
  isAt(words: Int32Array, at: number): boolean {
    const own = this.words;
    if (own[0] !== words[at] || own[1] !== words[at + 1] || own[5] !== words[at + 5]) return false;
    if ((this.kind & Kind.IPV6) === 0) return true;
    return (
      own[2] === words[at + 2] &&
      own[3] === words[at + 3] &&
      own[4] === words[at + 4] &&
      own[6] === words[at + 6] &&
      own[7] === words[at + 7] &&
      own[8] === words[at + 8]
    );
  }

  equals(other: Tuple): boolean {
    return this.kind === other.kind && this.isAt(other.words, 0);
  }

  /**
   * Make this the tuple of packets that answer those of another.
   * @returns false when packets of that kind have no answer, such as ICMP messages that are no queries
   */
  invert(of: Tuple): boolean {
    const ports = invertedPorts(of.protocol, of.isIpv6, of.words[0]);
    if (ports === NO_ANSWER) return false;
    this.kind = of.kind;
    const own = this.words;
    const words = of.words;
    own[0] = ports;
    for (let i = 1; i < 5; i += 1) {
      // Both are read before one is written: a tuple may be made the inverse of itself.
      const source = words[i];
      own[i] = words[i + 4];
      own[i + 4] = source;
    }
    return true;
  }

  /** Source port, or the identifier of ICMP; 0 for protocols without. */
  get sourcePort(): number {
    return this.words[0] >>> 16;
  }

  set sourcePort(port: number) {
    this.words[0] = (port << 16) | (this.words[0] & 0xffff);
  }

  /** Destination port; of ICMP type and code. */
  get destinationPort(): number {
    return this.words[0] & 0xffff;
  }

  set destinationPort(port: number) {
    this.words[0] = (this.words[0] & ~0xffff) | (port & 0xffff);
  }
}

/** The first word of the record of a connection. */
export function kindOf(zone: number, protocol: number, isIpv6: boolean): number {
  return (zone << 16) | (protocol << 8) | Kind.LIVE | (isIpv6 ? Kind.IPV6 : 0);
}

/** Whether the tuples of a protocol have ports. */
export function hasPorts(protocol: number): boolean {
  return protocol === IpProtocol.TCP || protocol === IpProtocol.UDP || protocol === IpProtocol.SCTP;
}

/** Whether a protocol is the ICMP of its IP version. */
export function isIcmp(protocol: number, isIpv6: boolean): boolean {
  return protocol === (isIpv6 ? IpProtocol.ICMPV6 : IpProtocol.ICMPV4);
}

/** No ports: a value that no ICMP message has, since an ICMP type 0xff with code 0xff is no query. */
const NO_ANSWER = -1;

function invertedPorts(protocol: number, isIpv6: boolean, ports: number): number {
  if (hasPorts(protocol)) return (ports << 16) | (ports >>> 16);
  if (!isIcmp(protocol, isIpv6)) return 0;
  const type = answerOf((ports >>> 8) & 0xff, isIpv6);
  return type === -1 ? NO_ANSWER : (ports & ~0xff00) | (type << 8);
}

/** The type of the ICMP message that answers one, or is answered by it: echo, time stamp, information and address mask; -1 for all others. */
function answerOf(type: number, isIpv6: boolean): number {
  if (isIpv6) {
    // Echo (RFC 4443) and node information (RFC 4620).
    return type === 128 || type === 139 ? type + 1 : type === 129 || type === 140 ? type - 1 : -1;
  }
  if (type === 8) return 0;
  if (type === 0) return 8;
  if (type === 13 || type === 15 || type === 17) return type + 1;
  return type === 14 || type === 16 || type === 18 ? type - 1 : -1;
}

/** Whether an ICMP message may begin a connection: a query. */
export function isIcmpQuery(type: number, isIpv6: boolean): boolean {
  return isIpv6 ? type === 128 || type === 139 : type === 8 || type === 13 || type === 15 || type === 17;
}
