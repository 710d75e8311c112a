/**
 * Whose what runs in Node's own turns: promises, microtasks and ticks that an extension has begun go on where no call of the switch stands around them. Each
 * remembers the extension that was in when it was made, so that one that never ends, or throws, is known by name. Nothing is followed before a
 * module of a user's is there; the switch itself makes no promises on this thread.
 */
import { createHook, executionAsyncResource } from 'node:async_hooks';

/** A power of two; those that nest deeper forget what ran before. */
const MOST_NESTED = 64;
const OWNER = Symbol('extension');

interface Owned {
  [OWNER]?: number;
}

/** Number of the extension that something asynchronous belongs to; 0 when that is not known. */
export function ownerOf(resource: object): number {
  return (resource as Owned)[OWNER] ?? 0;
}

/**
 * Follow them from now on.
 * @param record its first word is the number of the extension that runs
 * @param onReturn called when something else runs again, after continuations of an extension: with the number of the last. It must not throw
 * @returns tells the number of the extension whose continuation has ended last; an error of it may come after its end
 */
export function followContinuations(record: Int32Array, onReturn: (by: number) => void): () => number {
  let last = 0;
  let isTold = true;
  /** What ran before each that has begun and not ended. */
  const left = new Int32Array(MOST_NESTED);
  // No method of an array is called here: what an extension has changed of these is put back later.
  let depth = 0;
  createHook({
    init(_id, _type, _trigger, resource) {
      // While its module is loaded the number is negative.
      if (record[0] !== 0) (resource as Owned)[OWNER] = Math.abs(record[0]);
    },
    before() {
      const running = record[0];
      const owner = ownerOf(executionAsyncResource());
      if (owner === 0 && !isTold) {
        isTold = true;
        onReturn(last);
      }
      // What has thrown has not been left.
      if (running === 0) depth = 0;
      left[depth & (MOST_NESTED - 1)] = running;
      depth += 1;
      record[0] = owner || running;
    },
    after() {
      if (record[0] !== 0) {
        last = record[0];
        isTold = false;
      }
      depth = depth > 0 ? depth - 1 : 0;
      record[0] = left[depth & (MOST_NESTED - 1)];
    },
  }).enable();
  return () => last;
}
