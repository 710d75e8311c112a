/**
 * What becomes of every packet that a list of actions is run over, as the engine would have it: for packets that run elsewhere and
 * are only counted here.
 */
import type { KeyPort } from '../../net/index.ts';
import { Drop } from '../engine/drops.ts';
import type { Leads, ListBounds } from './description.ts';
import { eachAction } from './table.ts';

/** Where a list leads. */
export interface Outcome {
  /** Ports that packets are sent to, in order. */
  readonly outputs: readonly KeyPort[];
  /** They go on in another way: to be looked up again, or up to programs. */
  readonly isSentOn: boolean;
  /** Of packets that go nowhere the reason of Drop; 0 for others. */
  readonly drop: number;
}

/** A walk through a list and those in it. */
class Walk implements Leads {
  readonly outputs: KeyPort[] = [];
  isSentOn = false;
  drop = 0;
  isOpen = false;
  #isOver = false;
  readonly #words: Int32Array;

  constructor(words: Int32Array) {
    this.#words = words;
  }

  output(port: KeyPort): void {
    this.outputs.push(port);
  }

  sentOn(): void {
    this.isSentOn = true;
  }

  dropped(reason: number): void {
    this.drop = reason;
    this.#isOver = true;
  }

  open(): void {
    this.isOpen = true;
  }

  list({ from, end }: ListBounds): void {
    eachAction(this.#words, from, end, (action, at, _next, lists) => {
      action.leads(this, this.#words, at, lists);
      return !this.#isOver;
    });
    // A drop ends its own list alone.
    this.#isOver = false;
  }

  either(one: ListBounds, other: ListBounds): void {
    const same = isSameOutcome(
      outcomeOf(this.#words, one.from, one.end),
      outcomeOf(this.#words, other.from, other.end),
    );
    if (same) this.list(other);
    else this.open();
  }
}

/**
 * The outcome of a list; null when it depends on the packet. A time to live that runs out, a header that is missing and a limit are
 * not looked at: packets that meet these are the engine's own.
 * @param from where the list lies in `words`, up to `end`
 */
export function outcomeOf(words: Int32Array, from: number, end: number): Outcome | null {
  const walk = new Walk(words);
  walk.list({ from, end });
  if (walk.isOpen) return null;
  const { outputs, isSentOn } = walk;
  const isGone = outputs.length === 0 && !isSentOn;
  return { outputs, isSentOn, drop: isGone ? walk.drop || Drop.FLOW : 0 };
}

/** Whether two lists lead to the same. */
export function isSameOutcome(a: Outcome | null, b: Outcome | null): boolean {
  if (a === null || b === null || a.isSentOn !== b.isSentOn || a.drop !== b.drop) return false;
  return a.outputs.length === b.outputs.length && a.outputs.every((port, i) => port === b.outputs[i]);
}
