/**
 * The last addresses that moved from one port to another. Many moves in a short time are a loop in the network or two hosts
 * with one address; a flood of them must not cost memory, so they go round in a ring of integers. Ports are kept by the names that they had then: the
 * number of one that has gone is given to the next.
 */
import { formatMac, macBytes } from '../../net/index.ts';

const RING = 32;
const WORDS = 4;

/** An address that moved. */
export type Move = {
  readonly vlan: number;
  readonly mac: string;
  /** Names of ports. */
  readonly from: string;
  readonly to: string;
  readonly secondsAgo: number;
};

/** A ring of moves. */
export class Moves {
  readonly #ring = new Int32Array(RING * WORDS);
  readonly #from: string[] = new Array(RING).fill('');
  readonly #to: string[] = new Array(RING).fill('');
  total = 0;

  /** @param from name of the port where the address was */
  note(vlan: number, macHigh: number, macLow: number, from: string, to: string, nowSeconds: number): void {
    const place = this.total % RING;
    const at = place * WORDS;
    const ring = this.#ring;
    ring[at] = vlan;
    ring[at + 1] = macHigh;
    ring[at + 2] = macLow;
    ring[at + 3] = nowSeconds;
    this.#from[place] = from;
    this.#to[place] = to;
    this.total += 1;
  }

  /** The newest first. */
  list(nowSeconds: number): Move[] {
    const moves: Move[] = [];
    for (let i = this.total - 1; i >= 0 && i >= this.total - RING; i -= 1) {
      const place = i % RING;
      const [vlan, high, low, second] = this.#ring.subarray(place * WORDS, (place + 1) * WORDS);
      moves.push({
        vlan,
        mac: formatMac(macBytes(high, low)),
        from: this.#from[place],
        to: this.#to[place],
        secondsAgo: Math.max(0, nowSeconds - second),
      });
    }
    return moves;
  }
}
