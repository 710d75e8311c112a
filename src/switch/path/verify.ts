/** Development aid: finds extensions that change frames which they may not change (SwitchOptions.verifyData). */
import type { Batch, Packet } from '../../net/index.ts';
import { RuleError } from '../errors.ts';
import { ContextFlag, type ForwardingContext } from './context.ts';

/** FNV-1a over a frame and its length. */
function hashFrame(packet: Packet): number {
  const bytes = packet.bytes;
  const end = packet.offset + packet.length;
  let hash = 0x811c_9dc5 ^ packet.length;
  for (let i = packet.offset; i < end; i += 1) hash = Math.imul(hash ^ bytes[i], 0x0100_0193);
  return hash;
}

/** Remember what the frames hold, so that a forbidden change is found when they are passed on. */
export function hashBatch(batch: Batch): void {
  for (let i = 0; i < batch.count; i += 1) {
    const packet = batch.packets[i];
    (packet.attachment as ForwardingContext).dataHash = hashFrame(packet);
  }
}

/**
 * Compare frames with what they were when the extension got them.
 * @throws RuleError with the given rule for the first frame that changed and whose data is not the extension's own
 */
export function verifyBatch(batch: Batch, rule: number): void {
  for (let i = 0; i < batch.count; i += 1) {
    const packet = batch.packets[i];
    const context = packet.attachment as ForwardingContext;
    if ((context.flags & ContextFlag.PACKET_DATA_SAFE) !== 0) continue;
    if (hashFrame(packet) !== context.dataHash) throw new RuleError(rule, 'the data of a packet was changed');
  }
}
