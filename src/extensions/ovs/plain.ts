/** Packets without offloads, for takers that know of none: programs, and devices that are not told of super-packets. */
import {
  type Batch,
  Checksum,
  type ClonePool,
  completeChecksum,
  copyPacket,
  Gso,
  type Packet,
  type PacketPool,
  SegmentResult,
  segment,
} from '../../net/index.ts';

/** Buffers of a datapath. */
export interface Buffers {
  readonly pool: PacketPool;
  /** For packets that are longer than those of `pool`. */
  readonly largePool: PacketPool;
  readonly clones: ClonePool;
}

/**
 * Append a packet as plain packets: itself, a copy with its checksum written, or its segments.
 * @param packet is only read
 * @param out each packet with one reference that passes to the caller
 * @returns false when that cannot be done; nothing is appended then
 */
export function plainPackets(packet: Packet, buffers: Buffers, out: Batch): boolean {
  if (packet.gsoType !== Gso.NONE) return segment(packet, buffers.pool, out) === SegmentResult.DONE;
  if (packet.checksum !== Checksum.PARTIAL) {
    packet.hold();
    out.push(packet);
    return true;
  }
  // Others may hold the same bytes, which have to stay as they are for them.
  const copy = copyPacket(packet, packet.length > buffers.pool.maxFrameBytes ? buffers.largePool : buffers.pool);
  if (copy === null) return false;
  if (completeChecksum(copy) !== SegmentResult.DONE) {
    copy.release();
    return false;
  }
  out.push(copy);
  return true;
}
