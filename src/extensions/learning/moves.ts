/**
 * The last addresses that moved from one port to another. Many moves in a short time are a loop in the network or two hosts
 * with one address; a flood of them must not cost memory, so they go round in a ring of integers.
 */
import { formatMac } from '../../net/index.ts';
import type { JsonValue } from '../../switch/index.ts';

const RING = 32;
const WORDS = 6;

/** A ring of moves. */
export class Moves {
  readonly #ring = new Int32Array(RING * WORDS);
  total = 0;

  note(vlan: number, macHigh: number, macLow: number, from: number, to: number, nowSeconds: number): void {
    const at = (this.total % RING) * WORDS;
    const ring = this.#ring;
    ring[at] = vlan;
    ring[at + 1] = macHigh;
    ring[at + 2] = macLow;
    ring[at + 3] = from;
    ring[at + 4] = to;
    ring[at + 5] = nowSeconds;
    this.total += 1;
  }

  /** The newest first. */
  list(nowSeconds: number, nameOf: (portId: number) => string): JsonValue {
    const moves: JsonValue[] = [];
    for (let i = this.total - 1; i >= 0 && i >= this.total - RING; i -= 1) {
      const at = (i % RING) * WORDS;
      const [vlan, high, low, from, to, second] = this.#ring.subarray(at, at + WORDS);
      const mac = Uint8Array.of(high >> 8, high & 255, low >>> 24, (low >> 16) & 255, (low >> 8) & 255, low & 255);
      moves.push({
        vlan,
        mac: formatMac(mac),
        from: nameOf(from),
        to: nameOf(to),
        secondsAgo: Math.max(0, nowSeconds - second),
      });
    }
    return moves;
  }
}
