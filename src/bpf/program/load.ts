/**
 * The loader: instructions into the kernel. The first try is made without a log, which is the quick way; only a refusal is
 * asked again with one, in a buffer that grows until the log fits.
 * Neighbours: program/load-tries.ts says when to try again, program/program.ts is the handle, program/verifier.ts reads logs, btf/ names functions and lines.
 */
import { FileDescriptor, isShortage, NativeBlock } from '../../host/sys/index.ts';
import type { FunctionStart } from '../asm/emitter.ts';
import { encode, SLOT_BYTES, slotStarts } from '../asm/encode.ts';
import type { Instruction } from '../asm/instruction.ts';
import { loadBtf } from '../btf/load.ts';
import { BtfTypes } from '../btf/types.ts';
import { UnsupportedError } from '../errors.ts';
import { haveProgramType } from '../feature/raw.ts';
import { Attributes, blockOf, blockOfString, bpf, Errno, failure, kernelRelease } from '../sys/bpf.ts';
import { COMMAND } from '../uapi/commands.ts';
import { ATTACH_TYPE, type AttachType, PROGRAM_TYPE, PROGRAM_TYPE_SINCE, type ProgramType } from '../uapi/kinds.ts';
import { objectName } from '../uapi/names.ts';
import { type LoadAnswer, tryUntilAnswered } from './load-tries.ts';
import { Program } from './program.ts';
import { VerifierError } from './verifier.ts';

/** What a program is made of. An `Assembler` or `ProgramBuilder` is one. */
export interface Code {
  readonly name: string;
  readonly instructions: readonly Instruction[];
  /** The program's functions, the entry first. */
  readonly functions: readonly FunctionStart[];
  /** Called before loading; throws where something is missing. */
  checkComplete(): void;
}

/** How to load a program. */
export interface ProgramSpec {
  readonly type: ProgramType;
  readonly code: Code;
  /** The name the kernel shows, of which it keeps 15 characters; the code's name by default. */
  readonly name?: string;
  /** The program's license. Many helpers are for GPL-compatible ones only, which is the default here: 'GPL'. */
  readonly license?: string;
  /** Where it will be attached, where the type alone does not say; TCX needs none. */
  readonly expectedAttachType?: AttachType;
  /** Or-ed LOAD_FLAG bits. */
  readonly flags?: number;
  /** Put the source line of every instruction into the kernel, for bpftool and the verifier's own log; false by default, as it takes time. */
  readonly lineInfo?: boolean;
  /** Keep the log of a program that loads: 1 for the walk, 2 for all states, 4 for statistics only. Makes loading slower. */
  readonly logLevel?: 1 | 2 | 4;
}

/** Byte offsets within union bpf_attr for BPF_PROG_LOAD. */
const ATTR = {
  type: 0,
  count: 4,
  instructions: 8,
  license: 16,
  logLevel: 24,
  logSize: 28,
  logBuffer: 32,
  flags: 44,
  name: 48,
  expectedAttachType: 68,
  btfFd: 72,
  funcInfoSize: 76,
  funcInfo: 80,
  funcInfoCount: 88,
  lineInfoSize: 92,
  lineInfo: 96,
  lineInfoCount: 104,
  sizeBytes: 120,
} as const;

const FUNC_INFO_BYTES = 8;
const LINE_INFO_BYTES = 16;

/**
 * Load a program.
 * @throws AssemblyError when the code is incomplete
 * @throws VerifierError when the kernel refuses it, with the instruction, its registers and its source line
 * @throws PrivilegeError without the capabilities
 * @throws UnsupportedError when the kernel does not have the program type
 * @throws SystemError for any other failure, such as EMFILE when the process can open nothing more
 */
export function loadProgram(spec: ProgramSpec): Program {
  spec.code.checkComplete();
  const { instructions } = spec.code;
  const name = spec.name ?? spec.code.name;
  const bytes = encode(instructions);
  const attributes = new Attributes(ATTR.sizeBytes);
  const set = (offset: number, value: number) => attributes.view.setUint32(offset, value, true);
  set(ATTR.type, PROGRAM_TYPE[spec.type]);
  set(ATTR.count, bytes.length / SLOT_BYTES);
  attributes.point(ATTR.instructions, blockOf(bytes));
  attributes.point(ATTR.license, blockOfString(spec.license ?? 'GPL'));
  set(ATTR.flags, spec.flags ?? 0);
  attributes.setString(ATTR.name, 16, objectName(name));
  if (spec.expectedAttachType !== undefined) set(ATTR.expectedAttachType, ATTACH_TYPE[spec.expectedAttachType]);
  const btf = attachBtf(attributes, spec);
  try {
    const { result, log } = tryLoad(attributes, spec.logLevel ?? 0);
    if (result >= 0) return new Program(new FileDescriptor(result), spec.type, name, log);
    throw explain(spec, name, attributes, result);
  } finally {
    btf?.close();
  }
}

function tryLoad(attributes: Attributes, logLevel: number): LoadAnswer {
  const attempt = (logBytes: number): LoadAnswer => {
    const buffer = logBytes === 0 ? null : new NativeBlock(logBytes);
    attributes.view.setUint32(ATTR.logLevel, logLevel, true);
    attributes.view.setUint32(ATTR.logSize, logBytes, true);
    if (buffer === null) attributes.setAddress(ATTR.logBuffer, 0);
    else attributes.point(ATTR.logBuffer, buffer);
    const result = bpf(COMMAND.PROG_LOAD, attributes, ATTR.sizeBytes);
    return { result, log: buffer?.getString(0, logBytes) ?? '' };
  };
  return tryUntilAnswered(attempt, logLevel !== 0);
}

function explain(spec: ProgramSpec, name: string, attributes: Attributes, first: number): Error {
  const doing = `load ${spec.type} program "${name}"`;
  const { result, log } = tryLoad(attributes, 1);
  if (result >= 0) {
    new FileDescriptor(result).close();
    return failure(COMMAND.PROG_LOAD, first, doing);
  }
  // The verifier has taken it, and written its log, before the kernel looks for a descriptor.
  if (isShortage(-result)) return failure(COMMAND.PROG_LOAD, result, doing);
  if (log !== '') return new VerifierError(name, spec.type, spec.code.instructions, log, -result);
  const absent = result === -Errno.EINVAL || result === -Errno.EOPNOTSUPP || result === -Errno.ENOTSUPP;
  if (absent && !haveProgramType(spec.type)) {
    return new UnsupportedError(`program type ${spec.type}`, PROGRAM_TYPE_SINCE[spec.type], kernelRelease());
  }
  return failure(COMMAND.PROG_LOAD, result, doing);
}

/** Names of functions, and lines on demand. The kernel wants both in the order of the code. */
function attachBtf(attributes: Attributes, spec: ProgramSpec): FileDescriptor | undefined {
  const { instructions, functions } = spec.code;
  const types = new BtfTypes();
  const starts = slotStarts(instructions);
  const funcInfo = new NativeBlock(functions.length * FUNC_INFO_BYTES);
  functions.forEach(({ name, label }, index) => {
    funcInfo.u32[index * 2] = starts[label.position] ?? 0;
    funcInfo.u32[index * 2 + 1] = types.function(name);
  });
  const lines = spec.lineInfo === true ? lineInfo(types, spec.code, starts) : undefined;
  const btf = loadBtf(types);
  if (btf === undefined) return undefined;
  const set = (offset: number, value: number) => attributes.view.setUint32(offset, value, true);
  set(ATTR.btfFd, btf.number);
  set(ATTR.funcInfoSize, FUNC_INFO_BYTES);
  attributes.point(ATTR.funcInfo, funcInfo);
  set(ATTR.funcInfoCount, functions.length);
  if (lines !== undefined) {
    set(ATTR.lineInfoSize, LINE_INFO_BYTES);
    attributes.point(ATTR.lineInfo, lines.block);
    set(ATTR.lineInfoCount, lines.count);
  }
  return btf;
}

function lineInfo(types: BtfTypes, code: Code, starts: Int32Array): { block: NativeBlock; count: number } | undefined {
  const block = new NativeBlock(code.instructions.length * LINE_INFO_BYTES);
  const functionStarts = new Set(code.functions.map(({ label }) => label.position));
  let count = 0;
  let previous = '';
  code.instructions.forEach((instruction, index) => {
    const line = instruction.site?.resolve();
    const here = line === undefined ? '' : `${line.file}:${line.line}`;
    // Every function must begin with a line; elsewhere one is due where it changes.
    if (here === previous && !functionStarts.has(index)) return;
    previous = here;
    const word = count * 4;
    block.u32[word] = starts[index] ?? 0;
    block.u32[word + 1] = types.string(line?.file ?? code.name);
    block.u32[word + 2] = types.string(line?.text ?? code.name);
    block.u32[word + 3] = (((line?.line ?? 0) & 0x3fffff) << 10) | ((line?.column ?? 0) & 0x3ff);
    count++;
  });
  return { block, count };
}
