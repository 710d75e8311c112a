/**
 * The internet checksum: whole sums, sums of pseudo headers, and updates of a checksum whose data changed.
 * A *sum* here is a folded ones' complement sum (0 to 0xffff) that is not yet inverted, so sums can be carried from one
 * stretch of bytes to the next. SCTP's checksum is another matter: see crc32c.ts. segment.ts finishes partial checksums.
 */

/** Longest stretch whose words, all 0xffff, still fit an unsigned 32-bit accumulator with room to spare. */
const BLOCK_BYTES = 0x1_0000;

/**
 * Ones' complement sum of 16-bit big-endian words. An odd last byte counts as the high half of a word, so only the last
 * stretch of a sum that is carried on may have an odd length. Works at any alignment; allocates nothing.
 * @param offset index of the first byte; the caller has checked that offset and length lie within the bytes
 * @param initialSum a sum to carry on from, at most 0xffff_ffff
 * @returns the folded sum, 0 to 0xffff, not inverted
 * @see RFC 1071
 */
export function sumBytes(bytes: Uint8Array, offset: number, length: number, initialSum = 0): number {
  let sum = foldSum(initialSum);
  let i = offset;
  let left = length;
  while (left > BLOCK_BYTES) {
    sum = sumBlock(bytes, i, BLOCK_BYTES, sum);
    i += BLOCK_BYTES;
    left -= BLOCK_BYTES;
  }
  return sumBlock(bytes, i, left, sum);
}

/** At most {@link BLOCK_BYTES}. The `| 0` keep the accumulator an int32 in machine code; it is read as unsigned at the end. */
function sumBlock(bytes: Uint8Array, offset: number, length: number, initialSum: number): number {
  let sum = initialSum | 0;
  let i = offset;
  const end = offset + length;
  for (; i + 16 <= end; i += 16) {
    sum =
      (sum +
        ((bytes[i] << 8) | bytes[i + 1]) +
        ((bytes[i + 2] << 8) | bytes[i + 3]) +
        ((bytes[i + 4] << 8) | bytes[i + 5]) +
        ((bytes[i + 6] << 8) | bytes[i + 7]) +
        ((bytes[i + 8] << 8) | bytes[i + 9]) +
        ((bytes[i + 10] << 8) | bytes[i + 11]) +
        ((bytes[i + 12] << 8) | bytes[i + 13]) +
        ((bytes[i + 14] << 8) | bytes[i + 15])) |
      0;
  }
  for (; i + 2 <= end; i += 2) sum = (sum + ((bytes[i] << 8) | bytes[i + 1])) | 0;
  if (i < end) sum = (sum + (bytes[i] << 8)) | 0;
  return foldSum(sum >>> 0);
}

/** Fold an unsigned 32-bit sum to 16 bits, adding the carries back in. */
export function foldSum(sum: number): number {
  let folded = (sum & 0xffff) + (sum >>> 16);
  folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}

/** The checksum field's value for a sum: folded and inverted. */
export function finishSum(sum: number): number {
  return ~foldSum(sum) & 0xffff;
}

/**
 * The internet checksum of a stretch of bytes. Over bytes that hold their own correct checksum it is 0.
 * @param initialSum a sum to carry on from, such as a pseudo header's
 */
export function internetChecksum(bytes: Uint8Array, offset: number, length: number, initialSum = 0): number {
  return ~sumBytes(bytes, offset, length, initialSum) & 0xffff;
}

/**
 * Sum of the pseudo header of TCP, UDP and the like over IPv4.
 * @param addressesOffset index of the source address; the destination address follows it, as in the IPv4 header
 * @param length transport header and payload, in bytes
 * @see RFC 9293, section 3.1
 */
export function pseudoHeaderSum4(bytes: Uint8Array, addressesOffset: number, protocol: number, length: number): number {
  return sumBytes(bytes, addressesOffset, 8, protocol + (length & 0xffff) + (length >>> 16));
}

/**
 * Sum of the pseudo header over IPv6. Under a routing header that is not used up the destination to sum is the last one of
 * the route, which is not in the fixed header.
 * @param addressesOffset index of the source address; the destination address follows it, as in the IPv6 header
 * @param length transport header and payload, in bytes
 * @see RFC 8200, section 8.1
 */
export function pseudoHeaderSum6(bytes: Uint8Array, addressesOffset: number, protocol: number, length: number): number {
  return sumBytes(bytes, addressesOffset, 32, protocol + (length & 0xffff) + (length >>> 16));
}

/**
 * A checksum field's value after a 16-bit word under it changed. For UDP over IPv4 the caller leaves a checksum of 0 (none)
 * alone and sends a result of 0 as 0xffff.
 * @param checksum the field's value before
 * @see RFC 1624, equation 3: HC' = ~(~HC + ~m + m')
 */
export function updateChecksum16(checksum: number, before: number, after: number): number {
  return ~foldSum((~checksum & 0xffff) + (~before & 0xffff) + (after & 0xffff)) & 0xffff;
}

/**
 * A checksum field's value after an aligned 32-bit word under it changed, such as an IPv4 address or a sequence number.
 * @see RFC 1624
 */
export function updateChecksum32(checksum: number, before: number, after: number): number {
  const sum =
    (~checksum & 0xffff) +
    (~(before >>> 16) & 0xffff) +
    (~before & 0xffff) +
    ((after >>> 16) & 0xffff) +
    (after & 0xffff);
  return ~foldSum(sum) & 0xffff;
}
