/** PacketQueue: a fixed ring of packets with a published end, the wire of memory.ts. Nothing here allocates after construction. */
import type { Batch } from '../batch.ts';
import type { Packet } from '../packet.ts';

/** First in, first out. What was pushed can be taken only once it has been published. */
export class PacketQueue {
  readonly #slots: (Packet | null)[];
  readonly #mask: number;
  #head = 0;
  #published = 0;
  #tail = 0;

  /** @param capacity most packets in the queue; rounded up to a power of two */
  constructor(capacity: number) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(2, capacity)));
    this.#slots = new Array<Packet | null>(size).fill(null);
    this.#mask = size - 1;
  }

  /** Packets that can be taken. */
  get ready(): number {
    return this.#published - this.#head;
  }

  get isFull(): boolean {
    return this.#tail - this.#head > this.#mask;
  }

  /** Append a packet, reference included. @returns false when the queue is full: the reference stays the caller's */
  push(packet: Packet): boolean {
    if (this.isFull) return false;
    this.#slots[this.#tail & this.#mask] = packet;
    this.#tail += 1;
    return true;
  }

  /** Let the other end take what was pushed so far. */
  publish(): void {
    this.#published = this.#tail;
  }

  /** Move packets into a batch. @returns how many */
  takeInto(batch: Batch, limit: number): number {
    const count = Math.min(limit, this.ready);
    for (let i = 0; i < count; i += 1) {
      const at = (this.#head + i) & this.#mask;
      const packet = this.#slots[at];
      if (packet !== null) batch.push(packet);
      this.#slots[at] = null;
    }
    this.#head += count;
    return count;
  }

  /** Release everything, published or not. */
  releaseAll(): void {
    while (this.#head < this.#tail) {
      const at = this.#head & this.#mask;
      this.#slots[at]?.release();
      this.#slots[at] = null;
      this.#head += 1;
    }
    this.#published = this.#tail;
  }
}
