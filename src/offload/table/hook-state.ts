/** What is known of one hook: its masks and shapes, which entry each flow has there, and the program that runs. Written by placement.ts and programs.ts. */
import type { KeyPort } from '../../net/index.ts';
import type { OffloadHook } from '../actions/contract.ts';
import type { Shape } from '../actions/shape.ts';
import { MASK_NUMBERS, SHAPE_NUMBERS } from '../layout/limits.ts';
import type { LoadedProgram, Refused } from '../program/load.ts';
import type { MaskPlan } from './mask-plan.ts';
import { type Numbered, Numbers } from './numbers.ts';

const INITIAL_FLOWS = 64;

/** Decides which masks may come into a program. */
export interface MaskAdmission {
  /** @param id of a mask that has no entries, and `port` the input port of the flow that asks for it */
  admits(id: string, port: KeyPort | -1): boolean;
}

/** The part of a mask's plan that programs have. */
export type MaskWords = Pick<MaskPlan, 'index' | 'values'>;

export class HookState {
  readonly hook: OffloadHook;
  readonly masks: Numbers<MaskWords>;
  readonly shapes: Numbers<Shape>;
  /** The masks of the program that runs, in its order. */
  order: readonly Numbered<MaskWords>[] = [];
  /** Ids of masks and shapes that the verifier does not take. */
  readonly bad = new Set<string>();
  /** Some flow's mask has found no place. */
  isContended = false;
  /** Says which masks may come into the program then, see mask-shares.ts; null while all may that there is room for. */
  admission: MaskAdmission | null = null;
  /** Ids of masks whose flows are being taken out. */
  readonly leaving = new Set<string>();
  /** Flows whose mask has no place, by slot: the id of their mask. */
  readonly waiting = new Map<number, string>();
  /** Ports whose packets come to this hook. */
  ports = 0;
  loaded: LoadedProgram | null = null;
  /** Why no program runs here. */
  refused: Refused | null = null;
  /** Packets are to be handed down to programs of this hook; null when the verifier takes none that have it. */
  handsDown: boolean | null = false;
  /** Another program is needed. */
  dirty = false;
  /** Programs made so far. */
  programs = 0;
  #entries = new Int32Array(INITIAL_FLOWS);

  /** @param maskNumbers shared by the hooks, as is `shapeNumbers` */
  constructor(hook: OffloadHook, maskNumbers: number[], shapeNumbers: number[]) {
    this.hook = hook;
    this.masks = new Numbers(maskNumbers, MASK_NUMBERS);
    this.shapes = new Numbers(shapeNumbers, SHAPE_NUMBERS);
  }

  /** The entry of a flow, or 0. */
  entryOf(slot: number): number {
    return slot < this.#entries.length ? this.#entries[slot] : 0;
  }

  setEntry(slot: number, entry: number): void {
    if (slot >= this.#entries.length) {
      const larger = new Int32Array(Math.max(slot + 1, this.#entries.length * 2));
      larger.set(this.#entries);
      this.#entries = larger;
    }
    this.#entries[slot] = entry;
  }

  /** No flow has an entry any more, nor waits for one. */
  clearEntries(): void {
    this.waiting.clear();
    this.#entries = new Int32Array(INITIAL_FLOWS);
  }

  /** Masks, or shapes, that some entry has. */
  static used(numbers: Numbers<unknown>): number {
    let used = 0;
    for (const { entries } of numbers.all()) if (entries > 0) used += 1;
    return used;
  }
}
