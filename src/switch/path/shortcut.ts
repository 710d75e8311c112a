/**
 * Shortcuts: which packets may go past the switch, because somebody outside (the kernel) does to them what would be done here, and who decides what that is. Neighbours: passage.ts holds
 * the terms; carried.ts counts what took a shortcut; core.ts tells when answers are void.
 */
import type { Nic } from '../control/nic.ts';
import type { Port } from '../control/port.ts';
import { stackedDecider } from '../decider/along.ts';
import { isLookedAt } from '../policies/port-policies.ts';
import type { Slot } from '../stack/slot.ts';
import type { SwitchCore } from './core.ts';
import { guarded } from './guard.ts';
import type { DecidersOfCarried } from './passage.ts';

/** See Shortcuts.isOpen. */
export function isOpenPort(core: SwitchCore, asking: Slot, portId: number): boolean {
  const port = core.ports[portId];
  // While the stack changes its answers stand: whoever joins it is asked before it runs.
  if (!core.active || !port?.reachable || onlyNic(port) === null) return false;
  if (core.anyMonitor && port.policy.monitorSource) return false;
  return otherSlots(core, asking).every((slot) => isDecider(slot) || passesPort(core, slot, portId));
}

/** See Shortcuts.isPlain. */
export function isPlainSwitch(core: SwitchCore, asking: Slot): boolean {
  // What is tracked is decided about in two steps, in a table of decisions.
  if (core.tracksAll || otherSlots(core, asking).some(isDecider)) return false;
  return core.ports.every((port) => port === null || !isLookedAt(port));
}

/** See Shortcuts.decidersOfCarried. */
export function decidersOfCarried(core: SwitchCore, asking: Slot): DecidersOfCarried {
  // Packets come to those that stand by themselves before the policies of ports, and to those that are decided along after them.
  const standing = otherSlots(core, asking)
    .filter(isDecider)
    .sort((a, b) => a.rank - b.rank)
    .map((slot) => stackedDecider(core, slot));
  return { standing, below: [core.policies, ...core.decidedAlong] };
}

/** Whether what an extension does to packets is what it decides. */
function isDecider(slot: Slot): boolean {
  return slot.extension.decider !== undefined;
}

/** The other extensions that are handed packets. */
function otherSlots(core: SwitchCore, asking: Slot): Slot[] {
  const { ingressSlots, egressSlots, completeSlots, returnSlots } = core;
  const slots = new Set([...ingressSlots, ...egressSlots, ...completeSlots, ...returnSlots]);
  slots.delete(asking);
  return [...slots];
}

/** Whether an extension lets everything of a port go past it. */
function passesPort(core: SwitchCore, slot: Slot, portId: number): boolean {
  return guarded(core, slot, 'passByPort', () => slot.extension.passByPort?.(portId)) === true;
}

/** The NIC of a port that has no other than the one with index 0. */
function onlyNic(port: Port): Nic | null {
  for (let index = 1; index < port.nics.length; index += 1) if (port.nics[index]) return null;
  return port.nics[0] ?? null;
}
