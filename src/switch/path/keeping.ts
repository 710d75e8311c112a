/**
 * What extensions keep beyond the burst of work in which they were handed it. The memory of a packet is that of the adapter that it came by: a ring that the
 * kernel fills strictly in turn, where one slot that is not given back stops the port, or all ports that share it. So what is kept moves at the end of
 * the burst into memory of the switch's own, and its descriptor, which the extension has, stays the same.
 *
 * That memory is bounded, and so is what one extension may have of it: a quarter. One that keeps as much is handed nothing more of the ports whose packets
 * it keeps, until it has passed some of them on; others' packets it gets as ever.
 */
import { type Batch, type Packet, type PacketOwner, PacketPool } from '../../net/index.ts';
import { DropReason } from '../drop-reason.ts';
import { RuleError } from '../errors.ts';
import type { Slot } from '../stack/slot.ts';
import type { ForwardingContext } from './context.ts';
import type { SwitchCore } from './core.ts';
import { isWhole, isWritableContext, isWritablePacket } from './handoff.ts';

/** Frames, and super-packets. Memory of buffers that were never used was never touched. */
const SMALL = { packets: 1024, bufferBytes: 2304 };
const LARGE = { packets: 128, bufferBytes: 66_048 };
/** One extension's part of either. */
const SHARE = 1 / 4;

/** How much one slot keeps. */
interface Kept {
  packets: number;
  large: number;
  /** Of which source ports. */
  readonly ports: Set<number>;
}

/** The kept packets of one switch. */
export class Keeping implements PacketOwner {
  readonly #core: SwitchCore;
  #small: PacketPool | null = null;
  #large: PacketPool | null = null;
  /** The memory of each descriptor that has moved. */
  readonly #places = new Map<Packet, Packet>();
  readonly #kept = new Map<number, Kept>();
  /** Slots that nothing is handed to. */
  readonly #full = new Set<Slot>();

  constructor(core: SwitchCore) {
    this.#core = core;
  }

  /** At the end of a burst: whether there is anything to {@link settle}. */
  get isConcerned(): boolean {
    return this.#core.contexts.inUse !== 0 || this.#full.size !== 0;
  }

  /**
   * Move what is newly kept, and see who keeps how much.
   * @returns whether an extension has failed over it, so that the burst goes on
   */
  settle(): boolean {
    const { contexts } = this.#core;
    this.#kept.clear();
    const failures = new Map<number, Error>();
    let left = contexts.inUse;
    for (let i = 0; left > 0 && i < contexts.all.length; i += 1) {
      const context = contexts.all[i];
      if (context.free) continue;
      left -= 1;
      // Held by the switch: it waits for its clones.
      if (context.holder <= 0) continue;
      const failure = this.#keep(context);
      if (failure !== null) failures.set(context.holder, failure);
    }
    this.#judge();
    for (const [id, failure] of failures) {
      const slot = this.#core.slotOf(id);
      if (slot !== null) this.#core.onFailure(slot, failure, 'keeping packets');
    }
    return failures.size > 0;
  }

  #keep(context: ForwardingContext): Error | null {
    const { packet, holder } = context;
    if (packet === null) return null;
    let kept = this.#kept.get(holder);
    if (kept === undefined) {
      kept = { packets: 0, large: 0, ports: new Set() };
      this.#kept.set(holder, kept);
    }
    kept.packets += 1;
    kept.ports.add(context.sourcePortId);
    if (packet.length > SMALL.bufferBytes) kept.large += 1;
    return context.isKept || context.origin !== 0 ? null : this.#move(packet, context);
  }

  /** Have a packet's bytes in memory of our own. @returns why that cannot be; null when it could, or has to stay where it is */
  #move(packet: Packet, context: ForwardingContext): Error | null {
    if (!isWritablePacket(packet) || !isWritableContext(context))
      return new RuleError(44, 'a packet that it keeps was frozen');
    if (!isWhole(packet, context))
      return new RuleError(44, 'a packet that it keeps was given a place outside of its memory');
    const { owner } = packet;
    const isShared = packet.references !== 1 || packet.parent !== null || context.liveClones !== 0;
    if (isShared || owner.part === undefined) return null;
    const place = this.#allocate(packet.length);
    if (place === null) return new Error('more packets are kept than there is memory for');
    place.bytes.set(packet.bytes.subarray(packet.offset, packet.offset + packet.length), place.offset);
    owner.part(packet);
    packet.owner = this;
    packet.region = place.region;
    packet.bytes = place.bytes;
    packet.offset = place.offset;
    packet.headroomStart = place.headroomStart;
    packet.limit = place.limit;
    this.#places.set(packet, place);
    context.bytes = packet.bytes;
    context.memoryStart = packet.headroomStart;
    context.memoryEnd = packet.limit;
    context.isKept = true;
    return null;
  }

  #allocate(lengthBytes: number): Packet | null {
    this.#small ??= new PacketPool(SMALL);
    if (lengthBytes <= this.#small.maxFrameBytes) {
      const place = this.#small.allocate();
      if (place !== null) return place;
    }
    this.#large ??= new PacketPool(LARGE);
    return this.#large.allocate();
  }

  /** Who keeps as much as it may. */
  #judge(): void {
    for (const slot of this.#full) {
      if (isFull(this.#kept.get(slot.id))) continue;
      this.#full.delete(slot);
      slot.fullOf = null;
    }
    for (const [id, kept] of this.#kept) {
      const slot = isFull(kept) ? this.#core.slotOf(id) : null;
      if (slot === null) continue;
      slot.fullOf = kept.ports;
      if (this.#full.has(slot)) continue;
      this.#full.add(slot);
      this.#core.onFull(slot, kept.packets);
    }
  }

  recycle(packet: Packet): void {
    packet.attachment = null;
    this.part(packet);
  }

  part(packet: Packet): void {
    this.#places.get(packet)?.release();
    this.#places.delete(packet);
  }
}

function isFull(kept: Kept | undefined): boolean {
  return kept !== undefined && (kept.packets >= SMALL.packets * SHARE || kept.large >= LARGE.packets * SHARE);
}

/**
 * Take the packets out of a batch that an extension is not handed, as it keeps as many of their ports as it may. Past one that only captures they go on;
 * those that another would have judged are dropped.
 */
export function spareFull(
  core: SwitchCore,
  slot: Slot,
  fullOf: ReadonlySet<number>,
  batch: Batch,
  egress: boolean,
): void {
  const { packets, count } = batch;
  const past = core.takeBatch();
  let kept = 0;
  for (let i = 0; i < count; i += 1) {
    const packet = packets[i];
    const context = packet.attachment as ForwardingContext;
    if (!fullOf.has(context.sourcePortId)) {
      packets[kept] = packet;
      kept += 1;
    } else if (slot.capturing) {
      past.push(packet);
    } else {
      if (egress) context.egressTop = slot.rank;
      else context.ingressBottom = slot.rank;
      core.dropPacket(packet, context, core.portOf(context), DropReason.EXTENSION_FULL);
    }
  }
  batch.count = kept;
  if (past.count > 0) core.passBy(slot, past, egress);
  core.giveBatch(past);
}
