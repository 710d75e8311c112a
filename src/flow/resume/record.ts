/**
 * The resume record: what is known of a packet beside its bytes when one who runs flows hands it to another in the middle of its way, so that the
 * other goes on from there: programs to the engine, and the engine to programs. It lies right before the frame, numbers most significant byte first:
 *
 *      0  length of all of it in bytes 16 | version 8 | position 8
 *      4  passes so far 8 | tunnel words 8 | ticket 16
 *      8  words 0 to 19 of the flow key: recirculation id, port, hash, priority, mark, connection (state, zone, mark, labels, tuple)
 *     88  words 45 on of the flow key: the tunnel's id, addresses, ports, flags and options; as many as said above
 *         32 bits of no meaning: room into which the frame's MAC addresses may be moved when a tag is put behind them
 *
 * Words that nothing is known of are 0: so are priority and mark in what programs hand up, and they have no tunnel. The position says how
 * far the actions are; there is one, before a look-up. The ticket is a number that the engine gives to a packet that it hands down, and that the packet brings with it when it comes up
 * again; 0 for a packet that has not been down. Each record has more passes than the one before it, so that no packet goes down and up for ever. Neighbours: datapath.ts goes on with such a packet; offload/punt writes the record as eBPF.
 */
import type { KeyPort } from '../../net/index.ts';
import { tunnelWords } from '../actions/set/attributes.ts';
import { readWord, writeWord } from '../bytes.ts';
import { MAXIMUM_RECIRCULATIONS } from '../engine/drops.ts';
import type { FlowKey } from '../key/key.ts';
import { TUNNEL_BASE_WORDS, TUNNEL_WORDS, tunnelOptionsBytes, Word } from '../key/layout.ts';

export const RESUME_VERSION = 1;

/** How far the actions are. */
export const ResumePosition = {
  /** The packet is to be looked up, under the recirculation id that the record has. */
  LOOK_UP: 0,
} as const;

/** Where things lie in a record, in bytes. */
export const ResumeByte = {
  LENGTH: 0,
  VERSION: 2,
  POSITION: 3,
  PASSES: 4,
  TUNNEL_WORDS: 5,
  TICKET: 6,
  KEY: 8,
} as const;

/** Words of the key that every record has: all before layer 2. */
const METADATA_WORDS = Word.L2;
const TUNNEL_AT = ResumeByte.KEY + METADATA_WORDS * 4;
const TAG_ROOM_BYTES = 4;
/** Length of a record without a tunnel, and the most that one can have. */
export const RESUME_BYTES = TUNNEL_AT + TAG_ROOM_BYTES;
export const MAXIMUM_RESUME_BYTES = RESUME_BYTES + TUNNEL_WORDS * 4;
const MEANINGLESS = 'bits are set that have no meaning';

/** Where a word of the key lies in a record. */
export function resumeByteOf(word: number): number {
  return word < METADATA_WORDS ? ResumeByte.KEY + word * 4 : TUNNEL_AT + (word - Word.TUNNEL) * 4;
}

/** A record as bytes that belong to somebody else. */
export interface ResumeBytes {
  readonly bytes: Uint8Array;
  readonly at: number;
  readonly length: number;
}

/** The recirculation id under which a packet is to be looked up; 0 for a record that is cut off. */
export function resumedRecirculation({ bytes, at, length }: ResumeBytes): number {
  return length < RESUME_BYTES || at < 0 || at + length > bytes.length
    ? 0
    : readWord(bytes, at + resumeByteOf(Word.RECIRC_ID));
}

/** Words of the key's tunnel; 0 without one. */
function tunnelWordsOf(key: FlowKey): number {
  return key.hasTunnel ? tunnelWords(key.words[Word.TUNNEL_FLAGS]) : 0;
}

/** The length of the record for a key, in bytes. */
export function resumeLength(key: FlowKey): number {
  return RESUME_BYTES + tunnelWordsOf(key) * 4;
}

/**
 * Write the record for a packet that is to be looked up by a key.
 * @param key its parts before layer 2, the tunnel and the number of passes are written
 * @param at where it begins; there must be room for {@link resumeLength}
 * @param ticket 16 bits
 * @returns its length in bytes
 */
export function writeResumeRecord(key: FlowKey, bytes: Uint8Array, at: number, ticket = 0): number {
  const count = tunnelWordsOf(key);
  const length = RESUME_BYTES + count * 4;
  bytes.fill(0, at, at + length);
  bytes[at + ResumeByte.LENGTH] = length >>> 8;
  bytes[at + ResumeByte.LENGTH + 1] = length & 0xff;
  bytes[at + ResumeByte.VERSION] = RESUME_VERSION;
  bytes[at + ResumeByte.POSITION] = ResumePosition.LOOK_UP;
  bytes[at + ResumeByte.PASSES] = key.recirculations;
  bytes[at + ResumeByte.TUNNEL_WORDS] = count;
  bytes[at + ResumeByte.TICKET] = ticket >>> 8;
  bytes[at + ResumeByte.TICKET + 1] = ticket & 0xff;
  for (let word = 0; word < METADATA_WORDS; word += 1) writeWord(bytes, at + resumeByteOf(word), key.words[word]);
  for (let word = Word.TUNNEL; word < Word.TUNNEL + count; word += 1) {
    writeWord(bytes, at + resumeByteOf(word), key.words[word]);
  }
  return length;
}

/** The ticket in a record; 0 for none, and for one that is cut off. */
export function resumeTicket({ bytes, at, length }: ResumeBytes): number {
  return length < RESUME_BYTES ? 0 : (bytes[at + ResumeByte.TICKET] << 8) | bytes[at + ResumeByte.TICKET + 1];
}

/**
 * Read a record into a key; its layers 2 to 4 are to be extracted.
 * @param port the number of the port that the packet came in by, which the record has to name
 * @returns null, or what is wrong with it: then the key is of no use
 */
export function readResumeRecord({ bytes, at, length }: ResumeBytes, port: KeyPort, key: FlowKey): string | null {
  if (length < RESUME_BYTES || at < 0 || at + length > bytes.length) return 'it is cut off';
  const told = (bytes[at + ResumeByte.LENGTH] << 8) | bytes[at + ResumeByte.LENGTH + 1];
  const version = bytes[at + ResumeByte.VERSION];
  const passes = bytes[at + ResumeByte.PASSES];
  const count = bytes[at + ResumeByte.TUNNEL_WORDS];
  if (version !== RESUME_VERSION) return `its version is ${version}`;
  if (bytes[at + ResumeByte.POSITION] !== ResumePosition.LOOK_UP) return 'its position is unknown';
  if (told !== length || length !== RESUME_BYTES + count * 4) return 'its lengths contradict each other';
  if (passes > MAXIMUM_RECIRCULATIONS) return 'it has too many passes';
  key.begin(port);
  const { words } = key;
  for (let word = 0; word < METADATA_WORDS; word += 1) words[word] = readWord(bytes, at + resumeByteOf(word));
  if (words[Word.IN_PORT] !== port) return 'it is of another port';
  if ((words[Word.RECIRC_ID] === 0) !== (passes === 0)) return 'passes and recirculation id contradict each other';
  key.recirculations = passes;
  if (count === 0) return null;
  // Whatever is wrong with the rest, the next packet finds no word of it.
  key.hasTunnel = true;
  if (count < TUNNEL_BASE_WORDS || count > TUNNEL_WORDS) return 'its tunnel has a wrong length';
  for (let word = Word.TUNNEL; word < Word.TUNNEL + count; word += 1) {
    words[word] = readWord(bytes, at + resumeByteOf(word));
  }
  if (tunnelWordsOf(key) !== count) return 'the options of its tunnel have a wrong length';
  const paddingBits = (count - TUNNEL_BASE_WORDS) * 32 - tunnelOptionsBytes(words[Word.TUNNEL_FLAGS]) * 8;
  const padding = paddingBits === 0 ? 0 : words[Word.TUNNEL + count - 1] & ((1 << paddingBits) - 1);
  return (words[Word.TUNNEL_FLAGS] & 0xff) === 0 && padding === 0 ? null : MEANINGLESS;
}
