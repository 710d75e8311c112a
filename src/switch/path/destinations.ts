/**
 * Writing destinations into a forwarding context. What comes in here has been checked; destination-calls.ts is the checked way
 * of extensions. A committed destination pins its port until the packet completes.
 */

import type { Port } from '../control/port.ts';
import { DropReason } from '../drop-reason.ts';
import { egressVlanVerdict } from '../policies/vlan.ts';
import type { ForwardingContext } from './context.ts';
import type { SwitchCore } from './core.ts';

/** Add and commit one destination. */
export function addDestinationTo(context: ForwardingContext, port: Port, nicIndex: number, flags: number): void {
  if (context.numAvailable === 0) context.grow(1);
  const index = context.numDestinations;
  context.destinationPorts[index] = port.portId;
  context.destinationNics[index] = nicIndex;
  context.destinationFlags[index] = flags;
  context.numDestinations = index + 1;
  context.numAvailable -= 1;
  port.pins += 1;
}

/** Add every reachable port that may have the packet, other than its source. @returns how many */
export function floodTo(core: SwitchCore, context: ForwardingContext): number {
  const ports = core.reachablePorts;
  const source = context.sourcePort;
  let added = 0;
  for (let i = 0; i < ports.length; i += 1) {
    const port = ports[i];
    if (port === source || egressVlanVerdict(context, port.policy) !== DropReason.NONE) continue;
    addDestinationTo(context, port, 0, port.policy.destinationFlags);
    added += 1;
  }
  return added;
}

/** Whether a port is among the destinations already. */
export function hasDestination(context: ForwardingContext, portId: number): boolean {
  for (let i = 0; i < context.numDestinations; i += 1) if (context.destinationPorts[i] === portId) return true;
  return false;
}
