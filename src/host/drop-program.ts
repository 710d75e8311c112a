/**
 * The eBPF programs that keep the kernel off a port, for isolation.ts and tc-filter.ts: one drops everything, the other, for the way
 * out, all but what Millrace's own programs redirect and what its socket sends.
 */
import type { FileDescriptor } from './sys/index.ts';
import { instructions, loadTcProgram } from './tc-program.ts';

/** Its name in `bpftool prog`. */
export const DROP_PROGRAM_NAME = 'millrace_drop';

const TC_ACT_SHOT = 2;

/**
 * What Millrace's programs write into `tc_index` of a packet before they redirect it: the device that it then leaves through lets it
 * pass, and takes the mark off. The kernel's own packets have none.
 */
export const REDIRECT_MARK = 0x4d72;

/**
 * The mark (SO_MARK) of the socket of a port: what it sends has it in `mark`, which the same program takes off. A socket has no say
 * about `tc_index`.
 */
export const SEND_MARK = 0x4d72_0001;

const TC_NEXT = -1;
/** Offsets of mark and tc_index in struct __sk_buff. */
const MARK = 8;
export const TC_INDEX = 44;

const dropAll = instructions(
  [0xb7, 0x00, 0, TC_ACT_SHOT], // r0 = TC_ACT_SHOT
  [0x95, 0x00, 0, 0], //            exit
);
const dropUnmarked = instructions(
  [0xb7, 0x03, 0, 0], //            r3 = 0
  [0xb7, 0x00, 0, TC_NEXT], //      r0 = TC_NEXT
  [0x61, 0x12, TC_INDEX, 0], //     r2 = *(u32 *)(r1 + tc_index)
  [0x55, 0x02, 2, REDIRECT_MARK], // if r2 != REDIRECT_MARK goto +2
  [0x63, 0x31, TC_INDEX, 0], //     *(u32 *)(r1 + tc_index) = r3
  [0x95, 0x00, 0, 0], //            exit
  [0x61, 0x12, MARK, 0], //         r2 = *(u32 *)(r1 + mark)
  [0x55, 0x02, 2, SEND_MARK], //    if r2 != SEND_MARK goto +2
  [0x63, 0x31, MARK, 0], //         *(u32 *)(r1 + mark) = r3
  [0x95, 0x00, 0, 0], //            exit
  [0xb7, 0x00, 0, TC_ACT_SHOT], //  r0 = TC_ACT_SHOT
  [0x95, 0x00, 0, 0], //            exit
);

/**
 * Load a program.
 * @param passesOwn whether packets that Millrace's programs redirect, and that its socket sends, may pass: for the way out
 * @returns its descriptor
 * @throws SystemError: EPERM without CAP_BPF and CAP_NET_ADMIN in the initial user namespace, ENOSYS without bpf(2)
 */
export function loadDropProgram(passesOwn = false): FileDescriptor {
  const code = passesOwn ? dropUnmarked : dropAll;
  return loadTcProgram(DROP_PROGRAM_NAME, code, 'the program that keeps the kernel off a port');
}
