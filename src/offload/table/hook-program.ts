/**
 * What the program of one hook has: masks, in the order in which it tries them, and shapes; and when the hook is to have another. Neighbours: hook-state.ts
 * is what is known of a hook, programs.ts has programs made and put in place.
 */
import type { Shape } from '../actions/shape.ts';
import { MAXIMUM_MASKS, MAXIMUM_SHAPES } from '../layout/limits.ts';
import type { LoadedProgram, Refused } from '../program/load.ts';
import type { HookState, MaskWords } from './hook-state.ts';
import type { Numbered, Numbers } from './numbers.ts';

/** A program that a hook is to have. */
export interface HookProgram {
  readonly state: HookState;
  readonly order: readonly Numbered<MaskWords>[];
  readonly shapes: readonly Numbered<Shape>[];
}

/**
 * Masks and shapes without entries stay in the program until they were found so this many times: flows often go together, and come again soon, and a
 * program costs more than a look-up that finds nothing.
 */
const IDLE_CHECKS = 5;

/** What the next program of a hook has: all that entries name, and what was named a short time ago where there is room for it. */
export function nextProgram(state: HookState): HookProgram {
  const order = inProgram(state.masks, MAXIMUM_MASKS, state.bad).sort((a, b) => b.hits - a.hits || a.number - b.number);
  return { state, order, shapes: inProgram(state.shapes, MAXIMUM_SHAPES, state.bad) };
}

function inProgram<T>(numbers: Numbers<T>, most: number, bad: ReadonlySet<string>): Numbered<T>[] {
  const named: Numbered<T>[] = [];
  const idle: Numbered<T>[] = [];
  for (const one of numbers.all()) {
    if (bad.has(one.id)) continue;
    if (one.entries > 0) named.push(one);
    else if (one.running && one.idle < IDLE_CHECKS) idle.push(one);
  }
  return [...named, ...idle.slice(0, Math.max(0, most - named.length))];
}

/** Whether a hook can have a program: it has ports, and the verifier takes one. */
export function isUsed({ ports, refused }: HookState): boolean {
  return ports > 0 && refused === null;
}

/** Whether a hook wants another program and can have one. */
export function isDue(state: HookState): boolean {
  return state.dirty && isUsed(state);
}

/** The verifier does not take a program: it is without what came last from now on, and if nothing did, the hook has none. */
export function leaveOut({ state, order, shapes }: HookProgram, refusal: Refused): void {
  // What the program that runs does not have is to blame, shapes first.
  const newShapes = shapes.filter(({ running }) => !running);
  const blamed = newShapes.length > 0 ? newShapes : order.filter(({ running }) => !running);
  for (const { id } of blamed) state.bad.add(id);
  if (blamed.length === 0) state.refused = refusal;
}

/** A hook has this program from now on. */
export function programBegins({ state, order }: HookProgram, loaded: LoadedProgram): void {
  state.loaded = loaded;
  state.order = order;
  state.programs += 1;
  for (const mask of state.masks.all()) mask.running = false;
  for (const mask of order) mask.running = true;
  const numbers = new Set(loaded.plan.shapes.map(({ number }) => number));
  for (const shape of state.shapes.all()) shape.running = numbers.has(shape.number);
  state.masks.sweep();
  state.shapes.sweep();
  // Flows that have come meanwhile may have asked for just what it has.
  state.dirty = lacks(state.masks, state.bad) || lacks(state.shapes, state.bad);
}

/** Whether some entry has what the program that runs does not. */
function lacks<T>(numbers: Numbers<T>, bad: ReadonlySet<string>): boolean {
  for (const { entries, running, id } of numbers.all()) if (entries > 0 && !running && !bad.has(id)) return true;
  return false;
}

/** A hook has no program any more; when ports come to it again, it gets another. */
export function programEnds(state: HookState): void {
  state.loaded = null;
  state.dirty = true;
  state.order = [];
  for (const numbers of [state.masks, state.shapes]) for (const one of numbers.all()) one.running = false;
}

/**
 * See whether another program would be better: masks that are hit more often shall come first, where a little disorder costs less than another program,
 * and what has had no entries for long is to go.
 */
export function reviewProgram(state: HookState): void {
  const { order } = state;
  for (let i = 1; i < order.length; i += 1) {
    if (order[i].hits > order[i - 1].hits * 2 + 1000) state.dirty = true;
  }
  for (const numbers of [state.masks, state.shapes]) {
    for (const one of numbers.all()) {
      if (!one.running) continue;
      one.idle = one.entries > 0 ? 0 : one.idle + 1;
      if (one.idle >= IDLE_CHECKS) state.dirty = true;
    }
  }
  if (!state.dirty) for (const mask of order) mask.hits = Math.floor(mask.hits / 2);
}
