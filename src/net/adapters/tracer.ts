/** TracerAdapter: shows every frame that passes to an observer, and leaves it as it is. For traces, captures and tests. */

import type { Adapter } from '../adapter.ts';
import type { Batch } from '../batch.ts';
import type { Packet } from '../packet.ts';
import { AdapterAround } from './around.ts';

/** Looks at frames. It must not keep or change the packet. */
export interface FrameObserver {
  received(packet: Packet): void;
  /** @param tag the TagAction that the adapter is about to carry out; the packet does not show it yet */
  transmitted(packet: Packet, tag: number): void;
}

/** An adapter around another one. */
export class TracerAdapter extends AdapterAround {
  readonly #observer: FrameObserver;

  constructor(inner: Adapter, observer: FrameObserver) {
    super(inner);
    this.#observer = observer;
  }

  override receive(batch: Batch, limit: number): number {
    const first = batch.count;
    const count = this.inner.receive(batch, limit);
    for (let i = first; i < batch.count; i += 1) this.#observer.received(batch.packets[i]);
    return count;
  }

  override transmit(packet: Packet, tag: number): void {
    this.#observer.transmitted(packet, tag);
    this.inner.transmit(packet, tag);
  }
}
