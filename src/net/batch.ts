/**
 * A batch: the packets that are handled together, so that per-call costs are paid once for many.
 * A batch is a reused array. Whoever is handed one may take packets out of it during the call but never keeps the batch itself.
 */
import type { Packet } from './packet.ts';

/** How many packets adapters aim to deliver at once. */
export const BATCH_SIZE = 64;

/** A reusable list of packets with a fill count. */
export class Batch {
  readonly packets: Packet[] = [];
  count = 0;

  constructor() {
    Object.seal(this);
  }

  /** Append a packet. The array grows to the largest batch ever seen and then stays. */
  push(packet: Packet): void {
    this.packets[this.count] = packet;
    this.count += 1;
  }

  /** Forget the packets without releasing them: their references have moved elsewhere. */
  clear(): void {
    this.count = 0;
  }

  /** Release every packet and forget it. */
  releaseAll(): void {
    const count = this.count;
    this.count = 0;
    for (let i = 0; i < count; i += 1) this.packets[i].release();
  }
}
