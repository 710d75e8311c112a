/**
 * The adapter contract: how packets enter and leave Millrace. Sockets, TAPs, memory and pcap files are adapters alike, and
 * adapters compose (a tracer or a fault injector is an adapter around another).
 */
import type { Batch } from './batch.ts';
import type { Packet } from './packet.ts';

/** What an adapter's egress takes as it is; the rest is done in software before (segment.ts). Bits of {@link Adapter.offloads}. */
export const Offload = {
  /** Partial checksums. */
  CHECKSUM: 1,
  TSO4: 2,
  TSO6: 4,
  /** UDP segmentation (Gso.UDP_L4). */
  USO: 8,
  /** Carries super-packets and partial checksums of every kind: memory, and links between virtual devices. */
  ALL: 15,
} as const;

/**
 * What to do with the outermost VLAN tag of a frame while it is sent, so that one frame can leave through an access port
 * and a trunk without being copied. STRIP and PUSH combine: that replaces the tag. The low 16 bits hold the TCI to push.
 */
export const TagAction = {
  KEEP: 0,
  STRIP: 0x1_0000,
  PUSH: 0x2_0000,
} as const;

/** Counters of one adapter, seen from Millrace: received came in through it. */
export interface AdapterCounters {
  receivedPackets: number;
  receivedBytes: number;
  transmittedPackets: number;
  transmittedBytes: number;
  /** Frames lost before Millrace saw them (a ring that was full). */
  receiveDropped: number;
  /** Frames that the other side did not take (queue full, link down). */
  transmitDropped: number;
}

/** Why the other side did not take frames. */
export const Refusal = {
  /** The device is down, has no carrier or is gone. */
  DOWN: 0,
  /** Longer than it takes. */
  TOO_LONG: 1,
  /** Its queue, or the buffer before it, is full. */
  QUEUE_FULL: 2,
  /** It cannot be sent as it is. */
  REJECTED: 3,
} as const;

/**
 * Told of frames that were handed to {@link Adapter.transmit} and are not sent, at the latest when {@link Adapter.flush} returns.
 * @param refusal a {@link Refusal}
 * @param bytes of these frames, as they would have been sent
 */
export type RefusalListener = (refusal: number, frames: number, bytes: number) => void;

/** A way in and out for frames. Nothing here blocks; nothing here throws once the adapter is open, save `close` misuse. */
export interface Adapter {
  readonly name: string;
  /** 'packet', 'tap', 'memory', 'pcap', ... */
  readonly kind: string;
  /** Six bytes. */
  readonly macAddress: Uint8Array;
  /** Largest layer-3 packet in bytes, without Ethernet header and tag. */
  readonly mtuBytes: number;
  /** Bits of {@link Offload}. */
  readonly offloads: number;
  /** A descriptor that epoll can wait on for received frames, or -1 when there is none. */
  readonly fileDescriptor: number;
  readonly counters: AdapterCounters;
  /** Optional: who is told of frames that the other side did not take; they are in `counters.transmitDropped` as well. */
  onRefused?: RefusalListener | null;

  /**
   * Append received packets to the batch, each with one reference that passes to the caller.
   * @param limit most packets to append
   * @returns how many were appended
   */
  receive(batch: Batch, limit: number): number;

  /**
   * Queue a frame for sending. Its bytes must stay as they are until {@link flush} returns; the reference stays the caller's.
   * The frame's offloads must be within {@link offloads}.
   * @param tag a {@link TagAction}, with the TCI in its low bits
   */
  transmit(packet: Packet, tag: number): void;

  /** Send what was queued. Afterwards the queued frames' memory is free for reuse. */
  flush(): void;

  /** Release all resources and undo what opening did. Closing twice is harmless. */
  close(): void;
}

/** A fresh set of counters, all zero. */
export function newCounters(): AdapterCounters {
  return {
    receivedPackets: 0,
    receivedBytes: 0,
    transmittedPackets: 0,
    transmittedBytes: 0,
    receiveDropped: 0,
    transmitDropped: 0,
  };
}
