/**
 * Generating a program from a plan: its stages are brought into order, get their registers and their room on the stack, and write their code.
 * listing.ts prints it, load.ts hands it to the kernel. stage.ts says what a stage is; the folder's other files have one or two each.
 */
import type { MapReference, ProgramBuilder } from '../../bpf/index.ts';
import { actionsStage } from './actions.ts';
import { countStage, uncountPassesStage, uncountStage } from './counters.ts';
import { announceStage, endStage, lostStage, resumeStage } from './end.ts';
import { lookupStage } from './lookup.ts';
import { parseStage } from './parse.ts';
import { type ProgramPlan, resumes } from './plan.ts';
import { carriedOverStage, freshStage, portStage } from './port.ts';
import { type ArrangedStage, arrange, type Stage, StageError } from './stage.ts';
import { orderStage } from './wait.ts';
import { ProgramWriter } from './writer.ts';

/** A program that is not loaded yet. */
export interface GeneratedProgram {
  readonly plan: ProgramPlan;
  readonly code: ProgramBuilder;
  /** What stands before an instruction in listings, by its index. */
  readonly notes: ReadonlyMap<number, readonly string[]>;
  /** All maps that its stages use. */
  readonly maps: ReadonlySet<MapReference>;
}

/** The stages that every program has. Some of them are idle in some programs. */
function stagesOf(plan: ProgramPlan, again: boolean, tailCalls: MapReference | null): readonly Stage[] {
  return [
    portStage(plan),
    freshStage,
    carriedOverStage(plan),
    parseStage,
    lookupStage(plan),
    orderStage,
    countStage(plan),
    actionsStage(plan, again, tailCalls),
    uncountStage,
    announceStage,
    uncountPassesStage(plan),
    endStage(plan),
    ...(resumes(plan) ? [resumeStage(plan)] : []),
    lostStage,
  ];
}

/**
 * Generate a program.
 * @param again the one that recirculated packets come to
 * @param tailCalls where that program stands, in slot 0; null when no shape recirculates
 * @throws StageError when its stages do not fit together, or one uses a map that it does not name
 * @throws AssemblyError when the plan is too large for one program's stack
 */
export function generateProgram(plan: ProgramPlan, again: boolean, tailCalls: MapReference | null): GeneratedProgram {
  const stages = arrange(stagesOf(plan, again, tailCalls), plan.stages ?? [], again);
  const writer = new ProgramWriter(plan, again, tailCalls, stages);
  const { b } = writer;
  for (const { stage, brings } of stages) {
    for (const fact of brings) fact.bring?.(writer);
    const from = b.instructions.length;
    b.scope(() => stage.emit(writer));
    checkMaps(b, from, `stage ${stage.name}`, new Set(stage.maps));
    for (const fact of stage.gives ?? []) writer.known.add(fact);
  }
  const functionsFrom = b.instructions.length;
  b.checkComplete();
  const maps = mapsOf(stages);
  checkMaps(b, functionsFrom, 'a function of the program', maps);
  return { plan, code: b, notes: writer.notes, maps };
}

function mapsOf(stages: readonly ArrangedStage[]): ReadonlySet<MapReference> {
  return new Set(stages.flatMap(({ stage }) => stage.maps ?? []));
}

/** Whoever keeps a program has to know of all its maps. */
function checkMaps({ instructions }: ProgramBuilder, from: number, who: string, maps: ReadonlySet<MapReference>): void {
  for (let i = from; i < instructions.length; i += 1) {
    const { map } = instructions[i];
    if (map !== undefined && !maps.has(map))
      throw new StageError(`${who} uses the map ${map.name}, which it does not name`);
  }
}
