/**
 * What a packet would be had it come in through a port: for flows of which nothing is left but what their packets look like.
 * Neighbours: ingress.ts admits those that really come; trace.ts follows one step by step.
 */
import type { Packet } from '../../net/index.ts';
import { DropReason } from '../drop-reason.ts';
import { judgeSource, readFrame } from './classify.ts';
import { ContextFlag, ForwardingContext } from './context.ts';
import type { SwitchCore } from './core.ts';

/** See Shortcuts.imagine. */
export function imagineArrival(
  core: SwitchCore,
  packet: Packet,
  portId: number,
  look: (context: ForwardingContext) => void,
): boolean {
  const port = core.ports[portId];
  const nic = port?.nics[0];
  if (!port || !nic?.connected || core.paused || !core.active) return false;
  const context = new ForwardingContext();
  if (readFrame(context, packet) !== DropReason.NONE) return false;
  context.packet = packet;
  context.sourcePort = port;
  context.sourcePortId = portId;
  context.sourceNicIndex = 0;
  context.flags = ContextFlag.SOURCE_SET;
  judgeSource(context, packet, port.policy, nic, core.privateVlans);
  if (context.verdict !== DropReason.NONE) return false;
  const before = packet.attachment;
  packet.attachment = context;
  try {
    look(context);
  } finally {
    packet.attachment = before;
  }
  return true;
}
