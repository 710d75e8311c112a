/**
 * Where the switch's packets leave: stands between a NIC of the switch and an adapter. It finishes in software what the adapter cannot
 * take (checksums, segmentation), and lets the adapter behind it come and go.
 */
import {
  type Adapter,
  Batch,
  Checksum,
  completeChecksum,
  copyPacket,
  Gso,
  Offload,
  type Packet,
  PacketPool,
  requiredOffloads,
  SegmentResult,
  segment,
} from '../../net/index.ts';
import type { NicBackend } from '../../switch/index.ts';

// Segments of a few super-packets, of any MTU. Memory of buffers that are never used is never touched.
const SEGMENT_POOL = { packets: 256, bufferBytes: 66_048 };

/** Buffers of finished frames, shared by all ports, made when the first is needed. */
let pool: PacketPool | null = null;

/** The way out of one port. */
export class PortBackend implements NicBackend {
  adapter: Adapter | null = null;
  /** Frames that could not be finished, or that found no adapter. */
  dropped = 0;
  readonly #made = new Batch();

  transmit(packet: Packet, tag: number): void {
    const adapter = this.adapter;
    if (adapter === null) {
      this.dropped += 1;
      return;
    }
    if (
      adapter.offloads === Offload.ALL ||
      (packet.checksum !== Checksum.PARTIAL && packet.gsoType === Gso.NONE) ||
      (requiredOffloads(packet) & ~adapter.offloads) === 0
    ) {
      adapter.transmit(packet, tag);
    } else this.#finish(adapter, packet, tag);
  }

  flush(): void {
    if (this.adapter !== null) this.adapter.flush();
    if (this.#made.count > 0) this.#made.releaseAll();
  }

  /** Do in software what the adapter cannot, in buffers of our own: the packet's bytes may be shared. */
  #finish(adapter: Adapter, packet: Packet, tag: number): void {
    pool ??= new PacketPool(SEGMENT_POOL);
    const made = this.#made;
    const first = made.count;
    if (packet.gsoType !== Gso.NONE) {
      if (segment(packet, pool, made) === SegmentResult.POOL_EMPTY) {
        // What waits is sent, which frees its buffers.
        this.flush();
        this.#segmentAgain(adapter, packet, tag, pool);
        return;
      }
    } else {
      const copy = copyPacket(packet, pool);
      if (copy !== null) {
        if (completeChecksum(copy) === SegmentResult.DONE) made.push(copy);
        else copy.release();
      }
    }
    this.#transmitFrom(adapter, first, tag);
  }

  #segmentAgain(adapter: Adapter, packet: Packet, tag: number, from: PacketPool): void {
    segment(packet, from, this.#made);
    this.#transmitFrom(adapter, 0, tag);
  }

  #transmitFrom(adapter: Adapter, first: number, tag: number): void {
    const made = this.#made;
    if (made.count === first) this.dropped += 1;
    for (let i = first; i < made.count; i += 1) adapter.transmit(made.packets[i], tag);
  }
}
