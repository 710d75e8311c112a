/** SCTP: associations by their chunks and verification tags (RFC 9260, sections 8.4 and 8.5). The states are Linux's (SCTP_CONNTRACK_*). */
import { word } from './bytes.ts';
import { Direction, RecordWord, STATE_MASK, Status, TIMEOUT_SHIFT } from './layout.ts';
import { Outcome } from './outcome.ts';
import { TimeOut } from './time-outs.ts';

export const SctpState = {
  NONE: 0,
  CLOSED: 1,
  COOKIE_WAIT: 2,
  COOKIE_ECHOED: 3,
  ESTABLISHED: 4,
  SHUTDOWN_SENT: 5,
  SHUTDOWN_RECD: 6,
  SHUTDOWN_ACK_SENT: 7,
  HEARTBEAT_SENT: 8,
  /** No state. */
  INVALID: 9,
} as const;

/** The names of the states, as Linux's tools write them. */
export const SCTP_STATE_NAMES: readonly string[] = [
  'NONE',
  'CLOSED',
  'COOKIE_WAIT',
  'COOKIE_ECHOED',
  'ESTABLISHED',
  'SHUTDOWN_SENT',
  'SHUTDOWN_RECD',
  'SHUTDOWN_ACK_SENT',
  'HEARTBEAT_SENT',
];

/** Chunk types that change a state, and DATA. */
const Chunk = {
  DATA: 0,
  INIT: 1,
  INIT_ACK: 2,
  HEARTBEAT: 4,
  HEARTBEAT_ACK: 5,
  ABORT: 6,
  SHUTDOWN: 7,
  SHUTDOWN_ACK: 8,
  ERROR: 9,
  COOKIE_ECHO: 10,
  COOKIE_ACK: 11,
  SHUTDOWN_COMPLETE: 14,
} as const;

/*
 * A row for each chunk, a letter for each state that the association is in:
 *
 *   - none  c CLOSED  w COOKIE_WAIT  o COOKIE_ECHOED  e ESTABLISHED  s SHUTDOWN_SENT  r SHUTDOWN_RECD  a SHUTDOWN_ACK_SENT  h HEARTBEAT_SENT  ! invalid
 */
const LETTERS = '-cwoesrah!';

const ROWS: Readonly<Record<number, readonly [original: string, reply: string]>> = {
  //                          -cwoesrah    -cwoesrah
  [Chunk.INIT]: /*         */ ['ccwoeccaw', '!cwoesra!'],
  [Chunk.INIT_ACK]: /*     */ ['ccwoesrac', '!wwoesra!'],
  [Chunk.ABORT]: /*        */ ['ccccccccc', '!ccccccc!'],
  [Chunk.SHUTDOWN]: /*     */ ['ccwossrac', '!cworsra!'],
  [Chunk.SHUTDOWN_ACK]: /* */ ['acwoeaaaa', '!cwoeaaa!'],
  [Chunk.ERROR]: /*        */ ['ccwoesrac', '!cwcesra!'],
  [Chunk.COOKIE_ECHO]: /*  */ ['ccooesrac', '!cooesra!'],
  [Chunk.COOKIE_ACK]: /*   */ ['ccweesrac', '!cweesra!'],
  [Chunk.SHUTDOWN_COMPLETE]: ['ccwoesrcc', '!cwoesrc!'],
  [Chunk.HEARTBEAT]: /*    */ ['hcwoesrah', '!cwoesrah'],
  [Chunk.HEARTBEAT_ACK]: /**/ ['hcwoesrah', '!cwoesrae'],
};

/** Words of the association: tags by direction, flags. */
const TAG = RecordWord.PROTOCOL;
const FLAGS = RecordWord.PROTOCOL + 2;

/** A heartbeat of the original direction has been answered by one with another tag. */
const HEARTBEAT_FAILED = 1;

const SEEN = new Uint8Array(256);

function nextState(direction: number, state: number, chunk: number): number {
  const row = ROWS[chunk];
  // All other chunks leave an association as it is, and begin none.
  if (row === undefined) return state === SctpState.NONE ? SctpState.INVALID : state;
  return LETTERS.indexOf(row[direction][state]);
}

/**
 * A packet of an association, or, while its state is {@link SctpState.NONE}, the one that begins it.
 * @param sctp index of the common header, 12 bytes of which are there
 * @param end index behind the packet
 * @param now a 32-bit time in milliseconds
 * @returns one of {@link Outcome}; with INVALID the record may be given back
 */
export function advanceSctp(
  records: Int32Array,
  at: number,
  direction: number,
  bytes: Uint8Array,
  sctp: number,
  end: number,
  now: number,
): number {
  const tag = word(bytes, sctp + 4);
  const oldState = records[at + RecordWord.STATE] & STATE_MASK;
  if (!readChunks(bytes, sctp + 12, end, oldState === SctpState.NONE)) return Outcome.INVALID;
  if (oldState === SctpState.NONE && !begin(records, at, bytes, sctp, end, tag)) return Outcome.INVALID;
  if (oldState !== SctpState.NONE && !isTagRight(records, at, direction, bytes, sctp, end, tag)) return Outcome.INVALID;

  let state = oldState;
  for (let chunk = sctp + 12; chunk + 4 <= end; chunk += chunkLength(bytes, chunk)) {
    const type = bytes[chunk];
    if (oldState !== SctpState.NONE && !learnTag(records, at, direction, bytes, chunk, end, tag, state)) {
      return Outcome.INVALID;
    }
    state = nextState(direction, state, type);
    if (state === SctpState.INVALID) return Outcome.INVALID;
  }
  if (state === SctpState.NONE) return Outcome.INVALID;
  records[at + RecordWord.STATE] = state | ((TimeOut.SCTP + state) << TIMEOUT_SHIFT);
  records[at + RecordWord.LAST_SEEN] = now;
  const wasEchoed = oldState === SctpState.COOKIE_ECHOED || oldState === SctpState.HEARTBEAT_SENT;
  if (wasEchoed && direction === Direction.REPLY && state === SctpState.ESTABLISHED) {
    records[at + RecordWord.STATUS] |= Status.ASSURED;
  }
  return Outcome.ACCEPTED;
}

/** Note which chunks there are. @returns false when lengths lie, there are none, or some stand beside others that have to stand alone */
function readChunks(bytes: Uint8Array, first: number, end: number, isFirst: boolean): boolean {
  SEEN.fill(0);
  let count = 0;
  for (let chunk = first; chunk + 4 <= end; count += 1) {
    const length = (bytes[chunk + 2] << 8) | bytes[chunk + 3];
    if (length < 4 || chunk + length > end) return false;
    const type = bytes[chunk];
    // A cookie may only be followed, and its acknowledgment too; INIT and the end of a shutdown stand alone (RFC 9260, section 6.10).
    if ((type === Chunk.COOKIE_ACK || type === Chunk.COOKIE_ECHO) && count !== 0) return false;
    SEEN[type] = 1;
    chunk += chunkLength(bytes, chunk);
  }
  const alone = SEEN[Chunk.INIT] | SEEN[Chunk.INIT_ACK] | SEEN[Chunk.SHUTDOWN_COMPLETE];
  if (count === 0 || (alone !== 0 && count > 1)) return false;
  // An abort or what follows from an association begins none.
  return !isFirst || (SEEN[Chunk.ABORT] | SEEN[Chunk.SHUTDOWN_COMPLETE] | SEEN[Chunk.COOKIE_ACK]) === 0;
}

/** The tags that a first packet tells: an INIT tells the one that the other side has to use. */
function begin(records: Int32Array, at: number, bytes: Uint8Array, sctp: number, end: number, tag: number): boolean {
  if (SEEN[Chunk.INIT] !== 0) {
    if (tag !== 0 || sctp + 20 > end) return false;
    records[at + TAG + Direction.REPLY] = word(bytes, sctp + 16);
    return records[at + TAG + Direction.REPLY] !== 0;
  }
  // A heartbeat, of a path that is tried, or what belongs to an association from before: the sender's tag is known.
  records[at + TAG + Direction.ORIGINAL] = tag;
  return tag !== 0 || SEEN[Chunk.HEARTBEAT] !== 0;
}

/** Whether the packet has the tag of its direction, or that of the other where its chunks may have it. */
function isTagRight(
  records: Int32Array,
  at: number,
  direction: number,
  bytes: Uint8Array,
  sctp: number,
  end: number,
  tag: number,
): boolean {
  if (SEEN[Chunk.INIT] !== 0) return tag === 0;
  const own = records[at + TAG + direction];
  const other = records[at + TAG + 1 - direction];
  if (SEEN[Chunk.ABORT] !== 0 || SEEN[Chunk.SHUTDOWN_COMPLETE] !== 0) {
    // The T bit says that the sender has no association, and reflects the tag that it got.
    const isReflected = sctp + 14 <= end && (bytes[sctp + 13] & 1) !== 0;
    return tag === (isReflected ? other : own);
  }
  if (SEEN[Chunk.COOKIE_ECHO] !== 0) return tag === own;
  const isOfHeartbeat = (SEEN[Chunk.HEARTBEAT] | SEEN[Chunk.HEARTBEAT_ACK]) !== 0;
  return tag === own || own === 0 || isOfHeartbeat;
}

/** What a chunk tells of tags. @returns false when it contradicts what is known */
function learnTag(
  records: Int32Array,
  at: number,
  direction: number,
  bytes: Uint8Array,
  chunk: number,
  end: number,
  tag: number,
  state: number,
): boolean {
  const type = bytes[chunk];
  if (type === Chunk.INIT || type === Chunk.INIT_ACK) {
    if (chunk + 8 > end) return false;
    const initiated = word(bytes, chunk + 4);
    const isRestart = type === Chunk.INIT && state === SctpState.CLOSED;
    // What the one side says with its INIT the other has to use from then on.
    if (type === Chunk.INIT_ACK || isRestart || state === SctpState.COOKIE_WAIT || state === SctpState.HEARTBEAT_SENT) {
      records[at + TAG + 1 - direction] = initiated;
    }
    if (isRestart) records[at + TAG + direction] = 0;
    return initiated !== 0;
  }
  if (type === Chunk.HEARTBEAT) {
    if (records[at + TAG + direction] === 0) records[at + TAG + direction] = tag;
    else if (records[at + TAG + direction] !== tag) {
      // A heartbeat with another tag may be a new association of the same ends: should it be answered with that tag, the old one is gone.
      records[at + FLAGS] |= HEARTBEAT_FAILED;
    }
    return true;
  }
  if (type === Chunk.HEARTBEAT_ACK) {
    const known = records[at + TAG + direction];
    if (known === 0 || (records[at + FLAGS] & HEARTBEAT_FAILED) !== 0) {
      records[at + TAG + direction] = tag;
      records[at + FLAGS] &= ~HEARTBEAT_FAILED;
      return true;
    }
    return known === tag;
  }
  if (records[at + TAG + direction] === 0) records[at + TAG + direction] = tag;
  return true;
}

function chunkLength(bytes: Uint8Array, chunk: number): number {
  return (((bytes[chunk + 2] << 8) | bytes[chunk + 3]) + 3) & ~3;
}
