/**
 * The assembler: a method for every instruction of the machine, one instruction a call (RFC 9669, and
 * Documentation/bpf/standardization of the kernel). Neighbours: asm/arithmetic.ts has the operations between
 * registers, asm/emitter.ts gathers, asm/control-flow.ts adds structure above.
 *
 * Destination first, as the verifier prints it: `a.add(R1, 5)` is `r1 += 5`. Methods that end in 32 work on the lower
 * half and clear the upper one.
 */
import { AssemblyError } from '../errors.ts';
import { HELPERS, type HelperName } from '../uapi/helpers.ts';
import { ATOMIC, CALL_KIND, CLASS, JUMP, MODE, PSEUDO, SIZE, SOURCE } from '../uapi/opcodes.ts';
import { Arithmetic, type Operand } from './arithmetic.ts';
import { immediate32, immediate64 } from './emitter.ts';
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

/** The assembler. Every method appends one instruction. */
export class Assembler extends Arithmetic {
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
