/**
 * One instruction, symbolic where it must be: a jump names a label, a map load names a map, until encoded.
 * Neighbours: asm/assembler.ts makes them, asm/encode.ts writes and reads their bytes, asm/disassemble.ts prints them.
 */

import { CLASS, MODE, SIZE } from '../uapi/opcodes.ts';
import type { Label, MapReference } from './operands.ts';
import type { EmitSite } from './site.ts';

/** The opcode of `ld_imm64`, the one instruction that takes two slots. */
export const LD_IMM64 = CLASS.LD | SIZE.DW | MODE.IMM;

/** One instruction with its fields as the kernel has them. */
export class Instruction {
  opcode: number;
  /** Destination register, 0 to 10. */
  dst: number;
  /** Source register, or the kind of call or immediate (CALL_KIND, PSEUDO). */
  src: number;
  /** Signed 16 bits. */
  offset: number;
  /** Signed 32 bits. */
  imm: number;
  /** Signed 32 bits: the upper half of an `ld_imm64`, zero in all others. */
  immHigh = 0;
  /** Where a jump, a local call or a function address goes; filled in when encoded. */
  target: Label | undefined = undefined;
  /** The map whose descriptor goes into `imm`; filled in when encoded. */
  map: MapReference | undefined = undefined;
  /** Where in the source it was emitted, when that was recorded. */
  site: EmitSite | undefined = undefined;

  constructor(opcode: number, dst: number, src: number, offset: number, imm: number) {
    this.opcode = opcode;
    this.dst = dst;
    this.src = src;
    this.offset = offset;
    this.imm = imm;
  }

  /** How many eight-byte slots it takes: two for `ld_imm64`, else one. */
  get slots(): number {
    return this.opcode === LD_IMM64 ? 2 : 1;
  }

  /** The class: CLASS.ALU64 and so on. */
  get class(): number {
    return this.opcode & 7;
  }
}
