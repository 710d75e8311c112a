/**
 * What a decision has looked at: the mask of its flow, bit by bit. What the decision itself has set before is known and marks nothing.
 * Neighbours: packet-state.ts reads through it, record.ts keeps the result.
 */
import { KEY_WORDS } from '../flow/index.ts';

/** One look, for people. */
export interface Look {
  /** The extension that looked. */
  readonly by: string;
  /** Such as `ipv4.source`. */
  readonly field: string;
  /** How many bits of it, from the highest, and all that it has. */
  readonly bits: number;
  readonly width: number;
}

export class Marks {
  /** Bits that were looked at, in the shape of a flow key. */
  readonly mask = new Uint32Array(KEY_WORDS);
  /** Who looks now. */
  by = '';
  /** Every look in its order while somebody wants to know; else null. */
  looks: Look[] | null = null;
  #isSettled = false;

  /** Begin anew. @param isTraced whether every look is to be kept */
  begin(isTraced: boolean): void {
    this.mask.fill(0);
    this.by = '';
    this.looks = isTraced ? [] : null;
    this.#isSettled = false;
  }

  /** What follows rests on no more than what was looked at until now. */
  settle(): void {
    this.#isSettled = true;
  }

  /** Bits of a word were looked at. */
  add(word: number, bits: number): void {
    if (!this.#isSettled) this.mask[word] |= bits;
  }

  /** Say it for people, once for the same look. */
  note(field: string, bits: number, width: number): void {
    const { looks, by } = this;
    if (looks === null || bits === 0) return;
    if (!looks.some((look) => look.by === by && look.field === field && look.bits === bits))
      looks.push({ by, field, bits, width });
  }
}
