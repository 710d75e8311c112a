/** Ids that a network namespace gives to others (struct rtgenmsg and NETNSA_*): by them the kernel names those that it tells of. */
import { MESSAGE_HEADER_BYTES, NlmFlag } from '../constants.ts';
import { s32, u32 } from '../fields.ts';
import type { Message } from '../message.ts';
import { policy } from '../policy.ts';
import type { Request } from '../transaction.ts';
import type { MessageWriter } from '../writer.ts';
import { AddressFamily, Rtm } from './constants.ts';

const attributes = policy({ id: [1, s32()], descriptor: [3, u32()] });
/** struct rtgenmsg, and what fills it up. */
const HEADER_BYTES = 4;
/** Let the kernel choose; in an answer: there is none. */
const NO_ID = -1;

/**
 * Give another namespace an id, by which a listener that asks for it (NETLINK_LISTEN_ALL_NSID) hears of what happens there. It fails with EEXIST when
 * the namespace has one. An id keeps no namespace alive.
 * @param namespaceDescriptor an open reference to the other namespace
 */
export function newNamespaceId(namespaceDescriptor: number): Request {
  return {
    type: Rtm.NEWNSID,
    flags: NlmFlag.CREATE | NlmFlag.EXCL,
    doing: 'give a network namespace an id',
    write: (writer) => writeNamespace(writer, { id: NO_ID, descriptor: namespaceDescriptor }),
  };
}

/**
 * Ask for the id by which this namespace knows another; {@link parseNamespaceId} reads the answer.
 * @param namespaceDescriptor an open reference to the other namespace
 */
export function getNamespaceId(namespaceDescriptor: number): Request {
  return {
    type: Rtm.GETNSID,
    flags: 0,
    doing: 'ask for the id of a network namespace',
    write: (writer) => writeNamespace(writer, { descriptor: namespaceDescriptor }),
  };
}

/** @returns undefined where the other namespace has no id @throws NetlinkError for a message that is malformed */
export function parseNamespaceId(message: Message): number | undefined {
  const { id } = attributes.decode(message.bytes, MESSAGE_HEADER_BYTES + HEADER_BYTES);
  return id === NO_ID ? undefined : id;
}

function writeNamespace(writer: MessageWriter, values: Parameters<typeof attributes.encode>[1]): void {
  writer.raw(new Uint8Array([AddressFamily.UNSPEC, 0, 0, 0]));
  attributes.encode(writer, values);
}
