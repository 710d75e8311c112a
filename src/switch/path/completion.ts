/**
 * Completion: packets that are done go back through the stack in reverse, egress return from the top, then ingress complete
 * from the bottom; then contexts and packets are freed. A packet stays until its clones have completed.
 */
import type { Batch, Packet } from '../../net/index.ts';
import { RuleError } from '../errors.ts';
import type { Slot } from '../stack/slot.ts';
import { ContextFlag, contextOf, type ForwardingContext } from './context.ts';
import type { SwitchCore } from './core.ts';
import { guarded } from './guard.ts';
import { isWritablePacket, mend } from './handoff.ts';

/** Complete every packet of a batch; the caller empties it. */
export function completePackets(core: SwitchCore, batch: Batch): void {
  const packets = batch.packets;
  if (core.returnSlots.length !== 0 || core.completeSlots.length !== 0) {
    for (let i = 0; i < batch.count; i += 1) packets[i].attachment = ownContext(core, packets[i]);
    tell(core, batch, 'onEgressReturn');
    tell(core, batch, 'onIngressComplete');
  }
  for (let i = 0; i < batch.count; i += 1) {
    const packet = packets[i];
    finish(core, packet, ownContext(core, packet));
  }
}

/** The context of a packet, found again where an extension has overwritten the attachment after it had passed the packet on. */
function ownContext(core: SwitchCore, packet: Packet): ForwardingContext {
  const context = packet.attachment as ForwardingContext | null;
  return context !== null && context.packet === packet ? context : core.contexts.of(packet);
}

/** End a packet whose end has been counted. */
export function finish(core: SwitchCore, packet: Packet, context: ForwardingContext): void {
  if (context.liveClones !== 0) {
    context.flags |= ContextFlag.COMPLETED;
    return;
  }
  const ports = core.ports;
  for (let d = 0; d < context.numDestinations; d += 1) {
    const port = ports[context.destinationPorts[d]];
    if (port) port.pins -= 1;
  }
  if (context.sourcePort !== null) context.sourcePort.pins -= 1;
  const parent = context.parent;
  letGo(core, packet, context);
  if (parent !== null) {
    const parentContext = ownContext(core, parent);
    parentContext.liveClones -= 1;
    if (parentContext.liveClones === 0 && (parentContext.flags & ContextFlag.COMPLETED) !== 0) {
      finish(core, parent, parentContext);
    }
  }
}

function letGo(core: SwitchCore, packet: Packet, context: ForwardingContext): void {
  if (core.hasForeign) {
    letGoGuarded(core, packet, context);
    return;
  }
  core.contexts.detach(context);
  packet.release();
}

/** As {@link letGo}, where code that nobody vouches for may have frozen the packet or its context. */
function letGoGuarded(core: SwitchCore, packet: Packet, context: ForwardingContext): void {
  if (!isWritablePacket(packet)) {
    giveUp(core, packet, context);
    return;
  }
  try {
    core.contexts.detach(context);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    core.contexts.giveUp(context);
    packet.attachment = null;
  }
  packet.release();
}

/** An extension has frozen a descriptor: it is not used again, and what is behind it gets another, unless somebody else still uses it. */
function giveUp(core: SwitchCore, packet: Packet, context: ForwardingContext): void {
  core.contexts.giveUp(context);
  if (packet.references !== 1) return;
  packet.parent?.release();
  packet.owner.part?.(packet);
}

/** Free a context that never went anywhere, and what it pins; the packet stays its owner's. */
export function abandonContext(core: SwitchCore, context: ForwardingContext): void {
  const packet = context.packet;
  if (packet === null) return;
  packet.hold();
  context.liveClones = 0;
  finish(core, packet, context);
}

/** Tell extensions of packets that they had passed on. */
function tell(core: SwitchCore, batch: Batch, where: 'onEgressReturn' | 'onIngressComplete'): void {
  const isUp = where === 'onEgressReturn';
  for (const slot of isUp ? core.returnSlots : core.completeSlots) {
    if (slot.failed) continue;
    const { rank } = slot;
    const told = core.takeBatch();
    for (let i = 0; i < batch.count; i += 1) {
      const { egressTop, egressBottom, ingressTop, ingressBottom } = contextOf(batch.packets[i]);
      if (isUp ? rank > egressTop && rank <= egressBottom : rank >= ingressTop && rank < ingressBottom)
        told.push(batch.packets[i]);
    }
    if (told.count !== 0) {
      guarded(core, slot, where, () => slot.extension[where]?.(told));
      checkTold(core, slot, batch, where);
    }
    core.takeBack(told, slot, where);
  }
}

/** The packets whose end an extension was told of are what they were: they are about to be released. */
function checkTold(core: SwitchCore, slot: Slot, batch: Batch, where: string): void {
  for (let i = 0; i < batch.count; i += 1) {
    const packet = batch.packets[i];
    const context = packet.attachment as ForwardingContext | null;
    if (context !== null && context.packet === packet && packet.bytes === context.bytes) continue;
    mend(packet, core.contexts.of(packet));
    core.onFailure(slot, new RuleError(44, `${slot.name} changed a packet that has ended`), where);
  }
}
