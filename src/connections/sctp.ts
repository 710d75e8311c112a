/** SCTP: associations by their chunks and verification tags (RFC 9260, sections 8.4 and 8.5). The states are Linux's (SCTP_CONNTRACK_*). */
import { SctpChunkType as Chunk } from '../net/index.ts';
import { half, word } from './bytes.ts';
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

/** A heartbeat had another tag; {@link FAILED_REPLY} says that it was of the reply direction. */
const HEARTBEAT_FAILED = 1;
const FAILED_REPLY = 2;
/** INITs were seen of the original direction, and shifted by one of the reply direction. */
const INIT_SEEN = 4;

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
  const isFirst = (records[at + RecordWord.STATE] & STATE_MASK) === SctpState.NONE;
  if (!readChunks(bytes, sctp + 12, end)) return Outcome.INVALID;
  if (isFirst && !begin(records, at, bytes, sctp + 12, end, tag)) return Outcome.INVALID;
  if (!hasChunkWithTagOfItsOwn() && tag !== records[at + TAG + direction]) return Outcome.INVALID;

  let before: number = SctpState.NONE;
  let state: number = SctpState.NONE;
  let isQuiet = false;
  for (let chunk = sctp + 12; chunk + 4 <= end; chunk += chunkLength(bytes, chunk)) {
    const checked = checkTag(records, at, direction, bytes, chunk, tag, isQuiet);
    if (checked === Tag.WRONG) return Outcome.INVALID;
    if (checked === Tag.DOUBTFUL) {
      isQuiet = true;
      continue;
    }
    before = records[at + RecordWord.STATE] & STATE_MASK;
    state = nextState(direction, before, bytes[chunk]);
    if (state === SctpState.INVALID || !noteInitiation(records, at, direction, bytes, chunk, end)) {
      return Outcome.INVALID;
    }
    records[at + RecordWord.STATE] = (records[at + RecordWord.STATE] & ~STATE_MASK) | state;
    if (state !== before && state === SctpState.ESTABLISHED) records[at + RecordWord.STATUS] |= Status.ASSURED;
  }
  // An INIT that is sent again does not prolong: who reuses the port must not keep an old entry alive for ever.
  if (isQuiet || (!isFirst && before === SctpState.CLOSED && state === SctpState.CLOSED)) return Outcome.ACCEPTED;
  records[at + RecordWord.STATE] = state | ((TimeOut.SCTP + state) << TIMEOUT_SHIFT);
  records[at + RecordWord.LAST_SEEN] = now;
  return Outcome.ACCEPTED;
}

/** Note which chunks there are. @returns false when lengths lie, there are none, or some stand beside others that have to stand alone */
function readChunks(bytes: Uint8Array, first: number, end: number): boolean {
  SEEN.fill(0);
  let count = 0;
  for (let chunk = first; chunk + 4 <= end; count += 1) {
    const length = half(bytes, chunk + 2);
    if (length < 4 || chunk + length > end) return false;
    const type = bytes[chunk];
    // A cookie may only be followed, and its acknowledgment too; INIT and the end of a shutdown stand alone (RFC 9260, section 6.10).
    if ((type === Chunk.COOKIE_ACK || type === Chunk.COOKIE_ECHO) && count !== 0) return false;
    SEEN[type] = 1;
    chunk += chunkLength(bytes, chunk);
  }
  const alone = SEEN[Chunk.INIT] | SEEN[Chunk.INIT_ACK] | SEEN[Chunk.SHUTDOWN_COMPLETE];
  return count !== 0 && (alone === 0 || count === 1);
}

/** The tags that a first packet tells. What follows from an association begins none. */
function begin(records: Int32Array, at: number, bytes: Uint8Array, first: number, end: number, tag: number): boolean {
  if ((SEEN[Chunk.ABORT] | SEEN[Chunk.SHUTDOWN_COMPLETE] | SEEN[Chunk.COOKIE_ACK]) !== 0) return false;
  for (let chunk = first; chunk + 4 <= end; chunk += chunkLength(bytes, chunk)) {
    const type = bytes[chunk];
    const state = nextState(Direction.ORIGINAL, SctpState.NONE, type);
    if (state === SctpState.INVALID) return false;
    if (type === Chunk.INIT) {
      // It tells the tag that the other side has to use.
      if (tag !== 0 || chunk + 20 > end) return false;
      records[at + TAG + Direction.REPLY] = word(bytes, chunk + 4);
    } else if (type === Chunk.HEARTBEAT) records[at + TAG + Direction.ORIGINAL] = tag;
    // Who gets the end of a shutdown that it knows nothing of reflects the tag.
    else if (state !== SctpState.CLOSED) records[at + TAG + Direction.REPLY] = tag;
  }
  return true;
}

/** Whether there are chunks with rules of their own for the tag (RFC 9260, section 8.5.1): {@link checkTag} has them. */
function hasChunkWithTagOfItsOwn(): boolean {
  return (
    (SEEN[Chunk.INIT] |
      SEEN[Chunk.SHUTDOWN_COMPLETE] |
      SEEN[Chunk.COOKIE_ECHO] |
      SEEN[Chunk.ABORT] |
      SEEN[Chunk.SHUTDOWN_ACK] |
      SEEN[Chunk.HEARTBEAT] |
      SEEN[Chunk.HEARTBEAT_ACK]) !==
    0
  );
}

/** What a chunk says of the packet's tag. */
const Tag = { RIGHT: 0, WRONG: 1, DOUBTFUL: 2 } as const;

function checkTag(
  records: Int32Array,
  at: number,
  direction: number,
  bytes: Uint8Array,
  chunk: number,
  tag: number,
  wasDoubtful: boolean,
): number {
  const own = records[at + TAG + direction];
  switch (bytes[chunk]) {
    case Chunk.INIT:
      return tag === 0 ? Tag.RIGHT : Tag.WRONG;
    case Chunk.ABORT:
    case Chunk.SHUTDOWN_COMPLETE: {
      // The T bit says that the sender has no association, and reflects the tag that it got.
      const isReflected = (bytes[chunk + 1] & 1) !== 0;
      return tag === (isReflected ? records[at + TAG + 1 - direction] : own) ? Tag.RIGHT : Tag.WRONG;
    }
    case Chunk.COOKIE_ECHO:
      return tag === own ? Tag.RIGHT : Tag.WRONG;
    case Chunk.HEARTBEAT:
    case Chunk.HEARTBEAT_ACK:
      break;
    default:
      return Tag.RIGHT;
  }
  if (own === 0) {
    records[at + TAG + direction] = tag;
    return Tag.RIGHT;
  }
  if (own === tag) {
    records[at + FLAGS] &= ~HEARTBEAT_FAILED;
    return Tag.RIGHT;
  }
  if (wasDoubtful || SEEN[Chunk.DATA] !== 0) return Tag.WRONG;
  const flags = records[at + FLAGS];
  if (bytes[chunk] === Chunk.HEARTBEAT) {
    // It may be of a new association of the same ends: should it be answered, the old one is gone.
    const failed = HEARTBEAT_FAILED | (direction === Direction.REPLY ? FAILED_REPLY : 0);
    records[at + FLAGS] = (flags & ~(HEARTBEAT_FAILED | FAILED_REPLY)) | failed;
    return Tag.DOUBTFUL;
  }
  const failedDirection = (flags & FAILED_REPLY) === 0 ? Direction.ORIGINAL : Direction.REPLY;
  if ((flags & HEARTBEAT_FAILED) === 0 || failedDirection === direction) return Tag.WRONG;
  records[at + FLAGS] = flags & ~HEARTBEAT_FAILED;
  records[at + TAG + direction] = tag;
  records[at + TAG + 1 - direction] = 0;
  return Tag.RIGHT;
}

/** The tag that an INIT or its acknowledgment tells: the other side has to use it. @returns false when it contradicts what is known, or is cut */
function noteInitiation(
  records: Int32Array,
  at: number,
  direction: number,
  bytes: Uint8Array,
  chunk: number,
  end: number,
): boolean {
  const type = bytes[chunk];
  if (type !== Chunk.INIT && type !== Chunk.INIT_ACK) return true;
  if (chunk + 20 > end) return false;
  const told = word(bytes, chunk + 4);
  const known = records[at + TAG + 1 - direction];
  const own = INIT_SEEN << direction;
  const other = INIT_SEEN << (1 - direction);
  const flags = records[at + FLAGS];
  const areBoth = (flags & own) !== 0 && (flags & other) !== 0;
  if (type === Chunk.INIT) records[at + FLAGS] = (areBoth ? flags & ~other : flags) | own;
  else {
    if ((flags & other) === 0 && known !== 0 && known !== told) return false;
    // Both have begun at once: the tags are known by now.
    if (areBoth && known !== told) return false;
  }
  records[at + TAG + 1 - direction] = told;
  return true;
}

function chunkLength(bytes: Uint8Array, chunk: number): number {
  return (half(bytes, chunk + 2) + 3) & ~3;
}
