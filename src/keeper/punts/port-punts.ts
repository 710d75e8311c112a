/**
 * What programs have counted of the packets that a port hands up, whichever of them is on its interface: that of a flow table, or the one that hands up
 * everything. punt-shares.ts decides by it what the port gets of the punt path.
 */
import type { PortPrograms } from '../ports/port.ts';
import type { PuntPath } from './punt-path.ts';
import type { PuntCounts } from './punt-shares.ts';

export class PortPunts implements PuntCounts {
  readonly #one: PortPrograms;
  readonly #puntPath: PuntPath;

  constructor(one: PortPrograms, puntPath: PuntPath) {
    this.#one = one;
    this.#puntPath = puntPath;
  }

  get underWay(): number {
    const { source, ifindex } = this.#one;
    return (source?.flows.underWay(ifindex) ?? 0) + (this.#puntPath.base?.underWay(ifindex) ?? 0);
  }

  takeRefused(): number {
    const { source, ifindex } = this.#one;
    return (source?.flows.takeRefusedPunts(ifindex) ?? 0) + (this.#puntPath.base?.takeRefused(ifindex) ?? 0);
  }

  setShare(packets: number): void {
    const { source, ifindex } = this.#one;
    source?.flows.setShare(ifindex, packets);
    this.#puntPath.base?.setShare(ifindex, packets);
  }
}
