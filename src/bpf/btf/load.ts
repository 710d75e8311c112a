/** BTF into the kernel. Neighbours: btf/types.ts writes it, program/load.ts and map/handle.ts want it for their names and fields. */
import { FileDescriptor } from '../../host/sys/index.ts';
import { Attributes, blockOf, bpf, Errno } from '../sys/bpf.ts';
import { COMMAND } from '../uapi/commands.ts';
import type { BtfTypes } from './types.ts';

let refused = false;

/**
 * Load types into the kernel.
 * @returns undefined where the kernel will not have them: BTF is help for the reader, and programs do without
 */
export function loadBtf(types: BtfTypes): FileDescriptor | undefined {
  if (refused) return undefined;
  const bytes = types.encode();
  const attributes = new Attributes(32);
  attributes.point(0, blockOf(bytes));
  attributes.u32[4] = bytes.length;
  const result = bpf(COMMAND.BTF_LOAD, attributes, 32);
  if (result >= 0) return new FileDescriptor(result);
  refused = result === -Errno.EINVAL;
  return undefined;
}
