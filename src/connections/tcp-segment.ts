/** What tracking reads of a TCP segment, options included. Made once and filled again for each segment. */
import { TcpFlag } from '../net/index.ts';
import { word } from './bytes.ts';
import { tcpKind } from './tcp-state.ts';

/** Largest window scale (RFC 7323, section 2.3). */
const LARGEST_SCALE = 14;

/** Kinds of TCP options. */
const Option = { END: 0, NOTHING: 1, WINDOW_SCALE: 3, SACK_PERMITTED: 4, SACK: 5 } as const;

export class TcpSegment {
  /** One of TcpKind. */
  kind = 0;
  flags = 0;
  /** All sequence numbers are int32: differences wrap around as they should. */
  sequence = 0;
  acknowledgment = 0;
  /** The highest sequence number that is acknowledged, selectively or not. */
  selective = 0;
  /** Sequence number behind the segment, SYN and FIN counted. */
  end = 0;
  /** As it stands in the header. */
  window = 0;
  /** The option; -1 where there is none. */
  scale = -1;
  isSackPermitted = false;
  hasOptions = false;

  /**
   * Read a segment.
   * @param tcp index of its header, which has been checked for length
   * @param payload index behind the options
   * @param end index behind the last byte of the packet
   */
  read(bytes: Uint8Array, tcp: number, payload: number, end: number): void {
    const flags = ((bytes[tcp + 12] & 0xf) << 8) | bytes[tcp + 13];
    this.flags = flags;
    this.kind = tcpKind(flags);
    this.sequence = word(bytes, tcp + 4);
    this.acknowledgment = word(bytes, tcp + 8);
    this.selective = this.acknowledgment;
    this.window = (bytes[tcp + 14] << 8) | bytes[tcp + 15];
    const length = end - payload + (flags & TcpFlag.SYN ? 1 : 0) + (flags & TcpFlag.FIN ? 1 : 0);
    this.end = (this.sequence + length) | 0;
    this.scale = -1;
    this.isSackPermitted = false;
    this.hasOptions = payload > tcp + 20;
    if (this.hasOptions) this.#readOptions(bytes, tcp + 20, payload);
  }

  #readOptions(bytes: Uint8Array, start: number, end: number): void {
    for (let at = start; at < end; ) {
      const kind = bytes[at];
      if (kind === Option.END) return;
      if (kind === Option.NOTHING) {
        at += 1;
        continue;
      }
      if (at + 1 >= end) return;
      const length = bytes[at + 1];
      if (length < 2 || at + length > end) return;
      if (kind === Option.WINDOW_SCALE && length === 3) this.scale = Math.min(bytes[at + 2], LARGEST_SCALE);
      else if (kind === Option.SACK_PERMITTED && length === 2) this.isSackPermitted = true;
      else if (kind === Option.SACK && length >= 10 && (length - 2) % 8 === 0) {
        for (let edge = at + 6; edge < at + length; edge += 8) {
          const right = word(bytes, edge);
          if (((right - this.selective) | 0) > 0) this.selective = right;
        }
      }
      at += length;
    }
  }
}
