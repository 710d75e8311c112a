/**
 * Counting packets that did not come through the switch, as if they had. Neighbour: shortcut.ts says which may do so.
 */

import type { Port } from '../control/port.ts';
import { DropReason } from '../drop-reason.ts';
import { RuleError } from '../errors.ts';
import type { SwitchCore } from './core.ts';

/** See Shortcuts.arrived. */
export function countArrival(core: SwitchCore, sourcePortId: number, packets: number, bytes: number): void {
  const source = core.ports[sourcePortId];
  if (source) {
    source.receivedPackets += packets;
    source.receivedBytes += bytes;
  }
  core.received += packets;
}

/** See Shortcuts.carriedCopies. */
export function countCarriedCopies(core: SwitchCore, portId: number, packets: number, bytes: number): void {
  if (countDeparture(core, portId, packets, bytes)) core.copiesDelivered += packets;
}

/** @returns whether they have left: there is such a port, and its link is not down */
function countDeparture(core: SwitchCore, portId: number, packets: number, bytes: number): boolean {
  const target = core.ports[portId];
  if (target && target.nics[0]?.isDown !== true) {
    target.transmittedPackets += packets;
    target.transmittedBytes += bytes;
    return true;
  }
  if (target) target.countUnsent(DropReason.NIC_DOWN, packets);
  else (core.ports[0] as Port).countUnsent(DropReason.NIC_NOT_CONNECTED, packets);
  core.copiesDropped += packets;
  return false;
}

/** See Shortcuts.delivered. */
export function countDelivered(core: SwitchCore, portIds: readonly number[], packets: number, bytes: number): void {
  let copies = 0;
  for (const portId of portIds) if (countDeparture(core, portId, packets, bytes)) copies += packets;
  core.copiesDelivered += copies;
  if (copies > 0) {
    core.delivered += packets;
    return;
  }
  // One copy stands for the packet, as in deliver of egress.ts.
  core.dropped += packets;
  core.copiesDropped -= packets;
}

/** See Shortcuts.dropped. @throws RuleError 16 */
export function countDropped(core: SwitchCore, portId: number, reason: number, packets: number): void {
  dropsOf(core, portId, reason)[reason] += packets;
  core.dropped += packets;
}

/** See Shortcuts.droppedCopies. @throws RuleError 16 */
export function countDroppedCopies(core: SwitchCore, portId: number, reason: number, packets: number): void {
  dropsOf(core, portId, reason)[reason] += packets;
  core.copiesDropped += packets;
}

/** Those of a port, or where it is gone those that belong to none. @throws RuleError 16 */
function dropsOf(core: SwitchCore, portId: number, reason: number): Float64Array {
  if (!core.reasons.has(reason)) throw new RuleError(16, `drop reason ${reason} is not registered`);
  return (core.ports[portId] ?? (core.ports[0] as Port)).drops;
}
