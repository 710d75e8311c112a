/**
 * Finding packets that programs have handed up and that never come, as the punt channel had no room or nobody was there: they are not waited for any longer, and told.
 */
import type { InterfaceIndex } from '../../net/index.ts';
import type { PortTable } from '../layout/port-table.ts';
import type { OffloadPorts } from './ports.ts';

export interface LostPuntsOptions {
  /** Packets of a port have not come. */
  lost?(ifindex: InterfaceIndex, packets: number): void;
  /** Most packets that are on their way through the punt channel. Left out, what is lost is found when nothing moves on a port. */
  readonly mostUnderWay?: number;
}

/** How long nothing must move on a port until what is missing counts as lost. */
const QUIET_MS = 20;

export class LostPunts {
  readonly #ports: OffloadPorts;
  readonly #table: PortTable;
  readonly #options: LostPuntsOptions;
  #lookAtMs = 0;
  /** What was seen of each port, and how often in turn. */
  readonly #activity = new Map<InterfaceIndex, { readonly state: number; readonly looks: number }>();

  constructor(ports: OffloadPorts, table: PortTable, options: LostPuntsOptions) {
    this.#ports = ports;
    this.#table = table;
    this.#options = options;
  }

  /** Look at all ports, if it is time. */
  poll(nowMs: number): void {
    if (nowMs < this.#lookAtMs) return;
    this.#lookAtMs = nowMs + QUIET_MS;
    const { mostUnderWay } = this.#options;
    for (const { ifindex, hook, tapLike } of this.#ports.all()) {
      if (hook === null) continue;
      const state = this.#table.activity(ifindex);
      const before = this.#activity.get(ifindex);
      const looks = before?.state === state ? before.looks + 1 : 0;
      this.#activity.set(ifindex, { state, looks });
      // A thread that stood still itself sees no movement either, once.
      if (looks > 1) this.#table.resign(ifindex);
      else if (!tapLike && mostUnderWay !== undefined) this.#table.resignBeyond(ifindex, mostUnderWay);
      this.#tell(ifindex);
    }
  }

  /** A port goes. */
  forget(ifindex: InterfaceIndex): void {
    this.#tell(ifindex);
    this.#activity.delete(ifindex);
  }

  #tell(ifindex: InterfaceIndex): void {
    const lost = this.#table.takeLost(ifindex);
    if (lost > 0) this.#options.lost?.(ifindex, lost);
  }
}
