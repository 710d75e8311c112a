/**
 * What all stages of a program share: the builder, the stack, labels, and notes for listings. facts.ts says what lies where.
 */
import {
  type Address,
  at,
  type Label,
  type MapReference,
  ProgramBuilder,
  R0,
  R1,
  R2,
  R5,
  R6,
  R7,
  R8,
  type Register,
  SK_BUFF,
  type Slot,
  XDP_MD,
} from '../../bpf/index.ts';
import { Word } from '../../flow/index.ts';
import { MAXIMUM_PORTS } from '../layout/limits.ts';
import { CPU_BYTES, CpuByte, DROP_REASONS, LANE_BYTES } from '../layout/sizes.ts';
import { Found } from './facts.ts';
import { Needs, type ProgramPlan, programName, resumes, undoes } from './plan.ts';
import type { ArrangedStage, Fact } from './stage.ts';

export class ProgramWriter {
  readonly b: ProgramBuilder;
  readonly plan: ProgramPlan;
  readonly needs: Needs;
  /** Whether this is the program that recirculated packets come to. */
  readonly again: boolean;
  readonly tailCalls: MapReference | null;
  /** By index of the instruction that they stand before. */
  readonly notes = new Map<number, string[]>();
  /** What has been found out where code is being written. */
  readonly known = new Set<Fact>();
  readonly #slots: ReadonlyMap<Fact, Slot>;
  readonly #places: ReadonlyMap<number, number>;

  /** Where packets go that the engine is to have: before a flow was found, after it was counted, and with the count of those that go up raised. */
  readonly punt: Label;
  readonly puntAfterHit: Label;
  readonly announced: Label;
  /** The same for packets that were changed: the engine goes on with them at {@link Found.RESUME}. */
  readonly resume: Label;
  readonly resumeAnnounced: Label;
  /** Where packets go that can neither be carried nor handed up any more. */
  readonly failed: Label;

  constructor(plan: ProgramPlan, again: boolean, tailCalls: MapReference | null, stages: readonly ArrangedStage[]) {
    this.b = new ProgramBuilder(programName(plan, again), { recordSites: false });
    this.plan = plan;
    this.needs = new Needs(plan, stages);
    this.again = again;
    this.tailCalls = tailCalls;
    const { b } = this;
    const facts = stages.flatMap(({ stage }) => stage.gives ?? []).sort((a, c) => c.slotBytes - a.slotBytes);
    this.#slots = new Map(facts.flatMap((fact) => (fact.slotBytes === 0 ? [] : [[fact, b.stack(fact.slotBytes)]])));
    this.#places = new Map(this.needs.words.map((word, i) => [word, i]));
    this.punt = b.label('punt');
    this.puntAfterHit = b.label('punt after a hit');
    this.announced = b.label('counted as going up');
    this.resume = b.label('resume');
    this.resumeAnnounced = b.label('resume, counted as going up');
    this.failed = b.label('failed');
  }

  get isTc(): boolean {
    return this.plan.hook === 'tc';
  }

  /** Whether packets may be changed before they are looked up again. */
  get resumes(): boolean {
    return resumes(this.plan);
  }

  /** The same at XDP, where they are made what they were before they go up. */
  get undoes(): boolean {
    return undoes(this.plan);
  }

  /** Say in listings what follows. */
  note(text: string): void {
    const at = this.b.instructions.length;
    const there = this.notes.get(at);
    if (there === undefined) this.notes.set(at, [text]);
    else there.push(text);
  }

  /** Where a fact lies on the stack. @throws Error for one that no stage of this program gives */
  slot(fact: Fact): Slot {
    const slot = this.#slots.get(fact);
    if (slot === undefined) throw new Error(`${fact.name} is not on the stack of this program`);
    return slot;
  }

  /** Whether the port is told by the scratch of the CPU: the packet has not come by its interface, or did so a pass ago. */
  get isPortTold(): boolean {
    return this.again && this.plan.handsDown === true;
  }

  /** Where the index of the port's interface lies; R6 is the context. @param base is lost where the scratch has it */
  portIndex(base: Register): Address {
    if (!this.isPortTold) return at(R6, this.isTc ? SK_BUFF.ifindex : XDP_MD.ingressIfindex);
    this.cpu(base);
    return at(base, CpuByte.IFINDEX);
  }

  /** Where {@link Found.LAYER3} lies: 32 bits. */
  get layer3(): Address {
    return this.slot(Found.LAYER3).at(4);
  }

  /** A word of the key, by R5. @throws Error for one that is not parsed */
  key(word: number, base: Register = R5): Address {
    const place = this.#places.get(word);
    if (place === undefined) throw new Error(`word ${word} of the key is not parsed`);
    return at(base, CpuByte.KEY + place * 4);
  }

  /** Set a word of the key, if somebody looks at it. */
  setKey(word: number, value: Register): void {
    if (this.needs.has(word)) this.b.store('u32', this.key(word), value);
  }

  /** Note that headers could be read, if somebody looks at it. Uses R1. @param bit of Sound */
  setSound(bit: number): void {
    if ((this.needs.bits[Word.ETH_TYPE] & bit) === 0) return;
    const { b } = this;
    b.load(R1, 'u32', this.key(Word.ETH_TYPE));
    b.or(R1, bit);
    b.store('u32', this.key(Word.ETH_TYPE), R1);
  }

  /** All words of the key become 0. */
  clearKey(): void {
    for (let i = 0; i < this.needs.words.length; i += 2) this.b.store('u64', at(R5, CpuByte.KEY + i * 4), 0);
  }

  /** Find out on which CPU this is. R0 to R5 are lost; R5 becomes the address of its part of `cpus`. */
  findCpu(): void {
    const { b } = this;
    const { sizes, maps } = this.plan.maps;
    b.callHelper('get_smp_processor_id');
    b.and(R0, sizes.cpus - 1);
    b.store('u32', this.slot(Found.CPU_NUMBER), R0);
    b.shl(R0, Math.log2(CPU_BYTES));
    b.loadMapValue(R5, maps.cpus);
    b.add(R5, R0);
    b.store('u64', this.slot(Found.CPU), R5);
  }

  /** `dst` becomes the address of this CPU's part of `cpus`. */
  cpu(dst: Register): void {
    this.b.load(dst, 'u64', this.slot(Found.CPU));
  }

  /** R7 becomes the first byte of the packet, and R8 one behind the last that lies in one piece with it. */
  packet(): void {
    if (this.isTc) this.b.packetOfTc(R6, R7, R8);
    else this.b.packetOfXdp(R6, R7, R8);
  }

  /** Count one more of something of the port. Uses R1 and R2. */
  countOfPort(laneByte: number): void {
    const { b } = this;
    this.cpu(R1);
    this.laneOf(R1, R2);
    b.load(R2, 'u64', at(R1, laneByte));
    b.add(R2, 1);
    b.store('u64', at(R1, laneByte), R2);
  }

  /** A register with the address of a CPU's part becomes that of the port's counters. */
  laneOf(cpu: Register, scratch: Register): void {
    const { b } = this;
    b.load(scratch, 'u32', this.slot(Found.LANE));
    b.and(scratch, MAXIMUM_PORTS - 1);
    b.shl(scratch, Math.log2(LANE_BYTES));
    b.add(cpu, scratch);
    b.add(cpu, CpuByte.LANES);
  }

  /** Count one more at a reason of drops. Uses R1 and R2. */
  countDrop(reason: number): void {
    const { b } = this;
    if (!(reason > 0 && reason < DROP_REASONS)) throw new RangeError(`no reason of drops has the number ${reason}`);
    this.cpu(R1);
    const place = at(R1, CpuByte.DROPS + reason * 8);
    b.load(R2, 'u64', place);
    b.add(R2, 1);
    b.store('u64', place, R2);
  }
}
