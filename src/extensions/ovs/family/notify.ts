/** The end of every change: the object back to the program that asked for it with ECHO, and to the others in the group. */
import { MessageWriter } from '../../../netlink/index.ts';
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
  beginObject(writer, header, 0, 0, 0);
  write(writer);
  writer.end();
  device.multicast(group, writer.view(), reply.connection.port);
}
