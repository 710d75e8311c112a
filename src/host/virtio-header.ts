/**
 * struct virtio_net_hdr (linux/virtio_net.h), which stands before every frame of a packet socket with PACKET_VNET_HDR and of
 * a TAP with IFF_VNET_HDR. It carries what a frame's bytes cannot say: a checksum that is still partial, and how a super-packet
 * is to be cut. Fields are in host order:
 *
 *      0        1         2             4             6               8                 10
 *      | flags  | gso_type| hdr_len     | gso_size    | csum_start    | csum_offset     |
 */
import { Checksum, Gso, type Packet } from '../net/index.ts';

/** Length of the header in bytes. */
export const VIRTIO_HEADER_BYTES = 10;

const FLAG_NEEDS_CSUM = 1;
const FLAG_DATA_VALID = 2;

const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/**
 * Read a header into a packet whose `length` is set already. For a plain frame only the metadata is cleared.
 * @param at where the header begins in the view
 * @returns false when the header contradicts the frame: a checksum outside of it, an unknown kind of super-packet
 */
export function readVirtioHeader(view: DataView, at: number, packet: Packet): boolean {
  const flags = view.getUint8(at);
  const gsoType = view.getUint8(at + 1);
  if (flags === 0 && gsoType === 0) {
    packet.checksum = Checksum.UNKNOWN;
    packet.checksumStart = 0;
    packet.checksumOffset = 0;
    packet.gsoType = Gso.NONE;
    packet.gsoSizeBytes = 0;
    packet.headerLengthBytes = 0;
    return true;
  }
  packet.gsoType = gsoType;
  packet.headerLengthBytes = gsoType === 0 ? 0 : view.getUint16(at + 2, littleEndian);
  packet.gsoSizeBytes = gsoType === 0 ? 0 : view.getUint16(at + 4, littleEndian);
  if ((flags & FLAG_NEEDS_CSUM) !== 0) {
    const start = view.getUint16(at + 6, littleEndian);
    const offset = view.getUint16(at + 8, littleEndian);
    if (start + offset + 2 > packet.length) return false;
    packet.checksum = Checksum.PARTIAL;
    packet.checksumStart = start;
    packet.checksumOffset = offset;
  } else {
    packet.checksum = (flags & FLAG_DATA_VALID) !== 0 ? Checksum.VALID : Checksum.UNKNOWN;
    packet.checksumStart = 0;
    packet.checksumOffset = 0;
  }
  return gsoType === 0 || isSuperPacket(gsoType, packet.gsoSizeBytes);
}

function isSuperPacket(gsoType: number, sizeBytes: number): boolean {
  if (sizeBytes === 0) return false;
  const kind = gsoType & ~Gso.ECN;
  return kind === Gso.TCPV4 || kind === Gso.TCPV6 || kind === Gso.UDP || kind === Gso.UDP_L4;
}

// How much of a super-packet the kernel keeps in one piece when its sender did not say where the headers end; the rest goes to
// page fragments. Without it the kernel would look for 64 KB of contiguous memory.
const assumedHeaderBytes = 128;

/**
 * Write the header for a packet.
 * @param at where in the view it begins
 * @param shift how many bytes the tag action moves everything behind the MAC addresses: -4, 0 or 4
 */
export function writeVirtioHeader(view: DataView, at: number, packet: Packet, shift: number): void {
  const partial = packet.checksum === Checksum.PARTIAL;
  const gsoType = packet.gsoType;
  if (!partial && gsoType === 0) {
    view.setUint32(at, 0);
    view.setUint32(at + 4, 0);
    view.setUint16(at + 8, 0);
    return;
  }
  view.setUint8(at, partial ? FLAG_NEEDS_CSUM : 0);
  view.setUint8(at + 1, gsoType);
  if (gsoType === 0) {
    view.setUint32(at + 2, 0);
  } else {
    const hint = packet.headerLengthBytes;
    const headerLength = hint > 0 ? hint + shift : Math.min(assumedHeaderBytes, packet.length + shift);
    view.setUint16(at + 2, headerLength, littleEndian);
    view.setUint16(at + 4, packet.gsoSizeBytes, littleEndian);
  }
  view.setUint16(at + 6, partial ? packet.checksumStart + shift : 0, littleEndian);
  view.setUint16(at + 8, partial ? packet.checksumOffset : 0, littleEndian);
}
