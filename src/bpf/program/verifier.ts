/**
 * Reading the verifier's log: which instruction it refused, what was in the registers then, and in what words.
 * Neighbours: program/load.ts gets the log, asm/site.ts knows the line that emitted the instruction.
 *
 * At log level 1 the verifier prints each instruction that it walks, then after a semicolon the registers that changed;
 * at a branch it comes back to ("from 5 to 8:") it prints them all. The last words before "processed N insns" are the reason.
 */
import { printAt } from '../asm/disassemble.ts';
import { slotStarts } from '../asm/encode.ts';
import type { Instruction } from '../asm/instruction.ts';
import type { SourceLine } from '../asm/site.ts';
import { BpfError } from '../errors.ts';

/** What a log tells. */
export interface VerifierFindings {
  /** The verifier's words. */
  readonly reason: string;
  /** Slot of the instruction it refused; undefined where the log names none. */
  readonly slot: number | undefined;
  /** The registers before that instruction, such as R1 to 'ctx()'. */
  readonly registers: ReadonlyMap<string, string>;
}

const instructionLine = /^(\d+): \([0-9a-f]{2}\) /;
const stateLine = /^(?:from (\d+) to )?(\d+): (?:\(?[a-z ]*\)?\s*)?(R\d.*)$/;
/** Lines that are no complaint. */
const noise =
  /^(processed \d+ insns|verification time|stack depth|mark_precise|max_states|parent |last_idx|regs=|func#|Live regs|;|\d+: |from \d+ to|caller:|callee:|returning from|to caller|R\d+(_w)?=|BTF|arg#\d)/;

/** Read a log. */
export function readVerifierLog(log: string): VerifierFindings {
  let slot: number | undefined;
  let registers = new Map<string, string>();
  let pending = new Map<string, string>();
  const words: string[] = [];
  for (const line of log.split('\n')) {
    if (instructionLine.test(line)) {
      slot = Number.parseInt(line, 10);
      registers = new Map([...registers, ...pending]);
      pending = new Map();
      words.length = 0;
      // A branch taken shows all registers at its target; else those that changed come after a semicolon.
      const jumped = / \d+: (R\d.*)$/.exec(line)?.[1];
      const after = line.indexOf('; R');
      if (jumped !== undefined) {
        registers = new Map();
        pending = readRegisters(jumped);
      } else if (after >= 0) pending = readRegisters(line.slice(after + 2));
      continue;
    }
    const state = stateLine.exec(line);
    if (state?.[3] !== undefined) {
      const all = readRegisters(state[3]);
      if (state[1] === undefined) pending = new Map([...pending, ...all]);
      else {
        registers = new Map();
        pending = all;
      }
      continue;
    }
    if (line !== '' && !noise.test(line)) words.push(line);
  }
  const reason = words.join('; ');
  return { reason: reason === '' ? 'no reason was given' : reason, slot: slotNamed(reason) ?? slot, registers };
}

/** Complaints made before the walk, or about the shape of the program, name their instruction themselves. */
function slotNamed(reason: string): number | undefined {
  const match = /(?:unreachable insn|from insn|at insn|insn|back-edge from insn) (\d+)/.exec(reason);
  return match?.[1] === undefined ? undefined : Number(match[1]);
}

/** Values may hold spaces only inside brackets: R1=pkt(off=0, r=14). */
function readRegisters(text: string): Map<string, string> {
  const found = new Map<string, string>();
  const pattern = /\b(R\d+|fp-\d+)(?:_[rwD]+)?=((?:\([^)]*\)|[^\s(])+)/g;
  for (const match of text.matchAll(pattern)) {
    if (match[1] !== undefined && match[2] !== undefined) found.set(match[1], match[2]);
  }
  return found;
}

/** The verifier refused a program. */
export class VerifierError extends BpfError {
  override readonly name = 'VerifierError';
  /** The program's name. */
  readonly program: string;
  /** The verifier's words. */
  readonly reason: string;
  /** Slot of the instruction, counted as the verifier counts. */
  readonly slot: number | undefined;
  /** The instruction in the verifier's notation. */
  readonly instruction: string | undefined;
  /** The registers before it, by name. */
  readonly registers: ReadonlyMap<string, string>;
  /** The line that emitted the instruction. */
  readonly source: SourceLine | undefined;
  /** The whole log, as the kernel gave it. */
  readonly log: string;
  /** The negative result's errno, as a positive number. */
  readonly errno: number;

  constructor(program: string, type: string, instructions: readonly Instruction[], log: string, errno: number) {
    const findings = readVerifierLog(log);
    const starts = slotStarts(instructions);
    const index = findings.slot === undefined ? -1 : instructionAt(starts, findings.slot);
    const instruction = instructions[index];
    const source = instruction?.site?.resolve();
    const text = instruction === undefined ? undefined : printAt(instruction, index, starts);
    super('verifier', compose(program, type, findings, text, source));
    this.program = program;
    this.reason = findings.reason;
    this.slot = findings.slot;
    this.instruction = text;
    this.registers = findings.registers;
    this.source = source;
    this.log = log;
    this.errno = errno;
  }
}

/** Index of the instruction that a slot belongs to, -1 if there is none. */
export function instructionAt(starts: Int32Array, slot: number): number {
  for (let index = 0; index < starts.length - 1; index++) {
    if ((starts[index] ?? 0) <= slot && slot < (starts[index + 1] ?? 0)) return index;
  }
  return -1;
}

function compose(
  program: string,
  type: string,
  { reason, slot, registers }: VerifierFindings,
  text: string | undefined,
  source: SourceLine | undefined,
): string {
  const lines = [`the verifier refused ${type} program "${program}": ${reason}`];
  if (text !== undefined) lines.push(`  at ${slot}: ${text}`);
  if (source !== undefined) {
    lines.push(
      `  emitted at ${source.file}:${source.line}:${source.column}${source.text === '' ? '' : `: ${source.text}`}`,
    );
  }
  if (registers.size > 0) {
    const sorted = [...registers].sort(([a], [b]) => rank(a) - rank(b));
    lines.push(`  with ${sorted.map(([name, value]) => `${name}=${value}`).join(' ')}`);
  }
  return lines.join('\n');
}

/** R0 to R10, then the stack from the top down. */
function rank(name: string): number {
  return name.startsWith('R') ? Number(name.slice(1)) : 100 - Number(name.slice(2));
}
