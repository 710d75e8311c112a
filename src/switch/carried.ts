/**
 * Counting packets that did not come through the switch, as if they had. Neighbour: shortcut.ts says which may do so.
 */
import type { Datapath } from './datapath.ts';
import { DropReason } from './drop-reason.ts';
import { RuleError } from './errors.ts';
import type { Shortcut } from './passage.ts';
import type { Port } from './port.ts';

/** See Shortcuts.carried. */
export function countCarried(
  datapath: Datapath,
  shortcut: Shortcut,
  sourcePortId: number,
  portId: number,
  packets: number,
  bytes: number,
): void {
  const { drop, passages } = shortcut;
  if (drop === DropReason.NONE) {
    countArrival(datapath, sourcePortId, packets, bytes);
    countDelivered(datapath, [portId], packets, bytes);
  } else if (portId === 0 || portId === sourcePortId) {
    countArrival(datapath, sourcePortId, packets, bytes);
    countDropped(datapath, sourcePortId, drop, packets);
  } else {
    countExcluded(datapath, sourcePortId, portId, drop, packets, bytes);
  }
  for (const passage of passages) passage.carried?.(packets, bytes);
}

/** See Shortcuts.arrived. */
export function countArrival(datapath: Datapath, sourcePortId: number, packets: number, bytes: number): void {
  const source = datapath.ports[sourcePortId];
  if (source) {
    source.receivedPackets += packets;
    source.receivedBytes += bytes;
  }
  datapath.received += packets;
}

/** Their only destination was excluded on their way up. */
function countExcluded(
  datapath: Datapath,
  sourcePortId: number,
  portId: number,
  reason: number,
  packets: number,
  bytes: number,
): void {
  countArrival(datapath, sourcePortId, packets, bytes);
  const target = datapath.ports[portId];
  if (target) target.drops[reason] += packets;
  datapath.dropped += packets;
}

/** See Shortcuts.carriedCopies. */
export function countCarriedCopies(datapath: Datapath, portId: number, packets: number, bytes: number): void {
  if (countDeparture(datapath, portId, packets, bytes)) datapath.copiesDelivered += packets;
}

/** @returns whether they have left: there is such a port, and its link is not down */
function countDeparture(datapath: Datapath, portId: number, packets: number, bytes: number): boolean {
  const target = datapath.ports[portId];
  if (target && target.nics[0]?.isDown !== true) {
    target.transmittedPackets += packets;
    target.transmittedBytes += bytes;
    return true;
  }
  if (target) target.countUnsent(DropReason.NIC_DOWN, packets);
  else (datapath.ports[0] as Port).countUnsent(DropReason.NIC_NOT_CONNECTED, packets);
  datapath.copiesDropped += packets;
  return false;
}

/** See Shortcuts.delivered. */
export function countDelivered(datapath: Datapath, portIds: readonly number[], packets: number, bytes: number): void {
  let copies = 0;
  for (const portId of portIds) if (countDeparture(datapath, portId, packets, bytes)) copies += packets;
  datapath.copiesDelivered += copies;
  if (copies > 0) {
    datapath.delivered += packets;
    return;
  }
  // One copy stands for the packet, as in deliver of egress.ts.
  datapath.dropped += packets;
  datapath.copiesDropped -= packets;
}

/** See Shortcuts.dropped. @throws RuleError 16 */
export function countDropped(datapath: Datapath, portId: number, reason: number, packets: number): void {
  dropsOf(datapath, portId, reason)[reason] += packets;
  datapath.dropped += packets;
}

/** See Shortcuts.droppedCopies. @throws RuleError 16 */
export function countDroppedCopies(datapath: Datapath, portId: number, reason: number, packets: number): void {
  dropsOf(datapath, portId, reason)[reason] += packets;
  datapath.copiesDropped += packets;
}

/** Those of a port, or where it is gone those that belong to none. @throws RuleError 16 */
function dropsOf(datapath: Datapath, portId: number, reason: number): Float64Array {
  if (!datapath.reasons.has(reason)) throw new RuleError(16, `drop reason ${reason} is not registered`);
  return (datapath.ports[portId] ?? (datapath.ports[0] as Port)).drops;
}
