/** A table as whoever runs its flows elsewhere sees it: a table of flows (table.ts), or several as one (joined.ts). */
import type { KeyPort } from '../../net/index.ts';
import type { FlowObserver } from './contract.ts';
import type { FlowMask } from './mask.ts';

/** Each method is as that of FlowTable with its name. */
export interface OfferedFlows {
  /** Flows that are offered. */
  readonly size: number;
  /** One behind the highest slot ever used. */
  readonly slotEnd: number;
  next(slot: number, end?: number): number;
  /** Whether a slot holds a flow: one that is still there, though it is offered no longer, counts. */
  has(slot: number): boolean;
  generationOf(slot: number): number;
  portOf(slot: number): KeyPort | -1;
  maskOf(slot: number): FlowMask;
  readKey(slot: number, into: Uint32Array): void;
  actionsOf(slot: number): Int32Array;
  hasActions(slot: number): boolean;
  packetsOf(slot: number): number;
  bytesOf(slot: number): number;
  match(key: Uint32Array): number;
  addCounts(slot: number, packets: number, bytes: number, tcpFlags: number, usedMs: number): void;
  refreshCounts(slot?: number): void;
  observe(observer: FlowObserver): () => void;
  unobserve(observer: FlowObserver): void;
}
