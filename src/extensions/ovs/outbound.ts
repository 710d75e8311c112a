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
import type { Vport } from './vport.ts';

export class Outbound {
  readonly #buffers: Buffers;
  /** Ports with packets that wait for a flush. */
  readonly #ports: Vport[] = [];
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
  send(port: Vport, device: OvsDevice, packet: Packet): number {
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
  sendInPieces(port: Vport, device: OvsDevice, packet: Packet, key: FlowKey): number {
    const { largestFragmentBytes, identification } = key;
    const fragments = this.#fragments;
    const headers = this.#headers;
    headers.parse(packet);
    const { pool, largePool } = this.#buffers;
    const isLarge = headers.l3Offset + largestFragmentBytes > pool.maxFrameBytes;
    const from = isLarge ? largePool : pool;
    const result = fragmentPacket(packet, headers, largestFragmentBytes, identification, from, fragments);
    if (result === SegmentResult.NOTHING_CLAIMED) return this.send(port, device, packet);
    if (result !== SegmentResult.DONE) {
      // What other actions have cut short is small enough as it is.
      const isSmall = packet.length <= headers.l3Offset + largestFragmentBytes;
      return isSmall ? this.send(port, device, packet) : Drop.FRAGMENTATION_IMPOSSIBLE;
    }
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
