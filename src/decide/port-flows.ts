/** What one port has of what is kept: flows that forward, flows that drop, masks, and how many new ones in this second. Neighbour: decided-flows.ts. */
import type { FlowMask } from '../flow/index.ts';
import type { PortId } from '../net/index.ts';

/** Flows that drop have room of their own, so that a flood of what is dropped takes nothing from what is forwarded. */
export const Kind = { FORWARDS: 0, DROPS: 1 } as const;

/** Flows that drop, as a part of those that forward: most of them, and new ones in a second. */
const DROPS_PART = 4;

/** @param most of flows that forward @returns by kind */
export function byKind(most: number): readonly [number, number] {
  return [most, most === 0 ? 0 : Math.max(1, Math.floor(most / DROPS_PART))];
}

/** Flows of a port under a mask. */
export class MaskFlows {
  readonly mask: FlowMask;
  size = 0;

  constructor(mask: FlowMask) {
    this.mask = mask;
  }
}

export class PortFlows {
  readonly portId: PortId;
  /** By kind. */
  readonly sizes: [number, number] = [0, 0];
  readonly masks = new Map<FlowMask, MaskFlows>();
  /** New ones that may still be kept before the next second begins, by kind. */
  readonly #left: [number, number] = [0, 0];
  #secondMs = Number.NEGATIVE_INFINITY;

  constructor(portId: PortId) {
    this.portId = portId;
  }

  get size(): number {
    return this.sizes[0] + this.sizes[1];
  }

  /** Take one of those that may be kept in this second. @param most new ones in a second, by kind @returns whether there was one */
  takeTurn(kind: 0 | 1, nowMs: number, most: readonly [number, number]): boolean {
    if (nowMs - this.#secondMs >= 1000) {
      this.#secondMs = nowMs;
      [this.#left[0], this.#left[1]] = most;
    }
    if (this.#left[kind] <= 0) return false;
    this.#left[kind] -= 1;
    return true;
  }

  /** Its flows under a mask. */
  under(mask: FlowMask): MaskFlows {
    let found = this.masks.get(mask);
    if (found === undefined) {
      found = new MaskFlows(mask);
      this.masks.set(mask, found);
    }
    return found;
  }
}
