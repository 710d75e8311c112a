/**
 * The look-up: from the words of the key to an entry. With several masks, first the cache, which knows by the hash of all
 * words that any mask looks at which entry the last packet like this one fell to; then mask after mask. An entry is compared whole
 * wherever its number comes from, so that cache and index may be out of date.
 */
import { at, type Label, type ProgramBuilder, R0, R1, R2, R3, R4, R7, R8, R9, type Register } from '../../bpf/index.ts';
import { network16 } from '../actions/order.ts';
import { CACHE_SEED, MIX } from '../layout/hash.ts';
import { MAXIMUM_MASKS, PROBES } from '../layout/limits.ts';
import { ENTRY_BITS, EntryWord } from '../layout/sizes.ts';
import { Found } from './facts.ts';
import { maskedBits, type ProgramMask, type ProgramPlan } from './plan.ts';
import { keyWordName, type Stage } from './stage.ts';
import type { ProgramWriter } from './writer.ts';

/** Bits of a cache word that are the position of a mask in the program. */
const POSITION_BITS = Math.ceil(Math.log2(MAXIMUM_MASKS));

/** The look-up: goes on with packets that fall to an entry; others go up. */
export function lookupStage(plan: ProgramPlan): Stage {
  const { index, entries, cache } = plan.maps.maps;
  return {
    name: 'look-up',
    needs: [Found.CPU, Found.HEADERS],
    key: maskedBits(plan),
    gives: [Found.ENTRY, Found.NUMBER],
    maps: [index, entries, cache],
    isIdle: plan.masks.length === 0,
    emit: lookup,
  };
}

/** Where a look-up ends. */
interface Ends {
  /** R7 is the entry's address, R8 its number. */
  readonly hit: Label;
  /** The same, and the cache does not know the entry yet: R4 is the position of its mask, R9 the hash. */
  readonly found: Label;
}

function lookup(writer: ProgramWriter): void {
  const { b, plan } = writer;
  const ends: Ends = { hit: b.label('hit'), found: b.label('found') };
  const isCached = plan.masks.length > 1;
  if (isCached) cached(writer, ends);
  plan.masks.forEach((mask, i) => {
    const next = b.label(`mask ${i + 2}`);
    writer.note(`mask ${i + 1} of ${plan.masks.length}, number ${mask.number}: ${describeMask(mask)}`);
    probe(writer, mask, isCached ? i : -1, next, ends);
    b.place(next);
  });
  writer.note('no mask matches');
  b.jump(writer.punt);
  if (isCached) {
    b.place(ends.found);
    writer.note('found: the cache shall know');
    remember(writer);
  }
  b.place(ends.hit);
}

/** A mask for people: `in_port eth_type ip/ff000000`. */
export function describeMask({ index, values }: ProgramMask): string {
  if (index.length === 0) return 'nothing';
  return index
    .map((word, i) => {
      const name = keyWordName(word);
      return values[i] >>> 0 === 0xffff_ffff ? name : `${name}/${(values[i] >>> 0).toString(16)}`;
    })
    .join(' ');
}

/** R1 becomes the hash of masked words. Uses R2 and R3. */
export function emitHash(
  writer: Pick<ProgramWriter, 'b' | 'plan' | 'key'>,
  seed: number,
  index: readonly number[],
  values: ArrayLike<number>,
): void {
  const { b } = writer;
  const { secrets } = writer.plan;
  b.load64(R1, secrets.seed(seed));
  index.forEach((word, i) => {
    b.load(R2, 'u32', writer.key(word));
    if (values[i] >>> 0 !== 0xffff_ffff) b.and32(R2, values[i]);
    b.load64(R3, secrets.multiplier(word));
    b.mul(R2, R3);
    b.add(R1, R2);
  });
  b.shr(R1, 32);
  b.mov(R2, R1);
  b.shr(R2, 16);
  b.xor(R1, R2);
  b.mul32(R1, MIX);
  b.mov(R2, R1);
  b.shr(R2, 15);
  b.xor(R1, R2);
}

/** Multiply by a constant, by a shift where that does it. */
export function scale(b: ProgramBuilder, register: Register, by: number): void {
  const shift = Math.log2(by);
  if (Number.isInteger(shift)) b.shl(register, shift);
  else b.mul(register, by);
}

/** The mask's number in an entry at R7. */
const maskByte = at(R7, network16(1) === 1 ? 3 : 0);

/** R8 is an index or cache word: it becomes the entry's number, and R7 its address. */
function entryOf(writer: ProgramWriter): void {
  const { b } = writer;
  const { sizes, maps } = writer.plan.maps;
  b.and(R8, sizes.entries - 1);
  b.mov(R0, R8);
  scale(b, R0, sizes.strideBytes);
  b.loadMapValue(R7, maps.entries);
  b.add(R7, R0);
}

/** Go to `other` unless the entry at R7 is one of this mask with this packet's key. Uses R0 and R2. */
function compare(writer: ProgramWriter, mask: ProgramMask, other: Label): void {
  const { b } = writer;
  mask.index.forEach((word, i) => {
    b.load(R2, 'u32', writer.key(word));
    if (mask.values[i] >>> 0 !== 0xffff_ffff) b.and32(R2, mask.values[i]);
    b.load(R0, 'u32', at(R7, (EntryWord.KEY + i) * 4));
    b.jumpIf(R2, '!=', R0, other);
  });
}

/** @param position of the mask, for the cache; -1 when there is none */
function probe(writer: ProgramWriter, mask: ProgramMask, position: number, next: Label, ends: Ends): void {
  const { b } = writer;
  const { sizes, maps } = writer.plan.maps;
  emitHash(writer, mask.number, mask.index, mask.values);
  b.mov(R3, R1);
  b.and(R3, sizes.indexPlaces - 1);
  b.shl(R3, 2);
  b.loadMapValue(R4, maps.index);
  b.add(R3, R4);
  b.mov(R4, PROBES);
  const turn = b.label('probe');
  const miss = b.label('next place');
  b.place(turn);
  b.load(R8, 'u32', at(R3));
  b.jumpIf(R8, '==', 0, next);
  b.mov(R0, R8);
  b.xor(R0, R1);
  b.shr(R0, ENTRY_BITS);
  b.jumpIf(R0, '!=', 0, miss);
  entryOf(writer);
  b.load(R0, 'u8', maskByte);
  b.jumpIf(R0, '!=', mask.number + 1, miss);
  compare(writer, mask, miss);
  if (position === -1) b.jump(ends.hit);
  else {
    b.mov(R4, position);
    b.jump(ends.found);
  }
  b.place(miss);
  b.add(R3, 4);
  b.sub(R4, 1);
  b.jumpIf(R4, '!=', 0, turn);
}

/** R9 becomes the hash for the cache. */
function cached(writer: ProgramWriter, { hit }: Ends): void {
  const { b, plan } = writer;
  const masked = maskedBits(plan);
  writer.note('the cache: an entry by the hash of all words that some mask looks at');
  emitHash(
    writer,
    CACHE_SEED,
    masked.map(([word]) => word),
    masked.map(([, bits]) => bits),
  );
  b.mov(R9, R1);
  cachePlace(writer);
  const miss = b.label('not cached');
  b.block((likely) => {
    for (const byte of [0, 4]) {
      b.load(R8, 'u32', at(R3, byte));
      b.mov(R0, R8);
      b.xor(R0, R9);
      b.shr(R0, cacheTagShift(writer));
      if (byte === 0) b.jumpIf(R0, '==', 0, likely);
      else b.jumpIf(R0, '!=', 0, miss);
    }
  });
  // Which mask it is stands in the word itself: the processor need not wait for the entry to find the way on.
  b.mov(R1, R8);
  b.shr(R1, Math.log2(plan.maps.sizes.entries));
  b.and(R1, (1 << POSITION_BITS) - 1);
  entryOf(writer);
  // The lines of the entry and of its counters are on their way before it is known which mask it is.
  b.load(R0, 'u8', maskByte);
  touchCounters(writer);
  b.switch(
    R1,
    plan.masks.map((mask, position) => [
      position,
      () => {
        b.jumpIf(R0, '!=', mask.number + 1, miss);
        compare(writer, mask, miss);
        b.jump(hit);
      },
    ]),
  );
  b.place(miss);
}

/** Have the counters of the entry at R7 brought from memory. Uses R3. */
function touchCounters(writer: ProgramWriter): void {
  const { b } = writer;
  const { sizes } = writer.plan.maps;
  if (!sizes.hasInlineCounters) return;
  b.load(R3, 'u32', writer.slot(Found.CPU_NUMBER));
  b.and(R3, sizes.cpus - 1);
  b.shl(R3, Math.log2(sizes.inlineCounterBytes));
  b.add(R3, R7);
  b.load(R3, 'u64', at(R3, sizes.headBytes));
}

/** R3 becomes the address of the place in the cache for the hash in R9. Uses R2. */
function cachePlace(writer: ProgramWriter): void {
  const { b } = writer;
  const { sizes, maps } = writer.plan.maps;
  b.mov(R2, R9);
  b.and(R2, sizes.cacheWords / 2 - 1);
  b.shl(R2, 3);
  b.loadMapValue(R3, maps.cache);
  b.add(R3, R2);
}

/** Where the part of a cache word begins that is the hash's. */
function cacheTagShift({ plan }: ProgramWriter): number {
  return Math.log2(plan.maps.sizes.entries) + POSITION_BITS;
}

/** Note the entry R8, of the mask at position R4, in the cache under the hash in R9. */
function remember(writer: ProgramWriter): void {
  const { b } = writer;
  cachePlace(writer);
  b.load(R2, 'u32', at(R3));
  b.store('u32', at(R3, 4), R2);
  b.shr(R9, cacheTagShift(writer));
  b.shl(R9, cacheTagShift(writer));
  b.shl(R4, Math.log2(writer.plan.maps.sizes.entries));
  b.or(R9, R4);
  b.or(R9, R8);
  b.store('u32', at(R3), R9);
}
