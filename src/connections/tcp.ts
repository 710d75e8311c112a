/**
 * TCP: what a segment does to its connection. States by tcp-state.ts, windows by tcp-window.ts; here is what lies between: SYNs into a connection that only one side remembers, resets that
 * may be forged, connections that begin anew, and how long each lasts. The rules are those of Linux's nf_conntrack, RFC 5961 and RFC 9293.
 */
import { Direction, RecordWord, Settings, STATE_MASK, Status, TIMEOUT_SHIFT } from './layout.ts';
import { Outcome } from './outcome.ts';
import type { TcpSegment } from './tcp-segment.ts';
import { areTcpFlagsValid, nextTcpState, TcpKind, TcpState } from './tcp-state.ts';
import {
  addFlags,
  checkWindow,
  flagsOf,
  InWindow,
  LastPart,
  lastDirection,
  lastKind,
  lastRepeats,
  optionBits,
  Side,
  SideFlag,
  sideAt,
  synBits,
  TcpWord,
} from './tcp-window.ts';
import { TimeOut, type TimeOutPolicies } from './time-outs.ts';

/** How strict tracking is; a switch of a whole tracker, or of an action. */
export interface TcpSettings {
  /** Segments out of window belong to their connection all the same. */
  readonly isLiberal: boolean;
  /** Connections whose begin was not seen are taken up. */
  readonly isLoose: boolean;
}

/** From this number of repeats on, the other side is taken for gone. */
export const MAXIMUM_REPEATS = 3;

/** Flags of the segment seen last, in the upper bits of its word. */
const LastFlag = {
  WINDOW_SCALE: 1 << 28,
  SACK_PERMITTED: 1 << 29,
  /** A SYN went to a side that waits for its last acknowledgment: an ACK from there may be a challenge (RFC 5961). */
  CHALLENGE: 1 << 30,
  SIMULTANEOUS_OPEN: 1 << 31,
} as const;
const LAST_FLAGS = 0xf << 28;
const LAST_SCALE = 0xf << 24;

/** Whether a segment may begin a connection. */
export function maybeBeginsTcp(segment: TcpSegment, settings: TcpSettings): boolean {
  if (!areTcpFlagsValid(segment.flags)) return false;
  const state = nextTcpState(Direction.ORIGINAL, segment.kind, TcpState.NONE);
  return state === TcpState.SYN_SENT || (settings.isLoose && state !== TcpState.INVALID);
}

/** Write the words of a connection that a segment begins; {@link advanceTcp} with the same segment comes next. */
export function beginTcp(records: Int32Array, at: number, segment: TcpSegment): void {
  const side = sideAt(at, Direction.ORIGINAL);
  const window = Math.max(segment.window, 1);
  records[side + Side.END] = segment.end;
  records[side + Side.WINDOW] = window;
  records[side + Side.HIGHEST_END] = segment.end;
  if (segment.kind === TcpKind.SYN) {
    records[at + TcpWord.OPTIONS] = synBits(Direction.ORIGINAL, segment.scale, segment.isSackPermitted);
  } else {
    // The middle of a connection: how its windows are scaled is not known, so they bind nobody.
    records[side + Side.HIGHEST_END] += window;
    const flags = SideFlag.SACK_PERMITTED | SideFlag.LIBERAL;
    records[at + TcpWord.OPTIONS] = optionBits(Direction.ORIGINAL, flags, 0) | optionBits(Direction.REPLY, flags, 0);
  }
  records[at + TcpWord.LAST] = TcpKind.NONE << 16;
}

/** Whether data flows, as far as both sides have shown. */
export function isTcpAssured(records: Int32Array, at: number): boolean {
  const isEstablished = (records[at + RecordWord.STATE] & STATE_MASK) === TcpState.ESTABLISHED;
  return isEstablished && (records[at + RecordWord.STATUS] & Status.ASSURED) !== 0;
}

/** From now on no segment of the connection is out of window. */
export function makeTcpLiberal(records: Int32Array, at: number): void {
  for (let direction = 0; direction < 2; direction += 1) {
    addFlags(records, at, direction, SideFlag.LIBERAL);
  }
}

/**
 * A segment of a connection.
 * @param at first word of its record
 * @param now a 32-bit time in milliseconds
 * @param ackShift see {@link checkWindow}
 * @returns one of {@link Outcome}
 */
export function advanceTcp(
  records: Int32Array,
  at: number,
  direction: number,
  segment: TcpSegment,
  settings: TcpSettings,
  timeOuts: TimeOutPolicies,
  now: number,
  ackShift: number,
): number {
  if (!areTcpFlagsValid(segment.flags)) return Outcome.INVALID;
  const { kind } = segment;
  const oldState = records[at + RecordWord.STATE] & STATE_MASK;
  let newState = nextTcpState(direction, kind, oldState);
  const last = records[at + TcpWord.LAST];
  let known = oldState;
  let isChecked = false;

  if (newState === TcpState.INVALID) return Outcome.INVALID;
  if (newState === TcpState.SYN_SENT && oldState >= TcpState.TIME_WAIT) {
    // A connection between the same ends begins anew, once the old one was closed or reset from this side.
    const flags = flagsOf(records, at, direction) | flagsOf(records, at, 1 - direction);
    const wasReset = lastDirection(last) === direction && lastKind(last) === TcpKind.RST;
    if ((flags & SideFlag.CLOSE_BEGUN) !== 0 || wasReset) return Outcome.REPEATED;
    newState = TcpState.IGNORE;
  }
  if (newState === TcpState.IGNORE) {
    if (!answersIgnoredSyn(records, at, direction, segment)) {
      remember(records, at, direction, segment, oldState);
      return Outcome.ACCEPTED;
    }
    takeUpIgnoredSyn(records, at, direction);
    known = TcpState.SYN_SENT;
    newState = TcpState.SYN_RECV;
  } else if (newState === TcpState.TIME_WAIT) {
    if (isChallenge(last, direction, kind, oldState)) {
      records[at + TcpWord.LAST] = last & ~LastFlag.CHALLENGE;
      return Outcome.ACCEPTED;
    }
  } else if (newState === TcpState.SYN_SENT2) {
    records[at + TcpWord.LAST] |= LastFlag.SIMULTANEOUS_OPEN;
  } else if (newState === TcpState.SYN_RECV) {
    const isThird = direction === Direction.REPLY && kind === TcpKind.ACK;
    if (isThird && (last & LastFlag.SIMULTANEOUS_OPEN) !== 0) newState = TcpState.ESTABLISHED;
  } else if (newState === TcpState.CLOSE && kind === TcpKind.RST) {
    const judged = judgeReset(records, at, direction, segment, oldState);
    if (judged === Reset.FORGED) return Outcome.INVALID;
    if (judged === Reset.DOUBTFUL) newState = oldState;
    // Nothing is learned of a liberal connection from one that may be forged: the next one would be judged by it.
    isChecked = judged === Reset.ANY || (judged === Reset.DOUBTFUL && isLiberalSide(records, at, direction));
  }

  if (!isChecked) {
    const isLiberal = settings.isLiberal || isLiberalSide(records, at, direction);
    // A SYN-ACK to a SYN that was ignored finds the connection as that SYN would have left it.
    const result = checkWindow(records, at, direction, segment, known, isLiberal, ackShift);
    if (result === InWindow.IGNORED) return Outcome.ACCEPTED;
    if (result === InWindow.NO) {
      shorten(records, at, direction, kind, timeOuts, now);
      return Outcome.INVALID;
    }
  }
  return settle(records, at, direction, kind, known, newState, timeOuts, now);
}

/** Whether segments of a side belong to the connection though they are out of window. */
function isLiberalSide(records: Int32Array, at: number, direction: number): boolean {
  return (flagsOf(records, at, direction) & SideFlag.LIBERAL) !== 0;
}

/** The segment is one of the connection: its state and how long it may last now. */
function settle(
  records: Int32Array,
  at: number,
  direction: number,
  kind: number,
  oldState: number,
  newState: number,
  timeOuts: TimeOutPolicies,
  now: number,
): number {
  if (oldState !== newState && newState === TcpState.FIN_WAIT) {
    addFlags(records, at, direction, SideFlag.CLOSE_BEGUN);
  }
  const status = records[at + RecordWord.STATUS];
  let place = timeOutPlace(records, at, kind, newState, timeOuts);
  if ((status & Status.SEEN_REPLY) === 0) {
    // A reset is the only answer: there is no connection.
    if (kind === TcpKind.RST) return Outcome.ENDED;
    // A SYN that is sent again does not prolong: who reuses the port must not keep an old entry alive for ever.
    if (kind === TcpKind.SYN && oldState === TcpState.SYN_SENT) {
      records[at + RecordWord.STATE] = newState | (records[at + RecordWord.STATE] & ~STATE_MASK);
      setLast(records, at, direction, kind);
      return Outcome.ACCEPTED;
    }
    const policy = records[at + RecordWord.SETTINGS] & Settings.POLICY;
    const isLong = timeOuts.get(policy, place) > timeOuts.get(policy, TimeOut.TCP_UNACKNOWLEDGED);
    if (newState === TcpState.ESTABLISHED && isLong) place = TimeOut.TCP_UNACKNOWLEDGED;
  } else if (
    (status & Status.ASSURED) === 0 &&
    (oldState === TcpState.SYN_RECV || oldState === TcpState.ESTABLISHED) &&
    newState === TcpState.ESTABLISHED
  ) {
    records[at + RecordWord.STATUS] = status | Status.ASSURED;
  }
  const word = newState | (place << TIMEOUT_SHIFT);
  // The state comes first: a program that has read the last segment before may not take an ended connection for an established one.
  if (newState === oldState) records[at + RecordWord.STATE] = word;
  else Atomics.store(records, at + RecordWord.STATE, word);
  setLast(records, at, direction, kind);
  records[at + RecordWord.LAST_SEEN] = now;
  return Outcome.ACCEPTED;
}

function timeOutPlace(records: Int32Array, at: number, kind: number, state: number, timeOuts: TimeOutPolicies): number {
  const policy = records[at + RecordWord.SETTINGS] & Settings.POLICY;
  const ofState = timeOuts.get(policy, TimeOut.TCP + state);
  const last = records[at + TcpWord.LAST];
  const isShorter = ofState > timeOuts.get(policy, TimeOut.TCP_RETRANSMITTED);
  if (lastRepeats(last) >= MAXIMUM_REPEATS && isShorter) return TimeOut.TCP_RETRANSMITTED;
  if (kind === TcpKind.RST) return TimeOut.TCP + TcpState.CLOSE;
  const flags = flagsOf(records, at, Direction.ORIGINAL) | flagsOf(records, at, Direction.REPLY);
  const isUnacknowledged = (flags & SideFlag.UNACKNOWLEDGED) !== 0;
  if (isUnacknowledged && ofState > timeOuts.get(policy, TimeOut.TCP_UNACKNOWLEDGED)) return TimeOut.TCP_UNACKNOWLEDGED;
  // Who says that its window is shut is asked again and again.
  if ((last & LastPart.WINDOW) === 0 && isShorter) return TimeOut.TCP_RETRANSMITTED;
  return TimeOut.TCP + state;
}

/** Whether a SYN-ACK answers a SYN that was ignored: both sides agree, and only we are out of step. */
function answersIgnoredSyn(records: Int32Array, at: number, direction: number, segment: TcpSegment): boolean {
  const last = records[at + TcpWord.LAST];
  return (
    segment.kind === TcpKind.SYN_ACK &&
    lastKind(last) === TcpKind.SYN &&
    lastDirection(last) !== direction &&
    segment.acknowledgment === records[at + TcpWord.LAST_END]
  );
}

function takeUpIgnoredSyn(records: Int32Array, at: number, direction: number): void {
  const last = records[at + TcpWord.LAST] & ~LastFlag.CHALLENGE;
  records[at + TcpWord.LAST] = last;
  const syn = 1 - direction;
  const liberalAnswer = flagsOf(records, at, direction) & SideFlag.LIBERAL;
  const side = sideAt(at, syn);
  records[side + Side.END] = records[at + TcpWord.LAST_END];
  records[side + Side.HIGHEST_END] = records[at + TcpWord.LAST_END];
  records[side + Side.WINDOW] = Math.max(last & 0xffff, 1);
  const other = sideAt(at, direction);
  records.fill(0, other, other + Side.WORDS);
  const scale = (last & LastFlag.WINDOW_SCALE) !== 0 ? (last >>> 24) & 0xf : -1;
  records[at + TcpWord.OPTIONS] =
    synBits(syn, scale, (last & LastFlag.SACK_PERMITTED) !== 0) | optionBits(direction, liberalAnswer, 0);
}

/** A segment that was let through without a word is kept in mind. */
function remember(records: Int32Array, at: number, direction: number, segment: TcpSegment, state: number): void {
  setLast(records, at, direction, segment.kind);
  records[at + TcpWord.LAST_SEQUENCE] = segment.sequence;
  records[at + TcpWord.LAST_END] = segment.end;
  let last = (records[at + TcpWord.LAST] & ~0xffff) | segment.window;
  if (segment.kind === TcpKind.SYN && direction === Direction.ORIGINAL) {
    last &= ~(LAST_FLAGS | LAST_SCALE);
    if (segment.scale >= 0) last |= LastFlag.WINDOW_SCALE | (segment.scale << 24);
    if (segment.isSackPermitted) last |= LastFlag.SACK_PERMITTED;
    if (state === TcpState.LAST_ACK) last |= LastFlag.CHALLENGE;
  }
  records[at + TcpWord.LAST] = last;
  if (state === TcpState.SYN_SENT && segment.kind === TcpKind.ACK && direction === Direction.REPLY) {
    records[at + TcpWord.LAST_ACK] = segment.acknowledgment;
  }
}

/** An ACK that answers a SYN into a connection that waits for its last acknowledgment is a challenge, and acknowledges no FIN. */
function isChallenge(last: number, direction: number, kind: number, state: number): boolean {
  return (
    state === TcpState.LAST_ACK &&
    kind === TcpKind.ACK &&
    lastDirection(last) !== direction &&
    lastKind(last) === TcpKind.SYN &&
    (last & LastFlag.CHALLENGE) !== 0
  );
}

/**
 * What a reset may be: right, as far as its window is; forged; doubtful, so that it passes and ends nothing; or right whatever its window. These are the rules
 * of Linux 6.18, as test/connections-differential.test.ts finds them.
 */
const Reset = { RIGHT: 0, FORGED: 1, DOUBTFUL: 2, ANY: 3 } as const;

function judgeReset(records: Int32Array, at: number, direction: number, segment: TcpSegment, state: number): number {
  // Where a side has closed already there is nothing left to protect, and who has forgotten the connection no longer knows the numbers.
  if (state >= TcpState.FIN_WAIT && state <= TcpState.CLOSE) return Reset.ANY;
  const last = records[at + TcpWord.LAST];
  const kind = lastKind(last);
  const isAnswer = segment.acknowledgment === records[at + TcpWord.LAST_END];
  if (kind === TcpKind.SYN) {
    const isReplied = (records[at + RecordWord.STATUS] & Status.SEEN_REPLY) !== 0;
    if (isReplied && lastDirection(last) !== direction && isAnswer) return Reset.ANY;
    // After a SYN that was let through nobody knows which numbers hold; the window has the last word.
    return Reset.RIGHT;
  }
  if (answersChallenge(records, at, direction, segment, state)) return Reset.ANY;
  if ((flagsOf(records, at, 1 - direction) & SideFlag.HIGHEST_ACK_SET) === 0) {
    const isAssured = (records[at + RecordWord.STATUS] & Status.ASSURED) !== 0;
    // An ACK was let through without a word.
    return kind === TcpKind.ACK && !isAssured && isAnswer ? Reset.ANY : Reset.RIGHT;
  }
  const acknowledged = records[sideAt(at, 1 - direction) + Side.HIGHEST_ACK];
  const { sequence } = segment;
  const isEstablished = isTcpAssured(records, at);
  // Most likely the answer to a SYN that was let through.
  if (sequence === 0 && !isEstablished) return Reset.RIGHT;
  if (((sequence - acknowledged) | 0) < 0) return Reset.FORGED;
  if (!isEstablished || sequence === acknowledged) return Reset.RIGHT;
  // Right behind the data that the same side has just sent.
  const isBehindData = kind === TcpKind.ACK && lastDirection(last) === direction;
  if (isBehindData && sequence === records[at + TcpWord.LAST_END]) return Reset.RIGHT;
  // Where programs track as well the reset has come another way, and the other side may have spoken since.
  const isBehindAll = sequence === records[sideAt(at, direction) + Side.END];
  if (isBehindAll && isLiberalSide(records, at, direction)) return Reset.RIGHT;
  // It may be right or not: the other side will challenge it (RFC 5961), and the answer tells.
  return Reset.DOUBTFUL;
}

/** A challenge to a SYN is answered with the sequence number that it has acknowledged (RFC 9293, section 3.10.7.3). */
function answersChallenge(
  records: Int32Array,
  at: number,
  direction: number,
  segment: TcpSegment,
  state: number,
): boolean {
  const last = records[at + TcpWord.LAST];
  const wasChallenged =
    state === TcpState.SYN_SENT && lastKind(last) === TcpKind.ACK && lastDirection(last) === Direction.REPLY;
  return wasChallenged && direction === Direction.ORIGINAL && segment.sequence === records[at + TcpWord.LAST_ACK];
}

/** A FIN or reset out of window, once from each side: the sides are out of step with us, and the connection is likely dead. It need not last for days. */
function shorten(
  records: Int32Array,
  at: number,
  direction: number,
  kind: number,
  timeOuts: TimeOutPolicies,
  now: number,
): void {
  if ((records[at + RecordWord.STATUS] & Status.ASSURED) === 0) return;
  if (kind !== TcpKind.RST && kind !== TcpKind.FIN) return;
  const last = records[at + TcpWord.LAST];
  const lastWasEnd = lastKind(last) === TcpKind.RST || lastKind(last) === TcpKind.FIN;
  if (lastDirection(last) === direction || !lastWasEnd) {
    setLast(records, at, direction, kind);
    return;
  }
  const state = records[at + RecordWord.STATE];
  const policy = records[at + RecordWord.SETTINGS] & Settings.POLICY;
  const left =
    timeOuts.get(policy, (state >>> TIMEOUT_SHIFT) & 0xff) - ((now - records[at + RecordWord.LAST_SEEN]) | 0);
  if (left <= timeOuts.get(policy, TimeOut.TCP_UNACKNOWLEDGED)) return;
  records[at + RecordWord.STATE] = (state & STATE_MASK) | (TimeOut.TCP_UNACKNOWLEDGED << TIMEOUT_SHIFT);
  records[at + RecordWord.LAST_SEEN] = now;
}

function setLast(records: Int32Array, at: number, direction: number, kind: number): void {
  const last = records[at + TcpWord.LAST];
  const kept = last & ~(LastPart.KIND | LastPart.DIRECTION);
  records[at + TcpWord.LAST] = kept | (kind << LastPart.KIND_SHIFT) | (direction << LastPart.DIRECTION_SHIFT);
}
