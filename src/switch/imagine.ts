/**
 * What a packet would be had it come in through a port: for flows of which nothing is left but what their packets look like.
 * Neighbours: ingress.ts admits those that really come; trace.ts follows one step by step.
 */
import type { Packet } from '../net/index.ts';
import { judgeSource, readFrame } from './classify.ts';
import { ContextFlag, ForwardingContext } from './context.ts';
import type { Datapath } from './datapath.ts';
import { DropReason } from './drop-reason.ts';

/** See Shortcuts.imagine. */
export function imagineArrival(
  datapath: Datapath,
  packet: Packet,
  portId: number,
  look: (context: ForwardingContext) => void,
): boolean {
  const port = datapath.ports[portId];
  const nic = port?.nics[0];
  if (!port || !nic?.connected || datapath.paused || !datapath.active) return false;
  const context = new ForwardingContext();
  if (readFrame(context, packet) !== DropReason.NONE) return false;
  context.packet = packet;
  context.sourcePort = port;
  context.sourcePortId = portId;
  context.sourceNicIndex = 0;
  context.flags = ContextFlag.SOURCE_SET;
  judgeSource(context, packet, port.policy, nic, datapath.privateVlans);
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
