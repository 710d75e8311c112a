/**
 * The packet as deciders see it. Reading anything notes which bits were looked at: packets that agree in them get the same decision, and need not
 * be decided about again. A header that is not there, or cannot be read, is null. What a decision has set reads as it was set.
 * Neighbours: field.ts for addresses and ports, packet-state.ts below both.
 */
import { TAG_PRESENT, Word } from '../flow/index.ts';
import { EtherType, Fragment, IpProtocol, type PortId } from '../net/index.ts';
import { ConnectionView } from './connection.ts';
import { DecisionError, shown } from './errors.ts';
import { Field } from './field.ts';
import type { PacketState } from './packet-state.ts';
import { nicIn, portIn } from './port-number.ts';

const ALL = 0xffff_ffff;

/** Ethernet. */
export class EthernetView {
  readonly source: Field;
  readonly destination: Field;
  readonly #state: PacketState;

  constructor(state: PacketState) {
    this.#state = state;
    this.destination = new Field(state, 'mac', 'ethernet.destination', [
      { word: Word.MAC, bits: ALL },
      { word: Word.MAC + 1, bits: 0xffff_0000 },
    ]);
    this.source = new Field(state, 'mac', 'ethernet.source', [
      { word: Word.MAC + 1, bits: 0xffff },
      { word: Word.MAC + 2, bits: ALL },
    ]);
  }

  /** EtherType behind all tags; for frames with a length instead that of what SNAP names, or 5 (Open vSwitch's number) for what it does not. */
  get type(): number {
    return this.#state.etherType();
  }

  /** Whether the destination is a group, or everybody. Marks one bit. */
  get isMulticast(): boolean {
    this.#state.marks.note('ethernet.destination.group', 1, 1);
    return this.#state.look(Word.MAC, 0x0100_0000) !== 0;
  }
}

/** A VLAN tag. */
export class VlanView {
  readonly #state: PacketState;
  readonly #depth: number;

  constructor(state: PacketState, depth: number) {
    this.#state = state;
    this.#depth = depth;
  }

  /** 0 to 4095. */
  get id(): number {
    this.#state.marks.note('vlan.id', 12, 12);
    return this.#state.lookTag(this.#depth, 0xfff);
  }

  /** 802.1p, 0 to 7. */
  get priority(): number {
    this.#state.marks.note('vlan.priority', 3, 3);
    return this.#state.lookTag(this.#depth, 0xe000) >>> 13;
  }

  /** 0x8100 or 0x88a8. */
  get tpid(): number {
    this.#state.marks.note('vlan.tpid', 16, 16);
    return this.#state.lookTag(this.#depth, 0xffff_0000) >>> 16;
  }
}

/** Which part of a datagram a packet is. */
export type FragmentKind = 'none' | 'first' | 'later';

/** What IPv4 and IPv6 have in common. */
export class IpView {
  readonly source: Field;
  readonly destination: Field;
  readonly #state: PacketState;

  constructor(state: PacketState, kind: 'ipv4' | 'ipv6') {
    this.#state = state;
    const words = kind === 'ipv4' ? 1 : 4;
    const parts = (first: number) => Array.from({ length: words }, (_, i) => ({ word: first + i, bits: ALL }));
    const isIpv4 = kind === 'ipv4';
    this.source = new Field(state, kind, `${kind}.source`, parts(isIpv4 ? Word.IPV4_SOURCE : Word.IPV6_SOURCE));
    this.destination = new Field(
      state,
      kind,
      `${kind}.destination`,
      parts(isIpv4 ? Word.IPV4_DESTINATION : Word.IPV6_DESTINATION),
    );
  }

  /** IP protocol, behind the extension headers of IPv6. */
  get protocol(): number {
    return this.#state.protocol();
  }

  /** Differentiated services, 0 to 63. */
  get dscp(): number {
    return this.#number('ip.dscp', 0x00fc_0000, 6) >>> 18;
  }

  /** Explicit congestion notification, 0 to 3. */
  get ecn(): number {
    return this.#number('ip.ecn', 0x0003_0000, 2) >>> 16;
  }

  /** Time to live, or hop limit. A router asks the decision to decrement it, and need not read it. */
  get ttl(): number {
    return this.#number('ip.ttl', 0x0000_ff00, 8) >>> 8;
  }

  get fragment(): FragmentKind {
    const fragment = this.#number('ip.fragment', 3, 2);
    if (fragment === Fragment.NONE) return 'none';
    return fragment === Fragment.LATER ? 'later' : 'first';
  }

  #number(name: string, bits: number, width: number): number {
    this.#state.marks.note(name, width, width);
    return this.#state.look(Word.IP, bits);
  }
}

/** Ports of TCP, UDP and SCTP. */
export class PortsView {
  /** The source port, for questions that look at no more of it than they must. */
  readonly source: Field;
  /** The destination port, likewise. */
  readonly destination: Field;

  constructor(state: PacketState, protocol: string) {
    this.source = new Field(state, 'port', `${protocol}.source`, [{ word: Word.PORTS, bits: 0xffff_0000 }]);
    this.destination = new Field(state, 'port', `${protocol}.destination`, [{ word: Word.PORTS, bits: 0xffff }]);
  }

  /** The source port as a number. Looks at all of it. */
  get sourcePort(): number {
    return this.source.number;
  }

  /** The destination port as a number. Looks at all of it. */
  get destinationPort(): number {
    return this.destination.number;
  }
}

/** TCP. */
export class TcpView extends PortsView {
  readonly #state: PacketState;

  constructor(state: PacketState) {
    super(state, 'tcp');
    this.#state = state;
  }

  /** The flags, 12 bits: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32 and on. Every combination is a flow of its own: see {@link hasFlags}. */
  get flags(): number {
    return this.hasFlags(0xfff);
  }

  /** Those of some flags that are set. Looks at these alone. @param flags bits as in {@link flags} */
  hasFlags(flags: number): number {
    if (!(Number.isInteger(flags) && flags >= 0 && flags <= 0xfff))
      throw new DecisionError(`${shown(flags)} are no TCP flags: they are bits from 0 to 0xfff`);
    this.#state.marks.note(`tcp.flags/${flags.toString(16)}`, 12, 12);
    return this.#state.look(Word.TCP_FLAGS, (flags & 0xfff) << 16) >>> 16;
  }
}

/** ICMP and ICMPv6. */
export class IcmpView {
  readonly #state: PacketState;

  constructor(state: PacketState) {
    this.#state = state;
  }

  get type(): number {
    this.#state.marks.note('icmp.type', 8, 8);
    return this.#state.look(Word.PORTS, 0xffff_0000) >>> 16;
  }

  get code(): number {
    this.#state.marks.note('icmp.code', 8, 8);
    return this.#state.look(Word.PORTS, 0xffff);
  }
}

/** ARP for IPv4 over Ethernet. */
export class ArpView {
  readonly senderAddress: Field;
  readonly targetAddress: Field;
  readonly senderMac: Field;
  readonly targetMac: Field;
  readonly #state: PacketState;

  constructor(state: PacketState) {
    this.#state = state;
    this.senderAddress = new Field(state, 'ipv4', 'arp.senderAddress', [{ word: Word.IPV4_SOURCE, bits: ALL }]);
    this.targetAddress = new Field(state, 'ipv4', 'arp.targetAddress', [{ word: Word.IPV4_DESTINATION, bits: ALL }]);
    this.senderMac = new Field(state, 'mac', 'arp.senderMac', [
      { word: Word.ARP_MAC, bits: ALL },
      { word: Word.ARP_MAC + 1, bits: 0xffff_0000 },
    ]);
    this.targetMac = new Field(state, 'mac', 'arp.targetMac', [
      { word: Word.ARP_MAC + 1, bits: 0xffff },
      { word: Word.ARP_MAC + 2, bits: ALL },
    ]);
  }

  /** 1 for a request, 2 for a reply. */
  get operation(): number {
    this.#state.marks.note('arp.operation', 8, 8);
    return this.#state.look(Word.IP, 0xff00_0000) >>> 24;
  }
}

/** A packet. It is good for the decision that it is handed to, and not beyond. */
export class PacketView {
  readonly ethernet: EthernetView;
  readonly #state: PacketState;
  readonly #vlan: VlanView;
  readonly #innerVlan: VlanView;
  readonly #ipv4: IpView;
  readonly #ipv6: IpView;
  readonly #arp: ArpView;
  readonly #tcp: TcpView;
  readonly #udp: PortsView;
  readonly #sctp: PortsView;
  readonly #icmp: IcmpView;
  readonly #connection: ConnectionView;
  #frame: (() => Uint8Array) | null = null;

  /** Internal: decisions make it. */
  constructor(state: PacketState) {
    this.#state = state;
    this.ethernet = new EthernetView(state);
    this.#vlan = new VlanView(state, 0);
    this.#innerVlan = new VlanView(state, 1);
    this.#ipv4 = new IpView(state, 'ipv4');
    this.#ipv6 = new IpView(state, 'ipv6');
    this.#arp = new ArpView(state);
    this.#tcp = new TcpView(state);
    this.#udp = new PortsView(state, 'udp');
    this.#sctp = new PortsView(state, 'sctp');
    this.#icmp = new IcmpView(state);
    this.#connection = new ConnectionView(state);
  }

  /** Internal: another packet; `frame` gives its bytes, null when it has none. */
  begin(frame: (() => Uint8Array) | null): void {
    this.#frame = frame;
  }

  /** The number of the port that it came in by. */
  get inPort(): PortId {
    this.#state.marks.note('inPort', 32, 32);
    return portIn(this.#state.lookAtPort());
  }

  /** The index of the NIC behind that port which it came from: 0, but for a port that has several. */
  get inNic(): number {
    return nicIn(this.#state.lookAtPort());
  }

  /** The outermost VLAN tag. Of the tags of a frame two are seen; {@link EthernetView.type} is then that of a third. */
  get vlan(): VlanView | null {
    return this.#state.hasTag(0) ? this.#vlan : null;
  }

  /** The tag behind the outermost. */
  get innerVlan(): VlanView | null {
    return this.#state.hasTag(0) && this.#state.hasTag(1) ? this.#innerVlan : null;
  }

  get ipv4(): IpView | null {
    return this.#state.isNetwork(EtherType.IPV4) ? this.#ipv4 : null;
  }

  get ipv6(): IpView | null {
    return this.#state.isNetwork(EtherType.IPV6) ? this.#ipv6 : null;
  }

  /** IPv4 or IPv6, whichever it is. */
  get ip(): IpView | null {
    return this.ipv4 ?? this.ipv6;
  }

  get arp(): ArpView | null {
    return this.#state.isNetwork(EtherType.ARP) ? this.#arp : null;
  }

  /** Null for later fragments, which have no transport header; likewise below. */
  get tcp(): TcpView | null {
    return this.#state.isTransport(IpProtocol.TCP) ? this.#tcp : null;
  }

  get udp(): PortsView | null {
    return this.#state.isTransport(IpProtocol.UDP) ? this.#udp : null;
  }

  get sctp(): PortsView | null {
    return this.#state.isTransport(IpProtocol.SCTP) ? this.#sctp : null;
  }

  get icmp(): IcmpView | null {
    return this.#state.isIcmp(EtherType.IPV4) ? this.#icmp : null;
  }

  get icmpv6(): IcmpView | null {
    return this.#state.isIcmp(EtherType.IPV6) ? this.#icmp : null;
  }

  /**
   * What is known of its connection. Null for what is not IP, for a packet whose IP header cannot be read, and where nobody has packets tracked
   * (`handle.trackConnections`). Looks at the EtherType, and of the connection at what is read.
   */
  get connection(): ConnectionView | null {
    if (!this.#state.isIp()) return null;
    if (this.#connection.isTracked) return this.#connection;
    this.#state.onUntracked();
    return null;
  }

  /**
   * A hash of the connection: addresses, protocol and ports, where there are any, else MAC addresses. Ports of fragments do not count, as later ones
   * have none and are to stay with the first. The same in every process. Looks at all of them.
   * @param symmetric the same for both directions of a connection
   * @returns 32 bits
   */
  flowHash({ symmetric = false }: { readonly symmetric?: boolean } = {}): number {
    const { ip } = this;
    const ends = ip ?? this.ethernet;
    const ports = ip === null || ip.fragment !== 'none' ? null : (this.tcp ?? this.udp ?? this.sctp);
    const source = ports === null ? [ends.source] : [ends.source, ports.source];
    const destination = ports === null ? [ends.destination] : [ends.destination, ports.destination];
    const start = ip === null ? 0 : ip.protocol;
    let hash: number;
    if (symmetric) hash = hashFields(source, start) + hashFields(destination, start);
    else hash = hashFields(destination, hashFields(source, start));
    hash = Math.imul(hash, 0x85eb_ca6b);
    return (hash ^ (hash >>> 13)) >>> 0;
  }

  /**
   * The bytes of the frame, as it came. A decision that has asked for them is one for this packet alone, as if it had said `everyPacket`.
   * Empty while no frame is at hand, as when what was decided before a restart is decided again.
   */
  get bytes(): Uint8Array {
    this.#state.onBeyondFlows('it looks at raw bytes');
    return this.#frame?.() ?? new Uint8Array(0);
  }
}

/** Mix fields, whole, into a hash. */
function hashFields(fields: readonly Field[], start: number): number {
  let hash = start;
  for (const field of fields) {
    field.mark(field.width);
    const words = field.peek();
    for (let i = 0; i << 5 < field.width; i += 1) {
      hash = Math.imul(hash ^ words[i], 0x9e37_79b1);
      hash ^= hash >>> 15;
    }
  }
  return hash;
}

/** TAG_PRESENT and the TCI of a tag that is pushed. */
export function tagValue(tpid: number, id: number, priority: number): number {
  return (tpid << 16) | (priority << 13) | TAG_PRESENT | id;
}
