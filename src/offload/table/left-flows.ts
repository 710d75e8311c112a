/**
 * Flows that a former process has left in the tables: entries that no flow of the flow table has claimed yet. The kernel goes on carrying
 * them until they are claimed or taken out. adopt.ts reads them back.
 */
import { KEY_WORDS, Word } from '../../flow/index.ts';
import type { InterfaceIndex, KeyPort } from '../../net/index.ts';
import { outputsOf, recirculates } from '../actions/steps.ts';
import type { HookState } from './hook-state.ts';
import type { Placement } from './placement.ts';

/** One of them, as far as its entry tells. */
export interface LeftFlow {
  /** Interface that its packets come in by; 0 when it is for several, or for one that is not known. */
  readonly ifindex: InterfaceIndex | 0;
  /** Words of the flow key; bits that its mask does not look at are 0. */
  readonly key: Uint32Array;
  /** Interfaces that its packets are sent to; null when that cannot be told. */
  readonly outputs: readonly InterfaceIndex[] | null;
  /** Its packets are looked up again under an id, or were: ids mean nothing beyond the process that gave them. */
  readonly recirculates: boolean;
}

export class LeftFlows {
  readonly #placement: Placement;
  readonly #states: readonly HookState[];
  /** Interfaces of ports by the number that keys have. */
  readonly #ports: ReadonlyMap<number, InterfaceIndex>;
  /** Entries below it have been taken out or claimed. */
  #cursor = 1;

  constructor(placement: Placement, states: readonly HookState[], ports: ReadonlyMap<KeyPort, InterfaceIndex>) {
    this.#placement = placement;
    this.#states = states;
    this.#ports = ports;
  }

  /** Whether some may be left. */
  get isOver(): boolean {
    return this.#cursor >= this.#placement.tables.maps.sizes.entries;
  }

  /** How many there are. */
  count(): number {
    let count = 0;
    for (const _ of this.#entries()) count += 1;
    return count;
  }

  /** All of them. */
  *flows(): Generator<LeftFlow> {
    for (const [state, entry] of this.#entries()) yield this.#read(state, entry);
  }

  /** Take out some, or all. @returns how many */
  remove(most: number): number {
    const { tables } = this.#placement;
    const { entries } = tables.maps.sizes;
    let count = 0;
    for (; this.#cursor < entries && count < most; this.#cursor += 1) {
      const state = this.#stateOf(this.#cursor);
      if (state === undefined) continue;
      this.#placement.removeEntry(state, this.#cursor, -1);
      count += 1;
    }
    return count;
  }

  /** Take out those of which something holds. @returns how many */
  removeWhere(holds: (flow: LeftFlow) => boolean): number {
    let count = 0;
    for (const [state, entry] of this.#entries()) {
      if (!holds(this.#read(state, entry))) continue;
      this.#placement.removeEntry(state, entry, -1);
      count += 1;
    }
    return count;
  }

  /** A port has this number from now on: flows that mean another by it, or it by another, are taken out. */
  portIs(ifindex: InterfaceIndex, number: KeyPort): void {
    if (this.isOver || this.#ports.get(number) === ifindex) return;
    if (!this.#ports.has(number) && ![...this.#ports.values()].includes(ifindex)) return;
    this.removeWhere((flow) => flow.ifindex === ifindex || flow.key[Word.IN_PORT] === number);
  }

  *#entries(): Generator<[HookState, number]> {
    const { entries } = this.#placement.tables.maps.sizes;
    for (let entry = this.#cursor; entry < entries; entry += 1) {
      const state = this.#stateOf(entry);
      if (state !== undefined) yield [state, entry];
    }
  }

  /** The hook of an entry that nobody has claimed; undefined for any other. */
  #stateOf(entry: number): HookState | undefined {
    const { tables } = this.#placement;
    if (tables.slots[entry] !== -1 || !tables.isLive(entry)) return undefined;
    const mask = tables.entries.maskOf(entry);
    return this.#states.find(({ masks }) => masks.byNumber(mask) !== undefined);
  }

  #read(state: HookState, entry: number): LeftFlow {
    const { entries } = this.#placement.tables;
    const key = new Uint32Array(KEY_WORDS);
    const mask = state.masks.byNumber(entries.maskOf(entry))?.value;
    const shape = state.shapes.byNumber(entries.shapeOf(entry))?.value;
    if (mask === undefined || shape === undefined) return { ifindex: 0, key, outputs: null, recirculates: true };
    const words = entries.keyOf(entry, mask.index.length);
    mask.index.forEach((word, i) => {
      key[word] = words[i];
    });
    const place = mask.index.indexOf(Word.IN_PORT);
    const isOnePort = place !== -1 && mask.values[place] === 0xffff_ffff;
    const outputs = outputsOf(shape, entries.parametersOf(entry, shape.parameterWords));
    return {
      ifindex: isOnePort ? (this.#ports.get(key[Word.IN_PORT]) ?? 0) : 0,
      key,
      outputs,
      recirculates: key[Word.RECIRC_ID] !== 0 || recirculates(shape.steps),
    };
  }
}
