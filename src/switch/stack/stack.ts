/**
 * The extension stack: which extensions are enabled, in which order, and their way through Detached, Attaching, Paused,
 * Restarting, Running and Pausing. Any change pauses the whole stack, waits until nobody holds packets or OIDs, and restarts it.
 * Neighbours: slot.ts is one place in it, path/core.ts walks the order, oid/oid-path.ts the OIDs.
 */
import type { ExtensionInfo } from '../api.ts';
import { Operation } from '../control/operation.ts';
import { DropReason } from '../drop-reason.ts';
import { RuleError, SwitchError } from '../errors.ts';
import {
  type ExtensionDescriptor,
  type ExtensionFactory,
  type ExtensionHandle,
  type ExtensionState,
  TYPE_ORDER,
} from '../extension.ts';
import type { StatusIndication } from '../oid/oid.ts';
import type { OidPath } from '../oid/oid-path.ts';
import { finish } from '../path/completion.ts';
import { ContextFlag, NO_RANK } from '../path/context.ts';
import type { SwitchCore } from '../path/core.ts';
import { egressFrom } from '../path/egress.ts';
import { guarded, refusePromise, watched } from '../path/guard.ts';
import { isWritableContext, isWritablePacket, mend } from '../path/handoff.ts';
import { ingressFrom } from '../path/ingress.ts';
import { errorOf, messageOf } from '../thrown.ts';
import { readDescriptor, Slot } from './slot.ts';

/** An extension that holds a packet for this long is taken for broken: what it holds is missing to rings, pools and contexts. */
const HOLD_LIMIT_SECONDS = 10;
/** When it is said that it keeps packets. */
const HOLD_SAID_SECONDS = 2;
/** An extension that does not let go within this time of its pause is taken for broken. */
const PAUSE_LIMIT_MS = 5_000;
/** Failed extensions that are remembered for people. */
const MAX_REMEMBERED = 32;

/** A change that waits for the stack to be paused. */
interface Change {
  readonly apply: () => void;
  readonly operation: Operation<void>;
}

/** The stack of one switch. */
export class ExtensionStack {
  readonly #core: SwitchCore;
  readonly #makeHandle: (slot: Slot) => ExtensionHandle;
  #oids: OidPath | null = null;
  #slots: Slot[] = [];
  #failed: Slot[] = [];
  #nextId = 1;
  readonly #changes: Change[] = [];
  #changing = false;
  #inProgress = false;
  #pauseStartedMs = 0;

  constructor(core: SwitchCore, makeHandle: (slot: Slot) => ExtensionHandle) {
    this.#core = core;
    this.#makeHandle = makeHandle;
    core.onFailure = (slot, error, where) => this.fail(slot, error, where);
    core.slotOf = (id) => this.#slots.find((slot) => slot.id === id) ?? null;
    core.onFull = (slot, packets) => {
      const { name } = slot;
      const message = `it keeps ${packets} packets, as many as one may: what more comes by their ports ${slot.capturing ? 'goes past it' : 'is dropped'}`;
      this.#core.onEvent({ type: 'extension-keeps', name, packets, message });
    };
  }

  /** Tell it the OID path, which needs the stack itself. */
  connect(oids: OidPath): void {
    this.#oids = oids;
  }

  /** Enabled extensions from the top. */
  get slots(): readonly Slot[] {
    return this.#slots;
  }

  /** Slots that OIDs and status reach. */
  flowing(): readonly Slot[] {
    return this.#slots.filter((slot) => slot.flowing);
  }

  /** A change is waiting for packets or OIDs. */
  get changing(): boolean {
    return this.#changing;
  }

  find(name: string): Slot {
    const slot = this.#slots.find((candidate) => candidate.name === name);
    if (slot === undefined) throw new SwitchError('NOT_FOUND', `no extension ${name} is enabled`);
    return slot;
  }

  infos(): ExtensionInfo[] {
    // One that fails leaves the list.
    for (const slot of [...this.#slots]) {
      if (slot.extension.countersWanted !== undefined && !slot.failed)
        guarded(this.#core, slot, 'countersWanted', () => slot.extension.countersWanted?.());
    }
    const enabled = this.#slots.map((slot, index) => slot.info(index, this.#core.heldBy(slot.id).length));
    return [...enabled, ...this.#failed.map((slot) => slot.info(-1, 0))];
  }

  /**
   * Send a status up; an extension may keep it, else it ends as an event of the switch.
   * @param from the slot that makes it; null: the miniport edge
   */
  indicate(from: Slot | null, indication: StatusIndication): void {
    for (const slot of this.flowing().toReversed()) {
      if (from !== null && slot.rank >= from.rank) continue;
      if (guarded(this.#core, slot, 'onStatus', () => slot.extension.onStatus?.(indication)) === false) return;
    }
    this.#core.onEvent({ type: 'status', indication });
  }

  /** See VirtualSwitch.enableExtension. @throws SwitchError, RuleError */
  enable(factory: ExtensionFactory, configuration: unknown, position: number | undefined): Operation<void> {
    let descriptor: ExtensionDescriptor;
    try {
      descriptor = readDescriptor(factory);
    } catch (error) {
      throw new SwitchError('INVALID', `this is no extension: ${messageOf(error)}`);
    }
    const { name, type } = descriptor;
    if (!TYPE_ORDER.includes(type))
      throw new SwitchError('INVALID', `extension ${name} has the unknown type ${String(type)}`);
    if (this.#slots.some((slot) => slot.name === name))
      throw new SwitchError('EXISTS', `extension ${name} is enabled already`);
    const forwarding = this.#slots.find((slot) => slot.forwarding);
    if (type === 'forwarding' && forwarding !== undefined)
      throw new RuleError(2, `${name} cannot be enabled besides ${forwarding.name}`);
    const slot = this.#newSlot(factory, descriptor);
    this.#instantiate(slot, configuration);
    return this.#change(() => {
      const again = this.#slots.some((other) => other.name === name || (other.forwarding && slot.forwarding));
      if (again) {
        this.#detach(slot);
        throw new SwitchError('EXISTS', `extension ${name} cannot be enabled twice, or besides another forwarding one`);
      }
      this.#insert(slot, position ?? 0);
      this.#failed = this.#failed.filter((other) => other.name !== name);
    });
  }

  #newSlot(factory: ExtensionFactory, descriptor: ExtensionDescriptor): Slot {
    const id = this.#nextId;
    this.#nextId += 1;
    return new Slot(id, factory, descriptor, this.#core.host.entered?.numberOf(descriptor.name) ?? id);
  }

  /** Make and attach the instance: Detached, Attaching, Paused. @throws SwitchError */
  #instantiate(slot: Slot, configuration: unknown): void {
    const { factory, name } = slot;
    const checked = this.#parse(slot, configuration);
    this.#setState(slot, 'Attaching');
    const handle = this.#makeHandle(slot);
    slot.handle = handle;
    try {
      watched(this.#core, slot.entry, () => {
        slot.setExtension(factory.create(handle, checked));
        refusePromise(slot.extension.attach?.(), 'attach');
      });
    } catch (error) {
      this.#forget(slot);
      this.#setState(slot, 'Detached');
      throw new SwitchError('EXTENSION', `extension ${name} could not attach: ${messageOf(error)}`);
    }
    this.#setState(slot, 'Paused');
  }

  /** What an extension makes of its configuration. @throws SwitchError INVALID */
  #parse({ factory, name, entry }: Slot, configuration: unknown): unknown {
    try {
      return watched(this.#core, entry, () => parseConfiguration(factory, configuration));
    } catch (error) {
      throw new SwitchError('INVALID', `configuration of extension ${name}: ${messageOf(error)}`);
    }
  }

  /** Put a slot at a position within its type. */
  #insert(slot: Slot, position: number): void {
    const order = TYPE_ORDER.indexOf(slot.descriptor.type);
    const above = this.#slots.filter((other) => TYPE_ORDER.indexOf(other.descriptor.type) < order);
    const same = this.#slots.filter((other) => other.descriptor.type === slot.descriptor.type);
    const below = this.#slots.filter((other) => TYPE_ORDER.indexOf(other.descriptor.type) > order);
    same.splice(Math.max(0, Math.min(position, same.length)), 0, slot);
    this.#slots = [...above, ...same, ...below];
  }

  /** @throws SwitchError */
  disable(name: string): Operation<void> {
    const slot = this.find(name);
    return this.#change(() => {
      this.#slots = this.#slots.filter((other) => other !== slot);
      this.#detach(slot);
    });
  }

  /** @throws SwitchError */
  move(name: string, position: number): Operation<void> {
    const slot = this.find(name);
    return this.#change(() => {
      if (slot.failed) throw new SwitchError('NOT_FOUND', `extension ${name} has failed meanwhile`);
      this.#slots = this.#slots.filter((other) => other !== slot);
      this.#insert(slot, position);
    });
  }

  /** See VirtualSwitch.reconfigureExtension. @throws SwitchError */
  reconfigure(name: string, configuration: unknown): Operation<void> {
    const slot = this.find(name);
    const checked = this.#parse(slot, configuration);
    let reconfigured = false;
    this.#call(slot, 'reconfigure', () => {
      reconfigured = slot.extension.reconfigure !== undefined;
      return slot.extension.reconfigure?.(checked);
    });
    if (slot.failed) throw new SwitchError('EXTENSION', `extension ${name} failed: ${slot.failure}`);
    if (reconfigured) return Operation.done<void>(undefined);
    const fresh = this.#newSlot(slot.factory, slot.descriptor);
    return this.#change(() => {
      const index = this.#slots.indexOf(slot);
      if (index === -1) throw new SwitchError('NOT_FOUND', `extension ${name} has failed meanwhile`);
      this.#instantiate(fresh, configuration);
      this.#slots[index] = fresh;
      this.#detach(slot);
    });
  }

  /** Pause, apply, restart. */
  #change(apply: () => void): Operation<void> {
    const operation = new Operation<void>();
    this.#changes.push({ apply, operation });
    if (!this.#changing) {
      this.#changing = true;
      this.#pause();
      this.proceed();
    }
    return operation;
  }

  #pause(): void {
    this.#core.paused = true;
    this.#core.stackChanged();
    this.#core.readClock();
    this.#pauseStartedMs = this.#core.nowMs;
    for (const slot of [...this.#slots]) {
      if (slot.state !== 'Running') continue;
      this.#setState(slot, 'Pausing');
      this.#call(slot, 'pause', () => slot.extension.pause?.());
    }
  }

  /** Go on with a change if nothing holds it back any more. Called whenever packets or OIDs have completed. */
  proceed(): void {
    if (!this.#changing || this.#inProgress || !this.#core.paused) return;
    this.#inProgress = true;
    try {
      this.#expirePause();
      if (this.#core.contexts.inUse !== 0 || (this.#oids?.pending ?? 0) !== 0) return;
      for (const slot of this.#slots) if (slot.state === 'Pausing') this.#setState(slot, 'Paused');
      const settled: (() => void)[] = [];
      for (let change = this.#changes.shift(); change !== undefined; change = this.#changes.shift()) {
        const { apply, operation } = change;
        try {
          apply();
          settled.push(() => operation.resolve(undefined));
        } catch (error) {
          settled.push(() => operation.reject(failureOf(error)));
        }
      }
      this.#restart();
      this.#changing = false;
      for (const settle of settled) settle();
    } finally {
      this.#inProgress = false;
    }
  }

  #restart(): void {
    this.#rank();
    for (const slot of [...this.#slots]) {
      if (slot.state !== 'Paused') continue;
      this.#setState(slot, 'Restarting');
    }
    this.#core.setChain(this.#slots);
    this.#core.paused = false;
    for (const slot of [...this.#slots]) {
      if (slot.state !== 'Restarting') continue;
      this.#call(slot, 'restart', () => slot.extension.restart?.());
      if (!slot.failed) this.#setState(slot, 'Running');
    }
    this.#core.stackChanged();
  }

  #rank(): void {
    this.#slots.forEach((slot, index) => {
      slot.rank = index;
    });
  }

  /** Take extensions that do not let go out of the way. */
  #expirePause(): void {
    this.#core.readClock();
    if (this.#core.nowMs - this.#pauseStartedMs < PAUSE_LIMIT_MS) return;
    for (const slot of [...this.#slots]) {
      const held = this.#core.heldBy(slot.id).length;
      if (slot.state !== 'Pausing' || (held === 0 && slot.pended.size === 0)) continue;
      const error = new Error(
        `still holds ${held} packets and ${slot.pended.size} OIDs ${PAUSE_LIMIT_MS} ms after pause`,
      );
      this.fail(slot, error, 'pause');
    }
  }

  /** Take extensions that keep packets out of the way. Called about once a second; whoever holds a packet at two looks has kept it in between. */
  expireHeld(): void {
    const { contexts, nowSeconds } = this.#core;
    if (contexts.inUse === 0) {
      for (const slot of this.#slots) slot.keeps = null;
      return;
    }
    const late = new Map<number, number>();
    const slow = new Map<number, { packets: number; seconds: number }>();
    for (const context of contexts.all) {
      const { holder } = context;
      if (context.free || holder <= 0) continue;
      if (context.seenHolder !== holder) {
        context.seenHolder = holder;
        context.seenSeconds = nowSeconds;
        continue;
      }
      const seconds = nowSeconds - context.seenSeconds;
      if (seconds >= HOLD_LIMIT_SECONDS) late.set(holder, (late.get(holder) ?? 0) + 1);
      if (seconds < HOLD_SAID_SECONDS) continue;
      const before = slow.get(holder);
      slow.set(holder, {
        packets: (before?.packets ?? 0) + 1,
        seconds: Math.max(before?.seconds ?? 0, seconds),
      });
    }
    for (const slot of this.#slots) this.#sayKeeps(slot, slow.get(slot.id));
    for (const [id, packets] of late) {
      const slot = this.#slots.find((other) => other.id === id);
      const error = new Error(`it has kept ${packets} packets for ${HOLD_LIMIT_SECONDS} seconds`);
      if (slot !== undefined) this.fail(slot, error, 'keeping packets');
    }
  }

  /** That an extension keeps packets is said once, until it keeps none for so long. */
  #sayKeeps(slot: Slot, slow: { readonly packets: number; readonly seconds: number } | undefined): void {
    const before = slot.keeps;
    slot.keeps = slow === undefined ? null : `it has kept ${slow.packets} packets for ${slow.seconds} s`;
    if (slow === undefined || before !== null) return;
    const message = `${slot.keeps}, and is disabled when it keeps one for ${HOLD_LIMIT_SECONDS} s`;
    this.#core.onEvent({ type: 'extension-keeps', name: slot.name, packets: slow.packets, message });
  }

  #detach(slot: Slot): void {
    slot.rank = NO_RANK;
    this.#call(slot, 'detach', () => slot.extension.detach?.());
    this.#forget(slot);
    this.#setState(slot, 'Detached');
  }

  /** Drop everything that the switch keeps for a slot. */
  #forget(slot: Slot): void {
    for (const timer of slot.timers) timer.cancel();
    slot.timers.clear();
    for (const port of this.#core.ports) {
      if (!port) continue;
      port.references.forget(slot.id);
      for (const nic of port.nics) nic?.references.forget(slot.id);
    }
  }

  /**
   * An extension threw: it is disabled at once. Packets that it held are dropped under EXTENSION_FAILED, or go on when it only
   * captured; OIDs that it pended go on; traffic continues without it.
   */
  fail(slot: Slot, thrown: unknown, where: string): void {
    if (slot.failed) return;
    const error = errorOf(thrown);
    slot.failed = true;
    slot.failure = `${where}: ${error.message}`;
    this.#slots = this.#slots.filter((other) => other !== slot);
    this.#failed = [slot, ...this.#failed.filter((other) => other.name !== slot.name)].slice(0, MAX_REMEMBERED);
    this.#core.setChain(this.#slots);
    const heldPackets = this.#rescue(slot);
    // It has failed already; that it also fails to clean up adds nothing.
    this.#call(slot, 'detach', () => slot.extension.detach?.());
    this.#forget(slot);
    this.#setState(slot, 'Detached');
    this.#core.onEvent({ type: 'extension-failed', name: slot.name, error, where, heldPackets });
    this.#core.host.log('error', `extension ${slot.name} failed in ${where} and was disabled: ${error.message}`);
    this.#oids?.release(slot);
    this.#core.waiters?.();
  }

  /** Free the packets that a failed slot holds. @returns how many */
  #rescue(slot: Slot): number {
    const core = this.#core;
    const held = core.heldBy(slot.id);
    if (held.length === 0) return 0;
    core.enter();
    const down = core.takeBatch();
    const up = core.takeBatch();
    for (const context of held) {
      const { packet } = context;
      if (packet === null) continue;
      if (!isWritablePacket(packet) || !isWritableContext(context)) {
        // It could not be given back as others are.
        core.countDrop(core.portOf(context), DropReason.EXTENSION_FAILED);
        core.dropped += 1;
        finish(core, packet, context);
        continue;
      }
      const isWhole = mend(packet, context);
      if (!isWhole || !slot.capturing || context.origin === slot.id) {
        core.dropPacket(packet, context, core.portOf(context), DropReason.EXTENSION_FAILED);
      } else if ((context.flags & ContextFlag.EGRESS) !== 0) {
        up.push(packet);
      } else {
        down.push(packet);
      }
    }
    // The slot's own handler has left the arrays, so what followed it stands in its place.
    if (down.count !== 0) ingressFrom(core, slot.ingressNext - (slot.hasIngress ? 1 : 0), down, 0);
    if (up.count !== 0) egressFrom(core, slot.egressNext - (slot.hasEgress ? 1 : 0), up, 0);
    core.giveBatch(down);
    core.giveBatch(up);
    core.leave();
    return held.length;
  }

  /** Call into an extension outside the packet path. */
  #call(slot: Slot, where: string, call: () => unknown): void {
    guarded(this.#core, slot, where, call);
  }

  #setState(slot: Slot, state: ExtensionState): void {
    if (slot.state === state) return;
    slot.state = state;
    this.#core.onEvent({ type: 'extension', name: slot.name, state });
  }
}

function parseConfiguration(factory: ExtensionFactory, configuration: unknown): unknown {
  if (factory.parseConfiguration === undefined) {
    if (configuration === undefined || configuration === null) return undefined;
    if (typeof configuration === 'object' && Object.keys(configuration).length === 0) return undefined;
    throw new Error('it takes none');
  }
  const parsed = factory.parseConfiguration(configuration);
  refusePromise(parsed, 'parseConfiguration');
  return parsed;
}

/** An error that is the switch's own passes as it is. */
function failureOf(error: unknown): Error {
  return error instanceof SwitchError || error instanceof RuleError ? error : errorOf(error);
}
