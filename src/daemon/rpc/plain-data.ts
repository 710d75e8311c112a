/**
 * What data from outside must not be, before anything walks it: schemas, copies to the datapath thread and extensions go down into it level by level on the
 * stack, and some take the key `__proto__` for the object's own prototype.
 */

/** Most levels of lists and objects, one in the other. */
export const MAX_LEVELS = 64;

/**
 * Look through data, level by level, so that depth costs no stack, and shared or circular parts no time.
 * @returns what is wrong, as the end of a sentence; null when nothing is
 */
export function flawOf(data: unknown): string | null {
  let level: unknown[] = [data];
  for (let depth = 0; level.length > 0; depth += 1) {
    const inner = new Set<unknown>();
    for (const value of level) {
      if (typeof value !== 'object' || value === null) continue;
      if (depth >= MAX_LEVELS) return `nests deeper than ${MAX_LEVELS} levels`;
      if (Object.hasOwn(value, '__proto__')) return 'has a key "__proto__"';
      for (const one of Object.values(value)) if (typeof one === 'object' && one !== null) inner.add(one);
    }
    level = [...inner];
  }
  return null;
}
