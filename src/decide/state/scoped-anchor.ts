/**
 * An anchor for look-ups by the longest prefix: outcomes hang on it by the addresses that they are for, so that a prefix that changes meets those
 * that it concerns, and few others. They lie in a tree with a level for each byte; one that is for so many bits is at the level of its whole bytes.
 */
import { Anchor, type Dependent, endAll, type Scope, type Tie } from './observed.ts';

class Level {
  readonly parent: Level | null;
  readonly byte: number;
  /** What hangs here, threaded through the ties. */
  first: Tie | null = null;
  /** By the next byte; null while there are none. Most levels are the last. */
  below: Map<number, Level> | null = null;

  constructor(parent: Level | null, byte: number) {
    this.parent = parent;
    this.byte = byte;
  }
}

/** A byte of a value, 0 being the highest. */
function byteOf(words: ArrayLike<number>, index: number): number {
  return ((words[index >>> 2] ?? 0) >>> (24 - ((index & 3) << 3))) & 0xff;
}

/** Whether values can begin with the bits of both. */
function meets(scope: Scope, words: ArrayLike<number>, bits: number): boolean {
  const both = Math.min(scope.bits, bits);
  for (let bit = 0; bit < both; bit += 32) {
    const left = both - bit;
    const mask = left >= 32 ? -1 : left === 0 ? 0 : -1 << (32 - left);
    if (((scope.words[bit >>> 5] ^ (words[bit >>> 5] ?? 0)) & mask) !== 0) return false;
  }
  return true;
}

export class ScopedAnchor extends Anchor {
  readonly #root = new Level(null, 0);

  override tie(tie: Tie): void {
    const { scope } = tie;
    let level = this.#root;
    for (let i = 0; scope !== null && i < scope.bits >>> 3; i += 1) {
      const byte = byteOf(scope.words, i);
      level.below ??= new Map();
      let next = level.below.get(byte);
      if (next === undefined) {
        next = new Level(level, byte);
        level.below.set(byte, next);
      }
      level = next;
    }
    tie.place = level;
    tie.next = level.first;
    if (level.first !== null) level.first.before = tie;
    level.first = tie;
  }

  override untie(tie: Tie): void {
    if (!(tie.place instanceof Level)) return;
    let level: Level | null = tie.place;
    if (tie.before === null) level.first = tie.next;
    else tie.before.next = tie.next;
    if (tie.next !== null) tie.next.before = tie.before;
    for (; level !== null && level.first === null && level.below === null; level = level.parent) {
      const siblings: Map<number, Level> | null = level.parent?.below ?? null;
      siblings?.delete(level.byte);
      if (siblings?.size === 0 && level.parent !== null) level.parent.below = null;
    }
  }

  override forgetIfFree(): void {}

  /** A prefix has come, gone or changed: outcomes end that are for some of its addresses, and found no longer one (the tie's detail). */
  changedWithin(words: ArrayLike<number>, bits: number): void {
    this.version += 1;
    const ending: Dependent[] = [];
    const take = (level: Level): void => {
      for (let tie = level.first; tie !== null; tie = tie.next)
        if (tie.detail <= bits && (tie.scope === null || meets(tie.scope, words, bits))) ending.push(tie.dependent);
    };
    const takeAll = (level: Level): void => {
      take(level);
      for (const next of level.below?.values() ?? []) takeAll(next);
    };
    let level: Level | undefined = this.#root;
    for (let i = 0; level !== undefined; i += 1) {
      take(level);
      const left = bits - (i << 3);
      if (left >= 8) {
        level = level.below?.get(byteOf(words, i));
        continue;
      }
      const mask = left === 0 ? 0 : (0xff << (8 - left)) & 0xff;
      for (const [byte, next] of level.below ?? []) if (((byte ^ byteOf(words, i)) & mask) === 0) takeAll(next);
      break;
    }
    endAll(ending);
  }
}
