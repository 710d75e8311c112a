/**
 * Super-packets into tunnels whose outer headers nobody can cut behind: the packet inside is cut first, and each piece gets outer headers of its own, with the checksum inside finished. The
 * metadata of `Packet` (virtio_net_hdr) has one checksum and one kind of super-packet, so a super-packet inside of UDP or GRE cannot be told to Linux by a packet socket or a TAP; STT's can.
 */
import {
  type Batch,
  Checksum,
  completeChecksum,
  copyPacket,
  ETHERNET_BYTES,
  Gso,
  type HostPath,
  type Packet,
  type PacketPool,
  SegmentResult,
  segment,
} from '../net/index.ts';
import type { Encapsulator } from './encapsulate.ts';
import type { TunnelPort } from './port.ts';
import { TunnelResult } from './result.ts';

/**
 * Encapsulate a packet for which `Encapsulator.encapsulate` has answered SEGMENT_FIRST. The packet is only read, its headroom apart.
 * @param pool where the pieces' memory comes from: its buffers need headroom for the outer headers
 * @param out gets the pieces in order, each with one reference that passes to the caller
 * @returns DONE, TO_FRAGMENT when pieces are to be cut further, or why not, and then nothing was appended
 */
export function encapsulateSegments(
  encapsulator: Encapsulator,
  packet: Packet,
  l3Type: number,
  port: TunnelPort,
  words: Uint32Array,
  at: number,
  path: HostPath,
  pool: PacketPool,
  out: Batch,
): number {
  const first = out.count;
  const cut = l3Type === 0 ? pieces(packet, pool, out) : layer3Pieces(packet, l3Type, pool, out);
  if (cut !== TunnelResult.DONE) return cut;
  let worst: number = TunnelResult.DONE;
  for (let i = first; i < out.count; i += 1) {
    const result = encapsulator.encapsulate(out.packets[i], l3Type, port, words, at, path);
    if (result === TunnelResult.TO_FRAGMENT) worst = result;
    else if (result !== TunnelResult.DONE) {
      while (out.count > first) {
        out.count -= 1;
        out.packets[out.count].release();
      }
      return result;
    }
  }
  return worst;
}

/** Plain packets with whole checksums. */
function pieces(packet: Packet, pool: PacketPool, out: Batch): number {
  if (packet.gsoType !== Gso.NONE) return resultOf(segment(packet, pool, out));
  const copy = copyPacket(packet, pool);
  if (copy === null) return TunnelResult.NO_BUFFER;
  if (completeChecksum(copy) === SegmentResult.CHECKSUM_PLACE) {
    copy.release();
    return TunnelResult.BAD_OFFLOAD;
  }
  out.push(copy);
  return TunnelResult.DONE;
}

/** `segment` reads frames: the packet gets an Ethernet header for as long as it takes. */
function layer3Pieces(packet: Packet, l3Type: number, pool: PacketPool, out: Batch): number {
  if (packet.offset - ETHERNET_BYTES < packet.headroomStart) return TunnelResult.NO_HEADROOM;
  const first = out.count;
  move(packet, -ETHERNET_BYTES);
  packet.region.view.setUint16(packet.offset + ETHERNET_BYTES - 2, l3Type);
  const result = pieces(packet, pool, out);
  move(packet, ETHERNET_BYTES);
  for (let i = first; i < out.count; i += 1) move(out.packets[i], ETHERNET_BYTES);
  return result;
}

function move(packet: Packet, byBytes: number): void {
  packet.offset += byBytes;
  packet.length -= byBytes;
  if (packet.checksum === Checksum.PARTIAL) packet.checksumStart -= byBytes;
}

function resultOf(result: number): number {
  switch (result) {
    case SegmentResult.DONE:
      return TunnelResult.DONE;
    case SegmentResult.POOL_EMPTY:
    case SegmentResult.BUFFER_SIZE:
      return TunnelResult.NO_BUFFER;
    default:
      return TunnelResult.BAD_OFFLOAD;
  }
}
