/**
 * bpf(2) and perf_event_open(2): the calls, their numbers on each architecture, and what their failures mean. Everything else
 * in this room goes through here. Neighbours: host/sys binds libc and owns memory and descriptors; errors.ts has the classes.
 */
import { constants, endianness, release } from 'node:os';
import { bindLibc, isShortage, lastErrno, NativeBlock, SystemError } from '../../host/sys/index.ts';
import { NoInterfaceError, PrivilegeError, UnsupportedError } from '../errors.ts';
import { commandName } from '../uapi/commands.ts';

/** System call numbers (the kernel's syscall tables). Architectures that are absent are not supported. */
const callNumbers: Partial<Record<string, { readonly bpf: number; readonly perfEventOpen: number }>> = {
  x64: { bpf: 321, perfEventOpen: 298 },
  arm64: { bpf: 280, perfEventOpen: 241 },
  riscv64: { bpf: 280, perfEventOpen: 241 },
  loong64: { bpf: 280, perfEventOpen: 241 },
};

/** Error numbers, with ENOTSUPP: the kernel's own "not supported", which has no name in user space. */
export const Errno = { ...constants.errno, ENOTSUPP: 524 } as const;

/** union bpf_attr, or another structure for a system call, which keeps what it points to from being collected. */
export class Attributes extends NativeBlock {
  /** What the last call gave. Written after it, so that the block outlives the call. */
  result = 0;
  readonly #held: NativeBlock[] = [];

  /** Store the address of a block, and hold the block. @param offset in bytes */
  point(offset: number, block: NativeBlock): void {
    this.setAddress(offset, block.address);
    this.#held.push(block);
  }
}

type SyscallArguments = [number, number, number, number, number, number];
const syscall = bindLibc<SyscallArguments>('long syscall(long number, long a, intptr_t b, long c, long d, long e)');

interface AsyncCall {
  async(...args: [...SyscallArguments, (failure: unknown, result: number) => void]): void;
}
const syscallOnThread = syscall as unknown as AsyncCall;

/**
 * The call numbers of this machine.
 * @throws UnsupportedError on an architecture, or a byte order, without support
 */
export function architecture(): { readonly bpf: number; readonly perfEventOpen: number } {
  const numbers = callNumbers[process.arch];
  if (numbers === undefined || endianness() !== 'LE') {
    throw new UnsupportedError(`a port of this library to ${process.arch}`, undefined, kernelRelease());
  }
  return numbers;
}

/** The running kernel, as `uname -r` says it. */
export function kernelRelease(): string {
  return release();
}

const numbers = callNumbers[process.arch];
const bpfNumber = endianness() === 'LE' && numbers !== undefined ? numbers.bpf : -1;

/** The error number of the last call that failed for want of descriptors or memory; 0 for none. */
let shortage = 0;

/** The error number of a call that failed for want of descriptors or memory since this was last asked; 0 for none. */
export function takeShortage(): number {
  const errno = shortage;
  shortage = 0;
  return errno;
}

function noteFailure(): number {
  const errno = lastErrno();
  if (isShortage(errno)) shortage = errno;
  return -errno;
}

/**
 * One call of bpf(2).
 * @param attributes union bpf_attr, zeroed beyond what the command uses
 * @returns the result, or the negated errno
 * @throws UnsupportedError on an architecture without support
 */
export function bpf(command: number, attributes: Attributes, sizeBytes: number): number {
  if (bpfNumber < 0) architecture();
  const result = syscall(bpfNumber, command, attributes.address, sizeBytes, 0, 0);
  attributes.result = result < 0 ? noteFailure() : result;
  return attributes.result;
}

/**
 * The same on a thread of the pool, for calls that take long.
 * @returns the result, or the negated errno
 */
export function bpfOnThread(command: number, attributes: Attributes, sizeBytes: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const number = architecture().bpf;
    syscallOnThread.async(number, command, attributes.address, sizeBytes, 0, 0, (failed, result) => {
      // koffi carries the errno of the pool's thread over to this one.
      attributes.result = result < 0 ? -lastErrno() : result;
      if (failed) reject(failed);
      else resolve(attributes.result);
    });
  });
}

/**
 * perf_event_open(2).
 * @param attributes struct perf_event_attr
 * @param cpu the CPU to watch, all processes
 * @returns a descriptor, or the negated errno
 */
export function perfEventOpen(attributes: Attributes, cpu: number): number {
  const PERF_FLAG_FD_CLOEXEC = 8;
  const result = syscall(architecture().perfEventOpen, attributes.address, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
  attributes.result = result < 0 ? -lastErrno() : result;
  return attributes.result;
}

/** A block holding a copy of bytes. */
export function blockOf(bytes: Uint8Array): NativeBlock {
  const block = new NativeBlock(bytes.length);
  block.bytes.set(bytes);
  return block;
}

/** A block holding a C string. */
export function blockOfString(text: string): NativeBlock {
  return blockOf(Buffer.from(`${text}\0`));
}

const NEEDED =
  'CAP_BPF with CAP_NET_ADMIN or CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8, and before 5.11 enough locked memory, ulimit -l)';

/**
 * Turn a failed call into the error that says why.
 * @param result what {@link bpf} gave: a negated errno
 * @param doing what was being done: 'create map "flows"'
 * @param netdev the interface concerned, if any
 */
export function failure(command: number, result: number, doing: string, netdev?: string): Error {
  const errno = -result;
  if (errno === Errno.EPERM) return new PrivilegeError(doing, errno, NEEDED);
  if (errno === Errno.ENODEV && netdev !== undefined) return new NoInterfaceError(netdev, doing);
  if (errno === Errno.ENOSYS) return new UnsupportedError('the bpf system call', '3.18', kernelRelease());
  return new SystemError(commandName(command), errno, doing);
}

/** The result of a call that must succeed. @throws what {@link failure} makes of it */
export function must(result: number, command: number, doing: string, netdev?: string): number {
  if (result < 0) throw failure(command, result, doing, netdev);
  return result;
}
