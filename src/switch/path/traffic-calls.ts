/**
 * The calls of an extension that move packets: passing on, ending, injecting, cloning. Each is checked as a whole before
 * anything changes. stack/handle.ts puts them behind the extension's handle.
 */
import { type Batch, type ClonePool, Packet, type PacketPool } from '../../net/index.ts';
import type { Port } from '../control/port.ts';
import { DropReason } from '../drop-reason.ts';
import { RuleError } from '../errors.ts';
import type { Slot } from '../stack/slot.ts';
import { abandonContext } from './completion.ts';
import { ContextFlag, contextOf, type ForwardingContext, PacketFlag } from './context.ts';
import type { SwitchCore } from './core.ts';
import { classify, setSourceUnchecked } from './destination-calls.ts';
import { addDestinationTo } from './destinations.ts';
import { countNoArrival, egressAboveForwarding, egressFrom, miniportEdge } from './egress.ts';
import { checkBatch, claim, claimAll, claimToPass, heldContext, isWhole, unclaim } from './handoff.ts';
import { ingressFrom } from './ingress.ts';
import { BEGINS } from './tracking.ts';
import { verifyBatch } from './verify.ts';

/** The promises of list flags hold. */
function checkFlags(slot: Slot, batch: Batch, flags: number): void {
  if (batch.count === 0) return;
  const first = batch.packets[0].attachment as ForwardingContext;
  const group = (flags & PacketFlag.DESTINATION_GROUP) !== 0;
  if (group && !slot.forwarding) throw new RuleError(24, `${slot.name} sets DESTINATION_GROUP`);
  for (let i = 0; i < batch.count; i += 1) {
    const context = batch.packets[i].attachment as ForwardingContext;
    if (context.sourcePortId !== first.sourcePortId || context.sourceNicIndex !== first.sourceNicIndex) {
      if ((flags & PacketFlag.SINGLE_SOURCE) !== 0) throw new RuleError(23, 'packets of a list have different sources');
    }
    if (!group) continue;
    const same =
      context.numDestinations === 1 &&
      context.destinationPorts[0] === first.destinationPorts[0] &&
      context.destinationNics[0] === first.destinationNics[0];
    if (!same) throw new RuleError(24, 'packets of a list have different destinations');
  }
}

/** NdisFSendNetBufferLists on ingress. */
export function sendIngress(core: SwitchCore, slot: Slot, batch: Batch, flags: number): void {
  claimToPass(slot, batch, false);
  if (batch.count === 0) return;
  checkPromises(core, slot, batch, flags, slot.capturing ? 4 : 19);
  core.enter();
  passDown(core, slot, batch, flags);
  core.leave();
}

/** What is said of claimed packets holds; otherwise they are the slot's again. @param rule broken by data that was changed @throws RuleError */
function checkPromises(core: SwitchCore, slot: Slot, batch: Batch, flags: number, rule: number): void {
  try {
    if (flags !== 0) checkFlags(slot, batch, flags);
    if (core.options.verifyData && rule !== 0) verifyBatch(batch, rule);
  } catch (error) {
    unclaim(slot, batch, batch.count);
    throw error;
  }
}

function passDown(core: SwitchCore, slot: Slot, batch: Batch, flags: number): void {
  if (slot.forwarding) miniportEdge(core, batch, flags);
  else ingressFrom(core, slot.ingressNext, batch, flags & ~PacketFlag.DESTINATION_GROUP);
  batch.count = 0;
}

/** NdisFIndicateReceiveNetBufferLists on egress. */
export function indicateEgress(core: SwitchCore, slot: Slot, batch: Batch, flags: number): void {
  claimToPass(slot, batch, true);
  if (batch.count === 0) return;
  checkPromises(core, slot, batch, 0, slot.capturing ? 4 : 18);
  core.enter();
  passUp(core, slot, batch, flags);
  core.leave();
}

function passUp(core: SwitchCore, slot: Slot, batch: Batch, flags: number): void {
  if (slot.forwarding) egressAboveForwarding(core, batch, flags);
  else egressFrom(core, slot.egressNext, batch, flags);
  batch.count = 0;
}

/** NdisFSendNetBufferListsComplete and NdisFReturnNetBufferLists for packets that go no further. */
export function endPackets(core: SwitchCore, slot: Slot, batch: Batch, egress: boolean): void {
  checkBatch(slot, batch);
  let claimed = 0;
  try {
    for (; claimed < batch.count; claimed += 1) {
      const context = heldContext(slot, batch.packets[claimed]);
      if (slot.capturing && context.origin !== slot.id) throw new RuleError(4, `${slot.name} ends a packet`);
      if (((context.flags & ContextFlag.EGRESS) !== 0) !== egress) {
        throw new RuleError(3, `${slot.name} ends a packet on the wrong path`);
      }
      claim(context);
    }
  } catch (error) {
    unclaim(slot, batch, claimed);
    throw error;
  }
  core.enter();
  for (let i = 0; i < batch.count; i += 1) {
    const packet = batch.packets[i];
    const context = packet.attachment as ForwardingContext;
    context.holder = 0;
    if ((context.flags & (ContextFlag.CLONED | ContextFlag.REPORTED)) === ContextFlag.CLONED) {
      core.consumed += 1;
    } else {
      const isReported = (context.flags & ContextFlag.REPORTED) !== 0;
      if (!isReported && allExcluded(context)) {
        countNoArrival(core, context);
      } else {
        core.dropped += 1;
        if (!isReported) core.portOf(context).drops[DropReason.EXTENSION_UNREPORTED] += 1;
      }
    }
    core.done.push(packet);
  }
  if (core.dropWatchers.size !== 0 && !egress && !slot.forwarding) tellDrops(core, batch);
  batch.count = 0;
  core.leave();
}

/** Tell of packets that have just ended because of their source port. */
function tellDrops(core: SwitchCore, batch: Batch): void {
  for (let i = 0; i < batch.count; i += 1) {
    const context = contextOf(batch.packets[i]);
    if ((context.flags & ContextFlag.REPORTED) === 0 || context.reported === 0) continue;
    core.tellDrop(batch.packets[i]);
  }
}

/** End packets whose content went on by another way. */
export function consumePackets(core: SwitchCore, slot: Slot, batch: Batch): void {
  if (slot.capturing) throw new RuleError(4, `${slot.name} ends a packet`);
  checkBatch(slot, batch);
  for (let i = 0; i < batch.count; i += 1) heldContext(slot, batch.packets[i]);
  for (let i = 0; i < batch.count; i += 1) {
    const packet = batch.packets[i];
    const context = contextOf(packet);
    context.flags |= ContextFlag.CLONED;
    // What goes on in its place may be of another connection: answers come back to this one.
    if ((context.connection & BEGINS) !== 0) core.connections.keep(packet, context);
  }
  endPackets(core, slot, batch, false);
}

function allExcluded(context: ForwardingContext): boolean {
  for (let i = 0; i < context.numDestinations; i += 1) if (!context.isExcluded(i)) return false;
  return context.numDestinations !== 0;
}

/** ReportFilteredNetBufferLists. */
export function reportFiltered(
  core: SwitchCore,
  slot: Slot,
  batch: Batch,
  portId: number,
  reason: number,
  incoming: boolean,
): void {
  if (slot.capturing) throw new RuleError(4, `${slot.name} filters packets`);
  const port = core.ports[portId];
  if (!port) throw new RuleError(16, `there is no port ${portId}`);
  if (!core.reasons.has(reason)) throw new RuleError(16, `drop reason ${reason} is not registered`);
  checkBatch(slot, batch);
  let claimed = 0;
  try {
    for (; claimed < batch.count; claimed += 1) {
      const context = heldContext(slot, batch.packets[claimed]);
      if ((context.flags & ContextFlag.REPORTED) !== 0) throw new RuleError(16, 'a packet is reported twice');
      if (incoming && context.sourcePortId !== portId) {
        throw new RuleError(16, `a packet from port ${context.sourcePortId} is reported as incoming from ${portId}`);
      }
      claim(context);
    }
  } finally {
    unclaim(slot, batch, claimed);
  }
  for (let i = 0; i < batch.count; i += 1) {
    const context = batch.packets[i].attachment as ForwardingContext;
    context.flags |= ContextFlag.REPORTED;
    context.reported = incoming ? reason : 0;
  }
  port.drops[reason] += batch.count;
}

/** Every packet was originated by the slot and still is its own. */
function checkOwn(slot: Slot, batch: Batch): void {
  checkBatch(slot, batch);
  for (let i = 0; i < batch.count; i += 1) {
    const context = heldContext(slot, batch.packets[i]);
    if (context.origin !== slot.id) throw new RuleError(11, `${slot.name} injects a packet of others`);
  }
}

/** Send own packets down from here. */
export function injectIngress(core: SwitchCore, slot: Slot, batch: Batch, flags: number): void {
  checkOwn(slot, batch);
  // The frame may have been written since its source was set.
  for (let i = 0; i < batch.count; i += 1) {
    classify(core, batch.packets[i], batch.packets[i].attachment as ForwardingContext);
  }
  for (let i = 0; i < batch.count; i += 1) {
    const context = batch.packets[i].attachment as ForwardingContext;
    const nic = context.sourcePort?.nics[context.sourceNicIndex];
    if (nic && !nic.connected) throw new RuleError(28, `packets of the NIC of port ${context.sourcePortId}`);
    if (!slot.forwarding && context.numDestinations !== 0)
      throw new RuleError(5, 'an injected packet has destinations');
  }
  claimToPass(slot, batch, false);
  if (batch.count === 0) return;
  checkPromises(core, slot, batch, flags, 0);
  core.enter();
  for (let i = 0; i < batch.count; i += 1) {
    const context = batch.packets[i].attachment as ForwardingContext;
    context.ingressTop = slot.rank;
    context.ingressBottom = slot.rank + 1;
  }
  passDown(core, slot, batch, flags);
  core.leave();
}

/** Send own clones up from here; they must be what their parent is. */
export function injectEgress(core: SwitchCore, slot: Slot, batch: Batch, flags: number): void {
  if (slot.capturing) throw new RuleError(4, `${slot.name} originates on egress`);
  if (!slot.flowing) throw new RuleError(3, `${slot.name} sends packets while it is ${slot.state}`);
  checkOwn(slot, batch);
  for (let i = 0; i < batch.count; i += 1) {
    const packet = batch.packets[i];
    const context = packet.attachment as ForwardingContext;
    const parent = context.parent;
    const parentContext = (parent?.attachment ?? null) as ForwardingContext | null;
    if (parent === null || parentContext === null) throw new RuleError(18, 'an egress packet that is no clone');
    if ((parentContext.flags & ContextFlag.EGRESS) === 0) throw new RuleError(18, 'a clone of a packet on ingress');
    if (!sameFrame(packet, parent)) throw new RuleError(18, 'the data of an egress clone was changed');
    if (!sameAddressing(context, parentContext)) {
      throw new RuleError(18, 'source or destinations of an egress clone were changed');
    }
    if (!isWhole(packet, context)) throw new RuleError(44, `the frame of a clone lies outside of its memory`);
  }
  if (batch.count === 0) return;
  claimAll(slot, batch);
  core.enter();
  for (let i = 0; i < batch.count; i += 1) {
    const context = batch.packets[i].attachment as ForwardingContext;
    context.flags |= ContextFlag.EGRESS;
    context.egressBottom = slot.rank;
    context.egressTop = slot.rank - 1;
  }
  passUp(core, slot, batch, flags);
  core.leave();
}

function sameFrame(a: Packet, b: Packet): boolean {
  if (a.length !== b.length) return false;
  if (a.bytes === b.bytes && a.offset === b.offset) return true;
  for (let i = 0; i < a.length; i += 1) if (a.bytes[a.offset + i] !== b.bytes[b.offset + i]) return false;
  return true;
}

function sameAddressing(a: ForwardingContext, b: ForwardingContext): boolean {
  if (a.sourcePortId !== b.sourcePortId || a.sourceNicIndex !== b.sourceNicIndex) return false;
  if (a.numDestinations !== b.numDestinations) return false;
  for (let i = 0; i < a.numDestinations; i += 1) {
    if (a.destinationPorts[i] !== b.destinationPorts[i] || a.destinationNics[i] !== b.destinationNics[i]) return false;
  }
  return true;
}

/** AllocateNetBufferListForwardingContext. */
export function allocateContext(core: SwitchCore, slot: Slot, packet: Packet): boolean {
  if (!(packet instanceof Packet) || packet.references < 1) {
    throw new RuleError(44, `${slot.name} wants a context for what is no packet, or was given back`);
  }
  if (packet.attachment !== null) throw new RuleError(10, 'the packet has a forwarding context already');
  if (packet.headroomStart < 0 || packet.limit > packet.bytes.length) {
    throw new RuleError(44, `${slot.name} wrote bounds into a packet that lie outside of its memory`);
  }
  const context = core.contexts.attach(packet);
  if (context === null) return false;
  context.holder = slot.id;
  context.origin = slot.id;
  // The default port is a valid source: trusted, until another one is set.
  context.flags = ContextFlag.SOURCE_SET;
  classify(core, packet, context);
  core.originated += 1;
  return true;
}

/** FreeNetBufferListForwardingContext. */
export function freeContext(core: SwitchCore, slot: Slot, packet: Packet): void {
  const context = heldContext(slot, packet);
  if (context.origin !== slot.id) throw new RuleError(10, `${slot.name} frees the context of a packet of others`);
  if (context.liveClones !== 0) throw new RuleError(19, 'the packet has clones that have not completed');
  core.originated -= 1;
  abandonContext(core, context);
}

/** A clone or copy with context, source and, on egress, destinations of the original. */
export function duplicate(
  core: SwitchCore,
  slot: Slot,
  packet: Packet,
  clones: ClonePool,
  pool: PacketPool,
  share: boolean,
): Packet | null {
  if (slot.capturing) throw new RuleError(4, `${slot.name} clones a packet`);
  const original = heldContext(slot, packet);
  if (!isWhole(packet, original))
    throw new RuleError(44, `${slot.name} copies a frame that lies outside of its memory`);
  const made = share ? clones.clone(packet) : copyPacket(packet, pool);
  if (made === null) return null;
  const context = core.contexts.attach(made);
  if (context === null) {
    made.release();
    return null;
  }
  context.holder = slot.id;
  context.origin = slot.id;
  if (share) {
    context.parent = packet;
    context.flags = ContextFlag.CLONE;
    original.liveClones += 1;
  } else {
    context.flags = ContextFlag.PACKET_DATA_SAFE;
  }
  original.flags |= ContextFlag.CLONED;
  core.originated += 1;
  setSourceUnchecked(core, made, context, original.sourcePort, original.sourceNicIndex);
  if ((original.flags & ContextFlag.EGRESS) !== 0) {
    for (let i = 0; i < original.numDestinations; i += 1) {
      const port = core.ports[original.destinationPorts[i]] as Port;
      addDestinationTo(context, port, original.destinationNics[i], original.destinationFlags[i]);
    }
  }
  return made;
}

function copyPacket(packet: Packet, pool: PacketPool): Packet | null {
  if (packet.length > pool.maxFrameBytes) return null;
  const copy = pool.allocate();
  if (copy === null) return null;
  copy.bytes.set(packet.bytes.subarray(packet.offset, packet.offset + packet.length), copy.offset);
  copy.length = packet.length;
  copy.copyMetadata(packet);
  return copy;
}

/** Whether the bytes may be written. */
export function isWritable(slot: Slot, packet: Packet): boolean {
  const context = packet.attachment as ForwardingContext | null;
  if (context === null || context.holder !== slot.id || slot.capturing) return false;
  if ((context.flags & ContextFlag.EGRESS) !== 0) return false;
  return packet.references === 1 && packet.parent === null;
}

/** The frame was written: classify it again. Its data counts as the extension's own from here on. */
export function reclassify(core: SwitchCore, slot: Slot, packet: Packet): void {
  const context = heldContext(slot, packet);
  if (!isWritable(slot, packet)) throw new RuleError(19, `${slot.name} changes a packet that others share`);
  if (context.numDestinations !== 0) throw new RuleError(13, 'the packet has committed destinations');
  context.flags |= ContextFlag.PACKET_DATA_SAFE;
  classify(core, packet, context);
}
