/**
 * A boolean condition on the fields of a packet, compiled to a list of tests with jumps, as in the classic packet filter:
 * no recursion and nothing allocated per packet. Neighbours: expression.ts builds conditions, fields.ts holds the words tested.
 */
import type { PacketFields } from './fields.ts';

/** A condition as a tree. */
export type Condition =
  /** The packet's shape is one of the bits. */
  | { readonly kind: 'shape'; readonly shapes: number }
  /** Bits of a word have a value. */
  | { readonly kind: 'bits'; readonly field: number; readonly mask: number; readonly value: number }
  /** A word that is not negative lies within bounds, both included. */
  | { readonly kind: 'range'; readonly field: number; readonly low: number; readonly high: number }
  | { readonly kind: 'and' | 'or'; readonly left: Condition; readonly right: Condition }
  | { readonly kind: 'not'; readonly inner: Condition };

/** Both conditions, and either. */
export function and(left: Condition, right: Condition): Condition {
  return { kind: 'and', left, right };
}
export function or(left: Condition, right: Condition): Condition {
  return { kind: 'or', left, right };
}

const SHAPE = 0;
const BITS = 1;
const RANGE = 2;
/* A test is six integers: operation, field, two operands, where to go when true, when false. */
const ACCEPT = -1;
const REJECT = -2;

/** A compiled {@link Condition}. */
export class Predicate {
  readonly #code: Int32Array;
  readonly #entry: number;

  /** @param condition null: every packet matches */
  constructor(condition: Condition | null) {
    const code: number[] = [];
    this.#entry = condition === null ? ACCEPT : emit(condition, ACCEPT, REJECT, code);
    this.#code = Int32Array.from(code);
  }

  /** Whether the packet that was read last matches. */
  matches(fields: PacketFields): boolean {
    const code = this.#code;
    const words = fields.words;
    let at = this.#entry;
    while (at >= 0) {
      const operation = code[at];
      let holds: boolean;
      if (operation === SHAPE) {
        holds = ((1 << fields.shape) & code[at + 2]) !== 0;
      } else {
        const value = words[code[at + 1]];
        if (operation === BITS) holds = (value & code[at + 2]) === code[at + 3];
        else holds = value >= code[at + 2] && value <= code[at + 3];
      }
      at = holds ? code[at + 4] : code[at + 5];
    }
    return at === ACCEPT;
  }
}

/** Append the tests of a condition, last ones first, so that the places to jump to are known. @returns where it starts */
function emit(condition: Condition, whenTrue: number, whenFalse: number, code: number[]): number {
  switch (condition.kind) {
    case 'and':
      return emit(condition.left, emit(condition.right, whenTrue, whenFalse, code), whenFalse, code);
    case 'or':
      return emit(condition.left, whenTrue, emit(condition.right, whenTrue, whenFalse, code), code);
    case 'not':
      return emit(condition.inner, whenFalse, whenTrue, code);
    default: {
      const at = code.length;
      if (condition.kind === 'shape') code.push(SHAPE, 0, condition.shapes, 0);
      else if (condition.kind === 'bits') code.push(BITS, condition.field, condition.mask, condition.value);
      else code.push(RANGE, condition.field, condition.low, condition.high);
      code.push(whenTrue, whenFalse);
      return at;
    }
  }
}
