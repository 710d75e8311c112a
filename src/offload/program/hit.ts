/** After the look-up: counters, and the way to the code of the flow's shape. R7 is the entry's address, R8 its number. Before that comes wait.ts. */
import {
  at,
  emitTickTime,
  type FunctionRef,
  type Label,
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
  type Slot,
  XDP_MD,
} from '../../bpf/index.ts';
import { Word } from '../../flow/index.ts';
import type { EmitContext } from '../actions/contract.ts';
import { emitShape } from '../actions/emit.ts';
import { emitLength } from '../actions/length.ts';
import { CopyFlag } from '../copies/layout.ts';
import { emitCopyFunction } from '../copies/stage.ts';
import { MAXIMUM_RECIRCULATIONS } from '../layout/limits.ts';
import { COUNTER_BYTES, CounterByte, CpuByte, EntryWord, LaneByte, MASK_BITS, NEAR_WORDS } from '../layout/sizes.ts';
import { countArrival, dropVerdict, fits } from './end.ts';
import { remember, scale } from './lookup.ts';
import { inOrder } from './wait.ts';
import type { ProgramWriter } from './writer.ts';

/** Write all from `found` and `hit` on. @param punted where packets go that have to wait and are counted already */
export function afterLookup(writer: ProgramWriter, punted: Label): void {
  const { b, plan } = writer;
  if (plan.masks.length > 1) {
    b.place(writer.found);
    writer.note('found: the cache shall know');
    remember(writer);
  }
  b.place(writer.hit);
  inOrder(writer, punted);
  countArrival(writer, 'add');
  count(writer);
  dispatch(writer);
}

/** Counters of the entry and of the port. */
function count(writer: ProgramWriter): void {
  const { b, plan, needs } = writer;
  const { sizes } = plan.maps;
  writer.note('counters');
  b.store('u32', writer.entry, R8);
  if (plan.clock === 'ktime_get_ns') b.callHelper(plan.clock);
  else emitTickTime(b, plan.clock);
  b.mov(R9, R0);
  b.load(R4, 'u32', writer.cpuNumber);
  b.and(R4, sizes.cpus - 1);
  countersOf(writer);
  b.store('u64', writer.counters, R3);
  emitLength(b, writer.isTc);
  b.load(R2, 'u64', at(R3, CounterByte.PACKETS));
  b.add(R2, 1);
  b.store('u64', at(R3, CounterByte.PACKETS), R2);
  b.load(R2, 'u64', at(R3, CounterByte.BYTES));
  b.add(R2, R1);
  b.store('u64', at(R3, CounterByte.BYTES), R2);
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
  if (writer.again) return;
  writer.cpu(R3);
  writer.laneOf(R3, R2);
  b.load(R2, 'u64', at(R3, LaneByte.PACKETS));
  b.add(R2, 1);
  b.store('u64', at(R3, LaneByte.PACKETS), R2);
  b.load(R2, 'u64', at(R3, LaneByte.BYTES));
  b.add(R2, R1);
  b.store('u64', at(R3, LaneByte.BYTES), R2);
}

/** R7 becomes the address of the entry's parameters. Uses R0. */
function parametersOf(writer: ProgramWriter, count: number): void {
  const { b } = writer;
  if (count <= NEAR_WORDS) {
    b.add(R7, EntryWord.NEAR * 4);
    return;
  }
  const { sizes, maps } = writer.plan.maps;
  b.load(R0, 'u32', writer.entry);
  b.and(R0, sizes.entries - 1);
  b.shl(R0, Math.log2(sizes.parameterWords * 4));
  b.loadMapValue(R7, maps.far);
  b.add(R7, R0);
}

/** To the code of the shape. */
function dispatch(writer: ProgramWriter): void {
  const { b, plan } = writer;
  writer.note('to the actions');
  b.load(R1, 'u32', at(R7));
  b.shr(R1, MASK_BITS);
  // What shapes read of the key lies on their stack.
  const words = new Map<number, Slot>();
  const observe = plan.observe;
  const context: EmitContext = {
    hook: plan.hook,
    layer3: writer.layer3,
    key: (word) => words.get(word) ?? writer.key(word),
    punt: writer.puntAfterHit,
    failed: writer.failed,
    drop: (reason) => {
      if (reason !== 0) writer.countDrop(reason);
      writer.countOfPort(LaneByte.DROPPED);
      b.return(dropVerdict(writer));
    },
    lost: () => writer.countOfPort(LaneByte.LOST_COPIES),
    fits: (ifindex, tooLong) => fits(writer, ifindex, tooLong),
    devices: plan.maps.maps.devices,
    recirculate: () => recirculate(writer),
    ...copyCalls(writer),
    ...(observe === undefined ? {} : { observe: (ifindex) => observe(b, ifindex) }),
  };
  b.switch(
    R1,
    plan.shapes.map(({ number, shape }) => [
      number,
      () => {
        writer.note(`shape ${number}: ${shape.id}`);
        parametersOf(writer, shape.parameterWords);
        if (shape.keyWords.length > 0) writer.cpu(R5);
        for (const word of shape.keyWords) {
          const place = b.stack(4);
          words.set(word, place);
          b.load(R1, 'u32', writer.key(word));
          b.store('u32', place, R1);
        }
        emitShape(b, shape, context);
      },
    ]),
  );
  writer.note('a shape that came after this program');
  b.jump(writer.puntAfterHit);
}

/** The calls for copies, in programs that make some. */
function copyCalls(writer: ProgramWriter): Pick<EmitContext, 'copyIn' | 'copyOut'> {
  const { b, plan, isTc } = writer;
  const { copies } = plan;
  if (copies === undefined) return {};
  const note = (text: string) => writer.note(text);
  const arrival = b.stack(8);
  // A function that nothing calls, as where all flows recirculate, is no valid code.
  let copy: FunctionRef | null = null;
  const call = (direction: number) => {
    copy ??= emitCopyFunction({ b, hook: plan.hook, maps: copies, cpus: plan.maps.sizes.cpus, note });
    b.load(R3, 'u64', arrival);
    b.callLocal(copy, R6, R2, R3, direction);
  };
  return {
    copyIn: () => {
      note('a copy of what came in');
      b.callHelper('ktime_get_ns');
      b.store('u64', arrival, R0);
      b.load(R2, 'u32', at(R6, isTc ? SK_BUFF.ifindex : XDP_MD.ingressIfindex));
      call(0);
    },
    copyOut: (ifindex) => {
      note('a copy of what goes out');
      b.load(R2, 'u32', ifindex);
      call(CopyFlag.OUT);
    },
  };
}

/** The packet is looked up again, by the program for such packets. R8 is the id, R9 the hash or 0. */
function recirculate(writer: ProgramWriter): void {
  const { b, tailCalls } = writer;
  if (tailCalls === null) throw new Error('a program that recirculates needs a map of programs');
  writer.cpu(R7);
  b.store('u32', at(R7, CpuByte.RECIRC_ID), R8);
  if (!writer.again) b.store('u32', at(R7, CpuByte.DP_HASH), R9);
  // A packet keeps the hash that it was given before.
  else b.if(R9, '!=', 0, () => b.store('u32', at(R7, CpuByte.DP_HASH), R9));
  b.load(R1, 'u32', writer.entry);
  if (writer.again) {
    b.load(R2, 'u32', writer.depth);
    b.jumpIf(R2, '>=', MAXIMUM_RECIRCULATIONS, writer.puntAfterHit);
    b.mov(R3, R2);
    b.shl(R3, 2);
    b.add(R3, R7);
    b.store('u32', at(R3, CpuByte.ENTRIES), R1);
    b.add(R2, 1);
    b.store('u32', at(R7, CpuByte.DEPTH), R2);
  } else {
    b.store('u32', at(R7, CpuByte.ENTRIES), R1);
    b.store('u32', at(R7, CpuByte.DEPTH), 1);
  }
  b.call('tail_call', R6, tailCalls, 0);
  writer.note('not possible (any more): the engine does all of it');
  b.jump(writer.puntAfterHit);
}

/** R3 becomes the address of the counters of the entry whose number is in R8. R4 is the CPU. Uses R0 and R8. */
function countersOf(writer: ProgramWriter): void {
  const { b } = writer;
  const { sizes, maps } = writer.plan.maps;
  b.and(R8, sizes.entries - 1);
  const isInline = sizes.hasInlineCounters;
  scale(b, R8, sizes.counterAt(1, 0) - sizes.counterAt(0, 0));
  b.mov(R0, R4);
  scale(b, R0, isInline ? sizes.inlineCounterBytes : sizes.entries * COUNTER_BYTES);
  b.add(R0, R8);
  b.loadMapValue(R3, isInline ? maps.entries : maps.counters);
  b.add(R3, R0);
  if (isInline) b.add(R3, sizes.headBytes);
}

/** Take a packet back from the counters at R3; its length is in R1. Uses R2. */
function takeBack(writer: ProgramWriter): void {
  const { b } = writer;
  b.load(R2, 'u64', at(R3, CounterByte.PACKETS));
  b.sub(R2, 1);
  b.store('u64', at(R3, CounterByte.PACKETS), R2);
  b.load(R2, 'u64', at(R3, CounterByte.BYTES));
  b.sub(R2, R1);
  b.store('u64', at(R3, CounterByte.BYTES), R2);
}

/** Write the end of packets that were counted and now go up: the engine counts them itself. Goes on behind it. */
export function uncount(writer: ProgramWriter): void {
  const { b } = writer;
  if (writer.puntAfterHit.uses > 0) {
    b.place(writer.puntAfterHit);
    writer.note('to the engine after a hit: it counts the packet itself');
    countArrival(writer, 'take back');
    emitLength(b, writer.isTc);
    b.load(R3, 'u64', writer.counters);
    takeBack(writer);
    if (!writer.again) uncountPort(writer);
  }
}

/** The packet's length is in R1. */
function uncountPort(writer: ProgramWriter): void {
  const { b } = writer;
  writer.cpu(R3);
  writer.laneOf(R3, R2);
  b.load(R2, 'u64', at(R3, LaneByte.PACKETS));
  b.sub(R2, 1);
  b.store('u64', at(R3, LaneByte.PACKETS), R2);
  b.load(R2, 'u64', at(R3, LaneByte.BYTES));
  b.sub(R2, R1);
  b.store('u64', at(R3, LaneByte.BYTES), R2);
}

/** Write for a packet that was recirculated and goes up as it came: the passes before do not count either. */
export function uncountPasses(writer: ProgramWriter): void {
  const { b } = writer;
  writer.note('passes before this one are the engine’s as well');
  emitLength(b, writer.isTc);
  b.mov(R9, R1);
  uncountPort(writer);
  writer.cpu(R7);
  b.block((done) => {
    for (let pass = 0; pass < MAXIMUM_RECIRCULATIONS; pass += 1) {
      b.load(R1, 'u32', writer.depth);
      b.jumpIf(R1, '<=', pass, done);
      b.load(R8, 'u32', at(R7, CpuByte.ENTRIES + pass * 4));
      b.load(R4, 'u32', writer.cpuNumber);
      b.and(R4, writer.plan.maps.sizes.cpus - 1);
      countersOf(writer);
      b.mov(R1, R9);
      takeBack(writer);
    }
  });
}
