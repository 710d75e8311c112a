/** Which deciders are decided along by the forwarding extension, and their guard. Neighbours: forwarding.ts asks, path/core.ts keeps the answer. */
import type { SwitchCore } from '../path/core.ts';
import { guarded } from '../path/guard.ts';
import type { Slot } from '../stack/slot.ts';
import type { StackedDecider } from './placed.ts';

/**
 * Extensions whose decisions the forwarding one makes along with its own: those right above it, as far as nobody stands between who has to see the packets.
 * @param slots of a stack, from the top
 * @returns from the top
 */
export function slotsDecidedAlong(slots: readonly Slot[]): Slot[] {
  const bottom = slots.findIndex((slot) => slot.forwarding);
  if (bottom === -1 || slots[bottom].extension.decidesAlong !== true) return [];
  let top = bottom;
  for (; top > 0; top -= 1) {
    const { extension, hasIngress, hasEgress } = slots[top - 1];
    if (extension.decider === undefined && (hasIngress || hasEgress)) break;
  }
  return slots.slice(top, bottom).filter(({ extension }) => extension.decider !== undefined);
}

/** What an extension decides: whatever it throws is its own failure, and says nothing about the packet. */
export function stackedDecider(core: SwitchCore, slot: Slot): StackedDecider {
  if (slot.stacked !== null) return slot.stacked;
  const { decider: own } = slot.extension;
  if (own === undefined) throw new TypeError(`${slot.name} is no decider`);
  slot.stacked = {
    placed: {
      ...own.placed,
      call: (where, run) => {
        if (!slot.failed) guarded(core, slot, where, run);
      },
    },
    reasonOf: (reason) => own.reasonOf(reason),
    settledBy: (settle) => own.settledBy(settle),
  };
  return slot.stacked;
}
