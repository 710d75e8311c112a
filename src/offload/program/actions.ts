/** The stage of actions: the way to the code of the flow's shape, and what that code needs of the program around it. */
import {
  type Address,
  at,
  type FunctionRef,
  type Label,
  type MapReference,
  R0,
  R1,
  R2,
  R3,
  R5,
  R6,
  R7,
  R8,
  R9,
  SK_BUFF,
  type Slot,
} from '../../bpf/index.ts';
import { MTU_ALLOWANCE_BYTES } from '../../net/index.ts';
import type { EmitContext } from '../actions/contract.ts';
import { emitShape } from '../actions/emit.ts';
import { emitLength } from '../actions/length.ts';
import { TRACK_KEY } from '../connections/track.ts';
import { CopyFlag } from '../copies/layout.ts';
import { emitCopyFunction } from '../copies/stage.ts';
import { MAXIMUM_IFINDEX, MAXIMUM_RECIRCULATIONS } from '../layout/limits.ts';
import {
  CpuByte,
  EntryWord,
  LaneByte,
  MASK_BITS,
  MTU_SHIFT,
  NEAR_WORDS,
  PORT_WORDS,
  PortFlag,
  PortWord,
} from '../layout/sizes.ts';
import { drop } from './end.ts';
import { Found, ResumeSlot } from './facts.ts';
import { type ProgramPlan, resumes, shapeBits, tracks } from './plan.ts';
import type { Stage } from './stage.ts';
import { connectionCalls } from './tracking.ts';
import { keepHeaders, restoreHeaders } from './undo.ts';
import type { ProgramWriter } from './writer.ts';

/** No Ethernet device of Linux has a smaller one (ETH_MIN_MTU). */
const SMALLEST_MTU = 68;

/** The actions. Nothing comes behind them: each packet is sent, dropped, looked up again or handed up. */
export function actionsStage(plan: ProgramPlan, again: boolean, tailCalls: MapReference | null): Stage {
  const { far, devices, ports } = plan.maps.maps;
  const maps: MapReference[] = [far, devices, ports, ...(plan.observe?.maps ?? [])];
  if (tailCalls !== null) maps.push(tailCalls);
  if (plan.copies !== undefined) maps.push(plan.copies.ring, plan.copies.wanted, plan.copies.scratch);
  const { connections } = plan;
  if (connections !== undefined) maps.push(connections.control, connections.index, connections.records);
  return {
    name: 'actions',
    needs: [Found.ENTRY, Found.COUNTED, Found.LAYER3, ...(again ? [Found.DEPTH] : [])],
    // In the first pass nothing is known of the next one before the actions.
    gives: !again && resumes(plan) ? [Found.RESUME] : [],
    key: [...shapeBits(plan), ...(tracks(plan) ? TRACK_KEY : [])],
    maps,
    emit: dispatch,
  };
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
    drop: (reason) => drop(writer, reason),
    lost: () => writer.countOfPort(LaneByte.LOST_COPIES),
    fits: (ifindex, tooLong) => fits(writer, ifindex, tooLong),
    devices: plan.maps.maps.devices,
    recirculate: (changed) => recirculate(writer, changed),
    mustResume: (otherwise) => mustResume(writer, otherwise),
    keepHeaders: () => keepHeaders(writer),
    ...copyCalls(writer),
    ...connectionCalls(writer),
    ...(observe === undefined ? {} : { observe: (ifindex) => observe.emit(b, ifindex) }),
  };
  b.switch(
    R1,
    plan.shapes.map(({ number, shape }) => [
      number,
      () => {
        writer.note(`shape ${number}: ${shape.id}`);
        if (shape.checks.undoes && plan.copies !== undefined) {
          writer.note('it may go up as it came, and would be shown twice: all of them do while copies are wanted');
          b.jump(writer.puntAfterHit);
          return;
        }
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

/** R7 becomes the address of the entry's parameters. Uses R0. */
function parametersOf(writer: ProgramWriter, count: number): void {
  const { b } = writer;
  if (count <= NEAR_WORDS) {
    b.add(R7, EntryWord.NEAR * 4);
    return;
  }
  const { sizes, maps } = writer.plan.maps;
  b.load(R0, 'u32', writer.slot(Found.COUNTED));
  b.and(R0, sizes.entries - 1);
  b.shl(R0, Math.log2(sizes.parameterWords * 4));
  b.loadMapValue(R7, maps.far);
  b.add(R7, R0);
}

/**
 * Whether a packet is too long for the interface that it is about to be sent by, which the engine finds in the end (mtu.ts of net/); a super-packet is
 * cut later. At tc a tag beside the packet is not part of its length. At XDP the kernel counts all tags, and refuses what is longer. Uses R1 to R3.
 * @param ifindex where the index of the interface lies
 * @param tooLong where a packet goes that does not fit
 */
function fits(writer: ProgramWriter, ifindex: Address, tooLong: Label): void {
  const { b, plan } = writer;
  b.block((leave) => {
    if (writer.isTc) b.load(R1, 'u32', at(R6, SK_BUFF.len));
    else emitLength(b, false);
    // Most are short or super-packets: they need no look at the port.
    b.jumpIf(R1, '<=', SMALLEST_MTU + MTU_ALLOWANCE_BYTES, leave);
    if (writer.isTc) {
      b.load(R2, 'u32', at(R6, SK_BUFF.gsoSize));
      b.jumpIf(R2, '!=', 0, leave);
    }
    b.load(R3, 'u32', ifindex);
    b.jumpIf(R3, '>', MAXIMUM_IFINDEX, leave);
    b.shl(R3, Math.log2(PORT_WORDS * 4));
    b.loadMapValue(R2, plan.maps.maps.ports);
    b.add(R2, R3);
    b.load(R3, 'u32', at(R2, PortWord.FLAGS * 4));
    b.shr(R3, MTU_SHIFT);
    b.jumpIf(R3, '==', 0, leave);
    b.add(R3, MTU_ALLOWANCE_BYTES);
    b.jumpIf(R1, '<=', R3, leave);
    b.jump(tooLong);
  });
}

/** The calls for copies, in programs that make some. */
function copyCalls(writer: ProgramWriter): Pick<EmitContext, 'copyIn' | 'copyOut'> {
  const { b, plan } = writer;
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
      const show = () => {
        b.load(R2, 'u32', writer.portIndex(R2));
        call(0);
      };
      // Of what a pass before has changed that pass has made the copy.
      if (writer.again && writer.resumes) {
        b.load(R1, 'u32', writer.slot(Found.RESUME).at(ResumeSlot.CHANGED));
        b.if(R1, '==', 0, show);
      } else show();
    },
    copyOut: (ifindex) => {
      note('a copy of what goes out');
      b.load(R2, 'u32', ifindex);
      call(CopyFlag.OUT);
    },
  };
}

/** A packet that is changed and not found behind that goes up by the punt channel, and not by a TAP. Uses R1 and R2. */
function mustResume(writer: ProgramWriter, otherwise: Label): void {
  const { b } = writer;
  b.load(R1, 'u64', writer.slot(Found.PORT));
  b.load(R2, 'u32', at(R1, PortWord.FLAGS * 4));
  b.jumpIf(R2, '&', PortFlag.EGRESS, otherwise);
  b.load(R2, 'u32', at(R1, PortWord.PUNT_IFINDEX * 4));
  b.jumpIf(R2, '==', 0, otherwise);
}

/**
 * The packet is looked up again, by the program for such packets. R8 is the id, R9 the hash or 0.
 * @param changed whether this pass has changed it: then it cannot go up as it came any more
 */
function recirculate(writer: ProgramWriter, changed: boolean): void {
  const { b, tailCalls } = writer;
  if (tailCalls === null) throw new Error('a program that recirculates needs a map of programs');
  writer.cpu(R7);
  b.store('u32', at(R7, CpuByte.RECIRC_ID), R8);
  if (!writer.again && writer.plan.handsDown === true) {
    b.load(R1, 'u32', writer.portIndex(R1));
    b.store('u32', at(R7, CpuByte.IFINDEX), R1);
    b.store('u32', at(R7, CpuByte.TICKET), 0);
  }
  if (!writer.again) b.store('u32', at(R7, CpuByte.DP_HASH), R9);
  // A packet keeps the hash that it was given before.
  else b.if(R9, '!=', 0, () => b.store('u32', at(R7, CpuByte.DP_HASH), R9));
  if (writer.resumes && (changed || !writer.again)) b.store('u32', at(R7, CpuByte.CHANGED), changed ? 1 : 0);
  b.load(R1, 'u32', writer.slot(Found.COUNTED));
  const goesOn = b.label('the engine goes on');
  const mustGoOn = changed && writer.isTc;
  if (writer.again) {
    b.load(R2, 'u32', writer.slot(Found.DEPTH));
    b.jumpIf(R2, '>=', MAXIMUM_RECIRCULATIONS, mustGoOn ? goesOn : writer.puntAfterHit);
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
  if (!mustGoOn) {
    writer.note('not possible (any more): the engine does all of it');
    // In the other program what goes up is restored wherever that is found out.
    if (changed && !writer.again) restoreHeaders(writer);
    b.jump(writer.puntAfterHit);
    return;
  }
  writer.note('not possible (any more): the engine goes on with the look-up');
  b.placeIfUsed(goesOn);
  const resume = writer.slot(Found.RESUME);
  b.store('u32', resume.at(ResumeSlot.RECIRC_ID), R8);
  b.load(R1, 'u32', at(R7, CpuByte.DP_HASH));
  b.store('u32', resume.at(ResumeSlot.DP_HASH), R1);
  if (writer.again) {
    b.load(R1, 'u32', writer.slot(Found.DEPTH));
    b.add(R1, 1);
    b.store('u32', resume.at(ResumeSlot.PASSES), R1);
  } else b.store('u32', resume.at(ResumeSlot.PASSES), 1);
  b.jump(writer.resume);
}
