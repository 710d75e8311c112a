/**
 * Sums over a packet whose own checksum may be unfinished (local checksum offload, as in Linux' Documentation/networking/checksum-offloads.rst): once it is finished,
 * all from where it begins to sum, its field included, adds up to the inverse of the sum that its field holds now. So an outer checksum costs no look at the payload.
 */
import { Checksum, type Packet, sumBytes } from '../net/index.ts';

/** The place of SCTP's checksum, which is no sum: nothing can be said of it before it is there. */
const SCTP_CHECKSUM_OFFSET = 8;

/** Whether the packet's partial checksum is one that {@link sumTunnelled} can do without. */
export function isSummable(packet: Packet): boolean {
  return packet.checksum !== Checksum.PARTIAL || packet.checksumOffset !== SCTP_CHECKSUM_OFFSET;
}

/**
 * Ones' complement sum of the packet's bytes, as they will be when its partial checksum, if it begins behind `from`, has been finished.
 * @param from index of the first byte
 * @param end one behind the last; the packet's end where its checksum is partial
 * @param initialSum a sum to carry on from
 * @returns the folded sum
 */
export function sumTunnelled(packet: Packet, from: number, end: number, initialSum: number): number {
  const start = packet.offset + packet.checksumStart;
  if (packet.checksum !== Checksum.PARTIAL || start <= from)
    return sumBytes(packet.bytes, from, end - from, initialSum);
  const field = start + packet.checksumOffset;
  let rest = ~((packet.bytes[field] << 8) | packet.bytes[field + 1]) & 0xffff;
  // Words count from `from`: at an odd distance the high byte comes second.
  if (((start - from) & 1) === 1) rest = ((rest & 0xff) << 8) | (rest >>> 8);
  return sumBytes(packet.bytes, from, (start - from) & ~1, initialSum + rest + oddByte(packet.bytes, from, start));
}

/** The last byte of a stretch of odd length, as the high half of a word. */
function oddByte(bytes: Uint8Array, from: number, end: number): number {
  return ((end - from) & 1) === 1 ? bytes[end - 1] << 8 : 0;
}
