/**
 * Netlink messages in a datagram: struct nlmsghdr and the split of a datagram into messages.
 * writer.ts makes messages; acknowledgement.ts reads the reserved types; attribute.ts reads what follows a family's header.
 *
 *      0        4      6       8          12        16
 *      | length | type | flags | sequence | port id | payload, padded to four bytes |
 */
import { align4, readU16, readU32 } from './bytes.ts';
import { MESSAGE_HEADER_BYTES } from './constants.ts';
import { NetlinkError } from './error.ts';

/** One message. Offsets count from its own first byte, as they do in extended acknowledgements. */
export interface Message {
  /** nlmsg_type. */
  readonly type: number;
  /** nlmsg_flags, bits of NlmFlag. */
  readonly flags: number;
  readonly sequence: number;
  /** nlmsg_pid: port id of the sender of a request, and of the addressee in a reply; 0 in notifications. */
  readonly port: number;
  /** The message with its header and without padding: a view into the datagram, so copy it to keep it. */
  readonly bytes: Uint8Array;
}

/**
 * Split a datagram into its messages. All or nothing: a datagram whose end is malformed gives no message.
 * @param datagram as received; the result points into it
 * @param lengthBytes how much of it is filled
 * @throws NetlinkError for a length below the header's, beyond the datagram, or stray bytes behind the last message
 */
export function parseMessages(datagram: Uint8Array, lengthBytes: number = datagram.length): Message[] {
  const messages: Message[] = [];
  let at = 0;
  while (at < lengthBytes) {
    const left = lengthBytes - at;
    if (left < MESSAGE_HEADER_BYTES) {
      throw new NetlinkError(`${left} bytes left, too few for a message header`, { offset: at });
    }
    const length = readU32(datagram, at);
    if (length < MESSAGE_HEADER_BYTES) {
      throw new NetlinkError(`message length ${length} is below the header's ${MESSAGE_HEADER_BYTES}`, { offset: at });
    }
    if (length > left) {
      throw new NetlinkError(`message of ${length} bytes, but only ${left} are there`, { offset: at });
    }
    messages.push({
      type: readU16(datagram, at + 4),
      flags: readU16(datagram, at + 6),
      sequence: readU32(datagram, at + 8),
      port: readU32(datagram, at + 12),
      bytes: datagram.subarray(at, at + length),
    });
    at += Math.min(align4(length), left);
  }
  return messages;
}

/**
 * Check that a message holds its family's fixed header.
 * @param headerBytes length of the family header, such as 16 for struct ifinfomsg
 * @returns where attributes start: behind the family header, aligned, and never behind the end
 * @throws NetlinkError when the message is shorter
 */
export function checkFamilyHeader(message: Message, headerBytes: number, headerName: string): number {
  const end = MESSAGE_HEADER_BYTES + headerBytes;
  if (message.bytes.length < end) {
    throw new NetlinkError(
      `message type ${message.type} of ${message.bytes.length} bytes is too short for ${headerName}, which needs ${end}`,
      { offset: MESSAGE_HEADER_BYTES },
    );
  }
  return Math.min(align4(end), message.bytes.length);
}
