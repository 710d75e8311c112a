/**
 * The outcome of a control call. Most calls are done when they return; one that an extension pends is done later.
 * Promises would not do: the datapath thread runs its own loop and may not return to the event loop for long.
 */
import { SwitchError } from '../errors.ts';

/** A control call under way or done. */
export class Operation<T> {
  #state: 'pending' | 'done' | 'failed' = 'pending';
  #value: T | undefined;
  #error: Error | null = null;
  #listeners: ((operation: Operation<T>) => void)[] = [];

  /** An operation that is done already. */
  static done<T>(value: T): Operation<T> {
    const operation = new Operation<T>();
    operation.resolve(value);
    return operation;
  }

  /** An operation that has failed already. */
  static failed<T>(error: Error): Operation<T> {
    const operation = new Operation<T>();
    operation.reject(error);
    return operation;
  }

  get state(): 'pending' | 'done' | 'failed' {
    return this.#state;
  }

  /** Why it failed; null otherwise. */
  get error(): Error | null {
    return this.#error;
  }

  /**
   * The result of an operation that is done.
   * @throws the error of a failed one; SwitchError BUSY when it is still pending
   */
  result(): T {
    if (this.#error !== null) throw this.#error;
    if (this.#state === 'pending') throw new SwitchError('BUSY', 'the operation is still pending in an extension');
    return this.#value as T;
  }

  /** Call back once it is done or failed; at once when it already is. */
  whenSettled(listener: (operation: Operation<T>) => void): void {
    if (this.#state === 'pending') this.#listeners.push(listener);
    else listener(this);
  }

  /** Go on with another operation when this one is done; its failure is passed along. */
  chain<U>(next: (value: T) => Operation<U>): Operation<U> {
    const result = new Operation<U>();
    this.whenSettled((first) => {
      if (first.error !== null) {
        result.reject(first.error);
        return;
      }
      next(first.result()).whenSettled((second) => {
        if (second.error !== null) result.reject(second.error);
        else result.resolve(second.result());
      });
    });
    return result;
  }

  /** For code that lives on the event loop. */
  promise(): Promise<T> {
    return new Promise((resolve, reject) => {
      this.whenSettled((operation) => {
        if (operation.error !== null) reject(operation.error);
        else resolve(operation.result());
      });
    });
  }

  /** Settle with a value; only the first settling counts. */
  resolve(value: T): void {
    if (this.#state !== 'pending') return;
    this.#state = 'done';
    this.#value = value;
    this.#notify();
  }

  /** Settle with an error; only the first settling counts. */
  reject(error: Error): void {
    if (this.#state !== 'pending') return;
    this.#state = 'failed';
    this.#error = error;
    this.#notify();
  }

  #notify(): void {
    const listeners = this.#listeners;
    this.#listeners = [];
    for (const listener of listeners) listener(this);
  }
}
