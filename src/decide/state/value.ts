/** One observed value: a setting, a switch to turn. */
import { Anchor } from './observed.ts';

export class ObservedValue<T> {
  readonly #anchor: Anchor;
  #value: T;

  /** @param name for people; @param value at first */
  constructor(name: string, value: T) {
    this.#anchor = new Anchor(name);
    this.#value = value;
  }

  get(): T {
    this.#anchor.read();
    return this.#value;
  }

  /** Decisions that rest on another value end. */
  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    this.#anchor.changed();
  }
}
