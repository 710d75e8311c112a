/**
 * The calls of the handler table that concern source and destinations of a packet: checked against the rules, then carried out. A part of the handle (stack/handle.ts).
 */
import type { Packet } from '../../net/index.ts';
import type { Port } from '../control/port.ts';
import { ReferenceCalls } from '../control/references.ts';
import { DropReason } from '../drop-reason.ts';
import { RuleError } from '../errors.ts';
import { DEFAULT_NIC_INDEX, DEFAULT_PORT_ID } from '../oid/oid.ts';
import { egressVlanVerdict } from '../policies/vlan.ts';
import type { Slot } from '../stack/slot.ts';
import { judgeSource, judgeTrusted, markMalformed, readFrame } from './classify.ts';
import { ContextFlag, DestinationFlag, type ForwardingContext, PRESERVE_TAG } from './context.ts';
import type { SwitchCore } from './core.ts';
import { addDestinationTo } from './destinations.ts';
import { excludeCopy } from './egress.ts';
import { heldContext } from './handoff.ts';

/** Nobody needs more destinations than there are ports, and a few. */
const MAX_SPARE_DESTINATIONS = 64;

export class DestinationCalls extends ReferenceCalls {
  /** SetNetBufferListSource. */
  setSource(packet: Packet, portId: number, nicIndex: number): void {
    const context = heldContext(this.slot, packet);
    if (context.origin !== this.slot.id)
      throw new RuleError(11, `${this.slot.name} changes the source of a packet of others`);
    if (context.numDestinations !== 0) throw new RuleError(10, 'the source is set after destinations were added');
    if (portId === DEFAULT_PORT_ID) {
      setSourceUnchecked(this.core, packet, context, null, DEFAULT_NIC_INDEX);
      return;
    }
    const port = this.core.ports[portId];
    const nic = port?.nics[nicIndex];
    if (!port || !nic) throw new RuleError(11, `there is no NIC ${nicIndex} at port ${portId}`);
    if (nic.state === 'created') throw new RuleError(28, `NIC ${nicIndex} of port ${portId} is not connected yet`);
    if (!nic.connected) throw new RuleError(11, `NIC ${nicIndex} of port ${portId} is not connected`);
    setSourceUnchecked(this.core, packet, context, port, nicIndex);
  }

  /** AddNetBufferListDestination. */
  addDestination(packet: Packet, portId: number, nicIndex: number, flags: number): void {
    const context = heldContext(this.slot, packet);
    checkMayAdd(this.slot, context);
    addDestinationTo(context, destinationPort(this.core, portId, nicIndex), nicIndex, flags & PRESERVE_TAG);
  }

  addAllowedDestination(packet: Packet, portId: number, nicIndex: number): number {
    const context = heldContext(this.slot, packet);
    checkMayAdd(this.slot, context);
    const port = this.core.ports[portId];
    if (!port?.reachable) return DropReason.NIC_NOT_CONNECTED;
    const { policy } = port;
    const verdict = egressVlanVerdict(context, policy);
    if (verdict !== DropReason.NONE) return verdict;
    const nic = nicIndex !== 0 && port.nics[nicIndex]?.connected ? nicIndex : 0;
    addDestinationTo(context, port, nic, policy.destinationFlags);
    return DropReason.NONE;
  }

  /** GrowNetBufferListDestinations. */
  growDestinations(packet: Packet, count: number): boolean {
    const context = heldContext(this.slot, packet);
    checkMayAdd(this.slot, context);
    if (!Number.isInteger(count) || count < 1) throw new RuleError(12, `growing by ${count} destinations`);
    if (context.numDestinations + context.numAvailable + count > this.core.ports.length + MAX_SPARE_DESTINATIONS) {
      return false;
    }
    if (count > context.numAvailable) context.grow(count - context.numAvailable);
    return true;
  }

  /** Write an element that is not committed yet. */
  fillDestination(packet: Packet, index: number, portId: number, nicIndex: number, flags: number): void {
    const context = heldContext(this.slot, packet);
    checkMayAdd(this.slot, context);
    if (index < context.numDestinations) throw new RuleError(13, `destination ${index} is committed`);
    if (!Number.isInteger(index) || index >= context.numDestinations + context.numAvailable) {
      throw new RuleError(12, `destination ${index} is outside the array`);
    }
    destinationPort(this.core, portId, nicIndex);
    context.destinationPorts[index] = portId;
    context.destinationNics[index] = nicIndex;
    context.destinationFlags[index] = flags & PRESERVE_TAG;
  }

  /** UpdateNetBufferListDestinations: commit filled elements. They are checked again, as time may have passed. */
  updateDestinations(packet: Packet, count: number): void {
    const context = heldContext(this.slot, packet);
    checkMayAdd(this.slot, context);
    const first = context.numDestinations;
    if (!Number.isInteger(count) || count < 1 || count > context.numAvailable) {
      throw new RuleError(12, `committing ${count} destinations where ${context.numAvailable} are available`);
    }
    for (let i = first; i < first + count; i += 1) {
      destinationPort(this.core, context.destinationPorts[i], context.destinationNics[i]);
    }
    for (let i = first; i < first + count; i += 1) {
      (this.core.ports[context.destinationPorts[i]] as Port).pins += 1;
    }
    context.numDestinations += count;
    context.numAvailable -= count;
  }

  /** Set IsExcluded of a committed destination. */
  excludeDestination(packet: Packet, index: number, reason: number): void {
    const context = heldContext(this.slot, packet);
    if (this.slot.capturing) throw new RuleError(4, `${this.slot.name} excludes a destination`);
    if ((context.flags & ContextFlag.EGRESS) === 0) {
      throw new RuleError(this.slot.forwarding ? 6 : 5, `${this.slot.name} excludes a destination on ingress`);
    }
    if (!Number.isInteger(index) || index < 0 || index >= context.numDestinations) {
      throw new RuleError(13, `destination ${index} is not committed`);
    }
    if ((context.destinationFlags[index] & DestinationFlag.EXCLUDED) !== 0) {
      throw new RuleError(13, `destination ${index} is excluded already`);
    }
    if (!this.core.reasons.has(reason)) throw new RuleError(16, `drop reason ${reason} is not registered`);
    excludeCopy(this.core, context, index, this.core.ports[context.destinationPorts[index]] as Port, reason);
  }

  /** CopyNetBufferListInfo. */
  copyInfo(target: Packet, source: Packet, preserveDestinations: boolean): void {
    const to = heldContext(this.slot, target);
    const from = source.attachment as ForwardingContext | null;
    if (from === null) throw new RuleError(10, 'the packet to copy from has no forwarding context');
    if (to.origin !== this.slot.id)
      throw new RuleError(17, `${this.slot.name} overwrites the information of a packet of others`);
    if (to.numDestinations !== 0) throw new RuleError(13, 'the target has committed destinations');
    const egress = (from.flags & ContextFlag.EGRESS) !== 0;
    if (preserveDestinations && !egress && !this.slot.forwarding) {
      throw new RuleError(17, `${this.slot.name} keeps destinations of a packet on ingress`);
    }
    target.copyMetadata(source);
    setSourceUnchecked(this.core, target, to, from.sourcePort, from.sourceNicIndex);
    if (preserveDestinations) copyDestinations(this.core, to, from);
  }
}

/** A connected NIC as destination. @throws RuleError 14, or 29 after a disconnect */
function destinationPort(core: SwitchCore, portId: number, nicIndex: number): Port {
  const port = core.ports[portId];
  if (!port || portId === DEFAULT_PORT_ID) throw new RuleError(14, `there is no port ${portId}`);
  if (nicIndex !== DEFAULT_NIC_INDEX && !port.external) {
    throw new RuleError(14, `NIC index ${nicIndex} on port ${portId}, which is not external`);
  }
  const nic = port.nics[nicIndex];
  if (nic?.connected) return port;
  if (nicIndex === DEFAULT_NIC_INDEX && port.team.length !== 0) return port;
  if (nic?.state === 'disconnected') throw new RuleError(29, `NIC ${nicIndex} of port ${portId} is disconnected`);
  throw new RuleError(14, `NIC ${nicIndex} of port ${portId} is not connected`);
}

/** Who may add destinations, and when. Called for every destination, so the common case is one comparison. @throws RuleError */
export function checkMayAdd(slot: Slot, context: ForwardingContext): void {
  if (!slot.forwarding) throw new RuleError(slot.capturing ? 4 : 5, `${slot.name} adds a destination`);
  const flags = context.flags & (ContextFlag.NATIVE_FORWARDING | ContextFlag.EGRESS | ContextFlag.SOURCE_SET);
  if (flags === ContextFlag.SOURCE_SET) return;
  if ((flags & ContextFlag.EGRESS) !== 0) throw new RuleError(18, `${slot.name} adds a destination on egress`);
  if ((flags & ContextFlag.NATIVE_FORWARDING) !== 0) {
    throw new RuleError(25, `${slot.name} adds a destination to a natively forwarded packet`);
  }
  throw new RuleError(10, 'destinations before the source is set');
}

/** Make a port, or with null the default port, the source of a packet, and classify it. */
export function setSourceUnchecked(
  core: SwitchCore,
  packet: Packet,
  context: ForwardingContext,
  port: Port | null,
  nicIndex: number,
): void {
  if (context.sourcePort !== null) context.sourcePort.pins -= 1;
  if (port !== null) port.pins += 1;
  context.sourcePort = port;
  context.sourcePortId = port === null ? DEFAULT_PORT_ID : port.portId;
  context.sourceNicIndex = nicIndex;
  context.flags |= ContextFlag.SOURCE_SET;
  classify(core, packet, context);
}

/** Read the frame again and judge it by its source. */
export function classify(core: SwitchCore, packet: Packet, context: ForwardingContext): void {
  context.flags &= ~ContextFlag.MALFORMED;
  const reason = readFrame(context, packet);
  if (reason !== DropReason.NONE) {
    markMalformed(context, reason);
    return;
  }
  const port = context.sourcePort;
  const nic = port?.nics[context.sourceNicIndex];
  if (port && nic) judgeSource(context, packet, port.policy, nic, core.privateVlans);
  else judgeTrusted(context);
}

/** Give a packet the destinations of another. */
export function copyDestinations(core: SwitchCore, to: ForwardingContext, from: ForwardingContext): void {
  for (let i = 0; i < from.numDestinations; i += 1) {
    const port = core.ports[from.destinationPorts[i]] as Port;
    addDestinationTo(to, port, from.destinationNics[i], from.destinationFlags[i]);
  }
}
