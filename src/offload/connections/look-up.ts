/**
 * The look-up of a connection as eBPF: both buckets of the packet's tuple, in the order in which entries may move. The engine may end the connection
 * or begin another meanwhile: what was read holds if the record's kind and id are afterwards what they were before. connections/README.md says what
 * readers may rely on.
 */
import { at, type Label, type ProgramBuilder, R0, R1, R2, R3, R4, R5, R7, R9, type Register } from '../../bpf/index.ts';
import {
  BUCKET_WORDS,
  bucketsFor,
  ENTRY_MASK,
  Kind,
  RECORD_WORDS,
  RecordWord,
  TAG_SHIFT,
  TUPLE_WORDS,
  TupleWord,
} from '../../connections/index.ts';
import { Word } from '../../flow/index.ts';
import { type ConnectionCode, ofRecord, type TrackSlots } from './code.ts';

/**
 * Find the connection of the hash in R0: R9 becomes the address of its record, and the slots of entry, id and original ports are filled. R7 is the CPU's
 * part of `cpus`. R0 to R5 are lost.
 * @param unknown where packets go of which there is no connection
 */
export function emitFind(code: ConnectionCode, slots: TrackSlots, unknown: Label): void {
  const { b, maps } = code;
  const found = b.label('the tuple is the same');
  code.note('both buckets of the tuple');
  // The verifier sees by the number of buckets that what is read lies in the index.
  const toOffset = (register: Register) => {
    b.mul(register, bucketsFor(maps.capacity));
    b.shr(register, 32);
    b.shl(register, Math.log2(BUCKET_WORDS * 4));
  };
  b.mov(R1, R0);
  b.mul32(R1, 0x9e37_79b1);
  toOffset(R1);
  b.store('u64', slots.secondBucket, R1);
  b.mov32(R9, R0);
  b.shl32(R9, TAG_SHIFT);
  toOffset(R0);
  b.mov(R2, R0);
  searchBucket(code, slots, found);
  b.load(R2, 'u64', slots.secondBucket);
  searchBucket(code, slots, found);
  b.jump(unknown);

  b.place(found);
  b.load(R0, 'u64', slots.entry);
  recordOf(code, R9, R0, unknown);
  orderLoads(b, slots);
  b.load(R1, 'u32', ofRecord(RecordWord.KIND));
  b.load(R2, 'u32', slots.kind);
  b.jumpIf(R1, '!=', R2, unknown);
  b.load(R1, 'u32', ofRecord(RecordWord.ID));
  b.load(R2, 'u32', slots.id);
  b.jumpIf(R1, '!=', R2, unknown);
}

/**
 * Before something is stored in the record: a program may be interrupted for longer than a freed record rests, and this one may be another connection by now. Uses R0 and R1.
 * @param gone where packets go whose record is another connection
 */
export function emitStillThere({ b }: ConnectionCode, slots: TrackSlots, gone: Label): void {
  b.load(R0, 'u32', ofRecord(RecordWord.ID));
  b.load(R1, 'u32', slots.id);
  b.jumpIf(R0, '!=', R1, gone);
}

/** `dst` becomes the address of the record of the entry in R0. Uses R1. */
function recordOf({ b, maps }: ConnectionCode, dst: Register, entry: Register, unknown: Label): void {
  b.mov(R1, entry);
  b.shr(R1, 1);
  b.jumpIf(R1, '>', maps.capacity, unknown);
  emitRecord(b, maps.records, dst, R1);
}

/** `dst` becomes the address of a record; its number in `number`, which the verifier knows to be one of the table, is lost. */
export function emitRecord(
  b: ProgramBuilder,
  records: ConnectionCode['maps']['records'],
  dst: Register,
  number: Register,
): void {
  b.mul(number, RECORD_WORDS * 4);
  b.loadMapValue(dst, records);
  b.add(dst, number);
}

/** Loads before this are done before those behind it. x86 does them in order anyway. Uses R1. */
export function orderLoads(b: ProgramBuilder, { id }: TrackSlots): void {
  if (process.arch === 'x64') return;
  b.mov(R1, 0);
  b.atomic('fetch_or', 'u32', id, R1);
}

/** Look through the bucket at the offset in R2. The tag of the hash is in R9. */
function searchBucket(code: ConnectionCode, slots: TrackSlots, found: Label): void {
  const { b, maps, key } = code;
  b.loadMapValue(R4, maps.index);
  b.add(R4, R2);
  b.mov(R5, BUCKET_WORDS);
  const turn = b.label('place');
  const next = b.label('next place');
  b.place(turn);
  b.load(R0, 'u32', at(R4));
  b.mov32(R1, R0);
  b.xor32(R1, R9);
  b.shr32(R1, TAG_SHIFT);
  b.jumpIf(R1, '!=', 0, next);
  b.and(R0, ENTRY_MASK);
  // Record 0 is no connection, nor is an empty place.
  b.jumpIf(R0, '<=', 1, next);
  recordOf(code, R3, R0, next);
  b.load(R1, 'u32', at(R3, RecordWord.KIND * 4));
  b.load(R2, 'u32', slots.kind);
  b.jumpIf(R1, '!=', R2, next);
  b.store('u64', slots.entry, R0);
  b.load(R1, 'u32', at(R3, RecordWord.ID * 4));
  b.store('u32', slots.id, R1);
  // Of all words of a tuple this is the one that is used otherwise when the record is freed.
  b.load(R1, 'u32', at(R3, RecordWord.ORIGINAL * 4));
  b.store('u32', slots.originalPorts, R1);
  b.and(R0, 1);
  b.mul(R0, TUPLE_WORDS * 4);
  b.add(R3, R0);
  const place = (word: number) => at(R3, (RecordWord.ORIGINAL + word) * 4);
  b.load(R0, 'u32', place(TupleWord.PORTS));
  b.load(R1, 'u32', slots.ports);
  b.xor(R0, R1);
  /** Differences gather in R0. */
  const differ = (tupleWord: number, keyWord: number) => {
    b.load(R1, 'u32', place(tupleWord));
    b.load(R2, 'u32', key(keyWord, R7));
    b.xor(R1, R2);
    b.or(R0, R1);
  };
  b.load(R1, 'u32', slots.kind);
  b.and(R1, Kind.IPV6);
  b.if(
    R1,
    '!=',
    0,
    () => {
      for (let i = 0; i < 8; i += 1) differ(TupleWord.SOURCE + i, Word.IPV6_SOURCE + i);
    },
    () => {
      differ(TupleWord.SOURCE, Word.IPV4_SOURCE);
      differ(TupleWord.DESTINATION, Word.IPV4_DESTINATION);
    },
  );
  b.jumpIf(R0, '==', 0, found);
  b.place(next);
  b.add(R4, 4);
  b.sub(R5, 1);
  b.jumpIf(R5, '!=', 0, turn);
}
