/**
 * What becomes of every packet that a list of actions is run over, as the engine would have it: for packets that run elsewhere and
 * are only counted here. Neighbour: engine/engine.ts.
 */
import { Drop } from '../engine/drops.ts';
import { Action, actionLength, actionType } from './encoding.ts';

/** Where a list leads. */
export interface Outcome {
  /** Ports that packets are sent to, in order. */
  readonly outputs: readonly number[];
  /** They go on in another way: to be looked up again, or up to programs. */
  readonly isSentOn: boolean;
  /** Of packets that go nowhere the reason of Drop; 0 for others. */
  readonly drop: number;
}

/** A walk through a list and those in it. */
class Walk {
  readonly outputs: number[] = [];
  isSentOn = false;
  drop = 0;
  /** It depends on the packet. */
  isOpen = false;

  list(words: Int32Array, from: number, end: number): void {
    for (let at = from; at < end; ) {
      const next = at + actionLength(words[at]);
      if (next <= at || this.#one(words, at, next)) return;
      at = next;
    }
  }

  /** @returns whether the list ends here */
  #one(words: Int32Array, at: number, end: number): boolean {
    const first = words[at + 1];
    switch (actionType(words[at])) {
      case Action.OUTPUT:
        this.outputs.push(first >>> 0);
        return false;
      case Action.RECIRC:
      case Action.USERSPACE:
        this.isSentOn = true;
        return false;
      case Action.DROP:
        this.drop = first === 0 ? Drop.EXPLICIT : Drop.EXPLICIT_ERROR;
        return true;
      case Action.CLONE:
        this.list(words, at + 1, end);
        return false;
      case Action.SAMPLE:
        if (first === -1) this.list(words, at + 2, end);
        else if (first !== 0 && at + 2 < end) this.isOpen = true;
        return false;
      case Action.CHECK_PKT_LEN: {
        const middle = at + 3 + words[at + 2];
        if (isSameOutcome(outcomeOf(words, at + 3, middle), outcomeOf(words, middle, end))) {
          this.list(words, middle, end);
        } else this.isOpen = true;
        return false;
      }
      case Action.METER:
      case Action.CT:
        this.isOpen = true;
        return false;
      default:
        return false;
    }
  }
}

/**
 * The outcome of a list; null when it depends on the packet. A time to live that runs out, a header that is missing and a limit are
 * not looked at: packets that meet these are the engine's own.
 * @param from where the list lies in `words`, up to `end`
 */
export function outcomeOf(words: Int32Array, from: number, end: number): Outcome | null {
  const walk = new Walk();
  walk.list(words, from, end);
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
