/**
 * Traffic control: queueing disciplines and filters (struct tcmsg and TCA_*), as far as eBPF programs at ingress and egress need them: the
 * clsact discipline and cls_bpf filters with direct action.
 */
import { readS32, readU32, writeU32 } from '../bytes.ts';
import { NetlinkError } from '../error.ts';
import { binary, nested, string, u32 } from '../fields.ts';
import type { Message } from '../message.ts';
import { policy, type ValuesOf } from '../policy.ts';
import { checkUnsigned, type MessageWriter } from '../writer.ts';
import { type Header, parseObject, writeObject } from './object.ts';

/** Handles and parents of the clsact discipline. */
export const Clsact = {
  HANDLE: 0xffff_0000,
  /** Parent of the discipline itself. */
  PARENT: 0xffff_fff1,
  /** Parent of filters on received packets. */
  INGRESS: 0xffff_fff2,
  /** Parent of filters on packets to be sent. */
  EGRESS: 0xffff_fff3,
} as const;

/** The fields of struct tcmsg. */
export interface TrafficHeader {
  family: number;
  /** The interface. */
  index: number;
  handle: number;
  parent: number;
  /** Of a filter: priority in the upper 16 bits, EtherType in network order in the lower (see {@link filterInfo}). */
  info: number;
}

/**
 *      0        1         4       8        12       16
 *      | family | padding | index | handle | parent | info |
 */
const header: Header<TrafficHeader> = {
  name: 'tcmsg',
  lengthBytes: 20,
  empty: { family: 0, index: 0, handle: 0, parent: 0, info: 0 },
  read: (bytes, at) => ({
    family: bytes[at],
    index: readS32(bytes, at + 4),
    handle: readU32(bytes, at + 8),
    parent: readU32(bytes, at + 12),
    info: readU32(bytes, at + 16),
  }),
  fill(bytes, object) {
    bytes[0] = checkUnsigned('address family', object.family, 0xff);
    writeU32(bytes, 4, checkUnsigned('interface index', object.index, 0x7fff_ffff));
    writeU32(bytes, 8, checkUnsigned('handle', object.handle, 0xffff_ffff));
    writeU32(bytes, 12, checkUnsigned('parent', object.parent, 0xffff_ffff));
    writeU32(bytes, 16, checkUnsigned('info', object.info, 0xffff_ffff));
  },
};

/** Flag of a cls_bpf filter: its program's return value is the verdict. */
export const DIRECT_ACTION = 1;

/** TCA_BPF_*. */
const bpfPolicy = policy({
  classId: [3, u32()],
  descriptor: [6, u32()],
  name: [7, string({ maxBytes: 255 })],
  /** TCA_BPF_FLAG_*: {@link DIRECT_ACTION}. */
  flags: [8, u32()],
  generalFlags: [9, u32()],
  /** The program's digest. */
  tag: [10, binary({ maxBytes: 8 })],
  programId: [11, u32()],
});

const kindAttribute = [1, string({ maxBytes: 15 })] as const;
const chainAttribute = [11, u32()] as const;

const qdiscPolicy = policy({ kind: kindAttribute });
const otherFilterPolicy = policy({ kind: kindAttribute, chain: chainAttribute });
const bpfFilterPolicy = policy({ kind: kindAttribute, bpf: [2, nested(bpfPolicy)], chain: chainAttribute });

/** A queueing discipline. */
export type Qdisc = TrafficHeader & ValuesOf<typeof qdiscPolicy>;
/** A filter. `bpf` is there for the kind 'bpf' alone. */
export type Filter = TrafficHeader & ValuesOf<typeof bpfFilterPolicy>;

/**
 * Put priority and protocol together as tcm_info.
 * @param protocol an EtherType in host order, 3 (ETH_P_ALL) for every packet
 */
export function filterInfo(priority: number, protocol: number): number {
  checkUnsigned('filter priority', priority, 0xffff);
  checkUnsigned('protocol', protocol, 0xffff);
  return ((priority << 16) | ((protocol & 0xff) << 8) | (protocol >>> 8)) >>> 0;
}

/** Take tcm_info apart again. */
export function splitFilterInfo(info: number): { priority: number; protocol: number } {
  return { priority: info >>> 16, protocol: ((info & 0xff) << 8) | ((info >>> 8) & 0xff) };
}

/** @throws NetlinkError when the message is malformed */
export function parseQdisc(message: Message): Qdisc {
  return parseObject(message, header, qdiscPolicy);
}

/** Write the body of a discipline's message, behind `begin`. */
export function writeQdisc(writer: MessageWriter, qdisc: Partial<TrafficHeader> & ValuesOf<typeof qdiscPolicy>): void {
  writeObject(writer, header, qdiscPolicy, qdisc);
}

/** @throws NetlinkError when the message is malformed */
export function parseFilter(message: Message): Filter {
  // The same attribute type holds every kind's own options: read them only where they are cls_bpf's.
  const filter = parseObject(message, header, otherFilterPolicy);
  return filter.kind === 'bpf' ? parseObject(message, header, bpfFilterPolicy) : filter;
}

/**
 * Write the body of a filter's message, behind `begin`.
 * @throws NetlinkError when cls_bpf data come with another kind
 */
export function writeFilter(
  writer: MessageWriter,
  filter: Partial<TrafficHeader> & ValuesOf<typeof bpfFilterPolicy>,
): void {
  if (filter.bpf !== undefined && filter.kind !== 'bpf') {
    throw new NetlinkError(`filter of kind ${filter.kind} cannot hold cls_bpf data`, { path: ['bpf'] });
  }
  writeObject(writer, header, bpfFilterPolicy, filter);
}
