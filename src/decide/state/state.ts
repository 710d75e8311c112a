/** The observed state of one extension, by name: what a decider makes for itself, and reads in its decisions. */
import type { FieldKind } from '../field.ts';
import { ObservedPrefixes } from './prefixes.ts';
import { ObservedMap, ObservedSet } from './table.ts';
import { ObservedValue } from './value.ts';
import { WeightedChoice } from './weighted.ts';

/**
 * Makes observed tables. Decisions that read them rest on what they have read: a change ends these, in the engine and in the kernel, before
 * the call that made it returns. Each name is of one table.
 */
export class DeciderState {
  readonly #names = new Set<string>();

  /** One value. */
  value<T>(name: string, initial: T): ObservedValue<T> {
    return new ObservedValue(this.#take(name), initial);
  }

  /** Values by key. */
  map<T>(name: string): ObservedMap<T> {
    return new ObservedMap(this.#take(name));
  }

  /** Keys. */
  set(name: string): ObservedSet {
    return new ObservedSet(this.#take(name));
  }

  /** Values by the longest prefix of an address. @param kinds of fields that it is for; all when left out */
  prefixes<T>(name: string, kinds?: readonly FieldKind[]): ObservedPrefixes<T> {
    return new ObservedPrefixes(this.#take(name), kinds);
  }

  /** A choice by weight, stable by hash. */
  weighted<T>(name: string): WeightedChoice<T> {
    return new WeightedChoice(this.#take(name));
  }

  /** @throws RangeError when the name is taken */
  #take(name: string): string {
    if (this.#names.has(name)) throw new RangeError(`there is a table "${name}" already`);
    this.#names.add(name);
    return name;
  }
}
