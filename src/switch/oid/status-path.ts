/** The way of a status indication: up the stack from the miniport edge, or from the extension that makes it. */
import type { SwitchEvent } from '../api.ts';
import type { SwitchCore } from '../path/core.ts';
import { guarded } from '../path/guard.ts';
import type { Slot } from '../stack/slot.ts';
import type { ExtensionStack } from '../stack/stack.ts';
import type { StatusIndication } from './oid.ts';

/**
 * Send an indication up; an extension may keep it, else it ends as an event of the switch.
 * @param from the slot that makes it; null: the miniport edge
 */
export function indicateStatus(
  core: SwitchCore,
  stack: ExtensionStack,
  from: Slot | null,
  indication: StatusIndication,
  event: (event: SwitchEvent) => void,
): void {
  const slots = stack.flowing();
  for (let i = slots.length - 1; i >= 0; i -= 1) {
    const slot = slots[i];
    if (from !== null && slot.rank >= from.rank) continue;
    if (guarded(core, slot, 'onStatus', () => slot.extension.onStatus?.(indication)) === false) return;
  }
  event({ type: 'status', indication });
}
