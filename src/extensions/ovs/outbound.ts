/**
 * The way out of a datapath: packets that were handed to devices, until these are flushed. What a device cannot take as it is
 * goes out in segments or with its checksums complete. Used by ovs-datapath.ts.
 */
import { Drop, type FlowKey } from '../../flow/index.ts';
import {
  Batch,
  fragmentPacket,
  HeaderOffsets,
  Offload,
  type Packet,
  requiredOffloads,
  SegmentResult,
} from '../../net/index.ts';
import type { OvsDevice } from './host.ts';
import { type Buffers, plainPackets } from './plain.ts';

/** What packets leave by: a port, or an interface that is none. */
export interface Exit {
  readonly device: OvsDevice | null;
  /** Whether packets that were sent through it wait for a flush of the device. */
  isWaiting: boolean;
}

export class Outbound {
  readonly #buffers: Buffers;
  /** Ports with packets that wait for a flush. */
  readonly #ports: Exit[] = [];
  #count = 0;
  /** Packets that devices want unchanged until then. */
  readonly #held = new Batch();
  readonly #segments = new Batch();
  readonly #fragments = new Batch();
  readonly #headers = new HeaderOffsets();

  constructor(buffers: Buffers) {
    this.#buffers = buffers;
  }

  /**
   * Send a packet, whose reference stays the caller's.
   * @param device that of the port
   * @returns 0, or a reason of flow/'s Drop: the device does not take the packet, or its offloads, and software could not finish these
   */
  send(port: Exit, device: OvsDevice, packet: Packet): number {
    if (!port.isWaiting) {
      port.isWaiting = true;
      this.#ports[this.#count] = port;
      this.#count += 1;
    }
    if (device.offloads === Offload.ALL || (requiredOffloads(packet) & ~device.offloads) === 0) {
      if (!device.transmit(packet)) return Drop.OUTPUT_REFUSED;
      if (!device.holds) {
        packet.hold();
        this.#held.push(packet);
      }
      return 0;
    }
    const segments = this.#segments;
    if (!plainPackets(packet, this.#buffers, segments)) return Drop.OFFLOAD_UNFINISHED;
    let isTaken = false;
    for (let i = 0; i < segments.count; i += 1) {
      if (device.transmit(segments.packets[i])) isTaken = true;
      this.#held.push(segments.packets[i]);
    }
    segments.clear();
    return isTaken ? 0 : Drop.OUTPUT_REFUSED;
  }

  /**
   * Send a packet that was put together from fragments, in pieces no larger than these; otherwise as {@link send}.
   * @param key of the packet
   */
  sendInPieces(port: Exit, device: OvsDevice, packet: Packet, key: FlowKey): number {
    const fragments = this.#fragments;
    const refused = cutAsItCame(packet, key, this.#headers, this.#buffers, fragments);
    if (refused !== 0) return refused;
    let refusal = 0;
    for (let i = 0; i < fragments.count; i += 1) {
      const result = this.send(port, device, fragments.packets[i]);
      if (result !== 0) refusal = result;
    }
    fragments.releaseAll();
    return refusal;
  }

  flush(): void {
    // A flush may lead to packets that go out, and to a flush of their own.
    while (this.#count > 0) {
      this.#count -= 1;
      const port = this.#ports[this.#count];
      port.isWaiting = false;
      port.device?.flush();
    }
    this.#held.releaseAll();
  }
}

/**
 * Append a packet that was put together from fragments in pieces no larger than these; itself, when it is as small.
 * @param packet is only read
 * @param headers to be used
 * @param out each piece with one reference that passes to the caller
 * @returns 0 or a reason of flow/'s Drop, and then nothing was appended
 */
export function cutAsItCame(
  packet: Packet,
  key: FlowKey,
  headers: HeaderOffsets,
  { pool, largePool }: Buffers,
  out: Batch,
): number {
  const { largestFragmentBytes, identification } = key;
  headers.parse(packet);
  const isLarge = headers.l3Offset + largestFragmentBytes > pool.maxFrameBytes;
  const result = fragmentPacket(packet, headers, largestFragmentBytes, identification, isLarge ? largePool : pool, out);
  if (result === SegmentResult.DONE) return 0;
  // What other actions have cut short is small enough as it is.
  const isSmall = packet.length <= headers.l3Offset + largestFragmentBytes;
  if (result !== SegmentResult.NOTHING_CLAIMED && !isSmall) return Drop.FRAGMENTATION_IMPOSSIBLE;
  packet.hold();
  out.push(packet);
  return 0;
}
