/**
 * The other thread's side of the workshop: orders and answers are plain data, as they are cloned on their way, and descriptors, which are the whole
 * process's. Those of an order are duplicates that pass over with it, so that whoever has given it may close what it likes meanwhile; those of an answer
 * belong to whoever takes it. Neighbour: aside.ts gives orders and takes answers.
 */
import type { MapReference } from '../../bpf/index.ts';
import { closeDescriptor } from '../../host/sys/index.ts';
import type { OffloadHook } from '../actions/contract.ts';
import type { Shape } from '../actions/shape.ts';
import type { ConnectionArray } from '../connections/maps.ts';
import type { CopyMaps } from '../copies/layout.ts';
import { HashSecrets } from '../layout/hash.ts';
import { discardMaps, type MadeMaps, type MapSet, makeOwnMaps, type ProgramMaps } from '../layout/maps.ts';
import { type TableShape, TableSizes } from '../layout/sizes.ts';
import { LoadedProgram, type ProgramDescriptors, type Refused } from '../program/load.ts';
import type { ProgramMask, ProgramPlan } from '../program/plan.ts';
import { type MadeProgram, makeProgram } from './workshop.ts';

/** Maps by name. */
export type Descriptors<Name extends string> = Readonly<Record<Name, MapReference>>;

export interface DraftData {
  readonly hook: OffloadHook;
  readonly secrets: Uint32Array;
  readonly masks: readonly ProgramMask[];
  readonly shapes: readonly { readonly number: number; readonly shape: Shape }[];
  readonly clock: ProgramPlan['clock'];
  readonly handsDown: boolean;
  readonly copies: Descriptors<keyof CopyMaps> | null;
  readonly connections: (Descriptors<ConnectionArray> & { readonly capacity: number }) | null;
}

export interface OrderData {
  readonly id: number;
  readonly maps: Descriptors<keyof MapSet>;
  /** Of the tables that run. */
  readonly shape: TableShape;
  /** Of tables to be made. */
  readonly newShape: TableShape | null;
  readonly drafts: readonly DraftData[];
}

export interface ProgramData {
  readonly result: ProgramDescriptors | Refused;
  readonly copiesRefused: Refused | null;
  readonly refusesHandingDown: boolean;
}

export type AnswerData =
  | { readonly id: number; readonly own: MadeMaps | null; readonly programs: readonly ProgramData[] }
  | { readonly id: number; readonly error: string };

/** Make what is ordered. What goes wrong is told, and nothing is left over then. */
export function work(order: OrderData): AnswerData {
  const { id, newShape, drafts } = order;
  let own: MadeMaps | null = null;
  const programs: ProgramData[] = [];
  try {
    const sizes = new TableSizes(newShape ?? order.shape);
    if (newShape !== null) own = makeOwnMaps(sizes);
    const maps = { sizes, maps: { ...order.maps, ...(own === null ? {} : named(own)) } };
    for (const draft of drafts) programs.push(dataOf(makeProgram(planOf(draft, maps))));
    return { id, own, programs };
  } catch (error) {
    closeAll(own, programs);
    return { id, error: error instanceof Error ? error.message : String(error) };
  } finally {
    for (const { fd } of mapsOf(order)) closeDescriptor(fd);
  }
}

function planOf({ secrets, copies, connections, ...draft }: DraftData, maps: ProgramMaps): ProgramPlan {
  return {
    ...draft,
    secrets: new HashSecrets(secrets),
    maps,
    ...(copies === null ? {} : { copies }),
    ...(connections === null ? {} : { connections }),
  };
}

function dataOf({ result, ...rest }: MadeProgram): ProgramData {
  return { result: result instanceof LoadedProgram ? result.release() : result, ...rest };
}

function named(own: MadeMaps): Descriptors<keyof MadeMaps> {
  const entries = Object.entries(own).map(([name, { fd }]) => [name, { name, fd }]);
  return Object.fromEntries(entries) as Descriptors<keyof MadeMaps>;
}

function mapsOf({ maps, drafts }: OrderData): MapReference[] {
  const ofDrafts = drafts.flatMap(({ copies, connections }) => {
    if (connections === null) return [copies ?? {}];
    const { control, index, records } = connections;
    return [copies ?? {}, { control, index, records }];
  });
  return [maps, ...ofDrafts].flatMap((each): MapReference[] => Object.values(each));
}

/** Close what an answer has brought. */
export function closeAll(own: MadeMaps | null, programs: readonly ProgramData[]): void {
  if (own !== null) discardMaps(own);
  for (const { result } of programs) {
    if ('reason' in result) continue;
    for (const fd of [result.program, result.again, result.tailCalls]) if (fd !== null) closeDescriptor(fd);
  }
}
