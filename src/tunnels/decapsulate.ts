/**
 * Decapsulation: an outer frame becomes the packet inside, in place, and the words of its key say which tunnel it came by. Everything is checked before anything is
 * changed. Whether the outer destination is an address of this machine is the caller's to know; where STT's segments are put together, see stt/receiver.ts.
 *
 * What is refused and what is let pass follows Linux (drivers/net/vxlan, drivers/net/geneve.c, net/ipv4/gre_demux.c): reserved bits of VXLAN have to be 0, those of Geneve and
 * GRE may be anything.
 */
import { TunnelFlag, TunnelOptions } from '../flow/index.ts';
import {
  Checksum,
  ETHERNET_BYTES,
  EtherType,
  Fragment,
  GeneveView,
  GreView,
  Gso,
  HeaderOffsets,
  IpProtocol,
  internetChecksum,
  Malformed,
  type Packet,
  pseudoHeaderSum4,
  pseudoHeaderSum6,
  VxlanView,
} from '../net/index.ts';
import { geneveOptionsFlaw } from './geneve-options.ts';
import { TunnelWord } from './key.ts';
import { fillOuter, isDontFragment, joinEcn, outerTos } from './outer-fields.ts';
import { isSummable, sumTunnelled } from './partial-sum.ts';
import { isLayer3Payload } from './payload.ts';
import { TunnelKind, type TunnelPort, type TunnelPorts } from './port.ts';
import { TunnelResult } from './result.ts';
import type { SttReceiver } from './stt/receiver.ts';

const UDP_BYTES = 8;
const UDP_CHECKSUM = 6;
const VXLAN_BYTES = 8;
const GENEVE_BYTES = 8;
const GRE_BYTES = 4;

/** First word of a VXLAN header: the I flag and no other. */
const VXLAN_PLAIN = 0x0800_0000;
/** Of group policy: that there is one; and the bits of the word that flow/ keeps: don't learn, policy applied, group. */
const VXLAN_POLICY = 0x8000_0000;
const VXLAN_POLICY_KEPT = 0x0048_ffff;
/** All bits but those that group policy may have. */
const VXLAN_POLICY_FIXED = 0x7f00_0000;

/** Decapsulates packets, one after the other. */
export class Decapsulator {
  /** The tunnel that the last packet was for, also when it was refused; null when it was for none. */
  port: TunnelPort | null = null;
  /** EtherType of the packet that came out when it has no Ethernet header, else 0. */
  l3Type = 0;
  /** After DONE: the packet that came out when it is another than the one that was handed in, with one reference that is the caller's (STT). */
  whole: Packet | null = null;

  readonly #ports: TunnelPorts;
  readonly #stt: SttReceiver | null;
  readonly #outer = new HeaderOffsets();
  readonly #vxlan = new VxlanView();
  readonly #geneve = new GeneveView();
  readonly #gre = new GreView();

  /** What the tunnel's header says, for {@link #fill}: it is written when all is checked. */
  #id = 0;
  #flags = 0;
  #optionsKind = 0;
  #optionsAt = 0;
  #optionsBytes = 0;
  /** Group policy of VXLAN. */
  #policy = 0;
  /** Where the packet inside begins, an index. */
  #payload = 0;
  /** EtherType of what is inside. */
  #protocol = 0;

  /**
   * @param ports the tunnels that exist
   * @param stt who puts segments of STT together; without it packets of STT are {@link TunnelResult.NOT_TUNNELLED}
   */
  constructor(ports: TunnelPorts, stt: SttReceiver | null = null) {
    this.#ports = ports;
    this.#stt = stt;
  }

  /**
   * Take the outer headers off a frame. Its bytes must be nobody else's, as a mark of congestion is written into the header inside.
   * @param words gets the tunnel part of the key (key.ts), 0 so far from `at` on. Nothing is written but for DONE
   * @returns one of {@link TunnelResult}; for all but DONE and WAITING the packet is as it was
   */
  decapsulate(packet: Packet, words: Uint32Array, at = 0): number {
    const outer = this.#outer;
    this.port = null;
    this.l3Type = 0;
    this.whole = null;
    outer.parse(packet);
    // A tag, or a SNAP header: a frame of another link than the one that was asked about.
    if (outer.ipVersion === 0 || outer.l3Offset !== ETHERNET_BYTES) return TunnelResult.NOT_TUNNELLED;
    // Routes and signatures are the host's to follow and to check.
    if (outer.routingOffset !== -1 || outer.authenticationOffset !== -1) return TunnelResult.NOT_TUNNELLED;
    if (outer.fragment !== Fragment.NONE) return this.#ofFragment();
    const port = this.#portOf(packet);
    if (port === null) return TunnelResult.NOT_TUNNELLED;
    this.port = port;
    const flaw = this.#outerFlaw(packet);
    if (flaw !== TunnelResult.DONE) return flaw;
    if (port.kind === TunnelKind.STT) return this.#decapsulateStt(packet, words, at);
    const l4 = packet.offset + outer.l4Offset;
    const isGre = port.kind === TunnelKind.GRE;
    const end = isGre ? packet.offset + outer.l3End : l4 + packet.region.view.getUint16(l4 + 4);
    const unread = this.#read(packet, port, l4, end);
    if (unread !== TunnelResult.DONE) return unread;
    const unfit = this.#payloadFlaw(port, end);
    if (unfit !== TunnelResult.DONE) return unfit;
    const offloads = this.#offloadsFlaw(packet, end);
    if (offloads !== TunnelResult.DONE) return offloads;
    const sum = this.#checkSum(packet, isGre, l4, end);
    if (sum !== TunnelResult.DONE) return sum;
    if (!joinEcn(packet, this.#payload, end, this.l3Type, outerTos(packet, outer))) return TunnelResult.CONGESTION;
    this.#fill(packet, words, at);
    takeOff(packet, outer.l4Offset, this.#payload, end);
    return TunnelResult.DONE;
  }

  /** A first fragment tells its ports, later ones do not. */
  #ofFragment(): number {
    const outer = this.#outer;
    const ports = this.#ports;
    const isFirst = outer.fragment === Fragment.FIRST && outer.destinationPort !== 0;
    let may = false;
    if (outer.ipProtocol === IpProtocol.UDP) may = isFirst ? ports.udp(outer.destinationPort) !== null : ports.hasUdp;
    else if (outer.ipProtocol === IpProtocol.TCP)
      may = isFirst ? ports.tcp(outer.destinationPort) !== null : ports.hasTcp;
    else if (outer.ipProtocol === IpProtocol.GRE) may = ports.gre !== null;
    return may ? TunnelResult.FRAGMENT : TunnelResult.NOT_TUNNELLED;
  }

  #portOf(packet: Packet): TunnelPort | null {
    const outer = this.#outer;
    const ports = this.#ports;
    if (outer.ipProtocol === IpProtocol.GRE) return ports.gre;
    if (outer.ipProtocol !== IpProtocol.UDP && (outer.ipProtocol !== IpProtocol.TCP || this.#stt === null)) return null;
    let destination = outer.destinationPort;
    // Lengths that lie leave the ports unread: whose drop it is follows from the port all the same.
    if (outer.malformed !== Malformed.NOTHING) {
      if (outer.l3End - outer.l4Offset < 4) return null;
      destination = packet.region.view.getUint16(packet.offset + outer.l4Offset + 2);
    }
    return outer.ipProtocol === IpProtocol.UDP ? ports.udp(destination) : ports.tcp(destination);
  }

  /** What is wrong with the outer IP header and the transport's lengths. */
  #outerFlaw(packet: Packet): number {
    const outer = this.#outer;
    if (outer.malformed !== Malformed.NOTHING) return TunnelResult.BAD_LENGTH;
    const ip = packet.offset + outer.l3Offset;
    if (outer.ipVersion === 4) {
      const source = packet.region.view.getUint32(ip + 12);
      if (source === 0 || source >= 0xe000_0000) return TunnelResult.BAD_SOURCE;
      const isGood = internetChecksum(packet.bytes, ip, (packet.bytes[ip] & 15) << 2) === 0;
      return isGood ? TunnelResult.DONE : TunnelResult.BAD_CHECKSUM;
    }
    if (packet.bytes[ip + 8] === 0xff) return TunnelResult.BAD_SOURCE;
    let any = 0;
    for (let i = 8; i < 24; i += 1) any |= packet.bytes[ip + i];
    return any === 0 ? TunnelResult.BAD_SOURCE : TunnelResult.DONE;
  }

  /** Read the tunnel's own header. @param l4 the outer UDP or GRE header @param end one behind what it carries */
  #read(packet: Packet, port: TunnelPort, l4: number, end: number): number {
    this.#optionsKind = TunnelOptions.NONE;
    this.#optionsBytes = 0;
    switch (port.kind) {
      case TunnelKind.VXLAN:
        return this.#readVxlan(packet, port, l4 + UDP_BYTES, end);
      case TunnelKind.GENEVE:
        return this.#readGeneve(packet, port, l4 + UDP_BYTES, end);
      default:
        return this.#readGre(packet, l4, end);
    }
  }

  #readVxlan(packet: Packet, port: TunnelPort, at: number, end: number): number {
    const header = this.#vxlan;
    if (end - at < VXLAN_BYTES) return TunnelResult.BAD_LENGTH;
    if (!header.over(packet.bytes, at, end)) return TunnelResult.BAD_FLAGS;
    const word = packet.region.view.getUint32(at);
    const isRight = port.groupPolicy ? (word & VXLAN_POLICY_FIXED) === VXLAN_PLAIN : word === VXLAN_PLAIN;
    if (!isRight || packet.bytes[at + VXLAN_BYTES - 1] !== 0) return TunnelResult.BAD_FLAGS;
    if ((word & VXLAN_POLICY) !== 0) {
      this.#optionsKind = TunnelOptions.VXLAN_GBP;
      this.#optionsBytes = 4;
      this.#policy = word & VXLAN_POLICY_KEPT;
    }
    this.#id = header.vni;
    this.#flags = TunnelFlag.KEY;
    this.#protocol = EtherType.TRANSPARENT_ETHERNET;
    this.#payload = header.payloadOffset;
    return TunnelResult.DONE;
  }

  #readGeneve(packet: Packet, port: TunnelPort, at: number, end: number): number {
    const header = this.#geneve;
    if (end - at < GENEVE_BYTES) return TunnelResult.BAD_LENGTH;
    if (!header.over(packet.bytes, at, end)) {
      return packet.bytes[at] >>> 6 === 0 ? TunnelResult.BAD_LENGTH : TunnelResult.BAD_FLAGS;
    }
    const length = header.headerLength - GENEVE_BYTES;
    if (length > 0) {
      const flaw = geneveOptionsFlaw(packet.region.view, header.optionsOffset, length, port.criticalOptions);
      if (flaw !== TunnelResult.DONE) return flaw;
      this.#optionsKind = TunnelOptions.GENEVE;
      this.#optionsAt = header.optionsOffset;
      this.#optionsBytes = length;
    }
    this.#id = header.vni;
    this.#flags = TunnelFlag.KEY | (header.isControl ? TunnelFlag.OAM : 0);
    this.#protocol = header.protocol;
    this.#payload = header.payloadOffset;
    return TunnelResult.DONE;
  }

  #readGre(packet: Packet, at: number, end: number): number {
    const header = this.#gre;
    if (end - at < GRE_BYTES) return TunnelResult.BAD_LENGTH;
    if (!header.over(packet.bytes, at, end)) {
      // Version and source route are told by the flags; all else that can be wrong is a length.
      return (packet.region.view.getUint16(at) & 0x4007) === 0 ? TunnelResult.BAD_LENGTH : TunnelResult.BAD_FLAGS;
    }
    this.#id = header.hasKey ? header.key : 0;
    this.#flags = (header.hasKey ? TunnelFlag.KEY : 0) | (header.hasChecksum ? TunnelFlag.CHECKSUM : 0);
    this.#protocol = header.protocol;
    this.#payload = header.payloadOffset;
    return TunnelResult.DONE;
  }

  /** Whether the tunnel carries what is inside, and there is a beginning of it. */
  #payloadFlaw(port: TunnelPort, end: number): number {
    const length = end - this.#payload;
    if (this.#protocol === EtherType.TRANSPARENT_ETHERNET) {
      return length < ETHERNET_BYTES ? TunnelResult.BAD_LENGTH : TunnelResult.DONE;
    }
    if (!port.layer3 || !isLayer3Payload(this.#protocol)) return TunnelResult.UNKNOWN_PROTOCOL;
    this.l3Type = this.#protocol;
    return length === 0 ? TunnelResult.BAD_LENGTH : TunnelResult.DONE;
  }

  /** What is said beside the packet has to be about the outer transport header, or about what is inside. */
  #offloadsFlaw(packet: Packet, end: number): number {
    const kind = packet.gsoType & ~Gso.ECN;
    const isTcp = kind === Gso.TCPV4 || kind === Gso.TCPV6;
    if (kind !== Gso.NONE && !isTcp && kind !== Gso.UDP && kind !== Gso.UDP_L4) return TunnelResult.BAD_OFFLOAD;
    if (packet.checksum !== Checksum.PARTIAL)
      return kind === Gso.UDP_L4 ? TunnelResult.SEGMENT_FIRST : TunnelResult.DONE;
    const start = packet.checksumStart;
    if (start === this.#outer.l4Offset) {
      if (kind === Gso.UDP_L4) return TunnelResult.SEGMENT_FIRST;
      return isTcp ? TunnelResult.BAD_OFFLOAD : TunnelResult.DONE;
    }
    const isInside = packet.offset + start >= this.#payload && packet.offset + start + packet.checksumOffset + 2 <= end;
    return isInside && start >>> 0 === start ? TunnelResult.DONE : TunnelResult.BAD_OFFLOAD;
  }

  /**
   * Note whether there is an outer checksum, and check it where nobody vouches for it. Super-packets have not been on a wire: their outer checksum is made when they
   * are cut.
   */
  #checkSum(packet: Packet, isGre: boolean, l4: number, end: number): number {
    const outer = this.#outer;
    if (!isGre && packet.region.view.getUint16(l4 + UDP_CHECKSUM) !== 0) this.#flags |= TunnelFlag.CHECKSUM;
    if ((this.#flags & TunnelFlag.CHECKSUM) === 0) return TunnelResult.DONE;
    const isPartial = packet.checksum === Checksum.PARTIAL && packet.checksumStart === outer.l4Offset;
    const isVouchedFor = isPartial || packet.checksum === Checksum.VALID || packet.gsoType !== Gso.NONE;
    if (isVouchedFor || !isSummable(packet)) return TunnelResult.DONE;
    let pseudo = 0;
    if (!isGre) {
      const ip = packet.offset + outer.l3Offset;
      const length = end - l4;
      pseudo =
        outer.ipVersion === 4
          ? pseudoHeaderSum4(packet.bytes, ip + 12, IpProtocol.UDP, length)
          : pseudoHeaderSum6(packet.bytes, ip + 8, IpProtocol.UDP, length);
    }
    return sumTunnelled(packet, l4, end, pseudo) === 0xffff ? TunnelResult.DONE : TunnelResult.BAD_CHECKSUM;
  }

  /** Write the key's words; the outer headers are still there. */
  #fill(packet: Packet, words: Uint32Array, at: number): void {
    const outer = this.#outer;
    const { view } = packet.region;
    words[at + TunnelWord.ID] = this.#id;
    fillOuter(packet, outer, outerTos(packet, outer), words, at, this.#optionsKind);
    const dontFragment = isDontFragment(packet, outer) ? TunnelFlag.DONT_FRAGMENT : 0;
    words[at + TunnelWord.FLAGS] = ((this.#flags | dontFragment) << 16) | (this.#optionsBytes << 8);
    if (outer.ipProtocol === IpProtocol.UDP) {
      words[at + TunnelWord.PORTS] = view.getUint32(packet.offset + outer.l4Offset);
    }
    if (this.#optionsKind === TunnelOptions.VXLAN_GBP) {
      words[at + TunnelWord.OPTIONS] = this.#policy;
    } else {
      for (let i = 0; i < this.#optionsBytes; i += 4) {
        words[at + TunnelWord.OPTIONS + (i >>> 2)] = view.getUint32(this.#optionsAt + i);
      }
    }
  }

  #decapsulateStt(packet: Packet, words: Uint32Array, at: number): number {
    const stt = this.#stt;
    if (stt === null) return TunnelResult.NOT_TUNNELLED;
    const result = stt.receive(packet, this.#outer, words, at);
    this.whole = stt.whole;
    return result;
  }
}

/** Move the packet's start and end to those of the packet inside; what is said beside it moves along, or ends with the outer header that it is about. */
function takeOff(packet: Packet, l4Offset: number, payload: number, end: number): void {
  const strip = payload - packet.offset;
  packet.offset = payload;
  packet.length = end - payload;
  if (packet.checksum === Checksum.PARTIAL && packet.checksumStart !== l4Offset) {
    packet.checksumStart -= strip;
  } else {
    packet.checksum = Checksum.UNKNOWN;
    packet.checksumStart = 0;
    packet.checksumOffset = 0;
    // One datagram that was to become fragments is whole now.
    if (packet.gsoType === Gso.UDP) packet.gsoType = Gso.NONE;
  }
  packet.headerLengthBytes = packet.gsoType === Gso.NONE ? 0 : Math.max(0, packet.headerLengthBytes - strip);
  if (packet.gsoType === Gso.NONE) packet.gsoSizeBytes = 0;
}
