/** For tests only: frames that a switch lets in. */
import { Packet, Region } from '../../../net/index.ts';
import { DropReason } from '../../drop-reason.ts';
import { readFrame } from '../../path/classify.ts';
import { ForwardingContext } from '../../path/context.ts';

/** Whether the switch lets a frame in at all: not when a tag is cut off. */
export function isAdmitted(bytes: readonly number[]): boolean {
  if (bytes.length > 1500) return false;
  const memory = Uint8Array.from(bytes);
  const packet = new Packet({ recycle: () => {} }, new Region(memory.buffer), 0);
  packet.length = memory.length;
  packet.limit = memory.length;
  return readFrame(new ForwardingContext(), packet) === DropReason.NONE;
}
