/** An adapter around another one that passes everything through: what tracer.ts and fault-injector.ts begin with. */
import type { Adapter, AdapterCounters } from '../adapter.ts';
import type { Batch } from '../batch.ts';
import type { Packet } from '../packet.ts';

/** Passes everything to the inner adapter; a subclass changes what it is for. */
export abstract class AdapterAround implements Adapter {
  readonly inner: Adapter;

  constructor(inner: Adapter) {
    this.inner = inner;
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
    return this.inner.receive(batch, limit);
  }

  transmit(packet: Packet, tag: number): void {
    this.inner.transmit(packet, tag);
  }

  flush(): void {
    this.inner.flush();
  }

  close(): void {
    this.inner.close();
  }
}
