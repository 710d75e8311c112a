/** The stages before the packet's bytes: the port it came by, and what is known of a pass; and what is counted of a port. */
import { at, R1, R2, R3, R5, R6, R7, SK_BUFF, TC, XDP } from '../../bpf/index.ts';
import { Word } from '../../flow/index.ts';
import { forgetConnection, ofTracked } from '../connections/code.ts';
import { MAXIMUM_IFINDEX } from '../layout/limits.ts';
import { CpuByte, LaneByte, PORT_WORDS, PortFlag, PortWord, TrackedWord } from '../layout/sizes.ts';
import { Found, ResumeSlot } from './facts.ts';
import { knowsConnections, type ProgramPlan, resumes } from './plan.ts';
import type { Stage } from './stage.ts';
import type { ProgramWriter } from './writer.ts';

/** What the program returns for a packet that it has nothing to do with, or that goes up by what runs behind it. */
export function passVerdict(writer: ProgramWriter): number {
  return writer.isTc ? TC.NEXT : XDP.PASS;
}

/** The port. Packets of interfaces that are none pass; those of a port that is held go up. */
export function portStage(plan: ProgramPlan): Stage {
  const { maps } = plan.maps;
  return {
    name: 'port',
    needs: [],
    gives: [Found.CPU, Found.PORT, Found.LANE, Found.CPU_NUMBER, Found.LAYER3],
    givesKey: [[Word.IN_PORT, Word.IN_PORT + 1]],
    maps: [maps.ports, maps.cpus],
    emit: port,
  };
}

function port(writer: ProgramWriter): void {
  const { b, plan } = writer;
  writer.note('the port');
  b.mov(R6, R1);
  const isTold = writer.isPortTold;
  if (isTold) writer.findCpu();
  b.load(R1, 'u32', writer.portIndex(R1));
  const pass = b.label('no port');
  b.jumpIf(R1, '>', MAXIMUM_IFINDEX, pass);
  b.shl(R1, Math.log2(PORT_WORDS * 4));
  b.loadMapValue(R7, plan.maps.maps.ports);
  b.add(R7, R1);
  b.store('u64', writer.slot(Found.PORT), R7);
  b.load(R1, 'u32', at(R7, PortWord.LANE * 4));
  b.store('u32', writer.slot(Found.LANE), R1);
  if (!isTold) writer.findCpu();
  b.load(R2, 'u32', at(R7, PortWord.FLAGS * 4));
  const isOn = b.label('port is on');
  // What was recirculated has met the program before.
  b.jumpIf(R2, '&', writer.again ? PortFlag.ON | PortFlag.HELD : PortFlag.ON, isOn);
  if (!writer.again) b.jumpIf(R2, '&', PortFlag.HELD, writer.punt);
  b.place(pass);
  b.return(passVerdict(writer));

  b.place(isOn);
  writer.clearKey();
  b.store('u32', writer.layer3, 0);
  b.load(R1, 'u32', at(R7, PortWord.NUMBER * 4));
  writer.setKey(Word.IN_PORT, R1);
}

/** A packet that has just come: recirculation id, hash and connection are 0, as the key is where nothing was written. */
export const freshStage: Stage = {
  name: 'fresh packet',
  pass: 'first',
  needs: [Found.PORT],
  givesKey: [
    [Word.RECIRC_ID, Word.RECIRC_ID + 1],
    [Word.DP_HASH, Word.DP_HASH + 1],
    [Word.CT, Word.L2],
  ],
  keeps: [Found.CPU],
  emit(writer) {
    if (knowsConnections(writer.plan)) {
      writer.note('nothing is known of its connection');
      writer.cpu(R1);
      forgetConnection(writer.b, R1);
    }
    if (writer.undoes) {
      writer.note('it is as it came');
      writer.cpu(R1);
      writer.b.store('u32', at(R1, CpuByte.CHANGED), 0);
    }
    if (!writer.isTc || !writer.needs.setsMetadata) return;
    writer.note('mark and priority are 0 until an action sets them');
    // They are the engine's to give: a packet that comes in has none.
    writer.b.store('u32', at(R6, SK_BUFF.mark), 0);
    writer.b.store('u32', at(R6, SK_BUFF.priority), 0);
  },
};

/** A packet that was looked up before: what the pass before has left. */
export function carriedOverStage(plan: ProgramPlan): Stage {
  return {
    name: 'carried over',
    pass: 'again',
    needs: [Found.CPU, Found.LANE],
    gives: [Found.DEPTH, ...(resumes(plan) ? [Found.RESUME] : [])],
    givesKey: freshStage.givesKey ?? [],
    keeps: [Found.CPU],
    emit: carriedOver,
  };
}

function carriedOver(writer: ProgramWriter): void {
  const { b, needs, plan } = writer;
  writer.note('what the pass before has left');
  b.load(R1, 'u32', at(R5, CpuByte.DEPTH));
  b.store('u32', writer.slot(Found.DEPTH), R1);
  for (const [byte, word] of [
    [CpuByte.RECIRC_ID, Word.RECIRC_ID],
    [CpuByte.DP_HASH, Word.DP_HASH],
  ] as const) {
    if (!needs.has(word)) continue;
    b.load(R1, 'u32', at(R5, byte));
    writer.setKey(word, R1);
  }
  for (let word: number = Word.CT; word < Word.L2 && knowsConnections(plan); word += 1) {
    if (!needs.has(word)) continue;
    b.load(R1, 'u32', ofTracked(TrackedWord.KEY + word - Word.CT, R5));
    writer.setKey(word, R1);
  }
  if (writer.resumes) {
    const resume = writer.slot(Found.RESUME);
    for (const [byte, place] of [
      [CpuByte.RECIRC_ID, ResumeSlot.RECIRC_ID],
      [CpuByte.DP_HASH, ResumeSlot.DP_HASH],
      [CpuByte.DEPTH, ResumeSlot.PASSES],
      [CpuByte.CHANGED, ResumeSlot.CHANGED],
    ] as const) {
      b.load(R1, 'u32', at(R5, byte));
      b.store('u32', resume.at(place), R1);
    }
  }
  writer.countOfPort(LaneByte.RECIRCULATED);
}

/**
 * How many of those that XDP passed have come to tc: counted when it is decided what becomes of the packet, and behind the count of those that
 * go up, so that whoever sees it arrived sees it on its way. Uses R1 to R3.
 */
export function countArrival(writer: ProgramWriter, how: 'add' | 'take back'): void {
  const { b } = writer;
  if (!writer.isTc || writer.again) return;
  writer.note('one that XDP passed has come here');
  b.load(R3, 'u64', writer.slot(Found.PORT));
  b.load(R2, 'u32', at(R3, PortWord.FLAGS * 4));
  b.if(R2, '&', PortFlag.XDP, () => {
    b.load(R1, 'u32', at(R6, SK_BUFF.gsoSegs));
    b.if(R1, '==', 0, () => b.mov(R1, 1));
    if (how === 'take back') b.neg32(R1);
    b.atomic('add', 'u32', at(R3, PortWord.ARRIVED * 4), R1);
  });
}

/** A packet of the port is carried, or is not after all: its length is in R1, which stays. Uses R2 and R3. */
export function countCarried(writer: ProgramWriter, how: 'add' | 'take back'): void {
  writer.cpu(R3);
  writer.laneOf(R3, R2);
  addCounts(writer, LaneByte.PACKETS, LaneByte.BYTES, how);
}

/** A packet and its length, which is in R1, at counters at R3. Uses R2. */
export function addCounts(writer: ProgramWriter, packets: number, bytes: number, how: 'add' | 'take back'): void {
  const { b } = writer;
  b.load(R2, 'u64', at(R3, packets));
  if (how === 'add') b.add(R2, 1);
  else b.sub(R2, 1);
  b.store('u64', at(R3, packets), R2);
  b.load(R2, 'u64', at(R3, bytes));
  if (how === 'add') b.add(R2, R1);
  else b.sub(R2, R1);
  b.store('u64', at(R3, bytes), R2);
}
