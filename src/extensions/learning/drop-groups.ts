/**
 * Packets of one list that are to be dropped, gathered by port and reason, so that each group is reported in one call and all
 * are completed together. Reused; nothing is allocated once the groups are there.
 */
import { Batch, type Packet } from '../../net/index.ts';
import type { ExtensionHandle } from '../../switch/index.ts';

/** Drops of one list. */
export class DropGroups {
  readonly #batches: Batch[] = [];
  readonly #ports: number[] = [];
  readonly #reasons: number[] = [];
  readonly #incoming: boolean[] = [];
  #used = 0;

  get empty(): boolean {
    return this.#used === 0;
  }

  /** @param incoming judged by the source port, which `portId` is then */
  add(packet: Packet, portId: number, reason: number, incoming: boolean): void {
    for (let i = 0; i < this.#used; i += 1) {
      if (this.#reasons[i] === reason && this.#ports[i] === portId && this.#incoming[i] === incoming) {
        this.#batches[i].push(packet);
        return;
      }
    }
    const index = this.#used;
    if (index === this.#batches.length) this.#batches.push(new Batch());
    this.#ports[index] = portId;
    this.#reasons[index] = reason;
    this.#incoming[index] = incoming;
    this.#batches[index].push(packet);
    this.#used += 1;
  }

  /** Report and complete all. */
  finish(handle: ExtensionHandle): void {
    const used = this.#used;
    this.#used = 0;
    for (let i = 0; i < used; i += 1) {
      handle.dropIngress(this.#batches[i], this.#ports[i], this.#reasons[i], this.#incoming[i]);
    }
  }
}
