/** Several control calls of the switch in a row: each may be pended by an extension, so that the next waits for it. */
import { Operation } from '../../switch/index.ts';

/** An operation of any result. */
interface Settling {
  readonly state: 'pending' | 'done' | 'failed';
  readonly error: Error | null;
  whenSettled(listener: () => void): void;
}

/** One call; what is done at once may return nothing. */
export type Call = () => Settling | null | undefined;

/** Make calls one after another. The first that fails, or throws, fails the whole; those behind it are not made. */
export function sequence(calls: readonly Call[]): Operation<null> {
  let index = 0;
  const result = new Operation<null>();
  const next = (): void => {
    while (index < calls.length) {
      let operation: Settling | null | undefined;
      try {
        operation = calls[index]();
      } catch (error) {
        result.reject(error instanceof Error ? error : new Error(String(error)));
        return;
      }
      index += 1;
      if (operation === null || operation === undefined) continue;
      if (operation.error !== null) {
        result.reject(operation.error);
        return;
      }
      if (operation.state === 'pending') {
        const pended = operation;
        pended.whenSettled(() => {
          if (pended.error !== null) result.reject(pended.error);
          else next();
        });
        return;
      }
    }
    result.resolve(null);
  };
  next();
  return result;
}
