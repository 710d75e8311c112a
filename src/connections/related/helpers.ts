/** Helpers: they read what a connection says about others to come, expect these, and, behind a translation, say it anew with the addresses that the other side knows. */
import type { HeaderOffsets, Packet } from '../../net/index.ts';
import { Refusal } from '../action.ts';
import { word } from '../bytes.ts';
import { Direction, RecordWord, Settings, Status, tupleWord } from '../layout.ts';
import type { ConnectionTable } from '../table.ts';
import { Tuple, TupleWord } from '../tuple.ts';
import { Adjustments } from './adjustments.ts';
import { Expectations } from './expectations.ts';
import { FtpAnnouncement, FtpForm } from './ftp.ts';
import { Helper, helperNumber, helperReads } from './known-helpers.ts';
import { LineStarts } from './line-starts.ts';
import { replaceText, shiftSegment } from './payload.ts';

/** Ports that are tried when another connection has announced the same behind the same address. */
const PORT_TRIES = 32;

const NEWLINE = 0x0a;

/** Requests of TFTP (RFC 1350). */
const TftpOperation = { READ: 1, WRITE: 2 } as const;

export class Helpers {
  readonly expectations: Expectations;
  readonly adjustments: Adjustments;
  readonly #table: ConnectionTable;
  readonly #announcement = new FtpAnnouncement();
  readonly #lines = new LineStarts();
  readonly #own = new Tuple();
  readonly #other = new Tuple();
  readonly #expected = new Tuple();

  constructor(table: ConnectionTable) {
    this.#table = table;
    this.expectations = new Expectations(table);
    this.adjustments = new Adjustments(table);
  }

  /**
   * Give a connection a helper.
   * @param at first word of its record, which need not be published yet
   * @param helper its number; 0 for none
   * @returns false when the connection has one already, or its protocol is not the helper's
   */
  attach(at: number, protocol: number, helper: number): boolean {
    const { records } = this.#table;
    if ((records[at + RecordWord.STATUS] & Status.HELPER) !== 0) return false;
    if (!helperReads(helper, protocol)) return false;
    records[at + RecordWord.SETTINGS] |= helper << Settings.HELPER_SHIFT;
    records[at + RecordWord.STATUS] |= Status.HELPER;
    return true;
  }

  /** The connection is gone. */
  drop(record: number): void {
    this.expectations.drop(record);
    this.adjustments.drop(record);
    this.#lines.drop(record);
  }

  /**
   * A packet of a connection that has a helper, or shifted sequence numbers.
   * @returns one of Refusal
   */
  inspect(packet: Packet, headers: HeaderOffsets, record: number, direction: number): number {
    const { records } = this.#table;
    const at = this.#table.at(record);
    const helper = helperNumber(records[at + RecordWord.SETTINGS]);
    // As long as nobody has answered, one side alone could open ways.
    const isAnswered = (records[at + RecordWord.STATUS] & Status.SEEN_REPLY) !== 0;
    let refusal: number = Refusal.NONE;
    if (helper === Helper.TFTP) this.#tftp(packet, headers, record, direction);
    else if (helper === Helper.FTP && isAnswered && headers.payloadOffset < headers.l3End) {
      refusal = this.#ftpSegment(packet, headers, record, direction);
    }
    if (refusal === Refusal.NONE && (records[at + RecordWord.STATUS] & Status.SEQUENCE_ADJUSTED) !== 0) {
      const { adjustments } = this;
      const sequence = word(packet.bytes, packet.offset + headers.l4Offset + 4);
      shiftSegment(packet, headers, adjustments.ofSequence(record, direction, sequence), (acknowledgment) =>
        adjustments.ofAcknowledgment(record, direction, acknowledgment),
      );
    }
    return refusal;
  }

  /** The server answers a request from a port of its own. */
  #tftp(packet: Packet, headers: HeaderOffsets, record: number, direction: number): void {
    const { bytes, offset } = packet;
    const at = offset + headers.payloadOffset;
    if (direction !== Direction.ORIGINAL || headers.l3End - headers.payloadOffset < 4) return;
    const operation = (bytes[at] << 8) | bytes[at + 1];
    if (operation !== TftpOperation.READ && operation !== TftpOperation.WRITE) return;
    this.#read(record, direction);
    this.#expected.copy(this.#other);
    this.expectations.add(record, this.#expected, Direction.REPLY, this.#own.sourcePort);
  }

  /** Read a segment that begins a line, and note where the next one begins. */
  #ftpSegment(packet: Packet, headers: HeaderOffsets, record: number, direction: number): number {
    const { bytes, offset } = packet;
    // An announcement may change the length.
    const lengthBytes = headers.l3End - headers.payloadOffset;
    const isWhole = bytes[offset + headers.l3End - 1] === NEWLINE;
    const sequence = word(bytes, offset + headers.l4Offset + 4);
    let refusal: number = Refusal.NONE;
    if (this.#lines.isOne(record, direction, sequence)) refusal = this.#ftp(packet, headers, record, direction);
    if (isWhole && refusal === Refusal.NONE) this.#lines.add(record, direction, sequence + lengthBytes);
    return refusal;
  }

  #ftp(packet: Packet, headers: HeaderOffsets, record: number, direction: number): number {
    const { bytes, offset } = packet;
    const announcement = this.#announcement;
    const start = offset + headers.payloadOffset;
    if (!announcement.read(bytes, start, offset + headers.l3End, direction)) return Refusal.NONE;
    this.#read(record, direction);
    const own = this.#own;
    const other = this.#other;
    // Who announces another's address would open a way to it.
    if (!isOwnAddress(announcement, own)) return Refusal.NONE;
    const expected = this.#expected;
    expected.copy(other);
    const isMoved = !hasSameAddress(own, TupleWord.SOURCE, other, TupleWord.DESTINATION);
    let { port } = announcement;
    for (let i = 0; ; i += 1) {
      expected.destinationPort = port;
      if (this.expectations.add(record, expected, 1 - direction, announcement.port)) break;
      // Without a translation the port cannot be another.
      if (!isMoved || i === PORT_TRIES) return Refusal.NONE;
      port = port === 0xffff ? 1024 : port + 1;
    }
    if (!isMoved && port === announcement.port) return Refusal.NONE;
    const refusal = this.#announceAnew(packet, headers, record, direction, port);
    if (refusal !== Refusal.NONE) this.expectations.drop(record);
    return refusal;
  }

  #announceAnew(packet: Packet, headers: HeaderOffsets, record: number, direction: number, port: number): number {
    const announcement = this.#announcement;
    const address = this.#other.words.subarray(TupleWord.DESTINATION, TupleWord.DESTINATION + 4);
    const text = announcement.write(address, port, this.#own.isIpv6);
    const sequence = word(packet.bytes, packet.offset + headers.l4Offset + 4);
    const at = headers.payloadOffset + announcement.offset;
    if (!replaceText(packet, headers, at, announcement.lengthBytes, text)) return Refusal.HELPER_ROOM;
    const grown = text.length - announcement.lengthBytes;
    if (grown === 0) return Refusal.NONE;
    if (!this.adjustments.add(record, direction, sequence, grown)) return Refusal.HELPER_ROOM;
    this.#table.records[this.#table.at(record) + RecordWord.STATUS] |= Status.SEQUENCE_ADJUSTED;
    return Refusal.NONE;
  }

  #read(record: number, direction: number): void {
    const { records } = this.#table;
    const at = this.#table.at(record);
    this.#own.read(records[at], records, at + tupleWord(direction));
    this.#other.read(records[at], records, at + tupleWord(1 - direction));
  }
}

function isOwnAddress(announcement: FtpAnnouncement, own: Tuple): boolean {
  if (announcement.form === FtpForm.EXTENDED_PASSIVE) return true;
  const isOfIpv4 = announcement.form !== FtpForm.EPRT;
  if (isOfIpv4 && own.isIpv6) return false;
  for (let i = 0; i < 4; i += 1) if (announcement.address[i] !== own.words[TupleWord.SOURCE + i]) return false;
  return true;
}

function hasSameAddress(one: Tuple, at: number, other: Tuple, otherAt: number): boolean {
  for (let i = 0; i < 4; i += 1) if (one.words[at + i] !== other.words[otherAt + i]) return false;
  return true;
}
