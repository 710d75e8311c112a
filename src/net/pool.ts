/**
 * Pools. A {@link PacketPool} owns memory for packets that Millrace makes itself (segments, copies, generated frames);
 * a {@link ClonePool} owns descriptors alone, for clones that share another packet's bytes.
 */
import { Packet, type PacketOwner } from './packet.ts';
import { Region } from './region.ts';

/** Where packets come from that something is cut into. */
export interface PacketSource {
  /** Packets that may be had. */
  readonly available: number;
  /** Longest frame that fits in one. */
  readonly maxFrameBytes: number;
  /** A packet of no length, offloads cleared, with one reference; null when there are no more. */
  allocate(): Packet | null;
}

/** A fixed number of equal packet buffers in one region. */
export class PacketPool implements PacketOwner, PacketSource {
  readonly region: Region;
  readonly #free: Packet[] = [];
  readonly #bufferBytes: number;
  readonly #headroomBytes: number;
  /** Of {@link #free} those that are there, and descriptors that were made: each when it is first wanted. */
  #count = 0;
  #made = 0;
  readonly capacity: number;

  /**
   * @param options.packets how many buffers
   * @param options.bufferBytes size of each, headroom included
   * @param options.headroomBytes free room before a new packet's frame
   */
  constructor(options: { packets: number; bufferBytes: number; headroomBytes?: number }) {
    this.capacity = options.packets;
    this.#bufferBytes = options.bufferBytes;
    this.#headroomBytes = options.headroomBytes ?? 128;
    if (this.#headroomBytes >= this.#bufferBytes) {
      throw new RangeError(
        `headroom of ${this.#headroomBytes} bytes leaves no room in buffers of ${this.#bufferBytes}`,
      );
    }
    this.region = new Region(new ArrayBuffer(this.capacity * this.#bufferBytes));
  }

  /** Buffers that are not handed out. */
  get available(): number {
    return this.capacity - this.#made + this.#count;
  }

  /** Longest frame that fits behind the headroom. */
  get maxFrameBytes(): number {
    return this.#bufferBytes - this.#headroomBytes;
  }

  /** A packet of no length, offloads cleared, with one reference; null when all are in use. Bytes are not zeroed. */
  allocate(): Packet | null {
    if (this.#count === 0) {
      if (this.#made === this.capacity) return null;
      this.recycle(new Packet(this, this.region, this.#made));
      this.#made += 1;
    }
    this.#count -= 1;
    const packet = this.#free[this.#count];
    const base = packet.slot * this.#bufferBytes;
    packet.headroomStart = base;
    packet.offset = base + this.#headroomBytes;
    packet.length = 0;
    packet.limit = base + this.#bufferBytes;
    packet.references = 1;
    packet.resetMetadata();
    return packet;
  }

  recycle(packet: Packet): void {
    packet.attachment = null;
    this.#free[this.#count] = packet;
    this.#count += 1;
  }

  part(packet: Packet): void {
    this.#free[this.#count] = new Packet(this, this.region, packet.slot);
    this.#count += 1;
  }
}

/** Descriptors for clones: they point at the bytes of a packet that they hold a reference to. */
export class ClonePool implements PacketOwner {
  readonly #free: Packet[] = [];
  readonly #nothing = new Region(new ArrayBuffer(0));
  #made = 0;
  readonly #maximum: number;

  /** @param maximum most clones alive at once */
  constructor(maximum: number) {
    this.#maximum = maximum;
  }

  /**
   * A second descriptor of the same bytes. Neither side may write to them while both live; who must write copies.
   * @returns the clone with one reference, or null when the maximum is reached
   */
  clone(original: Packet): Packet | null {
    let packet = this.#free.pop();
    if (packet === undefined) {
      if (this.#made === this.#maximum) return null;
      packet = new Packet(this, this.#nothing, this.#made);
      this.#made += 1;
    }
    packet.region = original.region;
    packet.bytes = original.bytes;
    packet.offset = original.offset;
    packet.length = original.length;
    packet.headroomStart = original.offset;
    packet.limit = original.offset + original.length;
    packet.copyMetadata(original);
    packet.references = 1;
    packet.parent = original;
    original.hold();
    return packet;
  }

  recycle(packet: Packet): void {
    packet.region = this.#nothing;
    packet.bytes = this.#nothing.bytes;
    packet.attachment = null;
    this.#free.push(packet);
  }
}
