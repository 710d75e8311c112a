/**
 * Fragments put together before they are tracked (RFC 791, RFC 8200 section 4.5). A datagram is complete, or waits for at most 30 seconds, in bounded memory, and is gone as a whole when one of its
 * fragments cannot be right: what overlaps is an attack (RFC 5722). The largest fragment is kept in mind, so that the packet can go on in pieces no larger than it came (`fragmentPacket` of net/).
 */
import {
  Fragment,
  type HeaderOffsets,
  IpProtocol,
  internetChecksum,
  Malformed,
  type Packet,
  type PacketPool,
} from '../../net/index.ts';
import { half, setHalf, word } from '../bytes.ts';
import { Datagram, Piece } from './datagram.ts';
import { FragmentResult } from './result.ts';

/** How a reassembler works. */
export interface ReassemblerSettings {
  /** Milliseconds of a clock that never goes back. */
  readonly nowMs: () => number;
  /** Whole packets come from here; buffers of 64 KB and the headers take any. */
  readonly pool: PacketPool;
  /** Memory for fragments that wait; 4 MB when not given, as in Linux. The oldest datagrams go for new ones. */
  readonly maximumBytes?: number;
  /** How long a datagram waits for its last fragment; 30 seconds when not given. */
  readonly timeOutMs?: number;
}

/** What happened to fragments. */
export class ReassemblerCounters {
  /** Fragments, by {@link FragmentResult}. */
  readonly fragments = [0, 0, 0, 0, 0, 0, 0, 0];
  /** Datagrams whose time was over. */
  expired = 0;
  /** Datagrams that went for newer ones. */
  evicted = 0;
}

/** What a piece is charged for besides its bytes. */
const PIECE_OVERHEAD_BYTES = 128;
/** And a datagram. */
const DATAGRAM_OVERHEAD_BYTES = 512;
const LONGEST_PAYLOAD = 0xffff;

export class Reassembler {
  /** The packet that is whole now, with one reference that is the caller's; null but after WHOLE. */
  whole: Packet | null = null;
  /** Bytes of the largest of its fragments, from the IP header on. */
  largestBytes = 0;
  /** The identification that its fragments had. */
  identification = 0;
  readonly counters = new ReassemblerCounters();
  readonly #settings: Required<ReassemblerSettings>;
  /** In the order in which they began. */
  readonly #datagrams = new Map<string, Datagram>();
  #bytes = 0;

  constructor(settings: ReassemblerSettings) {
    this.#settings = { maximumBytes: 4 * 1024 * 1024, timeOutMs: 30_000, ...settings };
  }

  /** Datagrams that wait. */
  get size(): number {
    return this.#datagrams.size;
  }

  /** Memory that they are charged for. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Take a fragment. Its bytes are copied.
   * @param headers of this packet
   * @param zone fragments of different zones have nothing to do with each other
   * @returns one of {@link FragmentResult}; with all but WHOLE and NO_FRAGMENT the packet is done with
   */
  add(packet: Packet, headers: HeaderOffsets, zone: number): number {
    this.whole = null;
    const result = this.#add(packet, headers, zone);
    this.counters.fragments[result] += 1;
    return result;
  }

  /** Free what has waited too long; at most so many. @returns how many */
  sweep(steps: number): number {
    const now = this.#settings.nowMs();
    let freed = 0;
    for (const [key, datagram] of this.#datagrams) {
      // The first in the map is the oldest.
      if (freed === steps || datagram.begunMs + this.#settings.timeOutMs > now) break;
      this.#drop(key, datagram);
      this.counters.expired += 1;
      freed += 1;
    }
    return freed;
  }

  #add(packet: Packet, headers: HeaderOffsets, zone: number): number {
    // A first fragment may end inside of the transport header.
    const isSound = headers.malformed === Malformed.NOTHING || headers.malformed >= Malformed.TRANSPORT_TRUNCATED;
    if (!isSound || headers.ipVersion === 0 || headers.fragment === Fragment.NONE) return FragmentResult.NO_FRAGMENT;
    this.sweep(8);
    const key = keyOf(packet, headers, zone);
    let datagram = this.#datagrams.get(key);
    if (datagram === undefined) {
      datagram = new Datagram(this.#settings.nowMs());
      this.#datagrams.set(key, datagram);
      this.#bytes += DATAGRAM_OVERHEAD_BYTES;
    }
    const result = this.#place(packet, headers, datagram);
    if (result === FragmentResult.WAITING) {
      this.#makeRoom(key);
      return result;
    }
    if (result !== FragmentResult.DUPLICATE) this.#drop(key, datagram);
    return result;
  }

  #place(packet: Packet, headers: HeaderOffsets, datagram: Datagram): number {
    const { bytes, offset } = packet;
    const isIpv6 = headers.ipVersion === 6;
    const l3 = offset + headers.l3Offset;
    // A fragment within a fragment is nothing that a host makes.
    if (isIpv6 && fragmentHeaderAt(bytes, offset, headers.l3Offset) !== headers.fragmentOffset) {
      return FragmentResult.BAD_FRAGMENT;
    }
    const fragmentWord = isIpv6 ? half(bytes, offset + headers.fragmentOffset + 2) : half(bytes, l3 + 6);
    const at = isIpv6 ? fragmentWord & 0xfff8 : (fragmentWord & 0x1fff) << 3;
    const hasMore = isIpv6 ? (fragmentWord & 1) !== 0 : (fragmentWord & 0x2000) !== 0;
    const payload = isIpv6 ? headers.fragmentOffset + 8 : headers.l3Offset + ((bytes[l3] & 15) << 2);
    const length = headers.l3End - payload;
    const isCut = hasMore && (length & 7) !== 0;
    if (length <= 0 || isCut || at + length > LONGEST_PAYLOAD) return FragmentResult.BAD_FRAGMENT;
    const piece = new Piece(at, bytes.slice(offset + payload, offset + payload + length));
    const result = datagram.put(piece, !hasMore);
    if (result !== FragmentResult.WAITING) return result;
    this.#bytes += length + PIECE_OVERHEAD_BYTES;
    datagram.charged += length + PIECE_OVERHEAD_BYTES;
    datagram.largestBytes = Math.max(datagram.largestBytes, headers.l3End - headers.l3Offset);
    if (at === 0) {
      datagram.head = bytes.slice(offset, offset + payload);
      datagram.headL3Offset = headers.l3Offset;
    }
    return datagram.isComplete ? this.#join(packet, isIpv6, datagram) : FragmentResult.WAITING;
  }

  /** All is there: the head of the first fragment, then all payloads. */
  #join(packet: Packet, isIpv6: boolean, datagram: Datagram): number {
    const { head, headL3Offset } = datagram;
    // Without the fragment header of IPv6.
    const headLength = head.length - (isIpv6 ? 8 : 0);
    const length = headLength + datagram.end;
    const l3Length = length - headL3Offset;
    if (l3Length - (isIpv6 ? 40 : 0) > LONGEST_PAYLOAD) return FragmentResult.BAD_FRAGMENT;
    const { pool } = this.#settings;
    const whole = length > pool.maxFrameBytes ? null : pool.allocate();
    if (whole === null) return FragmentResult.NO_BUFFER;
    whole.bytes.set(isIpv6 ? head.subarray(0, headLength) : head, whole.offset);
    for (const { at, bytes } of datagram.pieces) whole.bytes.set(bytes, whole.offset + headLength + at);
    whole.length = length;
    whole.timestampSeconds = packet.timestampSeconds;
    whole.timestampNanoseconds = packet.timestampNanoseconds;
    const l3 = whole.offset + headL3Offset;
    if (isIpv6) {
      fragmentHeaderAt(head, 0, headL3Offset);
      whole.bytes[whole.offset + nextHeaderPlace] = head[headLength];
      setHalf(whole.bytes, l3 + 4, l3Length - 40);
      this.identification = word(head, headLength + 4) >>> 0;
    } else {
      setHalf(whole.bytes, l3 + 2, l3Length);
      setHalf(whole.bytes, l3 + 6, 0);
      setHalf(whole.bytes, l3 + 10, 0);
      setHalf(whole.bytes, l3 + 10, internetChecksum(whole.bytes, l3, (whole.bytes[l3] & 15) << 2));
      this.identification = half(whole.bytes, l3 + 4);
    }
    this.whole = whole;
    this.largestBytes = datagram.largestBytes;
    return FragmentResult.WHOLE;
  }

  /** The oldest datagrams go when there is too much. @param current the one that stays as long as there are others */
  #makeRoom(current: string): void {
    for (const [key, datagram] of this.#datagrams) {
      if (this.#bytes <= this.#settings.maximumBytes) return;
      if (key === current && this.#datagrams.size > 1) continue;
      this.#drop(key, datagram);
      this.counters.evicted += 1;
    }
  }

  #drop(key: string, datagram: Datagram): void {
    this.#datagrams.delete(key);
    this.#bytes -= datagram.charged + DATAGRAM_OVERHEAD_BYTES;
  }
}

/** What fragments of one datagram have in common: zone, tags, addresses, identification, and over IPv4 the protocol. */
function keyOf(packet: Packet, headers: HeaderOffsets, zone: number): string {
  const { bytes, offset } = packet;
  const l3 = offset + headers.l3Offset;
  const isIpv6 = headers.ipVersion === 6;
  const [addresses, count] = isIpv6 ? [l3 + 8, 32] : [l3 + 12, 8];
  const id = isIpv6 ? word(bytes, offset + headers.fragmentOffset + 4) : (half(bytes, l3 + 4) << 8) | bytes[l3 + 9];
  const text = String.fromCharCode(...bytes.subarray(addresses, addresses + count));
  return `${zone} ${headers.tagCount} ${headers.outerTci} ${headers.innerTci} ${isIpv6 ? 6 : 4} ${id} ${text}`;
}

/** Where the number stands that says that a fragment header comes next; {@link fragmentHeaderAt} has found it. */
let nextHeaderPlace = 0;

/** Where the first fragment header is, from the start of the frame. There is one: the headers have been read. */
function fragmentHeaderAt(bytes: Uint8Array, start: number, l3: number): number {
  let place = l3 + 6;
  let at = l3 + 40;
  while (bytes[start + place] !== IpProtocol.FRAGMENT) {
    const isAuthentication = bytes[start + place] === IpProtocol.AUTHENTICATION;
    const units = bytes[start + at + 1];
    place = at;
    at += isAuthentication ? (units + 2) << 2 : (units + 1) << 3;
  }
  nextHeaderPlace = place;
  return at;
}
