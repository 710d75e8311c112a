/**
 * Judges packets as deciders see them: fills in the words that rules test from the packet's view, has the table walk its rules, and marks the bits that made
 * it so. Some packets differ in what rules see though they are one to a flow; these are judged by their bytes, each by itself.
 * Neighbours: rule-table.ts walks, extension.ts says what follows.
 */
import {
  EtherType,
  Field as FieldIndex,
  Fragment,
  IpProtocol,
  NetworkShape,
  shapeOf,
  TransportShape,
} from '../../net/index.ts';
import type { Field, PacketView, PortsView } from '../../switch/index.ts';
import { Fact, stateBit } from './rule.ts';
import { Judgement, type RuleTable } from './rule-table.ts';

type Ip = NonNullable<PacketView['ip']>;

/** Says in which VLAN the switch holds a packet. */
export type VlanOf = (packet: PacketView) => number;

const FRAGMENTS: Readonly<Record<Ip['fragment'], number>> = {
  none: Fragment.NONE,
  first: Fragment.FIRST,
  later: Fragment.LATER,
};

const MANY_TAGS = 'rules look behind more VLAN tags than flows hold, or at an 802.3 frame';
const EXTENSIONS = 'rules look behind IPv6 extension headers that are cut off';
const AUTHENTICATED = 'rules look behind an authentication header';
const FRAGMENT = 'rules tell fragments from packets that are yet to be cut';
const LATER = 'rules look at the protocol of later IPv6 fragments';
const CUT = 'rules look at a transport header that is cut off';

export class Judge extends Judgement {
  readonly #vlanOf: VlanOf;
  /** Views of the packet's headers, for marks: null where it has none. */
  #ip: Ip | null = null;
  #ports: PortsView | null = null;

  constructor(vlanOf: VlanOf) {
    super();
    this.#vlanOf = vlanOf;
  }

  /**
   * Judge a packet: `matched` and `decided` say what rules do.
   * @param onlyThis told why the answer is for this packet alone, before it is looked at closely
   */
  ask(
    table: RuleTable,
    packet: PacketView,
    direction: 0 | 1,
    portId: number,
    onlyThis: (reason: string) => void,
  ): void {
    const facts = table.factsOf(direction, portId);
    const { words } = this;
    if ((facts & Fact.VLAN) !== 0) words[FieldIndex.VLAN] = this.#vlanOf(packet);
    if ((facts & Fact.STATE) !== 0) words[FieldIndex.CONNECTION] = stateBit(packet.connection?.state ?? null);
    const reason = this.#read(packet, facts, table.flags[direction]);
    if (reason !== null) {
      onlyThis(reason);
      const { bytes } = packet;
      this.readBytes(bytes, 0, bytes.length, table.needs[direction], words[FieldIndex.VLAN]);
    }
    table.judge(this, direction, portId);
    if (reason === null) this.#mark(packet);
  }

  /** Fill in what rules may test. Marks what the kind of the packet rests on. @returns why a flow does not tell enough; null when it does */
  #read(packet: PacketView, facts: number, flags: number): string | null {
    this.#ip = null;
    this.#ports = null;
    this.shape = 0;
    if ((facts & Fact.MAC) !== 0) {
      this.#fill(FieldIndex.DESTINATION_MAC, packet.ethernet.destination);
      this.#fill(FieldIndex.SOURCE_MAC, packet.ethernet.source);
    }
    if ((facts & (Fact.ETHER_TYPE | Fact.IPV4 | Fact.IPV6)) === 0) return null;
    const { type } = packet.ethernet;
    this.words[FieldIndex.ETHER_TYPE] = type;
    if (type === EtherType.VLAN || type === EtherType.SERVICE_VLAN || type === EtherType.LLC) return MANY_TAGS;
    if (type === EtherType.IPV4 && (facts & Fact.IPV4) !== 0)
      return this.#readIp(packet, packet.ipv4, NetworkShape.IPV4, facts, (facts & Fact.TRANSPORT4) !== 0, flags);
    if (type !== EtherType.IPV6 || (facts & Fact.IPV6) === 0) return null;
    // Of a header that cannot be read the addresses may be there.
    if (packet.ipv6 === null) return EXTENSIONS;
    return this.#readIp(packet, packet.ipv6, NetworkShape.IPV6, facts, (facts & Fact.TRANSPORT6) !== 0, flags);
  }

  #readIp(
    packet: PacketView,
    ip: Ip | null,
    network: number,
    facts: number,
    looksAtTransport: boolean,
    flags: number,
  ): string | null {
    // A header that cannot be read is none.
    if (ip === null) return null;
    this.#ip = ip;
    if ((facts & Fact.ADDRESSES) !== 0) {
      this.#fill(FieldIndex.SOURCE_IP, ip.source);
      this.#fill(FieldIndex.DESTINATION_IP, ip.destination);
    }
    if ((facts & Fact.FRAGMENT) !== 0) {
      const { fragment } = ip;
      if (fragment === 'first') return FRAGMENT;
      this.words[FieldIndex.FRAGMENT] = FRAGMENTS[fragment];
    }
    this.shape = shapeOf(network, TransportShape.UNKNOWN);
    return looksAtTransport ? this.#readTransport(packet, ip, network, facts, flags) : null;
  }

  #readTransport(packet: PacketView, ip: Ip, network: number, facts: number, flags: number): string | null {
    const { protocol } = ip;
    const { words } = this;
    words[FieldIndex.PROTOCOL] = protocol;
    switch (protocol) {
      case IpProtocol.TCP: {
        const { tcp } = packet;
        if (tcp !== null && (facts & Fact.TCP_FLAGS) !== 0) words[FieldIndex.TCP_FLAGS] = tcp.hasFlags(flags);
        return this.#readPorts(tcp, ip, network, TransportShape.TCP);
      }
      case IpProtocol.UDP:
        return this.#readPorts(packet.udp, ip, network, TransportShape.UDP);
      case IpProtocol.SCTP:
        return this.#readPorts(packet.sctp, ip, network, TransportShape.SCTP);
      case IpProtocol.ICMPV4:
      case IpProtocol.ICMPV6:
        return this.#readIcmp(packet, ip, network, facts);
      case IpProtocol.AUTHENTICATION:
        // Over IPv6 it is stepped over.
        return AUTHENTICATED;
      case IpProtocol.FRAGMENT:
        return LATER;
      default:
        this.shape = shapeOf(network, TransportShape.PROTOCOL);
        return null;
    }
  }

  #readPorts(ports: PortsView | null, ip: Ip, network: number, transport: number): string | null {
    if (ports === null) {
      this.shape = shapeOf(network, TransportShape.PROTOCOL);
      // The ports of a first fragment are there though the rest of the header is not.
      return ip.fragment === 'first' ? CUT : null;
    }
    this.#ports = ports;
    this.words[FieldIndex.SOURCE_PORT] = ports.source.peek()[0] >>> 16;
    this.words[FieldIndex.DESTINATION_PORT] = ports.destination.peek()[0] >>> 16;
    this.shape = shapeOf(network, transport);
    return null;
  }

  #readIcmp(packet: PacketView, ip: Ip, network: number, facts: number): string | null {
    const isOwn = (ip.protocol === IpProtocol.ICMPV4) === (network === NetworkShape.IPV4);
    this.shape = shapeOf(network, isOwn ? TransportShape.ICMP : TransportShape.PROTOCOL);
    if (!isOwn) return null;
    const icmp = packet.icmp ?? packet.icmpv6;
    if (icmp !== null) {
      if ((facts & Fact.ICMP) !== 0) this.words[FieldIndex.ICMP_TYPE] = icmp.type;
      return null;
    }
    if (ip.fragment !== 'later') return CUT;
    this.shape = shapeOf(network, TransportShape.PROTOCOL);
    return null;
  }

  /** The value of a field, which marks nothing. */
  #fill(at: number, field: Field): void {
    const value = field.peek();
    if (field.kind === 'mac') {
      this.words[at] = value[0];
      this.words[at + 1] = value[1] >>> 16;
    } else for (let i = 0; i << 5 < field.width; i += 1) this.words[at + i] = value[i];
  }

  /** Mark what the walk has looked at. What the kind of packet rests on is marked already. */
  #mark(packet: PacketView): void {
    const { looked } = this;
    markBits(packet.ethernet.destination, looked, FieldIndex.DESTINATION_MAC, 2);
    markBits(packet.ethernet.source, looked, FieldIndex.SOURCE_MAC, 2);
    if (this.#ip !== null) {
      markBits(this.#ip.source, looked, FieldIndex.SOURCE_IP, 4);
      markBits(this.#ip.destination, looked, FieldIndex.DESTINATION_IP, 4);
    }
    if (this.#ports === null) return;
    markBits(this.#ports.source, looked, FieldIndex.SOURCE_PORT, 1);
    markBits(this.#ports.destination, looked, FieldIndex.DESTINATION_PORT, 1);
  }
}

/** Mark a field up to the last of some bits, which are in the low half of its last word where the field ends with half a word. */
function markBits(field: Field, looked: Int32Array, at: number, words: number): void {
  for (let i = words - 1; i >= 0; i -= 1) {
    const bits = looked[at + i];
    if (bits === 0) continue;
    const last = 31 - Math.clz32(bits & -bits);
    const isHalf = (field.width & 31) !== 0 && i === field.width >> 5;
    field.mark((i << 5) + (isHalf ? 16 : 32) - last);
    return;
  }
}
