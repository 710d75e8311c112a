/** One STT frame whose segments come in any order: its bytes lie in place in the buffer from the beginning. */
import { copyBytes, type Packet } from '../../net/index.ts';
import { TunnelResult } from '../result.ts';

/** Segments of a frame that are kept: 64 KB in segments of 512 bytes are 128. */
const MOST_SEGMENTS = 160;

export class WaitingFrame {
  /** Where its bytes go; null while nothing waits here. */
  packet: Packet | null = null;
  /** Addresses, four words each with IPv4 in the first, and the frame's number. */
  readonly key = new Uint32Array(9);
  hash = 0;
  sourceHash = 0;
  begunMs = 0;
  /** Whether congestion was marked on any of its segments. */
  isMarked = false;
  #length = 0;
  #received = 0;
  #count = 0;
  /** Beginning and end of each segment, in the order of their places. */
  readonly #places = new Int32Array(2 * MOST_SEGMENTS);

  begin(packet: Packet, length: number, nowMs: number): void {
    this.packet = packet;
    this.begunMs = nowMs;
    this.isMarked = false;
    this.#length = length;
    this.#received = 0;
    this.#count = 0;
  }

  get length(): number {
    return this.#length;
  }

  /**
   * Copy a segment to its place.
   * @param from index of its first byte in `segment`
   * @param place in the frame; place and length lie within it
   * @returns DONE when the frame is complete, WAITING, DUPLICATE_SEGMENT, OVERLAPPING_SEGMENT or TOO_MANY_SEGMENTS
   */
  put(segment: Packet, from: number, place: number, length: number): number {
    const { packet } = this;
    if (packet === null) return TunnelResult.BAD_SEGMENT;
    const places = this.#places;
    const end = place + length;
    // Segments mostly come in order: the place is at the end.
    let index = this.#count;
    while (index > 0 && places[2 * index - 2] > place) index -= 1;
    if (index > 0 && places[2 * index - 1] > place) {
      const isSame = places[2 * index - 2] === place && places[2 * index - 1] === end;
      return isSame ? TunnelResult.DUPLICATE_SEGMENT : TunnelResult.OVERLAPPING_SEGMENT;
    }
    if (index < this.#count && places[2 * index] < end) return TunnelResult.OVERLAPPING_SEGMENT;
    if (this.#count === MOST_SEGMENTS) return TunnelResult.TOO_MANY_SEGMENTS;
    places.copyWithin(2 * index + 2, 2 * index, 2 * this.#count);
    places[2 * index] = place;
    places[2 * index + 1] = end;
    this.#count += 1;
    this.#received += length;
    copyBytes(segment.region, from, packet.region, packet.offset + place, length);
    return this.#received === this.#length ? TunnelResult.DONE : TunnelResult.WAITING;
  }
}
