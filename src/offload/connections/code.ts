/** What the code of this folder shares: its surroundings, and what the function that tracks a packet keeps on its stack. */
import {
  type Address,
  at,
  emitTickTime,
  type ProgramBuilder,
  R0,
  R6,
  R9,
  type Register,
  type TickClock,
} from '../../bpf/index.ts';
import { Word } from '../../flow/index.ts';
import type { OffloadHook } from '../actions/contract.ts';
import { CpuByte, TrackedWord } from '../layout/sizes.ts';
import type { ProgramWriter } from '../program/writer.ts';
import type { ConnectionReferences } from './maps.ts';

/** What the code needs to know of the program around it. */
export interface ConnectionCode {
  readonly b: ProgramBuilder;
  readonly hook: OffloadHook;
  readonly maps: ConnectionReferences;
  readonly clock: TickClock | 'ktime_get_ns';
  /** A word of the flow key; `base` holds the address of the CPU's part of `cpus`. */
  key(word: number, base: Register): Address;
  note(text: string): void;
}

/** The same of a program that a writer writes. */
export function connectionCode(writer: ProgramWriter, maps: ConnectionReferences): ConnectionCode {
  return {
    b: writer.b,
    hook: writer.plan.hook,
    maps,
    clock: writer.plan.clock,
    key: (word, base) => writer.key(word, base),
    note: (text) => writer.note(text),
  };
}

/** What the function keeps on its stack, 32 bits each unless said otherwise. */
export type TrackSlots = Readonly<
  Record<
    | 'request'
    | 'now'
    | 'kind'
    | 'layer3'
    | 'ports'
    | 'length'
    | 'id'
    | 'originalPorts'
    | 'status'
    | 'state'
    | 'last'
    | 'sequence'
    | 'end'
    | 'acknowledgment'
    | 'selective'
    | 'window',
    Address
  > & {
    /** 64 bits: the record's number and the direction, as index words have them. */
    readonly entry: Address;
    /** 64 bits. */
    readonly secondBucket: Address;
  }
>;

/** Room for them. */
export function takeSlots(b: ProgramBuilder): TrackSlots {
  const word = () => b.stack(4);
  return {
    entry: b.stack(8),
    secondBucket: b.stack(8),
    request: word(),
    now: word(),
    kind: word(),
    layer3: word(),
    ports: word(),
    length: word(),
    id: word(),
    originalPorts: word(),
    status: word(),
    state: word(),
    last: word(),
    sequence: word(),
    end: word(),
    acknowledgment: word(),
    selective: word(),
    window: word(),
  };
}

/** A word of the record whose address is in R9. */
export function ofRecord(word: number): Address {
  return at(R9, word * 4);
}

/** What tracking tells of the packet: a word of TrackedWord. @param base holds the address of the CPU's part of `cpus` */
export function ofTracked(word: number, base: Register): Address {
  return at(base, CpuByte.TRACKED + word * 4);
}

/** What tracking tells of the packet's connection becomes nothing. @param base holds the address of the CPU's part of `cpus` */
export function forgetConnection(b: ProgramBuilder, base: Register): void {
  for (let i = 0; i < Word.L2 - Word.CT; i += 1) b.store('u32', ofTracked(TrackedWord.KEY + i, base), 0);
}

/** Two registers become the packet's first byte, and one behind the last that lies in one piece with it. R6 is the context. */
export function emitPacket({ b, hook }: ConnectionCode, data: Register, end: Register): void {
  if (hook === 'tc') b.packetOfTc(R6, data, end);
  else b.packetOfXdp(R6, data, end);
}

const NS_PER_MS = 1_000_000;

/** R0 becomes the time as records have it: milliseconds of CLOCK_MONOTONIC, 32 bits. R1 to R5 are lost. */
export function emitNowMs({ b, clock }: ConnectionCode): void {
  if (clock !== 'ktime_get_ns' && clock.tickNs % NS_PER_MS === 0) {
    // Ticks of whole milliseconds need no division.
    const offsetNs = BigInt.asIntN(64, clock.offsetNs);
    const remainder = offsetNs % BigInt(NS_PER_MS);
    const offsetMs = (offsetNs - (remainder < 0n ? remainder + BigInt(NS_PER_MS) : remainder)) / BigInt(NS_PER_MS);
    b.callHelper('jiffies64');
    b.mul(R0, clock.tickNs / NS_PER_MS);
    b.add32(R0, Number(BigInt.asIntN(32, offsetMs)));
    return;
  }
  if (clock === 'ktime_get_ns') b.callHelper(clock);
  else emitTickTime(b, clock);
  b.div(R0, NS_PER_MS);
  b.mov32(R0, R0);
}
