/** How a packet's way through the program ends: dropped, handed up, passed on, lost. */
import { type Address, at, type Label, R0, R1, R2, R3, R6, R7, TC, XDP } from '../../bpf/index.ts';
import { Word } from '../../flow/index.ts';
import { emitLength } from '../actions/length.ts';
import { ofTracked } from '../connections/code.ts';
import { CpuByte, LaneByte, PortFlag, PortWord, TrackedWord } from '../layout/sizes.ts';
import { emitPunt } from '../punt/punt.ts';
import { emitResumeRecord } from '../punt/record.ts';
import { emitWithinShare, type ShareWords } from '../punt/share.ts';
import { Found, ResumeSlot } from './facts.ts';
import { knowsConnections, type ProgramPlan } from './plan.ts';
import { countArrival, countCarried } from './port.ts';
import type { Stage } from './stage.ts';
import { restoreHeaders } from './undo.ts';
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
    if (writer.again && writer.resumes) ifChanged(writer, writer.resume);
    b.load(R7, 'u64', writer.slot(Found.PORT));
    b.mov(R1, 1);
    b.atomic('add', 'u32', at(R7, (writer.isTc ? PortWord.PUNTED : PortWord.PASSED) * 4), R1);
    if (writer.announced.uses > 0) {
      b.place(writer.announced);
      if (writer.again && writer.resumes) ifChanged(writer, writer.resumeAnnounced);
    }
    if (writer.again && writer.undoes) restoreHeaders(writer);
  },
};

/** Packets that a pass before has changed go to a label. Uses R1. */
function ifChanged(writer: ProgramWriter, label: Label): void {
  const { b } = writer;
  b.load(R1, 'u32', writer.slot(Found.RESUME).at(ResumeSlot.CHANGED));
  b.jumpIf(R1, '!=', 0, label);
}

/** How a packet goes up that is counted as that. */
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
    emitPunt(b, R6, R3, 'marked', writer.portIndex(R0));
    b.place(refused);
    b.return(dropVerdict(writer));
    b.place(pass);
    writer.countOfPort(LaneByte.PUNTED);
    b.return(TC.NEXT);
  }
}

/** How a packet goes up that was changed: with a record, and what was done to it counts. Only in programs for which `resumes` holds. */
export function resumeStage({ maps: { maps }, observe }: ProgramPlan): Stage {
  return {
    name: 'going on in the engine',
    role: 'end',
    needs: [Found.PORT, Found.LANE, Found.RESUME],
    maps: [maps.ports, maps.cpus, ...(observe?.maps ?? [])],
    emit: resume,
  };
}

function resume(writer: ProgramWriter): void {
  const { b, plan } = writer;
  if (writer.resume.uses === 0 && writer.resumeAnnounced.uses === 0) return;
  const next = writer.slot(Found.RESUME);
  const inPort = b.stack(4);
  b.placeIfUsed(writer.resume);
  writer.note('changed and not found: the engine goes on with it');
  if (b.reachable) {
    b.load(R7, 'u64', writer.slot(Found.PORT));
    b.mov(R1, 1);
    b.atomic('add', 'u32', at(R7, PortWord.PUNTED * 4), R1);
  }
  b.placeIfUsed(writer.resumeAnnounced);
  b.load(R7, 'u64', writer.slot(Found.PORT));
  const refused = b.label('changed, and beyond its share');
  emitWithinShare(b, R7, SHARE_WORDS, refused);
  writer.countOfPort(LaneByte.PUNTED);
  if (plan.observe !== undefined) {
    b.store('u32', inPort, 0);
    plan.observe.emit(b, inPort);
  }
  b.load(R1, 'u32', at(R7, PortWord.NUMBER * 4));
  b.store('u32', inPort, R1);
  const fields = {
    inPort,
    recircId: next.at(ResumeSlot.RECIRC_ID),
    dpHash: next.at(ResumeSlot.DP_HASH),
    passes: next.at(ResumeSlot.PASSES),
    words: connectionWords(writer),
    ...(writer.isPortTold ? { ticket: ticketOf(writer) } : {}),
  };
  emitResumeRecord(b, fields, writer.failed);
  b.load(R3, 'u32', at(R7, PortWord.PUNT_IFINDEX * 4));
  emitPunt(b, R6, R3, 'record', writer.portIndex(R0));
  b.place(refused);
  b.return(dropVerdict(writer));
}

/** The ticket of a packet that was handed down, by R3. */
function ticketOf(writer: ProgramWriter): Address {
  writer.cpu(R3);
  return at(R3, CpuByte.TICKET);
}

/** Words of the key that tracking has told, by R2. */
function connectionWords(writer: ProgramWriter): [word: number, place: Address][] {
  if (!knowsConnections(writer.plan)) return [];
  writer.cpu(R2);
  return Array.from({ length: Word.L2 - Word.CT }, (_, i) => [Word.CT + i, ofTracked(TrackedWord.KEY + i, R2)]);
}

/** Packets that are lost: they can neither be carried nor handed up. */
export const lostStage: Stage = {
  name: 'lost',
  role: 'end',
  needs: [Found.LANE],
  emit(writer) {
    if (writer.failed.uses === 0) return;
    writer.b.place(writer.failed);
    writer.note('a helper failed after a change: the packet is lost');
    lose(writer);
  },
};
