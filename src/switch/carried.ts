/**
 * Counting packets that did not come through the switch, as if they had. Neighbour: shortcut.ts says which may do so.
 */
import type { Datapath } from './datapath.ts';
import { DropReason } from './drop-reason.ts';
import { RuleError } from './errors.ts';
import type { Shortcut } from './passage.ts';

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
    datapath.delivered += packets;
    datapath.copiesDelivered += packets;
    countDeparture(datapath, portId, packets, bytes);
  } else if (portId === 0 || portId === sourcePortId) {
    countCarriedDrops(datapath, sourcePortId, drop, packets, bytes);
  } else {
    countExcluded(datapath, sourcePortId, portId, drop, packets, bytes);
  }
  for (const passage of passages) passage.carried?.(packets, bytes);
}

function countArrival(datapath: Datapath, sourcePortId: number, packets: number, bytes: number): void {
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

/** @returns whether there is such a port */
function countDeparture(datapath: Datapath, portId: number, packets: number, bytes: number): boolean {
  const target = datapath.ports[portId];
  if (!target) return false;
  target.transmittedPackets += packets;
  target.transmittedBytes += bytes;
  return true;
}

/** See Shortcuts.carriedDrops. @throws RuleError 16 */
export function countCarriedDrops(
  datapath: Datapath,
  sourcePortId: number,
  reason: number,
  packets: number,
  bytes: number,
): void {
  if (!datapath.reasons.has(reason)) throw new RuleError(16, `drop reason ${reason} is not registered`);
  const source = datapath.ports[sourcePortId];
  if (!source) return;
  countArrival(datapath, sourcePortId, packets, bytes);
  source.drops[reason] += packets;
  datapath.dropped += packets;
}
