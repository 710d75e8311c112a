/** A connection as the kernel dumps one: the attributes that ctnetlink_fill_info writes. Counters and time stamps are not kept, and so are not there. */
import {
  type ConnectionTable,
  Direction,
  helperName,
  OptionShift,
  RecordWord,
  STATE_MASK,
  Status,
  TcpWord,
  tupleWord,
} from '../../../../connections/index.ts';
import { IpProtocol } from '../../../../net/index.ts';
import { type MessageWriter, NlmFlag } from '../../../../netlink/index.ts';
import { beginNetfilter, familyOf } from './message.ts';
import { ConnectionCommand, CTA_HELPER_NAME, Cta, CtaInfo, CtaSctp, CtaTcp, Subsystem } from './numbers.ts';
import { writeTuple } from './tuple.ts';

const NEW = (Subsystem.CONNECTIONS << 8) | ConnectionCommand.NEW;
/** Bits of a status in netlink that a record has no bit of its own for: the translation was made (IPS_SRC_NAT_DONE, IPS_DST_NAT_DONE). */
const SOURCE_DONE = 0x80;
const DESTINATION_DONE = 0x100;

const label = new Uint8Array(16);
const tcpFlags = new Uint8Array(2);

/** A status as netlink has it. */
export function netlinkStatus(status: number): number {
  return (
    status |
    ((status & Status.SOURCE_NAT) !== 0 ? SOURCE_DONE : 0) |
    ((status & Status.DESTINATION_NAT) !== 0 ? DESTINATION_DONE : 0)
  );
}

/**
 * Write a connection as a whole message.
 * @param now a 32-bit time in milliseconds
 * @param flags besides MULTI, which the kernel sets on single answers too
 */
export function writeConnection(
  writer: MessageWriter,
  table: ConnectionTable,
  record: number,
  now: number,
  flags: number,
  sequence: number,
  port: number,
): void {
  const { records } = table;
  const at = table.at(record);
  const kind = records[at];
  const status = records[at + RecordWord.STATUS];
  beginNetfilter(writer, NEW, NlmFlag.MULTI | flags, sequence, port, familyOf(kind));
  writeTuple(writer, Cta.TUPLE_ORIGINAL, kind, records, at + tupleWord(Direction.ORIGINAL));
  writeTuple(writer, Cta.TUPLE_REPLY, kind, records, at + tupleWord(Direction.REPLY));
  // No zone says zone 0.
  if (kind >>> 16 !== 0) writer.be16(Cta.ZONE, kind >>> 16);
  writer.be32(Cta.STATUS, netlinkStatus(status));
  writer.be32(Cta.MARK, records[at + RecordWord.MARK] >>> 0);
  writer.be32(Cta.ID, records[at + RecordWord.ID] >>> 0);
  writer.be32(Cta.USE, 1);
  const parent = (status & Status.EXPECTED) === 0 ? 0 : table.parentOf(record);
  if (parent !== 0) {
    const first = table.at(parent);
    writeTuple(writer, Cta.TUPLE_MASTER, records[first], records, first + RecordWord.ORIGINAL);
  }
  const helper = helperName(records[at + RecordWord.SETTINGS]);
  if ((status & Status.HELPER) !== 0 && helper !== undefined) {
    const nest = writer.beginNested(Cta.HELPER);
    writer.string(CTA_HELPER_NAME, helper);
    writer.endNested(nest);
  }
  writeLabel(writer, records, at + RecordWord.LABEL);
  writer.be32(Cta.TIME_OUT, Math.max(0, Math.floor(table.leftMs(record, now) / 1000)));
  writeProtocol(writer, records, at, (kind >>> 8) & 0xff);
  writer.end();
}

/** The lowest byte first, as openvswitch.ko has it on machines that do; nothing when it is 0. */
function writeLabel(writer: MessageWriter, records: Int32Array, at: number): void {
  if ((records[at] | records[at + 1] | records[at + 2] | records[at + 3]) === 0) return;
  for (let i = 0; i < 16; i += 1) label[i] = records[at + 3 - (i >> 2)] >>> ((i & 3) * 8);
  writer.bytes(Cta.LABELS, label);
}

/** What the state machine of the protocol knows. */
function writeProtocol(writer: MessageWriter, records: Int32Array, at: number, protocol: number): void {
  if (protocol !== IpProtocol.TCP && protocol !== IpProtocol.SCTP) return;
  const state = records[at + RecordWord.STATE] & STATE_MASK;
  const info = writer.beginNested(Cta.PROTOCOL_INFO);
  if (protocol === IpProtocol.TCP) {
    const nest = writer.beginNested(CtaInfo.TCP);
    const options = records[at + TcpWord.OPTIONS];
    writer.u8(CtaTcp.STATE, state);
    writer.u8(CtaTcp.SCALE_ORIGINAL, options & 0xf);
    writer.u8(CtaTcp.SCALE_REPLY, (options >>> OptionShift.SCALE_BITS) & 0xf);
    // Flags and a mask, which only requests use.
    tcpFlags[0] = options >>> OptionShift.FLAGS;
    writer.bytes(CtaTcp.FLAGS_ORIGINAL, tcpFlags);
    tcpFlags[0] = options >>> (OptionShift.FLAGS + OptionShift.FLAGS_BITS);
    writer.bytes(CtaTcp.FLAGS_REPLY, tcpFlags);
    writer.endNested(nest);
  } else {
    const nest = writer.beginNested(CtaInfo.SCTP);
    writer.u8(CtaSctp.STATE, state);
    writer.be32(CtaSctp.TAG_ORIGINAL, records[at + RecordWord.PROTOCOL] >>> 0);
    writer.be32(CtaSctp.TAG_REPLY, records[at + RecordWord.PROTOCOL + 1] >>> 0);
    writer.endNested(nest);
  }
  writer.endNested(info);
}
