/**
 * Calls of the two handlers that packets pass through: guarded as by guard.ts, without a closure. What an extension does not pass on or end stays with it.
 */
import type { Batch } from '../../net/index.ts';
import type { Slot } from '../stack/slot.ts';
import { contextOf } from './context.ts';
import type { SwitchCore } from './core.ts';
import { refusePromise } from './guard.ts';
import { spareFull } from './keeping.ts';
import { hashBatch } from './verify.ts';

/** Hand packets to onIngress of an extension, or on their way up to onEgress. */
export function callHandler(core: SwitchCore, slot: Slot, batch: Batch, flags: number, isUp: boolean): void {
  if (slot.fullOf !== null) {
    spareFull(core, slot, slot.fullOf, batch, isUp);
    if (batch.count === 0) return;
  }
  const { packets, count } = batch;
  const { id, rank } = slot;
  for (let i = 0; i < count; i += 1) {
    const context = contextOf(packets[i]);
    context.holder = id;
    if (isUp) context.egressTop = rank;
    else context.ingressBottom = rank;
  }
  if (core.options.verifyData) hashBatch(batch);
  const { entered, depth } = core;
  const before = entered[0];
  const where = isUp ? 'onEgress' : 'onIngress';
  const lent = slot.isForeign ? core.lend(batch) : batch;
  entered[0] = slot.entry;
  try {
    const result: unknown = isUp ? slot.extension.onEgress?.(lent, flags) : slot.extension.onIngress?.(lent, flags);
    if (result !== undefined) refusePromise(result, where);
  } catch (error) {
    core.unwind(depth);
    core.onFailure(slot, error, where);
  }
  entered[0] = before;
  if (lent !== batch) core.takeBack(lent, slot, where);
  batch.count = 0;
  core.returned(slot, where);
}
