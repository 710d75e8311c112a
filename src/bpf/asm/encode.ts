/**
 * Instructions to bytes and back. Neighbours: asm/assembler.ts hands its instructions over here when a program is loaded,
 * asm/disassemble.ts prints what decoding gives.
 */
import { AssemblyError } from '../errors.ts';
import { CLASS, JUMP } from '../uapi/opcodes.ts';
import { Instruction, LD_IMM64 } from './instruction.ts';
import { isKnownOpcode } from './validity.ts';

/** Bytes of one slot. */
export const SLOT_BYTES = 8;

/** The opcode of `gotol`, whose distance is in `imm`. */
export const GOTO_LONG = CLASS.JMP32 | JUMP.JA;

const CALL = CLASS.JMP | JUMP.CALL;

/**
 * The slot at which each instruction starts, and after the last the number of slots.
 */
export function slotStarts(instructions: readonly Instruction[]): Int32Array {
  const starts = new Int32Array(instructions.length + 1);
  let slot = 0;
  for (let index = 0; index < instructions.length; index++) {
    starts[index] = slot;
    slot += instructions[index]?.slots ?? 1;
  }
  starts[instructions.length] = slot;
  return starts;
}

/**
 * Encode a program: labels become distances, maps their descriptors.
 * @returns eight bytes a slot, in the byte order of this machine, which must be little endian
 * @throws AssemblyError when a label was never placed, a jump is too far, or a map is closed
 */
export function encode(instructions: readonly Instruction[]): Uint8Array {
  const starts = slotStarts(instructions);
  const bytes = new Uint8Array(Math.max((starts[instructions.length] ?? 0) * SLOT_BYTES, SLOT_BYTES));
  const view = new DataView(bytes.buffer);
  for (let index = 0; index < instructions.length; index++) {
    const instruction = instructions[index];
    if (instruction === undefined) continue;
    let { offset, imm } = instruction;
    if (instruction.target !== undefined) {
      const distance = distanceTo(instruction, index, starts);
      if (jumpsByOffset(instruction)) offset = fits16(distance, instruction);
      else imm = distance;
    }
    if (instruction.map !== undefined) imm = descriptorOf(instruction);
    const position = (starts[index] ?? 0) * SLOT_BYTES;
    view.setUint8(position, instruction.opcode);
    view.setUint8(position + 1, (instruction.src << 4) | instruction.dst);
    view.setInt16(position + 2, offset, true);
    view.setInt32(position + 4, imm, true);
    if (instruction.opcode === LD_IMM64) view.setInt32(position + SLOT_BYTES + 4, instruction.immHigh, true);
  }
  return bytes.subarray(0, (starts[instructions.length] ?? 0) * SLOT_BYTES);
}

/** True where the distance goes into `offset`; calls, function addresses and `gotol` have it in `imm`. */
function jumpsByOffset(instruction: Instruction): boolean {
  return instruction.opcode !== GOTO_LONG && instruction.opcode !== CALL && instruction.opcode !== LD_IMM64;
}

function distanceTo(instruction: Instruction, index: number, starts: Int32Array): number {
  const label = instruction.target;
  if (label === undefined || label.position < 0)
    throw new AssemblyError(`label "${label?.name}" is used but never placed`);
  return (starts[label.position] ?? 0) - (starts[index] ?? 0) - 1;
}

function fits16(distance: number, instruction: Instruction): number {
  if (distance >= -0x8000 && distance <= 0x7fff) return distance;
  throw new AssemblyError(
    `jump to "${instruction.target?.name}" spans ${distance} slots, more than its 16 bits hold; use jumpLong, or turn the condition round`,
  );
}

function descriptorOf(instruction: Instruction): number {
  const fd = instruction.map?.fd ?? -1;
  if (fd < 0) throw new AssemblyError(`map "${instruction.map?.name}" is closed`);
  return fd;
}

/**
 * Decode a program. Distances and descriptors stay numbers.
 * @param bytes whole slots
 * @throws AssemblyError for a length that is no multiple of eight, an opcode outside the instruction set, a register
 *   above r10, or an `ld_imm64` cut short or with a second slot that is not its own
 */
export function decode(bytes: Uint8Array): Instruction[] {
  if (bytes.length % SLOT_BYTES !== 0)
    throw new AssemblyError(`${bytes.length} bytes are no whole number of instructions`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const instructions: Instruction[] = [];
  for (let position = 0; position < bytes.length; position += SLOT_BYTES) {
    const slot = position / SLOT_BYTES;
    const opcode = view.getUint8(position);
    const registers = view.getUint8(position + 1);
    const instruction = new Instruction(
      opcode,
      registers & 15,
      registers >> 4,
      view.getInt16(position + 2, true),
      view.getInt32(position + 4, true),
    );
    if (!isKnownOpcode(instruction)) {
      throw new AssemblyError(
        `slot ${slot}: opcode 0x${opcode.toString(16).padStart(2, '0')} is not in the instruction set`,
      );
    }
    if (instruction.dst > 10 || instruction.src > 10)
      throw new AssemblyError(`slot ${slot}: there is no register above r10`);
    if (opcode === LD_IMM64) {
      position += SLOT_BYTES;
      if (position >= bytes.length) throw new AssemblyError(`slot ${slot}: ld_imm64 is cut short`);
      if (view.getUint32(position, true) !== 0)
        throw new AssemblyError(`slot ${slot + 1} is not the second half of an ld_imm64`);
      instruction.immHigh = view.getInt32(position + 4, true);
    }
    instructions.push(instruction);
  }
  return instructions;
}
