/**
 * Where instructions gather: the list, labels, and the record of which code can be reached.
 * Neighbour: asm/assembler.ts adds a method for every instruction.
 */
import { AssemblyError } from '../errors.ts';
import { Instruction } from './instruction.ts';
import { Label, type MapReference, type Register } from './operands.ts';
import { EmitSite } from './site.ts';

/** A function of the program: where it starts and under which name the kernel shall know it. */
export interface FunctionStart {
  readonly name: string;
  readonly label: Label;
}

/** How to gather instructions. */
export interface EmitterOptions {
  /** Record the source line of every instruction (a few microseconds each); true unless said otherwise. */
  readonly recordSites?: boolean;
}

/** The list of instructions being written. */
export class Emitter {
  /** What was emitted so far. */
  readonly instructions: Instruction[] = [];
  /** The program's functions in the order of their code; the first is the entry. */
  readonly functions: FunctionStart[] = [];
  readonly name: string;
  readonly #recordSites: boolean;
  /** Where the construct that is being written was asked for. */
  #site: EmitSite | undefined = undefined;
  #reachable = true;
  #labels = 0;

  /**
   * @param name the program's name; the kernel shows its first 15 characters
   */
  constructor(name: string, options: EmitterOptions = {}) {
    this.name = name;
    this.#recordSites = options.recordSites ?? true;
    const entry = this.label(name);
    entry.position = 0;
    this.functions.push({ name, label: entry });
  }

  /** False right after an exit or an unconditional jump, until a label is placed. */
  get reachable(): boolean {
    return this.#reachable;
  }

  /**
   * Make a label, to be placed once and jumped to any number of times.
   * @param name for messages; a number is added where none is given
   */
  label(name?: string): Label {
    this.#labels++;
    return new Label(name ?? `label ${this.#labels}`);
  }

  /**
   * Put a label down before the next instruction.
   * @throws AssemblyError when it was placed before
   */
  place(label: Label): void {
    if (label.position >= 0) throw new AssemblyError(`label "${label.name}" is placed twice`);
    label.position = this.instructions.length;
    this.#reachable = true;
  }

  /** Place a label only if something jumps to it, so that code after two ended branches is known to be out of reach. */
  placeIfUsed(label: Label): void {
    if (label.uses > 0) this.place(label);
  }

  /**
   * Start a function here. The code before must have ended.
   * @throws AssemblyError when the code before would run on into it
   */
  startFunction(name: string, label: Label): void {
    if (this.#reachable) throw new AssemblyError(`the code before function "${name}" ends in neither exit nor jump`);
    this.place(label);
    this.functions.push({ name, label });
  }

  /**
   * Check that the program is whole.
   * @throws AssemblyError when it is empty, runs off its end, or uses a label that is never placed
   */
  checkComplete(): void {
    if (this.instructions.length === 0) throw new AssemblyError(`program "${this.name}" is empty`);
    if (this.#reachable) throw new AssemblyError(`program "${this.name}" ends in neither exit nor jump`);
    for (const { target } of this.instructions) {
      if (target !== undefined && target.position < 0) {
        throw new AssemblyError(`label "${target.name}" is used but never placed`);
      }
      if (target !== undefined && target.position >= this.instructions.length) {
        throw new AssemblyError(`label "${target.name}" stands after the last instruction`);
      }
    }
  }

  /**
   * Append an instruction.
   * @throws AssemblyError when nothing can reach it: the kernel refuses such code, and here the message has the line
   */
  protected emit(opcode: number, dst: number, src: number, offset: number, imm: number): Instruction {
    if (!this.#reachable)
      throw new AssemblyError('nothing reaches this instruction: it follows an exit or a jump, with no label between');
    if (offset < -0x8000 || offset > 0x7fff || !Number.isInteger(offset)) {
      throw new AssemblyError(`offset ${offset} does not fit into 16 bits`);
    }
    const instruction = new Instruction(opcode, dst, src, offset, imm);
    if (this.#recordSites) instruction.site = this.#site ?? EmitSite.capture();
    this.instructions.push(instruction);
    return instruction;
  }

  /** Write several instructions for one line of the user's: all have that line as theirs. */
  protected construct(write: () => void): void {
    if (this.#site !== undefined || !this.#recordSites) {
      write();
      return;
    }
    this.#site = EmitSite.capture();
    try {
      write();
    } finally {
      this.#site = undefined;
    }
  }

  /** Write what the user writes inside a construct: its instructions have lines of their own. */
  protected inner(write: () => void): void {
    const site = this.#site;
    this.#site = undefined;
    try {
      write();
    } finally {
      this.#site = site;
    }
  }

  /** Append an instruction that goes to a label. */
  protected emitTo(label: Label, opcode: number, dst: number, src: number, imm: number): Instruction {
    const instruction = this.emit(opcode, dst, src, 0, imm);
    instruction.target = label;
    label.uses++;
    return instruction;
  }

  /** Append an `ld_imm64`. */
  protected emitWide(dst: Register, src: number, imm: number, immHigh: number, opcode: number): Instruction {
    const instruction = this.emit(opcode, dst.index, src, 0, imm);
    instruction.immHigh = immHigh;
    return instruction;
  }

  /** Append an `ld_imm64` of a map. */
  protected emitMap(dst: Register, src: number, map: MapReference, immHigh: number, opcode: number): Instruction {
    const instruction = this.emitWide(dst, src, 0, immHigh, opcode);
    instruction.map = map;
    return instruction;
  }

  /** What follows is out of reach until a label is placed. */
  protected endPath(): void {
    this.#reachable = false;
  }
}

/**
 * An immediate for a 64-bit operation, where the machine extends its sign.
 * @throws AssemblyError outside -2^31 to 2^31-1
 */
export function immediate64(value: number): number {
  if (Number.isInteger(value) && value >= -0x80000000 && value <= 0x7fffffff) return value;
  throw new AssemblyError(`${value} does not fit the 32 signed bits of an immediate; set() a register to it first`);
}

/**
 * An immediate for a 32-bit operation: signed or unsigned.
 * @throws AssemblyError outside -2^31 to 2^32-1
 */
export function immediate32(value: number): number {
  if (Number.isInteger(value) && value >= -0x80000000 && value <= 0xffffffff) return value | 0;
  throw new AssemblyError(`${value} does not fit 32 bits`);
}
