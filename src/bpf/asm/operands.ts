/**
 * Operands of instructions: registers, memory addresses, labels, and the map that an `ld_imm64` names.
 * Neighbours: asm/instruction.ts holds them, asm/assembler.ts takes them.
 */

/** One of the machine's registers. A type of its own, so that `add(R1, R2)` and `add(R1, 2)` cannot be confused. */
export class Register {
  readonly index: number;

  /** @param index 0 to 10. Use the constants R0 to R10. */
  constructor(index: number) {
    this.index = index;
  }

  toString(): string {
    return `r${this.index}`;
  }
}

/** The result of calls and of the program; scratch. */
export const R0 = new Register(0);
/** First argument: on entry the context. Calls destroy R1 to R5. */
export const R1 = new Register(1);
/** Second argument. */
export const R2 = new Register(2);
/** Third argument. */
export const R3 = new Register(3);
/** Fourth argument. */
export const R4 = new Register(4);
/** Fifth argument. */
export const R5 = new Register(5);
/** Kept over calls, as are R7 to R9. */
export const R6 = new Register(6);
/** Kept over calls. */
export const R7 = new Register(7);
/** Kept over calls. */
export const R8 = new Register(8);
/** Kept over calls. */
export const R9 = new Register(9);
/** The frame pointer; read-only. The stack is below it. */
export const R10 = new Register(10);

const registers = [R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10] as const;

/** The register with a number, or undefined above 10. */
export function registerOf(index: number): Register | undefined {
  return registers[index];
}

/** A place in memory: a register and a signed 16-bit byte offset. Make one with {@link at}. */
export interface Address {
  readonly base: Register;
  readonly offset: number;
}

/** The address `base + offsetBytes`. */
export function at(base: Register, offsetBytes = 0): Address {
  return { base, offset: offsetBytes };
}

/** A place in the code. Made by `Assembler.label`, put down by `Assembler.place`, named by jumps before or after that. */
export class Label {
  readonly name: string;
  /** Index of the instruction it stands before; -1 until placed. */
  position = -1;
  /** How many instructions name it. */
  uses = 0;

  constructor(name: string) {
    this.name = name;
  }
}

/** What an instruction needs of a map: its descriptor when the program is loaded, its name for listings. */
export interface MapReference {
  readonly fd: number;
  readonly name: string;
}

/** Width and sign of a memory access. */
export type Width = 'u8' | 'u16' | 'u32' | 'u64' | 's8' | 's16' | 's32';

/** Width of a store; a store has no sign. */
export type StoreWidth = 'u8' | 'u16' | 'u32' | 'u64';

/** A comparison: unsigned by default, with `s` signed; `&` is true where the two have a bit in common. */
export type Condition = '==' | '!=' | '>' | '>=' | '<' | '<=' | 's>' | 's>=' | 's<' | 's<=' | '&';

/** An atomic read-modify-write. The fetch forms, xchg and cmpxchg give the old value back; cmpxchg compares with and answers in R0. */
export type AtomicOperation =
  | 'add'
  | 'or'
  | 'and'
  | 'xor'
  | 'fetch_add'
  | 'fetch_or'
  | 'fetch_and'
  | 'fetch_xor'
  | 'xchg'
  | 'cmpxchg';
