/** How a packet's way through the program ends: dropped, handed up, passed on, lost. */
import { at, R1, R2, R3, R6, R7, TC, XDP } from '../../bpf/index.ts';
import { emitLength } from '../actions/length.ts';
import { LaneByte, PortFlag, PortWord } from '../layout/sizes.ts';
import { emitPunt } from '../punt/punt.ts';
import { emitWithinShare, type ShareWords } from '../punt/share.ts';
import { Found } from './facts.ts';
import type { ProgramPlan } from './plan.ts';
import { countArrival, countCarried } from './port.ts';
import type { Stage } from './stage.ts';
import type { ProgramWriter } from './writer.ts';

const SHARE_WORDS: ShareWords = {
  handedUp: PortWord.PUNTED,
  workedOff: PortWord.DRAINED,
  share: PortWord.SHARE,
  refused: PortWord.REFUSED,
};

/** What the program returns for a packet that ends here. */
function dropVerdict(writer: ProgramWriter): number {
  return writer.isTc ? TC.SHOT : XDP.DROP;
}

/**
 * Write the end of a packet that is dropped, wherever that is found out: it counts as carried, at its port, and under its reason. R0 to R3 are lost.
 * @param reason one of flow/'s Drop, or 0 for none
 */
export function drop(writer: ProgramWriter, reason: number): void {
  const { b } = writer;
  if (!writer.known.has(Found.ORDERED)) countArrival(writer, 'add');
  if (!writer.known.has(Found.COUNTED) && !writer.again) {
    emitLength(b, writer.isTc);
    countCarried(writer, 'add');
  }
  if (reason !== 0) writer.countDrop(reason);
  writer.countOfPort(LaneByte.DROPPED);
  b.return(dropVerdict(writer));
}

/** Write the end of a packet that is lost: it can neither be carried nor handed up. Uses R1 and R2. */
export function lose(writer: ProgramWriter): void {
  writer.countOfPort(LaneByte.FAILED);
  writer.b.return(dropVerdict(writer));
}

/** Packets that go up are counted as that. It begins with `punt`. */
export const announceStage: Stage = {
  name: 'going up',
  role: 'end',
  needs: [Found.PORT],
  emit(writer) {
    const { b } = writer;
    b.place(writer.punt);
    writer.note('to the engine');
    b.load(R7, 'u64', writer.slot(Found.PORT));
    b.mov(R1, 1);
    b.atomic('add', 'u32', at(R7, (writer.isTc ? PortWord.PUNTED : PortWord.PASSED) * 4), R1);
    b.placeIfUsed(writer.announced);
  },
};

/** How a packet goes up that is counted as that, and how one is lost. */
export function endStage({ maps: { maps } }: ProgramPlan): Stage {
  return {
    name: 'end',
    role: 'end',
    needs: [Found.PORT, Found.LANE],
    maps: [maps.ports, maps.cpus],
    emit: end,
  };
}

function end(writer: ProgramWriter): void {
  const { b } = writer;
  countArrival(writer, 'add');
  if (!writer.isTc) {
    writer.countOfPort(LaneByte.PASSED);
    b.return(XDP.PASS);
  } else {
    b.load(R7, 'u64', writer.slot(Found.PORT));
    const pass = b.label('the TAP has it');
    const refused = b.label('beyond its share');
    b.load(R2, 'u32', at(R7, PortWord.FLAGS * 4));
    b.jumpIf(R2, '&', PortFlag.EGRESS, pass);
    b.load(R3, 'u32', at(R7, PortWord.PUNT_IFINDEX * 4));
    b.jumpIf(R3, '==', 0, pass);
    writer.note("no more on their way than the port's share");
    emitWithinShare(b, R7, SHARE_WORDS, refused);
    writer.countOfPort(LaneByte.PUNTED);
    emitPunt(b, R6, R3);
    b.place(refused);
    b.return(dropVerdict(writer));
    b.place(pass);
    writer.countOfPort(LaneByte.PUNTED);
    b.return(TC.NEXT);
  }
  if (writer.failed.uses === 0) return;
  b.place(writer.failed);
  writer.note('a helper failed after a change: the packet is lost');
  lose(writer);
}
