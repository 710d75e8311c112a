/** bpf(2): one call with many commands. libc has no wrapper, so it goes through syscall(2). */
import { bindLibc } from './libc.ts';
import type { NativeBlock } from './memory.ts';

const syscallBpf = bindLibc<[number, number, Uint8Array, number]>(
  'long syscall(long number, int command, void *attributes, unsigned int size)',
);

const numberByArchitecture: Readonly<Record<string, number>> = {
  x64: 321,
  arm64: 280,
  riscv64: 280,
  s390x: 351,
  ppc64: 361,
};

/**
 * One command of bpf(2).
 * @param attributes union bpf_attr, zeroed beyond what the command uses; the caller keeps alive what it points to
 * @returns the kernel's result: a descriptor or 0; negative with lastErrno (ENOSYS on an unknown architecture)
 */
export function rawBpf(command: number, attributes: NativeBlock, sizeBytes: number): number {
  return syscallBpf(numberByArchitecture[process.arch] ?? -1, command, attributes.bytes, sizeBytes);
}
