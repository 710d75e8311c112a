/**
 * Tracking: a packet is looked up, its protocol's state machine goes on, and the connection is kept, marked and translated as an action asks. Rules and bits are those of Linux's
 * nf_conntrack and openvswitch.ko. Nothing is allocated for a packet.
 */
import { type HeaderOffsets, IpProtocol, type Packet } from '../net/index.ts';
import { type ConnectionAction, ConnectionState, REFUSAL_NAMES, Refusal, type Tracked } from './action.ts';
import { Admission } from './admission.ts';
import { word } from './bytes.ts';
import { ConnectionEvent, EventQueue } from './events.ts';
import { Direction, RECORD_WORDS, RecordWord, Settings, STATE_MASK, Status, tupleWord } from './layout.ts';
import { ZoneLimits } from './limits.ts';
import { NatChooser } from './nat.ts';
import { Outcome } from './outcome.ts';
import { PacketKind, PacketTuple } from './packet-tuple.ts';
import type { Expectation } from './related/expectations.ts';
import { Helpers } from './related/helpers.ts';
import { Helper } from './related/known-helpers.ts';
import { rewriteError, rewritePacket } from './rewrite.ts';
import { advanceSctp } from './sctp.ts';
import { advanceStateless } from './stateless.ts';
import { type ConnectionTable, Removal } from './table.ts';
import { advanceTcp, beginTcp, isTcpAssured, makeTcpLiberal, maybeBeginsTcp, type TcpSettings } from './tcp.ts';
import { TcpSegment } from './tcp-segment.ts';
import { isIcmp, isIcmpQuery, Tuple, TupleWord } from './tuple.ts';

/** How a tracker works. */
export interface TrackerSettings extends Partial<TcpSettings> {
  readonly table: ConnectionTable;
  /** Numbers from 0 to below 1, for ports that are chosen at random; Math.random when not given. */
  readonly random?: () => number;
  /** Whether transport checksums are looked at that nobody has checked yet; true when not given, as in Linux. */
  readonly verifiesChecksums?: boolean;
}

/** What a tracker has refused and found invalid. */
export class TrackerCounters {
  /** Packets, by {@link Refusal}. */
  readonly refused = REFUSAL_NAMES.map(() => 0);
  invalid = 0;
}

const ICMPV4_REDIRECT = 5;

export class Tracker {
  readonly table: ConnectionTable;
  readonly admission: Admission;
  readonly limits: ZoneLimits;
  readonly events = new EventQueue();
  readonly counters = new TrackerCounters();
  /** Whether helpers read packets of some connection. */
  hasHelpers = false;
  /** @internal */
  readonly helpers: Helpers;
  readonly #tcp: TcpSettings;
  readonly #verifies: boolean;
  readonly #nat: NatChooser;
  readonly #packet = new PacketTuple();
  readonly #segment = new TcpSegment();
  readonly #tuple = new Tuple();
  readonly #other = new Tuple();
  readonly #target = new Tuple();
  /** A record of no connection, on which a first packet is tried. */
  readonly #trial = new Int32Array(RECORD_WORDS);

  constructor(settings: TrackerSettings) {
    this.table = settings.table;
    this.admission = new Admission(settings.table);
    this.limits = new ZoneLimits(settings.table);
    this.#tcp = { isLiberal: settings.isLiberal ?? false, isLoose: settings.isLoose ?? true };
    this.#verifies = settings.verifiesChecksums ?? true;
    this.#nat = new NatChooser(settings.table, settings.random ?? Math.random);
    this.helpers = new Helpers(settings.table);
    this.table.onRemoved = (record, reason) => {
      const at = this.table.at(record);
      this.events.add(this.table.records, at, ConnectionEvent.DESTROY, reason);
      if ((this.table.records[at + RecordWord.STATUS] & Status.HELPER) !== 0) this.helpers.drop(record);
    };
    if (this.table.size > 0) this.table.walk(1, this.table.capacity, (record) => this.#noteHelper(record));
  }

  #noteHelper(record: number): void {
    const status = this.table.records[this.table.at(record) + RecordWord.STATUS];
    if ((status & (Status.HELPER | Status.SEQUENCE_ADJUSTED)) !== 0) this.hasHelpers = true;
  }

  /**
   * Track a packet.
   * @param headers of this packet; with NAT they follow
   * @param action what to do; with NAT the packet's bytes are changed, so nobody else may share them
   * @param tracked what is known of the packet, which is empty at first, and gets the answer
   * @param port where the packet came in, for shares of the table; 0 when that does not matter
   * @returns one of {@link Refusal}: with any but NONE the packet has to be dropped
   */
  track(packet: Packet, headers: HeaderOffsets, action: ConnectionAction, tracked: Tracked, port = 0): number {
    const now = this.table.nowMs() | 0;
    // A packet that was found invalid is judged once more.
    const judged = tracked.state & (ConnectionState.TRACKED | ConnectionState.INVALID);
    const wasTracked = judged === ConnectionState.TRACKED && tracked.zone === action.zone;
    const translated = wasTracked ? tracked.state & ConnectionState.NAT : 0;
    tracked.begin(action.zone);
    const kind = this.#packet.read(packet, headers, action.zone, this.#tuple, this.#verifies && !wasTracked);
    if (kind === PacketKind.INVALID) return this.#invalid(tracked, this.#packet.reason);
    if (kind === PacketKind.ERROR) return this.#error(packet, headers, action, tracked, translated, now);
    const entry = this.#find(translated, now);
    if (entry === 0) return this.#begin(packet, headers, action, tracked, port, now);
    const record = entry >>> 1;
    const direction = entry & 1;
    if (action.isForced && direction === Direction.REPLY) {
      this.table.remove(record, Removal.REPLACED, now);
      return this.#begin(packet, headers, action, tracked, port, now);
    }
    const { records } = this.table;
    const at = this.table.at(record);
    const statusBefore = records[at + RecordWord.STATUS];
    const stateBefore = records[at + RecordWord.STATE] & STATE_MASK;
    let outcome: number = Outcome.ACCEPTED;
    if (!wasTracked) {
      outcome = this.#advance(packet, headers, record, direction, now, false);
      if (outcome === Outcome.INVALID) return this.#invalid(tracked, 0);
      if (outcome === Outcome.REPEATED) {
        this.table.remove(record, Removal.REPLACED, now);
        return this.#begin(packet, headers, action, tracked, port, now);
      }
      this.#note(record, at, direction, statusBefore, stateBefore);
    }
    tracked.state = stateOf(records, at, direction, statusBefore);
    if (action.nat !== null && translated === 0) this.#translate(packet, headers, action, tracked, at, direction);
    tracked.state |= translated;
    const isAttached = action.helper !== Helper.NONE && this.#attach(at, action);
    if (isAttached) this.events.add(records, at, ConnectionEvent.HELPER, 0);
    const isWatched = (records[at + RecordWord.STATUS] & (Status.HELPER | Status.SEQUENCE_ADJUSTED)) !== 0;
    if (isWatched && (!wasTracked || isAttached)) {
      const refusal = this.helpers.inspect(packet, headers, record, direction);
      if (refusal !== Refusal.NONE) return this.#refuse(refusal);
    }
    this.#settle(action, tracked, record, direction);
    if (outcome === Outcome.ENDED) {
      this.table.remove(record, Removal.CLOSED, now);
      tracked.record = 0;
    }
    return Refusal.NONE;
  }

  #invalid(tracked: Tracked, reason: number): number {
    tracked.state = ConnectionState.TRACKED | ConnectionState.INVALID;
    tracked.reason = reason;
    this.counters.invalid += 1;
    return Refusal.NONE;
  }

  #refuse(refusal: number): number {
    this.counters.refused[refusal] += 1;
    return refusal;
  }

  /** A new connection is refused to whoever begins it. */
  #refuseNew(refusal: number, action: ConnectionAction, port: number): number {
    this.admission.pressure.refused(action.zone, port);
    return this.#refuse(refusal);
  }

  /** The connection of the tuple at hand. A packet that was translated on its way has the inverse of the other direction's tuple. */
  #find(translated: number, now: number): number {
    if (translated !== 0) {
      const entry = this.#other.invert(this.#tuple) ? this.table.find(this.#other, now) : 0;
      if (entry !== 0) return entry ^ 1;
    }
    return this.table.find(this.#tuple, now);
  }

  /** A packet goes through its protocol's state machine. */
  #advance(
    packet: Packet,
    headers: HeaderOffsets,
    record: number,
    direction: number,
    now: number,
    isFirst: boolean,
  ): number {
    const { records, timeOuts } = this.table;
    const at = this.table.at(record);
    const { bytes, offset } = packet;
    const { protocol } = this.#tuple;
    if (protocol === IpProtocol.TCP) {
      if (!isFirst) this.#readSegment(packet, headers);
      const isShifted = (records[at + RecordWord.STATUS] & Status.SEQUENCE_ADJUSTED) !== 0;
      const { adjustments } = this.helpers;
      // What is acknowledged is the byte before.
      const shift = isShifted
        ? adjustments.ofSequence(record, 1 - direction, (this.#segment.acknowledgment - 1) | 0)
        : 0;
      return advanceTcp(records, at, direction, this.#segment, this.#tcp, timeOuts, now, shift);
    }
    if (protocol === IpProtocol.SCTP) {
      const { l4Offset, l3End } = headers;
      return advanceSctp(records, at, direction, bytes, offset + l4Offset, offset + l3End, now);
    }
    advanceStateless(records, at, protocol, headers.ipVersion === 6, now, isFirst);
    return Outcome.ACCEPTED;
  }

  #readSegment(packet: Packet, headers: HeaderOffsets): void {
    const { offset } = packet;
    this.#segment.read(packet.bytes, offset + headers.l4Offset, offset + headers.payloadOffset, offset + headers.l3End);
  }

  /** A connection gets the helper that a commit names, if it has none. @returns whether it has got it */
  #attach(at: number, action: ConnectionAction): boolean {
    if (!this.helpers.attach(at, this.#tuple.protocol, action.helper)) return false;
    this.hasHelpers = true;
    return true;
  }

  /** Whether packets of an action may be changed: then nobody else may share their bytes. */
  mayChange(action: ConnectionAction): boolean {
    return action.nat !== null || action.helper !== Helper.NONE || this.hasHelpers;
  }

  /** What a packet has changed: the first answer, and events. */
  #note(record: number, at: number, direction: number, statusBefore: number, stateBefore: number): void {
    const { records } = this.table;
    let bits = 0;
    if (direction === Direction.REPLY && (statusBefore & Status.SEEN_REPLY) === 0) {
      this.table.setReplied(record);
      bits |= ConnectionEvent.REPLY;
    }
    if (((records[at + RecordWord.STATUS] ^ statusBefore) & Status.ASSURED) !== 0) bits |= ConnectionEvent.ASSURED;
    if ((records[at + RecordWord.STATE] & STATE_MASK) !== stateBefore) bits |= ConnectionEvent.PROTOCOL;
    if (bits !== 0) this.events.add(records, at, bits, 0);
  }

  /** A packet of a connection that is there gets its other addresses. */
  #translate(
    packet: Packet,
    headers: HeaderOffsets,
    action: ConnectionAction,
    tracked: Tracked,
    at: number,
    direction: number,
  ): void {
    const { records } = this.table;
    const status = records[at + RecordWord.STATUS];
    if ((status & (Status.SOURCE_NAT | Status.DESTINATION_NAT)) === 0) return;
    // As long as nobody has answered, packets take the way of the first one: only where connections are made are they translated.
    if ((tracked.state & ConnectionState.ESTABLISHED) === 0) {
      const isForNew = action.nat?.source !== null || action.nat.destination !== null;
      if ((tracked.state & ConnectionState.NEW) !== 0 ? !isForNew : !action.isCommitted) return;
    }
    this.#aim(at, direction);
    rewritePacket(packet, headers, this.#target);
    tracked.state |= natBits(status, direction);
  }

  /** The tuple that packets of a direction have behind the translation: the inverse of the other direction's. */
  #aim(at: number, direction: number): void {
    const { records } = this.table;
    this.#other.read(records[at], records, at + tupleWord(1 - direction));
    this.#target.invert(this.#other);
  }

  /** Marks, and what the packet knows of its connection. */
  #settle(action: ConnectionAction, tracked: Tracked, record: number, direction: number): void {
    const { records } = this.table;
    const at = this.table.at(record);
    if (action.isCommitted) {
      const bits = this.#mark(action, at);
      if (bits !== 0) this.events.add(records, at, bits, 0);
    }
    if (action.isLiberal && ((records[at] >>> 8) & 0xff) === IpProtocol.TCP && isTcpAssured(records, at)) {
      makeTcpLiberal(records, at);
    }
    tracked.record = record;
    tracked.direction = direction;
    tracked.mark = records[at + RecordWord.MARK];
    for (let i = 0; i < 4; i += 1) tracked.label[i] = records[at + RecordWord.LABEL + i];
    this.#setOriginal(tracked, this.table.parentOf(record) || record);
  }

  #setOriginal(tracked: Tracked, record: number): void {
    const { records } = this.table;
    const at = this.table.at(record);
    tracked.setOriginal(records[at], records, at + RecordWord.ORIGINAL);
  }

  /** @returns bits of events */
  #mark(action: ConnectionAction, at: number): number {
    const { records } = this.table;
    let bits = 0;
    const mark = records[at + RecordWord.MARK];
    const newMark = action.markValue | (mark & ~action.markMask);
    if (newMark !== mark) {
      records[at + RecordWord.MARK] = newMark;
      bits |= ConnectionEvent.MARK;
    }
    if (!action.hasLabel) return bits;
    for (let i = 0; i < 4; i += 1) {
      const place = at + RecordWord.LABEL + i;
      const word = action.labelValue[i] | (records[place] & ~action.labelMask[i]);
      if (word !== records[place]) bits |= ConnectionEvent.LABEL;
      records[place] = word;
    }
    return bits;
  }

  /** An ICMP error: it belongs to the connection of the packet that it quotes. */
  #error(
    packet: Packet,
    headers: HeaderOffsets,
    action: ConnectionAction,
    tracked: Tracked,
    translated: number,
    now: number,
  ): number {
    const quoted = this.#tuple;
    let entry = 0;
    if (translated !== 0) entry = this.table.find(quoted, now) ^ 1;
    if (entry <= 1 && this.#other.invert(quoted)) entry = this.table.find(this.#other, now);
    if (entry <= 1) return this.#invalid(tracked, 0);
    const record = entry >>> 1;
    const direction = entry & 1;
    const { records } = this.table;
    const at = this.table.at(record);
    // Who forges an error does not know where the packets of the connection go, or must not tell others.
    if (
      translated === 0 &&
      !isAddressedTo(packet, headers, records, at + tupleWord(direction) + TupleWord.DESTINATION)
    ) {
      return this.#invalid(tracked, 0);
    }
    tracked.state =
      ConnectionState.TRACKED |
      ConnectionState.RELATED |
      (direction === Direction.REPLY ? ConnectionState.REPLY : 0) |
      translated;
    const status = records[at + RecordWord.STATUS];
    if (action.nat !== null && translated === 0 && (status & (Status.SOURCE_NAT | Status.DESTINATION_NAT)) !== 0) {
      // Who followed it would speak around the translation.
      if (isRedirect(headers)) return this.#refuse(Refusal.REDIRECT);
      this.#aim(at, direction);
      const bits = natBits(status, direction);
      // A router that sent it gets the address that the other side knows, as Linux has it.
      const source = (bits & ConnectionState.SOURCE_NAT) !== 0 ? this.#target : null;
      const { quoteOffset, quoteL4Offset } = this.#packet;
      rewriteError(packet, headers, quoteOffset, quoteL4Offset, source, this.#target, this.#other);
      tracked.state |= bits;
    }
    this.#settle(action, tracked, record, direction);
    return Refusal.NONE;
  }

  /** A packet of no connection: whether it may begin one, and that one, when it is to be kept. */
  #begin(
    packet: Packet,
    headers: HeaderOffsets,
    action: ConnectionAction,
    tracked: Tracked,
    port: number,
    now: number,
  ): number {
    const tuple = this.#tuple;
    if (!this.#mayBegin(packet, headers, now)) return this.#invalid(tracked, 0);
    const expectation = this.helpers.expectations.find(tuple);
    tracked.state = ConnectionState.TRACKED | ConnectionState.NEW;
    tracked.setOriginal(tuple.kind, tuple.words, 0);
    if (expectation !== null) this.#inherit(tracked, expectation.parent);
    if (!action.isCommitted) return Refusal.NONE;
    const { table } = this;
    if (!this.limits.makeRoom(action.zone, now)) return this.#refuseNew(Refusal.ZONE_LIMIT, action, port);
    const reply = this.#target;
    const refusal = this.#chooseReply(action, expectation, now);
    if (refusal !== Refusal.NONE) return this.#refuseNew(refusal, action, port);
    const record = this.admission.take(action.zone, port, now);
    if (record === 0) return this.#refuseNew(Refusal.TABLE_FULL, action, port);
    const { records } = table;
    const at = table.at(record);
    records.set(tuple.words, at + RecordWord.ORIGINAL);
    records.set(reply.words, at + RecordWord.REPLY);
    const nat = this.#other.invert(reply) ? changedEnds(tuple, this.#other) : 0;
    records[at + RecordWord.STATUS] = Status.CONFIRMED | nat;
    const policy = action.settings & Settings.POLICY;
    records[at + RecordWord.SETTINGS] = table.timeOuts.has(policy)
      ? action.settings
      : action.settings & ~Settings.POLICY;
    records[at + RecordWord.PORT] = port;
    records[at + RecordWord.MARK] = tracked.mark;
    records.set(tracked.label, at + RecordWord.LABEL);
    this.#mark(action, at);
    this.#attach(at, action);
    if (tuple.protocol === IpProtocol.TCP) beginTcp(records, at, this.#segment);
    this.#advance(packet, headers, record, Direction.ORIGINAL, now, true);
    // It may be the expecting connection that went to make room.
    const isExpected = expectation !== null && table.isLive(expectation.parent);
    if (isExpected) {
      records[at + RecordWord.STATUS] |= Status.EXPECTED;
      table.setParent(record, expectation.parent);
    }
    if (!table.publish(record, tuple.kind)) return this.#refuseNew(Refusal.TABLE_FULL, action, port);
    if (action.nat !== null) {
      if (nat !== 0) rewritePacket(packet, headers, this.#other);
      if (action.nat.source !== null || (nat & Status.SOURCE_NAT) !== 0) tracked.state |= ConnectionState.SOURCE_NAT;
      if (action.nat.destination !== null || (nat & Status.DESTINATION_NAT) !== 0) {
        tracked.state |= ConnectionState.DESTINATION_NAT;
      }
    }
    // Of a first packet a helper may read something, and changes nothing: what could be refused is read once there was an answer.
    if ((records[at + RecordWord.STATUS] & Status.HELPER) !== 0) {
      this.helpers.inspect(packet, headers, record, Direction.ORIGINAL);
    }
    // What was expected stays expected until a connection has come of it.
    if (isExpected) this.helpers.expectations.drop(expectation.parent);
    const isHelped = (records[at + RecordWord.STATUS] & Status.HELPER) !== 0;
    const bits = isExpected ? ConnectionEvent.RELATED : ConnectionEvent.NEW;
    this.events.add(records, at, isHelped ? bits | ConnectionEvent.HELPER : bits, 0);
    this.#settleNew(tracked, record, at);
    return Refusal.NONE;
  }

  /** A connection that was announced has mark and label of the one that announced it, and is shown by its tuple. */
  #inherit(tracked: Tracked, parent: number): void {
    const { records } = this.table;
    const at = this.table.at(parent);
    tracked.state |= ConnectionState.RELATED;
    tracked.mark = records[at + RecordWord.MARK];
    for (let i = 0; i < 4; i += 1) tracked.label[i] = records[at + RecordWord.LABEL + i];
    this.#setOriginal(tracked, parent);
  }

  #settleNew(tracked: Tracked, record: number, at: number): void {
    const { records } = this.table;
    tracked.record = record;
    tracked.mark = records[at + RecordWord.MARK];
    for (let i = 0; i < 4; i += 1) tracked.label[i] = records[at + RecordWord.LABEL + i];
  }

  #mayBegin(packet: Packet, headers: HeaderOffsets, now: number): boolean {
    const tuple = this.#tuple;
    const { protocol, isIpv6 } = tuple;
    if (protocol === IpProtocol.TCP) {
      this.#readSegment(packet, headers);
      return maybeBeginsTcp(this.#segment, this.#tcp);
    }
    if (protocol === IpProtocol.SCTP) {
      const trial = this.#trial;
      trial.fill(0);
      const { offset } = packet;
      const { l4Offset, l3End } = headers;
      const outcome = advanceSctp(trial, 0, 0, packet.bytes, offset + l4Offset, offset + l3End, now);
      return outcome === Outcome.ACCEPTED;
    }
    return !isIcmp(protocol, isIpv6) || isIcmpQuery(headers.icmpType, isIpv6);
  }

  /** Fill in the target: the tuple by which packets of the new connection come back. @returns one of {@link Refusal} */
  #chooseReply(action: ConnectionAction, expectation: Expectation | null, now: number): number {
    const tuple = this.#tuple;
    const reply = this.#target;
    const { nat } = action;
    if (nat === null) {
      const isFree = reply.invert(tuple) && (reply.equals(tuple) || this.table.find(reply, now) === 0);
      return isFree ? Refusal.NONE : Refusal.CLASH;
    }
    let isChosen: boolean;
    if (expectation !== null && this.#isTranslated(expectation.parent)) {
      this.#follow(expectation);
      isChosen = this.#nat.chooseFree(reply, reply, now);
    } else if (nat.source !== null || nat.destination !== null) isChosen = this.#nat.choose(tuple, nat, reply, now);
    else isChosen = this.#nat.chooseFree(tuple, reply, now);
    return isChosen ? Refusal.NONE : Refusal.NAT_EXHAUSTED;
  }

  #isTranslated(record: number): boolean {
    const status = this.table.records[this.table.at(record) + RecordWord.STATUS];
    return (status & (Status.SOURCE_NAT | Status.DESTINATION_NAT)) !== 0;
  }

  /** A connection that was announced goes where the one that announced it comes from, or goes to: fill in the target with the tuple that it goes on with. */
  #follow(expectation: Expectation): void {
    const { records } = this.table;
    const target = this.#target;
    target.copy(this.#tuple);
    const at = this.table.at(expectation.parent) + tupleWord(1 - expectation.direction);
    for (let i = 0; i < 4; i += 1) {
      target.words[TupleWord.SOURCE + i] = records[at + TupleWord.DESTINATION + i];
      target.words[TupleWord.DESTINATION + i] = records[at + TupleWord.SOURCE + i];
    }
    target.destinationPort = expectation.announcedPort;
  }
}

/** The state of a packet of a connection that is there. @param status before this packet */
function stateOf(records: Int32Array, at: number, direction: number, status: number): number {
  const related = records[at + RecordWord.PARENT] === 0 ? 0 : ConnectionState.RELATED;
  const state = ConnectionState.TRACKED | related;
  if (direction === Direction.REPLY) return state | ConnectionState.ESTABLISHED | ConnectionState.REPLY;
  if ((status & Status.SEEN_REPLY) !== 0) return state | ConnectionState.ESTABLISHED;
  return state | ((status & Status.EXPECTED) !== 0 ? ConnectionState.RELATED : ConnectionState.NEW);
}

/** Which ends of a packet are translated: what is the source one way is the destination the other way. */
function natBits(status: number, direction: number): number {
  const source = (status & Status.SOURCE_NAT) !== 0;
  const destination = (status & Status.DESTINATION_NAT) !== 0;
  const isReply = direction === Direction.REPLY;
  return (
    ((isReply ? destination : source) ? ConnectionState.SOURCE_NAT : 0) |
    ((isReply ? source : destination) ? ConnectionState.DESTINATION_NAT : 0)
  );
}

/** Bits of {@link Status} for what a translation changes. */
function changedEnds(before: Tuple, after: Tuple): number {
  let source = (before.words[0] ^ after.words[0]) >>> 16;
  let destination = (before.words[0] ^ after.words[0]) & 0xffff;
  for (let i = 0; i < 4; i += 1) {
    source |= before.words[TupleWord.SOURCE + i] ^ after.words[TupleWord.SOURCE + i];
    destination |= before.words[TupleWord.DESTINATION + i] ^ after.words[TupleWord.DESTINATION + i];
  }
  return (source !== 0 ? Status.SOURCE_NAT : 0) | (destination !== 0 ? Status.DESTINATION_NAT : 0);
}

/** Over IPv6 a redirect is neighbour discovery, and no error. */
function isRedirect({ ipVersion, icmpType }: HeaderOffsets): boolean {
  return ipVersion === 4 && icmpType === ICMPV4_REDIRECT;
}

/** Whether a packet's destination address is the one whose words stand there. */
function isAddressedTo(packet: Packet, headers: HeaderOffsets, words: Int32Array, at: number): boolean {
  const isIpv6 = headers.ipVersion === 6;
  const l3 = packet.offset + headers.l3Offset;
  const { bytes } = packet;
  for (let i = 0; i < (isIpv6 ? 4 : 1); i += 1) {
    const byte = l3 + (isIpv6 ? 24 : 16) + i * 4;
    if (word(bytes, byte) !== words[at + i]) return false;
  }
  return true;
}
