/**
 * The assembler: a method for every instruction of the machine, one instruction a call (RFC 9669, and
 * Documentation/bpf/standardization of the kernel). Neighbours: asm/emitter.ts gathers, asm/builder.ts adds structure above.
 *
 * Destination first, as the verifier prints it: `a.add(R1, 5)` is `r1 += 5`. Methods that end in 32 work on the lower
 * half and clear the upper one.
 */
import { AssemblyError } from '../errors.ts';
import { HELPERS, type HelperName } from '../uapi/helpers.ts';
import { ALU, ATOMIC, CALL_KIND, CLASS, JUMP, MODE, PSEUDO, SIZE, SOURCE } from '../uapi/opcodes.ts';
import { Emitter, immediate32, immediate64 } from './emitter.ts';
import { GOTO_LONG } from './encode.ts';
import { LD_IMM64 } from './instruction.ts';
import type {
  Address,
  AtomicOperation,
  Condition,
  Label,
  MapReference,
  Register,
  StoreWidth,
  Width,
} from './operands.ts';

const sizeOf = { u8: SIZE.B, u16: SIZE.H, u32: SIZE.W, u64: SIZE.DW, s8: SIZE.B, s16: SIZE.H, s32: SIZE.W } as const;

const conditions: Readonly<Record<Condition, number>> = {
  '==': JUMP.JEQ,
  '!=': JUMP.JNE,
  '>': JUMP.JGT,
  '>=': JUMP.JGE,
  '<': JUMP.JLT,
  '<=': JUMP.JLE,
  's>': JUMP.JSGT,
  's>=': JUMP.JSGE,
  's<': JUMP.JSLT,
  's<=': JUMP.JSLE,
  '&': JUMP.JSET,
};

const atomics: Readonly<Record<AtomicOperation, number>> = {
  add: ATOMIC.ADD,
  or: ATOMIC.OR,
  and: ATOMIC.AND,
  xor: ATOMIC.XOR,
  fetch_add: ATOMIC.ADD | ATOMIC.FETCH,
  fetch_or: ATOMIC.OR | ATOMIC.FETCH,
  fetch_and: ATOMIC.AND | ATOMIC.FETCH,
  fetch_xor: ATOMIC.XOR | ATOMIC.FETCH,
  xchg: ATOMIC.XCHG,
  cmpxchg: ATOMIC.CMPXCHG,
};

/** Second operand of most instructions: a register, or an immediate of 32 bits. */
export type Operand = Register | number;

/** The assembler. Every method appends one instruction. */
export class Assembler extends Emitter {
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

  /** `dst = *(width *)(address)`. The signed widths extend to 64 bits (Linux 6.6). */
  load(dst: Register, width: Width, address: Address): void {
    const mode = width.startsWith('s') ? MODE.MEMSX : MODE.MEM;
    this.emit(CLASS.LDX | sizeOf[width] | mode, dst.index, address.base.index, address.offset, 0);
  }

  /** `*(width *)(address) = value`. An immediate for u64 is sign-extended from 32 bits. */
  store(width: StoreWidth, address: Address, value: Operand): void {
    const { base, offset } = address;
    if (typeof value === 'number') {
      this.emit(CLASS.ST | sizeOf[width] | MODE.MEM, base.index, 0, offset, storeImmediate(width, value));
    } else {
      this.emit(CLASS.STX | sizeOf[width] | MODE.MEM, base.index, value.index, offset, 0);
    }
  }

  /**
   * An atomic operation on memory. The fetch forms and xchg put the old value into `src`; cmpxchg compares with R0, stores
   * `src` when equal, and puts the old value into R0. All but 'add' need Linux 5.12.
   */
  atomic(operation: AtomicOperation, width: 'u32' | 'u64', address: Address, src: Register): void {
    const { base, offset } = address;
    this.emit(CLASS.STX | sizeOf[width] | MODE.ATOMIC, base.index, src.index, offset, atomics[operation]);
  }

  /** Load with acquire ordering (Linux 6.15). */
  loadAcquire(dst: Register, width: StoreWidth, address: Address): void {
    const { base, offset } = address;
    this.emit(CLASS.STX | sizeOf[width] | MODE.ATOMIC, dst.index, base.index, offset, ATOMIC.LOAD_ACQUIRE);
  }

  /** Store with release ordering (Linux 6.15). */
  storeRelease(width: StoreWidth, address: Address, src: Register): void {
    const { base, offset } = address;
    this.emit(CLASS.STX | sizeOf[width] | MODE.ATOMIC, base.index, src.index, offset, ATOMIC.STORE_RELEASE);
  }

  /** `r0 = *(width *)skb[offset]`, host order: the packet access of socket filters and TC. R6 must hold the context. */
  loadPacket(width: 'u8' | 'u16' | 'u32', offsetBytes: number): void {
    this.emit(CLASS.LD | sizeOf[width] | MODE.ABS, 0, 0, 0, immediate64(offsetBytes));
  }

  /** `r0 = *(width *)skb[index + offset]`. R6 must hold the context. */
  loadPacketAt(width: 'u8' | 'u16' | 'u32', index: Register, offsetBytes: number): void {
    this.emit(CLASS.LD | sizeOf[width] | MODE.IND, 0, index.index, 0, immediate64(offsetBytes));
  }

  /**
   * `dst = value ll`: any 64-bit constant, in two slots.
   * @throws AssemblyError outside -2^63 to 2^64-1
   */
  load64(dst: Register, value: bigint): void {
    if (value < -(1n << 63n) || value >= 1n << 64n) throw new AssemblyError(`${value} does not fit 64 bits`);
    this.emitWide(dst, 0, Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)), LD_IMM64);
  }

  /** `dst` = the map, as the first argument of map helpers. */
  loadMap(dst: Register, map: MapReference): void {
    this.emitMap(dst, PSEUDO.MAP_FD, map, 0, LD_IMM64);
  }

  /** `dst` = the address of the value of an array map with one entry, plus an offset: a global variable (Linux 5.2). */
  loadMapValue(dst: Register, map: MapReference, offsetBytes = 0): void {
    this.emitMap(dst, PSEUDO.MAP_VALUE, map, immediate32(offsetBytes), LD_IMM64);
  }

  /** `dst` = the address of a function of this program, for helpers such as `loop` that call back (Linux 5.13). */
  loadFunction(dst: Register, label: Label): void {
    this.emitTo(label, LD_IMM64, dst.index, PSEUDO.FUNC, 0);
  }

  /** `dst` = the address of a kernel variable with a BTF id (Linux 5.10). */
  loadKernelSymbol(dst: Register, btfId: number): void {
    this.emitWide(dst, PSEUDO.BTF_ID, immediate32(btfId), 0, LD_IMM64);
  }

  /** `goto label`. */
  jump(label: Label): void {
    this.emitTo(label, CLASS.JMP | JUMP.JA, 0, 0, 0);
    this.endPath();
  }

  /** `gotol label`: with 32 bits of distance (Linux 6.6). */
  jumpLong(label: Label): void {
    this.emitTo(label, GOTO_LONG, 0, 0, 0);
    this.endPath();
  }

  /** `if left condition right goto label`, 64 bits, unsigned unless the condition says `s`. */
  jumpIf(left: Register, condition: Condition, right: Operand, label: Label): void {
    this.#branch(CLASS.JMP, left, condition, right, label);
  }

  /** The same on the lower 32 bits (Linux 5.1). */
  jumpIf32(left: Register, condition: Condition, right: Operand, label: Label): void {
    this.#branch(CLASS.JMP32, left, condition, right, label);
  }

  #branch(group: number, left: Register, condition: Condition, right: Operand, label: Label): void {
    const opcode = group | conditions[condition];
    if (typeof right === 'number') {
      const imm = group === CLASS.JMP ? immediate64(right) : immediate32(right);
      this.emitTo(label, opcode | SOURCE.K, left.index, 0, imm);
    } else {
      this.emitTo(label, opcode | SOURCE.X, left.index, right.index, 0);
    }
  }

  /** `may_goto label`: leaves a loop after some eight million turns, so that the verifier need not bound it (Linux 6.9). */
  mayGoto(label: Label): void {
    this.emitTo(label, CLASS.JMP | JUMP.JCOND, 0, 0, 0);
  }

  /** Call a helper, by name or number. Arguments are in R1 to R5, the result comes in R0, and R1 to R5 are lost. */
  callHelper(helper: HelperName | number): void {
    const id = typeof helper === 'number' ? helper : HELPERS[helper];
    this.emit(CLASS.JMP | JUMP.CALL, 0, CALL_KIND.HELPER, 0, id);
  }

  /** Call a function of this program. */
  callFunction(label: Label): void {
    this.emitTo(label, CLASS.JMP | JUMP.CALL, 0, CALL_KIND.LOCAL, 0);
  }

  /**
   * Call a kernel function (Linux 5.13).
   * @param btfId its id in the kernel's BTF: see `kernelFunctionId`
   */
  callKfunc(btfId: number): void {
    this.emit(CLASS.JMP | JUMP.CALL, 0, CALL_KIND.KFUNC, 0, immediate32(btfId));
  }

  /** Return from the function or end the program, with the result in R0. */
  exit(): void {
    this.emit(CLASS.JMP | JUMP.EXIT, 0, 0, 0, 0);
    this.endPath();
  }
}

const storeLimits = { u8: 0xff, u16: 0xffff, u32: 0xffffffff } as const;

function storeImmediate(width: StoreWidth, value: number): number {
  if (width === 'u64') return immediate64(value);
  const limit = storeLimits[width];
  if (Number.isInteger(value) && value <= limit && value >= -((limit + 1) / 2)) return value | 0;
  throw new AssemblyError(`${value} does not fit a ${width}`);
}
