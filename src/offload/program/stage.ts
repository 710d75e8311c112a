/**
 * Stages: what a program is made of. Each says what must have been found out about a packet before it, what it finds out itself and which maps
 * it uses, and writes its code. `arrange` brings the stages of a program into an order and refuses a list that cannot work. facts.ts has
 * what the stages of this folder find out, generate.ts writes the code.
 */
import { AssemblyError, type MapReference, type Register } from '../../bpf/index.ts';
import { Word } from '../../flow/index.ts';
import type { ProgramWriter } from './writer.ts';

/** Something that is known of a packet from some stage on, and where it is kept. */
export class Fact {
  /** For messages: "the port". */
  readonly name: string;
  /** Registers that hold it, right behind the stage that gives it. */
  readonly registers: readonly Register[];
  /** Room on the stack that holds it to the end of the program; 0 for none. */
  readonly slotBytes: number;
  /** Writes code that brings it into its registers again; without it, it is lost once they are used for something else. */
  readonly bring: ((writer: ProgramWriter) => void) | null;

  constructor(
    name: string,
    where: {
      readonly registers?: readonly Register[];
      readonly slotBytes?: number;
      readonly bring?: (writer: ProgramWriter) => void;
    } = {},
  ) {
    this.name = name;
    this.registers = where.registers ?? [];
    this.slotBytes = where.slotBytes ?? 0;
    this.bring = where.bring ?? null;
  }
}

/** Bits of a word of the flow key. */
export type KeyBits = readonly [word: number, bits: number];

/** A part of a program. Its code begins where that of the stage before ends, and goes on behind itself with packets that are not done. */
export interface Stage {
  /** For messages and listings. */
  readonly name: string;
  /** Only for packets that have just come, or only for those that were looked up before; for both when left out. */
  readonly pass?: 'first' | 'again';
  /** What stages before it must have found out. What lies in registers is there when its code begins. */
  readonly needs: readonly Fact[];
  /** Bits of the flow key that it reads; they are parsed if somebody does. */
  readonly key?: readonly KeyBits[];
  /** Whether it reads where layer 3 begins (`writer.layer3`): somebody has to, for it to be noted. False when left out. */
  readonly readsLayer3?: boolean;
  /** What it finds out, in the registers and on the stack where the facts say. */
  readonly gives?: readonly Fact[];
  /** Words of the flow key that it fills in, if somebody reads them: the first, and one behind the last. */
  readonly givesKey?: readonly (readonly [from: number, to: number])[];
  /** Facts that are still in their registers behind it, if they were before. All others must be taken to be gone, but for R6. */
  readonly keeps?: readonly Fact[];
  /** Maps that its code names. */
  readonly maps?: readonly MapReference[];
  /**
   * "on demand": left out unless a stage that is there needs what it gives. "end": behind all others, in the order of the list; what ends
   * before goes to it by labels.
   */
  readonly role?: 'on demand' | 'end';
  /** Nothing for it to do in this program. Stages that need what it gives are left out as well. */
  readonly isIdle?: boolean;
  /** Write its code. What it takes of the stack itself is free again behind it. */
  emit(writer: ProgramWriter): void;
}

/** A stage in its place. */
export interface ArrangedStage {
  readonly stage: Stage;
  /** What has to be brought into registers again before it. */
  readonly brings: readonly Fact[];
}

/** Stages do not fit together. */
export class StageError extends AssemblyError {}

/** What a stage may need or give: a fact, or a word of the key by its number. */
type Need = Fact | number;

const wordNames = new Map<number, string>();
for (const [name, word] of Object.entries(Word)) if (!wordNames.has(word)) wordNames.set(word, name.toLowerCase());

/** The name of a word of the flow key, for people: "in_port". */
export function keyWordName(word: number): string {
  return wordNames.get(word) ?? `word${word}`;
}

function nameOf(need: Need): string {
  return typeof need === 'number' ? `${keyWordName(need)} of the key` : need.name;
}

function needsOf({ needs, key = [] }: Stage): Need[] {
  return [...needs, ...key.filter(([, bits]) => bits !== 0).map(([word]) => word)];
}

function givenBy({ gives = [], givesKey = [] }: Stage): Need[] {
  const words = givesKey.flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i));
  return [...gives, ...words];
}

/**
 * Bring the stages of a program into their order.
 * @param own the stages that every program has, in the order that holds where their needs leave a choice
 * @param added further ones: each runs as early as its needs allow
 * @param again whether for the program that recirculated packets come to
 * @throws StageError when a need is given by no stage, by two, by one that comes later, or lies in registers that were used for something else
 */
export function arrange(own: readonly Stage[], added: readonly Stage[], again: boolean): readonly ArrangedStage[] {
  const isHere = ({ pass }: Stage) => pass === undefined || (pass === 'again') === again;
  const stages = [...added, ...own].filter(isHere);
  const givers = giversOf(stages);
  const order = ordered(present(stages, givers), givers);
  return withRegisters(order);
}

/** Who gives what. */
function giversOf(stages: readonly Stage[]): ReadonlyMap<Need, Stage> {
  const givers = new Map<Need, Stage>();
  for (const stage of stages) {
    for (const given of givenBy(stage)) {
      const other = givers.get(given);
      if (other !== undefined)
        throw new StageError(`${nameOf(given)} is given by two stages: ${other.name}, ${stage.name}`);
      givers.set(given, stage);
    }
  }
  for (const stage of stages) {
    for (const need of needsOf(stage)) {
      if (!givers.has(need)) throw new StageError(`stage ${stage.name} needs ${nameOf(need)}, which no stage gives`);
    }
  }
  return givers;
}

/** The stages that have something to do, in the order of the list. */
function present(stages: readonly Stage[], givers: ReadonlyMap<Need, Stage>): Stage[] {
  const giversFor = (stage: Stage) => needsOf(stage).flatMap((need) => givers.get(need) ?? []);
  const idle = new Set(stages.filter(({ isIdle }) => isIdle === true));
  for (let before = -1; before !== idle.size; ) {
    before = idle.size;
    for (const stage of stages) if (giversFor(stage).some((giver) => idle.has(giver))) idle.add(stage);
  }
  const wanted = new Set<Stage>();
  const want = (stage: Stage): void => {
    if (wanted.has(stage)) return;
    wanted.add(stage);
    for (const giver of giversFor(stage)) want(giver);
  };
  for (const stage of stages) if (!idle.has(stage) && stage.role !== 'on demand') want(stage);
  return stages.filter((stage) => wanted.has(stage));
}

function ordered(stages: readonly Stage[], givers: ReadonlyMap<Need, Stage>): Stage[] {
  const order: Stage[] = [];
  const waiting = new Set(stages);
  const isReady = (stage: Stage) =>
    needsOf(stage).every((need) => {
      const giver = givers.get(need);
      return giver === stage || giver === undefined || !waiting.has(giver);
    });
  while (waiting.size > 0) {
    const left = [...waiting];
    const onWay = left.filter(({ role }) => role !== 'end');
    const due = onWay.length > 0 ? onWay : left;
    const next = due.find(isReady);
    if (next === undefined) {
      const names = due.map(({ name }) => name).join(', ');
      throw new StageError(`stages need what only later ones give: ${names}`);
    }
    order.push(next);
    waiting.delete(next);
  }
  return order;
}

/** Follow what lies in registers from stage to stage. */
function withRegisters(order: readonly Stage[]): ArrangedStage[] {
  const held = new Set<Fact>();
  /** Who used the registers of a fact for something else. */
  const lostTo = new Map<Fact, Stage>();
  return order.map((stage) => {
    const brings: Fact[] = [];
    for (const fact of stage.needs) {
      if (fact.registers.length === 0 || held.has(fact)) continue;
      if (fact.bring === null) {
        const where = fact.registers.join(' and ');
        const by = lostTo.get(fact)?.name ?? 'another stage';
        throw new StageError(`stage ${stage.name} needs ${fact.name} in ${where}, which ${by} has used otherwise`);
      }
      brings.push(fact);
      for (const other of [...held]) if (overlap(other, fact)) held.delete(other);
      held.add(fact);
    }
    const both = stage.needs.find((fact) => fact.registers.length > 0 && !held.has(fact));
    if (both !== undefined) {
      throw new StageError(`stage ${stage.name} needs ${both.name} and something else in the same register`);
    }
    for (const fact of [...held]) {
      if (stage.keeps?.includes(fact) === true) continue;
      held.delete(fact);
      lostTo.set(fact, stage);
    }
    for (const fact of stage.gives ?? []) if (fact.registers.length > 0) held.add(fact);
    return { stage, brings };
  });
}

function overlap(one: Fact, other: Fact): boolean {
  return one.registers.some((register) => other.registers.includes(register));
}
