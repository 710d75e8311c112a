/**
 * Encapsulation: the outer headers of a tunnel are written into a packet's headroom, by the tunnel's key. Not a byte of the packet inside is touched, so these may be shared, while the
 * headroom may not. The outer checksum, where the key asks for one, costs no look at the payload: either it becomes the partial checksum of the packet, for whoever sends it to
 * finish, or it is known already from the partial checksum inside, which stays one (partial-sum.ts).
 * Neighbours: outer-header.ts, inner-flow.ts; segments.ts for super-packets.
 */
import { type HashSecret, TunnelFlag, TunnelOptions } from '../flow/index.ts';
import {
  Checksum,
  ETHERNET_BYTES,
  EtherType,
  finishSum,
  foldSum,
  Gso,
  type HostPath,
  IpProtocol,
  type Packet,
} from '../net/index.ts';
import { GENEVE_OPTIONS_MAXIMUM } from './geneve-options.ts';
import { InnerFlow } from './inner-flow.ts';
import { TunnelWord } from './key.ts';
import { OuterHeader, outerHeaderBytes } from './outer-header.ts';
import { isSummable, sumTunnelled } from './partial-sum.ts';
import { isLayer3Payload } from './payload.ts';
import { TunnelKind, type TunnelPort } from './port.ts';
import { TunnelResult } from './result.ts';
import { STT_HEADERS_BYTES, SttSender } from './stt/sender.ts';

const UDP_BYTES = 8;
const UDP_CHECKSUM = 6;
const BASE_BYTES = 8;
const GRE_BYTES = 4;
const GRE_CHECKSUM = 4;
const LONGEST_PACKET = 0xffff;
/** More than any packet has. */
const ANY_LENGTH = 0x2_0000;
const IPV6_BYTES = 40;

const VXLAN_PLAIN = 0x0800_0000;
const VXLAN_POLICY = 0x8000_0000;
const VXLAN_POLICY_KEPT = 0x0048_ffff;
const GENEVE_CONTROL = 0x80;
const GENEVE_CRITICAL = 0x40;
const GRE_HAS_CHECKSUM = 0x8000;
const GRE_HAS_KEY = 0x2000;
const GRE_HAS_SEQUENCE = 0x1000;

/** How an encapsulator works. */
export interface EncapsulatorSettings {
  /** Of the hash that outer source ports come from: the same for all who encapsulate here, so that a flow keeps its port. */
  readonly secret: HashSecret;
  /** For tests that must repeat: numbers from 0 to 1. */
  readonly random?: () => number;
}

/** Encapsulates packets, one after the other. */
export class Encapsulator {
  /** After TOO_BIG: the longest layer-3 packet inside that would fit; 0 when none would. */
  innerMtuBytes = 0;

  readonly #inner: InnerFlow;
  readonly #outer: OuterHeader;
  readonly #stt: SttSender;

  constructor(settings: EncapsulatorSettings) {
    this.#inner = new InnerFlow(settings.secret);
    this.#outer = new OuterHeader(settings.random);
    this.#stt = new SttSender(this.#outer, settings.random);
  }

  /**
   * Put outer headers before a packet. Offload metadata moves along.
   * @param l3Type EtherType of a packet without an Ethernet header, 0 for frames
   * @param words the tunnel's key (key.ts), from `at` on
   * @param path one that is READY and has Ethernet
   * @returns DONE; TO_FRAGMENT when it is done and is to be cut; or why it was not done, and then the packet is as it was
   */
  encapsulate(
    packet: Packet,
    l3Type: number,
    port: TunnelPort,
    words: Uint32Array,
    at: number,
    path: HostPath,
  ): number {
    const version = words[at + TunnelWord.IP] >>> 24;
    if (!hasDestination(words, at, version)) return TunnelResult.BAD_KEY;
    const isStt = port.kind === TunnelKind.STT;
    if (packet.gsoType !== Gso.NONE && !isStt) return TunnelResult.SEGMENT_FIRST;
    if (l3Type === 0 ? packet.length < ETHERNET_BYTES : !port.layer3 || !isLayer3Payload(l3Type)) {
      return l3Type === 0 ? TunnelResult.BAD_LENGTH : TunnelResult.UNKNOWN_PROTOCOL;
    }
    const isPartial = packet.checksum === Checksum.PARTIAL;
    if (isPartial && packet.checksumStart + packet.checksumOffset + 2 > packet.length) return TunnelResult.BAD_OFFLOAD;
    const own = ownBytes(port, words, at);
    if (own === -1) return TunnelResult.MALFORMED_OPTION;
    const headers = outerHeaderBytes(version) + own;
    this.#inner.read(packet, l3Type);
    const flags = words[at + TunnelWord.FLAGS] >>> 16;
    // STT cuts its frames itself, where the path takes a byte of a frame beside the headers.
    const mtuBytes = isStt && path.mtuBytes > headers - ETHERNET_BYTES ? ANY_LENGTH : path.mtuBytes;
    const mayCut = !isStt && (flags & TunnelFlag.DONT_FRAGMENT) === 0;
    const fit = this.#fit(packet, l3Type, version, headers, mtuBytes, mayCut);
    if (fit === TunnelResult.TOO_BIG) return packet.gsoType === Gso.NONE ? fit : TunnelResult.SEGMENT_FIRST;
    if (packet.offset - headers < packet.headroomStart) return TunnelResult.NO_HEADROOM;
    if (isStt) return this.#stt.encapsulate(packet, port, words, at, path, this.#inner, headers);
    const isSummed = (flags & TunnelFlag.CHECKSUM) !== 0;
    if (isSummed && !isSummable(packet)) return TunnelResult.SEGMENT_FIRST;
    const isGre = port.kind === TunnelKind.GRE;
    packet.offset -= headers;
    packet.length += headers;
    packet.headerLengthBytes = 0;
    if (isPartial) packet.checksumStart += headers;
    const protocol = isGre ? IpProtocol.GRE : IpProtocol.UDP;
    const pseudo = this.#outer.write(packet, words, at, path, this.#inner, protocol, 1);
    const l4 = packet.offset + headers - own;
    const type = l3Type === 0 ? EtherType.TRANSPARENT_ETHERNET : l3Type;
    if (isGre) writeGre(packet, l4, words, at, port, type);
    else if (port.kind === TunnelKind.VXLAN) writeVxlan(packet, l4 + UDP_BYTES, words, at, port);
    else writeGeneve(packet, l4 + UDP_BYTES, words, at, type);
    if (!isGre) this.#writeUdp(packet, l4, words, at, port, isSummed ? pseudo : -1);
    else if (isSummed) finishOuterSum(packet, l4, GRE_CHECKSUM, 0);
    else forgetOuterSum(packet);
    return fit;
  }

  /** Leave out identifications: so many more packets to the same remote have theirs from the one that was encapsulated last. */
  skipIdentifications(words: Uint32Array, at: number, count: number): void {
    this.#outer.skip(words, at, count);
  }

  /** Whether the outer packet is as long as the path takes: DONE, TO_FRAGMENT or TOO_BIG. */
  #fit(packet: Packet, l3Type: number, version: number, headers: number, mtuBytes: number, mayCut: boolean): number {
    const overhead = headers - ETHERNET_BYTES;
    const longest = version === 4 ? LONGEST_PACKET : LONGEST_PACKET + IPV6_BYTES;
    const length = overhead + packet.length;
    if (length <= mtuBytes && length <= longest) return TunnelResult.DONE;
    if (mayCut && length <= longest) return TunnelResult.TO_FRAGMENT;
    // Ethernet header and tags inside take from what the path has room for.
    const l3 = l3Type === 0 ? Math.max(ETHERNET_BYTES, this.#inner.headers.l3Offset) : 0;
    this.innerMtuBytes = Math.max(0, Math.min(mtuBytes, longest) - overhead - l3);
    return TunnelResult.TOO_BIG;
  }

  /** @param pseudo the sum of the pseudo header without the length; -1 for no checksum */
  #writeUdp(packet: Packet, udp: number, words: Uint32Array, at: number, port: TunnelPort, pseudo: number): void {
    const { view } = packet.region;
    const ports = words[at + TunnelWord.PORTS];
    const length = packet.offset + packet.length - udp;
    view.setUint16(udp, ports >>> 16 || this.#inner.sourcePort);
    view.setUint16(udp + 2, ports & 0xffff || port.transportPort);
    view.setUint16(udp + 4, length);
    view.setUint16(udp + UDP_CHECKSUM, 0);
    if (pseudo === -1) forgetOuterSum(packet);
    else finishOuterSum(packet, udp, UDP_CHECKSUM, foldSum(pseudo + length));
  }
}

/** Whether the key names a family and an address of it to send to. */
function hasDestination(words: Uint32Array, at: number, version: number): boolean {
  const to = at + TunnelWord.DESTINATION;
  if (version === 4) return words[to] !== 0;
  return version === 6 && (words[to] | words[to + 1] | words[to + 2] | words[to + 3]) !== 0;
}

/** Bytes of all headers behind the outer IP header; -1 for options that cannot be. */
export function ownBytes(port: TunnelPort, words: Uint32Array, at: number): number {
  const flagsWord = words[at + TunnelWord.FLAGS];
  const flags = flagsWord >>> 16;
  switch (port.kind) {
    case TunnelKind.VXLAN:
      return UDP_BYTES + BASE_BYTES;
    case TunnelKind.GENEVE: {
      if (!hasGeneveOptions(words, at)) return UDP_BYTES + BASE_BYTES;
      const length = (flagsWord >>> 8) & 0xff;
      if ((length & 3) !== 0 || length > GENEVE_OPTIONS_MAXIMUM) return -1;
      let option = 0;
      while (option < length) option += 4 + ((words[at + TunnelWord.OPTIONS + (option >>> 2)] & 0x1f) << 2);
      return option === length ? UDP_BYTES + BASE_BYTES + length : -1;
    }
    case TunnelKind.GRE:
      return (
        GRE_BYTES +
        ((flags & TunnelFlag.CHECKSUM) === 0 ? 0 : 4) +
        ((flags & TunnelFlag.KEY) === 0 ? 0 : 4) +
        (port.numbered ? 4 : 0)
      );
    default:
      return STT_HEADERS_BYTES;
  }
}

function hasGeneveOptions(words: Uint32Array, at: number): boolean {
  return (words[at + TunnelWord.IP] & 0xff) === TunnelOptions.GENEVE;
}

function writeVxlan(packet: Packet, header: number, words: Uint32Array, at: number, port: TunnelPort): void {
  const { view } = packet.region;
  let first = VXLAN_PLAIN;
  if (port.groupPolicy && (words[at + TunnelWord.IP] & 0xff) === TunnelOptions.VXLAN_GBP) {
    const policy = words[at + TunnelWord.OPTIONS] & VXLAN_POLICY_KEPT;
    if (policy !== 0) first |= VXLAN_POLICY | policy;
  }
  view.setUint32(header, first);
  view.setUint32(header + 4, words[at + TunnelWord.ID] << 8);
}

function writeGeneve(packet: Packet, header: number, words: Uint32Array, at: number, type: number): void {
  const { view } = packet.region;
  const flagsWord = words[at + TunnelWord.FLAGS];
  const length = hasGeneveOptions(words, at) ? (flagsWord >>> 8) & 0xff : 0;
  let flags = ((flagsWord >>> 16) & TunnelFlag.OAM) === 0 ? 0 : GENEVE_CONTROL;
  let nextOption = 0;
  for (let i = 0; i < length; i += 4) {
    const word = words[at + TunnelWord.OPTIONS + (i >>> 2)];
    view.setUint32(header + BASE_BYTES + i, word);
    if (i !== nextOption) continue;
    nextOption += 4 + ((word & 0x1f) << 2);
    // The highest bit of the option's type.
    if ((word & 0x8000) !== 0) flags |= GENEVE_CRITICAL;
  }
  view.setUint32(header, (length << 22) | (flags << 16) | type);
  view.setUint32(header + 4, words[at + TunnelWord.ID] << 8);
}

function writeGre(
  packet: Packet,
  header: number,
  words: Uint32Array,
  at: number,
  port: TunnelPort,
  type: number,
): void {
  const { view } = packet.region;
  const flags = words[at + TunnelWord.FLAGS] >>> 16;
  let first = 0;
  let next = header + GRE_BYTES;
  if ((flags & TunnelFlag.CHECKSUM) !== 0) {
    first |= GRE_HAS_CHECKSUM;
    view.setUint32(next, 0);
    next += 4;
  }
  if ((flags & TunnelFlag.KEY) !== 0) {
    first |= GRE_HAS_KEY;
    view.setUint32(next, words[at + TunnelWord.ID]);
    next += 4;
  }
  if (port.numbered) {
    first |= GRE_HAS_SEQUENCE;
    view.setUint32(next, port.nextNumber);
    port.nextNumber = (port.nextNumber + 1) >>> 0;
  }
  view.setUint16(header, first);
  view.setUint16(header + 2, type);
}

/**
 * Let the outer checksum be made: by the partial checksum inside where there is one, else it is the packet's partial checksum itself.
 * @param place of the field in the outer transport header, which holds 0
 * @param pseudo the sum of its pseudo header, folded
 */
function finishOuterSum(packet: Packet, l4: number, place: number, pseudo: number): void {
  const { view } = packet.region;
  if (packet.checksum === Checksum.PARTIAL) {
    const sum = finishSum(sumTunnelled(packet, l4, packet.offset + packet.length, pseudo));
    // 0 would say that there is none.
    view.setUint16(l4 + place, sum === 0 ? 0xffff : sum);
    return;
  }
  view.setUint16(l4 + place, pseudo);
  packet.checksum = Checksum.PARTIAL;
  packet.checksumStart = l4 - packet.offset;
  packet.checksumOffset = place;
}

/** There is no outer checksum. Nobody vouches for the one inside as long as it is there: who says VALID means the outermost. */
function forgetOuterSum(packet: Packet): void {
  if (packet.checksum !== Checksum.PARTIAL) packet.checksum = Checksum.UNKNOWN;
}
