/**
 * Whether a TCP segment lies within the windows of its connection, after Guido van Rooij, "Real Stateful TCP Packet Filtering in IP Filter", as Linux does it: what may be sent
 * ends where the receiver's window did when it last said so, what may be acknowledged is what was seen. Windows are scaled as the SYNs agreed, and selective acknowledgments count.
 */
import { TcpFlag } from '../net/index.ts';
import { Direction, RecordWord } from './layout.ts';
import type { TcpSegment } from './tcp-segment.ts';
import { TcpKind, TcpState } from './tcp-state.ts';

/** Words of a direction, from {@link sideAt} on. */
export const Side = { END: 0, HIGHEST_END: 1, WINDOW: 2, HIGHEST_ACK: 3, WORDS: 4 } as const;

/** Words of TCP behind both sides. */
export const TcpWord = {
  OPTIONS: RecordWord.PROTOCOL + 8,
  LAST_SEQUENCE: RecordWord.PROTOCOL + 9,
  LAST_END: RecordWord.PROTOCOL + 10,
  LAST_ACK: RecordWord.PROTOCOL + 11,
  LAST: RecordWord.PROTOCOL + 12,
} as const;

/*
 *  OPTIONS   | 0 8 | flags reply 8 | flags original 8 | scale reply 4 | scale original 4 |
 *  LAST      | flags 4 | scale 4 | repeats 3 | direction 1 | kind 4 | window 16 |
 */

/** Where a direction's part of {@link TcpWord.OPTIONS} begins: at `FLAGS + direction * FLAGS_BITS`, `direction * SCALE_BITS`. */
export const OptionShift = { SCALE_BITS: 4, FLAGS: 8, FLAGS_BITS: 8 } as const;

/** The parts of {@link TcpWord.LAST}: masks, and where they begin. */
export const LastPart = {
  WINDOW: 0xffff,
  KIND_SHIFT: 16,
  KIND: 0xf << 16,
  DIRECTION_SHIFT: 20,
  DIRECTION: 1 << 20,
  REPEATS_SHIFT: 21,
  REPEATS: 7 << 21,
} as const;
/** A segment is counted as repeated up to so often. */
export const MOST_REPEATS = 7;

/** Flags of a direction: IP_CT_TCP_FLAG_* of Linux (linux/netfilter/nf_conntrack_tcp.h). */
export const SideFlag = {
  WINDOW_SCALE: 0x01,
  SACK_PERMITTED: 0x02,
  /** It sent the first FIN. */
  CLOSE_BEGUN: 0x04,
  LIBERAL: 0x08,
  UNACKNOWLEDGED: 0x10,
  HIGHEST_ACK_SET: 0x20,
} as const;

/** An acknowledgment may be as old as this, or as the window of who sends it. */
export const OLDEST_ACK = 66_000;

/** What a window check comes to. */
export const InWindow = {
  YES: 0,
  /** It passes, and the connection learns nothing from it: an old segment, or a few bytes too many. */
  IGNORED: 1,
  NO: 2,
} as const;

/** First word of a direction. */
export function sideAt(at: number, direction: number): number {
  return at + RecordWord.PROTOCOL + direction * Side.WORDS;
}

export function flagsOf(records: Int32Array, at: number, direction: number): number {
  return (records[at + TcpWord.OPTIONS] >>> (OptionShift.FLAGS + direction * OptionShift.FLAGS_BITS)) & 0xff;
}

/** What a direction's flags and scale are in {@link TcpWord.OPTIONS}. */
export function optionBits(direction: number, flags: number, scale: number): number {
  const { FLAGS, FLAGS_BITS, SCALE_BITS } = OptionShift;
  return (flags << (FLAGS + direction * FLAGS_BITS)) | (scale << (direction * SCALE_BITS));
}

/** Set flags of a direction. Programs change others at the same time, and none may get lost; what is as it should be is not stored. */
export function addFlags(records: Int32Array, at: number, direction: number, flags: number): void {
  const bits = flags << (OptionShift.FLAGS + direction * OptionShift.FLAGS_BITS);
  if ((~records[at + TcpWord.OPTIONS] & bits) !== 0) Atomics.or(records, at + TcpWord.OPTIONS, bits);
}

/** Clear flags of a direction, as {@link addFlags} sets them. */
export function dropFlags(records: Int32Array, at: number, direction: number, flags: number): void {
  const bits = flags << (OptionShift.FLAGS + direction * OptionShift.FLAGS_BITS);
  if ((records[at + TcpWord.OPTIONS] & bits) !== 0) Atomics.and(records, at + TcpWord.OPTIONS, ~bits);
}

function scaleOf(records: Int32Array, at: number, direction: number): number {
  return (records[at + TcpWord.OPTIONS] >>> (direction * OptionShift.SCALE_BITS)) & 0xf;
}

/** What the options of a SYN say of who sent it. One without any options says nothing. */
function setOptions(records: Int32Array, at: number, direction: number, segment: TcpSegment): void {
  if (!segment.hasOptions) return;
  const all = optionBits(direction, ~SideFlag.LIBERAL & 0xff, 0xf);
  const told = synBits(direction, segment.scale, segment.isSackPermitted);
  Atomics.and(records, at + TcpWord.OPTIONS, ~all | told);
  Atomics.or(records, at + TcpWord.OPTIONS, told);
}

/** What a SYN of a direction tells, as bits of the options. @param scale below 0 when it names none */
export function synBits(direction: number, scale: number, isSackPermitted: boolean): number {
  const flags = (scale >= 0 ? SideFlag.WINDOW_SCALE : 0) | (isSackPermitted ? SideFlag.SACK_PERMITTED : 0);
  return optionBits(direction, flags, Math.max(scale, 0));
}

function before(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

/** A SYN or SYN-ACK says where its sender begins. */
function beginSide(records: Int32Array, at: number, direction: number, segment: TcpSegment): void {
  const sender = sideAt(at, direction);
  records[sender + Side.END] = segment.end;
  records[sender + Side.HIGHEST_END] = segment.end;
  records[sender + Side.WINDOW] = Math.max(segment.window, 1);
  setOptions(records, at, direction, segment);
  const both = flagsOf(records, at, direction) & flagsOf(records, at, 1 - direction);
  // Windows are scaled only when both sides have said so.
  if (direction === Direction.REPLY && (both & SideFlag.WINDOW_SCALE) === 0) {
    Atomics.and(records, at + TcpWord.OPTIONS, ~(optionBits(0, 0, 0xf) | optionBits(1, 0, 0xf)));
  }
}

/** Of a connection whose begin was not seen: the sender is taken to be where it is now. */
function pickUpSide(records: Int32Array, at: number, direction: number, segment: TcpSegment, sack: number): void {
  const sender = sideAt(at, direction);
  const receiver = sideAt(at, 1 - direction);
  const window = Math.max(segment.window << scaleOf(records, at, direction), 1);
  records[sender + Side.END] = segment.end;
  records[sender + Side.WINDOW] = window;
  records[sender + Side.HIGHEST_END] = segment.end + window;
  if (records[receiver + Side.WINDOW] === 0) {
    records[receiver + Side.END] = sack;
    records[receiver + Side.HIGHEST_END] = sack;
  } else if (sack === ((records[receiver + Side.END] + 1) | 0)) {
    // Likely the answer to a keep-alive.
    records[receiver + Side.END] += 1;
  }
}

/**
 * Check a segment, and learn from it what it says about the windows.
 * @param at the record's first word
 * @param state that the connection was in before
 * @param isLiberal whether segments out of window pass, though nothing is learned from them
 * @param ackShift what has been added to acknowledgments on their way here, by a helper that changed the length of data
 * @returns one of {@link InWindow}
 */
export function checkWindow(
  records: Int32Array,
  at: number,
  direction: number,
  segment: TcpSegment,
  state: number,
  isLiberal: boolean,
  ackShift: number,
): number {
  const { flags, end } = segment;
  const sender = sideAt(at, direction);
  const receiver = sideAt(at, 1 - direction);
  const hasAck = (flags & TcpFlag.ACK) !== 0;
  const isSyn = (flags & TcpFlag.SYN) !== 0;
  const isReset = (flags & TcpFlag.RST) !== 0;
  let { sequence } = segment;
  let ack = (segment.acknowledgment - ackShift) | 0;
  const mayBeSelective = (flagsOf(records, at, 1 - direction) & SideFlag.SACK_PERMITTED) !== 0;
  let sack = mayBeSelective ? (segment.selective - ackShift) | 0 : ack;

  if (records[sender + Side.WINDOW] === 0) {
    if (isSyn) {
      beginSide(records, at, direction, segment);
      // A simultaneous open: there is nothing to compare with.
      if (!hasAck) return InWindow.YES;
    } else pickUpSide(records, at, direction, segment, sack);
  } else if (
    isSyn &&
    (state === TcpState.SYN_SENT || state === TcpState.SYN_RECV) &&
    before(records[sender + Side.END], end)
  ) {
    // Begun anew with higher numbers (RFC 9293, section 3.4.3): other options, other sequence numbers.
    beginSide(records, at, direction, segment);
    if (direction === Direction.REPLY && !hasAck) return InWindow.YES;
  }

  // No acknowledgment, or the zero that some stacks send with a reset, counts as the right one.
  if (!hasAck || (isReset && segment.acknowledgment === 0)) {
    ack = records[receiver + Side.END];
    sack = ack;
  }
  let segmentEnd = end;
  if (isReset && sequence === 0 && state === TcpState.SYN_SENT) {
    sequence = records[sender + Side.END];
    segmentEnd = sequence;
  }

  const receiverWindow = records[receiver + Side.WINDOW];
  const senderEnd = records[sender + Side.END];
  const receiverEnd = records[receiver + Side.END];
  const highestEnd = records[sender + Side.HIGHEST_END];
  const isNew = receiverWindow === 0 || before((senderEnd - receiverWindow - 1) | 0, segmentEnd);
  const isSackSeen = before(sack, (receiverEnd + 1) | 0);
  const oldestAck = (receiverEnd - Math.max(records[sender + Side.WINDOW], OLDEST_ACK) - 1) | 0;
  const isSackRecent = before(oldestAck, sack);

  if (!before(sequence, (highestEnd + 1) | 0)) {
    const overshot = (segmentEnd - highestEnd + 1) >>> 0;
    if (isNew && overshot <= receiverWindow && isSackSeen && isSackRecent) {
      // A sender that sends some more than it may. Should its peer take the data, their acknowledgment must be known.
      records[sender + Side.END] = segmentEnd;
      addFlags(records, at, direction, SideFlag.UNACKNOWLEDGED);
      return isLiberal ? InWindow.YES : InWindow.IGNORED;
    }
    return isLiberal ? InWindow.YES : InWindow.NO;
  }
  if (!isSackSeen) return isLiberal ? InWindow.YES : InWindow.NO;
  if (!isNew || !isSackRecent) return isLiberal ? InWindow.YES : InWindow.IGNORED;

  learn(records, at, direction, segment, segmentEnd, sequence, ack, sack);
  return InWindow.YES;
}

function learn(
  records: Int32Array,
  at: number,
  direction: number,
  segment: TcpSegment,
  end: number,
  sequence: number,
  ack: number,
  sack: number,
): void {
  const sender = sideAt(at, direction);
  const receiver = sideAt(at, 1 - direction);
  const isSyn = (segment.flags & TcpFlag.SYN) !== 0;
  const window = isSyn ? segment.window : segment.window << scaleOf(records, at, direction);
  records[sender + Side.WINDOW] = Math.max(records[sender + Side.WINDOW], window + ((sack - ack) | 0));
  let senderFlags = 0;
  if (before(records[sender + Side.END], end)) {
    records[sender + Side.END] = end;
    senderFlags |= SideFlag.UNACKNOWLEDGED;
  }
  if ((segment.flags & TcpFlag.ACK) !== 0) {
    const isFirst = (flagsOf(records, at, direction) & SideFlag.HIGHEST_ACK_SET) === 0;
    if (isFirst || before(records[sender + Side.HIGHEST_ACK], ack)) records[sender + Side.HIGHEST_ACK] = ack;
    senderFlags |= SideFlag.HIGHEST_ACK_SET;
  }
  addFlags(records, at, direction, senderFlags);
  const beyond = (end - records[sender + Side.HIGHEST_END]) | 0;
  if (records[receiver + Side.WINDOW] !== 0 && beyond > 0) records[receiver + Side.WINDOW] += beyond;
  if (before((records[receiver + Side.HIGHEST_END] - 1) | 0, (sack + window) | 0)) {
    records[receiver + Side.HIGHEST_END] = sack + Math.max(window, 1);
  }
  if (ack === records[receiver + Side.END]) {
    dropFlags(records, at, 1 - direction, SideFlag.UNACKNOWLEDGED);
  }
  if (segment.kind === TcpKind.ACK) countRepeat(records, at, direction, segment, end, sequence, ack);
}

/** The same acknowledgment again and again: the other side is gone, or does not hear. */
function countRepeat(
  records: Int32Array,
  at: number,
  direction: number,
  segment: TcpSegment,
  end: number,
  sequence: number,
  ack: number,
): void {
  const last = records[at + TcpWord.LAST];
  if (
    lastDirection(last) === direction &&
    records[at + TcpWord.LAST_SEQUENCE] === sequence &&
    records[at + TcpWord.LAST_ACK] === ack &&
    records[at + TcpWord.LAST_END] === end &&
    (last & LastPart.WINDOW) === segment.window
  ) {
    if (lastRepeats(last) < MOST_REPEATS) records[at + TcpWord.LAST] = last + (1 << LastPart.REPEATS_SHIFT);
    return;
  }
  records[at + TcpWord.LAST_SEQUENCE] = sequence;
  records[at + TcpWord.LAST_ACK] = ack;
  records[at + TcpWord.LAST_END] = end;
  // Flags, scale and kind stay.
  const kept = last & ~(LastPart.DIRECTION | LastPart.REPEATS | LastPart.WINDOW);
  records[at + TcpWord.LAST] = kept | (direction << LastPart.DIRECTION_SHIFT) | segment.window;
}

/** The direction of the segment seen last. */
export function lastDirection(last: number): number {
  return (last >>> LastPart.DIRECTION_SHIFT) & 1;
}

/** Its kind, one of TcpKind. */
export function lastKind(last: number): number {
  return (last & LastPart.KIND) >>> LastPart.KIND_SHIFT;
}

/** How often it was repeated, up to 7. */
export function lastRepeats(last: number): number {
  return (last & LastPart.REPEATS) >>> LastPart.REPEATS_SHIFT;
}
