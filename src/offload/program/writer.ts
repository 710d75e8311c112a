/**
 * What all parts of the generator share: the builder, places on the stack, labels, and notes for listings. R6 is the context and, up to
 * a hit, R5 this CPU's part of `cpus`. While a packet is parsed R7 is its first byte, R8 its end, R9 where layer 3 begins; while it is
 * looked up R7 is the address of an entry, R8 its number, R9 the hash for the cache.
 *
 * The words of the key lie in `cpus` and not on the stack: the verifier follows what is on the stack, and would walk the look-up anew
 * for each way through the parser.
 */
import {
  type Address,
  at,
  type Label,
  type ProgramArrayMap,
  ProgramBuilder,
  R0,
  R1,
  R2,
  R5,
  type Register,
  type Slot,
} from '../../bpf/index.ts';
import { Word } from '../../flow/index.ts';
import { MAXIMUM_PORTS } from '../layout/limits.ts';
import { CPU_BYTES, CpuByte, DROP_REASONS, LANE_BYTES } from '../layout/sizes.ts';
import { Needs, type ProgramPlan } from './plan.ts';

export class ProgramWriter {
  readonly b: ProgramBuilder;
  readonly plan: ProgramPlan;
  readonly needs: Needs;
  /** Whether this is the program that recirculated packets come to. */
  readonly again: boolean;
  readonly tailCalls: ProgramArrayMap | null;
  /** By index of the instruction that they stand before. */
  readonly notes = new Map<number, string[]>();

  /** Address of the port's words. */
  readonly port: Slot;
  /** The port's place in `cpus`. */
  readonly lane: Slot;
  /** Where layer 3 begins, counted from the first byte in the buffer. */
  readonly layer3: Slot;
  /** The entry that was hit, and the address of its counters on this CPU. */
  readonly entry: Slot;
  readonly counters: Slot;
  /** Passes before this one. */
  readonly depth: Slot;
  /** Address of this CPU's part of `cpus`, and the CPU's number. */
  readonly cpuPart: Slot;
  readonly cpuNumber: Slot;
  readonly #places: ReadonlyMap<number, number>;

  /** Where packets go that the engine is to have: before a flow was found, and after it was counted. */
  readonly punt: Label;
  readonly puntAfterHit: Label;
  readonly failed: Label;
  readonly hit: Label;
  /** As `hit`, for an entry that the cache does not know yet. */
  readonly found: Label;

  constructor(plan: ProgramPlan, again: boolean, tailCalls: ProgramArrayMap | null) {
    const name = `millrace_${plan.hook}${again ? '_re' : ''}`;
    this.b = new ProgramBuilder(name, { recordSites: false });
    this.plan = plan;
    this.needs = new Needs(plan);
    this.again = again;
    this.tailCalls = tailCalls;
    const { b } = this;
    this.port = b.stack(8);
    this.counters = b.stack(8);
    this.lane = b.stack(4);
    this.layer3 = b.stack(4);
    this.entry = b.stack(4);
    this.depth = b.stack(4);
    this.cpuPart = b.stack(8);
    this.cpuNumber = b.stack(4);
    this.#places = new Map(this.needs.words.map((word, i) => [word, i]));
    this.punt = b.label('punt');
    this.puntAfterHit = b.label('punt after a hit');
    this.failed = b.label('failed');
    this.hit = b.label('hit');
    this.found = b.label('found');
  }

  get isTc(): boolean {
    return this.plan.hook === 'tc';
  }

  /** Say in listings what follows. */
  note(text: string): void {
    const at = this.b.instructions.length;
    const there = this.notes.get(at);
    if (there === undefined) this.notes.set(at, [text]);
    else there.push(text);
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
    b.store('u32', this.cpuNumber, R0);
    b.shl(R0, Math.log2(CPU_BYTES));
    b.loadMapValue(R5, maps.cpus);
    b.add(R5, R0);
    b.store('u64', this.cpuPart, R5);
  }

  /** `dst` becomes the address of this CPU's part of `cpus`. */
  cpu(dst: Register): void {
    this.b.load(dst, 'u64', this.cpuPart);
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
    b.load(scratch, 'u32', this.lane);
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
