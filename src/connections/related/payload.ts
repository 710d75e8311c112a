/** TCP's payload changed by a helper: another text of another length in the middle of a segment, and sequence numbers that are shifted for it. Lengths and checksums follow. */
import {
  Checksum,
  Gso,
  type HeaderOffsets,
  IpProtocol,
  type Packet,
  pseudoHeaderSum4,
  pseudoHeaderSum6,
  sumBytes,
  updateChecksum16,
  updateChecksum32,
} from '../../net/index.ts';
import { half, setHalf, word } from '../bytes.ts';

/**
 * Replace a text in a TCP segment.
 * @param headers of this packet; its end follows
 * @param at where the text is, from the start of the frame
 * @returns false, with nothing changed, when the packet has no room for it, or is a super-packet, whose segments are not known yet
 */
export function replaceText(packet: Packet, headers: HeaderOffsets, at: number, length: number, text: string): boolean {
  const grown = text.length - length;
  const { bytes, offset } = packet;
  if (packet.gsoType !== Gso.NONE || offset + packet.length + grown > packet.limit) return false;
  if (headers.l3End - headers.l3Offset + grown > 0xffff) return false;
  const behind = offset + at + length;
  bytes.copyWithin(behind + grown, behind, offset + packet.length);
  for (let i = 0; i < text.length; i += 1) bytes[offset + at + i] = text.charCodeAt(i);
  packet.length += grown;
  headers.l3End += grown;
  const l3 = offset + headers.l3Offset;
  if (headers.ipVersion === 4) {
    const before = half(bytes, l3 + 2);
    setHalf(bytes, l3 + 10, updateChecksum16(half(bytes, l3 + 10), before, before + grown));
    setHalf(bytes, l3 + 2, before + grown);
  } else setHalf(bytes, l3 + 4, half(bytes, l3 + 4) + grown);
  writeChecksum(packet, headers);
  return true;
}

function writeChecksum(packet: Packet, headers: HeaderOffsets): void {
  const { bytes, offset } = packet;
  const l4 = offset + headers.l4Offset;
  const length = headers.l3End - headers.l4Offset;
  const ip = offset + headers.l3Offset;
  const pseudo =
    headers.ipVersion === 4
      ? pseudoHeaderSum4(bytes, ip + 12, IpProtocol.TCP, length)
      : pseudoHeaderSum6(bytes, ip + 8, IpProtocol.TCP, length);
  setHalf(bytes, l4 + 16, pseudo);
  if (packet.checksum === Checksum.PARTIAL && packet.checksumStart === headers.l4Offset) return;
  setHalf(bytes, l4 + 16, 0);
  setHalf(bytes, l4 + 16, ~sumBytes(bytes, l4, length, pseudo) & 0xffff);
}

/**
 * Shift the sequence number and the acknowledgments of a segment, selective ones included.
 * @param acknowledgmentOf the shift to take off an acknowledgment
 */
export function shiftSegment(
  packet: Packet,
  headers: HeaderOffsets,
  sequenceShift: number,
  acknowledgmentOf: (acknowledgment: number) => number,
): void {
  const { bytes, offset } = packet;
  const l4 = offset + headers.l4Offset;
  const isPartial = packet.checksum === Checksum.PARTIAL && packet.checksumStart === headers.l4Offset;
  const checksumAt = isPartial ? -1 : l4 + 16;
  shiftWord(bytes, l4 + 4, sequenceShift, checksumAt, false);
  if ((bytes[l4 + 13] & 0x10) === 0) return;
  shiftWord(bytes, l4 + 8, -acknowledgmentOf(word(bytes, l4 + 8)), checksumAt, false);
  const end = offset + headers.payloadOffset;
  for (let at = l4 + 20; at + 1 < end; ) {
    const kind = bytes[at];
    if (kind === 0) return;
    if (kind === 1) {
      at += 1;
      continue;
    }
    const length = bytes[at + 1];
    if (length < 2 || at + length > end) return;
    if (kind === 5) {
      for (let edge = at + 2; edge + 4 <= at + length; edge += 4) {
        // An option may begin at an odd byte, where checksum words lie across.
        shiftWord(bytes, edge, -acknowledgmentOf(word(bytes, edge)), checksumAt, ((edge - l4) & 1) === 1);
      }
    }
    at += length;
  }
}

function shiftWord(bytes: Uint8Array, at: number, by: number, checksumAt: number, isOdd: boolean): void {
  if (by === 0) return;
  const before = word(bytes, at);
  const after = (before + by) | 0;
  bytes[at] = after >>> 24;
  bytes[at + 1] = after >>> 16;
  bytes[at + 2] = after >>> 8;
  bytes[at + 3] = after;
  if (checksumAt === -1) return;
  const [from, to] = isOdd ? [swapped(before), swapped(after)] : [before, after];
  setHalf(bytes, checksumAt, updateChecksum32(half(bytes, checksumAt), from, to));
}

/** The word as it counts when it stands at an odd place: each byte in the other half of a checksum word. */
function swapped(value: number): number {
  return (value >>> 8) | (value << 24);
}
