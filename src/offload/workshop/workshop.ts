/**
 * Where programs and tables are made for a flow table that asks for others. Writing a program, having it verified and making maps of megabytes takes
 * milliseconds, which a thread that packets wait for does not have: aside.ts has it done by another thread, and here it is done at once. Either way it is
 * taken when it is there, and what runs goes on until then. Neighbour: table/programs.ts gives the orders.
 */
import type { CopyMaps } from '../copies/layout.ts';
import { makeOwnMaps, OffloadMaps } from '../layout/maps.ts';
import type { TableSizes } from '../layout/sizes.ts';
import { LoadedProgram, loadPlan, type Refused } from '../program/load.ts';
import type { ProgramPlan } from '../program/plan.ts';

/** A plan of a program, whatever its maps will be. */
export type ProgramDraft = Omit<ProgramPlan, 'maps' | 'copies'> & { readonly copies: CopyMaps | null };

/** What is to be made. */
export interface WorkOrder {
  /** The maps of the tables that run. */
  readonly maps: OffloadMaps;
  /** Of tables to be made beside these; null for programs over these. */
  readonly sizes: TableSizes | null;
  /** Of programs over the new tables, or over these. */
  readonly drafts: readonly ProgramDraft[];
}

/** A program as it came out. */
export interface MadeProgram {
  readonly result: LoadedProgram | Refused;
  /** Why it makes no copies, though it was to: with them the verifier did not take it. */
  readonly copiesRefused: Refused | null;
  /** Packets cannot be handed down to it, though they were to be: likewise. */
  readonly refusesHandingDown: boolean;
}

/** What was made, and is now the caller's. */
export interface Made {
  /** Others than those of the order when that had sizes. */
  readonly maps: OffloadMaps;
  /** One for each draft. */
  readonly programs: readonly MadeProgram[];
}

/** Something that is being made. */
export interface Job {
  /** What was made, once; null while it is not there yet. @throws Error, SystemError when it could not be made: nothing is left over then */
  take(): Made | null;
  /** Nobody wants it any more: it goes when it is there. */
  abandon(): void;
}

export interface Workshop {
  /** @throws as Job.take, where it is known at once */
  begin(order: WorkOrder): Job;
}

/** The program of a plan. That packets can be handed down to it can be left out first, then copies. @throws PrivilegeError, SystemError */
export function makeProgram(plan: ProgramPlan): MadeProgram {
  const made = withOrWithoutCopies(plan);
  if (plan.handsDown !== true || made.result instanceof LoadedProgram) return { ...made, refusesHandingDown: false };
  return { ...withOrWithoutCopies({ ...plan, handsDown: false }), refusesHandingDown: true };
}

function withOrWithoutCopies({ copies, ...plan }: ProgramPlan): Omit<MadeProgram, 'refusesHandingDown'> {
  if (copies === undefined) return { result: loadPlan(plan), copiesRefused: null };
  const withCopies = loadPlan({ ...plan, copies });
  if (withCopies instanceof LoadedProgram) return { result: withCopies, copiesRefused: null };
  const result = loadPlan(plan);
  return { result, copiesRefused: result instanceof LoadedProgram ? withCopies : null };
}

/** A draft with maps. */
export function planOf({ copies, ...draft }: ProgramDraft, maps: ProgramPlan['maps']): ProgramPlan {
  return copies === null ? { ...draft, maps } : { ...draft, maps, copies };
}

/** Close what was made and is not used. */
export function discard({ maps, programs }: Made, { maps: former }: Pick<WorkOrder, 'maps'>): void {
  for (const { result } of programs) if (result instanceof LoadedProgram) result.close();
  if (maps !== former) maps.close(former);
}

/** Everything is made by the thread that asks, before it goes on. */
export const atOnce: Workshop = {
  begin(order) {
    const { maps: former, sizes, drafts } = order;
    const maps = sizes === null ? former : OffloadMaps.beside(former, sizes, makeOwnMaps(sizes));
    const programs: MadeProgram[] = [];
    try {
      for (const draft of drafts) programs.push(makeProgram(planOf(draft, maps)));
    } catch (error) {
      discard({ maps, programs }, order);
      throw error;
    }
    let made: Made | null = { maps, programs };
    return {
      take() {
        const taken = made;
        made = null;
        return taken;
      },
      abandon() {
        if (made !== null) discard(made, order);
        made = null;
      },
    };
  },
};
