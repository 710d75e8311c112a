/** Loading what was generated. A program that the verifier refuses is no exception but an answer, with all that explains it. */
import {
  AssemblyError,
  loadProgram,
  type MapReference,
  Program,
  ProgramArrayMap,
  VerifierError,
} from '../../bpf/index.ts';
import { FileDescriptor } from '../../host/sys/index.ts';
import type { OffloadHook } from '../actions/contract.ts';
import { MAXIMUM_INSTRUCTIONS } from '../layout/limits.ts';
import { type GeneratedProgram, generateProgram } from './generate.ts';
import { listProgram } from './listing.ts';
import { type ProgramPlan, programName, recirculates } from './plan.ts';

/** A program in the kernel as another thread of the process takes it over. */
export interface ProgramDescriptors {
  readonly program: number;
  readonly again: number | null;
  readonly tailCalls: number | null;
  readonly instructions: number;
}

const tailCallOptions = { name: 'mr_again', maxEntries: 1 };

/** A program in the kernel, with what it needs to go on working. */
export class LoadedProgram {
  readonly hook: OffloadHook;
  readonly plan: ProgramPlan;
  /** What is attached. */
  readonly program: Program;
  /** The program for recirculated packets, and the map that names it: to be held or pinned as long as the program runs. */
  readonly again: Program | null;
  readonly tailCalls: ProgramArrayMap | null;
  /** Instructions of all its parts. */
  readonly instructions: number;

  constructor(
    plan: ProgramPlan,
    program: Program,
    again: Program | null,
    tailCalls: ProgramArrayMap | null,
    instructions: number,
  ) {
    this.hook = plan.hook;
    this.plan = plan;
    this.program = program;
    this.again = again;
    this.tailCalls = tailCalls;
    this.instructions = instructions;
  }

  /** One that another thread has loaded from the same plan, and given up by {@link release}. */
  static of(plan: ProgramPlan, { program, again, tailCalls, instructions }: ProgramDescriptors): LoadedProgram {
    const handle = (fd: number, isAgain: boolean) =>
      new Program(new FileDescriptor(fd), typeOf(plan.hook), programName(plan, isAgain));
    return new LoadedProgram(
      plan,
      handle(program, false),
      again === null ? null : handle(again, true),
      tailCalls === null ? null : ProgramArrayMap.of(new FileDescriptor(tailCalls), tailCallOptions),
      instructions,
    );
  }

  /** Give it up to another thread of the process. */
  release(): ProgramDescriptors {
    const { program, again, tailCalls, instructions } = this;
    return {
      program: program.release(),
      again: again?.release() ?? null,
      tailCalls: tailCalls?.release() ?? null,
      instructions,
    };
  }

  /** All maps that its stages use. */
  get maps(): ReadonlySet<MapReference> {
    return new Set(this.#generate().flatMap(({ maps }) => [...maps]));
  }

  /** The program as text, with notes. */
  listing(): string {
    return this.#generate().map(listProgram).join('\n');
  }

  /** What the verifier says of it: it is loaded once more for that. @param level as ProgramSpec.logLevel */
  verifierLog(level: 1 | 2 | 4 = 1): string {
    return this.#generate()
      .map(({ code, plan }) => {
        const program = loadProgram({ type: typeOf(plan.hook), code, logLevel: level });
        program.close();
        return program.log;
      })
      .join('\n');
  }

  /** Its parts, written once more: the plan says it all, and hardly anybody asks. */
  #generate(): GeneratedProgram[] {
    const { plan, tailCalls } = this;
    return partsOf(tailCalls).map((again) => generateProgram(plan, again, tailCalls));
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

/** Whether each part is the one that recirculated packets come to. */
function partsOf(tailCalls: MapReference | null): readonly boolean[] {
  return tailCalls === null ? [false] : [false, true];
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
    if (recirculates(plan)) tailCalls = ProgramArrayMap.create(tailCallOptions);
    let instructions = 0;
    for (const again of partsOf(tailCalls)) {
      generated.push(generateProgram(plan, again, tailCalls));
      const { code } = generated[generated.length - 1];
      const { length } = code.instructions;
      if (length > MAXIMUM_INSTRUCTIONS) {
        throw new AssemblyError(`${length} instructions, at most ${MAXIMUM_INSTRUCTIONS}`);
      }
      instructions += length;
      programs.push(loadProgram({ type: typeOf(plan.hook), code }));
    }
    const [program, again = null] = programs;
    if (again !== null) tailCalls?.put(0, again);
    return new LoadedProgram(plan, program, again, tailCalls, instructions);
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
