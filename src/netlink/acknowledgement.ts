/**
 * Acknowledgements: NLMSG_ERROR (with error 0 it is a success) and NLMSG_DONE (end of a dump), with the extended attributes that
 * NETLINK_EXT_ACK asks for. Reading is for clients, writing for whoever serves netlink.
 *
 *      NLMSG_ERROR:  | nlmsghdr | s32 -errno | nlmsghdr of the request | its payload, unless capped | attributes, if ACK_TLVS |
 *      NLMSG_DONE:   | nlmsghdr | s32 -errno | attributes, if ACK_TLVS |
 */
import { align4, readS32, readU16, readU32, writeU32 } from './bytes.ts';
import { MESSAGE_HEADER_BYTES, NlmFlag, Nlmsg } from './constants.ts';
import { NetlinkError } from './error.ts';
import { binary, nested, string, u32, u64 } from './fields.ts';
import type { Message } from './message.ts';
import { policy, type ValuesOf } from './policy.ts';
import type { MessageWriter } from './writer.ts';

/** NL_POLICY_TYPE_ATTR_*: what a refused attribute should have been. */
const refusedPolicy = policy({
  type: [1, u32()],
  minSigned: [2, u64()],
  maxSigned: [3, u64()],
  minUnsigned: [4, u64()],
  maxUnsigned: [5, u64()],
  minLength: [6, u32()],
  maxLength: [7, u32()],
  policyIndex: [8, u32()],
  policyMaxType: [9, u32()],
  bitfieldMask: [10, u32()],
  mask: [12, u64()],
});

const extendedPolicy = policy({
  /** A sentence for people. */
  message: [1, string()],
  /** Offset of the refused attribute from the start of the request. */
  offset: [2, u32()],
  /** Identifies what was created. */
  cookie: [3, binary({ maxBytes: 256 })],
  policy: [4, nested(refusedPolicy)],
  /** Type of an attribute that is missing. */
  missingType: [5, u32()],
  /** Offset of the nest where it is missing; absent when that is the message itself. */
  missingNest: [6, u32()],
});

/** The extended part of an acknowledgement; empty when the peer sent none. */
export type ExtendedAck = ValuesOf<typeof extendedPolicy>;

/** The end of a request, good or bad. */
export interface Acknowledgement {
  /** 0, or a positive error number. */
  readonly errno: number;
  /** Of the request that it answers, as quoted; 0 in the end of a dump, which quotes nothing. */
  readonly requestType: number;
  readonly extended: ExtendedAck;
}

/**
 * Read NLMSG_ERROR.
 * @throws NetlinkError when it is malformed
 */
export function parseError(message: Message): Acknowledgement {
  const { bytes, flags } = message;
  const quoted = MESSAGE_HEADER_BYTES + 4;
  const errno = readResult(message, quoted + MESSAGE_HEADER_BYTES);
  let extended: ExtendedAck = {};
  if ((flags & NlmFlag.ACK_TLVS) !== 0) {
    const quotedBytes = (flags & NlmFlag.CAPPED) !== 0 ? MESSAGE_HEADER_BYTES : readU32(bytes, quoted);
    if (quotedBytes < MESSAGE_HEADER_BYTES || quotedBytes > bytes.length - quoted) {
      throw new NetlinkError(`quoted request of ${quotedBytes} bytes does not fit its acknowledgement`, {
        offset: quoted,
      });
    }
    extended = extendedPolicy.decode(bytes, Math.min(bytes.length, quoted + align4(quotedBytes)));
  }
  return { errno, requestType: readU16(bytes, quoted + 4), extended };
}

/**
 * Read NLMSG_DONE.
 * @throws NetlinkError when it is malformed
 */
export function parseDone(message: Message): Acknowledgement {
  // Some families end a dump without the result that the kernel's common code sends.
  if (message.bytes.length === MESSAGE_HEADER_BYTES) return { errno: 0, requestType: 0, extended: {} };
  const start = MESSAGE_HEADER_BYTES + 4;
  const errno = readResult(message, start);
  const extended = (message.flags & NlmFlag.ACK_TLVS) !== 0 ? extendedPolicy.decode(message.bytes, start) : {};
  return { errno, requestType: 0, extended };
}

/** The result word behind the header: 0 or a negative errno, which is turned positive. A positive result is no error. */
function readResult(message: Message, neededBytes: number): number {
  if (message.bytes.length < neededBytes) {
    throw new NetlinkError(`acknowledgement of ${message.bytes.length} bytes is shorter than ${neededBytes}`, {
      offset: MESSAGE_HEADER_BYTES,
    });
  }
  const result = readS32(message.bytes, MESSAGE_HEADER_BYTES);
  return result < 0 ? -result : 0;
}

/**
 * Answer a request with NLMSG_ERROR, as the kernel does: a failed request is quoted whole unless capped, a good one by its header alone.
 * @param errno 0 for success
 * @param options.capped the peer asked for NETLINK_CAP_ACK
 * @param options.extended what to say more; only when the peer asked for NETLINK_EXT_ACK
 */
export function writeAcknowledgement(
  writer: MessageWriter,
  request: Message,
  errno: number,
  options: { capped?: boolean; extended?: ExtendedAck } = {},
): void {
  const { extended } = options;
  const whole = errno !== 0 && options.capped !== true;
  const hasExtended = extended !== undefined && Object.values(extended).some((value) => value !== undefined);
  const flags = (whole ? 0 : NlmFlag.CAPPED) | (hasExtended ? NlmFlag.ACK_TLVS : 0);
  writer.begin(Nlmsg.ERROR, flags, request.sequence, request.port);
  writer.raw(resultWord(errno));
  writer.raw(whole ? request.bytes : request.bytes.subarray(0, MESSAGE_HEADER_BYTES));
  if (hasExtended) extendedPolicy.encode(writer, extended);
  writer.end();
}

/** End the dump that a request began. */
export function writeDone(writer: MessageWriter, request: Message, errno = 0, flags = 0): void {
  writer.begin(Nlmsg.DONE, NlmFlag.MULTI | flags, request.sequence, request.port);
  writer.raw(resultWord(errno));
  writer.end();
}

function resultWord(errno: number): Uint8Array {
  const word = new Uint8Array(4);
  writeU32(word, 0, -errno);
  return word;
}
