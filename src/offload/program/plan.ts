/**
 * What a program is generated from: masks in the order in which they are looked up, shapes with their numbers, and maps. What of a packet
 * has to be parsed follows from it and from the stages. generate.ts makes the program; table/ makes plans.
 */
import type { Address, MapReference, ProgramBuilder, TickClock } from '../../bpf/index.ts';
import { KEY_WORDS, Sound, Word } from '../../flow/index.ts';
import type { OffloadHook } from '../actions/contract.ts';
import type { Shape } from '../actions/shape.ts';
import type { ConnectionReferences } from '../connections/maps.ts';
import type { CopyReferences } from '../copies/layout.ts';
import type { HashSecrets } from '../layout/hash.ts';
import type { ProgramMaps } from '../layout/maps.ts';
import type { ArrangedStage, KeyBits, Stage } from './stage.ts';

/** A mask as programs look it up: the words of the key that it looks at, ascending, and their bits. */
export interface ProgramMask {
  /** As entries have it. */
  readonly number: number;
  readonly index: readonly number[];
  readonly values: readonly number[];
}

export interface ProgramPlan {
  readonly hook: OffloadHook;
  readonly maps: ProgramMaps;
  readonly secrets: HashSecrets;
  /** The first is looked up first. */
  readonly masks: readonly ProgramMask[];
  readonly shapes: readonly { readonly number: number; readonly shape: Shape }[];
  /** Where copies go of what is carried; left out while nobody wants any. */
  readonly copies?: CopyReferences;
  /** The connections that shapes track packets by; left out where there are none. */
  readonly connections?: ConnectionReferences;
  /**
   * The engine hands down packets that are to be looked up again (down/): there is a program for these, whatever flows ask for. Each packet that it looks up
   * was changed, and the port that it came in by is told by the scratch of the CPU.
   */
  readonly handsDown?: boolean;
  /** Stages beside those that every program has. */
  readonly stages?: readonly Stage[];
  /** For tests. */
  readonly observe?: Observer;
  /** Where the time comes from: the kernel's count of ticks costs nothing; reading a clock is a call. */
  readonly clock: TickClock | 'ktime_get_ns';
}

/** Writes code that notes what is about to be sent; the ifindex is at an address, and R6 to R9 must stay. */
export interface Observer {
  /** Maps that the code names. */
  readonly maps: readonly MapReference[];
  emit(b: ProgramBuilder, ifindex: Address): void;
}

/** What the kernel calls a program. @param again the one that recirculated packets come to */
export function programName({ hook }: Pick<ProgramPlan, 'hook'>, again: boolean): string {
  return `millrace_${hook}${again ? '_re' : ''}`;
}

/** Bits of each word of the key that some mask looks at, which is what the look-up reads. */
export function maskedBits({ masks }: Pick<ProgramPlan, 'masks'>): readonly KeyBits[] {
  const bits = new Uint32Array(KEY_WORDS);
  for (const { index, values } of masks) for (let i = 0; i < index.length; i += 1) bits[index[i]] |= values[i];
  return keyBits(bits);
}

/** Words of the key that the code of shapes reads, whole. */
export function shapeBits({ shapes }: Pick<ProgramPlan, 'shapes'>): readonly KeyBits[] {
  const bits = new Uint32Array(KEY_WORDS);
  for (const { shape } of shapes) for (const word of shape.keyWords) bits[word] = 0xffff_ffff;
  return keyBits(bits);
}

/** TCP flags are counted wherever a mask or a shape looks at IP. */
export function countedBits(plan: Pick<ProgramPlan, 'masks' | 'shapes'>): readonly KeyBits[] {
  const looksAtIp = ([word, bits]: KeyBits) =>
    word === Word.IP || (word === Word.ETH_TYPE && (bits & Sound.NETWORK) !== 0);
  return [...maskedBits(plan), ...shapeBits(plan)].some(looksAtIp) ? [[Word.TCP_FLAGS, 0xffff_0000]] : [];
}

function keyBits(bits: Uint32Array): KeyBits[] {
  return Array.from(bits, (each, word): KeyBits => [word, each]).filter(([, each]) => each !== 0);
}

type Ways = Pick<ProgramPlan, 'shapes' | 'handsDown'>;

/** Whether a plan takes a second program, for packets that are looked up again. */
export function recirculates({ shapes, handsDown }: Ways): boolean {
  return handsDown === true || shapes.some(({ shape }) => has(shape.steps, 'recirculate'));
}

/** Whether packets may be changed before they are looked up again: then they go up with a record when they are not found. */
export function resumes({ shapes, handsDown }: Ways): boolean {
  return handsDown === true || shapes.some(({ shape }) => shape.checks.resumes);
}

/** XDP: whether packets may be changed before they are looked up again: then they become what they were when they are not found. */
export function undoes({ shapes }: Pick<ProgramPlan, 'shapes'>): boolean {
  return shapes.some(({ shape }) => shape.checks.undoes);
}

/** Whether packets are tracked. */
export function tracks({ shapes }: Pick<ProgramPlan, 'shapes'>): boolean {
  return shapes.some(({ shape }) => has(shape.steps, 'track'));
}

/** Whether something may be known of a packet's connection when it is looked up again: that goes with it from look-up to look-up. */
export function knowsConnections({ shapes, handsDown }: Ways): boolean {
  return handsDown === true || tracks({ shapes });
}

/** What of a packet a program looks at. */
export class Needs {
  /** Bits of each word of the key that some stage reads. */
  readonly bits = new Uint32Array(KEY_WORDS);
  /** Words that are there, ascending. */
  readonly words: readonly number[];
  readonly setsMetadata: boolean;
  readonly layer3: boolean;

  constructor({ shapes }: Pick<ProgramPlan, 'shapes'>, stages: readonly ArrangedStage[]) {
    for (const { stage } of stages) for (const [word, bits] of stage.key ?? []) this.bits[word] |= bits;
    // Whether headers could be read is found out by reading them.
    if ((this.bits[Word.ETH_TYPE] & Sound.NETWORK) !== 0) this.bits[Word.IP] |= 0xff00_0000;
    if ((this.bits[Word.ETH_TYPE] & Sound.TRANSPORT) !== 0) this.bits[Word.PORTS] = 0xffff_ffff;
    this.words = keyBits(this.bits).map(([word]) => word);
    this.setsMetadata = shapes.some(({ shape }) => has(shape.steps, 'metadata'));
    this.layer3 =
      shapes.some(({ shape }) => shape.needsLayer3) || stages.some(({ stage }) => stage.readsLayer3 === true);
  }

  /** Whether some word in a range is looked at. */
  any(from: number, to: number): boolean {
    return this.words.some((word) => word >= from && word <= to);
  }

  has(word: number): boolean {
    return this.bits[word] !== 0;
  }
}

function has(steps: Shape['steps'], kind: string): boolean {
  return steps.some(
    (step) => step.kind === kind || (step.kind === 'length' && (has(step.longer, kind) || has(step.otherwise, kind))),
  );
}
