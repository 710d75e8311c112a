/**
 * Scatter lists for sending frames from where they lie. Each frame becomes 1 to 4 struct iovec: the virtio_net_hdr, then the
 * frame, whole or around a VLAN tag that is added, taken out or replaced. No frame byte is copied in JavaScript.
 * The senders are packet-sender.ts (sendmmsg) and tap.ts (writev).
 *
 *      KEEP        header and frame in one, the header written into the headroom right before the frame
 *                  header | frame, where there is not enough headroom
 *      STRIP       header | 12 bytes of MAC addresses | frame from 16 on
 *      PUSH        header | 12 bytes | new tag | frame from 12 on
 *      STRIP+PUSH  header | 12 bytes | new tag | frame from 16 on
 */
import { ETHERNET_BYTES, MAC_ADDRESSES_BYTES, type Packet, type Region, TagAction } from '../net/index.ts';
import { addressOf, copyMemory, NativeBlock } from './sys/index.ts';
import { VIRTIO_HEADER_BYTES, writeVirtioHeader } from './virtio-header.ts';

const VECTORS_PER_FRAME = 4;
const VECTOR_BYTES = 16;
// struct iovec in words: address (0, 1), length (2, 3); the low word is first on little-endian machines.
const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
const ADDRESS_LOW_WORD = littleEndian ? 0 : 1;
const ADDRESS_HIGH_WORD = littleEndian ? 1 : 0;
const LENGTH_WORD = littleEndian ? 2 : 3;
const WORDS_PER_FRAME = (VECTORS_PER_FRAME * VECTOR_BYTES) / 4;
// Virtio header (10 bytes, padded to 12) and a pushed tag.
const SCRATCH_BYTES = 16;
const TAG_AT = 12;

/** The address of a region, asked for once and then kept in the region. */
export function regionAddress(region: Region): number {
  if (region.nativeAddress === 0) region.nativeAddress = addressOf(region.bytes);
  return region.nativeAddress;
}

/** Whether a frame's outermost header after the MAC addresses is a VLAN tag, customer's or provider's. */
export function isTagged(bytes: Uint8Array, offset: number, length: number): boolean {
  if (length < ETHERNET_BYTES + 4) return false;
  const high = bytes[offset + 12];
  const low = bytes[offset + 13];
  return (high === 0x81 && low === 0x00) || (high === 0x88 && low === 0xa8);
}

/** Scatter lists for a fixed number of frames. */
export class FrameVectors {
  readonly capacity: number;
  /** Frame bytes of each entry as they will be on the wire. */
  readonly lengths: Uint32Array;
  readonly #vectors: NativeBlock;
  readonly #scratch: NativeBlock;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.lengths = new Uint32Array(capacity);
    this.#vectors = new NativeBlock(capacity * VECTORS_PER_FRAME * VECTOR_BYTES);
    this.#scratch = new NativeBlock(capacity * SCRATCH_BYTES);
  }

  /** Address of the first vector of an entry. */
  vectorsAddress(index: number): number {
    return this.#vectors.address + index * VECTORS_PER_FRAME * VECTOR_BYTES;
  }

  /**
   * Describe a frame.
   * @param index the entry to fill
   * @param tag a TagAction with the TCI in its low bits; STRIP of a frame without a tag strips nothing
   * @returns how many vectors it took, or 0 when this is no frame at all (shorter than an Ethernet header)
   */
  set(index: number, packet: Packet, tag: number): number {
    const length = packet.length;
    if (length < ETHERNET_BYTES) return 0;
    const start = regionAddress(packet.region) + packet.offset;
    if (tag === TagAction.KEEP) {
      this.lengths[index] = length;
      // One vector takes a shorter way through the kernel: some 90 ns of 1430 for a small packet. The headroom is the packet's own, and when the
      // same packet is queued elsewhere, too, the same header is written there.
      if (packet.offset - packet.headroomStart >= VIRTIO_HEADER_BYTES) {
        writeVirtioHeader(packet.region.view, packet.offset - VIRTIO_HEADER_BYTES, packet, 0);
        this.#vector(index, 0, start - VIRTIO_HEADER_BYTES, VIRTIO_HEADER_BYTES + length);
        return 1;
      }
      this.#header(index, packet, 0);
      this.#vector(index, 1, start, length);
      return 2;
    }

    const strip = (tag & TagAction.STRIP) !== 0 && isTagged(packet.bytes, packet.offset, length);
    const rest = strip ? MAC_ADDRESSES_BYTES + 4 : MAC_ADDRESSES_BYTES;
    const push = (tag & TagAction.PUSH) !== 0;
    const shift = (push ? 4 : 0) - (strip ? 4 : 0);
    this.#header(index, packet, shift);
    this.lengths[index] = length + shift;
    this.#vector(index, 1, start, MAC_ADDRESSES_BYTES);
    if (!push) {
      this.#vector(index, 2, start + rest, length - rest);
      return 3;
    }
    const at = index * SCRATCH_BYTES + TAG_AT;
    const scratch = this.#scratch.bytes;
    scratch[at] = 0x81;
    scratch[at + 1] = 0x00;
    scratch[at + 2] = (tag >>> 8) & 0xff;
    scratch[at + 3] = tag & 0xff;
    this.#vector(index, 2, this.#scratch.address + at, 4);
    this.#vector(index, 3, start + rest, length - rest);
    return 4;
  }

  /**
   * Put an entry together in one piece of memory: the virtio header, and the frame behind it.
   * @param pieces what {@link set} returned for it
   * @param address of memory with room for all of it
   */
  copyOut(index: number, pieces: number, address: number): void {
    const { u32 } = this.#vectors;
    let to = address;
    for (let piece = 0; piece < pieces; piece += 1) {
      const word = index * WORDS_PER_FRAME + piece * (VECTOR_BYTES / 4);
      const lengthBytes = u32[word + LENGTH_WORD];
      copyMemory(to, u32[word + ADDRESS_LOW_WORD] + u32[word + ADDRESS_HIGH_WORD] * 2 ** 32, lengthBytes);
      to += lengthBytes;
    }
  }

  /** The first vector, on the header in the entry's scratch space. */
  #header(index: number, packet: Packet, shift: number): void {
    const at = index * SCRATCH_BYTES;
    writeVirtioHeader(this.#scratch.view, at, packet, shift);
    this.#vector(index, 0, this.#scratch.address + at, VIRTIO_HEADER_BYTES);
  }

  #vector(index: number, which: number, address: number, length: number): void {
    this.#vectors.setAddress(index * WORDS_PER_FRAME * 4 + which * VECTOR_BYTES, address);
    // Lengths stay below 2^32, and the upper words below have been zero from the start.
    this.#vectors.setAddress(index * WORDS_PER_FRAME * 4 + which * VECTOR_BYTES + 8, length);
  }
}
