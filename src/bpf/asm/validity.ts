/** Which opcodes the instruction set has. Neighbour: asm/encode.ts refuses all others when it decodes. */
import { ALU, ATOMIC, CALL_KIND, CLASS, JUMP, MODE, PSEUDO, SIZE, SOURCE } from '../uapi/opcodes.ts';
import type { Instruction } from './instruction.ts';

const atomicOperations: ReadonlySet<number> = new Set([
  ATOMIC.ADD,
  ATOMIC.OR,
  ATOMIC.AND,
  ATOMIC.XOR,
  ATOMIC.ADD | ATOMIC.FETCH,
  ATOMIC.OR | ATOMIC.FETCH,
  ATOMIC.AND | ATOMIC.FETCH,
  ATOMIC.XOR | ATOMIC.FETCH,
  ATOMIC.XCHG,
  ATOMIC.CMPXCHG,
  ATOMIC.LOAD_ACQUIRE,
  ATOMIC.STORE_RELEASE,
]);

/** True when opcode, and the fields that widen it (offset of divisions, moves; imm of swaps, atomics), name an instruction. */
export function isKnownOpcode(instruction: Instruction): boolean {
  switch (instruction.class) {
    case CLASS.ALU:
    case CLASS.ALU64:
      return isArithmetic(instruction);
    case CLASS.JMP:
    case CLASS.JMP32:
      return isJump(instruction);
    default:
      return isMemory(instruction);
  }
}

function isArithmetic({ opcode, offset, imm, class: group }: Instruction): boolean {
  const operation = opcode & 0xf0;
  const bySource = (opcode & SOURCE.X) !== 0;
  if (operation === ALU.END) {
    return (imm === 16 || imm === 32 || imm === 64) && !(group === CLASS.ALU64 && bySource);
  }
  if (operation === ALU.NEG) return !bySource;
  if (operation === ALU.MOV && bySource) {
    return offset === 0 || offset === 8 || offset === 16 || (offset === 32 && group === CLASS.ALU64);
  }
  if (operation === ALU.DIV || operation === ALU.MOD) return offset === 0 || offset === 1;
  return operation <= ALU.ARSH && offset === 0;
}

function isJump({ opcode, src, class: group }: Instruction): boolean {
  const operation = opcode & 0xf0;
  const bySource = (opcode & SOURCE.X) !== 0;
  if (operation === JUMP.JA) return !bySource;
  if (operation === JUMP.CALL) return group === CLASS.JMP && !bySource && src <= CALL_KIND.KFUNC;
  if (operation === JUMP.EXIT) return group === CLASS.JMP && !bySource;
  if (operation === JUMP.JCOND) return group === CLASS.JMP && !bySource && src === 0;
  return operation <= JUMP.JSLE;
}

function isMemory({ opcode, src, imm, class: group }: Instruction): boolean {
  const mode = opcode & 0xe0;
  const size = opcode & 0x18;
  switch (group) {
    case CLASS.LD:
      if (mode === MODE.IMM) return size === SIZE.DW && src <= PSEUDO.MAP_INDEX_VALUE;
      return (mode === MODE.ABS || mode === MODE.IND) && size !== SIZE.DW;
    case CLASS.LDX:
      return mode === MODE.MEM || (mode === MODE.MEMSX && size !== SIZE.DW);
    case CLASS.ST:
      return mode === MODE.MEM;
    default:
      if (mode === MODE.MEM) return true;
      if (mode !== MODE.ATOMIC || !atomicOperations.has(imm)) return false;
      return imm === ATOMIC.LOAD_ACQUIRE || imm === ATOMIC.STORE_RELEASE || size === SIZE.W || size === SIZE.DW;
  }
}
