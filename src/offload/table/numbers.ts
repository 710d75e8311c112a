/**
 * Numbers for masks and shapes, by which entries name what programs have code for. A number stays with its meaning for as long as an
 * entry has it or a program that runs knows it: a program must never take an entry for one of another mask or shape.
 */

/** One mask or shape of one hook. */
export interface Numbered<T> {
  readonly number: number;
  /** What makes it equal to another. */
  readonly id: string;
  readonly value: T;
  /** Entries with it. */
  entries: number;
  /** Packets of its entries since the order was last made, for the order of masks. */
  hits: number;
  /** Packets in all. */
  packets: number;
  /** Whether the program that runs has it. */
  running: boolean;
  /** How often in turn it was found in the program and without entries. */
  idle: number;
}

export class Numbers<T> {
  readonly #byId = new Map<string, Numbered<T>>();
  readonly #byNumber: (Numbered<T> | undefined)[];
  /** Shared by the hooks, so that numbers differ. */
  readonly #free: number[];

  /** @param free numbers that nobody has; taken from and given back to */
  constructor(free: number[], count: number) {
    this.#free = free;
    this.#byNumber = new Array<Numbered<T> | undefined>(count).fill(undefined);
  }

  get size(): number {
    return this.#byId.size;
  }

  all(): IterableIterator<Numbered<T>> {
    return this.#byId.values();
  }

  get(id: string): Numbered<T> | undefined {
    return this.#byId.get(id);
  }

  byNumber(number: number): Numbered<T> | undefined {
    return this.#byNumber[number];
  }

  /** Give a number. @returns null when there is none */
  add(id: string, value: T): Numbered<T> | null {
    const number = this.#free.pop();
    return number === undefined ? null : this.adopt(number, id, value);
  }

  /** One that has its number already. */
  adopt(number: number, id: string, value: T): Numbered<T> {
    const numbered = { number, id, value, entries: 0, hits: 0, packets: 0, running: false, idle: 0 };
    this.#byId.set(id, numbered);
    this.#byNumber[number] = numbered;
    return numbered;
  }

  /** Forget those that have no entries and are in no program. */
  sweep(): void {
    for (const numbered of this.#byId.values()) {
      if (numbered.entries > 0 || numbered.running) continue;
      this.#byId.delete(numbered.id);
      this.#byNumber[numbered.number] = undefined;
      this.#free.unshift(numbered.number);
    }
  }
}

/** Numbers from 0 on, to be given out. */
export function freeNumbers(count: number, taken: ReadonlySet<number> = new Set()): number[] {
  const free: number[] = [];
  for (let number = count - 1; number >= 0; number -= 1) if (!taken.has(number)) free.push(number);
  return free;
}
