/** Keys as runs without their zeros, for the heap: a bitmap of four words that says which key words follow. */
import { KEY_WORDS } from '../key/layout.ts';

const BITMAP_WORDS = Math.ceil(KEY_WORDS / 32);

/** Longest sparse form in words. */
export const SPARSE_MAXIMUM = BITMAP_WORDS + KEY_WORDS;

/** @returns how many words were written */
export function packSparse(key: Uint32Array, into: Int32Array): number {
  for (let i = 0; i < BITMAP_WORDS; i += 1) into[i] = 0;
  let count = BITMAP_WORDS;
  for (let i = 0; i < KEY_WORDS; i += 1) {
    if (key[i] === 0) continue;
    into[i >>> 5] |= 1 << (i & 31);
    into[count] = key[i];
    count += 1;
  }
  return count;
}

export function unpackSparse(words: Int32Array, offset: number, into: Uint32Array): void {
  let next = offset + BITMAP_WORDS;
  for (let i = 0; i < KEY_WORDS; i += 1) {
    if (((words[offset + (i >>> 5)] >>> (i & 31)) & 1) === 1) {
      into[i] = words[next];
      next += 1;
    } else {
      into[i] = 0;
    }
  }
}
