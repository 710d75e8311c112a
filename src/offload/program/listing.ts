/** A generated program as text: the kernel's notation, with notes. Secrets are left out. */
import { disassemble } from '../../bpf/index.ts';
import type { GeneratedProgram } from './generate.ts';

/** Print a program, a line for each instruction and each note. */
export function listProgram({ code, notes, plan }: GeneratedProgram): string {
  const lines: string[] = [
    `; ${code.name}: ${plan.masks.length} masks, ${plan.shapes.length} shapes, ${code.instructions.length} instructions`,
  ];
  disassemble(code.instructions)
    .split('\n')
    .forEach((line, index) => {
      for (const note of notes.get(index) ?? []) lines.push(`; ${note}`);
      const { opcode, map, src } = code.instructions[index];
      const isConstant = opcode === LOAD_CONSTANT && map === undefined && src === 0;
      lines.push(isConstant ? line.replace(/= 0x[0-9a-f]+$/, '= secret') : line);
    });
  return `${lines.join('\n')}\n`;
}

/** ld_imm64: here, multipliers and seeds of the hash, and nothing else. */
const LOAD_CONSTANT = 0x18;
