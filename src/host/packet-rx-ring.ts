/**
 * The receive ring of a packet socket: TPACKET_V2 slots in memory shared with the kernel (packet_mmap in the kernel's
 * documentation, linux/if_packet.h). Packets point into their slots; recycling one gives its slot back to the kernel.
 *
 *      slot   0          32             headroom        mac-10        mac
 *             | tpacket2 | sockaddr_ll  | free          | virtio hdr  | frame ...
 *
 * The kernel fills slots strictly in order, and we read them in order; they may be released in any order. The kernel drops
 * frames while the slot that is next in its order is not free, so a slot held for long stops the port: holders copy.
 */
import { type Batch, Checksum, ETHERNET_BYTES, Packet, type PacketOwner, Region } from '../net/index.ts';
import type { PortCounters } from './port.ts';
import type { Mapping } from './sys/index.ts';
import { readVirtioHeader, VIRTIO_HEADER_BYTES } from './virtio-header.ts';

/** Bits of tp_status on receive. */
const Status = {
  KERNEL: 0,
  USER: 1,
  LOSING: 4,
  VLAN_VALID: 0x10,
  VLAN_TPID_VALID: 0x40,
  SOFTWARE_TIME: 0x2000_0000,
} as const;

// struct tpacket2_hdr, offsets in bytes.
const Header = { LENGTH: 4, SNAPPED: 8, MAC: 12, SECONDS: 16, NANOSECONDS: 20, VLAN_TCI: 24, VLAN_TPID: 26 } as const;

/**
 * In the place of a packet's time, beside the interface index that a program has written there: what is known of the packet lies before its frame,
 * in a record that begins with its own length in bytes (16 bits, network order) and ends with room for a tag.
 */
export const RECORD_MARK = 0x2000_0000;
/** A record says its length and ends with room for a tag; a frame begins with an Ethernet header. */
const SHORTEST_RECORD_BYTES = 8;

/** sockaddr_ll.sll_ifindex in a slot. */
const ADDRESS_IFINDEX_AT = 36;
/** Where headroom begins in a slot: behind tpacket2_hdr and sockaddr_ll (20 bytes). */
const HEADROOM_AT = 64;

const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** Where the slots are. */
export interface RingGeometry {
  slots: number;
  /** Bytes from one slot to the next, a multiple of 16. */
  slotBytes: number;
}

/** The receive ring over a mapping. */
export class ReceiveRing implements PacketOwner {
  readonly region: Region;
  readonly #words: Int32Array;
  readonly #packets: Packet[] = [];
  /** 1 for slots whose packet is out. */
  readonly #held: Uint8Array;
  readonly #geometry: RingGeometry;
  readonly #counters: PortCounters;
  /** Length of the record that each slot's packet brought, 0 for none; null where none come. */
  readonly #records: Int32Array | null;
  /** Where it begins in the region. */
  readonly #recordStarts: Int32Array;
  #mapping: Mapping | null;
  #cursor = 0;
  #heldCount = 0;
  #closing = false;
  /** Whether the kernel has said, since this was last set to false, that it lost frames. */
  losing = false;

  /**
   * @param mapping the socket's ring memory; the receive ring is at its start. The ring unmaps it after {@link close}
   * @param hasRecords whether packets may come with a record before them
   */
  constructor(mapping: Mapping, geometry: RingGeometry, counters: PortCounters, hasRecords = false) {
    this.#mapping = mapping;
    this.#geometry = geometry;
    this.#counters = counters;
    this.region = new Region(mapping.buffer, mapping.address);
    this.#words = new Int32Array(mapping.buffer);
    this.#held = new Uint8Array(geometry.slots);
    this.#records = hasRecords ? new Int32Array(geometry.slots) : null;
    this.#recordStarts = new Int32Array(hasRecords ? geometry.slots : 0);
    for (let slot = 0; slot < geometry.slots; slot += 1) this.#packets.push(this.#describe(slot));
  }

  /** A descriptor of a slot. */
  #describe(slot: number): Packet {
    const { slotBytes } = this.#geometry;
    const packet = new Packet(this, this.region, slot);
    packet.headroomStart = slot * slotBytes + HEADROOM_AT;
    packet.limit = (slot + 1) * slotBytes;
    return packet;
  }

  /** Slots whose packets have not been released. */
  get held(): number {
    return this.#heldCount;
  }

  /** Append what has arrived. @returns how many packets were appended */
  receive(batch: Batch, limit: number): number {
    const words = this.#words;
    const held = this.#held;
    const slots = this.#geometry.slots;
    const slotWords = this.#geometry.slotBytes >>> 2;
    const counters = this.#counters;
    let cursor = this.#cursor;
    let count = 0;
    let bytes = 0;
    while (count < limit) {
      // A slot that is still out has the status USER, too: it is not a new frame.
      if (held[cursor] !== 0) break;
      const status = Atomics.load(words, cursor * slotWords);
      if ((status & Status.USER) === 0) break;
      if ((status & Status.LOSING) !== 0) this.losing = true;
      const packet = this.#packets[cursor];
      if (this.#fill(packet, cursor * slotWords * 4, status)) {
        held[cursor] = 1;
        packet.references = 1;
        batch.push(packet);
        bytes += packet.length;
        count += 1;
      } else {
        Atomics.store(words, cursor * slotWords, Status.KERNEL);
      }
      cursor = cursor + 1 === slots ? 0 : cursor + 1;
    }
    this.#cursor = cursor;
    this.#heldCount += count;
    counters.receivedPackets += count;
    counters.receivedBytes += bytes;
    return count;
  }

  /** Make the slot's packet from what the kernel wrote. @returns false when the frame is to be dropped; it is counted */
  #fill(packet: Packet, slot: number, status: number): boolean {
    const view = this.region.view;
    const counters = this.#counters;
    const length = view.getUint32(slot + Header.SNAPPED, littleEndian);
    const mac = view.getUint16(slot + Header.MAC, littleEndian);
    if (length < view.getUint32(slot + Header.LENGTH, littleEndian)) {
      counters.receiveTruncated += 1;
      counters.receiveDropped += 1;
      return false;
    }
    packet.offset = slot + mac;
    packet.headroomStart = slot + HEADROOM_AT;
    packet.length = length;
    packet.timestampSeconds = view.getUint32(slot + Header.SECONDS, littleEndian);
    packet.timestampNanoseconds = view.getUint32(slot + Header.NANOSECONDS, littleEndian);
    if (!readVirtioHeader(view, slot + mac - VIRTIO_HEADER_BYTES, packet)) {
      counters.receiveMalformed += 1;
      counters.receiveDropped += 1;
      return false;
    }
    if (this.#records !== null && !this.#takeRecord(this.#records, packet, status)) {
      counters.receiveMalformed += 1;
      counters.receiveDropped += 1;
      return false;
    }
    if ((status & Status.VLAN_VALID) !== 0) {
      const tpid =
        (status & Status.VLAN_TPID_VALID) !== 0 ? view.getUint16(slot + Header.VLAN_TPID, littleEndian) : 0x8100;
      this.#insertTag(packet, tpid, view.getUint16(slot + Header.VLAN_TCI, littleEndian));
    }
    return true;
  }

  /** Note the record that a packet brings before its frame, if it does. @returns false when there is no room for record and frame */
  #takeRecord(records: Int32Array, packet: Packet, status: number): boolean {
    records[packet.slot] = 0;
    const isMarked = packet.timestampSeconds === 0 && (status & Status.SOFTWARE_TIME) !== 0;
    if (!isMarked || (packet.timestampNanoseconds & RECORD_MARK) === 0) return true;
    if (packet.length < SHORTEST_RECORD_BYTES + ETHERNET_BYTES) return false;
    const length = (packet.bytes[packet.offset] << 8) | packet.bytes[packet.offset + 1];
    if (length < SHORTEST_RECORD_BYTES || length + ETHERNET_BYTES > packet.length) return false;
    // The kernel counted all of these from the record's first byte.
    if (packet.checksum === Checksum.PARTIAL) {
      if (packet.checksumStart < length) return false;
      packet.checksumStart -= length;
    }
    if (packet.headerLengthBytes > 0) packet.headerLengthBytes = Math.max(packet.headerLengthBytes - length, 0);
    records[packet.slot] = length;
    this.#recordStarts[packet.slot] = packet.offset;
    packet.offset += length;
    packet.length -= length;
    return true;
  }

  /** Length of the record before a packet of this ring, not yet released; 0 for none. */
  recordLengthOf(packet: Packet): number {
    return this.#records === null ? 0 : this.#records[packet.slot];
  }

  /** Where that record begins in the region. It is whole until the packet is changed. */
  recordStartOf(packet: Packet): number {
    return this.#recordStarts[packet.slot];
  }

  /** Put back into the frame the tag that the kernel keeps beside it: packets are always as on the wire. */
  #insertTag(packet: Packet, tpid: number, tci: number): void {
    const bytes = packet.bytes;
    const to = packet.offset - 4;
    for (let i = to; i < to + 12; i += 1) bytes[i] = bytes[i + 4];
    bytes[to + 12] = tpid >>> 8;
    bytes[to + 13] = tpid & 0xff;
    bytes[to + 14] = tci >>> 8;
    bytes[to + 15] = tci & 0xff;
    packet.offset = to;
    packet.length += 4;
    // The kernel counted both from the frame without the tag.
    if (packet.checksum === Checksum.PARTIAL) packet.checksumStart += 4;
    if (packet.headerLengthBytes > 0) packet.headerLengthBytes += 4;
  }

  /**
   * The device that a packet of this ring, not yet released, came from: what a program wrote into the packet's time of arrival
   * (seconds 0, nanoseconds the interface index, with {@link RECORD_MARK} where a record comes with it), else what the kernel put into the sender's address.
   */
  originOf(packet: Packet): number {
    const word = (packet.slot * this.#geometry.slotBytes) >>> 2;
    const words = this.#words;
    if (packet.timestampSeconds === 0 && (words[word] & Status.SOFTWARE_TIME) !== 0) {
      return packet.timestampNanoseconds & ~RECORD_MARK;
    }
    return words[word + (ADDRESS_IFINDEX_AT >>> 2)];
  }

  recycle(packet: Packet): void {
    packet.attachment = null;
    this.#free(packet.slot);
  }

  part(packet: Packet): void {
    const { slot } = packet;
    this.#packets[slot] = this.#describe(slot);
    this.#free(slot);
  }

  #free(slot: number): void {
    this.#held[slot] = 0;
    this.#heldCount -= 1;
    Atomics.store(this.#words, (slot * this.#geometry.slotBytes) >>> 2, Status.KERNEL);
    if (this.#closing && this.#heldCount === 0) this.#unmap();
  }

  /** Give up the memory as soon as no packet points into it. */
  close(): void {
    this.#closing = true;
    if (this.#heldCount === 0) this.#unmap();
  }

  #unmap(): void {
    this.#mapping?.unmap();
    this.#mapping = null;
  }
}
