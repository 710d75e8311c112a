/**
 * The eBPF programs that keep the kernel off a port, for isolation.ts and tc-filter.ts: one drops everything, the other, for the way
 * out, all but what Millrace's own programs redirect. They are given as bytes because host/ stands below the assembler of bpf/.
 */
import { Errno, FileDescriptor, lastErrno, NativeBlock, rawBpf, SystemError } from './sys/index.ts';

/** Its name in `bpftool prog`; the kernel takes 15 bytes. */
export const DROP_PROGRAM_NAME = 'millrace_drop';

const COMMAND_PROG_LOAD = 5;
const PROG_TYPE_SCHED_CLS = 3;
const TC_ACT_SHOT = 2;
const LOAD_ATTEMPTS = 10;

/**
 * What Millrace's programs write into `tc_index` of a packet before they redirect it: the device that it then leaves through lets it
 * pass, and takes the mark off. The kernel's own packets have none.
 */
export const REDIRECT_MARK = 0x4d72;

const TC_NEXT = -1;
/** Offset of tc_index in struct __sk_buff. */
const TC_INDEX = 44;

/** Instructions of 8 bytes: operation, registers (source 4 | destination 4), offset, immediate. */
function instructions(...list: readonly (readonly [number, number, number, number])[]) {
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

// These live as long as the module: the kernel is given their addresses, which do not keep them from being collected.
const dropAll = instructions(
  [0xb7, 0x00, 0, TC_ACT_SHOT], // r0 = TC_ACT_SHOT
  [0x95, 0x00, 0, 0], //            exit
);
const dropUnmarked = instructions(
  [0x61, 0x12, TC_INDEX, 0], //     r2 = *(u32 *)(r1 + tc_index)
  [0x55, 0x02, 4, REDIRECT_MARK], // if r2 != mark goto +4
  [0xb7, 0x02, 0, 0], //            r2 = 0
  [0x63, 0x21, TC_INDEX, 0], //     *(u32 *)(r1 + tc_index) = r2
  [0xb7, 0x00, 0, TC_NEXT], //      r0 = TC_NEXT
  [0x95, 0x00, 0, 0], //            exit
  [0xb7, 0x00, 0, TC_ACT_SHOT], //  r0 = TC_ACT_SHOT
  [0x95, 0x00, 0, 0], //            exit
);
const license = new NativeBlock(16);
license.setString(0, 16, 'Apache-2.0');

/**
 * Load a program.
 * @param passRedirected whether packets that Millrace's programs redirect may pass: for the way out
 * @returns its descriptor
 * @throws SystemError: EPERM without CAP_BPF and CAP_NET_ADMIN in the initial user namespace, ENOSYS without bpf(2)
 */
export function loadDropProgram(passRedirected = false): FileDescriptor {
  const code = passRedirected ? dropUnmarked : dropAll;
  const attributes = new NativeBlock(128);
  attributes.u32[0] = PROG_TYPE_SCHED_CLS;
  attributes.u32[1] = code.count;
  attributes.setAddress(8, code.block.address);
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
