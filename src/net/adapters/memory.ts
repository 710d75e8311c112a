/**
 * MemoryAdapter: frames that never leave the process. Two of them make a virtual cable (`MemoryAdapter.pair`); one alone is a port of a test or
 * of a simulation: `inject` plays the wire towards Millrace, and what is transmitted is counted, kept or refused.
 * generator.ts is the one for benchmarks. Offload metadata travels whole.
 */
import { type Adapter, type AdapterCounters, newCounters, Offload, Refusal, type RefusalListener } from '../adapter.ts';
import type { Batch } from '../batch.ts';
import { copyPacket } from '../copy.ts';
import { exceedsMtu } from '../mtu.ts';
import type { Packet } from '../packet.ts';
import { PacketPool } from '../pool.ts';
import { applyTagAction, TagResult } from '../vlan.ts';
import { PacketQueue } from './packet-queue.ts';
import { type AdapterSettings, bufferSettings, macAddressFromName } from './settings.ts';

/** What an adapter without a peer does with frames that are transmitted. */
export const Sink = {
  /** Count and forget them. */
  COUNT: 0,
  /** Keep a copy of each for `takeTransmitted`. */
  KEEP: 1,
  /** Refuse them, as a device does whose queue is full: counted as transmitDropped. */
  REFUSE: 2,
} as const;

/** The offloads and the time that go with a frame; fields of Packet. */
export type FrameMetadata = Partial<
  Pick<
    Packet,
    | 'checksum'
    | 'checksumStart'
    | 'checksumOffset'
    | 'gsoType'
    | 'gsoSizeBytes'
    | 'headerLengthBytes'
    | 'timestampSeconds'
    | 'timestampNanoseconds'
  >
>;

/** A kept frame: its bytes with the tag action carried out, and its metadata. */
export interface TransmittedFrame extends Required<FrameMetadata> {
  frame: Uint8Array;
}

export interface MemoryAdapterSettings extends AdapterSettings {
  /** Most frames that wait to be received; 1024 by default. */
  queuePackets?: number;
  /** Buffers for frames on the way to this adapter's `receive`; 256 by default. */
  poolPackets?: number;
  /** Size of each buffer; by default what MTU and offloads call for. Longer frames are dropped and counted. */
  bufferBytes?: number;
  /** One of {@link Sink}. */
  sink?: number;
}

/** An adapter in memory. */
export class MemoryAdapter implements Adapter {
  readonly name: string;
  readonly kind = 'memory';
  readonly macAddress: Uint8Array;
  readonly mtuBytes: number;
  readonly offloads: number;
  readonly fileDescriptor = -1;
  readonly counters: AdapterCounters = newCounters();
  onRefused: RefusalListener | null = null;
  /** One of {@link Sink}; may be changed at any time. */
  sink: number;

  readonly #pool: PacketPool;
  readonly #arriving: PacketQueue;
  #peer: MemoryAdapter | null = null;
  #queued: TransmittedFrame[] = [];
  #kept: TransmittedFrame[] = [];
  #closed = false;

  constructor(settings: MemoryAdapterSettings) {
    this.name = settings.name;
    this.macAddress = settings.macAddress ?? macAddressFromName(settings.name);
    this.mtuBytes = settings.mtuBytes ?? 1500;
    this.offloads = settings.offloads ?? Offload.ALL;
    this.sink = settings.sink ?? Sink.COUNT;
    const buffers = bufferSettings(this.mtuBytes, this.offloads);
    this.#pool = new PacketPool({
      packets: settings.poolPackets ?? 256,
      bufferBytes: settings.bufferBytes ?? buffers.bufferBytes,
      headroomBytes: buffers.headroomBytes,
    });
    this.#arriving = new PacketQueue(settings.queuePackets ?? 1024);
  }

  /** Two adapters joined by a cable: what one transmits the other receives, once it is flushed. */
  static pair(left: MemoryAdapterSettings, right: MemoryAdapterSettings): [MemoryAdapter, MemoryAdapter] {
    const ends: [MemoryAdapter, MemoryAdapter] = [new MemoryAdapter(left), new MemoryAdapter(right)];
    ends[0].#peer = ends[1];
    ends[1].#peer = ends[0];
    return ends;
  }

  /** Frames that `receive` would give now. */
  get waiting(): number {
    return this.#arriving.ready;
  }

  /** Buffers that are not on the way anywhere: at rest, all of them. */
  get freeBuffers(): number {
    return this.#pool.available;
  }

  /**
   * Put a frame on the wire towards Millrace. It is copied.
   * @returns false when it was dropped (counted as receiveDropped): too long for a buffer, or no room, or closed
   */
  inject(frame: Uint8Array, metadata?: FrameMetadata): boolean {
    const packet = frame.length > this.#pool.maxFrameBytes || this.#closed ? null : this.#pool.allocate();
    if (packet === null) {
      this.counters.receiveDropped += 1;
      return false;
    }
    packet.bytes.set(frame, packet.offset);
    packet.length = frame.length;
    if (metadata !== undefined) Object.assign(packet, metadata);
    return this.injectPacket(packet);
  }

  /**
   * As {@link inject}, without copying: the very packet is received. Its reference passes on, also when it is dropped.
   * @returns false when it was dropped
   */
  injectPacket(packet: Packet): boolean {
    if (!this.#accept(packet)) {
      this.counters.receiveDropped += 1;
      return false;
    }
    this.#arriving.publish();
    return true;
  }

  /** The frames that were transmitted and flushed since the last call, under {@link Sink}.KEEP. */
  takeTransmitted(): TransmittedFrame[] {
    const kept = this.#kept;
    this.#kept = [];
    return kept;
  }

  receive(batch: Batch, limit: number): number {
    const first = batch.count;
    const count = this.#arriving.takeInto(batch, limit);
    let bytes = 0;
    for (let i = first; i < first + count; i += 1) bytes += batch.packets[i].length;
    this.counters.receivedPackets += count;
    this.counters.receivedBytes += bytes;
    return count;
  }

  transmit(packet: Packet, tag: number): void {
    if (this.#peer !== null) {
      if (!this.#send(packet, tag, this.#peer)) this.#refuse(packet);
      return;
    }
    if (this.sink === Sink.COUNT && !this.#closed && !exceedsMtu(packet, this.mtuBytes)) {
      this.counters.transmittedPackets += 1;
      this.counters.transmittedBytes += packet.length;
      return;
    }
    if (this.sink !== Sink.KEEP || !this.#keep(packet, tag)) this.#refuse(packet);
  }

  #refuse(packet: Packet): void {
    this.counters.transmitDropped += 1;
    const isTooLong = exceedsMtu(packet, this.mtuBytes);
    this.onRefused?.(isTooLong ? Refusal.TOO_LONG : Refusal.QUEUE_FULL, 1, packet.length);
  }

  flush(): void {
    if (this.#peer !== null) {
      this.#peer.#arriving.publish();
    } else if (this.#queued.length > 0) {
      this.#kept = this.#kept.concat(this.#queued);
      this.#queued = [];
    }
  }

  /** Frames that wait are released. What the other end of a cable transmits afterwards is dropped and counted there. */
  close(): void {
    this.#closed = true;
    this.#arriving.releaseAll();
    this.#queued = [];
  }

  /** Take a packet into the receive queue, or release it. */
  #accept(packet: Packet): boolean {
    if (!this.#closed && this.#arriving.push(packet)) return true;
    packet.release();
    return false;
  }

  #send(packet: Packet, tag: number, peer: MemoryAdapter): boolean {
    if (this.#closed || peer.#closed || peer.#arriving.isFull) return false;
    const copy = copyPacket(packet, peer.#pool);
    if (copy === null) return false;
    if (applyTagAction(copy, tag) !== TagResult.DONE || exceedsMtu(copy, this.mtuBytes)) {
      copy.release();
      return false;
    }
    this.counters.transmittedPackets += 1;
    this.counters.transmittedBytes += copy.length;
    return peer.#accept(copy);
  }

  #keep(packet: Packet, tag: number): boolean {
    const copy = this.#closed ? null : copyPacket(packet, this.#pool);
    if (copy === null) return false;
    const good = applyTagAction(copy, tag) === TagResult.DONE && !exceedsMtu(copy, this.mtuBytes);
    if (good) {
      this.counters.transmittedPackets += 1;
      this.counters.transmittedBytes += copy.length;
      this.#queued.push({
        frame: copy.frame().slice(),
        checksum: copy.checksum,
        checksumStart: copy.checksumStart,
        checksumOffset: copy.checksumOffset,
        gsoType: copy.gsoType,
        gsoSizeBytes: copy.gsoSizeBytes,
        headerLengthBytes: copy.headerLengthBytes,
        timestampSeconds: copy.timestampSeconds,
        timestampNanoseconds: copy.timestampNanoseconds,
      });
    }
    copy.release();
    return good;
  }
}
