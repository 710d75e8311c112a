/** Packets that wait to pass the table again, first come first served, each with its key. The keys are reused. */
import type { Packet } from '../../net/index.ts';
import { FlowKey } from '../key/key.ts';

export class DeferredQueue {
  readonly #packets: Packet[] = [];
  readonly #keys: FlowKey[] = [];
  #head = 0;
  #tail = 0;

  get isEmpty(): boolean {
    return this.#head === this.#tail;
  }

  /** Add a packet, whose reference passes to the queue. @returns the key that waits with it, equal to the one given */
  add(packet: Packet, key: FlowKey): FlowKey {
    let own = this.#keys[this.#tail];
    if (own === undefined) {
      own = new FlowKey();
      this.#keys.push(own);
    }
    own.copyFrom(key);
    this.#packets[this.#tail] = packet;
    this.#tail += 1;
    return own;
  }

  /** Take the first packet; its key is copied, as its place may be used again. */
  take(into: FlowKey): Packet {
    const packet = this.#packets[this.#head];
    into.copyFrom(this.#keys[this.#head]);
    this.#head += 1;
    if (this.#head === this.#tail) {
      this.#head = 0;
      this.#tail = 0;
    }
    return packet;
  }
}
