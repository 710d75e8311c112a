/**
 * What an extension hands to the switch is checked here, before anything changes (rule 44): a batch that is one, packets that the extension holds,
 * each once, and frames that lie within their memory. What has been written to a descriptor that may not be written is put right when the packet ends.
 *
 * Claiming marks each packet as under way, so that one that stands twice in a batch is found at its second place.
 */
import { Batch, Checksum, Gso, type Packet } from '../../net/index.ts';
import { DropReason } from '../drop-reason.ts';
import { RuleError } from '../errors.ts';
import type { Slot } from '../stack/slot.ts';
import { messageOf } from '../thrown.ts';
import { offloadVerdict } from './classify.ts';
import { ContextFlag, type ForwardingContext } from './context.ts';

/** Holder of packets that are being handed over. */
const UNDER_WAY = -1;
const WRONG_DIRECTION = ContextFlag.EGRESS | ContextFlag.REPORTED | ContextFlag.MALFORMED;

/** The context of a packet that this slot holds. @throws RuleError 10 without one, 3 when it is not the slot's */
export function heldContext(slot: Slot, packet: Packet): ForwardingContext {
  const context = (packet.attachment ?? null) as ForwardingContext | null;
  if (context === null) throw new RuleError(10, 'the packet has no forwarding context');
  if (context.holder === UNDER_WAY) throw new RuleError(44, `${slot.name} hands over a packet twice in one batch`);
  if (context.holder !== slot.id) throw new RuleError(3, `${slot.name} does not hold the packet`);
  if (context.packet !== packet) throw new RuleError(44, `${slot.name} hands over the context of another packet`);
  return context;
}

/** Whether a frame lies within the memory that its packet was given, and its offloads within the frame. */
export function isWhole(packet: Packet, context: ForwardingContext): boolean {
  const offset = packet.offset;
  const length = packet.length;
  return (
    packet.bytes === context.bytes &&
    offset >= packet.headroomStart &&
    packet.headroomStart >= context.memoryStart &&
    packet.limit <= context.memoryEnd &&
    offset + length <= packet.limit &&
    length >= context.payloadOffset &&
    (offset | 0) === offset &&
    (length | 0) === length &&
    ((packet.checksum !== Checksum.PARTIAL && packet.gsoType === Gso.NONE) ||
      offloadVerdict(packet, context.payloadOffset) === DropReason.NONE)
  );
}

/**
 * Put a descriptor right that an extension may have written to. A frame that does not lie in its memory becomes an empty one there, over which
 * nobody comes to grief.
 * @returns whether the frame was as it should be
 */
export function mend(packet: Packet, context: ForwardingContext): boolean {
  packet.attachment = context;
  if (isWhole(packet, context)) return true;
  packet.bytes = context.bytes;
  packet.headroomStart = context.memoryStart;
  packet.limit = context.memoryEnd;
  packet.offset = context.memoryStart;
  packet.length = 0;
  packet.resetMetadata();
  return false;
}

/** Whether nobody has frozen a descriptor, or a field of it. */
export function isWritablePacket(packet: Packet): boolean {
  const { region, bytes, offset, length, headroomStart, limit, owner, references, parent, attachment } = packet;
  const { checksum, checksumStart, checksumOffset, gsoType, gsoSizeBytes, headerLengthBytes } = packet;
  const { timestampSeconds, timestampNanoseconds } = packet;
  try {
    packet.region = region;
    packet.bytes = bytes;
    packet.offset = offset;
    packet.length = length;
    packet.headroomStart = headroomStart;
    packet.limit = limit;
    packet.owner = owner;
    packet.references = references;
    packet.parent = parent;
    packet.attachment = attachment;
    packet.checksum = checksum;
    packet.checksumStart = checksumStart;
    packet.checksumOffset = checksumOffset;
    packet.gsoType = gsoType;
    packet.gsoSizeBytes = gsoSizeBytes;
    packet.headerLengthBytes = headerLengthBytes;
    packet.timestampSeconds = timestampSeconds;
    packet.timestampNanoseconds = timestampNanoseconds;
    return true;
  } catch {
    return false;
  }
}

/** Whether nobody has frozen a context. */
export function isWritableContext(context: ForwardingContext): boolean {
  const { holder, flags } = context;
  try {
    context.holder = holder;
    context.flags = flags;
    return true;
  } catch {
    return false;
  }
}

/** Whether nobody has frozen a batch, or its list. */
export function isWritableBatch(batch: Batch): boolean {
  const { packets, count } = batch;
  try {
    batch.packets.length = packets.length;
    batch.count = count;
    return Object.isExtensible(packets);
  } catch {
    return false;
  }
}

/** @throws RuleError 44 for what is no batch, or does not hold as many packets as it says */
export function checkBatch(slot: Slot, batch: Batch): void {
  if (!(batch instanceof Batch)) throw new RuleError(44, `${slot.name} hands over something that is no batch`);
  const { count, packets } = batch;
  if (!Array.isArray(packets) || (count | 0) !== count || count < 0 || count > packets.length) {
    throw new RuleError(44, `${slot.name} hands over a batch with a count of ${messageOf(count)}`);
  }
  if (slot.isForeign && !isWritableBatch(batch)) throw new RuleError(44, `${slot.name} hands over a frozen batch`);
}

/**
 * Claim the packets of a batch that is to go on: held by the slot, whole, on the right path, each once. They are nobody's afterwards: what
 * comes next gives each a new holder, or {@link unclaim} gives them back.
 * @throws RuleError; nothing has changed then
 */
export function claimToPass(slot: Slot, batch: Batch, egress: boolean): void {
  if (!slot.flowing) throw new RuleError(3, `${slot.name} sends packets while it is ${slot.state}`);
  checkBatch(slot, batch);
  const packets = batch.packets;
  const count = batch.count;
  const id = slot.id;
  const right = egress ? ContextFlag.EGRESS : 0;
  let i = 0;
  try {
    for (; i < count; i += 1) {
      const packet = packets[i];
      // Whatever an extension has put among the packets.
      const context = (packet?.attachment ?? null) as ForwardingContext | null;
      if (
        context === null ||
        context.holder !== id ||
        context.packet !== packet ||
        (context.flags & WRONG_DIRECTION) !== right ||
        !isWhole(packet, context) ||
        (slot.isForeign && !(isWritablePacket(packet) && isWritableContext(context)))
      ) {
        refuseToPass(slot, packet, i > 0 && packets.indexOf(packet) < i);
      }
      context.holder = UNDER_WAY;
    }
  } catch (error) {
    unclaim(slot, batch, i);
    throw error;
  }
}

/** Say what is wrong with a packet that is passed on. @throws RuleError always */
function refuseToPass(slot: Slot, packet: Packet, again: boolean): never {
  if (again) throw new RuleError(44, `${slot.name} passes a packet on twice in one batch`);
  const held = heldContext(slot, packet);
  if ((held.flags & ContextFlag.REPORTED) !== 0) throw new RuleError(16, 'a packet reported as filtered is passed on');
  if ((held.flags & ContextFlag.MALFORMED) !== 0) {
    throw new RuleError(10, 'a packet is passed on without a valid frame');
  }
  if (!isWhole(packet, held)) throw new RuleError(44, describeDamage(slot, packet, held));
  if (!isWritablePacket(packet) || !isWritableContext(held)) throw new RuleError(44, `${slot.name} froze a packet`);
  throw new RuleError(3, `${slot.name} passes a packet on along the wrong path`);
}

function describeDamage(slot: Slot, packet: Packet, context: ForwardingContext): string {
  const room = context.memoryEnd - context.memoryStart;
  const at = messageOf(packet.offset);
  const length = messageOf(packet.length);
  return `${slot.name} wrote a position (${at}) or length (${length}) that lies outside of the ${room} bytes of the packet, or an offload that does not fit`;
}

/** Claim one packet that has been checked. */
export function claim(context: ForwardingContext): void {
  context.holder = UNDER_WAY;
}

/** Claim the packets of a batch that have been checked one by one. @throws RuleError 44 for one that stands there twice; nothing has changed then */
export function claimAll(slot: Slot, batch: Batch): void {
  for (let i = 0; i < batch.count; i += 1) {
    const context = batch.packets[i].attachment as ForwardingContext;
    const isHeld = context.holder === slot.id;
    if (isHeld && (!slot.isForeign || isWritableContext(context))) {
      claim(context);
      continue;
    }
    unclaim(slot, batch, i);
    const what = isHeld ? 'froze a packet' : 'hands over a packet twice in one batch';
    throw new RuleError(44, `${slot.name} ${what}`);
  }
}

/** Give the first `count` packets of a claimed batch back to the slot. */
export function unclaim(slot: Slot, batch: Batch, count: number): void {
  for (let i = 0; i < count; i += 1) (batch.packets[i].attachment as ForwardingContext).holder = slot.id;
}
