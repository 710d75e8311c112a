/** TracerAdapter: shows every frame that passes to an observer, and leaves it as it is. For traces, captures and tests. */
import type { Adapter, AdapterCounters } from '../adapter.ts';
import type { Batch } from '../batch.ts';
import type { Packet } from '../packet.ts';

/** Looks at frames. It must not keep or change the packet. */
export interface FrameObserver {
  received(packet: Packet): void;
  /** @param tag the TagAction that the adapter is about to carry out; the packet does not show it yet */
  transmitted(packet: Packet, tag: number): void;
}

/** An adapter around another one. */
export class TracerAdapter implements Adapter {
  readonly inner: Adapter;
  readonly #observer: FrameObserver;

  constructor(inner: Adapter, observer: FrameObserver) {
    this.inner = inner;
    this.#observer = observer;
  }

  get name(): string {
    return this.inner.name;
  }
  get kind(): string {
    return this.inner.kind;
  }
  get macAddress(): Uint8Array {
    return this.inner.macAddress;
  }
  get mtuBytes(): number {
    return this.inner.mtuBytes;
  }
  get offloads(): number {
    return this.inner.offloads;
  }
  get fileDescriptor(): number {
    return this.inner.fileDescriptor;
  }
  get counters(): AdapterCounters {
    return this.inner.counters;
  }

  receive(batch: Batch, limit: number): number {
    const first = batch.count;
    const count = this.inner.receive(batch, limit);
    for (let i = first; i < batch.count; i += 1) this.#observer.received(batch.packets[i]);
    return count;
  }

  transmit(packet: Packet, tag: number): void {
    this.#observer.transmitted(packet, tag);
    this.inner.transmit(packet, tag);
  }

  flush(): void {
    this.inner.flush();
  }

  close(): void {
    this.inner.close();
  }
}
