/** Loading what was generated. A program that the verifier refuses is no exception but an answer, with all that explains it. */
import {
  AssemblyError,
  loadProgram,
  type MapReference,
  type Program,
  ProgramArrayMap,
  VerifierError,
} from '../../bpf/index.ts';
import type { OffloadHook } from '../actions/contract.ts';
import { MAXIMUM_INSTRUCTIONS } from '../layout/limits.ts';
import { type GeneratedProgram, generateProgram } from './generate.ts';
import { listProgram } from './listing.ts';
import { type ProgramPlan, recirculates } from './plan.ts';

/** A program in the kernel, with what it needs to go on working. */
export class LoadedProgram {
  readonly hook: OffloadHook;
  readonly plan: ProgramPlan;
  /** What is attached. */
  readonly program: Program;
  /** The program for recirculated packets, and the map that names it: to be held or pinned as long as the program runs. */
  readonly again: Program | null;
  readonly tailCalls: ProgramArrayMap | null;
  readonly #generated: readonly GeneratedProgram[];

  constructor(
    plan: ProgramPlan,
    program: Program,
    again: Program | null,
    tailCalls: ProgramArrayMap | null,
    generated: readonly GeneratedProgram[],
  ) {
    this.hook = plan.hook;
    this.plan = plan;
    this.program = program;
    this.again = again;
    this.tailCalls = tailCalls;
    this.#generated = generated;
  }

  /** Instructions of all its parts. */
  get instructions(): number {
    return this.#generated.reduce((sum, { code }) => sum + code.instructions.length, 0);
  }

  /** All maps that its stages use. */
  get maps(): ReadonlySet<MapReference> {
    return new Set(this.#generated.flatMap(({ maps }) => [...maps]));
  }

  /** The program as text, with notes. */
  listing(): string {
    return this.#generated.map(listProgram).join('\n');
  }

  /** What the verifier says of it: it is loaded once more for that. @param level as ProgramSpec.logLevel */
  verifierLog(level: 1 | 2 | 4 = 1): string {
    return this.#generated
      .map(({ code, plan }) => {
        const program = loadProgram({ type: typeOf(plan.hook), code, logLevel: level });
        program.close();
        return program.log;
      })
      .join('\n');
  }

  close(): void {
    for (const handle of [this.program, this.again, this.tailCalls]) handle?.close();
  }
}

/** Why a program was not loaded. */
export interface Refused {
  readonly hook: OffloadHook;
  /** One sentence. */
  readonly reason: string;
  /** The program, with notes; empty when it could not even be written. */
  readonly listing: string;
  /** The verifier's log. */
  readonly log: string;
}

function typeOf(hook: OffloadHook): 'sched_cls' | 'xdp' {
  return hook === 'tc' ? 'sched_cls' : 'xdp';
}

/**
 * Generate and load the program of a plan.
 * @throws PrivilegeError, SystemError
 */
export function loadPlan(plan: ProgramPlan): LoadedProgram | Refused {
  const generated: GeneratedProgram[] = [];
  const programs: Program[] = [];
  let tailCalls: ProgramArrayMap | null = null;
  try {
    if (recirculates(plan)) tailCalls = ProgramArrayMap.create({ name: 'mr_again', maxEntries: 1 });
    for (const again of tailCalls === null ? [false] : [false, true]) {
      generated.push(generateProgram(plan, again, tailCalls));
      const { code } = generated[generated.length - 1];
      if (code.instructions.length > MAXIMUM_INSTRUCTIONS) {
        const reason = `${code.instructions.length} instructions, at most ${MAXIMUM_INSTRUCTIONS}`;
        throw new AssemblyError(reason);
      }
      programs.push(loadProgram({ type: typeOf(plan.hook), code }));
    }
    const [program, again = null] = programs;
    if (again !== null) tailCalls?.put(0, again);
    return new LoadedProgram(plan, program, again, tailCalls, generated);
  } catch (error) {
    for (const handle of [...programs, tailCalls]) handle?.close();
    if (error instanceof VerifierError || error instanceof AssemblyError) {
      const listing = generated.map(listProgram).join('\n');
      const log = error instanceof VerifierError ? error.log : '';
      return { hook: plan.hook, reason: error.message, listing, log };
    }
    throw error;
  }
}
