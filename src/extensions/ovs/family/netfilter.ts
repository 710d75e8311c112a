/**
 * Netfilter's netlink, as far as it is about connections: programs under the shim see those of this datapath, never the kernel's.
 * While none are tracked that is an empty table, in which nothing is found, nothing can be put, and flushing succeeds.
 */
import type { Message } from '../../../netlink/index.ts';
import { MessageWriter } from '../../../netlink/index.ts';
import { Attributes } from '../attributes.ts';
import { beginFrame, type Reply } from '../device/reply.ts';
import { Errno, OvsError } from '../errors.ts';

/** Message types are a subsystem in the upper byte and a command in the lower one (linux/netfilter/nfnetlink.h). */
export const Subsystem = { CONNECTIONS: 1, EXPECTATIONS: 2, TIMEOUTS: 8 } as const;

/** Commands of IPCTNL_MSG_CT_*. */
const Connections = {
  NEW: 0,
  GET: 1,
  DELETE: 2,
  GET_AND_ZERO: 3,
  CPU_STATISTICS: 4,
  STATISTICS: 5,
  DYING: 6,
  UNCONFIRMED: 7,
} as const;

/** Commands of the other two subsystems: NEW, GET and DELETE in that order. */
const DELETE = 2;
const GET = 1;

/** nlmsghdr and nfgenmsg. */
const HEADERS_BYTES = 20;

/** Attributes that name one object: CTA_TUPLE_ORIG and CTA_TUPLE_REPLY, CTA_EXPECT_MASTER and _TUPLE, CTA_TIMEOUT_NAME. */
const NAMING: Readonly<Record<number, readonly number[]>> = {
  [Subsystem.CONNECTIONS]: [1, 2],
  [Subsystem.EXPECTATIONS]: [1, 2],
  [Subsystem.TIMEOUTS]: [1],
};

/** CTA_STATS_GLOBAL_ENTRIES. */
const ENTRIES = 1;

const writer = new MessageWriter();

/** Whether a message type is one of netfilter's about connections. */
export function isConnectionMessage(type: number): boolean {
  return NAMING[type >>> 8] !== undefined;
}

/**
 * @returns whether it was answered with a dump
 * @throws OvsError
 */
export function handleNetfilter(message: Message, isDump: boolean, reply: Reply): boolean {
  const { bytes, type } = message;
  if (bytes.length < HEADERS_BYTES) throw new OvsError(Errno.EINVAL, 'the headers are cut off');
  const subsystem = type >>> 8;
  const command = type & 0xff;
  const attributes = new Attributes(bytes, HEADERS_BYTES, bytes.length, 2);
  const namesOne = NAMING[subsystem].some((each) => attributes.has(each));
  if (command === DELETE) {
    if (namesOne) throw new OvsError(Errno.ENOENT, 'there is no such object');
    return false;
  }
  const isRead = subsystem === Subsystem.CONNECTIONS ? command >= Connections.GET : command === GET;
  if (!isRead || command > Connections.UNCONFIRMED) throw new OvsError(Errno.EOPNOTSUPP, 'connections are not tracked');
  if (isDump) {
    reply.dumpNothing();
    return true;
  }
  if (subsystem !== Subsystem.CONNECTIONS || command !== Connections.STATISTICS) {
    throw new OvsError(Errno.ENOENT, 'there is no such object');
  }
  beginFrame(writer);
  writer.begin(type, 0, message.sequence, reply.connection.port);
  writer.raw(new Uint8Array(4));
  writer.be32(ENTRIES, 0);
  writer.end();
  reply.connection.reply(writer.view());
  return false;
}
