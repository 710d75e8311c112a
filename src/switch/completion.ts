/**
 * Completion: packets that are done go back through the stack in reverse, egress return from the top, then ingress complete
 * from the bottom; then contexts and packets are freed. A packet stays until its clones have completed.
 */
import type { Batch, Packet } from '../net/index.ts';
import { ContextFlag, contextOf, type ForwardingContext } from './context.ts';
import type { Datapath } from './datapath.ts';
import { RuleError } from './errors.ts';
import { guarded } from './guard.ts';
import { isWritablePacket, mend } from './handoff.ts';
import type { Slot } from './slot.ts';

/** Complete every packet of a batch; the caller empties it. */
export function completePackets(datapath: Datapath, batch: Batch): void {
  const packets = batch.packets;
  if (datapath.returnSlots.length !== 0 || datapath.completeSlots.length !== 0) {
    for (let i = 0; i < batch.count; i += 1) packets[i].attachment = ownContext(datapath, packets[i]);
    if (datapath.returnSlots.length !== 0) tellReturn(datapath, batch);
    if (datapath.completeSlots.length !== 0) tellComplete(datapath, batch);
  }
  for (let i = 0; i < batch.count; i += 1) {
    const packet = packets[i];
    finish(datapath, packet, ownContext(datapath, packet));
  }
}

/** The context of a packet, found again where an extension has overwritten the attachment after it had passed the packet on. */
function ownContext(datapath: Datapath, packet: Packet): ForwardingContext {
  const context = packet.attachment as ForwardingContext | null;
  return context !== null && context.packet === packet ? context : datapath.contexts.of(packet);
}

/** End a packet whose end has been counted. */
export function finish(datapath: Datapath, packet: Packet, context: ForwardingContext): void {
  if (context.liveClones !== 0) {
    context.flags |= ContextFlag.COMPLETED;
    return;
  }
  const ports = datapath.ports;
  for (let d = 0; d < context.numDestinations; d += 1) {
    const port = ports[context.destinationPorts[d]];
    if (port) port.pins -= 1;
  }
  if (context.sourcePort !== null) context.sourcePort.pins -= 1;
  const parent = context.parent;
  letGo(datapath, packet, context);
  if (parent !== null) {
    const parentContext = ownContext(datapath, parent);
    parentContext.liveClones -= 1;
    if (parentContext.liveClones === 0 && (parentContext.flags & ContextFlag.COMPLETED) !== 0) {
      finish(datapath, parent, parentContext);
    }
  }
}

function letGo(datapath: Datapath, packet: Packet, context: ForwardingContext): void {
  if (datapath.hasForeign) {
    letGoGuarded(datapath, packet, context);
    return;
  }
  datapath.contexts.detach(context);
  packet.release();
}

/** As {@link letGo}, where code that nobody vouches for may have frozen the packet or its context. */
function letGoGuarded(datapath: Datapath, packet: Packet, context: ForwardingContext): void {
  if (!isWritablePacket(packet)) {
    giveUp(datapath, packet, context);
    return;
  }
  try {
    datapath.contexts.detach(context);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    datapath.contexts.giveUp(context);
    packet.attachment = null;
  }
  packet.release();
}

/** An extension has frozen a descriptor: it is not used again, and what is behind it gets another, unless somebody else still uses it. */
function giveUp(datapath: Datapath, packet: Packet, context: ForwardingContext): void {
  datapath.contexts.giveUp(context);
  if (packet.references !== 1) return;
  packet.parent?.release();
  packet.owner.part?.(packet);
}

/** Free a context that never went anywhere, and what it pins; the packet stays its owner's. */
export function abandonContext(datapath: Datapath, context: ForwardingContext): void {
  const packet = context.packet;
  if (packet === null) return;
  packet.hold();
  context.liveClones = 0;
  finish(datapath, packet, context);
}

function tellReturn(datapath: Datapath, batch: Batch): void {
  for (const slot of datapath.returnSlots) {
    if (slot.failed) continue;
    const told = datapath.takeBatch();
    for (let i = 0; i < batch.count; i += 1) {
      const context = contextOf(batch.packets[i]);
      if (slot.rank > context.egressTop && slot.rank <= context.egressBottom) told.push(batch.packets[i]);
    }
    if (told.count !== 0) {
      guarded(datapath, slot, 'onEgressReturn', () => slot.extension.onEgressReturn?.(told));
      checkTold(datapath, slot, batch, 'onEgressReturn');
    }
    datapath.takeBack(told, slot, 'onEgressReturn');
  }
}

function tellComplete(datapath: Datapath, batch: Batch): void {
  for (const slot of datapath.completeSlots) {
    if (slot.failed) continue;
    const told = datapath.takeBatch();
    for (let i = 0; i < batch.count; i += 1) {
      const context = contextOf(batch.packets[i]);
      if (slot.rank >= context.ingressTop && slot.rank < context.ingressBottom) told.push(batch.packets[i]);
    }
    if (told.count !== 0) {
      guarded(datapath, slot, 'onIngressComplete', () => slot.extension.onIngressComplete?.(told));
      checkTold(datapath, slot, batch, 'onIngressComplete');
    }
    datapath.takeBack(told, slot, 'onIngressComplete');
  }
}

/** The packets whose end an extension was told of are what they were: they are about to be released. */
function checkTold(datapath: Datapath, slot: Slot, batch: Batch, where: string): void {
  for (let i = 0; i < batch.count; i += 1) {
    const packet = batch.packets[i];
    const context = packet.attachment as ForwardingContext | null;
    if (context !== null && context.packet === packet && packet.bytes === context.bytes) continue;
    mend(packet, datapath.contexts.of(packet));
    datapath.onFailure(slot, new RuleError(44, `${slot.name} changed a packet that has ended`), where);
  }
}
