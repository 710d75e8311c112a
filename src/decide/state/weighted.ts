/**
 * An observed weighted choice with a stable hash, as for the back ends of a load balancer: each key gets its part of all hashes by weight, and when one
 * comes, goes or changes its weight, only hashes move that it gains or loses. A decision rests on the choice for its hash: it ends when another
 * would be chosen, or when the value of the chosen one changes.
 *
 * This is rendezvous hashing: for a hash each key draws a number of its own, and the highest wins. -weight / ln(u) makes a key win in
 * proportion to its weight (Schindelhauer and Schomaker, SPAA 2005).
 */
import { Anchor } from './observed.ts';
import type { TableKey } from './table.ts';

interface Choice<T> {
  readonly key: TableKey;
  readonly seed: number;
  weight: number;
  value: T;
}

export class WeightedChoice<T> {
  readonly #anchor: Anchor;
  /** What rests on all keys at once. */
  readonly #all: Anchor;
  readonly #choices = new Map<TableKey, Choice<T>>();

  /** @param name for people */
  constructor(name: string) {
    this.#anchor = new Anchor(name);
    this.#all = new Anchor(name);
  }

  /** How many keys there are: rests on all of them. */
  get size(): number {
    this.#all.read();
    return this.#choices.size;
  }

  /**
   * What is chosen for a hash; null when there is nothing to choose from.
   * @param hash 32 bits, such as `packet.flowHash()`
   */
  pick(hash: number): T | null {
    this.#anchor.read(hash | 0);
    return this.#winner(hash | 0)?.value ?? null;
  }

  /**
   * Add a key, or change it.
   * @param weight more than 0: its part of all
   * @throws RangeError for another weight
   */
  set(key: TableKey, weight: number, value: T): void {
    if (!(weight > 0 && Number.isFinite(weight))) throw new RangeError(`a weight of ${weight} is not more than 0`);
    const known = this.#choices.get(key);
    if (known !== undefined && known.weight === weight && Object.is(known.value, value)) return;
    const before = new Map(this.#choices);
    const choice = { key, seed: seedOf(key), weight, value };
    this.#choices.set(key, choice);
    this.#moved(before);
  }

  /** @returns whether it was there */
  delete(key: TableKey): boolean {
    if (!this.#choices.has(key)) return false;
    const before = new Map(this.#choices);
    this.#choices.delete(key);
    this.#moved(before);
    return true;
  }

  /** All keys with their weights and values: rests on all of them. */
  entries(): { readonly key: TableKey; readonly weight: number; readonly value: T }[] {
    this.#all.read();
    return [...this.#choices.values()].map(({ key, weight, value }) => ({ key, weight, value }));
  }

  #moved(before: ReadonlyMap<TableKey, Choice<T>>): void {
    this.#anchor.endWhere((hash) => winner(before, hash) !== winner(this.#choices, hash));
    this.#all.changed();
  }

  #winner(hash: number): Choice<T> | null {
    return winner(this.#choices, hash);
  }
}

function winner<T>(choices: ReadonlyMap<TableKey, Choice<T>>, hash: number): Choice<T> | null {
  let best: Choice<T> | null = null;
  let highest = Number.NEGATIVE_INFINITY;
  for (const choice of choices.values()) {
    const drawn = (mix(hash ^ choice.seed) + 0.5) / 0x1_0000_0000;
    const score = -choice.weight / Math.log(drawn);
    if (score > highest || (score === highest && best !== null && String(choice.key) < String(best.key))) {
      best = choice;
      highest = score;
    }
  }
  return best;
}

/** 32 bits spread over all of them (the finalizer of MurmurHash3). */
function mix(value: number): number {
  let hash = value | 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** The same in every process, so that a restart chooses alike. */
function seedOf(key: TableKey): number {
  let seed = 0x811c_9dc5;
  for (const char of `${typeof key} ${key}`) seed = Math.imul(seed ^ (char.codePointAt(0) ?? 0), 0x0100_0193);
  return mix(seed);
}
