/**
 * TCX: eBPF programs at a device's traffic-control hooks, attached by links (Linux 6.6, bpf(2), BPF_LINK_CREATE).
 * A link is its descriptor: when that is closed, by us or by the end of the process, the program is detached.
 */
import { FileDescriptor, lastErrno, NativeBlock, rawBpf, SystemError } from './sys/index.ts';

const Command = { PROG_QUERY: 16, LINK_CREATE: 28 } as const;

/** enum bpf_attach_type. */
export const TcxHook = { INGRESS: 46, EGRESS: 47 } as const;

const MOST_PROGRAMS = 64;

/** The program ids at a hook, in the order in which they run. @throws SystemError (EINVAL before Linux 6.6) */
export function tcxPrograms(interfaceIndex: number, hook: number): number[] {
  const ids = new NativeBlock(4 * MOST_PROGRAMS);
  const attributes = new NativeBlock(128);
  attributes.u32[0] = interfaceIndex;
  attributes.u32[1] = hook;
  attributes.setAddress(16, ids.address);
  attributes.u32[6] = MOST_PROGRAMS;
  const result = rawBpf(Command.PROG_QUERY, attributes, 64);
  if (result < 0) throw new SystemError('bpf', lastErrno(), `list the programs of interface ${interfaceIndex}`);
  return [...ids.u32.subarray(0, Math.min(attributes.u32[6], MOST_PROGRAMS))];
}

/**
 * Attach a program behind those that are at the hook already.
 * @param interfaceIndex in the calling thread's network namespace
 * @returns the link
 * @throws SystemError (EINVAL before Linux 6.6)
 */
export function attachTcx(program: FileDescriptor, interfaceIndex: number, hook: number): FileDescriptor {
  const attributes = new NativeBlock(128);
  attributes.i32[0] = program.number;
  attributes.u32[1] = interfaceIndex;
  attributes.u32[2] = hook;
  const result = rawBpf(Command.LINK_CREATE, attributes, 64);
  if (result < 0) throw new SystemError('bpf', lastErrno(), `attach a program to interface ${interfaceIndex}`);
  return new FileDescriptor(result);
}
