/**
 * The eBPF program that drops everything, for isolation.ts and tc-filter.ts. It is given as bytes because host/ stands below
 * the assembler of bpf/.
 */
import { Errno, FileDescriptor, lastErrno, NativeBlock, rawBpf, SystemError } from './sys/index.ts';

/** Its name in `bpftool prog`; the kernel takes 15 bytes. */
export const DROP_PROGRAM_NAME = 'millrace_drop';

const COMMAND_PROG_LOAD = 5;
const PROG_TYPE_SCHED_CLS = 3;
const TC_ACT_SHOT = 2;
const LOAD_ATTEMPTS = 10;

// Both live as long as the module: the kernel is given their addresses, which do not keep them from being collected.
const code = new NativeBlock(16);
const license = new NativeBlock(16);

// mov r0, TC_ACT_SHOT; exit
code.bytes[0] = 0xb7;
code.i32[1] = TC_ACT_SHOT;
code.bytes[8] = 0x95;
license.setString(0, 16, 'Apache-2.0');

/**
 * Load the program.
 * @returns its descriptor
 * @throws SystemError: EPERM without CAP_BPF and CAP_NET_ADMIN in the initial user namespace, ENOSYS without bpf(2)
 */
export function loadDropProgram(): FileDescriptor {
  const attributes = new NativeBlock(128);
  attributes.u32[0] = PROG_TYPE_SCHED_CLS;
  attributes.u32[1] = 2;
  attributes.setAddress(8, code.address);
  attributes.setAddress(16, license.address);
  attributes.setString(48, 16, DROP_PROGRAM_NAME);
  for (let attempt = 1; ; attempt += 1) {
    const result = rawBpf(COMMAND_PROG_LOAD, attributes, 72);
    if (result >= 0) return new FileDescriptor(result);
    const errno = lastErrno();
    // The verifier gives up when a signal is pending, such as a profiler's.
    if (errno === Errno.EAGAIN && attempt < LOAD_ATTEMPTS) continue;
    throw new SystemError('bpf', errno, 'load the program that keeps the kernel off a port');
  }
}
