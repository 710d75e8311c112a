/**
 * TCP as eBPF: segments of established connections that only acknowledge, with data or without. Rules, and what is learned from a segment, are those of tcp.ts
 * and tcp-window.ts of connections/. Whatever may change the connection's state, and whatever is odd, is the engine's.
 *
 * Words of a record are stored one by one, as the engine and programs on other CPUs read and write them at the same time. Flags are changed atomically. The state, and the word of the last segment,
 * are stored only if they are still what this program has read: what the engine has decided meanwhile holds. Numbers of the windows only grow, and the next segment of the same direction makes up
 * for one that was lost.
 */
import {
  type Address,
  at,
  type Label,
  type ProgramBuilder,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  R8,
  R9,
  type Register,
} from '../../bpf/index.ts';
import {
  ControlWord,
  LastPart,
  MAXIMUM_REPEATS,
  MOST_REPEATS,
  OLDEST_ACK,
  OptionShift,
  POLICY_WORDS,
  RecordWord,
  Settings,
  Side,
  SideFlag,
  STATE_MASK,
  Status,
  TcpKind,
  TcpState,
  TcpWord,
  TIMEOUT_SHIFT,
  TimeOut,
} from '../../connections/index.ts';
import { TcpFlag } from '../../net/index.ts';
import { type ConnectionCode, emitPacket, ofRecord, type TrackSlots } from './code.ts';
import { emitStillThere, orderLoads } from './look-up.ts';

/** Where things lie in a TCP header. */
const TcpByte = { SEQUENCE: 4, ACKNOWLEDGMENT: 8, FLAGS: 12, WINDOW: 14, OPTIONS: 20 } as const;
const HEADER_BYTES = 20;

/** Options as senders write them: two paddings, then a time stamp of 10 bytes, or selective acknowledgments of 2 bytes and 8 for each. */
const TIME_STAMP_OPTION = 0x0101_080a;
const SELECTIVE_OPTION = 0x0101_05;
const TIME_STAMP_BYTES = 12;
const MOST_EDGES = 4;
/** Further ahead of the edge before, and so of the acknowledgment, than windows allow. */
const FAR = 0x0fff_ffff;

/** Flags that say what a segment is to the state machine. */
const KIND_FLAGS = TcpFlag.FIN | TcpFlag.SYN | TcpFlag.RST | TcpFlag.ACK;

/**
 * Go through the state machine: R2 becomes the record's state word. The transport header is at R8, the record at R9; the slots of status, length and entry
 * are filled; that of the state becomes newer. R0 to R5 are lost.
 * @param up where packets go that the engine is to judge
 */
export function emitTcp(code: ConnectionCode, slots: TrackSlots, up: Label): void {
  const { b } = code;
  code.note('TCP: established on both sides, and only an acknowledgment');
  b.load(R1, 'u32', slots.status);
  b.and(R1, Status.ASSURED);
  b.jumpIf(R1, '==', 0, up);
  // The engine stores the state before the last segment: what is read in the other order belongs together.
  b.load(R1, 'u32', ofRecord(TcpWord.LAST));
  b.store('u32', slots.last, R1);
  orderLoads(b, slots);
  b.load(R1, 'u32', ofRecord(RecordWord.STATE));
  b.store('u32', slots.state, R1);
  b.and(R1, STATE_MASK);
  b.jumpIf(R1, '!=', TcpState.ESTABLISHED, up);
  readSegment(code, slots, up);
  sides(b, slots);
  code.note('within the windows of both sides');
  const outside = b.label('outside');
  const settle = b.label('settled');
  checkWindow(b, slots, outside);
  emitStillThere(code, slots, up);
  learn(code, slots);
  b.jump(settle);

  b.place(outside);
  code.note('outside: only where that does not matter, and nothing is to be learned');
  mayBeOutside(b, slots, up);
  emitStillThere(code, slots, up);
  b.load(R3, 'u32', slots.last);
  b.mov(R5, 0);
  b.place(settle);
  code.note('how long it may last now');
  settled(code, slots);
}

/** Fill the slots of the segment. */
function readSegment(code: ConnectionCode, slots: TrackSlots, up: Label): void {
  const { b } = code;
  emitPacket(code, R0, R5);
  b.needBytes(R8, R5, HEADER_BYTES, R0, up);
  b.loadNetwork(R4, 'u16', at(R8, TcpByte.FLAGS));
  b.mov(R1, R4);
  b.and(R1, KIND_FLAGS);
  b.jumpIf(R1, '!=', TcpFlag.ACK, up);
  // R4: bytes of the header.
  b.shr(R4, 12);
  b.shl(R4, 2);
  b.loadNetwork(R1, 'u32', at(R8, TcpByte.SEQUENCE));
  b.store('u32', slots.sequence, R1);
  b.load(R2, 'u32', slots.length);
  b.add32(R1, R2);
  b.sub32(R1, R4);
  b.store('u32', slots.end, R1);
  b.loadNetwork(R1, 'u16', at(R8, TcpByte.WINDOW));
  b.store('u32', slots.window, R1);
  b.loadNetwork(R3, 'u32', at(R8, TcpByte.ACKNOWLEDGMENT));
  b.store('u32', slots.acknowledgment, R3);
  b.block((known) => {
    b.jumpIf(R4, '==', HEADER_BYTES, known);
    // Whether the receiver of this segment has said that it understands selective acknowledgments.
    b.load(R1, 'u32', ofRecord(TcpWord.OPTIONS));
    flagsShift(b, slots, R2, 'other');
    b.shr32(R1, R2);
    b.and(R1, SideFlag.SACK_PERMITTED);
    b.jumpIf(R1, '==', 0, known);
    readOptions(b, up, known);
  });
  b.store('u32', slots.selective, R3);
}

/** R3 becomes the highest number that is acknowledged, selectively or not. R8 is the header, R5 the packet's end, R4 the header's length. */
function readOptions(b: ProgramBuilder, up: Label, known: Label): void {
  b.needBytes(R8, R5, TcpByte.OPTIONS + TIME_STAMP_BYTES, R0, up);
  b.loadNetwork(R1, 'u32', at(R8, TcpByte.OPTIONS));
  b.block((noStamp) => {
    b.jumpIf(R1, '!=', TIME_STAMP_OPTION, noStamp);
    const from = TcpByte.OPTIONS + TIME_STAMP_BYTES;
    b.jumpIf(R4, '==', from, known);
    b.needBytes(R8, R5, from + 4, R0, up);
    b.loadNetwork(R1, 'u32', at(R8, from));
    readEdges(b, from, up, known);
  });
  readEdges(b, TcpByte.OPTIONS, up, known);
}

/** Selective acknowledgments, the option in R1, up to the end of the header. Uses R0 to R2. */
function readEdges(b: ProgramBuilder, from: number, up: Label, known: Label): void {
  b.mov(R2, R1);
  b.and(R2, 0xff);
  b.add(R2, from + 2);
  b.jumpIf(R2, '!=', R4, up);
  b.shr(R1, 8);
  b.jumpIf(R1, '!=', SELECTIVE_OPTION, up);
  for (let i = 1; from + 4 + i * 8 <= 60 && i <= MOST_EDGES; i += 1) {
    const end = from + 4 + i * 8;
    b.jumpIf(R4, '<', end, up);
    b.needBytes(R8, R5, end, R0, up);
    b.loadNetwork(R1, 'u32', at(R8, end - 4));
    b.mov32(R2, R1);
    b.sub32(R2, R3);
    b.if32(R2, 's>', 0, () => {
      b.jumpIf32(R2, 's>', FAR, up);
      b.mov32(R3, R1);
    });
    b.jumpIf(R4, '==', end, known);
  }
  b.jump(up);
}

/** `register` becomes the place of the flags of the packet's direction, or of the other one, in the word of options. */
function flagsShift(b: ProgramBuilder, { entry }: TrackSlots, register: Register, whose: 'own' | 'other'): void {
  b.load(register, 'u64', entry);
  if (whose === 'other') b.xor(register, 1);
  b.and(register, 1);
  b.mul(register, OptionShift.FLAGS_BITS);
  b.add(register, OptionShift.FLAGS);
}

/** R4 becomes the address of the sender's words, less the place of the first, and R5 that of the receiver's. Uses R0. */
function sides(b: ProgramBuilder, { entry }: TrackSlots): void {
  b.load(R0, 'u64', entry);
  b.and(R0, 1);
  b.mul(R0, Side.WORDS * 4);
  b.mov(R4, R9);
  b.add(R4, R0);
  b.xor(R0, Side.WORDS * 4);
  b.mov(R5, R9);
  b.add(R5, R0);
}

function ofSide(side: Register, word: number): Address {
  return at(side, (RecordWord.PROTOCOL + word) * 4);
}

/** Go to `label` unless R0 - R1 - 1, 32 bits, is below zero: unless what R0 holds comes before what is behind R1. */
function unlessUpTo(b: ProgramBuilder, label: Label): void {
  b.sub32(R0, R1);
  b.sub32(R0, 1);
  b.jumpIf32(R0, 's>=', 0, label);
}

/** Goes on with segments from which something is to be learned. A sender whose window nobody has seen is the engine's: it is outside, and not liberal. */
function checkWindow(b: ProgramBuilder, slots: TrackSlots, outside: Label): void {
  b.load(R1, 'u32', ofSide(R4, Side.WINDOW));
  b.jumpIf(R1, '==', 0, outside);
  b.load(R0, 'u32', slots.sequence);
  b.load(R1, 'u32', ofSide(R4, Side.HIGHEST_END));
  unlessUpTo(b, outside);
  b.load(R0, 'u32', slots.selective);
  b.load(R1, 'u32', ofSide(R5, Side.END));
  unlessUpTo(b, outside);
  // Not older than the receiver's window.
  b.load(R2, 'u32', ofSide(R5, Side.WINDOW));
  b.if(R2, '!=', 0, () => {
    b.load(R0, 'u32', ofSide(R4, Side.END));
    b.sub32(R0, R2);
    b.load(R1, 'u32', slots.end);
    unlessUpTo(b, outside);
  });
  // Nor is what it acknowledges.
  b.load(R0, 'u32', ofSide(R5, Side.END));
  b.load(R1, 'u32', ofSide(R4, Side.WINDOW));
  b.if32(R1, 's<', OLDEST_ACK, () => b.mov(R1, OLDEST_ACK));
  b.sub32(R0, R1);
  b.load(R1, 'u32', slots.selective);
  unlessUpTo(b, outside);
}

/** Of a liberal connection segments pass that are outside. Some that are just beyond the window tell something, which the engine finds out. */
function mayBeOutside(b: ProgramBuilder, slots: TrackSlots, up: Label): void {
  b.load(R1, 'u32', ofSide(R4, Side.WINDOW));
  b.jumpIf(R1, '==', 0, up);
  b.load(R1, 'u32', ofRecord(TcpWord.OPTIONS));
  flagsShift(b, slots, R2, 'own');
  b.shr32(R1, R2);
  b.and(R1, SideFlag.LIBERAL);
  b.jumpIf(R1, '==', 0, up);
  b.block((leave) => {
    b.load(R0, 'u32', slots.sequence);
    b.load(R1, 'u32', ofSide(R4, Side.HIGHEST_END));
    b.sub32(R0, R1);
    b.sub32(R0, 1);
    b.jumpIf32(R0, 's<', 0, leave);
    b.load(R0, 'u32', slots.end);
    b.sub32(R0, R1);
    b.add32(R0, 1);
    b.load(R1, 'u32', ofSide(R5, Side.WINDOW));
    b.jumpIf32(R0, '<=', R1, up);
  });
}

/** What the segment says about the windows: `learn` of the tracker's windows. */
function learn(code: ConnectionCode, slots: TrackSlots): void {
  const { b } = code;
  /** Flags of the sender that are to be set. */
  const flags = b.stack(4);
  b.mov(R3, SideFlag.HIGHEST_ACK_SET);
  // R2: the window, scaled as the sender has said.
  b.load(R0, 'u64', slots.entry);
  b.and(R0, 1);
  b.mul(R0, OptionShift.SCALE_BITS);
  b.load(R1, 'u32', ofRecord(TcpWord.OPTIONS));
  b.shr32(R1, R0);
  b.and(R1, 0xf);
  b.load(R2, 'u32', slots.window);
  b.shl32(R2, R1);

  b.load(R0, 'u32', slots.selective);
  b.load(R1, 'u32', slots.acknowledgment);
  b.sub32(R0, R1);
  b.add32(R0, R2);
  b.load(R1, 'u32', ofSide(R4, Side.WINDOW));
  b.if32(R1, 's<', R0, () => b.store('u32', ofSide(R4, Side.WINDOW), R0));

  b.load(R0, 'u32', slots.end);
  b.load(R1, 'u32', ofSide(R4, Side.END));
  b.sub32(R1, R0);
  b.if32(R1, 's<', 0, () => {
    b.store('u32', ofSide(R4, Side.END), R0);
    b.or(R3, SideFlag.UNACKNOWLEDGED);
  });
  b.store('u32', flags, R3);

  // A segment that goes beyond what the receiver has allowed: its window was larger than what is known of it.
  b.load(R1, 'u32', ofSide(R4, Side.HIGHEST_END));
  b.sub32(R0, R1);
  b.if32(R0, 's>', 0, () => {
    b.load(R1, 'u32', ofSide(R5, Side.WINDOW));
    b.if(R1, '!=', 0, () => {
      b.add32(R1, R0);
      b.store('u32', ofSide(R5, Side.WINDOW), R1);
    });
  });

  b.load(R0, 'u32', slots.selective);
  b.load(R1, 'u32', ofSide(R5, Side.HIGHEST_END));
  b.add32(R0, R2);
  b.sub32(R1, 1);
  b.sub32(R1, R0);
  b.if32(R1, 's<', 0, () => {
    // A window of 0 counts as 1.
    b.if(R2, '==', 0, () => b.add32(R0, 1));
    b.store('u32', ofSide(R5, Side.HIGHEST_END), R0);
  });
  acknowledge(b, slots, flags);
  countRepeat(b, slots);
}

/** The highest acknowledgment of the sender, its flags, and whether all of the receiver's data is acknowledged. R4 and R5 are the sides. */
function acknowledge(b: ProgramBuilder, slots: TrackSlots, flags: Address): void {
  flagsShift(b, slots, R2, 'own');
  b.load(R3, 'u32', ofRecord(TcpWord.OPTIONS));
  b.load(R0, 'u32', slots.acknowledgment);
  b.block((leave) => {
    const first = b.label('first acknowledgment');
    b.mov32(R1, R3);
    b.shr32(R1, R2);
    b.and(R1, SideFlag.HIGHEST_ACK_SET);
    b.jumpIf(R1, '==', 0, first);
    b.load(R1, 'u32', ofSide(R4, Side.HIGHEST_ACK));
    b.sub32(R1, R0);
    b.jumpIf32(R1, 's>=', 0, leave);
    b.place(first);
    b.store('u32', ofSide(R4, Side.HIGHEST_ACK), R0);
  });
  b.load(R1, 'u32', flags);
  b.shl32(R1, R2);
  // R2: those that are not set yet.
  b.mov32(R2, R3);
  b.and32(R2, R1);
  b.if(R2, '!=', R1, () => b.atomic('or', 'u32', ofRecord(TcpWord.OPTIONS), R1));
  b.load(R1, 'u32', ofSide(R5, Side.END));
  b.if(R0, '==', R1, () => {
    flagsShift(b, slots, R2, 'other');
    b.mov(R1, SideFlag.UNACKNOWLEDGED);
    b.shl32(R1, R2);
    b.and32(R3, R1);
    b.if(R3, '!=', 0, () => {
      b.xor32(R1, -1);
      b.atomic('and', 'u32', ofRecord(TcpWord.OPTIONS), R1);
    });
  });
}

/** What a record keeps of the last segment beside {@link TcpWord.LAST}. */
function lastWords(slots: TrackSlots) {
  return [
    [TcpWord.LAST_SEQUENCE, slots.sequence],
    [TcpWord.LAST_ACK, slots.acknowledgment],
    [TcpWord.LAST_END, slots.end],
  ] as const;
}

/**
 * The same acknowledgment again and again: the other side is gone, or does not hear. R3 becomes the word of the last segment, without its kind and direction, and R5 whether it is another segment: 1 or 0.
 */
function countRepeat(b: ProgramBuilder, slots: TrackSlots): void {
  const words = lastWords(slots);
  b.load(R3, 'u32', slots.last);
  b.mov(R5, 0);
  b.load(R2, 'u64', slots.entry);
  b.and(R2, 1);
  b.block((leave) => {
    const another = b.label('another segment');
    b.mov(R0, R3);
    b.shr(R0, LastPart.DIRECTION_SHIFT);
    b.and(R0, 1);
    b.jumpIf(R0, '!=', R2, another);
    for (const [word, slot] of words) {
      b.load(R0, 'u32', ofRecord(word));
      b.load(R1, 'u32', slot);
      b.jumpIf(R0, '!=', R1, another);
    }
    b.mov(R0, R3);
    b.and(R0, LastPart.WINDOW);
    b.load(R1, 'u32', slots.window);
    b.jumpIf(R0, '!=', R1, another);
    b.mov(R0, R3);
    b.and(R0, LastPart.REPEATS);
    b.if(R0, '!=', MOST_REPEATS << LastPart.REPEATS_SHIFT, () => b.add(R3, 1 << LastPart.REPEATS_SHIFT));
    b.jump(leave);

    b.place(another);
    b.mov(R5, 1);
    b.and32(R3, ~(LastPart.DIRECTION | LastPart.REPEATS | LastPart.WINDOW));
    b.load(R1, 'u32', slots.window);
    b.or(R3, R1);
  });
}

/** The segment is one of the connection: R2 becomes its state word. R3 and R5 are what `countRepeat` has left. `settle` of tcp.ts. */
function settled({ b, maps }: ConnectionCode, slots: TrackSlots): void {
  b.load(R2, 'u64', slots.entry);
  b.and(R2, 1);
  b.shl(R2, LastPart.DIRECTION_SHIFT);
  b.and32(R3, ~(LastPart.KIND | LastPart.DIRECTION));
  b.or32(R3, R2);
  b.or32(R3, TcpKind.ACK << LastPart.KIND_SHIFT);
  b.block((leave) => {
    b.load(R1, 'u32', slots.last);
    b.if(R3, '!=', R1, () => {
      b.mov(R0, R1);
      b.atomic('cmpxchg', 'u32', ofRecord(TcpWord.LAST), R3);
      // The engine has seen another segment meanwhile, which may have ended the connection: that one is the last.
      b.jumpIf(R0, '!=', R1, leave);
    });
    b.jumpIf(R5, '==', 0, leave);
    for (const [word, slot] of lastWords(slots)) {
      b.load(R0, 'u32', slot);
      b.store('u32', ofRecord(word), R0);
    }
  });

  // R4: the row of the policy, less the place of the first.
  b.load(R1, 'u32', ofRecord(RecordWord.SETTINGS));
  b.and(R1, Settings.POLICY);
  b.mul(R1, POLICY_WORDS * 4);
  b.loadMapValue(R4, maps.control);
  b.add(R4, R1);
  const timeOut = (dst: Register, place: number) => b.load(dst, 'u32', at(R4, (ControlWord.POLICIES + place) * 4));
  const state = TcpState.ESTABLISHED;
  timeOut(R5, TimeOut.TCP + state);
  b.mov(R2, state | ((TimeOut.TCP + state) << TIMEOUT_SHIFT));
  b.block((leave) => {
    /** It is this one, if that is shorter than the state's own. */
    const shorter = (place: number, otherwise: Label) => {
      timeOut(R1, place);
      b.jumpIf(R5, '<=', R1, otherwise);
      b.mov(R2, state | (place << TIMEOUT_SHIFT));
      b.jump(leave);
    };
    const few = b.label('few repeats');
    b.mov(R0, R3);
    b.and(R0, LastPart.REPEATS);
    b.jumpIf(R0, '<', MAXIMUM_REPEATS << LastPart.REPEATS_SHIFT, few);
    shorter(TimeOut.TCP_RETRANSMITTED, few);
    b.place(few);
    const open = b.label('all is acknowledged');
    b.load(R0, 'u32', ofRecord(TcpWord.OPTIONS));
    b.and(R0, eitherSide(SideFlag.UNACKNOWLEDGED));
    b.jumpIf(R0, '==', 0, open);
    shorter(TimeOut.TCP_UNACKNOWLEDGED, open);
    b.place(open);
    b.and(R3, LastPart.WINDOW);
    b.jumpIf(R3, '!=', 0, leave);
    shorter(TimeOut.TCP_RETRANSMITTED, leave);
  });
}

/** A flag in the word of options, of both sides. */
export function eitherSide(flag: number): number {
  return [0, 1].reduce((bits, side) => bits | (flag << (OptionShift.FLAGS + side * OptionShift.FLAGS_BITS)), 0);
}
