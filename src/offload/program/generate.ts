/** Generating a program from a plan: port, parsing, look-up, counters, actions. listing.ts prints it, load.ts hands it to the kernel. */
import type { ProgramArrayMap, ProgramBuilder } from '../../bpf/index.ts';
import { announce, begin, end } from './end.ts';
import { afterLookup, uncount, uncountPasses } from './hit.ts';
import { lookup } from './lookup.ts';
import { parse } from './parse.ts';
import { Needs, type ProgramPlan } from './plan.ts';
import { ProgramWriter } from './writer.ts';

/** A program that is not loaded yet. */
export interface GeneratedProgram {
  readonly plan: ProgramPlan;
  readonly code: ProgramBuilder;
  /** What stands before an instruction in listings, by its index. */
  readonly notes: ReadonlyMap<number, readonly string[]>;
}

/** Whether a plan takes a second program, for packets that are looked up again. */
export function recirculates(plan: ProgramPlan): boolean {
  return new Needs(plan).recirculates;
}

/**
 * Generate a program.
 * @param again the one that recirculated packets come to
 * @param tailCalls where that program stands, in slot 0; null when no shape recirculates
 * @throws AssemblyError when the plan is too large for one program's stack
 */
export function generateProgram(
  plan: ProgramPlan,
  again: boolean,
  tailCalls: ProgramArrayMap | null,
): GeneratedProgram {
  const writer = new ProgramWriter(plan, again, tailCalls);
  const { b } = writer;
  const announced = b.label('counted as going up');
  begin(writer);
  if (plan.masks.length > 0) {
    parse(writer);
    lookup(writer);
    afterLookup(writer, announced);
    uncount(writer);
  }
  announce(writer);
  b.placeIfUsed(announced);
  if (again && plan.masks.length > 0) uncountPasses(writer);
  end(writer);
  b.checkComplete();
  return { plan, code: b, notes: writer.notes };
}
