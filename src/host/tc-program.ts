/**
 * Small eBPF programs for traffic control, given as instructions: host/ stands below the assembler of bpf/. Neighbours: drop-program.ts keeps the kernel
 * off a port, long-frames.ts sends what packet sockets do not.
 */
import { Errno, FileDescriptor, lastErrno, NativeBlock, rawBpf, SystemError } from './sys/index.ts';

const COMMAND_PROG_LOAD = 5;
const PROG_TYPE_SCHED_CLS = 3;
const LOAD_ATTEMPTS = 10;

/** Instructions in memory, which the kernel is given the address of: it has to live as long as it may be loaded. */
export interface Instructions {
  readonly count: number;
  readonly block: NativeBlock;
}

/** Instructions of 8 bytes: operation, registers (source 4 | destination 4), offset, immediate. */
export function instructions(...list: readonly (readonly [number, number, number, number])[]): Instructions {
  const block = new NativeBlock(list.length * 8);
  const view = new DataView(block.bytes.buffer, block.bytes.byteOffset);
  list.forEach(([operation, registers, offset, immediate], i) => {
    view.setUint8(i * 8, operation);
    view.setUint8(i * 8 + 1, registers);
    view.setInt16(i * 8 + 2, offset, true);
    view.setInt32(i * 8 + 4, immediate, true);
  });
  return { count: list.length, block };
}

const license = new NativeBlock(16);
license.setString(0, 16, 'Apache-2.0');

/**
 * Load a program.
 * @param name in `bpftool prog`; the kernel takes 15 bytes
 * @param purpose for messages: 'the program that keeps the kernel off a port'
 * @throws SystemError: EPERM without CAP_BPF and CAP_NET_ADMIN in the initial user namespace, ENOSYS without bpf(2)
 */
export function loadTcProgram(name: string, code: Instructions, purpose: string): FileDescriptor {
  const attributes = new NativeBlock(128);
  attributes.u32[0] = PROG_TYPE_SCHED_CLS;
  attributes.u32[1] = code.count;
  attributes.setAddress(8, code.block.address);
  attributes.setAddress(16, license.address);
  attributes.setString(48, 16, name);
  for (let attempt = 1; ; attempt += 1) {
    const result = rawBpf(COMMAND_PROG_LOAD, attributes, 72);
    if (result >= 0) return new FileDescriptor(result);
    const errno = lastErrno();
    // The verifier gives up when a signal is pending, such as a profiler's.
    if (errno === Errno.EAGAIN && attempt < LOAD_ATTEMPTS) continue;
    throw new SystemError('bpf', errno, `load ${purpose}`);
  }
}
