/** Generating a program from a plan: port, parsing, look-up, counters, actions. listing.ts prints it, load.ts hands it to the kernel. */
import type { ProgramArrayMap, ProgramBuilder } from '../../bpf/index.ts';
import { begin, end } from './end.ts';
import { afterLookup, uncount } from './hit.ts';
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
  const punted = b.label('counted as punted');
  begin(writer);
  if (plan.masks.length > 0) {
    parse(writer);
    lookup(writer);
    afterLookup(writer, punted);
    uncount(writer);
  }
  end(writer, punted);
  b.checkComplete();
  return { plan, code: b, notes: writer.notes };
}
