/**
 * The packets of one list that are to be dropped, each with its source port and reason: reported in groups of one port and one
 * reason, then completed in one call, as the switch wants it. Neighbour: extension.ts.
 */
import { Batch, type Packet } from '../../net/index.ts';
import type { ExtensionHandle } from '../../switch/index.ts';

/** A reusable list of drops. */
export class DropList {
  readonly #dropped = new Batch();
  readonly #group = new Batch();
  #ports = new Uint16Array(64);
  #reasons = new Uint16Array(64);

  add(packet: Packet, portId: number, reason: number): void {
    const index = this.#dropped.count;
    if (index === this.#ports.length) this.#grow();
    this.#ports[index] = portId;
    this.#reasons[index] = reason;
    this.#dropped.push(packet);
  }

  /** Report and complete all; the list is empty afterwards. @returns how many they were */
  finish(handle: ExtensionHandle): number {
    const dropped = this.#dropped;
    const group = this.#group;
    const ports = this.#ports;
    const reasons = this.#reasons;
    const count = dropped.count;
    for (let first = 0; first < count; first += 1) {
      const reason = reasons[first];
      // Drop reasons are never 0: that marks what has been reported.
      if (reason === 0) continue;
      const portId = ports[first];
      group.clear();
      for (let index = first; index < count; index += 1) {
        if (reasons[index] !== reason || ports[index] !== portId) continue;
        group.push(dropped.packets[index]);
        reasons[index] = 0;
      }
      handle.reportFiltered(group, portId, reason, true);
    }
    group.clear();
    handle.completeIngress(dropped);
    return count;
  }

  #grow(): void {
    const ports = new Uint16Array(this.#ports.length * 2);
    const reasons = new Uint16Array(ports.length);
    ports.set(this.#ports);
    reasons.set(this.#reasons);
    this.#ports = ports;
    this.#reasons = reasons;
  }
}
