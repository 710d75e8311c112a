/**
 * STT, outgoing: a whole packet, super-packets of up to 64 KB included, becomes one frame. Where it is longer than the path takes, it is itself a TCP super-packet: whoever sends it cuts it, a
 * network card, Linux or `segment` of net/, and what these do to TCP's sequence number is what STT wants. header.ts is the drawing.
 */
import { Checksum, ETHERNET_BYTES, Gso, type HostPath, IpProtocol, type Packet } from '../../net/index.ts';
import type { InnerFlow } from '../inner-flow.ts';
import { TunnelWord } from '../key.ts';
import type { OuterHeader } from '../outer-header.ts';
import type { TunnelPort } from '../port.ts';
import { TunnelResult } from '../result.ts';
import { SttFlag, SttFrame, SttTcp, TCP_CHECKSUM, UDP_CHECKSUM } from './header.ts';

/** Both headers. */
export const STT_HEADERS_BYTES = SttTcp.LENGTH + SttFrame.LENGTH;

/** Data offset of 20 bytes, ACK and PSH: the last segment alone keeps PSH. */
const DATA_OFFSET_AND_FLAGS = 0x5018;
const WINDOW = 0xffff;
/** The field of one byte. */
const LARGEST_L4_OFFSET = 0xff;

export class SttSender {
  readonly #outer: OuterHeader;
  /** Of the next frame. It tells the frames of one source apart for as long as segments may be on their way. */
  #number: number;

  constructor(outer: OuterHeader, random: () => number = Math.random) {
    this.#outer = outer;
    this.#number = Math.floor(random() * 0x1_0000_0000);
  }

  /**
   * As `Encapsulator.encapsulate`, which has checked length and headroom.
   * @param inner the packet's headers have been read
   * @param headers bytes of all headers to write
   */
  encapsulate(
    packet: Packet,
    port: TunnelPort,
    words: Uint32Array,
    at: number,
    path: HostPath,
    inner: InnerFlow,
    headers: number,
  ): number {
    const flags = flagsOf(packet, inner);
    if (flags === -1) return TunnelResult.SEGMENT_FIRST;
    const isPartial = (flags & SttFlag.CHECKSUM_PARTIAL) !== 0;
    const l4Offset = isPartial ? packet.checksumStart : 0;
    const segmentSize = isPartial && packet.gsoType !== Gso.NONE ? packet.gsoSizeBytes : 0;
    const { view } = packet.region;
    const frameLength = packet.length + SttFrame.LENGTH;
    packet.offset -= headers;
    packet.length += headers;
    const tcpOffset = headers - STT_HEADERS_BYTES;
    const roomForSegment = path.mtuBytes - (tcpOffset - ETHERNET_BYTES) - SttTcp.LENGTH;
    const segments = Math.max(1, Math.ceil(frameLength / roomForSegment));
    const pseudo = this.#outer.write(packet, words, at, path, inner, IpProtocol.TCP, segments);

    const tcp = packet.offset + tcpOffset;
    const ports = words[at + TunnelWord.PORTS];
    view.setUint16(tcp, ports >>> 16 || inner.sourcePort);
    view.setUint16(tcp + 2, ports & 0xffff || port.transportPort);
    view.setUint32(tcp + SttTcp.SEQUENCE, frameLength << 16);
    view.setUint32(tcp + SttTcp.NUMBER, this.#number);
    this.#number = (this.#number + 1) >>> 0;
    view.setUint16(tcp + SttTcp.DATA_OFFSET, DATA_OFFSET_AND_FLAGS);
    view.setUint16(tcp + SttTcp.WINDOW, WINDOW);
    const sum = pseudo + SttTcp.LENGTH + frameLength;
    view.setUint16(tcp + SttTcp.CHECKSUM, (sum & 0xffff) + (sum >>> 16));
    view.setUint16(tcp + SttTcp.URGENT, 0);

    const frame = tcp + SttTcp.LENGTH;
    view.setUint32(frame, (flags << 16) | (l4Offset << 8));
    // A tag stays where it is, in the frame.
    view.setUint32(frame + SttFrame.SEGMENT_SIZE, segmentSize << 16);
    view.setUint32(frame + SttFrame.CONTEXT_ID, words[at + TunnelWord.ID_HIGH]);
    view.setUint32(frame + SttFrame.CONTEXT_ID + 4, words[at + TunnelWord.ID]);
    view.setUint16(frame + SttFrame.PADDING, 0);

    packet.checksum = Checksum.PARTIAL;
    packet.checksumStart = tcpOffset;
    packet.checksumOffset = SttTcp.CHECKSUM;
    const isIpv4 = words[at + TunnelWord.IP] >>> 24 === 4;
    packet.gsoType = segments === 1 ? Gso.NONE : isIpv4 ? Gso.TCPV4 : Gso.TCPV6;
    packet.gsoSizeBytes = segments === 1 ? 0 : roomForSegment;
    packet.headerLengthBytes = segments === 1 ? 0 : tcpOffset + SttTcp.LENGTH;
    return TunnelResult.DONE;
  }
}

/** Bits of {@link SttFlag}; -1 when the header cannot say what is said beside the packet. */
function flagsOf(packet: Packet, inner: InnerFlow): number {
  const kind = packet.gsoType & ~Gso.ECN;
  if (packet.checksum !== Checksum.PARTIAL) {
    if (kind !== Gso.NONE) return -1;
    return packet.checksum === Checksum.VALID ? SttFlag.CHECKSUM_VERIFIED : 0;
  }
  const { headers } = inner;
  const isTcp = headers.ipProtocol === IpProtocol.TCP;
  const isKnown = isTcp || headers.ipProtocol === IpProtocol.UDP;
  const place = isTcp ? TCP_CHECKSUM : UDP_CHECKSUM;
  const start = packet.checksumStart;
  if (!isKnown || start !== headers.l4Offset || packet.checksumOffset !== place || start > LARGEST_L4_OFFSET) return -1;
  // A segment size beside UDP means fragments of one datagram.
  if (kind === Gso.UDP_L4 || (kind !== Gso.NONE && isTcp === (kind === Gso.UDP))) return -1;
  return SttFlag.CHECKSUM_PARTIAL | (headers.ipVersion === 4 ? SttFlag.IPV4 : 0) | (isTcp ? SttFlag.TCP : 0);
}
