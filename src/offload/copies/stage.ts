/**
 * The programs' side of copies: a function that copies the packet as it is now to the ring, if somebody wants to see what comes in or goes
 * out at an interface. Programs have it while somebody does, and no trace of it otherwise. Neighbours: channel.ts reads the ring;
 * actions/ calls the function before the first change of a packet and before each output.
 */
import {
  at,
  type FunctionRef,
  type ProgramBuilder,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  R6,
  R7,
  R8,
  R9,
  SK_BUFF,
} from '../../bpf/index.ts';
import { ETHERNET_BYTES, MAC_ADDRESSES_BYTES, TAG_BYTES } from '../../net/index.ts';
import type { OffloadHook } from '../actions/contract.ts';
import { MAXIMUM_IFINDEX } from '../layout/limits.ts';
import {
  CopyFlag,
  type CopyReferences,
  MAXIMUM_COPY_BYTES,
  RecordByte,
  SCRATCH_BYTES,
  WANTED_WORDS,
  WantedWord,
} from './layout.ts';

/** What the code needs to know of its surroundings. */
export interface CopyStage {
  readonly b: ProgramBuilder;
  readonly hook: OffloadHook;
  readonly maps: CopyReferences;
  /** Parts of memory by CPU: a power of two. */
  readonly cpus: number;
  note(text: string): void;
}

/**
 * Write the function. Its parameters are the context, the interface, the time of arrival in ns, and 0 or CopyFlag.OUT. It leaves the packet
 * as it is, addresses in it included.
 */
export function emitCopyFunction(stage: CopyStage): FunctionRef {
  return stage.b.function('copy', () => copy(stage));
}

/** R6: context. R7: the record. R8: bytes of the frame. */
function copy(stage: CopyStage): void {
  const { b, maps, cpus } = stage;
  const leave = b.label('nobody wants it');
  const lost = b.label('no room');
  const wanted = b.stack(8);
  const most = b.stack(4);
  stage.note('copy: whether somebody wants to see it');
  b.mov(R6, R1);
  b.mov(R7, R2);
  b.mov(R8, R3);
  b.mov(R9, R4);
  b.jumpIf(R7, '>', MAXIMUM_IFINDEX, leave);
  b.mov(R2, R7);
  b.shl(R2, Math.log2(WANTED_WORDS * 4));
  b.and(R4, CopyFlag.OUT);
  b.shl(R4, 2);
  b.add(R2, R4);
  b.loadMapValue(R1, maps.wanted);
  b.add(R1, R2);
  b.load(R5, 'u32', at(R1, WantedWord.BYTES * 4));
  b.jumpIf(R5, '==', 0, leave);
  b.store('u64', wanted, R1);
  b.store('u32', most, R5);

  stage.note('the record, in memory of this CPU');
  b.callHelper('get_smp_processor_id');
  b.and(R0, cpus - 1);
  b.shl(R0, Math.log2(SCRATCH_BYTES));
  b.loadMapValue(R1, maps.scratch);
  b.add(R1, R0);
  b.store('u64', at(R1, RecordByte.TIME), R8);
  b.store('u32', at(R1, RecordByte.IFINDEX), R7);
  b.mov(R7, R1);
  length(stage);
  b.store('u32', at(R7, RecordByte.FLAGS), R9);
  b.load(R1, 'u32', most);
  b.if(R8, '>', R1, () => b.mov(R8, R1));
  b.if(R8, '>', MAXIMUM_COPY_BYTES, () => b.mov(R8, MAXIMUM_COPY_BYTES));
  b.jumpIf(R8, '<', ETHERNET_BYTES, leave);
  if (stage.hook === 'tc') frameOfTc(stage);
  else b.call('xdp_load_bytes', R6, 0, at(R7, RecordByte.FRAME), R8);
  b.jumpIf(R0, '!=', 0, lost);
  b.store('u32', at(R7, RecordByte.CAPTURED), R8);
  b.add(R8, RecordByte.FRAME);
  b.call('ringbuf_output', maps.ring, R7, R8, 0);
  b.jumpIf(R0, '==', 0, leave);

  b.place(lost);
  b.load(R1, 'u64', wanted);
  b.mov(R2, 1);
  b.atomic('add', 'u32', at(R1, WantedWord.LOST * 4), R2);
  b.loadMapValue(R1, maps.wanted);
  b.atomic('add', 'u32', at(R1, WantedWord.LOST * 4), R2);
  b.place(leave);
  b.return(0);
}

/** R8 becomes the bytes of the frame in the buffer; the length on the wire goes to the record, and what it is to the flags in R9. */
function length({ b, hook }: CopyStage): void {
  if (hook === 'xdp') {
    b.packetOfXdp(R6, R2, R8);
    b.sub(R8, R2);
    b.store('u32', at(R7, RecordByte.LENGTH), R8);
    return;
  }
  b.load(R8, 'u32', at(R6, SK_BUFF.len));
  b.mov(R1, R8);
  b.load(R2, 'u32', at(R6, SK_BUFF.vlanPresent));
  b.if(R2, '!=', 0, () => b.add(R1, TAG_BYTES));
  b.store('u32', at(R7, RecordByte.LENGTH), R1);
  b.load(R2, 'u32', at(R6, SK_BUFF.gsoSize));
  b.if(R2, '!=', 0, () => b.or(R9, CopyFlag.SUPER_PACKET));
}

/** The frame with its outer tag, which lies beside the packet: R8 grows by it. R0 becomes 0 when all went well. */
function frameOfTc({ b }: CopyStage): void {
  b.load(R1, 'u32', at(R6, SK_BUFF.vlanPresent));
  b.if(
    R1,
    '!=',
    0,
    () => {
      const tag = RecordByte.FRAME + MAC_ADDRESSES_BYTES;
      b.call('skb_load_bytes', R6, 0, at(R7, RecordByte.FRAME), MAC_ADDRESSES_BYTES);
      b.load(R1, 'u32', at(R6, SK_BUFF.vlanProto));
      b.store('u16', at(R7, tag), R1);
      b.load(R1, 'u32', at(R6, SK_BUFF.vlanTci));
      b.toBigEndian(R1, 16);
      b.store('u16', at(R7, tag + 2), R1);
      b.mov(R9, R8);
      b.sub(R9, MAC_ADDRESSES_BYTES);
      b.call('skb_load_bytes', R6, MAC_ADDRESSES_BYTES, at(R7, tag + TAG_BYTES), R9);
      b.add(R8, TAG_BYTES);
    },
    () => b.call('skb_load_bytes', R6, 0, at(R7, RecordByte.FRAME), R8),
  );
}
