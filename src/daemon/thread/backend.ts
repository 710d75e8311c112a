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
  Refusal,
  requiredOffloads,
  SegmentResult,
  segment,
} from '../../net/index.ts';
import { DropReason, type NicBackend, RefusedFrames } from '../../switch/index.ts';

// Segments of a few super-packets, of any MTU. Memory of buffers that are never used is never touched.
const SEGMENT_POOL = { packets: 256, bufferBytes: 66_048 };

/** The switch's reasons for what devices do not take. */
const REASONS: readonly number[] = Object.assign<number[], Record<number, number>>([], {
  [Refusal.DOWN]: DropReason.NIC_DOWN,
  [Refusal.TOO_LONG]: DropReason.EXCEEDS_MTU,
  [Refusal.QUEUE_FULL]: DropReason.NIC_QUEUE_FULL,
  [Refusal.REJECTED]: DropReason.NIC_FAILED,
});

/** Buffers of finished frames, shared by all ports, made when the first is needed. */
let pool: PacketPool | null = null;

/** The way out of one port. */
export class PortBackend implements NicBackend {
  readonly refused = new RefusedFrames();
  #adapter: Adapter | null = null;
  readonly #made = new Batch();

  get adapter(): Adapter | null {
    return this.#adapter;
  }

  set adapter(adapter: Adapter | null) {
    if (this.#adapter !== null) this.#adapter.onRefused = null;
    this.#adapter = adapter;
    if (adapter !== null) adapter.onRefused = this.#onRefused;
  }

  readonly #onRefused = (refusal: number, frames: number, bytes: number): void => {
    this.refused.add(REASONS[refusal] ?? DropReason.NIC_FAILED, frames, bytes);
  };

  transmit(packet: Packet, tag: number): void {
    const adapter = this.#adapter;
    if (adapter === null) {
      this.refused.add(DropReason.NIC_NOT_CONNECTED, 1, packet.length);
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
    if (this.#adapter !== null) this.#adapter.flush();
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
    this.#transmitFrom(adapter, packet, first, tag);
  }

  #segmentAgain(adapter: Adapter, packet: Packet, tag: number, from: PacketPool): void {
    segment(packet, from, this.#made);
    this.#transmitFrom(adapter, packet, 0, tag);
  }

  #transmitFrom(adapter: Adapter, packet: Packet, first: number, tag: number): void {
    const made = this.#made;
    if (made.count === first) this.refused.add(DropReason.BAD_OFFLOAD, 1, packet.length);
    for (let i = first; i < made.count; i += 1) adapter.transmit(made.packets[i], tag);
  }
}
