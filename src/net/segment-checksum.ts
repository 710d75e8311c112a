/**
 * Finishing a partial checksum in software, for an egress that cannot. Its neighbour segment.ts does the same for every
 * segment of a super-packet on the way.
 */
import { internetChecksum } from './checksum.ts';
import { sctpChecksum } from './crc32c.ts';
import { HeaderOffsets, Malformed } from './dissect.ts';
import { Checksum, type Packet } from './packet.ts';
import { SegmentResult } from './segment-result.ts';
import { IpProtocol } from './wire/numbers.ts';

/** Where SCTP keeps its CRC32c. No 16-bit checksum of a protocol that Linux offloads lies there. */
const SCTP_CHECKSUM_OFFSET = 8;

const headers = new HeaderOffsets();

/**
 * Write the checksum of a packet that is {@link Checksum.PARTIAL} and mark it as whole. Senders leave SCTP's CRC32c to the
 * same mechanism, told apart by its place; it is written as such.
 * The frame is changed in place: nobody else may share its bytes, since a sharer that is still partial would then be wrong.
 * @returns DONE, NOTHING_CLAIMED when the packet is not partial, or CHECKSUM_PLACE with the packet left as it was
 */
export function completeChecksum(packet: Packet): number {
  if (packet.checksum !== Checksum.PARTIAL) return SegmentResult.NOTHING_CLAIMED;
  const start = packet.checksumStart;
  const place = packet.checksumOffset;
  const length = packet.length;
  if (!isWhole(start) || !isWhole(place) || start < 14 || start + place + 2 > length) {
    return SegmentResult.CHECKSUM_PLACE;
  }
  const bytes = packet.bytes;
  const field = packet.offset + start + place;
  if (place === SCTP_CHECKSUM_OFFSET && isSctpAt(packet, start)) {
    const crc = sctpChecksum(bytes, packet.offset + start, headers.l3End - start);
    bytes[field] = crc;
    bytes[field + 1] = crc >>> 8;
    bytes[field + 2] = crc >>> 16;
    bytes[field + 3] = crc >>> 24;
  } else {
    // An odd checksumOffset would straddle words; no transport has one.
    if ((place & 1) === 1) return SegmentResult.CHECKSUM_PLACE;
    const sum = internetChecksum(bytes, packet.offset + start, length - start);
    // To UDP, 0 means that there is none; to the others 0xffff is as good (the kernel's CSUM_MANGLED_0).
    const value = sum === 0 ? 0xffff : sum;
    bytes[field] = value >>> 8;
    bytes[field + 1] = value;
  }
  packet.checksum = Checksum.UNKNOWN;
  packet.checksumStart = 0;
  packet.checksumOffset = 0;
  return SegmentResult.DONE;
}

function isSctpAt(packet: Packet, start: number): boolean {
  return (
    headers.parse(packet) === Malformed.NOTHING && headers.ipProtocol === IpProtocol.SCTP && headers.l4Offset === start
  );
}

function isWhole(value: number): boolean {
  return value >>> 0 === value;
}
