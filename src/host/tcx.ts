/**
 * TCX: eBPF programs at a device's traffic-control hooks, attached by links (Linux 6.6, bpf(2), BPF_LINK_CREATE).
 * A link is its descriptor: when that is closed, by us or by the end of the process, the program is detached.
 */
import { closeDescriptor, FileDescriptor, hurried, lastErrno, NativeBlock, rawBpf, SystemError } from './sys/index.ts';

const Command = { PROG_GET_FD_BY_ID: 13, OBJ_GET_INFO_BY_FD: 15, PROG_QUERY: 16, LINK_CREATE: 28 } as const;

/** struct bpf_prog_info up to the name, and where that is. */
const INFO_BYTES = 80;
const NAME_AT = 64;

/** enum bpf_attach_type. */
export const TcxHook = { INGRESS: 46, EGRESS: 47 } as const;

const MOST_PROGRAMS = 64;

/** struct bpf_link_info with the union for TCX: in it the interface, 0 when the link ties the program to none. */
const LINK_INFO_BYTES = 64;
const LINK_INTERFACE_AT = 16;

/**
 * Whether a link still ties its program to an interface: not when somebody has detached it, nor when the interface has gone.
 * @throws SystemError
 */
export function isTied(link: FileDescriptor): boolean {
  const info = new NativeBlock(LINK_INFO_BYTES);
  const attributes = new NativeBlock(16);
  attributes.i32[0] = link.number;
  attributes.u32[1] = LINK_INFO_BYTES;
  attributes.setAddress(8, info.address);
  if (rawBpf(Command.OBJ_GET_INFO_BY_FD, attributes, 16) < 0) {
    throw new SystemError('bpf', lastErrno(), 'ask about a link');
  }
  return info.u32[LINK_INTERFACE_AT / 4] !== 0;
}

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

/** The name of a program; empty when it has none, or is gone, or may not be looked at. */
export function programName(id: number): string {
  const attributes = new NativeBlock(128);
  attributes.u32[0] = id;
  const fd = rawBpf(Command.PROG_GET_FD_BY_ID, attributes, 12);
  if (fd < 0) return '';
  try {
    const info = new NativeBlock(INFO_BYTES);
    attributes.u32[0] = fd;
    attributes.u32[1] = INFO_BYTES;
    attributes.setAddress(8, info.address);
    return rawBpf(Command.OBJ_GET_INFO_BY_FD, attributes, 16) < 0 ? '' : info.getString(NAME_AT, 16);
  } finally {
    closeDescriptor(fd);
  }
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
  return hurried(() => {
    const result = rawBpf(Command.LINK_CREATE, attributes, 64);
    if (result < 0) throw new SystemError('bpf', lastErrno(), `attach a program to interface ${interfaceIndex}`);
    return new FileDescriptor(result);
  });
}
