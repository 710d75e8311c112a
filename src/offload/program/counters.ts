/** The stages that count: a packet that is carried, at its entry and its port; and those that take it back when it goes up after all. */
import { at, emitTickTime, R0, R1, R2, R3, R4, R5, R7, R8, R9 } from '../../bpf/index.ts';
import { Word } from '../../flow/index.ts';
import { emitLength } from '../actions/length.ts';
import { MAXIMUM_RECIRCULATIONS } from '../layout/limits.ts';
import { COUNTER_BYTES, CounterByte, CpuByte } from '../layout/sizes.ts';
import { Found } from './facts.ts';
import { scale } from './lookup.ts';
import { countedBits, type ProgramPlan } from './plan.ts';
import { addCounts, countArrival, countCarried } from './port.ts';
import type { Stage } from './stage.ts';
import type { ProgramWriter } from './writer.ts';

/** The map in which counters of entries lie. */
function countersMap({ maps: { sizes, maps } }: ProgramPlan) {
  return sizes.hasInlineCounters ? maps.entries : maps.counters;
}

/** Counters of the entry and of the port. */
export function countStage(plan: ProgramPlan): Stage {
  return {
    name: 'counters',
    needs: [Found.ORDERED, Found.ENTRY, Found.NUMBER, Found.CPU_NUMBER, Found.LANE],
    key: countedBits(plan),
    gives: [Found.COUNTED, Found.COUNTERS],
    keeps: [Found.ENTRY],
    maps: [countersMap(plan)],
    emit: count,
  };
}

function count(writer: ProgramWriter): void {
  const { b, plan, needs } = writer;
  const { sizes } = plan.maps;
  writer.note('counters');
  b.store('u32', writer.slot(Found.COUNTED), R8);
  if (plan.clock === 'ktime_get_ns') b.callHelper(plan.clock);
  else emitTickTime(b, plan.clock);
  b.mov(R9, R0);
  b.load(R4, 'u32', writer.slot(Found.CPU_NUMBER));
  b.and(R4, sizes.cpus - 1);
  countersOf(writer);
  b.store('u64', writer.slot(Found.COUNTERS), R3);
  emitLength(b, writer.isTc);
  addCounts(writer, CounterByte.PACKETS, CounterByte.BYTES, 'add');
  b.store('u64', at(R3, CounterByte.USED), R9);
  if (needs.has(Word.TCP_FLAGS)) {
    writer.cpu(R5);
    b.load(R2, 'u32', writer.key(Word.TCP_FLAGS));
    b.shr(R2, 16);
    b.load(R0, 'u32', at(R3, CounterByte.TCP_FLAGS));
    b.or(R0, R2);
    b.store('u32', at(R3, CounterByte.TCP_FLAGS), R0);
  }
  // What is recirculated is one packet of the port.
  if (!writer.again) countCarried(writer, 'add');
}

/** R3 becomes the address of the counters of the entry whose number is in R8. R4 is the CPU. Uses R0 and R8. */
function countersOf(writer: ProgramWriter): void {
  const { b } = writer;
  const { sizes } = writer.plan.maps;
  b.and(R8, sizes.entries - 1);
  const isInline = sizes.hasInlineCounters;
  scale(b, R8, sizes.counterAt(1, 0) - sizes.counterAt(0, 0));
  b.mov(R0, R4);
  scale(b, R0, isInline ? sizes.inlineCounterBytes : sizes.entries * COUNTER_BYTES);
  b.add(R0, R8);
  b.loadMapValue(R3, countersMap(writer.plan));
  b.add(R3, R0);
  if (isInline) b.add(R3, sizes.headBytes);
}

/** The end of packets that were counted and now go up: the engine counts them itself. Goes on behind it. */
export const uncountStage: Stage = {
  name: 'not carried after all',
  role: 'end',
  needs: [Found.COUNTERS],
  emit(writer) {
    const { b } = writer;
    if (writer.puntAfterHit.uses === 0) return;
    b.place(writer.puntAfterHit);
    writer.note('to the engine after a hit: it counts the packet itself');
    countArrival(writer, 'take back');
    emitLength(b, writer.isTc);
    b.load(R3, 'u64', writer.slot(Found.COUNTERS));
    addCounts(writer, CounterByte.PACKETS, CounterByte.BYTES, 'take back');
    if (!writer.again) countCarried(writer, 'take back');
  },
};

/** A packet that was recirculated and goes up as it came: the passes before do not count either. */
export function uncountPassesStage(plan: ProgramPlan): Stage {
  return {
    name: 'passes before do not count',
    pass: 'again',
    role: 'end',
    needs: [Found.COUNTED, Found.DEPTH],
    maps: [countersMap(plan)],
    emit: uncountPasses,
  };
}

function uncountPasses(writer: ProgramWriter): void {
  const { b } = writer;
  // What was changed has gone to `resume`: its passes count.
  writer.note('passes before this one are the engine’s as well');
  emitLength(b, writer.isTc);
  b.mov(R9, R1);
  countCarried(writer, 'take back');
  writer.cpu(R7);
  b.block((done) => {
    for (let pass = 0; pass < MAXIMUM_RECIRCULATIONS; pass += 1) {
      b.load(R1, 'u32', writer.slot(Found.DEPTH));
      b.jumpIf(R1, '<=', pass, done);
      b.load(R8, 'u32', at(R7, CpuByte.ENTRIES + pass * 4));
      b.load(R4, 'u32', writer.slot(Found.CPU_NUMBER));
      b.and(R4, writer.plan.maps.sizes.cpus - 1);
      countersOf(writer);
      b.mov(R1, R9);
      addCounts(writer, CounterByte.PACKETS, CounterByte.BYTES, 'take back');
    }
  });
}
