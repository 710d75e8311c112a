/**
 * The eBPF program that drops everything, for isolation.ts and tc-filter.ts. It is given as bytes because host/ stands below
 * the assembler of bpf/.
 */
import { addressOf, FileDescriptor, lastErrno, NativeBlock, rawBpf, SystemError } from './sys/index.ts';

/** Its name in `bpftool prog`; the kernel takes 15 bytes. */
export const DROP_PROGRAM_NAME = 'millrace_drop';

const COMMAND_PROG_LOAD = 5;
const PROG_TYPE_SCHED_CLS = 3;
const TC_ACT_SHOT = 2;

// mov r0, TC_ACT_SHOT; exit
function instructions(): Uint8Array {
  const code = new DataView(new ArrayBuffer(64));
  const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
  code.setUint8(0, 0xb7);
  code.setInt32(4, TC_ACT_SHOT, littleEndian);
  code.setUint8(8, 0x95);
  return new Uint8Array(code.buffer);
}

/**
 * Load the program.
 * @returns its descriptor
 * @throws SystemError: EPERM without CAP_BPF and CAP_NET_ADMIN in the initial user namespace, ENOSYS without bpf(2)
 */
export function loadDropProgram(): FileDescriptor {
  const code = instructions();
  const license = new Uint8Array(64);
  license.set(Buffer.from('Apache-2.0'));
  const attributes = new NativeBlock(128);
  attributes.u32[0] = PROG_TYPE_SCHED_CLS;
  attributes.u32[1] = 2;
  attributes.setAddress(8, addressOf(code));
  attributes.setAddress(16, addressOf(license));
  attributes.setString(48, 16, DROP_PROGRAM_NAME);
  const result = rawBpf(COMMAND_PROG_LOAD, attributes, 72);
  if (result < 0) throw new SystemError('bpf', lastErrno(), 'load the program that keeps the kernel off a port');
  return new FileDescriptor(result);
}
