/**
 * The miniport edge and the egress path: mirrors are added, packets turn around and go up through forwarding, the built-in
 * egress policy, filtering and capturing extensions, and are handed to NICs.
 */
import { type Batch, exceedsMtu, type Packet } from '../../net/index.ts';
import type { Nic } from '../control/nic.ts';
import type { Port } from '../control/port.ts';
import { DropReason } from '../drop-reason.ts';
import { egressPolicyVerdict } from '../policies/builtin.ts';
import { VlanMode } from '../policies/port-policy.ts';
import { egressVlanVerdict, tagActionFor } from '../policies/vlan.ts';
import { callHandler } from './call-handler.ts';
import { ContextFlag, DestinationFlag, type ForwardingContext, NO_RANK, PacketFlag } from './context.ts';
import type { SwitchCore } from './core.ts';
import { addDestinationTo, hasDestination } from './destinations.ts';
import { forwardNatively } from './native-forwarding.ts';
import { BEGINS } from './tracking.ts';

/** Turn packets around: from here on their destinations are final. DESTINATION_GROUP from below forwarding ends here. */
export function miniportEdge(core: SwitchCore, batch: Batch, flags: number): void {
  const packets = batch.packets;
  const count = batch.count;
  let kept = 0;
  for (let i = 0; i < count; i += 1) {
    const packet = packets[i];
    const context = packet.attachment as ForwardingContext;
    context.holder = 0;
    context.ingressBottom = NO_RANK;
    if (
      (context.flags & ContextFlag.NATIVE_FORWARDING) !== 0 &&
      context.numDestinations === 0 &&
      !forwardNatively(core, packet, context)
    ) {
      continue;
    }
    context.flags |= ContextFlag.EGRESS;
    if (core.anyMonitor) addMirrors(core, context);
    if (context.numDestinations === 0) {
      core.dropPacket(packet, context, core.portOf(context), DropReason.NO_DESTINATION);
      continue;
    }
    packets[kept] = packet;
    kept += 1;
  }
  batch.count = kept;
  if (kept === 0) return;
  let upFlags = flags & PacketFlag.SINGLE_SOURCE;
  if (core.egressSlots.length !== 0 || core.forwardingSlot?.hasEgress) upFlags |= destinationGroup(batch);
  const forwarding = core.forwardingSlot;
  if (forwarding?.hasEgress) callHandler(core, forwarding, batch, upFlags, true);
  else egressAboveForwarding(core, batch, upFlags);
}

/** DESTINATION_GROUP when all packets have one and the same destination. */
function destinationGroup(batch: Batch): number {
  const first = batch.packets[0].attachment as ForwardingContext;
  if (first.numDestinations !== 1) return 0;
  for (let i = 1; i < batch.count; i += 1) {
    const context = batch.packets[i].attachment as ForwardingContext;
    if (context.numDestinations !== 1) return 0;
    if (context.destinationPorts[0] !== first.destinationPorts[0]) return 0;
    if (context.destinationNics[0] !== first.destinationNics[0]) return 0;
  }
  return PacketFlag.DESTINATION_GROUP;
}

/** Monitor ports get what goes in or out of monitored ports, once. */
function addMirrors(core: SwitchCore, context: ForwardingContext): void {
  let mirrored = context.sourcePort?.policy.monitorSource === true;
  for (let i = 0; i < context.numDestinations && !mirrored; i += 1) {
    mirrored = core.ports[context.destinationPorts[i]]?.policy.monitorSource === true;
  }
  if (!mirrored) return;
  for (const port of core.monitorPorts) {
    if (port === context.sourcePort || hasDestination(context, port.portId)) continue;
    addDestinationTo(context, port, 0, DestinationFlag.MIRROR);
  }
}

/** What lies above forwarding: the built-in egress policy, then the extensions. */
export function egressAboveForwarding(core: SwitchCore, batch: Batch, flags: number): void {
  if (core.tracksAll) trackOriginated(core, batch);
  if (core.anyEgressPolicy) applyEgressPolicy(core, batch);
  egressFrom(core, 0, batch, flags);
}

/** Hand packets to the egress handler at a position of SwitchCore.egressSlots, or to the NICs. */
export function egressFrom(core: SwitchCore, position: number, batch: Batch, flags: number): void {
  if (position < core.egressSlots.length) callHandler(core, core.egressSlots[position], batch, flags, true);
  else deliver(core, batch);
}

/** Count and exclude one copy of a packet. */
export function excludeCopy(
  core: SwitchCore,
  context: ForwardingContext,
  index: number,
  port: Port,
  reason: number,
): void {
  context.destinationFlags[index] |= DestinationFlag.EXCLUDED;
  port.drops[reason] += 1;
  core.copiesDropped += 1;
}

/** Count a packet as dropped of which every copy was excluded: the last copy stands for the packet, under the reason it has been counted by. */
export function countNoArrival(core: SwitchCore, context: ForwardingContext): void {
  core.dropped += 1;
  if (context.numDestinations === 0) core.portOf(context).drops[DropReason.NO_DESTINATION] += 1;
  else core.copiesDropped -= 1;
}

/** The same of a copy that reached its NIC, which does not send it. */
function excludeUnsent(core: SwitchCore, context: ForwardingContext, index: number, port: Port, reason: number): void {
  excludeCopy(core, context, index, port, reason);
  port.transmitDropped += 1;
}

/** What did not come from a NIC, or has changed on its way, is tracked as it is now. */
function trackOriginated(core: SwitchCore, batch: Batch): void {
  for (let i = 0; i < batch.count; i += 1) {
    const packet = batch.packets[i];
    const context = packet.attachment as ForwardingContext;
    if (context.connection === 0) core.connections.track(packet, context);
  }
}

function applyEgressPolicy(core: SwitchCore, batch: Batch): void {
  const packets = batch.packets;
  const ports = core.ports;
  for (let i = 0; i < batch.count; i += 1) {
    const packet = packets[i];
    const context = packet.attachment as ForwardingContext;
    for (let d = 0; d < context.numDestinations; d += 1) {
      const port = ports[context.destinationPorts[d]];
      if (!port?.policy.hasEgressPolicy) continue;
      if ((context.destinationFlags[d] & (DestinationFlag.EXCLUDED | DestinationFlag.MIRROR)) !== 0) continue;
      if (port.policy.tracks && context.connection === 0) core.connections.track(packet, context);
      let reason: number = DropReason.NONE;
      if (port.policy.vlanMode === VlanMode.TRUNK) reason = egressVlanVerdict(context, port.policy);
      if (reason === DropReason.NONE) reason = egressPolicyVerdict(packet, port.policy, core.nowMs, true);
      if (reason !== DropReason.NONE) excludeCopy(core, context, d, port, reason);
    }
  }
}

/** The NIC that a destination means: on an external port, index 0 spreads over the physical adapters by address. */
export function destinationNic(port: Port, nicIndex: number, packet: Packet): Nic | null {
  const team = port.team;
  if (nicIndex === 0 && team.length !== 0) {
    const bytes = packet.bytes;
    const at = packet.offset;
    return team[(bytes[at + 5] ^ bytes[at + 11]) % team.length];
  }
  return port.nics[nicIndex] ?? null;
}

/** Whether a frame is too large for a NIC. */
export function isTooLong(packet: Packet, nic: Nic): boolean {
  return nic.mtuBytes !== 0 && exceedsMtu(packet, nic.mtuBytes);
}

/** The connection that a packet begins is kept, if the packet leaves. Without room for it no copy does. */
function keepConnection(core: SwitchCore, packet: Packet, context: ForwardingContext): void {
  let leaves = false;
  for (let d = 0; d < context.numDestinations; d += 1)
    if ((context.destinationFlags[d] & (DestinationFlag.EXCLUDED | DestinationFlag.MIRROR)) === 0) leaves = true;
  if (!leaves || core.connections.keep(packet, context)) return;
  for (let d = 0; d < context.numDestinations; d += 1) {
    const port = core.ports[context.destinationPorts[d]];
    const isLeft = (context.destinationFlags[d] & (DestinationFlag.EXCLUDED | DestinationFlag.MIRROR)) === 0;
    if (port && isLeft) excludeCopy(core, context, d, port, DropReason.CONNECTIONS_FULL);
  }
}

/** Hand every copy to its NIC; the packets are done then. */
function deliver(core: SwitchCore, batch: Batch): void {
  const packets = batch.packets;
  const count = batch.count;
  const done = core.done;
  const ports = core.ports;
  for (let i = 0; i < count; i += 1) {
    const packet = packets[i];
    const context = packet.attachment as ForwardingContext;
    const destinations = context.numDestinations;
    context.holder = 0;
    context.egressTop = -1;
    if ((context.connection & BEGINS) !== 0) keepConnection(core, packet, context);
    let copies = 0;
    for (let d = 0; d < destinations; d += 1) {
      const flags = context.destinationFlags[d];
      if ((flags & DestinationFlag.EXCLUDED) !== 0) continue;
      const port = ports[context.destinationPorts[d]];
      // Destinations were checked when they were added; an extension may have written to the array since.
      if (!port) {
        excludeCopy(core, context, d, ports[0] as Port, DropReason.NIC_NOT_CONNECTED);
        continue;
      }
      const nic = destinationNic(port, context.destinationNics[d], packet);
      if (nic === null) {
        excludeUnsent(core, context, d, port, DropReason.NIC_NOT_CONNECTED);
      } else if (nic.isDown) {
        excludeUnsent(core, context, d, port, DropReason.NIC_DOWN);
      } else if (isTooLong(packet, nic)) {
        excludeUnsent(core, context, d, port, DropReason.EXCEEDS_MTU);
      } else if (transmit(core, nic, packet, tagActionFor(context, port.policy, flags))) {
        copies += 1;
        port.transmittedPackets += 1;
        port.transmittedBytes += packet.length;
      } else {
        excludeUnsent(core, context, d, port, DropReason.NIC_FAILED);
      }
    }
    if (copies !== 0) {
      context.flags |= ContextFlag.DELIVERED;
      core.delivered += 1;
      core.copiesDelivered += copies;
    } else {
      countNoArrival(core, context);
    }
    done.push(packet);
  }
  batch.count = 0;
}

function transmit(core: SwitchCore, nic: Nic, packet: Packet, tag: number): boolean {
  try {
    nic.backend.transmit(packet, tag);
  } catch (error) {
    core.nicFailed(nic, error);
    return false;
  }
  if (!nic.touched) {
    nic.touched = true;
    core.touched.push(nic);
  }
  return true;
}
