/**
 * GeneratorAdapter: an endless supply of ready-made frames, and a sink that counts. It measures what lies between receive and
 * transmit: handing out a packet costs a few field writes, no copy and no allocation. memory.ts is the adapter for everything else.
 */
import { type Adapter, type AdapterCounters, newCounters, Offload } from '../adapter.ts';
import type { Batch } from '../batch.ts';
import { Packet, type PacketOwner } from '../packet.ts';
import { Region } from '../region.ts';
import { type AdapterSettings, macAddressFromName } from './settings.ts';

export interface GeneratorSettings extends AdapterSettings {
  /** The frames to hand out, round and round. */
  frames: readonly Uint8Array[];
  /** Descriptors in circulation; more than the pipeline holds at once. 256 by default. */
  packets?: number;
  /** Free room before each frame, for tags and tunnel headers. 128 bytes by default. */
  headroomBytes?: number;
  /** Stop after this many packets; never by default. */
  total?: number;
}

/** Hands out frames for ever. What the pipeline writes into a frame is there when that descriptor comes round again. */
export class GeneratorAdapter implements Adapter, PacketOwner {
  readonly name: string;
  readonly kind = 'generator';
  readonly macAddress: Uint8Array;
  readonly mtuBytes: number;
  readonly offloads: number;
  readonly fileDescriptor = -1;
  readonly counters: AdapterCounters = newCounters();
  /** Packets still to be handed out. */
  remaining: number;

  readonly #free: Packet[] = [];
  readonly #lengths: Int32Array;
  readonly #bufferBytes: number;
  readonly #headroomBytes: number;
  #available = 0;

  /** @throws RangeError without frames */
  constructor(settings: GeneratorSettings) {
    const { frames } = settings;
    if (frames.length === 0) throw new RangeError('a generator needs at least one frame');
    this.name = settings.name;
    this.macAddress = settings.macAddress ?? macAddressFromName(settings.name);
    this.mtuBytes = settings.mtuBytes ?? 1500;
    this.offloads = settings.offloads ?? Offload.ALL;
    this.remaining = settings.total ?? Number.MAX_SAFE_INTEGER;

    const count = Math.max(settings.packets ?? 256, frames.length);
    const longest = Math.max(...frames.map((frame) => frame.length));
    this.#headroomBytes = settings.headroomBytes ?? 128;
    this.#bufferBytes = Math.ceil((this.#headroomBytes + longest + 64) / 64) * 64;
    this.#lengths = new Int32Array(count);
    const region = new Region(new ArrayBuffer(count * this.#bufferBytes));
    for (let slot = count - 1; slot >= 0; slot -= 1) {
      const frame = frames[slot % frames.length];
      region.bytes.set(frame, slot * this.#bufferBytes + this.#headroomBytes);
      this.#lengths[slot] = frame.length;
      this.recycle(new Packet(this, region, slot));
    }
  }

  /** Descriptors that are not handed out: at rest, all of them. */
  get available(): number {
    return this.#available;
  }

  receive(batch: Batch, limit: number): number {
    const count = Math.min(limit, this.#available, this.remaining);
    let bytes = 0;
    for (let i = 0; i < count; i += 1) {
      this.#available -= 1;
      const packet = this.#free[this.#available];
      const base = packet.slot * this.#bufferBytes;
      packet.headroomStart = base;
      packet.offset = base + this.#headroomBytes;
      packet.length = this.#lengths[packet.slot];
      packet.limit = base + this.#bufferBytes;
      packet.references = 1;
      packet.resetMetadata();
      bytes += packet.length;
      batch.push(packet);
    }
    this.remaining -= count;
    this.counters.receivedPackets += count;
    this.counters.receivedBytes += bytes;
    return count;
  }

  transmit(packet: Packet, _tag: number): void {
    this.counters.transmittedPackets += 1;
    this.counters.transmittedBytes += packet.length;
  }

  flush(): void {}

  /** Nothing more is handed out. */
  close(): void {
    this.remaining = 0;
  }

  recycle(packet: Packet): void {
    packet.attachment = null;
    this.#free[this.#available] = packet;
    this.#available += 1;
  }
}
