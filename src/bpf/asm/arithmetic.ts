/**
 * The arithmetic half of the assembler: a method for every operation between registers, 64 and 32 bits (RFC 9669, section 4).
 * Neighbours: asm/emitter.ts gathers, asm/assembler.ts adds memory, jumps and calls.
 */
import { AssemblyError } from '../errors.ts';
import { ALU, CLASS, SOURCE } from '../uapi/opcodes.ts';
import { Emitter, immediate32, immediate64 } from './emitter.ts';
import type { Register } from './operands.ts';

/** Second operand of most instructions: a register, or an immediate of 32 bits. */
export type Operand = Register | number;

/** Arithmetic, moves and byte swaps. Every method appends one instruction. */
export class Arithmetic extends Emitter {
  #alu(group: number, operation: number, dst: Register, operand: Operand, offset: number): void {
    if (typeof operand === 'number') {
      const imm = group === CLASS.ALU64 ? immediate64(operand) : immediate32(operand);
      this.emit(group | operation | SOURCE.K, dst.index, 0, offset, imm);
    } else {
      this.emit(group | operation | SOURCE.X, dst.index, operand.index, offset, 0);
    }
  }

  #shift(group: number, operation: number, dst: Register, operand: Operand, bits: number): void {
    if (typeof operand === 'number' && !(operand >= 0 && operand < bits)) {
      throw new AssemblyError(`a shift by ${operand} is outside 0 to ${bits - 1}`);
    }
    this.#alu(group, operation, dst, operand, 0);
  }

  #divide(group: number, operation: number, dst: Register, operand: Operand, signed: number): void {
    if (operand === 0) throw new AssemblyError('division by the constant zero');
    this.#alu(group, operation, dst, operand, signed);
  }

  /** `dst = operand`. */
  mov(dst: Register, operand: Operand): void {
    this.#alu(CLASS.ALU64, ALU.MOV, dst, operand, 0);
  }

  /** `dst = operand`, 32 bits. */
  mov32(dst: Register, operand: Operand): void {
    this.#alu(CLASS.ALU, ALU.MOV, dst, operand, 0);
  }

  /** `dst = (s8|s16|s32)src`: sign extension to 64 bits (Linux 6.6). */
  movSigned(dst: Register, src: Register, bits: 8 | 16 | 32): void {
    this.#alu(CLASS.ALU64, ALU.MOV, dst, src, bits);
  }

  /** `dst = (s8|s16)src`: sign extension to 32 bits (Linux 6.6). */
  movSigned32(dst: Register, src: Register, bits: 8 | 16): void {
    this.#alu(CLASS.ALU, ALU.MOV, dst, src, bits);
  }

  /** `dst += operand`. */
  add(dst: Register, operand: Operand): void {
    this.#alu(CLASS.ALU64, ALU.ADD, dst, operand, 0);
  }

  /** `dst += operand`, 32 bits. */
  add32(dst: Register, operand: Operand): void {
    this.#alu(CLASS.ALU, ALU.ADD, dst, operand, 0);
  }

  /** `dst -= operand`. */
  sub(dst: Register, operand: Operand): void {
    this.#alu(CLASS.ALU64, ALU.SUB, dst, operand, 0);
  }

  /** `dst -= operand`, 32 bits. */
  sub32(dst: Register, operand: Operand): void {
    this.#alu(CLASS.ALU, ALU.SUB, dst, operand, 0);
  }

  /** `dst *= operand`. */
  mul(dst: Register, operand: Operand): void {
    this.#alu(CLASS.ALU64, ALU.MUL, dst, operand, 0);
  }

  /** `dst *= operand`, 32 bits. */
  mul32(dst: Register, operand: Operand): void {
    this.#alu(CLASS.ALU, ALU.MUL, dst, operand, 0);
  }

  /** `dst /= operand`, unsigned; division by a register that is zero gives zero. */
  div(dst: Register, operand: Operand): void {
    this.#divide(CLASS.ALU64, ALU.DIV, dst, operand, 0);
  }

  /** `dst /= operand`, unsigned, 32 bits. */
  div32(dst: Register, operand: Operand): void {
    this.#divide(CLASS.ALU, ALU.DIV, dst, operand, 0);
  }

  /** `dst s/= operand`, signed (Linux 6.6). */
  divSigned(dst: Register, operand: Operand): void {
    this.#divide(CLASS.ALU64, ALU.DIV, dst, operand, 1);
  }

  /** `dst s/= operand`, signed, 32 bits (Linux 6.6). */
  divSigned32(dst: Register, operand: Operand): void {
    this.#divide(CLASS.ALU, ALU.DIV, dst, operand, 1);
  }

  /** `dst %= operand`, unsigned; by a register that is zero it leaves dst as it is. */
  mod(dst: Register, operand: Operand): void {
    this.#divide(CLASS.ALU64, ALU.MOD, dst, operand, 0);
  }

  /** `dst %= operand`, unsigned, 32 bits. */
  mod32(dst: Register, operand: Operand): void {
    this.#divide(CLASS.ALU, ALU.MOD, dst, operand, 0);
  }

  /** `dst s%= operand`, signed (Linux 6.6). */
  modSigned(dst: Register, operand: Operand): void {
    this.#divide(CLASS.ALU64, ALU.MOD, dst, operand, 1);
  }

  /** `dst s%= operand`, signed, 32 bits (Linux 6.6). */
  modSigned32(dst: Register, operand: Operand): void {
    this.#divide(CLASS.ALU, ALU.MOD, dst, operand, 1);
  }

  /** `dst |= operand`. */
  or(dst: Register, operand: Operand): void {
    this.#alu(CLASS.ALU64, ALU.OR, dst, operand, 0);
  }

  /** `dst |= operand`, 32 bits. */
  or32(dst: Register, operand: Operand): void {
    this.#alu(CLASS.ALU, ALU.OR, dst, operand, 0);
  }

  /** `dst &= operand`. */
  and(dst: Register, operand: Operand): void {
    this.#alu(CLASS.ALU64, ALU.AND, dst, operand, 0);
  }

  /** `dst &= operand`, 32 bits. */
  and32(dst: Register, operand: Operand): void {
    this.#alu(CLASS.ALU, ALU.AND, dst, operand, 0);
  }

  /** `dst ^= operand`. */
  xor(dst: Register, operand: Operand): void {
    this.#alu(CLASS.ALU64, ALU.XOR, dst, operand, 0);
  }

  /** `dst ^= operand`, 32 bits. */
  xor32(dst: Register, operand: Operand): void {
    this.#alu(CLASS.ALU, ALU.XOR, dst, operand, 0);
  }

  /** `dst <<= operand`. */
  shl(dst: Register, operand: Operand): void {
    this.#shift(CLASS.ALU64, ALU.LSH, dst, operand, 64);
  }

  /** `dst <<= operand`, 32 bits. */
  shl32(dst: Register, operand: Operand): void {
    this.#shift(CLASS.ALU, ALU.LSH, dst, operand, 32);
  }

  /** `dst >>= operand`, filling with zeros. */
  shr(dst: Register, operand: Operand): void {
    this.#shift(CLASS.ALU64, ALU.RSH, dst, operand, 64);
  }

  /** `dst >>= operand`, filling with zeros, 32 bits. */
  shr32(dst: Register, operand: Operand): void {
    this.#shift(CLASS.ALU, ALU.RSH, dst, operand, 32);
  }

  /** `dst s>>= operand`, keeping the sign. */
  sar(dst: Register, operand: Operand): void {
    this.#shift(CLASS.ALU64, ALU.ARSH, dst, operand, 64);
  }

  /** `dst s>>= operand`, keeping the sign, 32 bits. */
  sar32(dst: Register, operand: Operand): void {
    this.#shift(CLASS.ALU, ALU.ARSH, dst, operand, 32);
  }

  /** `dst = -dst`. */
  neg(dst: Register): void {
    this.emit(CLASS.ALU64 | ALU.NEG, dst.index, 0, 0, 0);
  }

  /** `dst = -dst`, 32 bits. */
  neg32(dst: Register): void {
    this.emit(CLASS.ALU | ALU.NEG, dst.index, 0, 0, 0);
  }

  /** The lower bits of dst from host to network order, or back; clears the bits above. */
  toBigEndian(dst: Register, bits: 16 | 32 | 64): void {
    this.emit(CLASS.ALU | ALU.END | SOURCE.X, dst.index, 0, 0, bits);
  }

  /** The lower bits of dst from host to little-endian order, or back; clears the bits above. */
  toLittleEndian(dst: Register, bits: 16 | 32 | 64): void {
    this.emit(CLASS.ALU | ALU.END | SOURCE.K, dst.index, 0, 0, bits);
  }

  /** Swap the bytes of the lower bits of dst, on any machine (Linux 6.6); clears the bits above. */
  swapBytes(dst: Register, bits: 16 | 32 | 64): void {
    this.emit(CLASS.ALU64 | ALU.END, dst.index, 0, 0, bits);
  }
}
