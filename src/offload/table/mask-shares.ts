/**
 * Which masks have a place in the programs of a hook while more are asked for than there are places. Then masks no longer go in as they come: every
 * second ports take turns, each of them with the mask that carries most of its packets, until the places are given away. So a port that asks for
 * many masks has only what the others leave, and of these places only for masks that carry something: another program costs more than a few packets in
 * the engine. Some places stay free for ports that have no more than their share: their masks go in at once. A mask that is in a program counts double,
 * and few are exchanged at a time. flow-hooks.ts knows which flows wait for a mask, placement.ts keeps masks without a place out.
 */
import type { OfferedFlows } from '../../flow/index.ts';
import type { KeyPort } from '../../net/index.ts';
import { MAXIMUM_MASKS } from '../layout/limits.ts';
import type { HookState, MaskAdmission, MaskWords } from './hook-state.ts';
import type { Numbered } from './numbers.ts';
import type { Placement } from './placement.ts';

export interface MaskSharesContext {
  readonly table: OfferedFlows;
  readonly placement: Placement;
  /** Look again at where a flow can be. */
  consider(slot: number): void;
  /** A flow is out of the programs of a hook, and waits for its mask. */
  turnedOut(state: HookState, slot: number): void;
  /** Masks are told apart by use from now on. @param port the number of the port that asks for most, -1 for flows of any port, and `masks` how many these are */
  full?(port: KeyPort | -1, masks: number): void;
}

/** How soon after the first mask found no place, and how often from then on, places are given away. */
const FIRST_MS = 200;
const DECIDE_MS = 1000;
/** Places that stay free where there are several ports. */
const RESERVE = 6;
/** Flows whose packets are counted in one step, entries that are looked at for a mask that goes, and flows that are put in or taken out. */
const COUNTED_FLOWS = 4096;
const LOOKED_ENTRIES = 8192;
const MOVED_FLOWS = 128;
/** Masks in a program that are exchanged in one decision. */
const MOST_EXCHANGED = 8;
/** Packets since the last decision, and half of those before, for which a mask of a port with more masks than its share is put into a program. */
const LEAST_PACKETS = 50;
/** What a mask in a program counts more than one that waits: so many times its packets, and so many packets. */
const STAYS_TIMES = 2;
const STAYS_PACKETS = 50;

/** For so long masks must have been enough for all until it is told again that they are not. */
const TELL_MS = 60_000;

/** What a mask has carried of each port since the last decision, and half of what it had before. */
type Use = Map<KeyPort | -1, number>;

/** A mask that is to leave a program, and how far its entries have been looked at. */
interface Leaving {
  readonly mask: Numbered<MaskWords>;
  entry: number;
}

export class MaskShares implements MaskAdmission {
  readonly #state: HookState;
  readonly #context: MaskSharesContext;
  /** By id of the mask. */
  #uses = new Map<string, Use>();
  #usesBefore = new Map<string, Use>();
  /** Packets of each flow when they were last counted. */
  #packets = new Float64Array(0);
  /** The next flow to be counted; -1 while no decision is due. */
  #countAt = -1;
  #decideAtMs = -1;
  #tellAtMs = Number.NEGATIVE_INFINITY;
  /** Masks that may come in, and how many others each port may bring in until the next decision. */
  #chosen = new Set<string>();
  #allowances = new Map<KeyPort | -1, number>();
  /** The same for ports that had none then. */
  #newcomers = 0;
  #leaving: Leaving[] = [];
  /** Flows whose masks have a place now, or need none any more. */
  #returning: number[] = [];

  constructor(state: HookState, context: MaskSharesContext) {
    this.#state = state;
    this.#context = context;
  }

  /** Do what is due. */
  poll(nowMs: number): void {
    const state = this.#state;
    if (!state.isContended && this.#returning.length === 0) return;
    if (state.isContended && this.#decideAtMs < 0) this.#decideAtMs = nowMs + FIRST_MS;
    if (this.#leaving.length > 0) this.#takeOut();
    else if (this.#returning.length > 0) this.#putBack();
    else if (this.#countAt >= 0) this.#count(nowMs);
    else if (nowMs >= this.#decideAtMs) this.#begin();
  }

  /** Milliseconds until {@link poll} has something to do, or -1. */
  waitMs(nowMs: number): number {
    if (this.#leaving.length > 0 || this.#returning.length > 0 || this.#countAt >= 0) return 0;
    if (!this.#state.isContended) return -1;
    return this.#decideAtMs < 0 ? 0 : Math.max(0, this.#decideAtMs - nowMs);
  }

  #begin(): void {
    this.#countAt = 0;
    const { slotEnd } = this.#context.table;
    if (this.#packets.length < slotEnd) {
      const larger = new Float64Array(slotEnd * 2);
      larger.set(this.#packets);
      this.#packets = larger;
    }
  }

  /** Count the packets of some more flows; then decide. */
  #count(nowMs: number): void {
    const { table } = this.#context;
    for (let count = 0; count < COUNTED_FLOWS; count += 1) {
      const slot = table.next(this.#countAt, this.#packets.length);
      if (slot === -1) {
        this.#countAt = -1;
        this.#decideAtMs = nowMs + DECIDE_MS;
        this.#decide(nowMs);
        return;
      }
      this.#countAt = slot + 1;
      this.#countFlow(slot);
    }
  }

  #countFlow(slot: number): void {
    const { table, placement } = this.#context;
    const state = this.#state;
    const entry = state.entryOf(slot);
    const id = entry === 0 ? state.waiting.get(slot) : state.masks.byNumber(placement.tables.entries.maskOf(entry))?.id;
    const packets = table.packetsOf(slot);
    const before = this.#packets[slot];
    this.#packets[slot] = packets;
    if (id === undefined) return;
    let use = this.#uses.get(id);
    if (use === undefined) {
      use = new Map();
      this.#uses.set(id, use);
    }
    const port = table.portOf(slot);
    // Fewer than before: the slot has another flow.
    use.set(port, (use.get(port) ?? 0) + (packets >= before ? packets - before : packets));
  }

  /** Give all places away anew. */
  #decide(nowMs: number): void {
    const state = this.#state;
    for (const [id, use] of this.#uses) {
      for (const [port, packets] of this.#usesBefore.get(id) ?? []) use.set(port, (use.get(port) ?? 0) + packets / 2);
    }
    if (state.waiting.size === 0) this.#end();
    else {
      if (nowMs >= this.#tellAtMs) this.#tell();
      this.#tellAtMs = nowMs + TELL_MS;
      this.#give(this.#choose());
    }
    this.#usesBefore = this.#uses;
    this.#uses = new Map();
  }

  /** Nobody waits any more: masks go in as they come. */
  #end(): void {
    this.#state.isContended = false;
    this.#state.admission = null;
    this.#decideAtMs = -1;
    this.#packets = new Float64Array(0);
  }

  admits(id: string, port: KeyPort | -1): boolean {
    if (this.#chosen.has(id)) return true;
    const allowance = this.#allowances.get(port) ?? this.#newcomers;
    if (allowance <= 0) return false;
    this.#allowances.set(port, allowance - 1);
    this.#chosen.add(id);
    return true;
  }

  /** The masks that are to have a place, those that come first first, as many as there are places to be given. */
  #choose(): { readonly chosen: Set<string>; readonly places: number } {
    const byPort = new Map<KeyPort | -1, { id: string; worth: number }[]>();
    for (const [id, use] of this.#uses) {
      const isIn = this.#isIn(id);
      for (const [port, packets] of use) {
        const worth = isIn ? packets * STAYS_TIMES + STAYS_PACKETS : packets;
        const masks = byPort.get(port);
        if (masks === undefined) byPort.set(port, [{ id, worth }]);
        else masks.push({ id, worth });
      }
    }
    const places = byPort.size > 1 ? MAXIMUM_MASKS - RESERVE : MAXIMUM_MASKS;
    const share = Math.floor(places / byPort.size);
    const areTooMany = this.#uses.size > places;
    this.#newcomers = Math.floor(places / (byPort.size + 1));
    this.#allowances = new Map();
    const queues: { id: string; worth: number }[][] = [];
    for (const [port, masks] of byPort) {
      this.#allowances.set(port, share - masks.length);
      const isBeyond = areTooMany && masks.length > share;
      const worthy = isBeyond ? masks.filter(({ id, worth }) => worth >= LEAST_PACKETS || this.#isIn(id)) : masks;
      queues.push(worthy.sort((a, b) => b.worth - a.worth));
    }
    const chosen = new Set<string>();
    for (let turn = 0; chosen.size < places && queues.some(({ length }) => turn < length); turn += 1) {
      for (const masks of queues) {
        if (turn < masks.length && chosen.size < places) chosen.add(masks[turn].id);
      }
    }
    return { chosen, places };
  }

  #isIn(id: string): boolean {
    return (this.#state.masks.get(id)?.entries ?? 0) > 0;
  }

  #give({ chosen, places }: { readonly chosen: ReadonlySet<string>; readonly places: number }): void {
    const state = this.#state;
    const isIn = [...state.masks.all()].filter(({ entries }) => entries > 0);
    let free = places - isIn.length;
    const goes = isIn.filter(({ id }) => !chosen.has(id)).sort((a, b) => this.#packetsOf(a.id) - this.#packetsOf(b.id));
    const leave = (): boolean => {
      const mask = this.#leaving.length < MOST_EXCHANGED ? goes.shift() : undefined;
      if (mask === undefined) return false;
      this.#leaving.push({ mask, entry: 1 });
      state.leaving.add(mask.id);
      return true;
    };
    for (; free < 0; free += 1) if (!leave()) break;
    this.#chosen = new Set();
    for (const id of chosen) {
      if (this.#isIn(id)) continue;
      if (free > 0) free -= 1;
      else if (this.#packetsOf(id) === 0 || !leave()) continue;
      this.#chosen.add(id);
    }
    state.admission = this;
    for (const [slot, id] of state.waiting) if (this.#chosen.has(id)) this.#returning.push(slot);
  }

  #packetsOf(id: string): number {
    let sum = 0;
    for (const packets of this.#uses.get(id)?.values() ?? []) sum += packets;
    return sum;
  }

  #tell(): void {
    const { full } = this.#context;
    if (full === undefined) return;
    const masks = new Map<KeyPort | -1, number>();
    for (const use of this.#uses.values()) for (const port of use.keys()) masks.set(port, (masks.get(port) ?? 0) + 1);
    const [most] = [...masks].sort(([, a], [, b]) => b - a);
    if (most !== undefined) full(...most);
  }

  /** Take some flows of the masks that leave out of the programs. */
  #takeOut(): void {
    const { placement, turnedOut } = this.#context;
    const { entries, slots, maps } = placement.tables;
    const [leaving] = this.#leaving;
    const { mask } = leaving;
    let moved = 0;
    for (let looked = 0; looked < LOOKED_ENTRIES && moved < MOVED_FLOWS && mask.entries > 0; looked += 1) {
      // Flows of a former process, which nobody has claimed, stay: their mask does.
      if (leaving.entry >= maps.sizes.entries) break;
      const { entry } = leaving;
      leaving.entry += 1;
      if (slots[entry] === -1 || entries.maskOf(entry) !== mask.number) continue;
      turnedOut(this.#state, slots[entry]);
      moved += 1;
    }
    if (mask.entries > 0 && leaving.entry < maps.sizes.entries) return;
    this.#leaving.shift();
    this.#state.leaving.delete(mask.id);
  }

  #putBack(): void {
    const { table, consider } = this.#context;
    for (const slot of this.#returning.splice(-MOVED_FLOWS)) {
      // It may have gone meanwhile, and another may have come to its slot.
      if (table.has(slot)) consider(slot);
    }
  }
}
