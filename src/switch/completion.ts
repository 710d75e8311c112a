/**
 * Completion: packets that are done go back through the stack in reverse, egress return from the top, then ingress complete
 * from the bottom; then contexts and packets are freed. A packet stays until its clones have completed.
 */
import type { Batch, Packet } from '../net/index.ts';
import { ContextFlag, contextOf, type ForwardingContext } from './context.ts';
import type { Datapath } from './datapath.ts';

/** Complete every packet of a batch; the caller empties it. */
export function completePackets(datapath: Datapath, batch: Batch): void {
  if (datapath.returnSlots.length !== 0) tellReturn(datapath, batch);
  if (datapath.completeSlots.length !== 0) tellComplete(datapath, batch);
  const packets = batch.packets;
  for (let i = 0; i < batch.count; i += 1) {
    const packet = packets[i];
    finish(datapath, packet, packet.attachment as ForwardingContext);
  }
}

function finish(datapath: Datapath, packet: Packet, context: ForwardingContext): void {
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
  datapath.contexts.detach(context);
  if (parent !== null) {
    const parentContext = contextOf(parent);
    parentContext.liveClones -= 1;
    if (parentContext.liveClones === 0 && (parentContext.flags & ContextFlag.COMPLETED) !== 0) {
      finish(datapath, parent, parentContext);
    }
  }
  packet.release();
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
  const told = datapath.takeBatch();
  for (const slot of datapath.returnSlots) {
    if (slot.failed) continue;
    for (let i = 0; i < batch.count; i += 1) {
      const context = contextOf(batch.packets[i]);
      if (slot.rank > context.egressTop && slot.rank <= context.egressBottom) told.push(batch.packets[i]);
    }
    if (told.count === 0) continue;
    try {
      slot.extension.onEgressReturn?.(told);
    } catch (error) {
      datapath.onFailure(slot, error, 'onEgressReturn');
    }
    told.count = 0;
  }
  datapath.giveBatch(told);
}

function tellComplete(datapath: Datapath, batch: Batch): void {
  const told = datapath.takeBatch();
  for (const slot of datapath.completeSlots) {
    if (slot.failed) continue;
    for (let i = 0; i < batch.count; i += 1) {
      const context = contextOf(batch.packets[i]);
      if (slot.rank >= context.ingressTop && slot.rank < context.ingressBottom) told.push(batch.packets[i]);
    }
    if (told.count === 0) continue;
    try {
      slot.extension.onIngressComplete?.(told);
    } catch (error) {
      datapath.onFailure(slot, error, 'onIngressComplete');
    }
    told.count = 0;
  }
  datapath.giveBatch(told);
}
