/**
 * The program that counts: it knows the generator's frames by their magic, counts them per flow, notes gaps in their sequence, and drops them;
 * everything else goes on its way untouched. Neighbours: tools/frame.ts has the format, tools/receive.ts reads the counts.
 */
import { ProgramBuilder } from '../asm/builder.ts';
import { at, type Label, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9 } from '../asm/operands.ts';
import type { ArrayMap } from '../map/array.ts';
import { count64, u32 } from '../map/layout.ts';
import { type StructValue, struct } from '../map/struct.ts';
import { XDP } from '../uapi/kinds.ts';
import { MAGIC, PAYLOAD_BYTES, PAYLOAD_OFFSET } from './frame.ts';

/** What is kept of a flow: one cache line. Times are of CLOCK_MONOTONIC, as exact as the kernel's tick. */
export const flowRecord = struct(
  {
    packets: count64,
    bytes: count64,
    /** The sequence number that should come next: one above the highest seen in this run. */
    next: count64,
    /** The first sequence number that counts in this run. */
    first: count64,
    /** Frames that earlier runs should have brought. */
    earlier: count64,
    firstNs: count64,
    lastNs: count64,
    /** Which run the record is of. */
    run: u32,
    /** Frames that came after a later one of their flow: reordered, or sent twice. */
    late: u32,
  },
  'flow_record',
);

/** A flow's record as a value. */
export type FlowRecord = StructValue<(typeof flowRecord)['fields']>;

/** What the counting program is made for. */
export interface ReceiveSpec {
  /** An array with one value that holds the records of all flows, one after the other. */
  readonly records: ArrayMap<Uint8Array>;
  readonly flows: number;
  /** When the receiver started, as `run` counts time: runs that began later are counted from their first frame. */
  readonly startedAt: number;
  /** Number of a helper for the time: coarse where the kernel has it. */
  readonly clock: 'ktime_get_coarse_ns' | 'ktime_get_ns';
}

const RECORD_SHIFT = Math.log2(flowRecord.sizeBytes);
const IPV4 = 0x0008;
const TAGS = [0x0081, 0xa888] as const;

/** Write the counting program. */
export function receiveProgram(spec: ReceiveSpec): ProgramBuilder {
  const b = new ProgramBuilder('receive', { recordSites: false });
  const pass = b.label('pass');
  const record = R6;
  const sequence = R7;
  const run = R8;
  const length = R9;
  b.packetOfXdp(R1, R2, R3);
  b.mov(length, R3);
  b.sub(length, R2);
  findPayload(b, pass);
  // R2 is 42 bytes before the payload, and 58 bytes from it on are there.
  b.load(R4, 'u32', at(R2, PAYLOAD_OFFSET));
  b.jumpIf32(R4, '!=', swap32(MAGIC), pass);
  b.loadNetwork(run, 'u32', at(R2, PAYLOAD_OFFSET + 4));
  b.loadNetwork(sequence, 'u64', at(R2, PAYLOAD_OFFSET + 8));
  b.mov32(R4, sequence);
  b.and(R4, 0xffff);
  b.shr(sequence, 16);
  // Flows beyond those recorded share the last record.
  b.if(R4, '>=', spec.flows, () => b.mov(R4, spec.flows - 1));
  b.shl(R4, RECORD_SHIFT);
  b.loadMapValue(record, spec.records);
  b.add(record, R4);
  count(b, spec);
  b.return(XDP.DROP);
  b.place(pass);
  b.return(XDP.PASS);
  return b;
}

/** Step R2 over up to two VLAN tags, so that IPv4 and UDP are at their offsets for an untagged frame. */
function findPayload(b: ProgramBuilder, pass: Label): void {
  const needed = PAYLOAD_OFFSET + PAYLOAD_BYTES;
  const found = b.label('IPv4');
  for (let tags = 0; ; tags++) {
    b.needBytes(R2, R3, needed, R4, pass);
    b.load(R5, 'u16', at(R2, 12));
    b.jumpIf(R5, '==', IPV4, found);
    if (tags === TAGS.length) break;
    const tagged = b.label('tagged');
    for (const tpid of TAGS) b.jumpIf(R5, '==', tpid, tagged);
    b.jump(pass);
    b.place(tagged);
    b.add(R2, 4);
  }
  b.jump(pass);
  b.place(found);
  b.load(R4, 'u8', at(R2, 14));
  b.jumpIf(R4, '!=', 0x45, pass);
  b.load(R4, 'u8', at(R2, 23));
  b.jumpIf(R4, '!=', 17, pass);
}

/** Count the frame: R6 record, R7 sequence number, R8 run, R9 length. */
function count(b: ProgramBuilder, spec: ReceiveSpec): void {
  const field = (name: keyof FlowRecord) => at(R6, flowRecord.offsetOf(name));
  b.call(spec.clock);
  b.store('u64', field('lastNs'), R0);
  b.load(R1, 'u32', field('run'));
  b.if(R1, '!=', R8, () => startRun(b, spec));
  // Frames of one flow come on one CPU unless their route changes, yet then no count may be lost.
  b.mov(R1, 1);
  b.atomic('add', 'u64', field('packets'), R1);
  b.atomic('add', 'u64', field('bytes'), R9);
  b.load(R1, 'u64', field('next'));
  b.if(
    R7,
    '>=',
    R1,
    () => {
      b.add(R7, 1);
      b.store('u64', field('next'), R7);
    },
    () => {
      b.mov(R1, 1);
      b.atomic('add', 'u32', field('late'), R1);
    },
  );
}

/** Close the account of the run before, and open one for this: from 0 where the receiver was there first, else from this frame. */
function startRun(b: ProgramBuilder, spec: ReceiveSpec): void {
  const field = (name: keyof FlowRecord) => at(R6, flowRecord.offsetOf(name));
  b.load(R1, 'u64', field('next'));
  b.load(R2, 'u64', field('first'));
  b.sub(R1, R2);
  b.load(R2, 'u64', field('earlier'));
  b.add(R2, R1);
  b.store('u64', field('earlier'), R2);
  b.store('u32', field('run'), R8);
  b.load(R1, 'u64', field('firstNs'));
  b.if(R1, '==', 0, () => b.store('u64', field('firstNs'), R0));
  b.set(R2, spec.startedAt);
  b.mov32(R1, R8);
  b.sub32(R1, R2);
  b.mov(R2, 0);
  b.if32(R1, 's<', 0, () => b.mov(R2, R7));
  b.store('u64', field('first'), R2);
  b.store('u64', field('next'), R2);
}

function swap32(value: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, value);
  return view.getInt32(0, true);
}
