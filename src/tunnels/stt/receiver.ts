/**
 * STT, incoming: segments are checked, put together in bounded memory, and the frame's header becomes metadata of the packet inside. A frame that came whole is taken out of its packet in place.
 * A frame waits for its last segment for a short time, as no segment is sent again; frames of one source have a share of the room, so that nobody's unfinished frames push out those of
 * others. header.ts is the drawing.
 */
import { type HashSecret, hashWords, TunnelFlag, TunnelOptions } from '../../flow/index.ts';
import {
  applyTagAction,
  Checksum,
  ETHERNET_BYTES,
  Gso,
  type HeaderOffsets,
  IpProtocol,
  type Packet,
  type PacketPool,
  pseudoHeaderSum4,
  pseudoHeaderSum6,
  sumBytes,
  TagAction,
  TcpFlag,
} from '../../net/index.ts';
import { Ecn } from '../ecn.ts';
import { TunnelWord } from '../key.ts';
import { fillOuter, isDontFragment, joinEcn, outerTos } from '../outer-fields.ts';
import { TunnelResult } from '../result.ts';
import { STT_TAG_PRESENT, SttFlag, SttFrame, SttTcp, TCP_CHECKSUM, UDP_CHECKSUM } from './header.ts';
import { WaitingFrame } from './waiting-frame.ts';

/** Flags that no segment has. */
const NOT_STT = TcpFlag.FIN | TcpFlag.SYN | TcpFlag.RST;
const IPV4_BYTES = 20;
const IPV6_BYTES = 40;
const TCP_BYTES = 20;
const UDP_BYTES = 8;
const TCP_FLAGS = 13;

/** How a receiver works. */
export interface SttReceiverSettings {
  /** Milliseconds of a clock that never goes back. */
  readonly nowMs: () => number;
  /** Frames that wait lie here; buffers of 65,535 bytes and 18 of headroom take any. */
  readonly pool: PacketPool;
  /** Of the hash by which frames are found. */
  readonly secret: HashSecret;
  /** Frames that wait at once, at most; 64 when not given. */
  readonly frames?: number;
  /** Of one source; a quarter of all when not given. */
  readonly framesOfSource?: number;
  /** How long a frame waits; 1 second when not given. */
  readonly timeOutMs?: number;
}

/** Puts frames together. */
export class SttReceiver {
  /** After DONE: the packet that came out of several segments, with one reference that is the caller's; null when it is the one that was handed in. */
  whole: Packet | null = null;
  /** Frames whose time was over, and frames that went for newer ones. */
  expired = 0;
  evicted = 0;

  readonly #settings: SttReceiverSettings;
  readonly #share: number;
  readonly #timeOutMs: number;
  readonly #frames: WaitingFrame[] = [];
  readonly #key = new Uint32Array(9);

  constructor(settings: SttReceiverSettings) {
    this.#settings = settings;
    const frames = settings.frames ?? 64;
    this.#share = settings.framesOfSource ?? Math.max(1, frames >>> 2);
    this.#timeOutMs = settings.timeOutMs ?? 1000;
    for (let i = 0; i < frames; i += 1) this.#frames.push(new WaitingFrame());
  }

  /** Frames that wait. */
  get waiting(): number {
    let count = 0;
    for (const frame of this.#frames) if (frame.packet !== null) count += 1;
    return count;
  }

  /** Give up frames whose time is over. */
  sweep(): void {
    const now = this.#settings.nowMs();
    for (const frame of this.#frames) this.#expire(frame, now);
  }

  /** Give all memory back: frames that wait are given up. */
  close(): void {
    for (const frame of this.#frames) giveUp(frame);
  }

  /**
   * As `Decapsulator.decapsulate`, which has read the outer headers.
   * @returns DONE; WAITING; or why it was dropped
   */
  receive(packet: Packet, outer: HeaderOffsets, words: Uint32Array, at: number): number {
    this.whole = null;
    const { view } = packet.region;
    const tcp = packet.offset + outer.l4Offset;
    const from = packet.offset + outer.payloadOffset;
    const length = packet.offset + outer.l3End - from;
    if ((packet.bytes[tcp + SttTcp.FLAGS] & NOT_STT) !== 0) return TunnelResult.BAD_FLAGS;
    const sum = checkSum(packet, outer);
    if (sum !== TunnelResult.DONE) return sum;
    const total = view.getUint16(tcp + SttTcp.SEQUENCE);
    const place = view.getUint16(tcp + SttTcp.SEQUENCE + 2);
    if (total < SttFrame.LENGTH + ETHERNET_BYTES || length === 0 || place + length > total)
      return TunnelResult.BAD_LENGTH;
    const tos = outerTos(packet, outer);
    if (length === total) return deliver(packet, packet, from, total, outer, tos, words, at);
    return this.#collect(packet, outer, from, place, length, total, tos, words, at);
  }

  #collect(
    packet: Packet,
    outer: HeaderOffsets,
    from: number,
    place: number,
    length: number,
    total: number,
    tos: number,
    words: Uint32Array,
    at: number,
  ): number {
    const frame = this.#frameOf(packet, outer, total);
    if (frame === null) return TunnelResult.NO_BUFFER;
    if ((tos & 3) === Ecn.CE) frame.isMarked = true;
    const result = frame.length === total ? frame.put(packet, from, place, length) : TunnelResult.BAD_SEGMENT;
    if (result === TunnelResult.WAITING || result === TunnelResult.DUPLICATE_SEGMENT) return result;
    const whole = frame.packet;
    if (result !== TunnelResult.DONE || whole === null) {
      giveUp(frame);
      return result;
    }
    frame.packet = null;
    whole.length = total;
    whole.timestampSeconds = packet.timestampSeconds;
    whole.timestampNanoseconds = packet.timestampNanoseconds;
    // A mark on one segment is a mark on the frame.
    const joined = frame.isMarked ? tos | Ecn.CE : tos;
    const delivered = deliver(whole, packet, whole.offset, total, outer, joined, words, at);
    if (delivered === TunnelResult.DONE) this.whole = whole;
    else whole.release();
    return delivered;
  }

  /** The frame that a segment is of, a new one if need be; null when there is no buffer. */
  #frameOf(packet: Packet, outer: HeaderOffsets, total: number): WaitingFrame | null {
    const key = this.#key;
    const { view } = packet.region;
    const ip = packet.offset + outer.l3Offset;
    key.fill(0);
    if (outer.ipVersion === 4) {
      key[0] = view.getUint32(ip + 12);
      key[4] = view.getUint32(ip + 16);
    } else {
      for (let i = 0; i < 8; i += 1) key[i] = view.getUint32(ip + 8 + i * 4);
    }
    key[8] = view.getUint32(packet.offset + outer.l4Offset + SttTcp.NUMBER);
    const { secret, pool } = this.#settings;
    const hash = hashWords(key, 0, 9, secret);
    const sourceHash = hashWords(key, 0, 4, secret);
    const now = this.#settings.nowMs();
    let free: WaitingFrame | null = null;
    let oldest: WaitingFrame | null = null;
    let oldestOfSource: WaitingFrame | null = null;
    let ofSource = 0;
    for (const frame of this.#frames) {
      this.#expire(frame, now);
      if (frame.packet === null) {
        free = frame;
        continue;
      }
      if (frame.hash === hash && isSameKey(frame.key, key)) return frame;
      if (oldest === null || frame.begunMs < oldest.begunMs) oldest = frame;
      if (frame.sourceHash !== sourceHash) continue;
      ofSource += 1;
      if (oldestOfSource === null || frame.begunMs < oldestOfSource.begunMs) oldestOfSource = frame;
    }
    if (total > pool.maxFrameBytes) return null;
    if (ofSource >= this.#share) free = this.#evict(oldestOfSource);
    else if (free === null) free = this.#evict(oldest);
    if (free === null) return null;
    let buffer = pool.allocate();
    // The pool may have fewer buffers than there may be frames.
    if (buffer === null && oldest !== null && oldest.packet !== null) {
      this.#evict(oldest);
      buffer = pool.allocate();
    }
    if (buffer === null) return null;
    free.begin(buffer, total, now);
    free.key.set(key);
    free.hash = hash;
    free.sourceHash = sourceHash;
    return free;
  }

  #evict(frame: WaitingFrame | null): WaitingFrame | null {
    if (frame === null) return null;
    giveUp(frame);
    this.evicted += 1;
    return frame;
  }

  #expire(frame: WaitingFrame, now: number): void {
    if (frame.packet === null || now - frame.begunMs < this.#timeOutMs) return;
    giveUp(frame);
    this.expired += 1;
  }
}

function giveUp(frame: WaitingFrame): void {
  frame.packet?.release();
  frame.packet = null;
}

function isSameKey(one: Uint32Array, other: Uint32Array): boolean {
  for (let i = 0; i < 9; i += 1) if (one[i] !== other[i]) return false;
  return true;
}

/** The checksum of a segment, where nobody vouches for it. */
function checkSum(packet: Packet, outer: HeaderOffsets): number {
  const kind = packet.gsoType & ~Gso.ECN;
  // What was put together from segments, or is still to be cut into such, is of TCP.
  if (kind !== Gso.NONE && kind !== (outer.ipVersion === 4 ? Gso.TCPV4 : Gso.TCPV6)) return TunnelResult.BAD_OFFLOAD;
  if (packet.checksum === Checksum.PARTIAL) {
    const isOuter = packet.checksumStart === outer.l4Offset && packet.checksumOffset === SttTcp.CHECKSUM;
    return isOuter ? TunnelResult.DONE : TunnelResult.BAD_OFFLOAD;
  }
  if (packet.checksum === Checksum.VALID || kind !== Gso.NONE) return TunnelResult.DONE;
  const ip = packet.offset + outer.l3Offset;
  const length = outer.l3End - outer.l4Offset;
  const pseudo =
    outer.ipVersion === 4
      ? pseudoHeaderSum4(packet.bytes, ip + 12, IpProtocol.TCP, length)
      : pseudoHeaderSum6(packet.bytes, ip + 8, IpProtocol.TCP, length);
  const sum = sumBytes(packet.bytes, packet.offset + outer.l4Offset, length, pseudo);
  return sum === 0xffff ? TunnelResult.DONE : TunnelResult.BAD_CHECKSUM;
}

/**
 * Take a whole frame's packet out of it: all is checked, then the key is written and the packet changed.
 * @param packet where the frame lies @param last the segment that came last: its outer header goes into the key
 * @param frame index of the STT header
 */
function deliver(
  packet: Packet,
  last: Packet,
  frame: number,
  total: number,
  outer: HeaderOffsets,
  tos: number,
  words: Uint32Array,
  at: number,
): number {
  const { view } = packet.region;
  const bytes = packet.bytes;
  if (bytes[frame + SttFrame.VERSION] !== 0) return TunnelResult.BAD_FLAGS;
  const payload = frame + SttFrame.LENGTH;
  const length = total - SttFrame.LENGTH;
  const flags = bytes[frame + SttFrame.FLAGS];
  const isPartial = (flags & SttFlag.CHECKSUM_PARTIAL) !== 0;
  const isTcp = (flags & SttFlag.TCP) !== 0;
  const l4Offset = bytes[frame + SttFrame.L4_OFFSET];
  if (isPartial) {
    const l3Bytes = (flags & SttFlag.IPV4) !== 0 ? IPV4_BYTES : IPV6_BYTES;
    const isRoom = l4Offset >= ETHERNET_BYTES + l3Bytes && l4Offset + (isTcp ? TCP_BYTES : UDP_BYTES) <= length;
    if (!isRoom) return TunnelResult.BAD_OFFLOAD;
  }
  if (!joinEcn(packet, payload, payload + length, 0, tos)) return TunnelResult.CONGESTION;
  words[at + TunnelWord.ID_HIGH] = view.getUint32(frame + SttFrame.CONTEXT_ID);
  words[at + TunnelWord.ID] = view.getUint32(frame + SttFrame.CONTEXT_ID + 4);
  fillOuter(last, outer, tos, words, at, TunnelOptions.NONE);
  words[at + TunnelWord.PORTS] = last.region.view.getUint32(last.offset + outer.l4Offset);
  const dontFragment = isDontFragment(last, outer) ? TunnelFlag.DONT_FRAGMENT : 0;
  words[at + TunnelWord.FLAGS] = (TunnelFlag.KEY | TunnelFlag.CHECKSUM | dontFragment) << 16;
  const segmentSize = view.getUint16(frame + SttFrame.SEGMENT_SIZE);
  const tag = view.getUint16(frame + SttFrame.VLAN);
  packet.offset = payload;
  packet.length = length;
  packet.headerLengthBytes = 0;
  packet.gsoType = Gso.NONE;
  packet.gsoSizeBytes = 0;
  if (isPartial) {
    packet.checksum = Checksum.PARTIAL;
    packet.checksumStart = l4Offset;
    packet.checksumOffset = isTcp ? TCP_CHECKSUM : UDP_CHECKSUM;
    if (segmentSize !== 0) superPacket(packet, flags, l4Offset, segmentSize);
  } else {
    packet.checksum = (flags & SttFlag.CHECKSUM_VERIFIED) !== 0 ? Checksum.VALID : Checksum.UNKNOWN;
    packet.checksumStart = 0;
    packet.checksumOffset = 0;
  }
  // The headers that were taken off leave room for the tag.
  if ((tag & STT_TAG_PRESENT) !== 0) applyTagAction(packet, TagAction.PUSH | (tag & ~STT_TAG_PRESENT));
  return TunnelResult.DONE;
}

/** A packet that is no longer than one segment is none. */
function superPacket(packet: Packet, flags: number, l4Offset: number, segmentSize: number): void {
  const tcp = packet.offset + l4Offset;
  const isTcp = (flags & SttFlag.TCP) !== 0;
  const headers = l4Offset + (isTcp ? (packet.bytes[tcp + 12] >>> 4) << 2 : UDP_BYTES);
  if (packet.length - headers <= segmentSize) return;
  const hasWindowReduced = isTcp && (packet.bytes[tcp + TCP_FLAGS] & TcpFlag.CWR) !== 0;
  const kind = isTcp ? ((flags & SttFlag.IPV4) !== 0 ? Gso.TCPV4 : Gso.TCPV6) : Gso.UDP;
  packet.gsoType = hasWindowReduced ? kind | Gso.ECN : kind;
  packet.gsoSizeBytes = segmentSize;
  packet.headerLengthBytes = headers;
}
