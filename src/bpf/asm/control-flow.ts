/**
 * Structure over the assembler: scopes with stack slots, if, switch, bounded loops. Every construct emits plain jumps and nothing hidden.
 * Neighbours: asm/assembler.ts has the single instructions, asm/stack.ts the slots, asm/builder.ts adds packets, maps and calls.
 */
import { AssemblyError } from '../errors.ts';
import type { Operand } from './arithmetic.ts';
import { Assembler } from './assembler.ts';
import type { Condition, Label, Register } from './operands.ts';
import { Frame, type Slot } from './stack.ts';

/** Writes code. */
export type Body = () => void;

const opposite: Partial<Record<Condition, Condition>> = {
  '==': '!=',
  '!=': '==',
  '>': '<=',
  '>=': '<',
  '<': '>=',
  '<=': '>',
  's>': 's<=',
  's>=': 's<',
  's<': 's>=',
  's<=': 's>',
};

const LINEAR_CASES = 6;

/** The assembler with structure. */
export class ControlFlow extends Assembler {
  #frame = new Frame();

  /** Write code whose stack slots are free again afterwards. */
  scope(body: Body): void {
    const used = this.#frame.usedBytes;
    this.inner(body);
    this.#frame.release(used);
  }

  /**
   * Write code that can be left early.
   * @param body is handed a label behind the block; `jump` and `jumpIf` to it leave the block
   */
  block(body: (leave: Label) => void): void {
    const leave = this.label('end of block');
    this.scope(() => body(leave));
    this.placeIfUsed(leave);
  }

  /** Room on the stack until the scope ends. Not cleared: see {@link zero}. */
  stack(sizeBytes: number, alignBytes = Math.min(8, 2 ** Math.floor(Math.log2(Math.max(1, sizeBytes))))): Slot {
    return this.#frame.take(sizeBytes, alignBytes);
  }

  /** Clear a stack slot. */
  zero(slot: Slot): void {
    this.construct(() => this.#clear(slot));
  }

  #clear(slot: Slot): void {
    let offset = slot.offset;
    const end = slot.offset + slot.sizeBytes;
    while (offset < end) {
      const room = end - offset;
      const [bytes, width] =
        room >= 8 && offset % 8 === 0
          ? ([8, 'u64'] as const)
          : room >= 4 && offset % 4 === 0
            ? ([4, 'u32'] as const)
            : room >= 2 && offset % 2 === 0
              ? ([2, 'u16'] as const)
              : ([1, 'u8'] as const);
      this.store(width, { base: slot.base, offset }, 0);
      offset += bytes;
    }
  }

  // Branches.

  /** Run `then` where the 64-bit comparison holds, else `otherwise`. */
  if(left: Register, condition: Condition, right: Operand, then: Body, otherwise?: Body): void {
    this.construct(() =>
      this.#choose((which, label) => this.jumpIf(left, which, right, label), condition, then, otherwise),
    );
  }

  /** The same, comparing 32 bits. */
  if32(left: Register, condition: Condition, right: Operand, then: Body, otherwise?: Body): void {
    this.construct(() =>
      this.#choose((which, label) => this.jumpIf32(left, which, right, label), condition, then, otherwise),
    );
  }

  #choose(
    branch: (condition: Condition, label: Label) => void,
    condition: Condition,
    then: Body,
    otherwise?: Body,
  ): void {
    const end = this.label('end of if');
    const other = otherwise === undefined ? end : this.label('else');
    const inverse = opposite[condition];
    if (inverse !== undefined) branch(inverse, other);
    else {
      // There is no jump for "no bit in common".
      const into = this.label('then');
      branch(condition, into);
      this.jump(other);
      this.place(into);
    }
    this.scope(then);
    if (otherwise !== undefined) {
      if (this.reachable) this.jump(end);
      this.place(other);
      this.scope(otherwise);
    }
    this.placeIfUsed(end);
  }

  /**
   * Run the case whose constant the register holds. There is no falling through. Up to six cases are compared in turn; more
   * are searched by halves.
   * @param cases pairs of a constant of 32 signed bits and its code; a constant may come once
   * @param otherwise runs where none fits
   * @throws AssemblyError when a constant comes twice
   */
  switch(value: Register, cases: Iterable<readonly [number, Body]>, otherwise?: Body): void {
    this.construct(() => this.#switch(value, cases, otherwise));
  }

  #switch(value: Register, cases: Iterable<readonly [number, Body]>, otherwise?: Body): void {
    const sorted = [...cases].sort(([a], [b]) => a - b);
    sorted.forEach(([constant], index) => {
      if (sorted[index + 1]?.[0] === constant) throw new AssemblyError(`case ${constant} comes twice`);
    });
    const end = this.label('end of switch');
    const fallback = this.label('default');
    const labels = sorted.map(([constant]) => this.label(`case ${constant}`));
    this.#search(
      value,
      sorted.map(([constant]) => constant),
      labels,
      fallback,
    );
    sorted.forEach(([, body], index) => {
      const label = labels[index];
      if (label !== undefined) this.place(label);
      this.scope(body);
      if (this.reachable) this.jump(end);
    });
    this.place(fallback);
    if (otherwise !== undefined) this.scope(otherwise);
    this.placeIfUsed(end);
  }

  #search(value: Register, constants: readonly number[], labels: readonly Label[], fallback: Label): void {
    if (constants.length <= LINEAR_CASES) {
      constants.forEach((constant, index) => {
        const label = labels[index];
        if (label !== undefined) this.jumpIf(value, '==', constant, label);
      });
      this.jump(fallback);
      return;
    }
    const middle = constants.length >> 1;
    const upper = this.label('upper cases');
    this.jumpIf(value, 's>=', constants[middle] ?? 0, upper);
    this.#search(value, constants.slice(0, middle), labels.slice(0, middle), fallback);
    this.place(upper);
    this.#search(value, constants.slice(middle), labels.slice(middle), fallback);
  }

  // Loops.

  /**
   * Run code a number of times, counting in a register from 0 (Linux 5.3, which first allowed loops).
   * @param counter holds the turn; R6 to R9 if the body calls anything. The body must not change it.
   * @param times a constant, or a register whose upper bound the verifier can see
   * @param body is handed labels to leave the loop and to go to the next turn
   */
  repeat(counter: Register, times: Operand, body: (leave: Label, next: Label) => void): void {
    this.construct(() => this.#repeat(counter, times, body));
  }

  #repeat(counter: Register, times: Operand, body: (leave: Label, next: Label) => void): void {
    const leave = this.label('end of loop');
    const next = this.label('next turn');
    const again = this.label('turn');
    this.mov(counter, 0);
    this.place(again);
    this.jumpIf(counter, '>=', times, leave);
    this.scope(() => body(leave, next));
    this.placeIfUsed(next);
    if (this.reachable) {
      this.add(counter, 1);
      this.jump(again);
    }
    this.place(leave);
  }

  /** Write code a number of times over, with the turn known while writing. */
  unroll(times: number, body: (turn: number) => void): void {
    for (let turn = 0; turn < times; turn++) this.scope(() => body(turn));
  }

  /** A function begins: it has a stack of its own. */
  protected newFrame(): void {
    this.#frame = new Frame();
  }
}
