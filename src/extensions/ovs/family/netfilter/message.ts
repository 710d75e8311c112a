/**
 * Netfilter's messages: behind the header of netlink stands their own.
 *
 *     | nlmsghdr 16 | family 8 | version 8, 0 | resource 16, big-endian | attributes
 */
import { Kind } from '../../../../connections/index.ts';
import type { Message, MessageWriter } from '../../../../netlink/index.ts';
import type { Attributes } from '../../attributes.ts';
import type { Reply } from '../../device/reply.ts';
import { AF_INET, AF_INET6 } from './numbers.ts';

/** Where the attributes begin. */
export const HEADERS_BYTES = 20;

const header = new Uint8Array(4);

/** One request, taken apart. */
export interface NetfilterRequest {
  readonly message: Message;
  readonly reply: Reply;
  readonly command: number;
  /** Of addresses; 0 for any. */
  readonly family: number;
  /** Of the message's header. */
  readonly version: number;
  /** A dump is asked for, by either of its two bits. */
  readonly isDump: boolean;
  readonly attributes: Attributes;
  readonly workOn: WorkOn;
}

/**
 * Work bit by bit on what no program asks on for.
 * @param step does some of it; whether it is over
 * @throws OvsError EBUSY while as much goes on as may
 */
export type WorkOn = (step: () => boolean) => void;

/** The family of a record's addresses. @param kind its first word */
export function familyOf(kind: number): number {
  return (kind & Kind.IPV6) === 0 ? AF_INET : AF_INET6;
}

/** Begin a message. @param resource such as a processor's number */
export function beginNetfilter(
  writer: MessageWriter,
  type: number,
  flags: number,
  sequence: number,
  port: number,
  family = 0,
  resource = 0,
): void {
  writer.begin(type, flags, sequence, port);
  header[0] = family;
  header[2] = resource >>> 8;
  header[3] = resource;
  writer.raw(header);
}
