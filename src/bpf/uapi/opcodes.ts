/**
 * The instruction set's numbers (RFC 9669; linux/bpf.h). Neighbours: asm/assembler.ts composes them, asm/disassemble.ts
 * takes them apart.
 *
 * One instruction is eight bytes, little endian here; `ld_imm64` takes two such slots, the upper half of its value in the
 * second one's `imm`:
 *
 *     byte 0     byte 1        bytes 2-3    bytes 4-7
 *     opcode     src:4 dst:4   offset s16   imm s32
 *
 *     opcode of ALU and JMP:   operation:4  source:1  class:3
 *     opcode of loads, stores: mode:3       size:2    class:3
 */

/** The class: the opcode's low three bits. */
export const CLASS = { LD: 0, LDX: 1, ST: 2, STX: 3, ALU: 4, JMP: 5, JMP32: 6, ALU64: 7 } as const;

/** Width of a memory access. */
export const SIZE = { W: 0x00, H: 0x08, B: 0x10, DW: 0x18 } as const;

/** Kind of a memory access. */
export const MODE = { IMM: 0x00, ABS: 0x20, IND: 0x40, MEM: 0x60, MEMSX: 0x80, ATOMIC: 0xc0 } as const;

/** The second operand: the immediate (K) or a register (X). */
export const SOURCE = { K: 0x00, X: 0x08 } as const;

/** Arithmetic operations. `offset` 1 turns DIV and MOD into their signed forms; 8, 16, 32 turn MOV into a sign extension. */
export const ALU = {
  ADD: 0x00,
  SUB: 0x10,
  MUL: 0x20,
  DIV: 0x30,
  OR: 0x40,
  AND: 0x50,
  LSH: 0x60,
  RSH: 0x70,
  NEG: 0x80,
  MOD: 0x90,
  XOR: 0xa0,
  MOV: 0xb0,
  ARSH: 0xc0,
  END: 0xd0,
} as const;

/** Jump operations. JCOND with source register 0 is `may_goto`. */
export const JUMP = {
  JA: 0x00,
  JEQ: 0x10,
  JGT: 0x20,
  JGE: 0x30,
  JSET: 0x40,
  JNE: 0x50,
  JSGT: 0x60,
  JSGE: 0x70,
  CALL: 0x80,
  EXIT: 0x90,
  JLT: 0xa0,
  JLE: 0xb0,
  JSLT: 0xc0,
  JSLE: 0xd0,
  JCOND: 0xe0,
} as const;

/** The `imm` of an atomic instruction: an ALU operation, with FETCH to read the old value back. */
export const ATOMIC = {
  ADD: 0x00,
  OR: 0x40,
  AND: 0x50,
  XOR: 0xa0,
  FETCH: 0x01,
  XCHG: 0xe1,
  CMPXCHG: 0xf1,
  LOAD_ACQUIRE: 0x100,
  STORE_RELEASE: 0x110,
} as const;

/** The source field of `ld_imm64`: what its immediate stands for. */
export const PSEUDO = { MAP_FD: 1, MAP_VALUE: 2, BTF_ID: 3, FUNC: 4, MAP_INDEX: 5, MAP_INDEX_VALUE: 6 } as const;

/** The source field of `call`: helper by number, own sub-program, kernel function by BTF id. */
export const CALL_KIND = { HELPER: 0, LOCAL: 1, KFUNC: 2 } as const;

/** The most bytes of stack that a program, with the functions it calls, may use in one frame. */
export const STACK_LIMIT_BYTES = 512;
