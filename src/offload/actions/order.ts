/** Byte order: parameters hold values as the packet has them, so that programs copy them without turning them round. */

const isLittleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** A 32-bit number as its bytes lie in a packet. @returns an unsigned number */
export function network32(value: number): number {
  if (!isLittleEndian) return value >>> 0;
  return (((value & 0xff) << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | ((value >>> 24) & 0xff)) >>> 0;
}

/** The same for 16 bits. */
export function network16(value: number): number {
  return isLittleEndian ? ((value & 0xff) << 8) | ((value >>> 8) & 0xff) : value & 0xffff;
}
