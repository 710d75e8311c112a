/**
 * XDP: a packet that its flow changes and looks up again, and that is not found then, goes to tc as it came. What it may have changed is kept before the first
 * change, and written back where it goes up. Bytes are kept rather than changes turned back: of a checksum that nobody else would write nothing else is the inverse.
 */
import { at, R0, R1, R3, R4, R6 } from '../../bpf/index.ts';
import { emitLength } from '../actions/length.ts';
import { CpuByte, KEPT_BYTES } from '../layout/sizes.ts';
import type { ProgramWriter } from './writer.ts';

/** R3 becomes where headers are kept, and R4 how many bytes of the packet they are. Uses R1 and R2. */
function place(writer: ProgramWriter): void {
  const { b } = writer;
  emitLength(b, false);
  b.if(R1, '>', KEPT_BYTES, () => b.mov(R1, KEPT_BYTES));
  b.mov(R4, R1);
  b.jumpIf(R4, '==', 0, writer.failed);
  writer.cpu(R3);
  b.add(R3, CpuByte.HEADERS);
}

/** Keep the packet's headers, unless a pass before has done so. R0 to R5 are lost. */
export function keepHeaders(writer: ProgramWriter): void {
  const { b } = writer;
  writer.note('the headers as they came');
  b.block((kept) => {
    writer.cpu(R3);
    b.load(R1, 'u32', at(R3, CpuByte.CHANGED));
    b.jumpIf(R1, '!=', 0, kept);
    place(writer);
    b.call('xdp_load_bytes', R6, 0, R3, R4);
    b.jumpIf(R0, '!=', 0, writer.puntAfterHit);
    writer.cpu(R3);
    b.store('u32', at(R3, CpuByte.CHANGED), 1);
  });
}

/** Write them back, if they were kept. R0 to R5 are lost. */
export function restoreHeaders(writer: ProgramWriter): void {
  const { b } = writer;
  writer.cpu(R3);
  b.load(R1, 'u32', at(R3, CpuByte.CHANGED));
  b.if(R1, '!=', 0, () => {
    writer.note('changed before it was looked up again: as it came');
    place(writer);
    b.call('xdp_store_bytes', R6, 0, R3, R4);
    b.jumpIf(R0, '!=', 0, writer.failed);
  });
}
