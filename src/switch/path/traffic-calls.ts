/**
 * The calls of an extension that move packets: passing on, ending, injecting, cloning. Each is checked as a whole before
 * anything changes. A part of the handle (stack/handle.ts).
 */
import { type Batch, type ClonePool, Packet, type PacketPool } from '../../net/index.ts';
import { DropReason } from '../drop-reason.ts';
import { RuleError } from '../errors.ts';
import type { Slot } from '../stack/slot.ts';
import { abandonContext } from './completion.ts';
import { ContextFlag, contextOf, type ForwardingContext, PacketFlag } from './context.ts';
import type { SwitchCore } from './core.ts';
import { classify, copyDestinations, DestinationCalls, setSourceUnchecked } from './destination-calls.ts';
import { countNoArrival, egressAboveForwarding, egressFrom, miniportEdge } from './egress.ts';
import { checkBatch, claim, claimAll, claimToPass, heldContext, isWhole, unclaim } from './handoff.ts';
import { ingressFrom } from './ingress.ts';
import { BEGINS } from './tracking.ts';
import { verifyBatch } from './verify.ts';

/** Memory for packets that extensions originate. */
export interface ExtensionMemory {
  readonly clones: ClonePool;
  readonly pool: PacketPool;
}

export class TrafficCalls extends DestinationCalls {
  readonly #memory: ExtensionMemory;

  constructor(core: SwitchCore, slot: Slot, memory: ExtensionMemory) {
    super(core, slot);
    this.#memory = memory;
  }

  /** AllocateNetBufferListForwardingContext. */
  allocateContext(packet: Packet): boolean {
    if (!(packet instanceof Packet) || packet.references < 1) {
      throw new RuleError(44, `${this.slot.name} wants a context for what is no packet, or was given back`);
    }
    if (packet.attachment !== null) throw new RuleError(10, 'the packet has a forwarding context already');
    if (packet.headroomStart < 0 || packet.limit > packet.bytes.length) {
      throw new RuleError(44, `${this.slot.name} wrote bounds into a packet that lie outside of its memory`);
    }
    const context = this.core.contexts.attach(packet);
    if (context === null) return false;
    context.holder = this.slot.id;
    context.origin = this.slot.id;
    // The default port is a valid source: trusted, until another one is set.
    context.flags = ContextFlag.SOURCE_SET;
    classify(this.core, packet, context);
    this.core.originated += 1;
    return true;
  }

  /** FreeNetBufferListForwardingContext. */
  freeContext(packet: Packet): void {
    const context = heldContext(this.slot, packet);
    if (context.origin !== this.slot.id)
      throw new RuleError(10, `${this.slot.name} frees the context of a packet of others`);
    if (context.liveClones !== 0) throw new RuleError(19, 'the packet has clones that have not completed');
    this.core.originated -= 1;
    abandonContext(this.core, context);
  }

  allocate(): Packet | null {
    return this.#memory.pool.allocate();
  }

  clone(packet: Packet): Packet | null {
    return this.#duplicate(packet, true);
  }

  copy(packet: Packet): Packet | null {
    return this.#duplicate(packet, false);
  }

  /** A clone or copy with context, source and, on egress, destinations of the original. */
  #duplicate(packet: Packet, share: boolean): Packet | null {
    if (this.slot.capturing) throw new RuleError(4, `${this.slot.name} clones a packet`);
    const original = heldContext(this.slot, packet);
    if (!isWhole(packet, original))
      throw new RuleError(44, `${this.slot.name} copies a frame that lies outside of its memory`);
    const made = share ? this.#memory.clones.clone(packet) : copyPacket(packet, this.#memory.pool);
    if (made === null) return null;
    const context = this.core.contexts.attach(made);
    if (context === null) {
      made.release();
      return null;
    }
    context.holder = this.slot.id;
    context.origin = this.slot.id;
    if (share) {
      context.parent = packet;
      context.flags = ContextFlag.CLONE;
      original.liveClones += 1;
    } else {
      context.flags = ContextFlag.PACKET_DATA_SAFE;
    }
    original.flags |= ContextFlag.CLONED;
    this.core.originated += 1;
    setSourceUnchecked(this.core, made, context, original.sourcePort, original.sourceNicIndex);
    if ((original.flags & ContextFlag.EGRESS) !== 0) copyDestinations(this.core, context, original);
    return made;
  }

  /** Whether the bytes may be written. */
  isWritable(packet: Packet): boolean {
    const context = packet.attachment as ForwardingContext | null;
    if (context === null || context.holder !== this.slot.id || this.slot.capturing) return false;
    if ((context.flags & ContextFlag.EGRESS) !== 0) return false;
    return packet.references === 1 && packet.parent === null;
  }

  /** The frame was written: classify it again. Its data counts as the extension's own from here on. */
  reclassify(packet: Packet): void {
    const context = heldContext(this.slot, packet);
    if (!this.isWritable(packet)) throw new RuleError(19, `${this.slot.name} changes a packet that others share`);
    if (context.numDestinations !== 0) throw new RuleError(13, 'the packet has committed destinations');
    context.flags |= ContextFlag.PACKET_DATA_SAFE;
    classify(this.core, packet, context);
  }

  /** NdisFSendNetBufferLists on ingress. */
  sendIngress(batch: Batch, flags: number): void {
    claimToPass(this.slot, batch, false);
    if (batch.count === 0) return;
    checkPromises(this.core, this.slot, batch, flags, this.slot.capturing ? 4 : 19);
    this.core.enter();
    passDown(this.core, this.slot, batch, flags);
    this.core.leave();
  }

  /** NdisFIndicateReceiveNetBufferLists on egress. */
  indicateEgress(batch: Batch, flags: number): void {
    claimToPass(this.slot, batch, true);
    if (batch.count === 0) return;
    checkPromises(this.core, this.slot, batch, 0, this.slot.capturing ? 4 : 18);
    this.core.enter();
    passUp(this.core, this.slot, batch, flags);
    this.core.leave();
  }

  /** Send own packets down from here. */
  injectIngress(batch: Batch, flags: number): void {
    checkOwn(this.slot, batch);
    // The frame may have been written since its source was set.
    for (let i = 0; i < batch.count; i += 1) {
      classify(this.core, batch.packets[i], batch.packets[i].attachment as ForwardingContext);
    }
    for (let i = 0; i < batch.count; i += 1) {
      const context = batch.packets[i].attachment as ForwardingContext;
      const nic = context.sourcePort?.nics[context.sourceNicIndex];
      if (nic && !nic.connected) throw new RuleError(28, `packets of the NIC of port ${context.sourcePortId}`);
      if (!this.slot.forwarding && context.numDestinations !== 0)
        throw new RuleError(5, 'an injected packet has destinations');
    }
    claimToPass(this.slot, batch, false);
    if (batch.count === 0) return;
    checkPromises(this.core, this.slot, batch, flags, 0);
    this.core.enter();
    for (let i = 0; i < batch.count; i += 1) {
      const context = batch.packets[i].attachment as ForwardingContext;
      context.ingressTop = this.slot.rank;
      context.ingressBottom = this.slot.rank + 1;
    }
    passDown(this.core, this.slot, batch, flags);
    this.core.leave();
  }

  /** Send own clones up from here; they must be what their parent is. */
  injectEgress(batch: Batch, flags: number): void {
    if (this.slot.capturing) throw new RuleError(4, `${this.slot.name} originates on egress`);
    if (!this.slot.flowing) throw new RuleError(3, `${this.slot.name} sends packets while it is ${this.slot.state}`);
    checkOwn(this.slot, batch);
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
    claimAll(this.slot, batch);
    this.core.enter();
    for (let i = 0; i < batch.count; i += 1) {
      const context = batch.packets[i].attachment as ForwardingContext;
      context.flags |= ContextFlag.EGRESS;
      context.egressBottom = this.slot.rank;
      context.egressTop = this.slot.rank - 1;
    }
    passUp(this.core, this.slot, batch, flags);
    this.core.leave();
  }

  /** NdisFSendNetBufferListsComplete. */
  completeIngress(batch: Batch): void {
    this.#end(batch, false);
  }

  /** NdisFReturnNetBufferLists. */
  returnEgress(batch: Batch): void {
    this.#end(batch, true);
  }

  dropIngress(batch: Batch, portId: number, reason: number, incoming: boolean): void {
    this.reportFiltered(batch, portId, reason, incoming);
    this.#end(batch, false);
  }

  /** End packets whose content went on by another way. */
  consumeIngress(batch: Batch): void {
    if (this.slot.capturing) throw new RuleError(4, `${this.slot.name} ends a packet`);
    checkBatch(this.slot, batch);
    for (let i = 0; i < batch.count; i += 1) heldContext(this.slot, batch.packets[i]);
    for (let i = 0; i < batch.count; i += 1) {
      const packet = batch.packets[i];
      const context = contextOf(packet);
      context.flags |= ContextFlag.CLONED;
      // What goes on in its place may be of another connection: answers come back to this one.
      if ((context.connection & BEGINS) !== 0) this.core.connections.keep(packet, context);
    }
    this.#end(batch, false);
  }

  /** End packets that go no further. */
  #end(batch: Batch, egress: boolean): void {
    checkBatch(this.slot, batch);
    let claimed = 0;
    try {
      for (; claimed < batch.count; claimed += 1) {
        const context = heldContext(this.slot, batch.packets[claimed]);
        if (this.slot.capturing && context.origin !== this.slot.id)
          throw new RuleError(4, `${this.slot.name} ends a packet`);
        if (((context.flags & ContextFlag.EGRESS) !== 0) !== egress) {
          throw new RuleError(3, `${this.slot.name} ends a packet on the wrong path`);
        }
        claim(context);
      }
    } catch (error) {
      unclaim(this.slot, batch, claimed);
      throw error;
    }
    this.core.enter();
    for (let i = 0; i < batch.count; i += 1) {
      const packet = batch.packets[i];
      const context = packet.attachment as ForwardingContext;
      context.holder = 0;
      if ((context.flags & (ContextFlag.CLONED | ContextFlag.REPORTED)) === ContextFlag.CLONED) {
        this.core.consumed += 1;
      } else {
        const isReported = (context.flags & ContextFlag.REPORTED) !== 0;
        if (!isReported && allExcluded(context)) {
          countNoArrival(this.core, context);
        } else {
          this.core.dropped += 1;
          if (!isReported) this.core.portOf(context).drops[DropReason.EXTENSION_UNREPORTED] += 1;
        }
      }
      this.core.done.push(packet);
    }
    if (this.core.dropWatchers.size !== 0 && !egress && !this.slot.forwarding) tellDrops(this.core, batch);
    batch.count = 0;
    this.core.leave();
  }

  /** ReportFilteredNetBufferLists. */
  reportFiltered(batch: Batch, portId: number, reason: number, incoming: boolean): void {
    if (this.slot.capturing) throw new RuleError(4, `${this.slot.name} filters packets`);
    const port = this.core.ports[portId];
    if (!port) throw new RuleError(16, `there is no port ${portId}`);
    if (!this.core.reasons.has(reason)) throw new RuleError(16, `drop reason ${reason} is not registered`);
    checkBatch(this.slot, batch);
    let claimed = 0;
    try {
      for (; claimed < batch.count; claimed += 1) {
        const context = heldContext(this.slot, batch.packets[claimed]);
        if ((context.flags & ContextFlag.REPORTED) !== 0) throw new RuleError(16, 'a packet is reported twice');
        if (incoming && context.sourcePortId !== portId) {
          throw new RuleError(16, `a packet from port ${context.sourcePortId} is reported as incoming from ${portId}`);
        }
        claim(context);
      }
    } finally {
      unclaim(this.slot, batch, claimed);
    }
    for (let i = 0; i < batch.count; i += 1) {
      const context = batch.packets[i].attachment as ForwardingContext;
      context.flags |= ContextFlag.REPORTED;
      context.reported = incoming ? reason : 0;
    }
    port.drops[reason] += batch.count;
  }
}

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

function passUp(core: SwitchCore, slot: Slot, batch: Batch, flags: number): void {
  if (slot.forwarding) egressAboveForwarding(core, batch, flags);
  else egressFrom(core, slot.egressNext, batch, flags);
  batch.count = 0;
}

/** Tell of packets that have just ended because of their source port. */
function tellDrops(core: SwitchCore, batch: Batch): void {
  for (let i = 0; i < batch.count; i += 1) {
    const context = contextOf(batch.packets[i]);
    if ((context.flags & ContextFlag.REPORTED) === 0 || context.reported === 0) continue;
    core.tellDrop(batch.packets[i]);
  }
}

function allExcluded(context: ForwardingContext): boolean {
  for (let i = 0; i < context.numDestinations; i += 1) if (!context.isExcluded(i)) return false;
  return context.numDestinations !== 0;
}

/** Every packet was originated by the slot and still is its own. */
function checkOwn(slot: Slot, batch: Batch): void {
  checkBatch(slot, batch);
  for (let i = 0; i < batch.count; i += 1) {
    const context = heldContext(slot, batch.packets[i]);
    if (context.origin !== slot.id) throw new RuleError(11, `${slot.name} injects a packet of others`);
  }
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

function copyPacket(packet: Packet, pool: PacketPool): Packet | null {
  if (packet.length > pool.maxFrameBytes) return null;
  const copy = pool.allocate();
  if (copy === null) return null;
  copy.bytes.set(packet.bytes.subarray(packet.offset, packet.offset + packet.length), copy.offset);
  copy.length = packet.length;
  copy.copyMetadata(packet);
  return copy;
}
