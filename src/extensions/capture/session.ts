/**
 * A capture session: what it asks for, its ring, its counters. Neighbours: hub.ts opens and closes sessions and hands them
 * packets; ring.ts keeps the records.
 */
import { Checksum, Gso, type Packet } from '../../net/index.ts';
import type { CheckedCaptureOptions } from './options.ts';
import { type CapturedFrame, CaptureFlag, CaptureRing, newRingBuffer } from './ring.ts';

/** A session as people and programs see it. */
export type ShownSession = {
  readonly id: number;
  /** Null: all. */
  readonly portIds: readonly number[] | null;
  readonly direction: string;
  readonly filter: string;
  readonly snapLengthBytes: number;
  readonly ringBytes: number;
  readonly capturedPackets: number;
  readonly lostPackets: number;
  readonly pendingBytes: number;
};

/** One reader's capture. Made by CaptureHub.open. */
export class CaptureSession {
  readonly id: number;
  readonly options: CheckedCaptureOptions;
  /** Records written, and frames lost because the ring was full. */
  capturedPackets = 0;
  lostPackets = 0;
  isOpen = true;
  readonly #ring: CaptureRing;
  /** A bit for each port; null: all ports. */
  readonly #ports: Uint8Array | null;
  readonly #onClose: (session: CaptureSession) => void;

  constructor(id: number, options: CheckedCaptureOptions, onClose: (session: CaptureSession) => void) {
    this.id = id;
    this.options = options;
    this.#onClose = onClose;
    this.#ring = new CaptureRing(newRingBuffer(options.ringBytes));
    this.#ports = options.portIds === null ? null : portBits(options.portIds);
  }

  /** The ring's memory, for a CaptureRing in another thread that reads instead of {@link take}. */
  get buffer(): SharedArrayBuffer {
    return this.#ring.buffer;
  }

  /** Bytes of records that wait to be taken. */
  get pendingBytes(): number {
    return this.#ring.pendingBytes;
  }

  /**
   * Take records, oldest first. Those written before a close can still be taken after it.
   * @param limit most records
   * @param consumer called with each; record and bytes are valid during the call
   * @returns how many were taken
   */
  take(limit: number, consumer: (record: CapturedFrame) => void): number {
    return this.#ring.take(limit, consumer);
  }

  /** Record nothing more. Closing twice is harmless. */
  close(): void {
    if (this.isOpen) this.#onClose(this);
  }

  /** Datapath: whether packets of a port are looked at. */
  wantsPort(portId: number): boolean {
    const ports = this.#ports;
    return ports === null || ((ports[portId >> 3] >> (portId & 7)) & 1) === 1;
  }

  /**
   * Datapath: record a packet if it matches.
   * @param tagAction what will be done to the tag
   * @param direction 0 or CaptureFlag.OUT
   * @param missingBytes of the frame, behind those that the packet has
   */
  offer(
    packet: Packet,
    tagAction: number,
    seconds: number,
    nanoseconds: number,
    portId: number,
    nicIndex: number,
    direction: number,
    missingBytes: number,
  ): void {
    const { filter, snapLengthBytes } = this.options;
    if (filter !== null && !filter.matches(packet, tagAction)) return;
    let flags = direction;
    if (packet.checksum === Checksum.PARTIAL) flags |= CaptureFlag.CHECKSUM_PARTIAL;
    if (packet.gsoType !== Gso.NONE) flags |= CaptureFlag.SUPER_PACKET;
    if (
      this.#ring.write(packet, tagAction, snapLengthBytes, seconds, nanoseconds, portId, nicIndex, flags, missingBytes)
    ) {
      this.capturedPackets += 1;
    } else {
      this.lostPackets += 1;
    }
  }

  /** Datapath: frames were lost on their way here. */
  lose(frames: number): void {
    this.lostPackets += frames;
    this.#ring.lose(frames);
  }

  describe(): ShownSession {
    const { portIds, direction, filter, snapLengthBytes } = this.options;
    return {
      id: this.id,
      portIds,
      direction,
      filter: filter?.text ?? '',
      snapLengthBytes,
      ringBytes: this.#ring.capacityBytes,
      capturedPackets: this.capturedPackets,
      lostPackets: this.lostPackets,
      pendingBytes: this.pendingBytes,
    };
  }
}

function portBits(portIds: readonly number[]): Uint8Array {
  const bits = new Uint8Array(8192);
  for (const portId of portIds) bits[portId >> 3] |= 1 << (portId & 7);
  return bits;
}
