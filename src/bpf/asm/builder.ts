/**
 * The builder: programs that read from top to bottom. Scopes, if, switch, bounded loops, stack slots, packet bounds, map look-ups and
 * functions over the assembler; every construct emits plain jumps and nothing hidden, and says which registers it destroys.
 * Neighbours: asm/assembler.ts has the single instructions, asm/stack.ts the slots.
 */
import { AssemblyError } from '../errors.ts';
import { HELPERS, type HelperName } from '../uapi/helpers.ts';
import { Assembler, type Operand } from './assembler.ts';
import type { EmitterOptions } from './emitter.ts';
import {
  type Address,
  type Condition,
  Label,
  type MapReference,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  Register,
  type Width,
} from './operands.ts';
import { Frame, type Slot } from './stack.ts';

/** Writes code. */
export type Body = () => void;

/** An argument of a helper: a register, a constant, an address (its value is computed), or a map. */
export type Argument = Operand | bigint | Address | MapReference;

/** A function of the program, to be called or handed to a helper. */
export type FunctionRef = Label;

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

const parameters = [R1, R2, R3, R4, R5] as const;
const LINEAR_CASES = 6;

/** Builds a program. Make one, write the code, hand it to `loadProgram`. */
export class ProgramBuilder extends Assembler {
  #frame = new Frame();
  readonly #pending: { name: string; label: Label; body: Body }[] = [];

  /**
   * @param name the program's name; the kernel shows its first 15 characters
   * @example
   * ```ts
   * const b = new ProgramBuilder('drop_all');
   * b.return(XDP.DROP);
   * ```
   */
  constructor(name: string, options: EmitterOptions = {}) {
    super(name, options);
  }

  /** `dst = value`, of any size: one slot where 32 signed bits hold it, else two. */
  set(dst: Register, value: number | bigint): void {
    if (typeof value === 'number' && !Number.isSafeInteger(value))
      throw new AssemblyError(`${value} is no whole number`);
    const wide = BigInt(value);
    if (wide >= -0x80000000n && wide <= 0x7fffffffn) this.mov(dst, Number(wide));
    else this.load64(dst, wide);
  }

  /** `dst = address`: the address itself, not what is there. */
  address(dst: Register, address: Address): void {
    if (dst !== address.base) this.mov(dst, address.base);
    if (address.offset !== 0) this.add(dst, address.offset);
  }

  /** Return a value. Uses R0. */
  return(value: Operand): void {
    if (value !== R0) this.mov(R0, value);
    this.exit();
  }

  // Scopes.

  /** Write code whose stack slots are free again afterwards. */
  scope(body: Body): void {
    const used = this.#frame.usedBytes;
    body();
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
    this.#choose((which, label) => this.jumpIf(left, which, right, label), condition, then, otherwise);
  }

  /** The same, comparing 32 bits. */
  if32(left: Register, condition: Condition, right: Operand, then: Body, otherwise?: Body): void {
    this.#choose((which, label) => this.jumpIf32(left, which, right, label), condition, then, otherwise);
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

  // Packets.

  /**
   * Load the start and the end of an XDP packet out of its context.
   * @param context holds struct xdp_md; may be the same as `end`
   */
  packetOfXdp(context: Register, data: Register, end: Register): void {
    this.#packet(context, data, 0, end, 4);
  }

  /**
   * Load the start and the end of a TC packet's linear part out of its context.
   * @param context holds struct __sk_buff; may be the same as `end`
   */
  packetOfTc(context: Register, data: Register, end: Register): void {
    this.#packet(context, data, 76, end, 80);
  }

  #packet(context: Register, data: Register, dataOffset: number, end: Register, endOffset: number): void {
    if (data === context || data === end) throw new AssemblyError('data needs a register of its own');
    this.load(data, 'u32', { base: context, offset: dataOffset });
    this.load(end, 'u32', { base: context, offset: endOffset });
  }

  /**
   * Make sure that the packet has bytes, so that the verifier lets them be read: `data + lengthBytes <= end`.
   * @param scratch is destroyed
   * @param tooShort code for packets that have not, or the label to go to
   */
  needBytes(data: Register, end: Register, lengthBytes: Operand, scratch: Register, tooShort: Body | Label): void {
    this.mov(scratch, data);
    this.add(scratch, lengthBytes);
    if (tooShort instanceof Label) this.jumpIf(scratch, '>', end, tooShort);
    else this.if(scratch, '>', end, tooShort);
  }

  /** Load a number that is in network order. The 16-bit form clears the bits above. */
  loadNetwork(dst: Register, width: Extract<Width, 'u16' | 'u32' | 'u64'>, address: Address): void {
    this.load(dst, width, address);
    this.toBigEndian(dst, width === 'u16' ? 16 : width === 'u32' ? 32 : 64);
  }

  // Calls.

  /**
   * Call a helper with its arguments: they are put into R1 to R5 in turn. R0 holds the result; R1 to R5 are lost.
   * @throws AssemblyError when an argument lies in a register that an earlier argument has taken
   */
  call(helper: HelperName, ...args: Argument[]): void {
    this.#arguments(args);
    this.callHelper(HELPERS[helper]);
  }

  /** Call a function of this program with arguments in the same way. */
  callLocal(target: FunctionRef, ...args: Argument[]): void {
    this.#arguments(args);
    this.callFunction(target);
  }

  #arguments(args: readonly Argument[]): void {
    args.forEach((argument, index) => {
      const parameter = parameters[index];
      if (parameter === undefined) throw new AssemblyError(`a call takes at most 5 arguments, not ${args.length}`);
      const from = registerUsed(argument);
      if (from !== undefined && from !== parameter && parameters.slice(0, index).includes(from as typeof R1)) {
        throw new AssemblyError(
          `argument ${index + 1} lies in ${from}, which argument ${from.index} has taken by then`,
        );
      }
      this.#argument(parameter, argument);
    });
  }

  #argument(parameter: Register, argument: Argument): void {
    if (typeof argument === 'number' || typeof argument === 'bigint') this.set(parameter, argument);
    else if (argument instanceof Register) {
      if (argument !== parameter) this.mov(parameter, argument);
    } else if ('base' in argument) this.address(parameter, argument);
    else this.loadMap(parameter, argument);
  }

  /**
   * Look a key up in a map.
   * @param key where the key is; usually a stack slot
   * @param found code that has the address of the value in R0, known not to be null
   * @param missing code for a key that is not there
   */
  lookup(map: MapReference, key: Address, found: Body, missing?: Body): void {
    this.call('map_lookup_elem', map, key);
    this.if(R0, '!=', 0, found, missing);
  }

  /**
   * Write a function of this program. Its code is put behind the rest; R1 to R5 are its parameters, R0 its result, and it
   * has a stack frame of its own.
   */
  function(name: string, body: Body): FunctionRef {
    const label = this.label(name);
    this.#pending.push({ name, label, body });
    return label;
  }

  /** Write the functions that are due, then check that all is whole. Called by the loader. */
  override checkComplete(): void {
    for (let next = this.#pending.shift(); next !== undefined; next = this.#pending.shift()) {
      this.#frame = new Frame();
      this.startFunction(next.name, next.label);
      next.body();
    }
    super.checkComplete();
  }
}

function registerUsed(argument: Argument): Register | undefined {
  if (typeof argument === 'number' || typeof argument === 'bigint') return undefined;
  if (argument instanceof Register) return argument;
  return 'base' in argument ? argument.base : undefined;
}
