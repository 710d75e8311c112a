/**
 * Super-packets into VXLAN and Geneve as rows of datagrams. The pieces of what is inside are datagrams between the same ports, of one length but for the last: such a row is what Linux calls UDP
 * segmentation offload. So they go out in one system call and one way through the kernel, and whoever cannot take a row cuts it with `segment` of net/. The packet inside is cut right into the row's
 * buffer, where room for the tunnel's header is left before each piece:
 *
 *      | Ethernet, IP, UDP | header | piece | header | piece | header | shorter piece |
 */
import {
  Batch,
  Checksum,
  copyBytes,
  ETHERNET_BYTES,
  Gso,
  HeaderOffsets,
  type HostPath,
  IpProtocol,
  internetChecksum,
  Malformed,
  Packet,
  type PacketOwner,
  type PacketPool,
  type PacketSource,
  pseudoHeaderSum4,
  pseudoHeaderSum6,
  SegmentResult,
  segment,
} from '../net/index.ts';
import { type Encapsulator, ownBytes } from './encapsulate.ts';
import { TunnelWord } from './key.ts';
import { outerHeaderBytes } from './outer-header.ts';
import { TunnelKind, type TunnelPort } from './port.ts';
import { TunnelResult } from './result.ts';

const IPV4_BYTES = 20;
const UDP_BYTES = 8;
const UDP_CHECKSUM = 6;
const LONGEST_PACKET = 0xffff;
/** What Linux takes in one (UDP_MAX_SEGMENTS of older kernels). */
const MOST_DATAGRAMS = 64;
/** Pieces of one super-packet: 64 KB in segments of 256 bytes. */
const MOST_PIECES = 256;

/** Descriptors of pieces that lie in rows; rows come from a pool. */
class RowPieces implements PacketSource, PacketOwner {
  readonly available = MOST_PIECES;
  readonly maxFrameBytes = LONGEST_PACKET;
  readonly rows = new Batch();
  /** Pieces of a row. */
  perRow = 0;
  readonly #pool: PacketPool;
  readonly #descriptors: Packet[] = [];
  #made = 0;
  /** Where the first piece of a row begins, from the row's begin, and how far the next one is. */
  #before = 0;
  #stride = 0;

  constructor(pool: PacketPool) {
    this.#pool = pool;
  }

  /** @param before bytes of the headers before a row's first piece @param stride from one piece to the next */
  begin(before: number, stride: number, perRow: number): void {
    this.#made = 0;
    this.#before = before;
    this.#stride = stride;
    this.perRow = perRow;
  }

  allocate(): Packet | null {
    const number = this.#made % this.perRow;
    if (number === 0) {
      const row = this.#pool.allocate();
      if (row === null) return null;
      this.rows.push(row);
    }
    const row = this.rows.packets[this.rows.count - 1];
    let piece = this.#descriptors[this.#made];
    if (piece === undefined) {
      piece = new Packet(this, row.region, this.#made);
      this.#descriptors.push(piece);
    }
    this.#made += 1;
    piece.region = row.region;
    piece.bytes = row.bytes;
    piece.headroomStart = row.offset;
    piece.offset = row.offset + this.#before + number * this.#stride;
    piece.limit = row.limit;
    piece.length = 0;
    piece.references = 1;
    piece.resetMetadata();
    return piece;
  }

  /** Its memory is the row's. */
  recycle(): void {}
}

/** Makes rows. */
export class RowEncapsulator {
  readonly #encapsulator: Encapsulator;
  readonly #pool: PacketPool;
  readonly #pieces: RowPieces;
  readonly #cut = new Batch();
  readonly #inner = new HeaderOffsets();

  /** @param pool where rows come from: buffers for 64 KB */
  constructor(encapsulator: Encapsulator, pool: PacketPool) {
    this.#encapsulator = encapsulator;
    this.#pool = pool;
    this.#pieces = new RowPieces(pool);
  }

  /**
   * Encapsulate a super-packet with an Ethernet header. Each datagram has a checksum, which is left to who sends it. The packet is only read.
   * @param out gets rows, each with one reference that passes to the caller
   * @returns DONE; SEGMENT_FIRST where pieces have to go one by one (`encapsulateSegments`): into GRE, where they are too long for the path but may be cut, where there are very many, or no buffer for a row; or why not. With all but DONE nothing was
   * appended
   */
  encapsulate(packet: Packet, port: TunnelPort, words: Uint32Array, at: number, path: HostPath, out: Batch): number {
    const isUdp = port.kind === TunnelKind.VXLAN || port.kind === TunnelKind.GENEVE;
    if (!isUdp || packet.gsoType === Gso.NONE || packet.gsoType === Gso.UDP) return TunnelResult.SEGMENT_FIRST;
    const own = ownBytes(port, words, at);
    if (own === -1) return TunnelResult.MALFORMED_OPTION;
    if (this.#inner.parse(packet) !== Malformed.NOTHING) return TunnelResult.BAD_OFFLOAD;
    const headers = outerHeaderBytes(words[at + TunnelWord.IP] >>> 24) + own;
    const headerBytes = own - UDP_BYTES;
    const stride = headerBytes + this.#inner.payloadOffset + packet.gsoSizeBytes;
    const room = Math.min(LONGEST_PACKET + ETHERNET_BYTES, this.#pool.maxFrameBytes) - (headers - headerBytes);
    const perRow = Math.min(MOST_DATAGRAMS, Math.floor(room / stride));
    if (perRow === 0) return TunnelResult.SEGMENT_FIRST;
    const pieces = this.#pieces;
    pieces.begin(headers, stride, perRow);
    const cut = segment(packet, pieces, this.#cut);
    let result: number = TunnelResult.DONE;
    if (cut === SegmentResult.POOL_EMPTY) result = TunnelResult.SEGMENT_FIRST;
    else if (cut !== SegmentResult.DONE) result = TunnelResult.BAD_OFFLOAD;
    const { rows } = pieces;
    for (let row = 0; row < rows.count && result === TunnelResult.DONE; row += 1) {
      result = this.#finish(row, headers, headerBytes, stride, port, words, at, path);
    }
    this.#cut.clear();
    if (result !== TunnelResult.DONE) {
      rows.releaseAll();
      return result;
    }
    for (let row = 0; row < rows.count; row += 1) out.push(rows.packets[row]);
    rows.clear();
    return TunnelResult.DONE;
  }

  /** Outer headers before the first piece of a row, the tunnel's before all others, and lengths. */
  #finish(
    number: number,
    headers: number,
    headerBytes: number,
    stride: number,
    port: TunnelPort,
    words: Uint32Array,
    at: number,
    path: HostPath,
  ): number {
    const row = this.#pieces.rows.packets[number];
    const cut = this.#cut;
    const from = number * this.#pieces.perRow;
    const to = Math.min(cut.count, from + this.#pieces.perRow);
    const first = cut.packets[from];
    const result = this.#encapsulator.encapsulate(first, 0, port, words, at, path);
    if (result !== TunnelResult.DONE) return result === TunnelResult.TO_FRAGMENT ? TunnelResult.SEGMENT_FIRST : result;
    this.#encapsulator.skipIdentifications(words, at, to - from - 1);
    const header = row.offset + headers - headerBytes;
    for (let i = from + 1; i < to; i += 1) {
      copyBytes(row.region, header, row.region, header + (i - from) * stride, headerBytes);
    }
    const last = cut.packets[to - 1];
    row.length = last.offset + last.length - row.offset;
    row.timestampSeconds = last.timestampSeconds;
    row.timestampNanoseconds = last.timestampNanoseconds;
    finishRow(row, headers - headerBytes, to - from > 1 ? stride : 0);
    return TunnelResult.DONE;
  }
}

/** Lengths of IP and UDP, and what is said beside the row. @param payload where the first datagram's begins @param size of each, 0 for a row of one */
function finishRow(row: Packet, payload: number, size: number): void {
  const { view } = row.region;
  const { bytes } = row;
  const ip = row.offset + ETHERNET_BYTES;
  const udp = row.offset + payload - UDP_BYTES;
  const udpLength = row.length - payload + UDP_BYTES;
  view.setUint16(udp + 4, udpLength);
  if (udp - ip === IPV4_BYTES) {
    view.setUint16(ip + 2, udpLength + IPV4_BYTES);
    view.setUint16(ip + 10, 0);
    view.setUint16(ip + 10, internetChecksum(bytes, ip, IPV4_BYTES));
    view.setUint16(udp + UDP_CHECKSUM, pseudoHeaderSum4(bytes, ip + 12, IpProtocol.UDP, udpLength));
  } else {
    view.setUint16(ip + 4, udpLength);
    view.setUint16(udp + UDP_CHECKSUM, pseudoHeaderSum6(bytes, ip + 8, IpProtocol.UDP, udpLength));
  }
  row.checksum = Checksum.PARTIAL;
  row.checksumStart = payload - UDP_BYTES;
  row.checksumOffset = UDP_CHECKSUM;
  if (size === 0) return;
  row.gsoType = Gso.UDP_L4;
  row.gsoSizeBytes = size;
  row.headerLengthBytes = payload;
}
