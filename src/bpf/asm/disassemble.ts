/**
 * Instructions as the verifier prints them (kernel/bpf/disasm.c sets the notation), so that a listing of ours and the
 * verifier's log can be laid side by side. Neighbours: asm/encode.ts decodes, program/verifier.ts quotes lines in errors.
 */
import { helperName } from '../uapi/helpers.ts';
import { ALU, ATOMIC, CALL_KIND, CLASS, JUMP, MODE, PSEUDO, SIZE, SOURCE } from '../uapi/opcodes.ts';
import { GOTO_LONG, slotStarts } from './encode.ts';
import { type Instruction, LD_IMM64 } from './instruction.ts';

const arithmetic = new Map<number, string>([
  [ALU.ADD, '+='],
  [ALU.SUB, '-='],
  [ALU.MUL, '*='],
  [ALU.DIV, '/='],
  [ALU.OR, '|='],
  [ALU.AND, '&='],
  [ALU.LSH, '<<='],
  [ALU.RSH, '>>='],
  [ALU.MOD, '%='],
  [ALU.XOR, '^='],
  [ALU.MOV, '='],
  [ALU.ARSH, 's>>='],
]);

const comparisons = new Map<number, string>([
  [JUMP.JEQ, '=='],
  [JUMP.JGT, '>'],
  [JUMP.JGE, '>='],
  [JUMP.JSET, '&'],
  [JUMP.JNE, '!='],
  [JUMP.JSGT, 's>'],
  [JUMP.JSGE, 's>='],
  [JUMP.JLT, '<'],
  [JUMP.JLE, '<='],
  [JUMP.JSLT, 's<'],
  [JUMP.JSLE, 's<='],
]);

const bitsOf = new Map<number, number>([
  [SIZE.B, 8],
  [SIZE.H, 16],
  [SIZE.W, 32],
  [SIZE.DW, 64],
]);

const fetches = new Map<number, string>([
  [ATOMIC.ADD | ATOMIC.FETCH, 'fetch_add'],
  [ATOMIC.OR | ATOMIC.FETCH, 'fetch_or'],
  [ATOMIC.AND | ATOMIC.FETCH, 'fetch_and'],
  [ATOMIC.XOR | ATOMIC.FETCH, 'fetch_xor'],
]);

/**
 * A listing of a program, one instruction a line with its slot: `   3: (15) if r1 == 0x5 goto pc+2`.
 * @param instructions from an assembler or from decoding
 */
export function disassemble(instructions: readonly Instruction[]): string {
  const starts = slotStarts(instructions);
  return instructions
    .map((instruction, index) => `${String(starts[index]).padStart(4)}: ${printAt(instruction, index, starts)}`)
    .join('\n');
}

/** One instruction of a list in the verifier's notation, its label turned into a distance. */
export function printAt(instruction: Instruction, index: number, starts: Int32Array): string {
  const { target } = instruction;
  const distance =
    target === undefined || target.position < 0 ? undefined : (starts[target.position] ?? 0) - (starts[index] ?? 0) - 1;
  return print(instruction, distance);
}

/**
 * One instruction in the verifier's notation.
 * @param distance where its label is, in slots; by default what its fields say
 */
export function print(instruction: Instruction, distance?: number): string {
  return `(${instruction.opcode.toString(16).padStart(2, '0')}) ${body(instruction, distance)}`;
}

function body(instruction: Instruction, distance: number | undefined): string {
  switch (instruction.class) {
    case CLASS.ALU:
    case CLASS.ALU64:
      return printArithmetic(instruction);
    case CLASS.JMP:
    case CLASS.JMP32:
      return printJump(instruction, distance);
    case CLASS.LDX:
      return `r${instruction.dst} = *(${widthOf(instruction)} *)${place(instruction.src, instruction.offset)}`;
    case CLASS.ST:
      return `*(${widthOf(instruction)} *)${place(instruction.dst, instruction.offset)} = ${instruction.imm}`;
    case CLASS.STX:
      return printStore(instruction);
    default:
      return printLoad(instruction, distance);
  }
}

function printArithmetic({ opcode, dst, src, offset, imm, class: group }: Instruction): string {
  const letter = group === CLASS.ALU ? 'w' : 'r';
  const operation = opcode & 0xf0;
  const bySource = (opcode & SOURCE.X) !== 0;
  if (operation === ALU.END) {
    const kind = group === CLASS.ALU64 ? 'bswap' : bySource ? 'be' : 'le';
    return `r${dst} = ${kind}${imm} r${dst}`;
  }
  if (operation === ALU.NEG) return `${letter}${dst} = -${letter}${dst}`;
  const symbol = arithmetic.get(operation) ?? '?';
  if (operation === ALU.MOV && offset !== 0) return `${letter}${dst} = (s${offset})${letter}${src}`;
  const signed = (operation === ALU.DIV || operation === ALU.MOD) && offset === 1 ? 's' : '';
  return `${letter}${dst} ${signed}${symbol} ${bySource ? `${letter}${src}` : imm}`;
}

function printJump({ opcode, dst, src, offset, imm, class: group }: Instruction, distance: number | undefined): string {
  const operation = opcode & 0xf0;
  if (opcode === GOTO_LONG) return `gotol pc${signed(distance ?? imm)}`;
  if (operation === JUMP.JA) return `goto pc${signed(distance ?? offset)}`;
  if (operation === JUMP.EXIT) return 'exit';
  if (operation === JUMP.JCOND) return `may_goto pc${signed(distance ?? offset)}`;
  if (operation === JUMP.CALL) {
    if (src === CALL_KIND.LOCAL) return `call pc${signed(distance ?? imm)}`;
    if (src === CALL_KIND.KFUNC) return `call kernel-function#${imm}`;
    return `call ${helperName(imm) ?? 'unknown'}#${imm}`;
  }
  const letter = group === CLASS.JMP32 ? 'w' : 'r';
  const right = (opcode & SOURCE.X) !== 0 ? `${letter}${src}` : `0x${(imm >>> 0).toString(16)}`;
  return `if ${letter}${dst} ${comparisons.get(operation) ?? '?'} ${right} goto pc${signed(distance ?? offset)}`;
}

function printStore(instruction: Instruction): string {
  const { opcode, dst, src, offset, imm } = instruction;
  const width = widthOf(instruction);
  const where = place(dst, offset);
  if ((opcode & 0xe0) === MODE.MEM) return `*(${width} *)${where} = r${src}`;
  const family = (opcode & 0x18) === SIZE.DW ? 'atomic64' : 'atomic';
  const fetch = fetches.get(imm);
  if (fetch !== undefined) return `r${src} = ${family}_${fetch}((${width} *)${where}, r${src})`;
  if (imm === ATOMIC.CMPXCHG) return `r0 = ${family}_cmpxchg((${width} *)${where}, r0, r${src})`;
  if (imm === ATOMIC.XCHG) return `r${src} = ${family}_xchg((${width} *)${where}, r${src})`;
  if (imm === ATOMIC.LOAD_ACQUIRE) return `r${dst} = load_acquire((${width} *)${place(src, offset)})`;
  if (imm === ATOMIC.STORE_RELEASE) return `store_release((${width} *)${where}, r${src})`;
  return `lock *(${width} *)${where} ${arithmetic.get(imm) ?? '?'} r${src}`;
}

function printLoad(instruction: Instruction, distance: number | undefined): string {
  const { opcode, dst, src, imm } = instruction;
  const mode = opcode & 0xe0;
  if (mode === MODE.ABS) return `r0 = *(${widthOf(instruction)} *)skb[${imm}]`;
  if (mode === MODE.IND) return `r0 = *(${widthOf(instruction)} *)skb[r${src} + ${imm}]`;
  if (opcode !== LD_IMM64) return '?';
  return `r${dst} = ${wideValue(instruction, distance)}`;
}

function wideValue({ src, imm, immHigh, map }: Instruction, distance: number | undefined): string {
  const which = map === undefined ? `fd:${imm}` : map.name;
  switch (src) {
    case PSEUDO.MAP_FD:
      return `map[${which}]`;
    case PSEUDO.MAP_VALUE:
      return `map[${which}][0]+${immHigh}`;
    case PSEUDO.FUNC:
      return `func pc${signed(distance ?? imm)}`;
    case PSEUDO.BTF_ID:
      return `btf[${imm}]`;
    case PSEUDO.MAP_INDEX:
      return `map[index:${imm}]`;
    case PSEUDO.MAP_INDEX_VALUE:
      return `map[index:${imm}][0]+${immHigh}`;
    default:
      return `0x${((BigInt(immHigh >>> 0) << 32n) | BigInt(imm >>> 0)).toString(16)}`;
  }
}

function widthOf({ opcode }: Instruction): string {
  const extended = (opcode & 7) === CLASS.LDX && (opcode & 0xe0) === MODE.MEMSX;
  return `${extended ? 's' : 'u'}${bitsOf.get(opcode & 0x18) ?? 0}`;
}

function place(register: number, offset: number): string {
  return `(r${register} ${signed(offset)})`;
}

function signed(value: number): string {
  return value < 0 ? `${value}` : `+${value}`;
}
