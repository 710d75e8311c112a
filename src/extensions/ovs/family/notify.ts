/** The end of every change: the object back to the program that asked for it with ECHO, and to the others in the group. */
import { MessageWriter } from '../../../netlink/index.ts';
import type { PseudoDevice } from '../device/pseudo-device.ts';
import { beginFrame, beginObject, type ObjectHeader } from '../device/reply.ts';
import type { FamilyRequest } from './request.ts';

const writer = new MessageWriter();

export function announce(
  request: FamilyRequest,
  group: number,
  header: ObjectHeader,
  write: (writer: MessageWriter) => void,
): void {
  const { device } = request.state;
  const { reply } = request;
  if (reply.wantsEcho) reply.object(header, write);
  if (!device.hasMembers(group)) return;
  beginFrame(writer);
  // As in the kernel, the others see whose request it was.
  beginObject(writer, header, 0, reply.request.sequence, reply.connection.port);
  write(writer);
  writer.end();
  device.multicast(group, writer.view(), reply.wantsEcho ? reply.connection.port : 0);
}

/** Tell a group of something that no program asked for. */
export function announceUnasked(
  device: PseudoDevice,
  group: number,
  header: ObjectHeader,
  write: (writer: MessageWriter) => void,
): void {
  if (!device.hasMembers(group)) return;
  beginFrame(writer);
  beginObject(writer, header, 0, 0, 0);
  write(writer);
  writer.end();
  device.multicast(group, writer.view(), 0);
}
