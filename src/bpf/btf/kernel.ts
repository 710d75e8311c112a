/**
 * The kernel's own BTF: finding a function or variable by name, for kfunc calls. Neighbours: btf/types.ts has the format,
 * asm/assembler.ts takes the ids.
 */
import { readFileSync } from 'node:fs';
import { UnsupportedError } from '../errors.ts';
import { kernelRelease } from '../sys/bpf.ts';

const PATH = '/sys/kernel/btf/vmlinux';
const MAGIC = 0xeb9f;
const FUNC = 12;
const VAR = 14;

/** Words behind the twelve bytes that all kinds share, where their number does not depend on vlen. */
const FIXED_WORDS: Readonly<Record<number, number>> = { 1: 1, 3: 3, [VAR]: 1, 17: 1 };
/** Words for each of vlen members: struct, union, enum, function prototype, section, 64-bit enum. */
const MEMBER_WORDS: Readonly<Record<number, number>> = { 4: 3, 5: 3, 6: 2, 13: 2, 15: 3, 19: 3 };

let loaded: Buffer | undefined;

function kernelBtf(): Buffer {
  try {
    loaded ??= readFileSync(PATH);
    return loaded;
  } catch (error) {
    throw Object.assign(new UnsupportedError('BTF of the kernel (CONFIG_DEBUG_INFO_BTF)', '5.4', kernelRelease()), {
      cause: error,
    });
  }
}

/**
 * The id of a type in BTF bytes.
 * @param kind FUNC or VAR
 * @returns undefined when it is not there
 * @throws UnsupportedError when the bytes are no BTF of this machine
 */
export function findType(btf: Buffer, name: string, kind: number): number | undefined {
  if (btf.length < 24 || btf.readUInt16LE(0) !== MAGIC) {
    throw new UnsupportedError('BTF in this format', undefined, kernelRelease());
  }
  const header = btf.readUInt32LE(4);
  const start = header + btf.readUInt32LE(8);
  const end = Math.min(start + btf.readUInt32LE(12), btf.length);
  const strings = btf.subarray(header + btf.readUInt32LE(16));
  const at = strings.indexOf(`\0${name}\0`);
  if (at < 0) return undefined;
  const nameOffset = at + 1;
  let id = 1;
  for (let position = start; position + 12 <= end; id++) {
    const info = btf.readUInt32LE(position + 4);
    const found = (info >>> 24) & 0x1f;
    if (found === kind && btf.readUInt32LE(position) === nameOffset) return id;
    const words = (FIXED_WORDS[found] ?? 0) + (MEMBER_WORDS[found] ?? 0) * (info & 0xffff);
    position += 12 + 4 * words;
  }
  return undefined;
}

/**
 * The BTF id of a kernel function, for `callKfunc`. The first call reads some megabytes.
 * @throws UnsupportedError when the kernel has no BTF or no such function
 */
export function kernelFunctionId(name: string): number {
  const id = findType(kernelBtf(), name, FUNC);
  if (id === undefined) throw new UnsupportedError(`the kernel function ${name}`, undefined, kernelRelease());
  return id;
}

/**
 * The BTF id of a kernel variable, for `loadKernelSymbol`.
 * @throws UnsupportedError when the kernel has no BTF or no such variable in it
 */
export function kernelVariableId(name: string): number {
  const id = findType(kernelBtf(), name, VAR);
  if (id === undefined) throw new UnsupportedError(`the kernel variable ${name}`, undefined, kernelRelease());
  return id;
}
