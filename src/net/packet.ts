/**
 * The packet descriptor. Descriptors are pooled and reused: the steady state allocates none. A descriptor points at a
 * frame inside a region and carries what the frame's bytes cannot say: offloads still to be done, where it came from, when.
 *
 * The frame is always as it would be on the wire, VLAN tags inside, beginning with the destination MAC address:
 *
 *      headroomStart      offset              offset + length        limit
 *      |  free for pushes |  frame            |  free for appends    |
 */
import type { Region } from './region.ts';

/** Whoever handed out a descriptor and takes it back when its last reference is gone: a ring, a pool. */
export interface PacketOwner {
  recycle(packet: Packet): void;
  /**
   * Optional: part with a descriptor whose references are out. The memory behind it is free again and gets a descriptor of its own; the
   * old one is the caller's, who gives it memory from elsewhere, or forgets it.
   */
  part?(packet: Packet): void;
}

/** State of the transport checksum of a frame, in the terms of virtio_net_hdr flags. */
export const Checksum = {
  /** The bytes hold whatever the sender wrote; nobody vouches for it. */
  UNKNOWN: 0,
  /** Partial: the checksum field holds the pseudo-header sum; the rest is to be summed from checksumStart (VIRTIO_NET_HDR_F_NEEDS_CSUM). */
  PARTIAL: 1,
  /** The receiver has checked it already (VIRTIO_NET_HDR_F_DATA_VALID). */
  VALID: 2,
} as const;

/** Kind of super-packet, in the numbers of virtio_net_hdr.gso_type (linux/virtio_net.h). */
export const Gso = {
  NONE: 0,
  TCPV4: 1,
  /** UDP fragmentation offload: becomes IP fragments. */
  UDP: 3,
  TCPV6: 4,
  /** UDP segmentation offload: becomes separate datagrams. */
  UDP_L4: 5,
  /** Or-ed to TCPV4 and TCPV6: the first segment alone may carry CWR. */
  ECN: 0x80,
} as const;

/** A pooled packet descriptor. All fields are plain so that hot code stays monomorphic. */
export class Packet {
  region: Region;
  /** The region's bytes, cached here because every parser reads them. */
  bytes: Uint8Array;
  /** Index in `bytes` of the first byte of the frame. */
  offset = 0;
  /** Length of the frame in bytes; a super-packet may reach 65,550. */
  length = 0;
  /** Lowest index that a push may move `offset` down to. */
  headroomStart = 0;
  /** First index behind the room that belongs to this packet. */
  limit = 0;

  /** One of {@link Checksum}. */
  checksum = 0;
  /** Where summing starts, from the start of the frame; for PARTIAL. */
  checksumStart = 0;
  /** Where the sum goes, from checksumStart; for PARTIAL. */
  checksumOffset = 0;
  /** One of {@link Gso}, ECN or-ed in. */
  gsoType = 0;
  /** Payload bytes of each segment of a super-packet. */
  gsoSizeBytes = 0;
  /** Length of all headers up to the payload, as the sender says; a hint only, as in virtio. */
  headerLengthBytes = 0;

  /** Time of arrival, since 1970. */
  timestampSeconds = 0;
  timestampNanoseconds = 0;

  owner: PacketOwner;
  /** The owner's own number for this descriptor (a ring slot, a pool index). */
  readonly slot: number;
  /** Holders of this descriptor; it is recycled when the count falls to zero. */
  references = 0;
  /** For a clone: the packet whose bytes it shares; it holds a reference to it. */
  parent: Packet | null = null;
  /** Room for the layer that is processing the packet: the switch keeps its forwarding context here. */
  attachment: object | null = null;

  constructor(owner: PacketOwner, region: Region, slot: number) {
    this.owner = owner;
    this.region = region;
    this.bytes = region.bytes;
    this.slot = slot;
    // Its fields stay fields: nobody can put functions in their places, or add others.
    Object.seal(this);
  }

  /** Take another reference; each needs a {@link release}. */
  hold(): void {
    this.references += 1;
  }

  /** Give one reference back. The owner recycles the descriptor, and its memory, with the last one. */
  release(): void {
    this.references -= 1;
    if (this.references === 0) {
      const parent = this.parent;
      this.parent = null;
      this.owner.recycle(this);
      if (parent !== null) parent.release();
    }
  }

  /** Forget all offloads and time: as for a plain frame whose checksums are in its bytes. */
  resetMetadata(): void {
    this.checksum = 0;
    this.checksumStart = 0;
    this.checksumOffset = 0;
    this.gsoType = 0;
    this.gsoSizeBytes = 0;
    this.headerLengthBytes = 0;
    this.timestampSeconds = 0;
    this.timestampNanoseconds = 0;
  }

  /** Copy offloads and time, but not position, from another packet. */
  copyMetadata(from: Packet): void {
    this.checksum = from.checksum;
    this.checksumStart = from.checksumStart;
    this.checksumOffset = from.checksumOffset;
    this.gsoType = from.gsoType;
    this.gsoSizeBytes = from.gsoSizeBytes;
    this.headerLengthBytes = from.headerLengthBytes;
    this.timestampSeconds = from.timestampSeconds;
    this.timestampNanoseconds = from.timestampNanoseconds;
  }

  /** The frame's bytes as a view (no copy). It allocates: for tests, tools and slow paths. */
  frame(): Uint8Array {
    return this.bytes.subarray(this.offset, this.offset + this.length);
  }
}
