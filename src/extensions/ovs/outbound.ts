/**
 * The way out of a datapath: packets that were handed to devices, until these are flushed. What a device cannot take as it is
 * goes out in segments or with its checksums complete. Used by ovs-datapath.ts.
 */
import { Drop } from '../../flow/index.ts';
import { Batch, Offload, type Packet, requiredOffloads } from '../../net/index.ts';
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
