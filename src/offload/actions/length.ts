/** The length of a packet as the engine counts it. Used by shapes and by the program around them. */
import { at, type ProgramBuilder, R1, R2, R6, SK_BUFF } from '../../bpf/index.ts';

/** R1 becomes the packet's length: a tag that lies beside it included, super-packets as one. R6 is the context. Uses R2. */
export function emitLength(b: ProgramBuilder, isTc: boolean): void {
  if (!isTc) {
    b.packetOfXdp(R6, R2, R1);
    b.sub(R1, R2);
    return;
  }
  b.load(R1, 'u32', at(R6, SK_BUFF.len));
  b.load(R2, 'u32', at(R6, SK_BUFF.vlanPresent));
  b.if(R2, '!=', 0, () => b.add(R1, 4));
}
