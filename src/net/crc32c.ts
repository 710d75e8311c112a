/**
 * CRC32c (Castagnoli), the checksum of SCTP. Its neighbour checksum.ts holds the internet checksum of everything else.
 * Eight bytes at a time through eight tables ("slicing by eight").
 */

/** The Castagnoli polynomial 0x1edc6f41 with its bits in reverse order. */
const POLYNOMIAL = 0x82f6_3b78;

/** Eight tables of 256 entries, one behind the other: table k advances a byte's remainder over k further zero bytes. */
const TABLES = makeTables();

function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    let remainder = byte;
    for (let bit = 0; bit < 8; bit += 1) {
      remainder = (remainder & 1) === 1 ? (remainder >>> 1) ^ POLYNOMIAL : remainder >>> 1;
    }
    tables[byte] = remainder;
  }
  for (let i = 256; i < tables.length; i += 1) {
    const shorter = tables[i - 256];
    tables[i] = (shorter >>> 8) ^ tables[shorter & 0xff];
  }
  return tables;
}

/**
 * CRC32c of a stretch of bytes, or of several in turn.
 * @param previous the result over the bytes before these; 0 to begin
 * @returns the checksum as an unsigned 32-bit number. SCTP stores it with its lowest byte first (RFC 9260, appendix A)
 */
export function crc32c(bytes: Uint8Array, offset: number, length: number, previous = 0): number {
  let crc = ~previous;
  let i = offset;
  const end = offset + length;
  for (; i + 8 <= end; i += 8) {
    const low = crc ^ (bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24));
    crc =
      TABLES[1792 + (low & 0xff)] ^
      TABLES[1536 + ((low >>> 8) & 0xff)] ^
      TABLES[1280 + ((low >>> 16) & 0xff)] ^
      TABLES[1024 + (low >>> 24)] ^
      TABLES[768 + bytes[i + 4]] ^
      TABLES[512 + bytes[i + 5]] ^
      TABLES[256 + bytes[i + 6]] ^
      TABLES[bytes[i + 7]];
  }
  for (; i < end; i += 1) crc = TABLES[(crc ^ bytes[i]) & 0xff] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/**
 * CRC32c of an SCTP packet, its checksum field counted as zero.
 * @param offset index of the common header; at least 12 bytes lie behind it
 */
export function sctpChecksum(bytes: Uint8Array, offset: number, length: number): number {
  const before = crc32c(bytes, offset, 8);
  return crc32c(bytes, offset + 12, length - 12, crc32c(FOUR_ZEROS, 0, 4, before));
}

const FOUR_ZEROS = new Uint8Array(4);
