/**
 * The flow cache: from the hash of a connection to the flow that its last packet fell to. It may be wrong, so whoever asks
 * checks the flow against the key; a flow that is gone, or whose slot holds another, does no harm. Four entries share a bucket
 * and half a cache line; a new one pushes out the oldest of its bucket.
 *
 *     bucket:  hash, flow slot + 1 (0 for none)  x 4
 */

const WAYS = 4;
const BUCKET_WORDS = WAYS * 2;

export class FlowCache {
  readonly entries: Int32Array;
  readonly #limit: number;

  /** @param size entries, a power of two of at least 4 */
  constructor(size: number) {
    if (size < WAYS || (size & (size - 1)) !== 0) {
      throw new RangeError(`a flow cache has a power of two of at least ${WAYS} entries, not ${size}`);
    }
    this.entries = new Int32Array(size * 2);
    this.#limit = size / WAYS - 1;
  }

  /** Index of the first word of a hash's bucket. */
  bucket(hash: number): number {
    return (hash & this.#limit) * BUCKET_WORDS;
  }

  /** Index of the entry behind this one that has this hash, or -1. Begin with the bucket, go on with the index + 2. */
  next(bucket: number, from: number, hash: number): number {
    const entries = this.entries;
    for (let at = from; at < bucket + BUCKET_WORDS; at += 2)
      if (entries[at] === hash && entries[at + 1] !== 0) return at;
    return -1;
  }

  /** Forget all. */
  clear(): void {
    this.entries.fill(0);
  }

  add(hash: number, slot: number): void {
    const entries = this.entries;
    const bucket = this.bucket(hash);
    for (let at = bucket + BUCKET_WORDS - 2; at > bucket; at -= 2) {
      entries[at] = entries[at - 2];
      entries[at + 1] = entries[at - 1];
    }
    entries[bucket] = hash;
    entries[bucket + 1] = slot + 1;
  }
}
