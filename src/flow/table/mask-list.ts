/**
 * The masks of a table, and for each input port those that its packets may fall under: masks under which the port has flows, and
 * masks that do not look at the whole of the port. A look-up walks the list of its packet's port alone, so masks that one port has
 * flows under are nothing to the others. Within a list those that answer most come first. The order is set anew every few thousand
 * walks; the counts are halved then, so that it follows the traffic.
 */
import { KEY_WORDS, Word } from '../key/layout.ts';
import type { HashSecret } from './hash.ts';
import { FlowMask, NO_PORT } from './mask.ts';

/** Walks through a list between two orderings. */
const WALKS_PER_ORDERING = 4096;

/** A mask in the list of a port. */
export interface MaskTrial {
  readonly mask: FlowMask;
  /** Flows of this port alone under the mask. */
  flows: number;
  /** Walks that it ended since the order was last set; halved then. */
  hits: number;
}

/** The masks that packets of one port may fall under. */
export class PortMasks {
  /** In the order of trial. */
  readonly trials: MaskTrial[] = [];
  /** All bits that any of them looks at, in the shape of a mask. */
  readonly union = new Uint32Array(KEY_WORDS);
  /** Another number, that no other list of the table has had, whenever {@link union} changes. */
  version = 0;
  #walks = 0;

  /** To be called once for each walk through {@link trials}. */
  walked(): void {
    this.#walks += 1;
    if (this.#walks < WALKS_PER_ORDERING) return;
    this.#walks = 0;
    const { trials } = this;
    // Insertion sort: the list is nearly in order, and nothing is allocated.
    for (let i = 1; i < trials.length; i += 1) {
      const trial = trials[i];
      let j = i - 1;
      while (j >= 0 && trials[j].hits < trial.hits) {
        trials[j + 1] = trials[j];
        j -= 1;
      }
      trials[j + 1] = trial;
    }
    for (let i = 0; i < trials.length; i += 1) {
      const trial = trials[i];
      trial.hits = Math.floor(trial.hits / 2);
      trial.mask.hits = Math.floor(trial.mask.hits / 2);
    }
  }

  trialOf(mask: FlowMask): MaskTrial | undefined {
    for (const trial of this.trials) if (trial.mask === mask) return trial;
    return undefined;
  }

  /** @returns whether the union has changed */
  add(mask: FlowMask, flows: number): boolean {
    this.trials.push({ mask, flows, hits: 0 });
    let changed = false;
    for (const word of mask.index) {
      const bits = (this.union[word] | mask.words[word]) >>> 0;
      if (bits === this.union[word]) continue;
      this.union[word] = bits;
      changed = true;
    }
    return changed;
  }

  /** @returns whether the union has changed */
  remove(trial: MaskTrial): boolean {
    const { trials, union } = this;
    trials.splice(trials.indexOf(trial), 1);
    let changed = false;
    for (const word of trial.mask.index) {
      let bits = 0;
      for (let i = 0; i < trials.length; i += 1) bits |= trials[i].mask.words[word];
      if (bits >>> 0 === union[word]) continue;
      union[word] = bits;
      changed = true;
    }
    return changed;
  }
}

export class MaskList {
  /** All of them. */
  readonly all: FlowMask[] = [];
  /** By {@link FlowMask.id}; null where an id is free. */
  readonly byId: (FlowMask | null)[] = [];
  /** Grows whenever a list comes, goes, or looks at other bits. */
  version = 0;
  readonly #secret: HashSecret;
  readonly #freeIds: number[] = [];
  /** Lists of ports that have flows of their own. */
  readonly #byPort = new Map<number, PortMasks>();
  /** The masks that do not look at the whole of the port: those of all other ports. */
  readonly #open = new PortMasks();

  constructor(secret: HashSecret) {
    this.#secret = secret;
    this.#renew(this.#open);
  }

  get count(): number {
    return this.all.length;
  }

  /** The masks that packets of a port may fall under. */
  of(port: number): PortMasks {
    return this.#byPort.get(port) ?? this.#open;
  }

  /** The mask with these words; null when there is none. */
  find(words: Uint32Array): FlowMask | null {
    for (const mask of this.all) if (mask.equals(words)) return mask;
    return null;
  }

  /** The mask with these words for a flow with this key, which is about to be put; made when there is none. */
  take(words: Uint32Array, key: Uint32Array): FlowMask {
    // A port's flows mostly fall under masks that the port has already.
    for (const { mask } of this.of(key[Word.IN_PORT]).trials) if (mask.equals(words)) return mask;
    const there = this.find(words);
    if (there !== null) return there;
    const mask = new FlowMask(this.#freeIds.pop() ?? this.byId.length, words, this.#secret);
    this.byId[mask.id] = mask;
    this.all.push(mask);
    if (mask.isOpen) {
      for (const list of this.#lists()) if (list.add(mask, 0)) this.#renew(list);
    }
    return mask;
  }

  /** A flow of this port came under the mask; NO_PORT for an open one. */
  flowAdded(mask: FlowMask, port: number): void {
    if (port === NO_PORT) return;
    let list = this.#byPort.get(port);
    if (list === undefined) {
      list = new PortMasks();
      for (const open of this.#open.trials) list.add(open.mask, 0);
      this.#byPort.set(port, list);
      this.#renew(list);
    }
    const trial = list.trialOf(mask);
    if (trial !== undefined) trial.flows += 1;
    else if (list.add(mask, 1)) this.#renew(list);
  }

  /** A flow of this port is gone from the mask, and the mask with the last of its flows. */
  flowRemoved(mask: FlowMask, port: number): void {
    if (port !== NO_PORT) this.#leave(mask, port, 1);
    if (mask.flows === 0) this.#drop(mask);
  }

  /** All flows of a mask are gone. */
  remove(mask: FlowMask): void {
    for (const [port, list] of this.#byPort) {
      const trial = list.trialOf(mask);
      if (trial !== undefined && !mask.isOpen) this.#leave(mask, port, trial.flows);
    }
    this.#drop(mask);
  }

  /** No flow is left under a mask. */
  #drop(mask: FlowMask): void {
    this.all.splice(this.all.indexOf(mask), 1);
    this.byId[mask.id] = null;
    this.#freeIds.push(mask.id);
    if (!mask.isOpen) return;
    for (const list of this.#lists()) {
      const trial = list.trialOf(mask);
      if (trial !== undefined && list.remove(trial)) this.#renew(list);
    }
  }

  /** @param flows so many of the port have left the mask */
  #leave(mask: FlowMask, port: number, flows: number): void {
    const list = this.#byPort.get(port);
    const trial = list?.trialOf(mask);
    if (list === undefined || trial === undefined) return;
    trial.flows -= flows;
    if (trial.flows > 0) return;
    if (list.remove(trial)) this.#renew(list);
    if (list.trials.length > this.#open.trials.length) return;
    this.#byPort.delete(port);
    this.version += 1;
  }

  clear(): void {
    this.all.length = 0;
    this.byId.length = 0;
    this.#freeIds.length = 0;
    this.#byPort.clear();
    this.#open.trials.length = 0;
    this.#open.union.fill(0);
    this.#renew(this.#open);
  }

  /** What was remembered by the version of any list is void. */
  renew(): void {
    for (const list of this.#lists()) this.#renew(list);
  }

  #renew(list: PortMasks): void {
    this.version += 1;
    list.version = this.version;
  }

  *#lists(): Generator<PortMasks> {
    yield this.#open;
    yield* this.#byPort.values();
  }
}
