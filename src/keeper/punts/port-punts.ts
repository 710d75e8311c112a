/**
 * What programs have counted of the packets that a port hands up, whichever of them is on its interface: that of a flow table, or the one that hands up
 * everything. punt-shares.ts decides by it what the port gets of the way up.
 */
import type { PortPrograms } from '../ports/port.ts';
import type { PuntCounts } from './punt-shares.ts';
import type { WayUp } from './way-up.ts';

export class PortPunts implements PuntCounts {
  readonly #one: PortPrograms;
  readonly #wayUp: WayUp;
  #refusedByTable = 0;
  #refusedByBase = 0;

  constructor(one: PortPrograms, wayUp: WayUp) {
    this.#one = one;
    this.#wayUp = wayUp;
  }

  get underWay(): number {
    const { source, ifindex } = this.#one;
    return (source?.flows.underWay(ifindex) ?? 0) + (this.#wayUp.base?.underWay(ifindex) ?? 0);
  }

  takeRefused(): number {
    const { source, ifindex } = this.#one;
    const byTable = source?.flows.refusedPunts(ifindex) ?? 0;
    const byBase = this.#wayUp.base?.refused(ifindex) ?? 0;
    const refused = grown(this.#refusedByTable, byTable) + grown(this.#refusedByBase, byBase);
    this.#refusedByTable = byTable;
    this.#refusedByBase = byBase;
    return refused;
  }

  setShare(packets: number): void {
    const { source, ifindex } = this.#one;
    source?.flows.setShare(ifindex, packets);
    this.#wayUp.base?.setShare(ifindex, packets);
  }
}

/** By how much a count has grown that begins anew with each table. */
function grown(before: number, now: number): number {
  const more = (now - before) | 0;
  return more >= 0 ? more : now >>> 0;
}
