/**
 * A heap of 32-bit words for what has no fixed length in a flow: action lists and unmasked keys. Blocks are runs in one array,
 * their sizes powers of two, with a list of free blocks for each size. Block contents never change while the block is in use.
 *
 * While somebody reads (the engine running an action list whose output may delete that very flow) freed blocks wait; so a
 * reader may keep the array and the offset that it began with, even when the heap grows under it.
 */

/** Smallest block, and how many sizes there are: 4 words to 64 Ki words. */
const SMALLEST_SHIFT = 2;
const CLASSES = 15;
const INITIAL_WORDS = 1024;

/** Words of the longest content of a block. */
export const HEAP_BLOCK_MAXIMUM = (1 << (SMALLEST_SHIFT + CLASSES - 1)) - 1;

export class WordHeap {
  /** Replaced when the heap grows or is written anew: read it anew after anything that may allocate. */
  words: Int32Array;
  /** Words handed out, headers and rounding included. */
  usedWords = 0;
  #end = 1;
  /** For each size the first free block, 0 for none; a free block's first word is the next one. */
  readonly #free = new Int32Array(CLASSES);
  #readers = 0;
  readonly #waiting: number[] = [];

  constructor() {
    this.words = new Int32Array(INITIAL_WORDS);
  }

  /** Whether somebody reads, so that blocks have to stay where they are. */
  get isRead(): boolean {
    return this.#readers > 0;
  }

  /**
   * Begin afresh in memory of the size that is wanted. Nobody reads.
   * @param move called once with the former words, to store again what stays
   */
  renew(move: (former: Int32Array) => void): void {
    const former = this.words;
    this.words = new Int32Array(INITIAL_WORDS);
    this.usedWords = 0;
    this.#end = 1;
    this.#free.fill(0);
    move(former);
  }

  /**
   * A copy of `count` words.
   * @returns offset of the first word; the word before it holds the count
   * @throws RangeError when the content is longer than {@link HEAP_BLOCK_MAXIMUM}
   */
  store(content: ArrayLike<number>, count: number): number {
    if (count > HEAP_BLOCK_MAXIMUM) throw new RangeError(`${count} words do not fit a block of ${HEAP_BLOCK_MAXIMUM}`);
    const offset = this.#take(count);
    const words = this.words;
    for (let i = 0; i < count; i += 1) words[offset + i] = content[i];
    return offset;
  }

  /** A copy of what lies at an offset of other words, such as the former ones. @returns its offset */
  storeFrom(from: Int32Array, at: number): number {
    const count = from[at - 1];
    const offset = this.#take(count);
    const words = this.words;
    for (let i = 0; i < count; i += 1) words[offset + i] = from[at + i];
    return offset;
  }

  /** A block for so many words, with their count. @returns where the words begin */
  #take(count: number): number {
    const size = sizeClass(count + 1);
    let block = this.#free[size];
    if (block !== 0) {
      this.#free[size] = this.words[block];
    } else {
      block = this.#end;
      this.#end += 1 << (size + SMALLEST_SHIFT);
      if (this.#end > this.words.length) this.#grow();
    }
    this.usedWords += 1 << (size + SMALLEST_SHIFT);
    this.words[block] = count;
    return block + 1;
  }

  /** Words of the content at an offset. */
  lengthAt(offset: number): number {
    return this.words[offset - 1];
  }

  /** Give a block back. It is used again once nobody reads. */
  free(offset: number): void {
    if (this.#readers > 0) this.#waiting.push(offset);
    else this.#release(offset);
  }

  /** Somebody reads blocks from now on, until the matching {@link endRead}. */
  beginRead(): void {
    this.#readers += 1;
  }

  endRead(): void {
    this.#readers -= 1;
    if (this.#readers > 0) return;
    while (this.#waiting.length > 0) this.#release(this.#waiting.pop() ?? 0);
  }

  #release(offset: number): void {
    const block = offset - 1;
    const size = sizeClass(this.words[block] + 1);
    this.usedWords -= 1 << (size + SMALLEST_SHIFT);
    this.words[block] = this.#free[size];
    this.#free[size] = block;
  }

  #grow(): void {
    let length = this.words.length;
    while (length < this.#end) length *= 2;
    const larger = new Int32Array(length);
    larger.set(this.words);
    this.words = larger;
  }
}

/** The smallest class that holds so many words. */
function sizeClass(words: number): number {
  const shift = 32 - Math.clz32(words - 1);
  return shift <= SMALLEST_SHIFT ? 0 : shift - SMALLEST_SHIFT;
}
