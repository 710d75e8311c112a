/**
 * At which hooks a flow of the table is, or why at none. Flows for which there is no room now are tried again. Neighbours: flow-offload.ts hears
 * what happens to flows and ports, placement.ts writes entries.
 */
import {
  type FlowMask,
  inPortOf,
  KEY_WORDS,
  type OfferedFlows,
  outcomeOf,
  TAG_PRESENT,
  Word,
} from '../../flow/index.ts';
import type { CompileContext, OffloadHook } from '../actions/contract.ts';
import { type Absence, Lasts, never } from './absence.ts';
import type { HookState } from './hook-state.ts';
import { type MaskPlan, planMask, zeroReason } from './mask-plan.ts';
import type { FlowToPlace, Placement } from './placement.ts';
import type { OffloadPort, OffloadPorts } from './ports.ts';

/** What decides where flows can be. */
export interface FlowHooksContext {
  readonly table: OfferedFlows;
  readonly ports: OffloadPorts;
  readonly tc: HookState;
  readonly xdp: HookState;
  readonly placement: Placement;
  readonly contexts: Readonly<Record<OffloadHook, CompileContext>>;
  /** Whether the tables may still become larger. */
  canGrow(): boolean;
}

/** Flows looked at in one call when many have to be: they take some microseconds each. */
const RECHECK_FLOWS = 128;
/** How often flows that found no room are tried again, in milliseconds. */
const RETRY_MS = 100;
const NO_PORT = 'no port is offloaded';

export class FlowHooks {
  /** Why flows are not offloaded, by slot. */
  readonly reasons = new Map<number, string>();
  readonly #context: FlowHooksContext;
  readonly #states: readonly HookState[];
  #plans = new WeakMap<FlowMask, MaskPlan>();
  #untaggedPlans = new WeakMap<FlowMask, MaskPlan>();
  /** Flows that may find room later. */
  readonly #parked = new Set<number>();
  readonly #key = new Uint32Array(KEY_WORDS);
  /** The slot from which on flows are to be looked at again; -1 for none. */
  #recheckAt = -1;
  #retryAtMs = 0;
  /** Of the parked flows, those that are to be tried in this turn. */
  #retries = 0;

  constructor(context: FlowHooksContext) {
    this.#context = context;
    this.#states = [context.tc, context.xdp];
  }

  /** Put a flow where it belongs now. */
  consider(slot: number): void {
    this.#parked.delete(slot);
    const absence = this.#placeEverywhere(slot);
    if (absence === null) {
      this.reasons.delete(slot);
      return;
    }
    const { lasts, text } = absence;
    const isFull = lasts === Lasts.LARGER_TABLES && !this.#context.canGrow();
    this.reasons.set(slot, isFull ? this.#noRoom() : text);
    if (lasts !== Lasts.EVER && !this.#waitsForMask(slot)) this.#parked.add(slot);
  }

  /** Whether it depends on its mask alone where a flow can be: mask-shares.ts has it looked at again. */
  #waitsForMask(slot: number): boolean {
    return this.#states.some(({ waiting }) => waiting.has(slot));
  }

  /** A flow is out of a hook, as its mask is to leave it. */
  turnedOut(state: HookState, slot: number): void {
    this.#context.placement.remove(state, slot);
    this.consider(slot);
  }

  /** The flow is gone from the table. */
  remove(slot: number): void {
    this.#context.placement.foldFormerOf(slot);
    this.#removeGone(slot);
    this.reasons.delete(slot);
    this.#parked.delete(slot);
  }

  /** The flow is to be nowhere any more, though it is still there to be counted. */
  withdraw(slot: number): void {
    this.#context.placement.foldFormerOf(slot);
    this.#takeOut(slot);
    this.reasons.delete(slot);
    this.#parked.delete(slot);
  }

  /** All flows are about to go from the table. */
  removeAll(): void {
    const { table, placement } = this.#context;
    placement.foldFormer();
    for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1)) this.#removeGone(slot);
    for (const state of this.#states) state.clearEntries();
    this.reasons.clear();
    this.#parked.clear();
  }

  /** Something has changed on which it depends where flows can be. */
  recheckAll(): void {
    this.#recheckAt = 0;
  }

  /** The same, and what programs look at is another. */
  replanAll(): void {
    this.#plans = new WeakMap();
    this.#untaggedPlans = new WeakMap();
    this.recheckAll();
  }

  /** Look at the next of the flows that are to be looked at again. @param most how many at once */
  recheck(most = RECHECK_FLOWS): void {
    for (let count = 0; this.#recheckAt !== -1 && count < most; count += 1) {
      const slot = this.#context.table.next(this.#recheckAt);
      if (slot !== -1) this.consider(slot);
      this.#recheckAt = slot === -1 ? -1 : slot + 1;
    }
  }

  /** Whether some are still to be looked at again. */
  get isRechecking(): boolean {
    return this.#recheckAt !== -1;
  }

  /** There may be room now. */
  retrySoon(): void {
    this.#retryAtMs = 0;
  }

  /** Try flows again that found no room before, when it is time. */
  retry(nowMs: number): void {
    if (this.#retries === 0 && this.#parked.size > 0 && nowMs >= this.#retryAtMs) {
      this.#retryAtMs = nowMs + RETRY_MS;
      this.#retries = this.#parked.size;
    }
    if (this.#retries === 0) return;
    // Those that are parked again come last.
    let count = Math.min(this.#retries, RECHECK_FLOWS);
    this.#retries -= count;
    for (const slot of this.#parked) {
      if (count === 0) return;
      count -= 1;
      this.#parked.delete(slot);
      this.consider(slot);
    }
    this.#retries = 0;
  }

  /** Milliseconds until there is something to do here, or -1. */
  get waitMs(): number {
    if (this.#recheckAt !== -1 || this.#retries > 0) return 0;
    return this.#parked.size > 0 ? RETRY_MS : -1;
  }

  #noRoom(): string {
    return `no room for more flows, at most ${this.#context.placement.tables.maps.sizes.entries - 1}`;
  }

  /** @returns why no hook has the flow; null when one has */
  #placeEverywhere(slot: number): Absence | null {
    const { table, ports, tc, xdp } = this.#context;
    const mask = table.maskOf(slot);
    const key = this.#key;
    table.readKey(slot, key);
    for (let i = 0; i < KEY_WORDS; i += 1) key[i] &= mask.words[i];
    const plan = this.#planOf(mask, key);
    const isOnePort = mask.words[Word.IN_PORT] === 0xffff_ffff;
    const port = isOnePort ? ports.byNumber(inPortOf(key)) : undefined;
    const unfit = this.#unfit(plan, key, isOnePort, port);
    if (unfit !== null) {
      this.#takeOut(slot);
      return never(unfit);
    }
    const ifindex = port?.ifindex ?? 0;
    const flow: FlowToPlace = { slot, mask, plan, maskedKey: key, actions: table.actionsOf(slot), ifindex };
    const isAtXdp = isOnePort ? port?.hook === 'xdp' : xdp.ports > 0;
    const atXdp = isAtXdp ? this.#place(xdp, flow) : this.#takeOutAt(xdp, slot);
    if (atXdp?.lasts === Lasts.LARGER_TABLES) {
      this.#takeOut(slot);
      return atXdp;
    }
    if (atXdp?.lasts === Lasts.ROOM && !xdp.waiting.has(slot)) this.#parked.add(slot);
    // What XDP passes on comes to tc, as it came: so does a packet that some later look-up at XDP does not find.
    const isAtTc = isOnePort ? port?.hook === 'tc' || atXdp !== null || isOfChain(flow) : tc.ports > 0;
    const atTc = isAtTc ? this.#place(tc, flow) : this.#takeOutAt(tc, slot);
    if ((isAtXdp && atXdp === null) || (isAtTc && atTc === null)) return null;
    return (isAtTc ? atTc : atXdp) ?? never(NO_PORT);
  }

  #planOf(mask: FlowMask, key: Uint32Array): MaskPlan {
    const isUntagged =
      (mask.words[Word.VLAN] & TAG_PRESENT) !== 0 && key[Word.VLAN] === 0 && key[Word.INNER_VLAN] === 0;
    const plans = isUntagged ? this.#untaggedPlans : this.#plans;
    let plan = plans.get(mask);
    if (plan === undefined) {
      plan = planMask(mask.words, isUntagged, this.#context.contexts.tc.connections === true);
      plans.set(mask, plan);
    }
    return plan;
  }

  #place(state: HookState, flow: FlowToPlace): Absence | null {
    const { placement, contexts } = this.#context;
    if (state.refused !== null) {
      placement.remove(state, flow.slot);
      return never('the verifier takes no program here');
    }
    return placement.place(state, flow, contexts[state.hook]);
  }

  #takeOutAt(state: HookState, slot: number): null {
    this.#context.placement.remove(state, slot);
    return null;
  }

  #takeOut(slot: number): void {
    for (const state of this.#states) this.#context.placement.remove(state, slot);
  }

  #removeGone(slot: number): void {
    for (const state of this.#states) this.#context.placement.removeGone(state, slot);
  }

  /** Why nothing of the flow can be in the kernel, whatever it does. */
  #unfit(plan: MaskPlan, key: Uint32Array, isOnePort: boolean, port: OffloadPort | undefined): string | null {
    if (plan.reason !== null) return plan.reason;
    for (let i = 0; i < plan.zeroIndex.length; i += 1) {
      if ((key[plan.zeroIndex[i]] & plan.zeroValues[i]) !== 0) return zeroReason(plan.zeroIndex[i]);
    }
    if (!isOnePort) return this.#context.tc.ports === 0 ? NO_PORT : null;
    const number = inPortOf(key);
    if (port === undefined) return `port ${number} ${this.#context.ports.absenceOf(number)}`;
    return port.hook === null ? `packets of port ${port.number} go to the engine` : null;
  }
}

/** Whether packets of a flow are looked up again, or were before. */
function isOfChain({ maskedKey, actions }: FlowToPlace): boolean {
  return maskedKey[Word.RECIRC_ID] !== 0 || outcomeOf(actions, 0, actions.length)?.isSentOn !== false;
}
