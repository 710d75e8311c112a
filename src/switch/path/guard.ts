/**
 * The guard around everything that runs for an extension. Whatever an extension throws ends here: the extension is disabled and named, and the
 * core is as deep in its work as it was before the call. The guard also writes down which extension runs, where another thread can see it.
 * call-handler.ts does the same for the two handlers that packets pass through.
 */

import type { Slot } from '../stack/slot.ts';
import type { SwitchCore } from './core.ts';

/**
 * Call into an extension.
 * @param where handler or call, for people
 * @returns what it gives; undefined when it failed, and `slot.failed` is set then
 */
export function guarded<T>(core: SwitchCore, slot: Slot, where: string, call: () => T): T | undefined {
  const { entered, depth } = core;
  const before = entered[0];
  entered[0] = slot.entry;
  try {
    const result = call();
    if (result instanceof Promise) throw promised(where);
    return result;
  } catch (error) {
    core.unwind(depth);
    core.onFailure(slot, error, where);
    return undefined;
  } finally {
    entered[0] = before;
    core.returned(slot, where);
  }
}

/** As {@link guarded}, for calls whose errors are for the caller: nothing is disabled. */
export function watched<T>(core: SwitchCore, entry: number, call: () => T): T {
  const { entered, depth } = core;
  const before = entered[0];
  entered[0] = entry;
  try {
    return call();
  } catch (error) {
    core.unwind(depth);
    throw error;
  } finally {
    entered[0] = before;
  }
}

/** What a handler gave that should have done its work at once. @throws TypeError for a promise, which nobody would wait for */
export function refusePromise(result: unknown, where: string): void {
  if (result instanceof Promise) throw promised(where);
}

function promised(where: string): TypeError {
  return new TypeError(`${where} returned a promise: nothing waits for promises in the core, do the work at once`);
}
