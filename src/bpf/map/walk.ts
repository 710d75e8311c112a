/**
 * The keys of a map that may change meanwhile, asked for one after the other. The kernel finds the next key by the one before: for a key that
 * is gone it begins again with the first. So the walk runs to its end before anybody does something with a key, and what comes again is
 * passed over. Neighbour: map/table.ts reads hashes by buckets instead, which nothing disturbs.
 */
import { NativeBlock } from '../../host/sys/index.ts';
import { MapChangedError } from '../errors.ts';

/** How often the kernel may begin again. */
const RESTARTS = 64;

/** A map to walk. */
export interface WalkedMap {
  readonly name: string;
  readonly maxEntries: number;
  readonly keyBytes: number;
  /**
   * Write the key behind another, or the first.
   * @param after null for the first; one that is not there counts as null
   * @returns false at the end
   */
  next(after: NativeBlock | null, into: NativeBlock): boolean;
}

/**
 * Walk all keys.
 * @returns each key once: all that are there from the beginning to the end of the walk, and some that come or go meanwhile
 * @throws MapChangedError when keys go away faster than that; what `next` throws
 */
export function walkKeys({ name, maxEntries, keyBytes, next }: WalkedMap): NativeBlock[] {
  const seen = new Set<string>();
  const found: NativeBlock[] = [];
  let cursor: NativeBlock | null = null;
  let restarts = 0;
  let isRepeating = false;
  for (let steps = 0; restarts <= RESTARTS && steps <= (RESTARTS + 1) * (maxEntries + 1); steps += 1) {
    const key = new NativeBlock(keyBytes);
    if (!next(cursor, key)) return found;
    cursor = key;
    const text = Buffer.from(key.bytes.buffer, 0, keyBytes).toString('latin1');
    const isKnown = seen.has(text);
    if (isKnown && !isRepeating) restarts += 1;
    isRepeating = isKnown;
    if (isKnown) continue;
    seen.add(text);
    found.push(key);
  }
  throw new MapChangedError(name);
}
